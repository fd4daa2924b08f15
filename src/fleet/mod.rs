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
use crate::forge::{self, Forge, Runner};
use crate::host::Host;
use crate::http::Http;
use crate::pipeline::Pipeline;
use crate::signals::Signals;
use report::Row;

/// How long all of it may take.
const TOTAL: Duration = Duration::from_secs(300);
/// How long a forge may still see a job on a runner whose instance was destroyed.
const BUSY: Duration = Duration::from_secs(60);
/// How many questions a forge or cloud is asked at a time.
const AT_ONCE: usize = 8;

/// Lists, stops or sweeps. Cut off at any point, it can be given again: everything it does is
/// idempotent.
pub async fn run(fleet: &Fleet, host: &Host, http: &Http, pipeline: &Pipeline) -> Result<()> {
    let mut signals = Signals::listen()?;
    for secret in &fleet.secrets {
        pipeline.mask(secret);
    }
    let unavailable =
        |option: String| Error::usage(format!("{option} is not available in this version"));
    let cloud = cloud::open(fleet.provider, host, http)
        .ok_or_else(|| unavailable(format!("--cloud={}", fleet.provider.name())))?;
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
                dry_run,
            } => keeper.sweep(*older_than, *dry_run, pipeline).await,
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
        let mut rows = Vec::new();
        for (instance, runner) in self.with_runners(self.instances().await?).await? {
            rows.push(Row::new(&instance, &runner, self.now));
        }
        report::print(&rows, self.fleet, pipeline)
    }

    /// Every instance of ours that isn't gone, the oldest first.
    async fn instances(&self) -> Result<Vec<Instance>> {
        let regions = self.fleet.regions.iter();
        let found = regions.map(|region| self.cloud.list(region, None));
        let mut found = future::try_join_all(found).await?.concat();
        found.sort_by_key(|instance| instance.launch_time);
        Ok(found)
    }

    /// Whether an instance's runner is to be looked for at the forge that was named.
    fn is_served(&self, instance: &Instance) -> bool {
        let Some((_, asked)) = &self.forge else {
            return false;
        };
        let same = |known: &String| known.trim_end_matches('/') == asked.trim_end_matches('/');
        instance.serves.as_ref().is_none_or(same)
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

    /// Removes the record of an instance's runner, where the forge is known; an error says what is
    /// left.
    async fn forget(&self, name: &str, looks: u32) -> Result<()> {
        let Some((forge, _)) = &self.forge else {
            return Ok(());
        };
        if forge::forget(forge.as_ref(), None, name, looks, BUSY).await? {
            tracing::info!("the record of the runner {name} is removed");
        }
        Ok(())
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
    fn is_online(self) -> bool {
        matches!(self, RunnerState::Busy | RunnerState::Idle)
    }
}

impl From<Option<Runner>> for RunnerState {
    fn from(found: Option<Runner>) -> Self {
        match found {
            None => RunnerState::Missing,
            Some(runner) if !runner.online => RunnerState::Offline,
            Some(runner) if runner.busy => RunnerState::Busy,
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
