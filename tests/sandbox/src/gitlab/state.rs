//! How runners, pipelines and jobs move from one state to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access::Access;
use super::records::{Job, Namespace, NewRunner, Owner, Pipeline, Runner};
use super::{GitLabRunnerView, PipelineView};
use crate::JobScript;
use crate::calls::{Event, Wire};
use crate::clock;

/// How long the runner of a job may be silent before the job is given up. (GitLab waits for an
/// hour: a job whose runner is gone runs until then, even when it is cancelled.)
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    wire: Arc<Wire>,
    /// `http://127.0.0.1:PORT`.
    pub(super) address: String,
    /// What comes behind it, such as `/gitlab`; mostly nothing.
    pub(super) root: String,
    pub(super) access: Access,
    /// Groups and projects by id.
    pub(super) namespaces: BTreeMap<u64, Namespace>,
    pub(super) runners: BTreeMap<u64, Runner>,
    pub(super) pipelines: BTreeMap<u64, Pipeline>,
    /// Whether it is a server of before `POST /user/runners`.
    pub(super) is_old: bool,
    next_id: u64,
}

impl State {
    pub(super) fn new(wire: Arc<Wire>, access: Access) -> Self {
        let mut state = State {
            wire,
            address: String::new(),
            root: String::new(),
            access,
            namespaces: BTreeMap::new(),
            runners: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            is_old: false,
            next_id: 1000,
        };
        state.know("octo/repo", false);
        state.know("octo/team/repo", false);
        state
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The server's address with its relative root.
    pub(super) fn url(&self) -> String {
        format!("{}{}", self.address, self.root)
    }

    // --- Groups and projects.

    /// Makes a group or project, and the groups around it, unless they are there.
    pub(super) fn know(&mut self, path: &str, is_group: bool) -> u64 {
        if let Some((group, _)) = path.rsplit_once('/') {
            self.know(group, true);
        }
        if let Some(known) = self.namespaces.values().find(|known| known.path == path) {
            return known.id;
        }
        let id = self.new_id();
        let token = format!("GR1348941{}", clock::random_of(clock::ALPHANUMERIC, 20));
        self.wire.secret(token.clone());
        self.namespaces.insert(
            id,
            Namespace {
                id,
                path: path.into(),
                is_group,
                runners_token: token,
            },
        );
        id
    }

    /// The group or project with this id or path.
    pub(super) fn namespace(&self, id: &str, is_group: bool) -> Option<&Namespace> {
        let number: Option<u64> = id.parse().ok();
        self.namespaces.values().find(|known| {
            known.is_group == is_group && (Some(known.id) == number || known.path == id)
        })
    }

    pub(super) fn owner(&self, id: u64, is_group: bool) -> Option<Owner> {
        let found = self.namespaces.get(&id)?;
        (found.is_group == is_group).then(|| Owner {
            id,
            path: found.path.clone(),
            is_group,
        })
    }

    // --- Runners.

    fn show_runner(&self, name: &str, state: &str) {
        self.wire.emit(Event::Runner {
            name: name.into(),
            state: state.into(),
        });
    }

    /// The record with this id, unless it is gone.
    pub(super) fn runner(&self, id: u64) -> Option<&Runner> {
        self.runners.get(&id).filter(|runner| !runner.removed)
    }

    pub(super) fn runner_by_token(&mut self, token: &str) -> Option<&mut Runner> {
        self.runners
            .values_mut()
            .find(|runner| !runner.removed && runner.token == token)
    }

    pub(super) fn runner_views(&self) -> Vec<GitLabRunnerView> {
        let present = self.runners.values().filter(|runner| !runner.removed);
        present
            .map(|runner| runner.view(self.is_busy(runner)))
            .collect()
    }

    /// Whether a runner has a job.
    pub(super) fn is_busy(&self, runner: &Runner) -> bool {
        if let Some((_, busy)) = runner.foreign {
            return busy;
        }
        let mut jobs = self.pipelines.values().flat_map(|pipeline| &pipeline.jobs);
        jobs.any(|job| {
            let owner = job.runner.as_ref().map(|(id, _)| *id);
            job.is_running() && owner == Some(runner.id)
        })
    }

    pub(super) fn add_runner(&mut self, new: NewRunner) -> u64 {
        let id = self.new_id();
        let token = format!(
            "{}{}",
            new.token_prefix,
            clock::random_of(clock::ALPHANUMERIC, 20)
        );
        self.wire.secret(token.clone());
        self.show_runner(&new.description, "registered");
        self.runners.insert(
            id,
            Runner {
                id,
                description: new.description,
                owner: new.owner,
                tags: new.tags,
                paused: new.paused,
                locked: new.locked,
                run_untagged: new.run_untagged,
                access_level: new.access_level,
                maximum_timeout: new.maximum_timeout,
                maintenance_note: new.maintenance_note,
                token,
                created: clock::now(),
                contacted: None,
                version: None,
                executor: None,
                system_id: None,
                cancels_gracefully: false,
                waiting: 0,
                foreign: None,
                removed: false,
                shown_online: false,
            },
        );
        id
    }

    /// Removes a record, whether it has a job or not; the job goes on.
    pub(super) fn remove_runner(&mut self, id: u64) {
        if let Some(runner) = self.runners.get_mut(&id)
            && !runner.removed
        {
            runner.removed = true;
            let name = runner.description.clone();
            self.show_runner(&name, "removed");
        }
    }

    /// Notes that a runner's program has called.
    pub(super) fn heartbeat(&mut self, id: u64) {
        let mut came = None;
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.contacted = Some((clock::now(), Instant::now()));
            if !runner.shown_online && !runner.removed {
                runner.shown_online = true;
                came = Some(runner.description.clone());
            }
        }
        if let Some(name) = came {
            self.show_runner(&name, "online");
        }
    }

    /// As if so much time had passed since anybody called that nobody counts as online.
    pub(super) fn forget_contacts(&mut self) {
        for runner in self.runners.values_mut() {
            if let Some((_, at)) = &mut runner.contacted
                && let Some(long_ago) = at.checked_sub(super::records::ONLINE_FOR)
            {
                *at = long_ago;
            }
            runner.shown_online = false;
        }
    }

    // --- Pipelines.

    fn show_job(&self, pipeline: u64, job: &Job) {
        let state = match job.is_over() {
            true => format!("completed: {}", job.status),
            false => job.status.into(),
        };
        self.wire.emit(Event::Job {
            name: job.name.clone(),
            run_id: pipeline,
            state,
        });
    }

    /// Adds a pipeline of one job.
    pub(super) fn queue_pipeline(
        &mut self,
        project: &str,
        name: &str,
        tags: &[String],
        script: JobScript,
    ) -> u64 {
        let project_id = self.know(project, false);
        let (id, job_id) = (self.new_id(), self.new_id());
        let job = Job::new(job_id, 1, name, tags, script);
        self.show_job(id, &job);
        let now = clock::now();
        let number = self.pipelines.len() as u64 + 1;
        self.pipelines.insert(
            id,
            Pipeline {
                id,
                number,
                project: project.into(),
                project_id,
                created: now,
                updated: now,
                jobs: vec![job],
            },
        );
        id
    }

    pub(super) fn add_job(
        &mut self,
        pipeline: u64,
        name: &str,
        tags: &[String],
        script: JobScript,
    ) -> u64 {
        let job = Job::new(self.new_id(), 1, name, tags, script);
        self.show_job(pipeline, &job);
        let id = job.id;
        if let Some(pipeline) = self.pipelines.get_mut(&pipeline) {
            pipeline.jobs.push(job);
        }
        id
    }

    pub(super) fn pipeline_views(&self) -> Vec<PipelineView> {
        self.pipelines.values().map(Pipeline::view).collect()
    }

    pub(super) fn job_mut(&mut self, id: u64) -> Option<&mut Job> {
        let mut jobs = self
            .pipelines
            .values_mut()
            .flat_map(|pipeline| &mut pipeline.jobs);
        jobs.find(|job| job.id == id)
    }

    /// A job with its pipeline.
    pub(super) fn job(&self, id: u64) -> Option<(&Pipeline, &Job)> {
        let mut jobs = self
            .pipelines
            .values()
            .flat_map(|pipeline| pipeline.jobs.iter().map(move |job| (pipeline, job)));
        jobs.find(|(_, job)| job.id == id)
    }

    /// Runs jobs again; the answers are the new tries' ids.
    pub(super) fn retry(&mut self, pipeline: u64, jobs: &[u64]) -> Vec<u64> {
        let Some(mut found) = self.pipelines.remove(&pipeline) else {
            return Vec::new();
        };
        let again: Vec<Job> = found
            .jobs
            .iter()
            .filter(|job| jobs.contains(&job.id))
            .map(|job| {
                let id = self.new_id();
                let script = job.script.clone();
                Job::new(id, job.attempt + 1, &job.name, &job.tags, script)
            })
            .collect();
        for job in &again {
            self.show_job(pipeline, job);
        }
        let ids = again.iter().map(|job| job.id).collect();
        found.updated = clock::now();
        found.jobs.extend(again);
        self.pipelines.insert(pipeline, found);
        ids
    }

    /// Cancels a job: what waits ends now. What runs ends when its runner has ended it, where that
    /// can; else now, too.
    pub(super) fn cancel(&mut self, id: u64, by_force: bool) {
        let Some((pipeline, job)) = self.job(id) else {
            return;
        };
        let pipeline = pipeline.id;
        let waits_for_runner = job.runner.as_ref().is_some_and(|(runner, _)| {
            let runner = self.runners.get(runner);
            runner.is_some_and(|runner| runner.cancels_gracefully)
        });
        if job.is_over() {
            return;
        }
        if job.is_running() && waits_for_runner && !by_force {
            if let Some(job) = self.job_mut(id) {
                job.status = "canceling";
            }
            self.show_job_of(pipeline, id);
            return;
        }
        self.end_job(id, "canceled", None);
    }

    fn show_job_of(&self, pipeline: u64, id: u64) {
        if let Some(pipeline) = self.pipelines.get(&pipeline)
            && let Some(job) = pipeline.jobs.iter().find(|job| job.id == id)
        {
            self.show_job(pipeline.id, job);
        }
    }

    /// Ends a job.
    pub(super) fn end_job(&mut self, id: u64, status: &'static str, why: Option<&str>) {
        let now = clock::now();
        let Some(pipeline) = self
            .pipelines
            .values_mut()
            .find(|pipeline| pipeline.jobs.iter().any(|job| job.id == id))
        else {
            return;
        };
        let Some(job) = pipeline.jobs.iter_mut().find(|job| job.id == id) else {
            return;
        };
        if job.is_over() {
            return;
        }
        // However a job ends that is being cancelled, it is cancelled.
        job.status = if job.status == "canceling" {
            "canceled"
        } else {
            status
        };
        job.failure_reason =
            (job.status == "failed").then(|| why.unwrap_or("unknown_failure").into());
        job.finished = Some(now);
        pipeline.updated = now;
        let (pipeline, runner) = (pipeline.id, job.runner.clone());
        self.show_new_lines(id, true);
        self.show_job_of(pipeline, id);
        if let Some((runner, name)) = runner
            && self.runner(runner).is_some()
        {
            self.show_runner(&name, "online");
        }
    }

    /// Takes a part of a job's log, which begins at byte `offset`; says how long the log is then,
    /// or, as an error, that it ends before.
    pub(super) fn append(&mut self, id: u64, offset: usize, part: &[u8]) -> Result<usize, usize> {
        let Some(job) = self.job_mut(id) else {
            return Err(0);
        };
        if offset > job.log.len() {
            return Err(job.log.len());
        }
        // A part that is sent again replaces itself.
        job.log.truncate(offset);
        job.log.extend_from_slice(part);
        job.heard = Instant::now();
        let length = job.log.len();
        self.show_new_lines(id, false);
        Ok(length)
    }

    fn show_new_lines(&mut self, id: u64, unfinished_too: bool) {
        let Some(job) = self.job_mut(id) else {
            return;
        };
        let lines = job.output();
        let finished = if job.log.ends_with(b"\n") || unfinished_too {
            lines.len()
        } else {
            lines.len().saturating_sub(1)
        };
        let from = job.lines_shown;
        job.lines_shown = from.max(finished);
        let name = job.name.clone();
        for line in lines.get(from..finished).unwrap_or_default() {
            self.wire.emit(Event::JobOutput {
                name: name.clone(),
                line: line.clone(),
            });
        }
    }

    /// Gives a runner the oldest waiting job that it takes; the answer is the job's id.
    pub(super) fn assign(&mut self, runner: u64) -> Option<u64> {
        let runner = self.runner(runner)?;
        let (id, name) = (runner.id, runner.description.clone());
        let waiting = self.pipelines.values().find_map(|pipeline| {
            let mut jobs = pipeline.latest().filter(|job| job.status == "pending");
            let job = jobs.find(|job| runner.takes(job, &pipeline.project))?;
            Some((pipeline.id, job.id))
        });
        let (pipeline, job_id) = waiting?;
        let now = clock::now();
        if let Some(job) = self.job_mut(job_id) {
            job.status = "running";
            job.started = Some(now);
            job.heard = Instant::now();
            job.runner = Some((id, name.clone()));
        }
        if let Some(pipeline) = self.pipelines.get_mut(&pipeline) {
            pipeline.updated = now;
        }
        self.show_runner(&name, "busy");
        self.show_job_of(pipeline, job_id);
        Some(job_id)
    }

    /// Fails the jobs whose runners are gone.
    pub(super) fn bury_the_stuck(&mut self) {
        let stuck: Vec<u64> = self
            .pipelines
            .values()
            .flat_map(|pipeline| &pipeline.jobs)
            .filter(|job| job.is_running() && job.heard.elapsed() >= STUCK_AFTER)
            .map(|job| job.id)
            .collect();
        for job in stuck {
            self.end_job(job, "failed", Some("stuck_or_timeout_failure"));
        }
    }
}
