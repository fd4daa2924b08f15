//! Self-hosted runners.
//! <https://docs.github.com/en/rest/actions/self-hosted-runners>

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::access::Purpose;
use super::answer::{self, error, invalid, not_found};
use super::records::{NewRunner, Removed, Runner};
use super::routes::Route;
use super::state::State;
use crate::calls::Wire;
use crate::clock;
use crate::downloads::Program;
use crate::server::{Request, Response};

/// The most labels a runner may have.
const MAX_LABELS: usize = 100;
/// The only runner group: `Default`.
pub(super) const DEFAULT_GROUP: u64 = 1;

fn shown(runner: &Runner) -> Value {
    let labels: Vec<Value> = runner
        .labels
        .iter()
        .map(|label| {
            let kind = if label.read_only {
                "read-only"
            } else {
                "custom"
            };
            json!({ "id": label.id, "name": label.name, "type": kind })
        })
        .collect();
    let known = runner.connected_once || runner.foreign.is_some();
    json!({
        "id": runner.id,
        "name": runner.name,
        // Told by the program itself when it connects.
        "os": if known { "Linux" } else { "unknown" },
        "status": if runner.online() { "online" } else { "offline" },
        "busy": runner.busy(),
        "ephemeral": runner.ephemeral,
        "runner_group_id": runner.group,
        "labels": labels,
    })
}

pub(super) fn list(state: &State, request: &Request, route: &Route) -> Response {
    let name = answer::parameter(request, "name");
    let runners = state
        .runners_of(&route.scope)
        .filter(|runner| name.as_ref().is_none_or(|name| runner.name == *name))
        .map(shown)
        .collect();
    answer::page(request, &state.url, "runners", runners)
}

pub(super) fn get(state: &State, route: &Route) -> Response {
    match route.id().and_then(|id| state.runner(&route.scope, id)) {
        Some(runner) => answer::json(200, &shown(runner)),
        None => not_found(),
    }
}

pub(super) fn delete(state: &mut State, route: &Route) -> Response {
    let Some(runner) = route.id().and_then(|id| state.runner(&route.scope, id)) else {
        return not_found();
    };
    if runner.busy() {
        let message = format!(
            "Bad request - Runner \"{}\" is still running a job\"",
            runner.name
        );
        return error(422, &message);
    }
    let id = runner.id;
    state.remove_runner(id, Removed::Asked);
    answer::empty(204)
}

pub(super) fn token(state: &mut State, wire: &Wire, route: &Route, purpose: Purpose) -> Response {
    let (token, expires) = state.access.runner_token(wire, &route.scope, purpose);
    answer::json(
        201,
        &json!({ "token": token, "expires_at": clock::millis(expires) }),
    )
}

pub(super) fn generate_jit_config(
    state: &mut State,
    wire: &Wire,
    request: &Request,
    route: &Route,
) -> Response {
    if !state.offers_jit {
        return not_found();
    }
    let wanted = match wanted(request) {
        Ok(wanted) => wanted,
        Err(response) => return *response,
    };
    if wanted.group != DEFAULT_GROUP {
        return error(404, "Not Found - There is no runner group with this id");
    }
    if state
        .runners_of(&route.scope)
        .any(|runner| runner.name == wanted.name)
    {
        let message = format!(
            "Already exists - A runner with the name {} already exists.",
            wanted.name
        );
        return error(409, &message);
    }
    let id = state.add_runner(NewRunner {
        name: wanted.name,
        scope: route.scope.clone(),
        labels: wanted.labels,
        ephemeral: true,
        group: wanted.group,
        jit: true,
    });
    let Some(runner) = state.runner(&route.scope, id) else {
        return not_found();
    };
    // What config.sh would have written, file by file.
    let settings = super::program::settings(&state.url, runner, &wanted.work_folder);
    let credentials = super::program::credentials(runner);
    let files = json!({
        ".runner": BASE64_STANDARD.encode(settings),
        ".credentials": BASE64_STANDARD.encode(credentials),
    });
    let config = BASE64_STANDARD.encode(files.to_string());
    wire.secret(config.clone());
    answer::json(
        201,
        &json!({ "runner": shown(runner), "encoded_jit_config": config }),
    )
}

struct Wanted {
    name: String,
    group: u64,
    labels: Vec<String>,
    work_folder: String,
}

fn wanted(request: &Request) -> Result<Wanted, Box<Response>> {
    let fields = answer::object(
        request,
        &["name", "runner_group_id", "labels"],
        &["work_folder"],
    )?;
    let wrong = |key: &str, what: &str| {
        let value = fields.get(key).cloned().unwrap_or_default();
        invalid(&format!("For 'properties/{key}', {value} {what}."))
    };
    let name = fields["name"]
        .as_str()
        .ok_or_else(|| wrong("name", "is not a string"))?;
    if name.is_empty() || name.len() > 64 {
        return Err(wrong("name", "does not have between 1 and 64 characters"));
    }
    let group = fields["runner_group_id"]
        .as_u64()
        .ok_or_else(|| wrong("runner_group_id", "is not an integer"))?;
    let labels = fields["labels"]
        .as_array()
        .ok_or_else(|| wrong("labels", "is not an array"))?;
    if labels.is_empty() || labels.len() > MAX_LABELS {
        return Err(wrong("labels", "does not have between 1 and 100 items"));
    }
    let labels: Option<Vec<String>> = labels
        .iter()
        .map(|label| label.as_str().map(str::trim))
        .map(|label| label.filter(|label| is_label(label)).map(str::to_owned))
        .collect();
    let labels = labels.ok_or_else(|| wrong("labels", "has an item that is no label"))?;
    let work_folder = match fields.get("work_folder") {
        None => "_work",
        Some(folder) => folder
            .as_str()
            .filter(|folder| !folder.is_empty() && !folder.contains('\n'))
            .ok_or_else(|| wrong("work_folder", "is not the path of a folder"))?,
    };
    Ok(Wanted {
        name: name.into(),
        group,
        labels,
        work_folder: work_folder.into(),
    })
}

/// Whether a text can be a label.
pub(super) fn is_label(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.contains(|c: char| c == ',' || c.is_control())
}

/// <https://docs.github.com/en/rest/actions/self-hosted-runners#list-runner-applications-for-a-repository>
pub(super) fn downloads(programs: &[Program]) -> Response {
    let newest = programs.iter().map(|program| &program.version).max();
    let list: Vec<Value> = programs
        .iter()
        .filter(|program| Some(&program.version) == newest)
        .map(|program| {
            json!({
                "os": program.os,
                "architecture": program.architecture,
                "download_url": program.url,
                "filename": program.filename,
                "sha256_checksum": program.sha256,
            })
        })
        .collect();
    answer::json(200, &Value::Array(list))
}

/// A release of `actions/runner`.
/// <https://docs.github.com/en/rest/releases/releases#get-a-release-by-tag-name>
pub(super) fn release(programs: &[Program], route: &Route) -> Response {
    let assets: Vec<Value> = programs
        .iter()
        .filter(|program| route.argument.strip_prefix('v') == Some(&program.version))
        .map(|program| {
            json!({
                "name": program.filename,
                "content_type": "application/octet-stream",
                "state": "uploaded",
                "size": program.size,
                "digest": format!("sha256:{}", program.sha256),
                "browser_download_url": program.url,
            })
        })
        .collect();
    if assets.is_empty() {
        return not_found();
    }
    answer::json(
        200,
        &json!({
            "id": 1,
            "tag_name": route.argument,
            "name": route.argument,
            "draft": false,
            "prerelease": false,
            "assets": assets,
        }),
    )
}
