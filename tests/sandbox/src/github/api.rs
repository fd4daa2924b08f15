//! The REST API: what every request must be, then where it goes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Hub;
use super::access::{self, Kind, Limit, Purpose};
use super::answer::{self, error, not_found};
use super::routes::{self, Endpoint, Route};
use super::state::State;
use super::{program, runners, runs};
use crate::calls::lock;
use crate::clock;
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Service};

/// The service behind the address.
pub(super) struct Api(pub(super) Arc<Hub>);

/// The path without the prefix of GitHub Enterprise Server, and whether that was there.
fn plain(path: &str) -> (&str, bool) {
    match path.strip_prefix("/api/v3") {
        Some(rest) if rest.starts_with('/') => (rest, true),
        _ => (path, false),
    }
}

impl Service for Api {
    fn classify(&self, request: &Request) -> String {
        if request.path().starts_with(program::PREFIX) {
            return program::name(request.path());
        }
        let (path, _) = plain(request.path());
        format!("github:{}", routes::route(&request.parts.method, path).name)
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        let mut response = answer::refuse(refusal, request);
        let (_, enterprise) = plain(request.path());
        let limit = caller(&mut lock(&self.0.state), request, false)
            .ok()
            .map(|(_, limit)| limit);
        answer::dress(&mut response, limit, answer::API_VERSIONS[0], enterprise);
        response
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        let hub = self.0.clone();
        if request.path().starts_with(program::PREFIX) {
            return Box::pin(program::handle(hub, request));
        }
        Box::pin(async move {
            let response = answer_api(&hub, &request);
            hub.wake();
            response
        })
    }
}

/// One request to the REST API.
fn answer_api(hub: &Hub, request: &Request) -> Response {
    if request.header("user-agent").is_none_or(str::is_empty) {
        return answer::text(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a \
             User-Agent header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api\
             #user-agent-required).",
        );
    }
    let (path, enterprise) = plain(request.path());
    let route = routes::route(&request.parts.method, path);
    let mut state = lock(&hub.state);
    let version = request
        .header("x-github-api-version")
        .unwrap_or(answer::API_VERSIONS[0]);
    let free = route.endpoint == Some(Endpoint::RateLimit);
    let who = caller(&mut state, request, !free);
    let limit = who.as_ref().ok().map(|(_, limit)| *limit);
    let mut response = checked(hub, &mut state, request, &route, version, who);
    answer::dress(&mut response, limit, version, enterprise);
    response
}

/// What a request says of who sends it.
fn credential(request: &Request) -> Option<&str> {
    let (scheme, value) = request.header("authorization")?.split_once(' ')?;
    ["bearer", "token"]
        .contains(&scheme.to_ascii_lowercase().as_str())
        .then_some(value.trim())
}

fn caller(
    state: &mut State,
    request: &Request,
    counts: bool,
) -> Result<(Kind, Limit), &'static str> {
    let token = credential(request).ok_or("Requires authentication")?;
    state
        .access
        .recognise(token, counts)
        .ok_or("Bad credentials")
}

/// Refuses what may not be asked or not so, in GitHub's order; then answers.
fn checked(
    hub: &Hub,
    state: &mut State,
    request: &Request,
    route: &Route,
    version: &str,
    who: Result<(Kind, Limit), &'static str>,
) -> Response {
    if !answer::API_VERSIONS.contains(&version) {
        return error(400, &format!("The API version {version} is not supported."));
    }
    if !acceptable(request.header("accept").unwrap_or("*/*")) {
        return error(
            415,
            "Unsupported 'Accept' header. Must accept 'application/json'.",
        );
    }
    let Some(endpoint) = route.endpoint else {
        return not_found();
    };
    if matches!(
        endpoint,
        Endpoint::GetInstallation | Endpoint::CreateInstallationToken
    ) {
        return as_app(hub, state, request, route, endpoint);
    }
    let (kind, limit) = match who {
        Ok(who) => who,
        Err(refusal) => return error(401, refusal),
    };
    if endpoint == Endpoint::RateLimit {
        return rate_limit(limit);
    }
    if state.access.exhausted() {
        return error(403, "API rate limit exceeded for user ID 583231.");
    }
    // The releases of the runner program are everybody's.
    if endpoint == Endpoint::GetRelease && route.scope == "actions/runner" {
        return runners::release(&hub.programs, route);
    }
    if endpoint != Endpoint::User && !state.scopes.contains(&route.scope) {
        return not_found();
    }
    if kind == Kind::Weak && !readable_by_all(endpoint) {
        return error(403, "Resource not accessible by personal access token");
    }
    if kind == Kind::Installation {
        if endpoint == Endpoint::User {
            return error(403, "Resource not accessible by integration");
        }
        if route.scope.split('/').next() != Some("octo") {
            return not_found();
        }
    }
    answered(hub, state, request, route, endpoint, kind)
}

fn answered(
    hub: &Hub,
    state: &mut State,
    request: &Request,
    route: &Route,
    endpoint: Endpoint,
    kind: Kind,
) -> Response {
    match endpoint {
        Endpoint::User => answer::json(
            200,
            &json!({ "login": "octocat", "id": 583_231, "type": "User", "site_admin": false }),
        ),
        Endpoint::GetRepository => answer::json(200, &repository(&route.scope, kind)),
        Endpoint::GetOrganization => answer::json(
            200,
            &json!({ "login": route.scope, "id": 9_919, "type": "Organization" }),
        ),
        Endpoint::ListRunners => runners::list(state, request, route),
        Endpoint::GetRunner => runners::get(state, route),
        Endpoint::DeleteRunner => runners::delete(state, route),
        Endpoint::CreateRegistrationToken => {
            runners::token(state, &hub.wire, route, Purpose::Register)
        }
        Endpoint::CreateRemoveToken => runners::token(state, &hub.wire, route, Purpose::Remove),
        Endpoint::GenerateJitConfig => {
            runners::generate_jit_config(state, &hub.wire, request, route)
        }
        Endpoint::ListDownloads => runners::downloads(&hub.programs),
        Endpoint::ListRuns => runs::list(state, request, route),
        Endpoint::GetRun
        | Endpoint::ListJobs
        | Endpoint::CancelRun
        | Endpoint::ForceCancelRun
        | Endpoint::Rerun
        | Endpoint::RerunFailedJobs => runs::one(state, request, route, endpoint),
        // No repository but the runner program's has releases; the rest was answered before.
        Endpoint::GetRelease
        | Endpoint::RateLimit
        | Endpoint::GetInstallation
        | Endpoint::CreateInstallationToken => not_found(),
    }
}

/// What any good token may read.
fn readable_by_all(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::User | Endpoint::GetRepository | Endpoint::GetOrganization
    )
}

fn acceptable(accept: &str) -> bool {
    accept.split(',').any(|media| {
        let media = media.split(';').next().unwrap_or_default().trim();
        matches!(media, "*/*" | "application/*" | "application/json")
            || (media.starts_with("application/vnd.github") && media.ends_with("json"))
    })
}

fn repository(scope: &str, kind: Kind) -> Value {
    let (owner, name) = scope.split_once('/').unwrap_or_default();
    let admin = kind == Kind::Admin;
    json!({
        "id": 1_296_269,
        "name": name,
        "full_name": scope,
        "private": true,
        "owner": { "login": owner, "id": 9_919, "type": "Organization" },
        "default_branch": "main",
        "permissions": {
            "admin": admin, "maintain": admin, "push": admin, "triage": admin, "pull": true,
        },
    })
}

/// <https://docs.github.com/en/rest/rate-limit/rate-limit>
fn rate_limit(limit: Limit) -> Response {
    let core = json!({
        "limit": access::LIMIT,
        "used": limit.used,
        "remaining": limit.remaining(),
        "reset": limit.reset.as_second(),
    });
    answer::json(200, &json!({ "resources": { "core": core }, "rate": core }))
}

/// What an App asks for itself.
/// <https://docs.github.com/en/rest/apps/apps>
fn as_app(
    hub: &Hub,
    state: &mut State,
    request: &Request,
    route: &Route,
    endpoint: Endpoint,
) -> Response {
    let Some(jwt) = credential(request) else {
        return error(401, "A JSON web token could not be decoded");
    };
    if let Err(complaint) = access::check_jwt(jwt, clock::now().as_second()) {
        return error(401, complaint);
    }
    let permissions = json!({
        "actions": "write", "administration": "write", "metadata": "read",
        "organization_self_hosted_runners": "write",
    });
    if endpoint == Endpoint::GetInstallation {
        let owner = route.scope.split('/').next();
        if owner != Some("octo") || !state.scopes.contains(&route.scope) {
            return not_found();
        }
        return answer::json(
            200,
            &json!({
                "id": access::INSTALLATION,
                "account": { "login": "octo", "type": "Organization" },
                "app_id": access::app().0.parse::<u64>().unwrap_or_default(),
                "target_type": "Organization",
                "repository_selection": "all",
                "permissions": permissions,
            }),
        );
    }
    let optional = ["repositories", "repository_ids", "permissions"];
    if let Err(refusal) = answer::object(request, &[], &optional) {
        return *refusal;
    }
    if route.id() != Some(access::INSTALLATION) {
        return not_found();
    }
    let (token, expires) = state.access.installation_token(&hub.wire);
    answer::json(
        201,
        &json!({
            "token": token,
            "expires_at": clock::seconds(expires),
            "permissions": permissions,
            "repository_selection": "all",
        }),
    )
}
