//! What GitLab keeps: groups and projects, runners, pipelines with their jobs.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{ContainerView, GitLabRunnerView, PipelineJobView, PipelineView};
use crate::JobScript;
use crate::clock;

/// How long after its last call a runner counts as online; nothing else makes it offline.
/// <https://docs.gitlab.com/ci/runners/runners_scope/#runner-statuses>
pub(super) const ONLINE_FOR: Duration = Duration::from_secs(2 * 60 * 60);

/// A group, or a project of one.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    pub(super) id: u64,
    /// `octo/team/repo`.
    pub(super) path: String,
    pub(super) is_group: bool,
    /// With which older servers let runners register.
    pub(super) runners_token: String,
}

/// Whose a runner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) is_group: bool,
}

impl Owner {
    pub(super) fn runner_type(&self) -> &'static str {
        if self.is_group {
            "group_type"
        } else {
            "project_type"
        }
    }

    /// Whether its runners run this project's jobs.
    pub(super) fn serves(&self, project: &str) -> bool {
        if self.is_group {
            is_below(project, &self.path)
        } else {
            self.path == project
        }
    }
}

/// Whether a path lies in a group, at any depth.
pub(super) fn is_below(path: &str, group: &str) -> bool {
    path.strip_prefix(group)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// A runner's record.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) id: u64,
    pub(super) description: String,
    pub(super) owner: Owner,
    pub(super) tags: Vec<String>,
    pub(super) paused: bool,
    pub(super) locked: bool,
    pub(super) run_untagged: bool,
    /// `not_protected` or `ref_protected`.
    pub(super) access_level: &'static str,
    pub(super) maximum_timeout: Option<u64>,
    pub(super) maintenance_note: Option<String>,
    /// What its program proves itself with.
    pub(super) token: String,
    pub(super) created: Timestamp,
    pub(super) contacted: Option<(Timestamp, Instant)>,
    /// What its program tells of itself.
    pub(super) version: Option<String>,
    pub(super) executor: Option<String>,
    pub(super) system_id: Option<String>,
    /// Whether its program ends a cancelled job by itself, and tells.
    pub(super) cancels_gracefully: bool,
    /// Calls of its program that wait for a job right now.
    pub(super) waiting: usize,
    /// Somebody else's: no program behind it, always in this state (online, busy).
    pub(super) foreign: Option<(bool, bool)>,
    pub(super) removed: bool,
    pub(super) shown_online: bool,
}

impl Runner {
    pub(super) fn online(&self) -> bool {
        match self.foreign {
            Some((online, _)) => online,
            None => {
                self.waiting > 0
                    || self
                        .contacted
                        .is_some_and(|(_, at)| at.elapsed() < ONLINE_FOR)
            }
        }
    }

    /// <https://docs.gitlab.com/ci/runners/runners_scope/#runner-statuses>
    pub(super) fn status(&self) -> &'static str {
        match (self.online(), self.contacted.is_some()) {
            (true, _) => "online",
            (false, true) => "offline",
            (false, false) if self.foreign.is_some() => "offline",
            (false, false) => "never_contacted",
        }
    }

    pub(super) fn takes(&self, job: &Job, project: &str) -> bool {
        !self.removed
            && !self.paused
            && self.foreign.is_none()
            && self.owner.serves(project)
            && (self.run_untagged || !job.tags.is_empty())
            && job.tags.iter().all(|tag| self.tags.contains(tag))
    }

    pub(super) fn view(&self, busy: bool) -> GitLabRunnerView {
        GitLabRunnerView {
            id: self.id,
            name: self.description.clone(),
            tags: self.tags.clone(),
            status: self.status().into(),
            online: self.online(),
            busy,
            paused: self.paused,
            locked: self.locked,
            run_untagged: self.run_untagged,
            access_level: self.access_level.into(),
            scope: self.owner.path.clone(),
            is_group: self.owner.is_group,
            version: self.version.clone(),
            executor: self.executor.clone(),
        }
    }
}

/// What a new runner's record is made of.
#[derive(Debug)]
pub(super) struct NewRunner {
    pub(super) description: String,
    pub(super) owner: Owner,
    pub(super) tags: Vec<String>,
    pub(super) paused: bool,
    pub(super) locked: bool,
    pub(super) run_untagged: bool,
    pub(super) access_level: &'static str,
    pub(super) maximum_timeout: Option<u64>,
    pub(super) maintenance_note: Option<String>,
    /// Before its token's random part.
    pub(super) token_prefix: &'static str,
}

/// One try of one job of a pipeline.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) attempt: u64,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) script: JobScript,
    /// `pending`, `running`, `canceling`, `success`, `failed` or `canceled`.
    pub(super) status: &'static str,
    pub(super) failure_reason: Option<String>,
    /// What its runner proves itself with, and the job itself as `CI_JOB_TOKEN`.
    pub(super) token: String,
    /// Id and name.
    pub(super) runner: Option<(u64, String)>,
    pub(super) created: Timestamp,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
    /// When its runner last told of it.
    pub(super) heard: Instant,
    pub(super) container: Option<ContainerView>,
    pub(super) environment: Vec<String>,
    pub(super) log: Vec<u8>,
    pub(super) lines_shown: usize,
}

impl Job {
    pub(super) fn new(
        id: u64,
        attempt: u64,
        name: &str,
        tags: &[String],
        script: JobScript,
    ) -> Self {
        Job {
            id,
            attempt,
            name: name.into(),
            tags: tags.to_vec(),
            script,
            status: "pending",
            failure_reason: None,
            token: format!("glcbt-64_{}", clock::random_of(clock::ALPHANUMERIC, 20)),
            runner: None,
            created: clock::now(),
            started: None,
            finished: None,
            heard: Instant::now(),
            container: None,
            environment: Vec::new(),
            log: Vec::new(),
            lines_shown: 0,
        }
    }

    /// Whether a runner has it.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.status, "running" | "canceling")
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.status, "success" | "failed" | "canceled")
    }

    pub(super) fn output(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.log)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn view(&self) -> PipelineJobView {
        PipelineJobView {
            id: self.id,
            name: self.name.clone(),
            status: self.status.into(),
            failure_reason: self.failure_reason.clone(),
            attempt: self.attempt,
            runner_name: self.runner.as_ref().map(|(_, name)| name.clone()),
            tags: self.tags.clone(),
            container: self.container.clone(),
            environment: self.environment.clone(),
            output: self.output(),
        }
    }
}

/// A pipeline with all tries of its jobs.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) id: u64,
    /// Within its project.
    pub(super) number: u64,
    pub(super) project: String,
    pub(super) project_id: u64,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) jobs: Vec<Job>,
}

impl Pipeline {
    /// Each job's latest try.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| self.is_latest(job))
    }

    pub(super) fn is_latest(&self, job: &Job) -> bool {
        let mut later = self.jobs.iter();
        !later.any(|other| other.name == job.name && other.attempt > job.attempt)
    }

    /// The status of all latest tries together.
    pub(super) fn status(&self) -> &'static str {
        let any = |status| self.latest().any(|job| job.status == status);
        let all = |list: &[&str]| self.latest().all(|job| list.contains(&job.status));
        if all(&["success"]) {
            "success"
        } else if all(&["canceled", "success"]) {
            "canceled"
        } else if all(&["pending"]) {
            "pending"
        } else if any("canceling") {
            "canceling"
        } else if any("running") || any("pending") {
            "running"
        } else {
            "failed"
        }
    }

    pub(super) fn view(&self) -> PipelineView {
        PipelineView {
            id: self.id,
            project: self.project.clone(),
            status: self.status().into(),
            jobs: self.jobs.iter().map(Job::view).collect(),
        }
    }
}
