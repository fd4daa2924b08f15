//! GitLab: the REST API as far as runners, pipelines and jobs go, and the other side of the runner
//! program. gitlab.com, or a server of one's own: with a relative URL root, or an older version.

mod access;
mod answer;
mod api;
mod parameters;
mod pipelines;
mod program;
mod records;
mod routes;
mod runners;
mod state;

use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::JobScript;
use crate::calls::{Wire, lock};
use crate::server::Server;
use access::{Access, Ended, Role};
use api::Api;
use records::NewRunner;
use state::State;

/// The project that the environment names.
const PROJECT: &str = "octo/repo";

/// How often runners that went away are looked for.
const TICK: Duration = Duration::from_millis(50);

/// A runner's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitLabRunnerView {
    /// GitLab's id.
    pub id: u64,
    /// The description, which is a runner's name.
    pub name: String,
    /// All tags.
    pub tags: Vec<String>,
    /// `online`, `offline` or `never_contacted`.
    pub status: String,
    /// Whether its program has called in the last two hours.
    pub online: bool,
    /// Whether it runs a job.
    pub busy: bool,
    /// Whether it is given no jobs.
    pub paused: bool,
    /// Whether it is for its project alone.
    pub locked: bool,
    /// Whether it runs jobs without tags.
    pub run_untagged: bool,
    /// `not_protected` or `ref_protected`.
    pub access_level: String,
    /// The project (`octo/repo`) or group (`octo`).
    pub scope: String,
    /// Whether it is a group's.
    pub is_group: bool,
    /// Its program's version, once that has called.
    pub version: Option<String>,
    /// `docker` or `shell`, once its program has called.
    pub executor: Option<String>,
}

/// The container in which a job would have run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerView {
    /// The image.
    pub image: String,
    /// What is mounted, `host:container` each.
    pub volumes: Vec<String>,
    /// Which GPUs it sees.
    pub gpus: Option<String>,
    /// The container runtime.
    pub runtime: Option<String>,
    /// Whether it may do what it likes.
    pub privileged: bool,
}

/// One try of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineJobView {
    /// GitLab's id.
    pub id: u64,
    /// The name.
    pub name: String,
    /// `pending`, `running`, `canceling`, `success`, `failed` or `canceled`.
    pub status: String,
    /// `script_failure`, `runner_system_failure`, …
    pub failure_reason: Option<String>,
    /// 1 for the first.
    pub attempt: u64,
    /// The runner that took it.
    pub runner_name: Option<String>,
    /// What it asks of a runner.
    pub tags: Vec<String>,
    /// Its container, with the docker executor.
    pub container: Option<ContainerView>,
    /// `NAME=value` for each variable that its script saw.
    pub environment: Vec<String>,
    /// The lines that it, and the runner program on its behalf, printed.
    pub output: Vec<String>,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineView {
    /// GitLab's id.
    pub id: u64,
    /// The project.
    pub project: String,
    /// `pending`, `running`, `canceling`, `success`, `failed` or `canceled`.
    pub status: String,
    /// All tries of all jobs, oldest first.
    pub jobs: Vec<PipelineJobView>,
}

/// A handle to the fake GitLab.
#[derive(Debug, Clone)]
pub struct GitLab {
    hub: Arc<Hub>,
    /// Listens as long as there is a handle.
    _server: Arc<Server>,
}

/// What all requests share.
#[derive(Debug)]
struct Hub {
    wire: Arc<Wire>,
    state: Mutex<State>,
    /// Wakes whoever waits for a job.
    changed: watch::Sender<()>,
}

impl Hub {
    fn wake(&self) {
        self.changed.send_replace(());
    }
}

impl GitLab {
    pub(crate) async fn start(wire: Arc<Wire>) -> io::Result<GitLab> {
        let access = Access::new(&wire);
        let hub = Arc::new(Hub {
            state: Mutex::new(State::new(wire.clone(), access)),
            changed: watch::Sender::new(()),
            wire: wire.clone(),
        });
        let server = Server::start(Arc::new(Api(hub.clone())), wire).await?;
        lock(&hub.state).address = server.url();
        tokio::spawn(tick(Arc::downgrade(&hub)));
        Ok(GitLab {
            hub,
            _server: Arc::new(server),
        })
    }

    /// What says where the server and the project are, with the owner's token.
    pub fn env(&self) -> Vec<(String, String)> {
        let url = self.url();
        [
            ("CI_API_V4_URL", format!("{url}/api/v4")),
            ("CI_SERVER_URL", url.clone()),
            ("CI_PROJECT_PATH", PROJECT.into()),
            ("CI_PROJECT_URL", format!("{url}/{PROJECT}")),
            ("REPO_TOKEN", self.token()),
        ]
        .map(|(name, value)| (name.into(), value))
        .into()
    }

    /// What a pipeline's job has in its environment beside [`GitLab::env`].
    /// <https://docs.gitlab.com/ci/variables/predefined_variables/>
    pub fn job_env(&self) -> Vec<(String, String)> {
        let project = lock(&self.hub.state).know(PROJECT, false);
        [
            ("CI", "true".to_owned()),
            ("GITLAB_CI", "true".into()),
            ("CI_JOB_ID", "501".into()),
            ("CI_JOB_NAME", "launch".into()),
            ("CI_JOB_STAGE", "launch".into()),
            ("CI_JOB_TOKEN", self.job_token()),
            ("CI_PIPELINE_ID", "500".into()),
            ("CI_PIPELINE_IID", "5".into()),
            ("CI_PROJECT_ID", project.to_string()),
            ("CI_COMMIT_SHA", pipelines::HEAD.into()),
        ]
        .map(|(name, value)| (name.into(), value))
        .into()
    }

    /// `http://127.0.0.1:PORT`, and the relative root once there is one. The API is below
    /// `/api/v4`.
    pub fn url(&self) -> String {
        lock(&self.hub.state).url()
    }

    /// An access token with the scope `api` of an owner of everything.
    pub fn token(&self) -> String {
        lock(&self.hub.state).access.owner.clone()
    }

    /// A new access token of the same owner, with these scopes.
    pub fn token_with(&self, scopes: &[&str]) -> String {
        let mut state = lock(&self.hub.state);
        state.access.add(&self.hub.wire, scopes, Role::Owner)
    }

    /// An access token with the scope `api` of a developer, who may not manage runners.
    pub fn weak_token(&self) -> String {
        lock(&self.hub.state).access.weak.clone()
    }

    /// The token of the pipeline job in [`GitLab::job_env`].
    pub fn job_token(&self) -> String {
        lock(&self.hub.state).access.job.clone()
    }

    /// Makes an access token one that has expired.
    pub fn expire(&self, token: &str) {
        lock(&self.hub.state).access.end(token, Ended::Expired);
    }

    /// Makes an access token one that was revoked.
    pub fn revoke(&self, token: &str) {
        lock(&self.hub.state).access.end(token, Ended::Revoked);
    }

    /// Makes a group, and those around it. `octo` and `octo/team` are there.
    pub fn add_group(&self, path: &str) -> u64 {
        lock(&self.hub.state).know(path, true)
    }

    /// Makes a project, and the groups around it. `octo/repo` and `octo/team/repo` are there.
    pub fn add_project(&self, path: &str) -> u64 {
        lock(&self.hub.state).know(path, false)
    }

    /// All runner records.
    pub fn runners(&self) -> Vec<GitLabRunnerView> {
        lock(&self.hub.state).runner_views()
    }

    /// Adds somebody else's runner, which stays as it is and takes no job; the answer is its id.
    /// A `scope` that isn't known becomes a project.
    pub fn add_runner(
        &self,
        scope: &str,
        name: &str,
        tags: &[&str],
        online: bool,
        busy: bool,
    ) -> u64 {
        let mut state = lock(&self.hub.state);
        let is_group = state.namespace(scope, true).is_some();
        let namespace = state.know(scope, is_group);
        let Some(owner) = state.owner(namespace, is_group) else {
            return 0;
        };
        let id = state.add_runner(NewRunner {
            description: name.into(),
            owner,
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
            paused: false,
            locked: true,
            run_untagged: true,
            access_level: "not_protected",
            maximum_timeout: None,
            maintenance_note: None,
            token_prefix: runners::TOKEN_PREFIX,
        });
        if let Some(runner) = state.runners.get_mut(&id) {
            runner.foreign = Some((online, busy));
        }
        id
    }

    /// Starts a pipeline of one job; the answer is the pipeline's id.
    pub fn queue_pipeline(
        &self,
        project: &str,
        job_name: &str,
        tags: &[&str],
        script: JobScript,
    ) -> u64 {
        let tags = job_tags(tags);
        let id = lock(&self.hub.state).queue_pipeline(project, job_name, &tags, script);
        self.hub.wake();
        id
    }

    /// Adds a job to a pipeline; the answer is the job's id.
    pub fn add_job(&self, pipeline: u64, name: &str, tags: &[&str], script: JobScript) -> u64 {
        let tags = job_tags(tags);
        let id = lock(&self.hub.state).add_job(pipeline, name, &tags, script);
        self.hub.wake();
        id
    }

    /// Cancels a pipeline, as somebody does on its page.
    pub fn cancel_pipeline(&self, id: u64) {
        let mut state = lock(&self.hub.state);
        let jobs: Vec<u64> = state.pipelines.get(&id).map_or_else(Vec::new, |pipeline| {
            let open = pipeline.latest().filter(|job| !job.is_over());
            open.map(|job| job.id).collect()
        });
        for job in jobs {
            state.cancel(job, false);
        }
    }

    /// A pipeline.
    pub fn pipeline(&self, id: u64) -> Option<PipelineView> {
        let state = lock(&self.hub.state);
        state.pipelines.get(&id).map(records::Pipeline::view)
    }

    /// All pipelines, oldest first.
    pub fn pipelines(&self) -> Vec<PipelineView> {
        lock(&self.hub.state).pipeline_views()
    }

    /// Moves everything below a relative URL root, such as `/gitlab`; elsewhere is nothing then.
    pub fn below(&self, root: &str) {
        lock(&self.hub.state).root = root.trim_end_matches('/').into();
    }

    /// Becomes GitLab 15.11, which has registration tokens, but no runners created by a user.
    pub fn before_user_runners(&self) {
        lock(&self.hub.state).is_old = true;
    }

    /// As if hours had passed: a runner is online again only once its program calls again.
    pub fn forget_contacts(&self) {
        lock(&self.hub.state).forget_contacts();
    }

    /// Uses up everybody's rate limit, which is renewed in so many seconds.
    pub fn exhaust_rate_limit(&self, seconds: u64) {
        lock(&self.hub.state).access.exhaust(seconds);
    }

    pub(crate) fn leaks(&self) -> Vec<String> {
        let state = lock(&self.hub.state);
        let left = state
            .runners
            .values()
            .filter(|runner| !runner.removed && runner.foreign.is_none());
        left.map(|runner| format!("runner {} of {}", runner.description, runner.owner.path))
            .collect()
    }
}

/// A job's tags as they are once expanded, which is before its pipeline has an id.
fn job_tags(tags: &[&str]) -> Vec<String> {
    let expanded = tags.iter().all(|tag| !tag.contains('$'));
    assert!(expanded, "a variable in the tags {tags:?}");
    tags.iter().map(|tag| (*tag).into()).collect()
}

/// Notices who went away, as long as there is somebody to notice it for.
async fn tick(hub: Weak<Hub>) {
    while let Some(hub) = hub.upgrade() {
        lock(&hub.state).bury_the_stuck();
        drop(hub);
        tokio::time::sleep(TICK).await;
    }
}
