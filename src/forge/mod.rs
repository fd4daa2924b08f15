//! The seam to the forges. Clouds are unknown here.

mod forget;
pub mod github;
pub mod gitlab;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::cloud::Arch;
use crate::error::Result;
use crate::host::Host;
use crate::http::Http;
use crate::secret::{Secret, exposed};
use crate::spec::{Docker, Driver, ForgeSpec, Reuse};
pub use forget::{Forgotten, forget};

/// What a launch wants to know of the forge before anything is made.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The new runner's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a [String],
    /// Whether an existing runner would do.
    pub reuse: Reuse,
    /// Whether interrupted jobs are to be run again.
    pub retry: bool,
    /// The runner program's version, where pinned.
    pub runner_version: Option<&'a str>,
}

/// What the forge said.
#[derive(Debug, Clone)]
pub struct Findings {
    /// A runner that has the name already.
    pub namesake: Option<Runner>,
    /// A runner that makes a new one unnecessary.
    pub reusable: Option<Runner>,
    /// Where the runner program comes from, by architecture; none where no runner is to be made.
    pub programs: Programs,
    /// Whether the access could have interrupted jobs run again, as far as is known.
    pub can_rerun: bool,
}

/// The runner program's downloads.
pub type Programs = BTreeMap<Arch, Program>;

/// A download of the CI's runner program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The address.
    pub url: String,
    /// The download's SHA-256, in hexadecimal.
    pub sha256: String,
    /// What the program is called, where the download is the program itself and no archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What a copy of the runner program looks like that a container's image brings along.
#[derive(Debug, Clone, Copy)]
pub struct Provided {
    /// The program that tells its version, relative to its folder.
    pub program: &'static str,
    /// What else is in the folder, if it is whole.
    pub beside: &'static [&'static str],
    /// Where images have that folder; `~` is the home of the jobs' user.
    pub folders: &'static [&'static str],
    /// Whether the program keeps its own files in that folder. Else it is one file, which may also be
    /// in any folder of the `PATH`.
    pub keeps_files: bool,
    /// Whether every version will do where none is asked for.
    pub any_version: bool,
}

/// A runner's record at the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// The forge's id.
    pub id: u64,
    /// The name.
    pub name: String,
    /// Whether it is connected.
    pub online: bool,
    /// Whether it runs a job.
    pub busy: bool,
    /// Its labels.
    pub labels: Vec<String>,
}

/// What a registration asks for.
#[derive(Debug, Clone)]
pub struct Enrolment<'a> {
    /// The runner's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a [String],
    /// Whether it takes one job only.
    pub single: bool,
    /// The machine's architecture, where known.
    pub arch: Option<Arch>,
    /// Whether the runner program must stay the version that it is.
    pub pinned: bool,
}

/// What a registration gives: all that the agent needs to start the runner program.
#[derive(Clone, Serialize, Deserialize)]
pub struct Registration {
    /// The runner's id, where the forge gives it before the runner starts.
    pub runner_id: Option<u64>,
    /// A just-in-time configuration: one runner, one job.
    #[serde(with = "exposed", default, skip_serializing_if = "Option::is_none")]
    pub jit: Option<Secret>,
    /// A token with which the runner program registers itself.
    #[serde(with = "exposed", default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The runner's own token, with which it works and can remove itself.
    #[serde(with = "exposed", default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Secret>,
}

impl Registration {
    /// The secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        [&self.jit, &self.token, &self.own].into_iter().flatten()
    }
}

/// Whether a runner record is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unregistered {
    /// It is, or never was there.
    Done,
    /// The forge says that the runner has a job.
    Busy,
}

/// A job that a runner took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRef {
    /// The job's name (GitHub) or number (GitLab) as the runner's log shows it.
    pub name: Option<String>,
    /// The path of the repository that it belongs to.
    pub repository: Option<String>,
    /// The workflow run (GitHub) or pipeline (GitLab).
    pub run_id: Option<u64>,
}

/// What the runner program finds on its machine.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// How long it waits for a job; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How jobs run in containers, where they can.
    pub docker: &'a Docker,
    /// Whether there is a Docker for them.
    pub has_docker: bool,
    /// Whether there is an NVIDIA GPU.
    pub gpu: bool,
    /// Whether Docker can give it to containers.
    pub gpu_in_containers: bool,
    /// Whether the machine outlives the runner, so that nothing may be left on it.
    pub lasting: bool,
    /// Whether there are the ICU libraries, with which .NET knows languages.
    pub icu: bool,
    /// What a container's image offers to jobs that run in a shell of its own.
    pub image: Option<ImageShell<'a>>,
}

/// A container's image, as a shell finds it.
#[derive(Debug, Clone, Copy)]
pub struct ImageShell<'a> {
    /// Where its programs are.
    pub path: &'a str,
    /// Whether it has Bash.
    pub bash: bool,
}

/// How to start the runner program: everything but the user and the clean environment.
#[derive(Debug, Clone)]
pub struct Start {
    /// Files to write first, for the program's user alone; they are gone again once it is ready.
    pub files: Vec<StartFile>,
    /// Programs to run to their end first, such as a configuration.
    pub setup: Option<Command>,
    /// The program that is the runner.
    pub run: Command,
}

/// A file that the runner program reads at its start.
#[derive(Debug, Clone)]
pub struct StartFile {
    /// Its name in the runner's folder.
    pub name: String,
    /// What is in it.
    pub content: Secret,
}

/// A program, its arguments, and what it needs in its environment. No secret is in the arguments.
#[derive(Debug, Clone)]
pub struct Command {
    /// Path relative to the runner's folder.
    pub program: String,
    /// The arguments.
    pub args: Vec<String>,
    /// Variables beside those of the clean environment.
    pub env: Vec<(String, Secret)>,
}

/// What a line of the runner program's log means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// It waits for jobs.
    Ready,
    /// A job has begun.
    Started {
        /// The job, as far as the line tells.
        job: JobRef,
    },
    /// A job has ended.
    Ended {
        /// Whether it ended well.
        success: bool,
    },
    /// No job came for the idle time: it ends by itself.
    Idle,
    /// The forge doesn't know the runner.
    Refused,
}

/// A forge.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Checks the access and reads what a launch depends on, all at once. Changes nothing.
    async fn look(&self, question: &Question<'_>) -> Result<Findings>;

    /// Makes what a new runner starts with. Not idempotent for a just-in-time configuration:
    /// after an unanswered call, the record is to be looked up by name.
    async fn register(&self, enrolment: &Enrolment<'_>) -> Result<Registration>;

    /// A runner's record: by id where known, else by name.
    async fn find(&self, id: Option<u64>, name: &str) -> Result<Option<Runner>>;

    /// Removes a runner's record. Idempotent: gone is done.
    async fn unregister(&self, id: u64) -> Result<Unregistered>;

    /// Removes a runner's record with what the runner itself holds. `None` where there is no such
    /// way.
    async fn resign(&self, registration: &Registration) -> Option<Result<()>>;

    /// Cancels the run of an interrupted job, if it still runs, waits for its end, and has it run
    /// again. `runner` is the name of the runner that had the job. Says which run it was; `None`
    /// when there was none to run again, or when somebody has cancelled it. `again`: an earlier try
    /// may have cancelled it itself.
    async fn rerun(
        &self,
        runner: &str,
        job: &JobRef,
        again: bool,
        patience: Duration,
    ) -> Result<Option<u64>>;

    /// How a copy of the program is recognised that is there already.
    fn provided(&self) -> Provided;

    /// Whether that copy will do, by what it says to `--version`: where a `version` is asked for, as
    /// that one.
    fn accepts(&self, said: &str, version: Option<&str>) -> bool;

    /// How the program is configured and started.
    fn start(
        &self,
        enrolment: &Enrolment<'_>,
        registration: &Registration,
        surroundings: &Surroundings<'_>,
    ) -> Start;

    /// The id under which the configured program in `folder` is registered, as it noted it.
    fn registered_id(&self, folder: &Path) -> Option<u64>;

    /// What a line of the program's log means, if anything.
    fn read_log(&self, line: &str) -> Option<LogEvent>;

    /// A shell script that the runner program runs when a job starts, and that writes what
    /// [`Forge::read_job`] reads into the file `note`; with the variable that names the script.
    fn job_hook(&self, note: &str) -> Option<(&'static str, String)>;

    /// Reads what the hook wrote.
    fn read_job(&self, note: &str) -> JobRef;

    /// How long a job may run at most; `None`: no such limit.
    fn job_limit(&self) -> Option<Duration>;

    /// How long after the idle time the program may still take to end by itself. Zero where it
    /// knows no idle time and must be ended.
    fn idle_margin(&self) -> Duration {
        Duration::ZERO
    }
}

/// The forge of a driver.
pub fn open(spec: &ForgeSpec, host: &Host, http: &Http) -> Result<Arc<dyn Forge>> {
    Ok(match spec.driver {
        Driver::Github => Arc::new(github::GitHub::new(spec, host, http)?),
        Driver::Gitlab => Arc::new(gitlab::GitLab::new(spec, host, http)),
    })
}

/// The image in which a forge's runner program is at home, as the forge itself publishes it; of one
/// version, or the newest.
pub fn image(driver: Driver, version: Option<&str>) -> String {
    match driver {
        Driver::Github => github::image(version),
        Driver::Gitlab => gitlab::image(version),
    }
}
