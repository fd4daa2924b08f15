//! What was launched before: listed, stopped by name, swept by age. Only what carries this
//! program's tag is ever touched.

mod report;
mod stop;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use futures_util::{TryFutureExt as _, future};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::cli::{Action, Fleet};
use crate::cloud::{self, Cloud, Instance};
use crate::error::{Error, Kind, Result};
use crate::forge::{self, Forge, Forgotten, Runner};
use crate::host::Host;
use crate::http::Http;
use crate::pipeline::Pipeline;
use crate::signals::Signals;
use report::Row;

/// How long all of it may take.
const TOTAL: Duration = Duration::from_secs(300);
/// How long we wait for a forge to notice that a runner with a job is gone. An agent that still
/// lives says so within seconds; without one, GitHub takes minutes.
const BUSY: Duration = Duration::from_secs(20);
/// How many questions a forge or cloud is asked at a time.
const AT_ONCE: usize = 8;

/// Lists, stops or sweeps. Cut off at any point, it can be given again: everything it does is
/// idempotent.
pub async fn run(fleet: &Fleet, host: &Host, http: &Http, pipeline: &Pipeline) -> Result<()> {
    let mut signals = Signals::listen()?;
    for secret in &fleet.secrets {
        pipeline.mask(secret);
    }
    let cloud = cloud::open(fleet.provider, host, http);
    let forge = match &fleet.forge {
        Some(spec) => Some((forge::open(spec, host, http)?, spec.target_url.to_string())),
        None => None,
    };
    let keeper = Keeper {
        fleet,
        cloud,
        forge,
        now: host.now(),
    };
    let work = async {
        match &fleet.action {
            Action::List => keeper.list(pipeline).await,
            Action::Stop(targets) => keeper.stop(targets).await,
            Action::Sweep {
                older_than,
                all,
                dry_run,
            } => keeper.sweep(*older_than, *all, *dry_run, pipeline).await,
        }
    };
    tokio::select! {
        biased;
        signal = signals.next() => Err(Error::new(
            Kind::Interrupted(signal),
            format!("interrupted by {}", signal.name()),
        )
        .hint("give the same command again: it goes on where it was")),
        outcome = timeout(TOTAL, work) => outcome.unwrap_or_else(|_| {
            Err(Error::other(format!("not done after {} s", TOTAL.as_secs()))
                .hint("give the same command again: it goes on where it was"))
        }),
    }
}

/// Everything that the three work with.
struct Keeper<'a> {
    fleet: &'a Fleet,
    cloud: Arc<dyn Cloud>,
    /// The forge, and the address of what it was asked about.
    forge: Option<(Arc<dyn Forge>, String)>,
    now: Timestamp,
}

impl Keeper<'_> {
    async fn list(&self, pipeline: &Pipeline) -> Result<()> {
        let (instances, unseen) = self.instances().await;
        let mut rows = Vec::new();
        for (instance, runner) in self.with_runners(instances).await? {
            rows.push(Row::new(&instance, runner, self.now));
        }
        report::print(&rows, self.fleet, pipeline)?;
        together("listing", unseen)
    }

    /// Every instance of ours that isn't gone, the oldest first; and why regions couldn't be seen.
    /// One region's trouble must not hide what is in the others.
    async fn instances(&self) -> (Vec<Instance>, Vec<Error>) {
        let regions = self.fleet.regions.iter();
        let answers = regions.map(|region| self.cloud.list(region, None));
        let (mut found, mut unseen) = (Vec::new(), Vec::new());
        for answer in future::join_all(answers).await {
            match answer {
                Ok(instances) => found.extend(instances),
                Err(error) => unseen.push(error),
            }
        }
        found.sort_by_key(|instance| instance.launch_time);
        (found, unseen)
    }

    /// Whether an instance's runner belongs to the forge that was named. Both forges take their
    /// paths in any case.
    fn is_served(&self, instance: &Instance) -> bool {
        let Some((_, asked)) = &self.forge else {
            return false;
        };
        let plain = |address: &str| address.trim_end_matches('/').to_ascii_lowercase();
        let serves = instance.serves.as_deref().map(plain);
        serves.is_some_and(|serves| serves == plain(asked))
    }

    /// The instances with what the forge says of their runners.
    async fn with_runners(&self, instances: Vec<Instance>) -> Result<Vec<(Instance, RunnerState)>> {
        let asked = instances.into_iter().map(|instance| async move {
            let forge = self.forge.as_ref().filter(|_| self.is_served(&instance));
            let state = match (forge, &instance.name) {
                (Some((forge, _)), Some(name)) => {
                    let found = forge.find(None, name).map_ok(RunnerState::from);
                    found.await?
                }
                _ => RunnerState::Unknown,
            };
            Ok((instance, state))
        });
        stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    /// Removes the record of a runner whose instance was just destroyed, where the forge is known.
    async fn forget(&self, name: &str) -> Result<()> {
        /// An instance that lived until now may just have registered its runner.
        const LOOKS: u32 = 2;
        let Some((forge, _)) = &self.forge else {
            return Ok(());
        };
        match forge::forget(forge.as_ref(), None, name, LOOKS, BUSY).await? {
            Forgotten::Removed => tracing::info!("the record of the runner {name} is removed"),
            Forgotten::Absent => {}
            Forgotten::Busy => tracing::warn!(
                "the record of the runner {name} stays for a while: the forge hasn't noticed yet that its job is over"
            ),
        }
        Ok(())
    }

    /// Whether a name is in use by another instance, whose runner's record must stay.
    fn is_taken(&self, name: &str, but: &[&Instance], known: &[Instance]) -> bool {
        known.iter().any(|instance| {
            instance.name.as_deref() == Some(name)
                && !instance.is_ending()
                && self.is_served(instance)
                && !but.iter().any(|but| but.reference == instance.reference)
        })
    }
}

/// What the forge says of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum RunnerState {
    /// It has a job.
    Busy,
    /// It waits for jobs.
    Idle,
    /// It is registered and not connected.
    Offline,
    /// There is no record of it.
    Missing,
    /// The forge wasn't asked: no token was given, or the runner serves something else.
    Unknown,
}

impl RunnerState {
    /// The word for it in reports.
    fn name(self) -> &'static str {
        match self {
            RunnerState::Busy => "busy",
            RunnerState::Idle => "idle",
            RunnerState::Offline => "offline",
            RunnerState::Missing => "missing",
            RunnerState::Unknown => "unknown",
        }
    }

    /// Whether it is at work, or ready to be.
    fn is_alive(self) -> bool {
        matches!(self, RunnerState::Busy | RunnerState::Idle)
    }
}

impl From<Option<Runner>> for RunnerState {
    fn from(found: Option<Runner>) -> Self {
        match found {
            None => RunnerState::Missing,
            // A machine that hangs is offline at once, and its job goes on until the forge gives up.
            Some(runner) if runner.busy => RunnerState::Busy,
            Some(runner) if !runner.online => RunnerState::Offline,
            Some(_) => RunnerState::Idle,
        }
    }
}

/// One error out of many, with the kind of the first.
fn together(doing: &str, errors: Vec<Error>) -> Result<()> {
    let Some(first) = errors.first() else {
        return Ok(());
    };
    let kind = first.kind();
    let lines: Vec<String> = errors
        .iter()
        .map(|e| format!("\n  - {}", e.chain()))
        .collect();
    let mut all = Error::new(kind, format!("{doing}:{}", lines.concat()));
    let mut hints: Vec<&String> = errors.iter().flat_map(Error::hints).collect();
    hints.dedup();
    for hint in hints {
        all = all.hint(hint.clone());
    }
    Err(all)
}
