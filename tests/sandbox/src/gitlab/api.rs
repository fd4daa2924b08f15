//! The REST API: what every request must be, then where it goes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Hub;
use super::access::{Ended, Role, Token};
use super::answer::{self, error, insufficient_scope, message, unauthorized};
use super::parameters::Parameters;
use super::records::Namespace;
use super::routes::{self, Endpoint, Route};
use super::state::State;
use super::{pipelines, program, runners};
use crate::calls::lock;
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Service};

/// The server's version, and that of an older one.
const VERSION: &str = "18.5.2-ee";
const OLD_VERSION: &str = "15.11.13";

/// The service behind the address.
pub(super) struct Api(pub(super) Arc<Hub>);

/// A request with all that is known of it once it may be answered.
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request,
    pub(super) route: &'a Route,
    pub(super) parameters: &'a Parameters,
    pub(super) role: Role,
}

impl Api {
    /// Which endpoint an address is; `None` outside the API.
    fn route(&self, request: &Request) -> Option<Route> {
        let root = lock(&self.0.state).root.clone();
        let path = request.path().strip_prefix(root.as_str())?;
        let path = path.strip_prefix("/api/v4")?;
        path.starts_with('/')
            .then(|| routes::route(&request.parts.method, path))
    }
}

impl Service for Api {
    fn classify(&self, request: &Request) -> String {
        match self.route(request) {
            Some(route) if route.endpoint.is_some_and(Endpoint::is_for_program) => {
                format!("runner:{}", route.name)
            }
            Some(route) => format!("gitlab:{}", route.name),
            None => format!("gitlab:{} {}", request.parts.method, request.path()),
        }
    }

    fn refuse(&self, refusal: Refusal, _request: &Request) -> Response {
        let mut response = answer::refuse(refusal);
        answer::dress(&mut response, &lock(&self.0.state).access);
        response
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        let hub = self.0.clone();
        let route = self.route(&request);
        Box::pin(async move {
            let Some(route) = route else {
                return answer::text(404, "<h1>404: Page not found</h1>\n");
            };
            let parameters = match Parameters::read(&request) {
                Ok(parameters) => parameters,
                Err(refusal) => return *refusal,
            };
            if let Some(endpoint) = route.endpoint.filter(|e| e.is_for_program()) {
                return program::handle(&hub, &request, &route, &parameters, endpoint).await;
            }
            let mut state = lock(&hub.state);
            let mut response = checked(&mut state, &request, &route, &parameters);
            answer::dress(&mut response, &state.access);
            drop(state);
            hub.wake();
            response
        })
    }
}

/// What a request says of who sends it.
/// <https://docs.gitlab.com/api/rest/authentication/>
fn credential(request: &Request, parameters: &Parameters) -> Option<String> {
    let header = request.header("private-token").or_else(|| {
        let (scheme, value) = request.header("authorization")?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(value.trim())
    });
    let parameter = |name| parameters.text(name).ok().flatten();
    header
        .map(str::to_owned)
        .or_else(|| parameter("private_token"))
        .or_else(|| parameter("access_token"))
}

/// The scopes of which a token must have one; none: any token will do.
fn scopes(endpoint: Endpoint, is_old: bool) -> &'static [&'static str] {
    match endpoint {
        Endpoint::Token => &[],
        Endpoint::Version | Endpoint::User => &["api", "read_api", "read_user"],
        Endpoint::CreateRunner => &["api", "create_runner"],
        // Older servers don't know the scope.
        Endpoint::GetRunner | Endpoint::RunnerJobs if is_old => &["api", "read_api"],
        Endpoint::UpdateRunner | Endpoint::DeleteRunner if is_old => &["api"],
        Endpoint::GetRunner | Endpoint::RunnerJobs => &["api", "read_api", "manage_runner"],
        Endpoint::UpdateRunner | Endpoint::DeleteRunner => &["api", "manage_runner"],
        Endpoint::CancelJob
        | Endpoint::RetryJob
        | Endpoint::CancelPipeline
        | Endpoint::RetryPipeline => &["api"],
        _ => &["api", "read_api"],
    }
}

/// Refuses what may not be asked or not so, in GitLab's order; then answers.
fn checked(
    state: &mut State,
    request: &Request,
    route: &Route,
    parameters: &Parameters,
) -> Response {
    if let Some(until) = state.access.exhausted() {
        let now = crate::clock::now().as_second();
        return answer::too_many((until.as_second() - now).max(1));
    }
    let endpoint = match route.endpoint {
        Some(Endpoint::CreateRunner) if state.is_old => None,
        endpoint => endpoint,
    };
    let Some(endpoint) = endpoint else {
        return match route.other_method {
            true => error(405, "405 Not Allowed"),
            false => error(404, "404 Not Found"),
        };
    };
    // Who these are for is told by a parameter.
    match endpoint {
        Endpoint::RegisterRunner => return runners::register(state, parameters),
        Endpoint::DeleteOwnRunner => return runners::delete_own(state, parameters),
        Endpoint::VerifyRunner => return runners::verify(state, parameters),
        _ => {}
    }
    let token = match credential(request, parameters) {
        Some(token) => match state.access.recognise(&token) {
            Some(token) => token.clone(),
            None => return unauthorized(),
        },
        None => return anonymous(endpoint),
    };
    match token.ended {
        Some(Ended::Expired) => {
            return answer::invalid_token(
                "Token is expired. You can either do re-authorization or token refresh.",
            );
        }
        Some(Ended::Revoked) => {
            return answer::invalid_token(
                "Token was revoked. You have to re-authorize from the user.",
            );
        }
        None => {}
    }
    state.access.used += 1;
    let wanted = scopes(endpoint, state.is_old);
    if !wanted.is_empty() && !token.has(wanted) {
        return insufficient_scope(wanted);
    }
    if endpoint == Endpoint::Token {
        return answer::json(200, &shown_token(&token));
    }
    let asked = Asked {
        request,
        route,
        parameters,
        role: token.role,
    };
    match answered(state, &asked, endpoint) {
        Ok(response) => response,
        Err(refusal) => *refusal,
    }
}

/// The answer to somebody unknown. What is private seems not to be there. A job's token counts for
/// nothing at these endpoints.
/// <https://docs.gitlab.com/ci/jobs/ci_job_token/>
fn anonymous(endpoint: Endpoint) -> Response {
    match endpoint {
        Endpoint::Project
        | Endpoint::ListJobs
        | Endpoint::GetJob
        | Endpoint::JobTrace
        | Endpoint::ListPipelines
        | Endpoint::GetPipeline
        | Endpoint::PipelineJobs => message(404, "404 Project Not Found"),
        Endpoint::Group => message(404, "404 Group Not Found"),
        _ => unauthorized(),
    }
}

fn answered(
    state: &mut State,
    asked: &Asked<'_>,
    endpoint: Endpoint,
) -> Result<Response, Box<Response>> {
    let id = asked.route.first();
    match endpoint {
        Endpoint::Version => Ok(answer::json(200, &version(state.is_old))),
        Endpoint::User => Ok(answer::json(200, &user())),
        Endpoint::Project => Ok(match state.namespace(id, false) {
            Some(found) => answer::json(200, &project(state, found, asked.role)),
            None => message(404, "404 Project Not Found"),
        }),
        Endpoint::Group => Ok(match state.namespace(id, true) {
            Some(found) => answer::json(200, &group(state, found, asked.role)),
            None => message(404, "404 Group Not Found"),
        }),
        Endpoint::ProjectRunners => runners::list(state, asked, false),
        Endpoint::GroupRunners => runners::list(state, asked, true),
        Endpoint::CreateRunner => runners::create(state, asked),
        Endpoint::GetRunner
        | Endpoint::UpdateRunner
        | Endpoint::DeleteRunner
        | Endpoint::RunnerJobs => runners::one(state, asked, endpoint),
        _ => pipelines::handle(state, asked, endpoint),
    }
}

/// <https://docs.gitlab.com/api/version/>
fn version(is_old: bool) -> Value {
    let version = if is_old { OLD_VERSION } else { VERSION };
    json!({ "version": version, "revision": "9e2f1b6c3ad" })
}

/// <https://docs.gitlab.com/api/users/#get-the-current-user>
pub(super) fn user() -> Value {
    json!({
        "id": 583,
        "username": "octocat",
        "name": "Octo Cat",
        "state": "active",
        "locked": false,
        "avatar_url": null,
        "web_url": "https://gitlab.example.com/octocat",
    })
}

/// <https://docs.gitlab.com/api/personal_access_tokens/#get-details-on-a-personal-access-token>
fn shown_token(token: &Token) -> Value {
    json!({
        "id": token.id,
        "name": "runners",
        "revoked": false,
        "created_at": "2026-01-01T00:00:00.000Z",
        "description": null,
        "scopes": token.scopes,
        "user_id": 583,
        "active": true,
        "expires_at": "2099-01-01",
    })
}

/// <https://docs.gitlab.com/api/projects/#get-a-single-project>
fn project(state: &State, project: &Namespace, role: Role) -> Value {
    let (group, name) = project.path.rsplit_once('/').unwrap_or_default();
    let access_level = if role == Role::Owner { 50 } else { 30 };
    let mut shown = json!({
        "id": project.id,
        "name": name,
        "path": name,
        "name_with_namespace": project.path.replace('/', " / "),
        "path_with_namespace": project.path,
        "default_branch": "main",
        "visibility": "private",
        "archived": false,
        "web_url": format!("{}/{}", state.url(), project.path),
        "namespace": {
            "id": state.namespace(group, true).map(|group| group.id),
            "kind": "group",
            "full_path": group,
        },
        "permissions": {
            "project_access": null,
            "group_access": { "access_level": access_level, "notification_level": 3 },
        },
    });
    if role == Role::Owner {
        shown["runners_token"] = project.runners_token.clone().into();
    }
    shown
}

/// <https://docs.gitlab.com/api/groups/#get-a-single-group>
fn group(state: &State, group: &Namespace, role: Role) -> Value {
    let (parent, name) = group.path.rsplit_once('/').unwrap_or(("", &group.path));
    let mut shown = json!({
        "id": group.id,
        "name": name,
        "path": name,
        "full_name": group.path.replace('/', " / "),
        "full_path": group.path,
        "parent_id": state.namespace(parent, true).map(|parent| parent.id),
        "visibility": "private",
        "web_url": format!("{}/groups/{}", state.url(), group.path),
    });
    if role == Role::Owner {
        shown["runners_token"] = group.runners_token.clone().into();
    }
    shown
}
