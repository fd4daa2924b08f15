//! How runners, sessions, workflow runs and jobs move from one state to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access::Access;
use super::records::{
    Assignment, Job, Label, NewRunner, ONLINE_GRACE, Removed, Run, Runner, Scope, Session,
    environment,
};
use super::{JobScript, RunView, RunnerView};
use crate::calls::{Event, Wire};
use crate::clock;

/// How long the runner of a job may be silent before the job is given up. (GitHub waits for about
/// ten minutes.)
const LOST_AFTER: Duration = Duration::from_secs(2);

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    wire: Arc<Wire>,
    /// The fake's own address.
    pub(super) url: String,
    pub(super) access: Access,
    /// Repositories and organisations that exist.
    pub(super) scopes: BTreeSet<Scope>,
    pub(super) runners: BTreeMap<u64, Runner>,
    pub(super) runs: BTreeMap<u64, Run>,
    /// Whether the server knows just-in-time configurations.
    pub(super) offers_jit: bool,
    next_id: u64,
}

impl State {
    pub(super) fn new(wire: Arc<Wire>, access: Access) -> Self {
        State {
            wire,
            url: String::new(),
            access,
            scopes: ["octo", "octo/repo"].map(Scope::from).into(),
            runners: BTreeMap::new(),
            runs: BTreeMap::new(),
            offers_jit: true,
            next_id: 1000,
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A name that is mentioned exists from then on, as does its owner.
    pub(super) fn know(&mut self, scope: &str) {
        if let Some((owner, _)) = scope.split_once('/') {
            self.scopes.insert(owner.into());
        }
        self.scopes.insert(scope.into());
    }

    fn show_runner(&self, name: &str, state: &str) {
        self.wire.emit(Event::Runner {
            name: name.into(),
            state: state.into(),
        });
    }

    fn show_job(&self, run_id: u64, job: &Job) {
        let state = match job.conclusion {
            Some(conclusion) => format!("{}: {conclusion}", job.status),
            None => job.status.into(),
        };
        self.wire.emit(Event::Job {
            name: job.name.clone(),
            run_id,
            state,
        });
    }

    // --- Runners.

    /// The record with this id, unless it is gone.
    pub(super) fn runner(&self, scope: &str, id: u64) -> Option<&Runner> {
        let runner = self.runners.get(&id)?;
        (runner.removed.is_none() && runner.scope == scope).then_some(runner)
    }

    /// All records of a repository or organisation, oldest first.
    pub(super) fn runners_of(&self, scope: &str) -> impl Iterator<Item = &Runner> {
        self.runners
            .values()
            .filter(move |runner| runner.removed.is_none() && runner.scope == scope)
    }

    pub(super) fn runner_views(&self) -> Vec<RunnerView> {
        let present = self.runners.values().filter(|r| r.removed.is_none());
        present.map(Runner::view).collect()
    }

    /// Makes a record; the caller has checked that the name is free.
    pub(super) fn add_runner(&mut self, new: NewRunner) -> u64 {
        let id = self.new_id();
        let labels = new
            .labels
            .into_iter()
            .map(|name| Label {
                id: self.new_id(),
                read_only: ["self-hosted", "linux", "x64", "arm64"]
                    .contains(&name.to_ascii_lowercase().as_str()),
                name,
            })
            .collect();
        let credential = clock::random_of(clock::ALPHANUMERIC, 64);
        self.wire.secret(credential.clone());
        self.show_runner(&new.name, "registered");
        self.runners.insert(
            id,
            Runner {
                id,
                name: new.name,
                scope: new.scope,
                labels,
                ephemeral: new.ephemeral,
                group: new.group,
                jit: new.jit,
                credential,
                session: None,
                connected_once: false,
                job: None,
                removed: None,
                foreign: None,
                shown_online: false,
            },
        );
        id
    }

    pub(super) fn remove_runner(&mut self, id: u64, why: Removed) {
        if let Some(runner) = self.runners.get_mut(&id)
            && runner.removed.is_none()
        {
            runner.removed = Some(why);
            let name = runner.name.clone();
            self.show_runner(&name, "removed");
        }
    }

    pub(super) fn runner_by_credential(&mut self, credential: &str) -> Option<&mut Runner> {
        self.runners
            .values_mut()
            .find(|runner| runner.credential == credential)
    }

    /// Connects a runner's program.
    ///
    /// # Errors
    /// The HTTP status of the refusal: 401 when the record is gone or its only session used up,
    /// 409 when another program is connected.
    pub(super) fn open_session(&mut self, credential: &str, nonce: &str) -> Result<String, u16> {
        let runner = self.runner_by_credential(credential).ok_or(401u16)?;
        if runner.removed.is_some() {
            return Err(401);
        }
        if let Some(session) = &runner.session {
            if session.nonce == nonce {
                return Ok(session.id.clone());
            }
            if session.alive(ONLINE_GRACE) {
                return Err(409);
            }
        }
        if runner.jit && runner.connected_once {
            return Err(401);
        }
        runner.connected_once = true;
        let stale = runner.session.replace(Session::new(nonce));
        let runner_id = runner.id;
        let id = runner.session.as_ref().map(|session| session.id.clone());
        if let Some(stale) = stale {
            self.take_back(runner_id, &stale);
        }
        self.settle();
        id.ok_or(401)
    }

    /// The session of a runner that is still to be talked to.
    pub(super) fn session(&mut self, credential: &str, id: &str) -> Option<&mut Session> {
        let runner = self.runner_by_credential(credential)?;
        if runner.removed == Some(Removed::Asked) {
            return None;
        }
        let session = runner.session.as_mut()?;
        (session.id == id).then_some(session)
    }

    pub(super) fn close_session(&mut self, credential: &str, nonce: &str) {
        if let Some(runner) = self.runner_by_credential(credential)
            && let Some(session) = runner.session.take_if(|session| session.nonce == nonce)
        {
            let id = runner.id;
            self.take_back(id, &session);
        }
        self.settle();
    }

    /// A job that a session ended without having got waits again.
    fn take_back(&mut self, runner: u64, session: &Session) {
        let Some(runner) = self.runners.get_mut(&runner) else {
            return;
        };
        let unknown = |assigned: &mut Assignment| {
            assigned.session == session.id && session.holds(&format!("job {}\n", assigned.job))
        };
        if let Some(assigned) = runner.job.take_if(unknown)
            && let Some(job) = self.job_mut(assigned.job)
        {
            job.status = "queued";
            job.started = None;
            job.runner = None;
        }
    }

    // --- Workflow runs.

    pub(super) fn queue_run(
        &mut self,
        repository: &str,
        name: &str,
        labels: &[String],
        script: JobScript,
    ) -> u64 {
        self.know(repository);
        let (id, job_id) = (self.new_id(), self.new_id());
        let job = Job::new(job_id, 1, name, labels, script);
        self.show_job(id, &job);
        let now = clock::now();
        let number = self.runs.len() as u64 + 1;
        self.runs.insert(
            id,
            Run {
                id,
                number,
                repository: repository.into(),
                attempt: 1,
                created: now,
                updated: now,
                jobs: vec![job],
            },
        );
        self.settle();
        id
    }

    /// Runs all jobs again (`only_failed`: those that didn't end well); the caller has checked
    /// that the run has ended.
    pub(super) fn rerun(&mut self, id: u64, only_failed: bool) {
        let Some(mut run) = self.runs.remove(&id) else {
            return;
        };
        let attempt = run.attempt + 1;
        let again: Vec<Job> = run
            .latest()
            .filter(|job| !only_failed || job.conclusion != Some("success"))
            .map(|job| {
                let id = self.new_id();
                Job::new(id, attempt, &job.name, &job.labels, job.script.clone())
            })
            .collect();
        for job in &again {
            self.show_job(id, job);
        }
        run.attempt = attempt;
        run.updated = clock::now();
        run.jobs.extend(again);
        self.runs.insert(id, run);
        self.settle();
    }

    /// Cancels a run: what waits ends now, what runs ends when its runner has obeyed, or now when
    /// forced.
    pub(super) fn cancel(&mut self, id: u64, by_force: bool) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        let (mut ended, mut told) = (Vec::new(), Vec::new());
        for job in run.jobs.iter_mut().filter(|job| job.status != "completed") {
            let asked_before = std::mem::replace(&mut job.cancelled, true);
            if job.status == "queued" || by_force {
                ended.push(job.id);
            }
            if let (Some((runner, _)), false) = (&job.runner, asked_before) {
                told.push((*runner, job.id));
            }
        }
        for (runner, job) in told {
            self.tell(runner, format!("cancel {job}"));
        }
        for job in ended {
            self.end_job(job, "cancelled", None);
        }
        self.settle();
    }

    pub(super) fn job_mut(&mut self, id: u64) -> Option<&mut Job> {
        let mut jobs = self.runs.values_mut().flat_map(|run| &mut run.jobs);
        jobs.find(|job| job.id == id)
    }

    /// Ends a job: its runner is free again, or gone if it was for one job.
    pub(super) fn end_job(&mut self, id: u64, conclusion: &'static str, why: Option<&str>) {
        let now = clock::now();
        let Some(run) = self
            .runs
            .values_mut()
            .find(|run| run.jobs.iter().any(|job| job.id == id))
        else {
            return;
        };
        run.updated = now;
        let run_id = run.id;
        let Some(job) = run.jobs.iter_mut().find(|job| job.id == id) else {
            return;
        };
        if job.status == "completed" {
            return;
        }
        job.status = "completed";
        job.conclusion = Some(conclusion);
        job.annotation = why.map(str::to_owned);
        job.completed = Some(now);
        let runner = job.runner.clone();
        self.show_new_lines(id, true);
        if let Some(job) = self
            .runs
            .get(&run_id)
            .and_then(|r| r.jobs.iter().find(|j| j.id == id))
        {
            self.show_job(run_id, job);
        }
        let Some((runner, _)) = runner else {
            return;
        };
        self.tell(runner, format!("done {id}"));
        let Some(runner) = self.runners.get_mut(&runner) else {
            return;
        };
        runner.job.take_if(|assigned| assigned.job == id);
        let (runner, name, ephemeral) = (runner.id, runner.name.clone(), runner.ephemeral);
        // A runner that is lost is not known to be done: its record stays until it is removed.
        if ephemeral && why.is_none() {
            self.remove_runner(runner, Removed::JobDone);
        } else if self.runners.get(&runner).is_some_and(Runner::online) {
            self.show_runner(&name, "online");
        }
        self.settle();
    }

    /// Takes a part of a job's log, which begins at byte `offset`.
    pub(super) fn add_output(&mut self, id: u64, offset: usize, part: &[u8]) {
        if let Some(job) = self.job_mut(id)
            && offset <= job.log.len()
        {
            // A part that is sent again replaces itself.
            job.log.truncate(offset);
            job.log.extend_from_slice(part);
        }
        self.show_new_lines(id, false);
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

    pub(super) fn set_environment(&mut self, id: u64, environment: Vec<String>) {
        if let Some(job) = self.job_mut(id) {
            job.environment = environment;
        }
    }

    pub(super) fn run_views(&self) -> Vec<RunView> {
        self.runs.values().map(Run::view).collect()
    }

    pub(super) fn run_view(&self, id: u64) -> Option<RunView> {
        self.runs.get(&id).map(Run::view)
    }

    // --- What follows by itself.

    fn tell(&mut self, runner: u64, text: String) {
        if let Some(session) = self
            .runners
            .get_mut(&runner)
            .and_then(|runner| runner.session.as_mut())
        {
            session.send(text);
        }
    }

    /// Shows who came or went, and gives waiting jobs to idle runners.
    pub(super) fn settle(&mut self) {
        let mut changed = Vec::new();
        for runner in self.runners.values_mut() {
            if let Some(session) = &mut runner.session {
                if session.waiting > 0 {
                    session.last_seen = Instant::now();
                }
                if let Some(assigned) = &mut runner.job
                    && assigned.session == session.id
                {
                    assigned.last_seen = session.last_seen;
                }
            }
            let online = runner.online();
            if online != runner.shown_online && runner.removed.is_none() {
                runner.shown_online = online;
                changed.push((
                    runner.name.clone(),
                    if online { "online" } else { "offline" },
                ));
            }
        }
        for (name, state) in changed {
            self.show_runner(&name, state);
        }
        self.assign();
    }

    /// Fails the jobs whose runners are gone.
    pub(super) fn bury_the_lost(&mut self) {
        self.settle();
        let lost: Vec<(u64, String)> = self
            .runners
            .values()
            .filter_map(|runner| Some((runner.job.as_ref()?, &runner.name)))
            .filter(|(assigned, _)| assigned.last_seen.elapsed() >= LOST_AFTER)
            .map(|(assigned, name)| (assigned.job, name.clone()))
            .collect();
        for (job, name) in lost {
            let cancelled = self.job_mut(job).is_some_and(|job| job.cancelled);
            let why = format!(
                "The self-hosted runner: {name} lost communication with the server. Verify the \
                 machine is running and has a healthy network connection."
            );
            self.end_job(
                job,
                if cancelled { "cancelled" } else { "failure" },
                Some(&why),
            );
        }
    }

    fn assign(&mut self) {
        let waiting: Vec<(u64, u64)> = self
            .runs
            .values()
            .flat_map(|run| run.latest().map(move |job| (run.id, job)))
            .filter(|(_, job)| job.status == "queued")
            .map(|(run, job)| (run, job.id))
            .collect();
        for (run_id, job_id) in waiting {
            let Some(run) = self.runs.get_mut(&run_id) else {
                continue;
            };
            let Some(at) = run.jobs.iter().position(|job| job.id == job_id) else {
                continue;
            };
            let Some(runner) = self
                .runners
                .values_mut()
                .find(|runner| runner.takes(&run.jobs[at], &run.repository))
            else {
                continue;
            };
            let Some(session) = &runner.session else {
                continue;
            };
            runner.job = Some(Assignment {
                job: job_id,
                session: session.id.clone(),
                last_seen: Instant::now(),
            });
            let (runner_id, name) = (runner.id, runner.name.clone());
            run.updated = clock::now();
            let job = &mut run.jobs[at];
            job.status = "in_progress";
            job.started = Some(run.updated);
            job.runner = Some((runner_id, name.clone()));
            let job = &run.jobs[at];
            let variables = environment(&self.url, run, job);
            let message = format!("job {job_id}\n{}\n{variables}", job.name);
            self.tell(runner_id, message);
            self.show_runner(&name, "busy");
            if let Some(job) = self.runs.get(&run_id).and_then(|run| run.jobs.get(at)) {
                self.show_job(run_id, job);
            }
        }
    }
}
