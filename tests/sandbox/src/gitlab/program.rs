//! The runner program's own traffic: it asks for a job, and tells how its job goes.
//!
//! Addresses, bodies, statuses and headers are those of GitLab's runner API. Only the job itself
//! comes as a text that a shell can read, and two calls more tell what a test wants to know.

use std::pin::pin;
use std::time::Duration;

use http::HeaderName;

use super::answer::{self, empty, forbidden, text};
use super::parameters::Parameters;
use super::records::{Job, Pipeline};
use super::routes::{Endpoint, Route};
use super::state::State;
use super::{ContainerView, Hub, pipelines};
use crate::JobScript;
use crate::calls::lock;
use crate::server::{Request, Response};

/// How long a call waits for a job. (GitLab's front end waits for up to 50 s.)
const LONG_POLL: Duration = Duration::from_millis(500);

/// Answers the runner program.
pub(super) async fn handle(
    hub: &Hub,
    request: &Request,
    route: &Route,
    parameters: &Parameters,
    endpoint: Endpoint,
) -> Response {
    if endpoint == Endpoint::RequestJob {
        return match request_job(hub, request, parameters).await {
            Ok(response) => response,
            Err(refusal) => *refusal,
        };
    }
    let mut state = lock(&hub.state);
    let response = match on_job(&mut state, request, route, parameters, endpoint) {
        Ok(response) => response,
        Err(refusal) => *refusal,
    };
    drop(state);
    hub.wake();
    response
}

async fn request_job(
    hub: &Hub,
    request: &Request,
    parameters: &Parameters,
) -> Result<Response, Box<Response>> {
    let token = parameters.required_text("token")?;
    let Some(waiting) = Waiting::start(hub, &token, parameters) else {
        return Ok(forbidden(""));
    };
    let mut timeout = pin!(tokio::time::sleep(LONG_POLL));
    let mut changed = hub.changed.subscribe();
    loop {
        {
            let mut state = lock(&hub.state);
            if state.runner(waiting.runner).is_none() {
                return Ok(forbidden(""));
            }
            if let Some(id) = state.assign(waiting.runner)
                && let Some((pipeline, job)) = state.job(id)
            {
                return Ok(text(201, job_text(&state, pipeline, job)));
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = request.hung_up() => return Ok(empty(204)),
            () = &mut timeout => return Ok(empty(204)),
        }
    }
}

/// Counts a runner's waiting call, as long as it lives.
struct Waiting<'a> {
    hub: &'a Hub,
    runner: u64,
}

impl<'a> Waiting<'a> {
    /// `None`: there is no such runner.
    fn start(hub: &'a Hub, token: &str, parameters: &Parameters) -> Option<Self> {
        let mut state = lock(&hub.state);
        let runner = state.runner_by_token(token)?;
        runner.version = parameters.field("info", "version");
        runner.executor = parameters.field("info", "executor");
        runner.system_id = parameters.text("system_id").ok().flatten();
        let graceful = parameters.field("info", "features/cancel_gracefully");
        runner.cancels_gracefully = graceful.as_deref() == Some("true");
        let id = runner.id;
        runner.waiting += 1;
        state.heartbeat(id);
        Some(Waiting { hub, runner: id })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.hub.state);
        if let Some(runner) = state.runners.get_mut(&self.runner) {
            runner.waiting = runner.waiting.saturating_sub(1);
        }
    }
}

/// A job for the stand-in: what it is, its variables, and its script, with an empty line between.
fn job_text(state: &State, pipeline: &Pipeline, job: &Job) -> String {
    let script = match &job.script {
        JobScript::Sleep(time) => format!("sleep {}\n", time.as_secs_f64()),
        JobScript::Shell(script) => script.clone(),
    };
    format!(
        "id={}\ntoken={}\nname={}\nproject={}\nproject_id={}\nrepo_url={}/{}.git\n\n{}\n{script}",
        job.id,
        job.token,
        job.name,
        pipeline.project,
        pipeline.project_id,
        state.url(),
        pipeline.project,
        variables(state, pipeline, job),
    )
}

/// The variables that GitLab gives a job, beside those that the runner program adds.
/// <https://docs.gitlab.com/ci/variables/predefined_variables/>
fn variables(state: &State, pipeline: &Pipeline, job: &Job) -> String {
    let (group, name) = pipeline.project.rsplit_once('/').unwrap_or_default();
    let url = state.url();
    let host = url.trim_start_matches("http://").split([':', '/']).next();
    let runner = job.runner.as_ref();
    let runner = runner.and_then(|(id, _)| state.runners.get(id));
    let tags = serde_json::json!(runner.map(|runner| &runner.tags));
    [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_API_V4_URL", &format!("{url}/api/v4")),
        ("CI_COMMIT_REF_NAME", "main"),
        ("CI_COMMIT_SHA", pipelines::HEAD),
        ("CI_JOB_ID", &job.id.to_string()),
        ("CI_JOB_NAME", &job.name),
        ("CI_JOB_STAGE", "test"),
        ("CI_JOB_TOKEN", &job.token),
        ("CI_PIPELINE_ID", &pipeline.id.to_string()),
        ("CI_PIPELINE_IID", &pipeline.number.to_string()),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_PROJECT_ID", &pipeline.project_id.to_string()),
        ("CI_PROJECT_NAME", name),
        ("CI_PROJECT_NAMESPACE", group),
        ("CI_PROJECT_PATH", &pipeline.project),
        ("CI_PROJECT_URL", &format!("{url}/{}", pipeline.project)),
        (
            "CI_RUNNER_DESCRIPTION",
            runner.map_or("", |runner| &runner.description),
        ),
        (
            "CI_RUNNER_ID",
            &runner.map_or(0, |runner| runner.id).to_string(),
        ),
        ("CI_RUNNER_TAGS", &tags.to_string()),
        ("CI_SERVER", "yes"),
        ("CI_SERVER_HOST", host.unwrap_or_default()),
        ("CI_SERVER_NAME", "GitLab"),
        ("CI_SERVER_URL", &url),
        ("GITLAB_USER_LOGIN", "octocat"),
    ]
    .map(|(name, value)| format!("{name}={value}\n"))
    .concat()
}

/// With a header that tells how the job stands: a cancelled one is noticed by it.
fn told(mut response: Response, status: &str) -> Response {
    let name = HeaderName::from_static("job-status");
    answer::set(&mut response, name, status);
    response
}

/// Lets only the job's own runner through, and only while the job runs.
fn on_job(
    state: &mut State,
    request: &Request,
    route: &Route,
    parameters: &Parameters,
    endpoint: Endpoint,
) -> Result<Response, Box<Response>> {
    let token = match request.header("job-token") {
        Some(token) => token.to_owned(),
        None => parameters.text("token")?.unwrap_or_default(),
    };
    let job = route.first().parse().ok().and_then(|id| state.job(id));
    let Some((_, job)) = job.filter(|(_, job)| job.token == token) else {
        return Ok(forbidden(""));
    };
    if !job.is_running() {
        return Ok(told(forbidden("Job is not running"), job.status));
    }
    let (id, runner) = (job.id, job.runner.as_ref().map(|(id, _)| *id));
    if let Some(runner) = runner {
        state.heartbeat(runner);
    }
    if let Some(job) = state.job_mut(id) {
        job.heard = std::time::Instant::now();
    }
    let response = match endpoint {
        Endpoint::UpdateJob => {
            let states = ["pending", "running", "success", "failed"];
            let reason = parameters.text("failure_reason")?;
            match parameters.choice("state", &states)? {
                Some("success") => state.end_job(id, "success", None),
                Some("failed") => state.end_job(id, "failed", reason.as_deref()),
                _ => {}
            }
            text(200, "200")
        }
        Endpoint::AppendTrace => append(state, request, id),
        Endpoint::TellEnvironment => {
            let all = String::from_utf8_lossy(&request.body);
            let all = all.split('\0').filter(|variable| !variable.is_empty());
            let all = all.map(str::to_owned).collect();
            if let Some(job) = state.job_mut(id) {
                job.environment = all;
            }
            empty(204)
        }
        _ => {
            let container = ContainerView {
                image: parameters.required_text("image")?,
                volumes: parameters.list("volumes")?.unwrap_or_default(),
                gpus: parameters.text("gpus")?.filter(|gpus| !gpus.is_empty()),
                runtime: parameters.text("runtime")?.filter(|name| !name.is_empty()),
                privileged: parameters.flag("privileged")?.unwrap_or(false),
            };
            if let Some(job) = state.job_mut(id) {
                job.container = Some(container);
            }
            empty(204)
        }
    };
    let status = state.job(id).map_or("", |(_, job)| job.status);
    Ok(told(response, status))
}

/// Takes a part of a job's log: bytes so to so.
fn append(state: &mut State, request: &Request, id: u64) -> Response {
    let Some(range) = request.header("content-range") else {
        return answer::error(400, "400 Missing header Content-Range");
    };
    let number = |text: &str| text.parse::<usize>().ok();
    let bounds = range.split_once('-');
    let bounds = bounds.and_then(|(from, to)| Some((number(from)?, number(to)?)));
    let (code, length) = match bounds {
        Some((from, to)) if from + request.body.len() == to + 1 => {
            match state.append(id, from, &request.body) {
                Ok(length) => (202, length),
                Err(length) => (416, length),
            }
        }
        _ => (416, 0),
    };
    let mut response = match code {
        202 => text(202, format!("0-{length}")),
        code => answer::error(code, "416 Range Not Satisfiable"),
    };
    answer::set(&mut response, http::header::RANGE, &format!("0-{length}"));
    response
}
