//! The life of a runner, beside the CI's runner program: install it, register it, watch it, end
//! it, give the machine back.

mod config;
mod daemon;
mod endings;
mod giving_back;
mod layout;
mod machine;
mod process;
mod procfs;
mod program;
mod provided;
mod state;
mod status;
mod supervise;
#[cfg(test)]
mod tests;
mod user;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

pub use config::{AgentConfig, Place};
pub(crate) use program::hex;
pub(crate) use status::READY;
#[cfg(test)]
pub(crate) use tests::CHILDREN;

use crate::cloud::GiveBack;
use crate::error::{Error, Kind, Result};
use crate::forge::{self, Forge, JobRef, Unregistered};
use crate::host::Host;
use crate::http::Http;
use crate::pipeline::Printer;
use crate::signals::Signals;
use endings::Endings;
use layout::Layout;
use process::{Process, adopt_orphans};
use state::Kept;
use status::Reporter;
use supervise::Why;

/// The timer that ends a machine without a ready agent; armed by the bootstrap script.
const DEAD_MAN: &str = "runner-launch-deadline.timer";
/// How long the runner program may take to end when asked; it reports its job's end meanwhile.
const GRACE: Duration = Duration::from_secs(20);
/// The same when the cloud takes the machine away: Google Cloud, Azure and Kubernetes leave half a
/// minute, in which an interrupted run must be told to run again.
const SHORT_GRACE: Duration = Duration::from_secs(8);
/// The same on somebody's own machine, where nobody else removes a job's containers: their client
/// waits ten seconds for each to stop.
/// <https://docs.docker.com/reference/cli/docker/container/stop/>
const LASTING_GRACE: Duration = Duration::from_secs(30);
/// How long an interrupted run may take to end after its cancellation. A spot notice leaves two
/// minutes, and the service manager three.
const PATIENCE: Duration = Duration::from_secs(75);
/// How long the cloud may take to hear that it is to delete the machine. What cleaning up leaves of
/// its time comes on top: a machine that isn't allowed yet asks again.
const DELETION: Duration = Duration::from_secs(25);
/// How long the forge may take to see that a runner isn't busy any more.
const BUSY: Duration = Duration::from_secs(45);

/// A runner and all that watches over it.
pub struct Agent {
    config: AgentConfig,
    layout: Layout,
    forge: Arc<dyn Forge>,
    host: Host,
    http: Http,
    kept: Kept,
    reporter: Reporter,
}

impl Agent {
    /// An agent for a configuration. Starts nothing yet.
    pub fn new(config: AgentConfig, host: &Host, http: &Http, printer: &Printer) -> Result<Self> {
        let secrets = config.registration.secrets();
        for secret in secrets.chain(config.forge.access.secret()) {
            printer.hide(secret);
        }
        let layout = Layout::new(&config.place, config.forge.driver, host)?;
        Ok(Self {
            forge: forge::open(&config.forge, host, http)?,
            kept: Kept::open(&layout.state),
            reporter: Reporter::new(
                printer.clone(),
                host.clone(),
                config.forge.target_url.as_str(),
                &config.name,
            ),
            layout,
            config,
            host: host.clone(),
            http: http.clone(),
        })
    }

    /// Makes sure that the runner program is there.
    pub async fn prepare(&self) -> Result<()> {
        let (forge, layout) = (self.forge.as_ref(), &self.layout);
        program::prepare(&self.config, forge, layout, &self.host, &self.http).await
    }

    /// Runs the runner to its end: registers, watches, ends, has an interrupted job run again, and
    /// removes the record. `on_ready` is called once, when the runner waits for jobs. Says which
    /// signal ended it, if one did.
    pub async fn run(
        mut self,
        signals: Signals,
        ready_within: Option<Duration>,
        on_ready: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<()> {
        // No service manager knows what belongs together there.
        if !matches!(self.config.place, Place::Instance { .. }) {
            adopt_orphans();
        }
        let mut endings = Endings::watch(signals, self.config.notices, &self.host, &self.http);
        let prepared = tokio::select! {
            prepared = self.prepare() => prepared.map(|()| None),
            ending = endings.next() => Ok(Some(ending)),
        };
        let mut process = None;
        let outcome = match prepared {
            Ok(None) => {
                self.run_program(&mut process, &mut endings, ready_within, on_ready)
                    .await
            }
            Ok(Some(ending)) => Ok(supervise::why(ending)),
            Err(error) => Err(error),
        };
        self.finish(outcome.as_ref().ok(), process).await;
        match outcome? {
            Why::Signal(signal) => Err(Error::new(
                Kind::Interrupted(signal),
                format!("ended by {}", signal.name()),
            )),
            Why::Program(how) => Err(Error::other(format!(
                "the runner program ended unasked: {how}"
            ))),
            _ => Ok(()),
        }
    }

    /// Does at last what a life that broke off has left undone.
    pub async fn clean_up(mut self) {
        process::kill_descendants();
        self.finish(None, None).await;
    }

    /// Ends the program, has the interrupted job's run cancelled and run again, and removes the
    /// record. Nothing in here stops the rest when it fails.
    async fn finish(&mut self, why: Option<&Why>, process: Option<Process>) {
        if let Some(why) = why {
            tracing::info!("ending: {why}");
        }
        let grace = match (&self.config.place, why) {
            (Place::Local { .. }, _) => LASTING_GRACE,
            (_, Some(Why::Interruption(_))) => SHORT_GRACE,
            (Place::Instance { .. } | Place::Pod { .. }, _) => GRACE,
        };
        let end = async move {
            if let Some(mut process) = process {
                process.end(grace).await;
            }
        };
        // The run brings its launching job along, which may use this runner's name: a record that
        // is ours to remove goes first. One that the forge keeps for as long as it sees a job goes
        // last, and there the run is cancelled while the program still ends.
        let finished = if self.config.registration.own.is_some() {
            end.await;
            let finished = self.remove_record().await;
            self.rerun_interrupted().await;
            finished
        } else {
            tokio::join!(end, self.rerun_interrupted());
            self.remove_record().await
        };
        // What isn't finished is tried once more when the machine is given back.
        self.kept.change(|state| {
            state.job = None;
            state.rerunning = false;
            state.finished = finished;
        });
        match why {
            Some(why) => self.reporter.terminated(&why.to_string()),
            None => self.reporter.terminated("it could not be started"),
        }
    }

    async fn rerun_interrupted(&mut self) {
        let Some(known) = self.kept.get().job.clone() else {
            return;
        };
        let job = known.name.as_deref().unwrap_or_default();
        if !self.config.retry {
            tracing::warn!(
                "the job {job} was interrupted and is not run again (--no-retry, or an access that \
                 can't)"
            );
            return;
        }
        let note = std::fs::read_to_string(&self.layout.note).unwrap_or_default();
        let noted = self.forge.read_job(&note);
        let reference = JobRef {
            name: known.name.clone(),
            repository: noted.repository.or_else(|| known.repository.clone()),
            run_id: noted.run_id.or(known.run_id),
        };
        let again = self.kept.get().rerunning;
        self.kept.change(|state| state.rerunning = true);
        let rerun = self
            .forge
            .rerun(&self.config.name, &reference, again, PATIENCE);
        // Twice the patience: its own bound is about the wait for the run, not about the network.
        match timeout(PATIENCE * 2, rerun).await {
            Ok(Ok(Some(run))) => tracing::info!("the interrupted job's run {run} is run again"),
            Ok(Ok(None)) => {
                tracing::warn!("no run of the interrupted job {job} was found to run again")
            }
            Ok(Err(error)) => {
                tracing::error!("running the interrupted job {job} again: {}", error.chain())
            }
            Err(_) => tracing::error!("running the interrupted job {job} again: not done in time"),
        }
    }

    /// Removes the record: as the runner itself, where that is possible; else by the id it was
    /// registered under, for a later runner may have the name.
    async fn unregister(&mut self) -> Result<Unregistered> {
        match self.forge.resign(&self.config.registration).await {
            Some(Ok(())) => return Ok(Unregistered::Done),
            Some(Err(error)) if self.config.forge.access.is_none() => return Err(error),
            Some(Err(error)) => tracing::debug!("{}", error.chain()),
            None => {}
        }
        if self.config.forge.access.is_none() {
            return Ok(Unregistered::Done);
        }
        let id = match self.kept.get().runner_id {
            Some(id) => Some(id),
            None => self
                .forge
                .find(None, &self.config.name)
                .await?
                .map(|runner| runner.id),
        };
        match id {
            Some(id) => self.forge.unregister(id).await,
            None => Ok(Unregistered::Done),
        }
    }

    /// Says whether the record is gone.
    async fn remove_record(&mut self) -> bool {
        let started = Instant::now();
        loop {
            match self.unregister().await {
                Ok(Unregistered::Done) => return true,
                Ok(Unregistered::Busy) if started.elapsed() < BUSY => {
                    sleep(Duration::from_secs(1)).await
                }
                Ok(Unregistered::Busy) => {
                    tracing::warn!("the forge still sees a job on this runner; its record stays");
                    return false;
                }
                Err(error) => {
                    tracing::warn!("{}", error.chain());
                    return false;
                }
            }
        }
    }
}

/// `agent prepare`: makes sure that the runner program is there.
pub async fn prepare(file: &Path, host: &Host, http: &Http, printer: &Printer) -> Result<()> {
    Agent::new(AgentConfig::read(file)?, host, http, printer)?
        .prepare()
        .await
}

/// `agent run`: the runner's whole life on an instance or in a pod, up to the giving back.
pub async fn run(file: &Path, host: &Host, http: &Http, printer: &Printer) -> Result<()> {
    let agent = Agent::new(AgentConfig::read(file)?, host, http, printer)?;
    let ready = agent.layout.ready.clone();
    let has_timer = matches!(agent.config.place, Place::Instance { .. });
    let mut on_ready = move || disarm(&ready, has_timer);
    match agent.run(Signals::listen()?, None, &mut on_ready).await {
        // On an instance and in a pod these are ordinary ends; the reason is in the log.
        Err(error) if matches!(error.kind(), Kind::Interrupted(_)) => Ok(()),
        outcome => outcome,
    }
}

/// Tells the dead-man timer that the machine is in good hands: by a file, which it looks for, and
/// by stopping it, where there is a service manager.
fn disarm(ready: &Path, has_timer: bool) -> Result<()> {
    std::fs::write(ready, "").map_err(|error| {
        Error::other(format!(
            "disarming the dead-man timer by {}",
            ready.display()
        ))
        .caused_by(error)
    })?;
    if !has_timer {
        return Ok(());
    }
    let stopped = std::process::Command::new("systemctl")
        .args(["stop", DEAD_MAN])
        .status();
    if !stopped.is_ok_and(|status| status.success()) {
        tracing::debug!("the dead-man timer goes on, and will find a ready agent");
    }
    Ok(())
}

/// `agent release`: what `run` would have done at its end, had it lived; then the machine is given
/// back, whatever happened before.
pub async fn release(file: &Path, host: &Host, printer: &Printer) -> Result<()> {
    let mut how: Option<GiveBack> = None;
    let deadline = Instant::now() + PATIENCE * 2 + DELETION;
    let clean_up = async {
        // Giving the machine back must not depend on this.
        let http = Http::new(host)?;
        let config = AgentConfig::read(file)?;
        how = Some(config.give_back.clone());
        let state = Kept::open(&Layout::state_file(&config.place, host));
        if !state.get().finished {
            tracing::warn!("the agent ended too early; cleaning up after it");
            if let (Place::Pod { .. }, Some(program)) = (&config.place, state.get().program) {
                // No service manager has done so, and a job that goes on keeps the runner busy.
                process::kill_session(program);
            }
            let mut agent = Agent::new(config, host, &http, printer)?;
            agent.finish(None, None).await;
        }
        Ok::<(), Error>(())
    };
    match timeout(PATIENCE * 2, clean_up).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{}", error.chain()),
        Err(_) => tracing::error!("cleaning up took too long"),
    }
    giving_back::give_back(how.as_ref(), host, deadline).await
}
