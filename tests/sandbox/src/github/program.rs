//! The runner program's own traffic: it registers, opens a session, waits for messages, and tells
//! how its jobs go.
//!
//! GitHub doesn't publish this protocol, and the stand-in doesn't imitate it: texts that a shell
//! can read.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::access::Purpose;
use super::answer::{empty, parameter, text};
use super::records::{NewRunner, Removed, Runner};
use super::{Hub, JobScript};
use crate::calls::lock;
use crate::server::{Request, Response};

/// Below this lies everything for the runner program.
pub(super) const PREFIX: &str = "/_apis/runner/";

/// How long a call waits for a message.
const LONG_POLL: Duration = Duration::from_secs(5);

/// The name of a call, as recorded.
pub(super) fn name(path: &str) -> String {
    let what = path.trim_start_matches(PREFIX);
    format!("runner:{}", what.split('/').next().unwrap_or_default())
}

/// The stand-in's `.runner` file.
pub(super) fn settings(url: &str, runner: &Runner, work: &str) -> String {
    format!(
        "server={url}\nid={}\nname={}\nephemeral={}\nwork={work}\n",
        runner.id,
        runner.name,
        if runner.ephemeral { "yes" } else { "" },
    )
}

/// The stand-in's `.credentials` file: what curl is to send with each request. In a file, so that
/// it is in no argument list.
pub(super) fn credentials(runner: &Runner) -> String {
    format!("header = \"Authorization: Bearer {}\"\n", runner.credential)
}

fn bearer(request: &Request) -> &str {
    let header = request.header("authorization").unwrap_or_default();
    header.strip_prefix("Bearer ").unwrap_or_default()
}

/// Answers the runner program.
pub(super) async fn handle(hub: Arc<Hub>, request: Request) -> Response {
    let path = request.path().trim_start_matches(PREFIX).to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    match (&request.parts.method, parts.as_slice()) {
        (&Method::POST, ["register"]) => register(&hub, &request),
        (&Method::POST, ["remove"]) => remove(&hub, &request),
        (&Method::POST, ["session"]) => {
            let nonce = parameter(&request, "nonce").unwrap_or_default();
            let opened = lock(&hub.state).open_session(bearer(&request), &nonce);
            hub.wake();
            match opened {
                Ok(id) => text(200, id),
                Err(409) => text(409, "A session for this runner already exists."),
                Err(status) => text(status, "The runner registration has been deleted."),
            }
        }
        (&Method::DELETE, ["session"]) => {
            let nonce = parameter(&request, "nonce").unwrap_or_default();
            lock(&hub.state).close_session(bearer(&request), &nonce);
            hub.wake();
            empty(204)
        }
        (&Method::GET, ["message"]) => message(&hub, &request).await,
        (&Method::GET, ["job", id, "script"]) => on_job(&hub, &request, id, |state, id| {
            let script = state.job_mut(id).map(|job| script(&job.script));
            text(200, script.unwrap_or_default())
        }),
        (&Method::POST, ["job", id, "environment"]) => on_job(&hub, &request, id, |state, id| {
            let variables = String::from_utf8_lossy(&request.body);
            let variables = variables
                .split('\0')
                .filter(|variable| !variable.is_empty());
            state.set_environment(id, variables.map(str::to_owned).collect());
            empty(204)
        }),
        (&Method::POST, ["job", id, "output"]) => on_job(&hub, &request, id, |state, id| {
            let offset = parameter(&request, "offset").and_then(|offset| offset.parse().ok());
            state.add_output(id, offset.unwrap_or(0), &request.body);
            empty(204)
        }),
        (&Method::POST, ["job", id, "finish"]) => on_job(&hub, &request, id, |state, id| {
            let conclusion = match parameter(&request, "result").as_deref() {
                Some("Succeeded") => "success",
                Some("Canceled") => "cancelled",
                _ => "failure",
            };
            state.end_job(id, conclusion, None);
            empty(204)
        }),
        _ => text(404, "There is no such call."),
    }
}

fn script(script: &JobScript) -> String {
    match script {
        JobScript::Sleep(time) => format!("sleep {}\n", time.as_secs_f64()),
        JobScript::Shell(script) => script.clone(),
    }
}

/// Lets only the job's own runner through.
fn on_job(
    hub: &Hub,
    request: &Request,
    id: &str,
    act: impl FnOnce(&mut super::state::State, u64) -> Response,
) -> Response {
    let mut state = lock(&hub.state);
    let runner = state
        .runner_by_credential(bearer(request))
        .map(|runner| runner.id);
    let job = id.parse().ok().and_then(|id| state.job_mut(id));
    let ours = job.filter(|job| {
        let owner = job.runner.as_ref().map(|(id, _)| *id);
        owner.is_some() && owner == runner
    });
    let Some(id) = ours.map(|job| job.id) else {
        return text(404, "This runner has no such job.");
    };
    let response = act(&mut state, id);
    drop(state);
    hub.wake();
    response
}

/// What config.sh sends.
fn register(hub: &Hub, request: &Request) -> Response {
    let form = |name: &str| form(request, name);
    let mut state = lock(&hub.state);
    let scope = form("url")
        .strip_prefix(&format!("{}/", state.url))
        .map(str::to_owned);
    let scope = scope
        .map(|scope| scope.trim_end_matches('/').to_owned())
        .unwrap_or_default();
    if !state
        .access
        .allows(bearer(request), &scope, Purpose::Register)
    {
        return text(404, "NotFound");
    }
    let name = form("name");
    if name.is_empty() || name.len() > 64 {
        return text(422, "The name must have between 1 and 64 characters.");
    }
    let mut labels: Vec<String> = Vec::new();
    let given = form("labels");
    for label in given
        .split(',')
        .map(str::trim)
        .filter(|label| !label.is_empty())
    {
        if !super::runners::is_label(label) {
            return text(422, "A label is too long.");
        }
        if !labels.iter().any(|known| known.eq_ignore_ascii_case(label)) {
            labels.push(label.into());
        }
    }
    if !["", "default"].contains(&form("group").to_lowercase().as_str()) {
        return text(
            404,
            format!(
                "Could not find any self-hosted runner group named \"{}\".",
                form("group")
            ),
        );
    }
    let namesake = state.runners_of(&scope).find(|runner| runner.name == name);
    if let Some((id, busy)) = namesake.map(|runner| (runner.id, runner.busy())) {
        if form("replace").is_empty() {
            return text(409, format!("A runner exists with the same name {name}."));
        }
        if busy {
            return text(409, format!("The runner {name} is running a job."));
        }
        state.remove_runner(id, Removed::Asked);
    }
    let id = state.add_runner(NewRunner {
        name,
        scope: scope.clone(),
        labels,
        ephemeral: !form("ephemeral").is_empty(),
        group: super::runners::DEFAULT_GROUP,
        jit: false,
    });
    let answer = match state.runner(&scope, id) {
        // Two files, with an empty line between them.
        Some(runner) => {
            let settings = settings(&state.url, runner, &form("work"));
            text(200, format!("{settings}\n{}", credentials(runner)))
        }
        None => text(500, "The runner is gone again."),
    };
    drop(state);
    hub.wake();
    answer
}

/// What `config.sh remove` sends.
fn remove(hub: &Hub, request: &Request) -> Response {
    let mut state = lock(&hub.state);
    let id = form(request, "id").parse().unwrap_or_default();
    let Some(runner) = state
        .runners
        .get(&id)
        .filter(|runner| runner.removed.is_none())
    else {
        return text(404, "NotFound");
    };
    if !state
        .access
        .allows(bearer(request), &runner.scope, Purpose::Remove)
    {
        return text(404, "NotFound");
    }
    if runner.busy() {
        return text(
            409,
            format!("Runner \"{}\" is still running a job", runner.name),
        );
    }
    state.remove_runner(id, Removed::Asked);
    drop(state);
    hub.wake();
    empty(204)
}

fn form(request: &Request, name: &str) -> String {
    url::form_urlencoded::parse(&request.body)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// Waits for a message, for a while. As long as this call is open, the runner is online.
async fn message(hub: &Arc<Hub>, request: &Request) -> Response {
    let credential = bearer(request).to_owned();
    let session = parameter(request, "session").unwrap_or_default();
    let last = parameter(request, "last")
        .and_then(|last| last.parse().ok())
        .unwrap_or(0);
    let _waiting = Waiting::start(hub, &credential, &session);
    let mut timeout = pin!(tokio::time::sleep(LONG_POLL));
    let mut changed = hub.changed.subscribe();
    loop {
        {
            let mut state = lock(&hub.state);
            let Some(session) = state.session(&credential, &session) else {
                return text(401, "The runner registration has been deleted.");
            };
            if let Some(message) = session.next_message(last) {
                return text(200, message);
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = request.hung_up() => return empty(204),
            () = &mut timeout => return empty(204),
        }
    }
}

/// Counts a waiting call of a session, as long as it lives.
struct Waiting<'a> {
    hub: &'a Hub,
    credential: &'a str,
    session: &'a str,
}

impl<'a> Waiting<'a> {
    fn start(hub: &'a Hub, credential: &'a str, session: &'a str) -> Self {
        let waiting = Waiting {
            hub,
            credential,
            session,
        };
        waiting.count(|waiting| waiting + 1);
        waiting
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let mut state = lock(&self.hub.state);
        if let Some(session) = state.session(self.credential, self.session) {
            session.waiting = change(session.waiting);
            session.last_seen = std::time::Instant::now();
        }
        state.settle();
        drop(state);
        self.hub.wake();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count(|waiting| waiting.saturating_sub(1));
    }
}
