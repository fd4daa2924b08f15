//! What GitHub keeps: runners with their sessions, workflow runs with their jobs.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{JobScript, JobView, RunView, RunnerView};
use crate::clock;

/// How long a runner without a waiting call still counts as online.
pub(super) const ONLINE_GRACE: Duration = Duration::from_secs(1);

/// A repository (`octo/repo`) or an organisation (`octo`).
pub(super) type Scope = String;

/// Why a runner's record is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// It was for one job, which has ended.
    JobDone,
    /// Somebody asked for it.
    Asked,
}

/// A label of a runner.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) id: u64,
    pub(super) name: String,
    /// Given by GitHub itself rather than by a person.
    pub(super) read_only: bool,
}

/// A runner program that is connected.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    /// Made up by the program, so that it may ask twice for the same session.
    pub(super) nonce: String,
    /// Calls that wait for a message right now.
    pub(super) waiting: usize,
    pub(super) last_seen: Instant,
    /// What it has not confirmed yet, with increasing numbers.
    messages: Vec<(u64, String)>,
    next_message: u64,
}

impl Session {
    pub(super) fn new(nonce: &str) -> Self {
        Session {
            id: clock::random_hex(32),
            nonce: nonce.into(),
            waiting: 0,
            last_seen: Instant::now(),
            messages: Vec::new(),
            next_message: 0,
        }
    }

    pub(super) fn alive(&self, grace: Duration) -> bool {
        self.waiting > 0 || self.last_seen.elapsed() < grace
    }

    /// The first message after number `last`, which confirms those up to `last`.
    pub(super) fn next_message(&mut self, last: u64) -> Option<String> {
        self.messages.retain(|(number, _)| *number > last);
        let (number, text) = self.messages.first()?;
        Some(format!("{number} {text}"))
    }

    /// Whether a message that begins so may never have arrived.
    pub(super) fn holds(&self, beginning: &str) -> bool {
        let mut messages = self.messages.iter();
        messages.any(|(_, text)| text.starts_with(beginning))
    }

    pub(super) fn send(&mut self, text: String) {
        self.next_message += 1;
        self.messages.push((self.next_message, text));
    }
}

/// A job that a runner has.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) job: u64,
    /// The session that it was given to. A later one of the same runner knows nothing of it.
    pub(super) session: String,
    /// When that session was last heard of.
    pub(super) last_seen: Instant,
}

/// A runner's record.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) labels: Vec<Label>,
    pub(super) ephemeral: bool,
    pub(super) group: u64,
    /// Made by a just-in-time configuration, which is good for one session.
    pub(super) jit: bool,
    /// What its program proves itself with.
    pub(super) credential: String,
    pub(super) session: Option<Session>,
    /// Had a session at some time.
    pub(super) connected_once: bool,
    /// Its job, while that runs.
    pub(super) job: Option<Assignment>,
    pub(super) removed: Option<Removed>,
    /// Somebody else's: no program behind it, always in this state (online, busy).
    pub(super) foreign: Option<(bool, bool)>,
    pub(super) shown_online: bool,
}

impl Runner {
    pub(super) fn online(&self) -> bool {
        match self.foreign {
            Some((online, _)) => online,
            None => self.session.as_ref().is_some_and(|s| s.alive(ONLINE_GRACE)),
        }
    }

    pub(super) fn busy(&self) -> bool {
        self.foreign.map_or(self.job.is_some(), |(_, busy)| busy)
    }

    pub(super) fn takes(&self, job: &Job, repository: &str) -> bool {
        let owner = repository.split('/').next().unwrap_or_default();
        self.removed.is_none()
            && self.foreign.is_none()
            && self.job.is_none()
            && self.online()
            && (self.scope == repository || self.scope == owner)
            && job.labels.iter().all(|wanted| {
                let mut has = self.labels.iter();
                has.any(|label| label.name.eq_ignore_ascii_case(wanted))
            })
    }

    pub(super) fn view(&self) -> RunnerView {
        RunnerView {
            id: self.id,
            name: self.name.clone(),
            labels: self.labels.iter().map(|label| label.name.clone()).collect(),
            online: self.online(),
            busy: self.busy(),
            ephemeral: self.ephemeral,
            scope: self.scope.clone(),
        }
    }
}

/// What a new runner's record is made of.
#[derive(Debug)]
pub(super) struct NewRunner {
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) labels: Vec<String>,
    pub(super) ephemeral: bool,
    pub(super) group: u64,
    pub(super) jit: bool,
}

/// One try of one job of a workflow run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) attempt: u64,
    pub(super) name: String,
    pub(super) labels: Vec<String>,
    pub(super) script: JobScript,
    /// `queued`, `in_progress` or `completed`.
    pub(super) status: &'static str,
    pub(super) conclusion: Option<&'static str>,
    /// Why it failed, where its script is not to blame.
    pub(super) annotation: Option<String>,
    /// Id and name.
    pub(super) runner: Option<(u64, String)>,
    pub(super) created: Timestamp,
    pub(super) started: Option<Timestamp>,
    pub(super) completed: Option<Timestamp>,
    pub(super) cancelled: bool,
    pub(super) environment: Vec<String>,
    pub(super) log: Vec<u8>,
    pub(super) lines_shown: usize,
}

impl Job {
    pub(super) fn new(
        id: u64,
        attempt: u64,
        name: &str,
        labels: &[String],
        script: JobScript,
    ) -> Self {
        Job {
            id,
            attempt,
            name: name.into(),
            labels: labels.to_vec(),
            script,
            status: "queued",
            conclusion: None,
            annotation: None,
            runner: None,
            created: clock::now(),
            started: None,
            completed: None,
            cancelled: false,
            environment: Vec::new(),
            log: Vec::new(),
            lines_shown: 0,
        }
    }

    pub(super) fn output(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.log)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn view(&self) -> JobView {
        JobView {
            id: self.id,
            name: self.name.clone(),
            status: self.status.into(),
            conclusion: self.conclusion.map(str::to_owned),
            annotation: self.annotation.clone(),
            attempt: self.attempt,
            runner_name: self.runner.as_ref().map(|(_, name)| name.clone()),
            labels: self.labels.clone(),
            environment: self.environment.clone(),
            output: self.output(),
        }
    }
}

/// A workflow run with the jobs of all its attempts.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) repository: Scope,
    pub(super) attempt: u64,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) jobs: Vec<Job>,
}

impl Run {
    pub(super) fn latest(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| job.attempt == self.attempt)
    }

    pub(super) fn status(&self) -> &'static str {
        if self.latest().all(|job| job.status == "completed") {
            "completed"
        } else if self.latest().all(|job| job.status == "queued") {
            "queued"
        } else {
            "in_progress"
        }
    }

    pub(super) fn conclusion(&self) -> Option<&'static str> {
        if self.status() != "completed" {
            return None;
        }
        let worst = ["cancelled", "failure"];
        let mut found = worst
            .into_iter()
            .filter(|bad| self.latest().any(|job| job.conclusion == Some(bad)));
        Some(found.next().unwrap_or("success"))
    }

    pub(super) fn view(&self) -> RunView {
        RunView {
            id: self.id,
            repository: self.repository.clone(),
            status: self.status().into(),
            conclusion: self.conclusion().map(str::to_owned),
            attempt: self.attempt,
            jobs: self.jobs.iter().map(Job::view).collect(),
        }
    }
}

/// The variables that GitHub gives a job, beside those that the runner program adds.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
pub(super) fn environment(url: &str, run: &Run, job: &Job) -> String {
    // A job of a matrix is shown as `key (value, value)`.
    let key = job.name.split(" (").next().unwrap_or_default();
    let owner = run.repository.split('/').next().unwrap_or_default();
    [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_ACTOR", "octocat"),
        ("GITHUB_API_URL", url),
        ("GITHUB_EVENT_NAME", "push"),
        ("GITHUB_JOB", key),
        ("GITHUB_REF", "refs/heads/main"),
        ("GITHUB_REF_NAME", "main"),
        ("GITHUB_REPOSITORY", &run.repository),
        ("GITHUB_REPOSITORY_OWNER", owner),
        ("GITHUB_RUN_ATTEMPT", &run.attempt.to_string()),
        ("GITHUB_RUN_ID", &run.id.to_string()),
        ("GITHUB_RUN_NUMBER", &run.number.to_string()),
        ("GITHUB_SERVER_URL", url),
        ("GITHUB_SHA", super::runs::HEAD),
        ("GITHUB_WORKFLOW", super::runs::WORKFLOW),
        ("RUNNER_ENVIRONMENT", "self-hosted"),
    ]
    .map(|(name, value)| format!("{name}={value}\n"))
    .concat()
}
