//! GitHub: the REST API as far as runners and workflow runs go, and the other side of the runner
//! program. The same server is GitHub Enterprise Server below `/api/v3`.

mod access;
mod answer;
mod api;
mod program;
mod records;
mod routes;
mod runners;
mod runs;
mod state;

use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::Config;
use crate::calls::{Wire, lock};
use crate::downloads::{Downloads, Program};
use crate::server::Server;
use access::Access;
use api::Api;
use records::NewRunner;
use state::State;

/// The repository that the environment names.
const REPOSITORY: &str = "octo/repo";

/// How often runners that went away are looked for.
const TICK: Duration = Duration::from_millis(50);

/// A runner's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerView {
    /// GitHub's id.
    pub id: u64,
    /// The name.
    pub name: String,
    /// All labels.
    pub labels: Vec<String>,
    /// Whether its program is connected.
    pub online: bool,
    /// Whether it runs a job.
    pub busy: bool,
    /// Whether it is for one job.
    pub ephemeral: bool,
    /// The repository (`octo/repo`) or organisation (`octo`).
    pub scope: String,
}

/// One attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// GitHub's id.
    pub id: u64,
    /// The name.
    pub name: String,
    /// `queued`, `in_progress` or `completed`.
    pub status: String,
    /// `success`, `failure` or `cancelled`, once completed.
    pub conclusion: Option<String>,
    /// What GitHub itself says about a failure.
    pub annotation: Option<String>,
    /// The attempt of the run that it belongs to.
    pub attempt: u64,
    /// The runner that took it.
    pub runner_name: Option<String>,
    /// What it asks of a runner.
    pub labels: Vec<String>,
    /// `NAME=value` for each variable that its script saw.
    pub environment: Vec<String>,
    /// The lines that it printed.
    pub output: Vec<String>,
}

/// A workflow run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    /// GitHub's id.
    pub id: u64,
    /// The repository.
    pub repository: String,
    /// `queued`, `in_progress` or `completed`.
    pub status: String,
    /// `success`, `failure` or `cancelled`, once completed.
    pub conclusion: Option<String>,
    /// The number of the latest attempt.
    pub attempt: u64,
    /// The jobs of all attempts, oldest first.
    pub jobs: Vec<JobView>,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobScript {
    /// It takes that long.
    Sleep(Duration),
    /// It runs this; the exit code decides about success.
    Shell(String),
}

/// A handle to the fake GitHub.
#[derive(Debug, Clone)]
pub struct GitHub {
    hub: Arc<Hub>,
    server: Arc<Server>,
}

/// What all requests share.
#[derive(Debug)]
struct Hub {
    wire: Arc<Wire>,
    state: Mutex<State>,
    /// Wakes whoever waits for a message.
    changed: watch::Sender<()>,
    programs: Vec<Program>,
}

impl Hub {
    fn wake(&self) {
        self.changed.send_replace(());
    }
}

impl GitHub {
    pub(crate) async fn start(
        wire: Arc<Wire>,
        _config: &Config,
        downloads: &Downloads,
    ) -> io::Result<GitHub> {
        let access = Access::new(&wire);
        let hub = Arc::new(Hub {
            state: Mutex::new(State::new(wire.clone(), access)),
            changed: watch::Sender::new(()),
            programs: downloads.programs().to_vec(),
            wire: wire.clone(),
        });
        let server = Server::start(Arc::new(Api(hub.clone())), wire).await?;
        lock(&hub.state).url = server.url();
        tokio::spawn(tick(Arc::downgrade(&hub)));
        Ok(GitHub {
            hub,
            server: Arc::new(server),
        })
    }

    /// The environment of a pipeline, with the administrator's token.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("GITHUB_API_URL", self.server.url()),
            ("GITHUB_SERVER_URL", self.server.url()),
            ("GITHUB_REPOSITORY", REPOSITORY.into()),
            ("REPO_TOKEN", self.token()),
        ]
        .map(|(name, value)| (name.into(), value))
        .into()
    }

    /// `http://127.0.0.1:PORT`. The API is there and, as on GitHub Enterprise Server, below
    /// `/api/v3`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// A personal access token that may do everything.
    pub fn token(&self) -> String {
        lock(&self.hub.state).access.admin.clone()
    }

    /// A personal access token that is good, but may not manage runners or workflow runs.
    pub fn weak_token(&self) -> String {
        lock(&self.hub.state).access.weak.clone()
    }

    /// The id and the private key (PEM) of a GitHub App, installed for the organisation `octo` and
    /// its repositories.
    pub fn app(&self) -> (String, String) {
        access::app()
    }

    /// All runner records.
    pub fn runners(&self) -> Vec<RunnerView> {
        lock(&self.hub.state).runner_views()
    }

    /// Adds somebody else's runner, which stays as it is and takes no job; the answer is its id.
    pub fn add_runner(
        &self,
        scope: &str,
        name: &str,
        labels: &[&str],
        online: bool,
        busy: bool,
    ) -> u64 {
        let mut state = lock(&self.hub.state);
        state.know(scope);
        let id = state.add_runner(NewRunner {
            name: name.into(),
            scope: scope.into(),
            labels: labels.iter().map(|label| (*label).into()).collect(),
            ephemeral: false,
            group: runners::DEFAULT_GROUP,
            jit: false,
        });
        if let Some(runner) = state.runners.get_mut(&id) {
            runner.foreign = Some((online, busy));
        }
        state.settle();
        id
    }

    /// Starts a workflow run of one job; the answer is the run's id.
    pub fn queue_run(
        &self,
        repository: &str,
        job_name: &str,
        labels: &[&str],
        script: JobScript,
    ) -> u64 {
        let labels: Vec<String> = labels.iter().map(|label| (*label).into()).collect();
        let id = lock(&self.hub.state).queue_run(repository, job_name, &labels, script);
        self.hub.wake();
        id
    }

    /// A workflow run.
    pub fn run(&self, id: u64) -> Option<RunView> {
        lock(&self.hub.state).run_view(id)
    }

    /// All workflow runs, oldest first.
    pub fn runs(&self) -> Vec<RunView> {
        lock(&self.hub.state).run_views()
    }

    /// Becomes an older server, without just-in-time configurations.
    pub fn without_jit(&self) {
        lock(&self.hub.state).offers_jit = false;
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
            .filter(|runner| runner.removed.is_none() && runner.foreign.is_none());
        left.map(|runner| format!("runner {} of {}", runner.name, runner.scope))
            .collect()
    }
}

/// Notices who went away, as long as there is somebody to notice it for.
async fn tick(hub: Weak<Hub>) {
    while let Some(hub) = hub.upgrade() {
        lock(&hub.state).bury_the_lost();
        hub.wake();
        drop(hub);
        tokio::time::sleep(TICK).await;
    }
}
