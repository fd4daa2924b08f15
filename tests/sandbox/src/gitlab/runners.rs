//! Runners.
//! <https://docs.gitlab.com/api/runners/>

use serde_json::{Value, json};

use super::access::Role;
use super::answer::{self, error, forbidden, message, not_found};
use super::api::Asked;
use super::parameters::Parameters;
use super::records::{NewRunner, Owner, Runner, is_below};
use super::routes::Endpoint;
use super::state::State;
use crate::clock;
use crate::server::Response;

/// Before the random part of the token of a runner that a user created.
/// <https://docs.gitlab.com/security/tokens/#token-prefixes>
pub(super) const TOKEN_PREFIX: &str = "glrt-t3_";
/// The same for one that was registered.
const REGISTERED_PREFIX: &str = "glrtr-";

const TYPES: &[&str] = &["instance_type", "group_type", "project_type"];
const STATUSES: &[&str] = &[
    "active",
    "paused",
    "online",
    "offline",
    "never_contacted",
    "stale",
];
const ACCESS_LEVELS: &[&str] = &["not_protected", "ref_protected"];

/// The shortest `maximum_timeout`, in seconds.
const SHORTEST: u64 = 600;

fn shown(state: &State, runner: &Runner) -> Value {
    let online = match runner.status() {
        "never_contacted" => Value::Null,
        _ => runner.online().into(),
    };
    let mut shown = json!({
        "id": runner.id,
        "description": runner.description,
        "ip_address": null,
        "active": !runner.paused,
        "paused": runner.paused,
        "is_shared": false,
        "runner_type": runner.owner.runner_type(),
        "name": null,
        "online": online,
        "created_by": super::api::user(),
        "created_at": clock::millis(runner.created),
        "status": if runner.paused { "paused" } else { runner.status() },
    });
    if !state.is_old {
        let busy = state.is_busy(runner);
        shown["job_execution_status"] = if busy { "active" } else { "idle" }.into();
    }
    shown
}

fn shown_whole(state: &State, runner: &Runner) -> Value {
    let mut shown = shown(state, runner);
    let place = json!([{
        "id": runner.owner.id,
        "name": runner.owner.path.rsplit('/').next(),
        "web_url": format!("{}/{}", state.url(), runner.owner.path),
    }]);
    let of = |wanted: bool| {
        if wanted { place.clone() } else { json!([]) }
    };
    let more = json!({
        "tag_list": runner.tags,
        "run_untagged": runner.run_untagged,
        "locked": runner.locked,
        "maximum_timeout": runner.maximum_timeout,
        "access_level": runner.access_level,
        "version": runner.version,
        "revision": null,
        "platform": runner.version.as_ref().map(|_| "linux"),
        "architecture": runner.version.as_ref().map(|_| "amd64"),
        "contacted_at": runner.contacted.map(|(at, _)| clock::millis(at)),
        "maintenance_note": runner.maintenance_note,
        "projects": of(!runner.owner.is_group),
        "groups": of(runner.owner.is_group),
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// The runners that a project or a group can use: its own and those of the groups around it.
pub(super) fn list(
    state: &State,
    asked: &Asked<'_>,
    is_group: bool,
) -> Result<Response, Box<Response>> {
    let Some(place) = state.namespace(asked.route.first(), is_group) else {
        let what = if is_group { "Group" } else { "Project" };
        return Ok(message(404, &format!("404 {what} Not Found")));
    };
    if asked.role == Role::Developer {
        return Ok(forbidden(""));
    }
    let given = asked.parameters;
    let kind = given.choice("type", TYPES)?;
    let status = given.choice("status", STATUSES)?;
    let scope = given.choice("scope", STATUSES)?;
    let paused = given.flag("paused")?;
    let tags = given.list("tag_list")?.unwrap_or_default();
    let is = |runner: &Runner, status: &str| match status {
        "active" => !runner.paused,
        "paused" => runner.paused,
        "offline" => !runner.online() && runner.status() != "never_contacted",
        status => runner.status() == status,
    };
    let all = state
        .runners
        .values()
        .filter(|runner| !runner.removed)
        .filter(|runner| {
            runner.owner.path == place.path
                || (runner.owner.is_group && is_below(&place.path, &runner.owner.path))
        })
        .filter(|runner| kind.is_none_or(|kind| runner.owner.runner_type() == kind))
        .filter(|runner| status.is_none_or(|status| is(runner, status)))
        .filter(|runner| scope.is_none_or(|scope| is(runner, scope)))
        .filter(|runner| paused.is_none_or(|paused| runner.paused == paused))
        .filter(|runner| tags.iter().all(|tag| runner.tags.contains(tag)))
        .map(|runner| shown(state, runner))
        .collect();
    Ok(answer::page(asked.request, given, &state.address, all))
}

/// What a new runner is to be, beside its owner.
fn wanted(
    given: &Parameters,
    owner: Owner,
    token_prefix: &'static str,
) -> Result<NewRunner, Box<Response>> {
    Ok(NewRunner {
        description: given.text("description")?.unwrap_or_default(),
        owner,
        tags: given.list("tag_list")?.unwrap_or_default(),
        paused: given.flag("paused")?.unwrap_or(false),
        locked: given.flag("locked")?.unwrap_or(false),
        run_untagged: given.flag("run_untagged")?.unwrap_or(true),
        access_level: given
            .choice("access_level", ACCESS_LEVELS)?
            .unwrap_or("not_protected"),
        maximum_timeout: given.number("maximum_timeout")?,
        maintenance_note: given.text("maintenance_note")?,
        token_prefix,
    })
}

/// What is wrong with a new runner: the attribute, and the complaint about it.
fn complaint(new: &NewRunner) -> Option<(&'static str, &'static str)> {
    if new.tags.is_empty() && !new.run_untagged {
        let words = "can not be empty when runner is not allowed to pick untagged jobs";
        return Some(("tags_list", words));
    }
    if new.tags.len() > 50 {
        return Some((
            "tags_list",
            "Too many tags specified. Please limit the number of tags to 50",
        ));
    }
    if new
        .maximum_timeout
        .is_some_and(|seconds| seconds < SHORTEST)
    {
        return Some(("maximum_timeout", "needs to be at least 10 minutes"));
    }
    let note = new.maintenance_note.as_deref().unwrap_or_default();
    if note.chars().count() > 1024 {
        return Some((
            "maintenance_note",
            "is too long (maximum is 1024 characters)",
        ));
    }
    if new.description.chars().count() > 1024 {
        return Some(("description", "is too long (maximum is 1024 characters)"));
    }
    None
}

fn created(state: &mut State, new: NewRunner) -> Response {
    let id = state.add_runner(new);
    let token = state.runner(id).map(|runner| runner.token.clone());
    answer::json(
        201,
        &json!({ "id": id, "token": token, "token_expires_at": null }),
    )
}

/// <https://docs.gitlab.com/api/users/#create-a-runner-linked-to-a-user>
pub(super) fn create(state: &mut State, asked: &Asked<'_>) -> Result<Response, Box<Response>> {
    let given = asked.parameters;
    given.required_text("runner_type")?;
    let kind = given.choice("runner_type", TYPES)?.unwrap_or_default();
    let (name, is_group) = match kind {
        "group_type" => ("group_id", true),
        "project_type" => ("project_id", false),
        // For administrators alone.
        _ => return Ok(forbidden("Insufficient permissions")),
    };
    given.required_text(name)?;
    let id = given.number(name)?.unwrap_or_default();
    let Some(owner) = state.owner(id, is_group) else {
        return Ok(message(400, "400 Bad request - Missing/invalid scope"));
    };
    if asked.role == Role::Developer {
        return Ok(forbidden("Insufficient permissions"));
    }
    let new = wanted(given, owner, TOKEN_PREFIX)?;
    if let Some((what, words)) = complaint(&new) {
        let mut what = what.replace('_', " ");
        what[..1].make_ascii_uppercase();
        return Ok(message(400, &format!("400 Bad request - {what} {words}")));
    }
    Ok(created(state, new))
}

/// With a registration token, as before there were runners created by a user.
/// <https://docs.gitlab.com/api/runners/#create-a-runner>
pub(super) fn register(state: &mut State, given: &Parameters) -> Response {
    let token = match given.required_text("token") {
        Ok(token) => token,
        Err(refusal) => return *refusal,
    };
    let mut places = state.namespaces.values();
    let Some(place) = places.find(|place| place.runners_token == token) else {
        return forbidden("invalid token supplied");
    };
    if !state.is_old {
        // The default since GitLab 17.0.
        return message(410, "410 Gone - runner registration disallowed");
    }
    let owner = Owner {
        id: place.id,
        path: place.path.clone(),
        is_group: place.is_group,
    };
    match wanted(given, owner, REGISTERED_PREFIX) {
        Ok(new) => match complaint(&new) {
            Some((what, words)) => answer::json(400, &json!({ "message": { what: [words] } })),
            None => created(state, new),
        },
        Err(refusal) => *refusal,
    }
}

/// <https://docs.gitlab.com/api/runners/#delete-a-runner-by-authentication-token>
pub(super) fn delete_own(state: &mut State, given: &Parameters) -> Response {
    let token = match given.required_text("token") {
        Ok(token) => token,
        Err(refusal) => return *refusal,
    };
    match state.runner_by_token(&token).map(|runner| runner.id) {
        Some(id) => {
            state.remove_runner(id);
            answer::empty(204)
        }
        None => forbidden(""),
    }
}

/// <https://docs.gitlab.com/api/runners/#verify-authentication-for-a-registered-runner>
pub(super) fn verify(state: &mut State, given: &Parameters) -> Response {
    let token = match given.required_text("token") {
        Ok(token) => token,
        Err(refusal) => return *refusal,
    };
    match state.runner_by_token(&token).map(|runner| runner.id) {
        Some(id) => {
            state.heartbeat(id);
            let shown = json!({ "id": id, "token": token, "token_expires_at": null });
            answer::json(200, &shown)
        }
        None => forbidden(""),
    }
}

/// Everything about one runner.
pub(super) fn one(
    state: &mut State,
    asked: &Asked<'_>,
    endpoint: Endpoint,
) -> Result<Response, Box<Response>> {
    let Ok(id) = asked.route.first().parse() else {
        return Ok(error(400, "id is invalid"));
    };
    let Some(runner) = state.runner(id) else {
        return Ok(not_found());
    };
    if asked.role == Role::Developer {
        return Ok(forbidden("No access granted"));
    }
    match endpoint {
        Endpoint::RunnerJobs => super::pipelines::jobs_of(state, asked, id),
        // Whether it has a job or not.
        Endpoint::DeleteRunner => {
            state.remove_runner(id);
            Ok(answer::empty(204))
        }
        Endpoint::UpdateRunner => {
            update(state, asked.parameters, id)?;
            Ok(match state.runner(id) {
                Some(runner) => answer::json(200, &shown_whole(state, runner)),
                None => not_found(),
            })
        }
        _ => Ok(answer::json(200, &shown_whole(state, runner))),
    }
}

/// <https://docs.gitlab.com/api/runners/#update-runners-details>
fn update(state: &mut State, given: &Parameters, id: u64) -> Result<(), Box<Response>> {
    let known = [
        "description",
        "active",
        "paused",
        "tag_list",
        "run_untagged",
        "locked",
        "access_level",
        "maximum_timeout",
        "maintenance_note",
    ];
    if !known.iter().any(|name| given.has(name)) {
        let words = format!(
            "{} are missing, at least one parameter must be provided",
            known.join(", ")
        );
        return Err(Box::new(error(400, &words)));
    }
    let (description, tags) = (given.text("description")?, given.list("tag_list")?);
    let paused = match given.flag("active")? {
        Some(active) => Some(!active),
        None => given.flag("paused")?,
    };
    let (locked, untagged) = (given.flag("locked")?, given.flag("run_untagged")?);
    if let Some(runner) = state.runners.get_mut(&id) {
        runner.description = description.unwrap_or_else(|| runner.description.clone());
        runner.tags = tags.unwrap_or_else(|| runner.tags.clone());
        runner.paused = paused.unwrap_or(runner.paused);
        runner.locked = locked.unwrap_or(runner.locked);
        runner.run_untagged = untagged.unwrap_or(runner.run_untagged);
    }
    Ok(())
}
