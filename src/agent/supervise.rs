//! The life of the runner program: ready, idle, at work, interrupted, ended.

use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Agent;
use super::config::Place;
use super::daemon;
use super::endings::{Ending, Endings};
use super::machine;
use super::process::{Process, complete, has_bash, image_path, reap_orphans};
use crate::error::{Error, Result, Signal};
use crate::forge::{Enrolment, ImageShell, LogEvent, Surroundings, Unregistered};

/// How long the runner program may take to register itself.
const SETUP: Duration = Duration::from_secs(120);
/// A job is given up this long before the forge's limit, to be run again.
const LIMIT_MARGIN: Duration = Duration::from_secs(300);
/// How often the forge may refuse a runner before it is believed; the program itself waits minutes
/// in between.
const REFUSALS: u32 = 2;
/// Lines of the program's output that an error shows.
const SHOWN_LINES: usize = 5;

/// Why a runner ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Its one job is done.
    Done,
    /// No job came.
    Idle,
    /// A signal.
    Signal(Signal),
    /// The machine's power button.
    PowerButton,
    /// The cloud takes away what the runner lives in; how it says so.
    Interruption(String),
    /// The cloud may soon take the machine away, and no job is lost by ending now.
    Rebalance,
    /// The forge's limit for a job is near.
    JobLimit,
    /// Somebody has removed its record at the forge.
    Refused,
    /// The runner program ended by itself.
    Program(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Done => f.write_str("its job is done"),
            Why::Idle => f.write_str("no job came in time"),
            Why::Signal(signal) => write!(f, "{}", signal.name()),
            Why::PowerButton => f.write_str("the power button was pressed"),
            Why::Interruption(detail) => f.write_str(detail),
            Why::Rebalance => f.write_str("the cloud may soon take the machine back"),
            Why::JobLimit => f.write_str("the job comes near the forge's time limit"),
            Why::Refused => f.write_str("the forge doesn't know the runner any more"),
            Why::Program(how) => write!(f, "the runner program ended: {how}"),
        }
    }
}

/// What the supervisor knows of the runner program.
struct Watch {
    program: Pid,
    ready: bool,
    /// When the present job began.
    job_since: Option<Instant>,
    /// When the wait for a job began.
    idle_since: Instant,
    jobs_done: usize,
    rebalance: bool,
    /// Whether the program has said that it ends because no job came.
    idle: bool,
    refusals: u32,
    tail: Vec<String>,
    /// Files that the program has no more need of once it is ready.
    files: Vec<String>,
}

impl Agent {
    /// Configures and starts the program, and waits for a reason to end. The program is in
    /// `process` then, and still runs unless it is the reason.
    pub(super) async fn run_program(
        &mut self,
        process: &mut Option<Process>,
        endings: &mut Endings,
        ready_within: Option<Duration>,
        on_ready: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<Why> {
        let enrolment = Enrolment {
            name: &self.config.name,
            labels: &self.config.labels,
            single: self.config.single,
            arch: None,
            pinned: self.config.version.is_some(),
        };
        let lasting = matches!(self.config.place, Place::Local { .. });
        let pod = matches!(self.config.place, Place::Pod { .. });
        let has_docker = match self.layout.user.as_mut().filter(|_| pod) {
            Some(user) => tokio::select! {
                serves = daemon::serves(&self.host, user) => serves,
                ending = endings.next() => return Ok(why(ending)),
            },
            None => machine::has_docker(&self.host, !lasting).await,
        };
        let gpu = machine::has_gpu(&self.host);
        let surroundings = Surroundings {
            idle_timeout: self.config.idle_timeout(),
            docker: &self.config.docker,
            has_docker,
            gpu,
            gpu_in_containers: gpu && has_docker && machine::gives_gpus(&self.host, pod).await,
            lasting,
            icu: !pod || machine::has_icu(&self.host),
            image: pod.then(|| ImageShell {
                path: image_path(&self.host),
                bash: has_bash(&self.host),
            }),
        };
        let start = self
            .forge
            .start(&enrolment, &self.config.registration, &surroundings);
        for file in &start.files {
            self.layout.write_private(&file.name, &file.content)?;
        }
        let hook = self.forge.job_hook(&self.layout.note.display().to_string());
        if let Some((_, script)) = &hook {
            self.layout.install_hook(script)?;
        }
        if let Some(setup) = &start.setup {
            let setup = process.insert(Process::start(setup, &self.layout, None, &self.host)?);
            tokio::select! {
                done = complete(setup, SETUP) => done?,
                ending = endings.next() => return Ok(why(ending)),
            }
        }
        let id = self
            .config
            .registration
            .runner_id
            .or_else(|| self.forge.registered_id(&self.layout.program));
        self.kept.change(|state| state.runner_id = id);
        let hook = hook.as_ref().map(|(name, _)| *name);
        let process = process.insert(Process::start(&start.run, &self.layout, hook, &self.host)?);
        let program = process.id().as_raw();
        self.kept.change(|state| state.program = Some(program));
        let files = start.files.into_iter().map(|file| file.name).collect();
        self.watch(process, endings, ready_within, files, on_ready)
            .await
    }

    async fn watch(
        &mut self,
        process: &mut Process,
        endings: &mut Endings,
        ready_within: Option<Duration>,
        files: Vec<String>,
        on_ready: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<Why> {
        let started = Instant::now();
        let mut watch = Watch {
            program: process.id(),
            ready: false,
            job_since: None,
            idle_since: started,
            jobs_done: 0,
            rebalance: false,
            idle: false,
            refusals: 0,
            tail: Vec::new(),
            files,
        };
        let (_never, empty) = mpsc::channel(1);
        let mut lines = std::mem::replace(&mut process.lines, empty);
        loop {
            let idle_end = self.idle_end(&watch);
            let job_end = self.job_end(&watch);
            let late = ready_within
                .filter(|_| !watch.ready)
                .map(|limit| started + limit);
            tokio::select! {
                Some(line) = lines.recv() => {
                    self.read_line(&line, &mut watch, on_ready)?;
                }
                status = process.ended() => {
                    return self.program_ended(status?, &mut lines, &mut watch, on_ready).await;
                }
                () = at(idle_end) => {
                    if self.may_end_idle().await {
                        return Ok(Why::Idle);
                    }
                    watch.idle_since = Instant::now();
                }
                () = at(job_end) => return Ok(Why::JobLimit),
                () = at(late) => {
                    return Err(not_ready(format!("not ready within {:?}", ready_within.unwrap_or_default()), &watch));
                }
                ending = endings.next() => match ending {
                    Ending::Rebalance(detail) => {
                        tracing::warn!("the cloud may soon take this machine back ({detail})");
                        watch.rebalance = true;
                    }
                    ending => return Ok(why(ending)),
                },
            }
            if watch.rebalance && watch.job_since.is_none() && watch.jobs_done > 0 {
                return Ok(Why::Rebalance);
            }
            if watch.refusals >= REFUSALS {
                return Ok(Why::Refused);
            }
        }
    }

    fn idle_end(&self, watch: &Watch) -> Option<Instant> {
        let waiting = watch.ready && watch.job_since.is_none();
        let finished = self.config.single && watch.jobs_done > 0;
        let limit = self
            .config
            .idle_timeout()
            .filter(|_| waiting && !finished)?;
        Some(watch.idle_since + limit + self.forge.idle_margin())
    }

    fn job_end(&self, watch: &Watch) -> Option<Instant> {
        let limit = self.forge.job_limit().filter(|_| self.config.retry)?;
        Some(watch.job_since? + limit.saturating_sub(LIMIT_MARGIN))
    }

    fn read_line(
        &mut self,
        line: &str,
        watch: &mut Watch,
        on_ready: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<()> {
        tracing::debug!("runner: {line}");
        if watch.tail.len() == SHOWN_LINES {
            watch.tail.remove(0);
        }
        watch.tail.push(line.trim().to_owned());
        match self.forge.read_log(line) {
            Some(LogEvent::Ready) if !watch.ready => {
                watch.ready = true;
                watch.idle_since = Instant::now();
                for file in watch.files.drain(..) {
                    let _ = std::fs::remove_file(self.layout.program.join(file));
                }
                on_ready()?;
                self.reporter.ready();
            }
            Some(LogEvent::Started { job }) => {
                watch.job_since = Some(Instant::now());
                watch.refusals = 0;
                self.reporter
                    .job_started(job.name.as_deref().unwrap_or_default());
                self.kept.change(|state| state.job = Some(job));
            }
            // An end may be told in several lines.
            Some(LogEvent::Ended { success }) if watch.job_since.is_some() => {
                watch.job_since = None;
                watch.idle_since = Instant::now();
                watch.jobs_done += 1;
                let job = self.kept.get().job.clone().unwrap_or_default();
                self.reporter
                    .job_ended(job.name.as_deref().unwrap_or_default(), success);
                self.kept.change(|state| state.job = None);
                reap_orphans(watch.program);
                // The next job writes its own, and must not be taken for this one.
                let _ = std::fs::remove_file(&self.layout.note);
            }
            Some(LogEvent::Idle) => {
                // A job that was cancelled before it began has no end of its own.
                watch.job_since = None;
                watch.idle = true;
                self.kept.change(|state| state.job = None);
            }
            Some(LogEvent::Refused) => watch.refusals += 1,
            Some(LogEvent::Ready | LogEvent::Ended { .. }) | None => {}
        }
        Ok(())
    }

    async fn program_ended(
        &mut self,
        status: ExitStatus,
        lines: &mut mpsc::Receiver<String>,
        watch: &mut Watch,
        on_ready: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<Why> {
        // Its last words; whatever it started may hold the pipes open for longer.
        while let Ok(Some(line)) = timeout(Duration::from_millis(500), lines.recv()).await {
            self.read_line(&line, watch, on_ready)?;
        }
        if !watch.ready {
            return Err(not_ready(
                format!("the runner program ended with {status}"),
                watch,
            ));
        }
        if self.config.single && watch.jobs_done > 0 {
            return Ok(Why::Done);
        }
        if watch.idle && status.success() {
            return Ok(Why::Idle);
        }
        Ok(Why::Program(status.to_string()))
    }

    /// Takes the record away before ending, so that no job is sent here any more. A forge that
    /// sees a job where we see none is right.
    async fn may_end_idle(&mut self) -> bool {
        match self.unregister().await {
            Ok(Unregistered::Done) => true,
            Ok(Unregistered::Busy) => {
                tracing::info!("the forge says that a job runs here; staying");
                false
            }
            Err(error) => {
                // A forge that can't be reached sends no jobs: better to end than to cost.
                tracing::warn!("{}; ending all the same", error.chain());
                true
            }
        }
    }
}

pub(super) fn why(ending: Ending) -> Why {
    match ending {
        Ending::Signal(signal) => Why::Signal(signal),
        Ending::PowerButton => Why::PowerButton,
        Ending::Interruption(detail) => {
            Why::Interruption(format!("the cloud takes the machine back: {detail}"))
        }
        Ending::PodEnd => Why::Interruption(
            "the cluster ends the pod: it is evicted, its node is drained, or its Job is deleted"
                .to_owned(),
        ),
        Ending::Rebalance(_) => Why::Rebalance,
    }
}

/// Sleeps until then; for ever where there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn not_ready(what: String, watch: &Watch) -> Error {
    let said = watch.tail.join(" / ");
    Error::new(
        crate::error::Kind::NotReady,
        format!("starting the runner: {what}; it said: {said}"),
    )
}
