//! Undoing a launch: whatever was made, or may have been made, is unmade.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Life;
use crate::cloud::{Instance, InstanceRef, InstanceState};
use crate::error::{Error, Result};
use crate::forge::{Forgotten, forget};

/// A cancelled GitHub job has ten seconds: a creation under way gets most of them to tell its
/// instance's id.
const CREATION: Duration = Duration::from_secs(6);
/// How long an instance of an unanswered creation is looked for. Clouds list new instances late.
const SEARCH: Duration = Duration::from_secs(12);
/// How long a forge may still see a job on a runner whose instance is gone.
const BUSY: Duration = Duration::from_secs(20);
/// All of it.
const TOTAL: Duration = Duration::from_secs(120);

/// What a launch has made so far, and what it may have made without having been told.
#[derive(Default)]
pub(super) struct Made {
    /// Whether the forge was asked to register.
    pub(super) registering: bool,
    /// Whether it has answered; until then a record may yet appear.
    pub(super) registered: bool,
    /// The record's id, where known.
    pub(super) runner_id: Option<u64>,
    /// The regions in which an instance may be.
    pub(super) regions: Vec<String>,
    /// The creation under way.
    pub(super) creation: Option<JoinHandle<Result<Instance>>>,
    /// Whether a creation ended without saying whether it made something.
    pub(super) unclear: bool,
    /// The instance.
    pub(super) instance: Option<InstanceRef>,
}

impl Made {
    /// Whether there is anything to undo.
    pub(super) fn nothing(&self) -> bool {
        !self.registering && self.creation.is_none() && self.instance.is_none() && !self.unclear
    }
}

impl Life<'_> {
    /// Unmakes everything, both sides at once. Returns what could not be undone, for the user.
    pub(super) async fn rollback(&self, mut made: Made) -> Vec<String> {
        self.stop.raise();
        if made.nothing() {
            return Vec::new();
        }
        tracing::info!("rolling back");
        let undo = async {
            let ran = made.creation.is_some() || made.instance.is_some() || made.unclear;
            let (registering, registered, id) = (made.registering, made.registered, made.runner_id);
            let (instance, runner) = tokio::join!(self.undo_instance(&mut made), async {
                match registering {
                    true => self.undo_runner(id, !registered).await,
                    false => Ok(()),
                }
            });
            // An instance that lived until now may have registered its runner in between.
            let runner = match registering && (ran || runner.is_err()) {
                true => self.undo_runner(id, false).await,
                false => runner,
            };
            if registering && runner.is_ok() {
                tracing::info!("no record of the runner {} is left", self.spec.name);
            }
            [instance, runner]
                .into_iter()
                .filter_map(Result::err)
                .map(|error| error.chain())
                .collect()
        };
        timeout(TOTAL, undo)
            .await
            .unwrap_or_else(|_| vec![format!("the rollback took over {TOTAL:?}")])
    }

    async fn undo_instance(&self, made: &mut Made) -> Result<()> {
        if let Some(mut creation) = made.creation.take() {
            match timeout(CREATION, &mut creation).await {
                Ok(Ok(Ok(instance))) => made.instance = Some(instance.reference),
                Ok(Ok(Err(error))) => made.unclear |= !error.is_refusal(),
                Ok(Err(_)) => made.unclear = true,
                Err(_) => {
                    creation.abort();
                    made.unclear = true;
                }
            }
        }
        if let Some(instance) = &made.instance {
            self.destroy(instance).await?;
        } else if made.unclear {
            self.search_and_destroy(&made.regions).await?;
        }
        Ok(())
    }

    /// Tries hard: this is the call that ends the bill.
    async fn destroy(&self, instance: &InstanceRef) -> Result<()> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            match self.cloud.destroy(instance).await {
                Ok(()) => {
                    tracing::info!("instance {} destroyed", instance.id);
                    return Ok(());
                }
                Err(error) if started.elapsed() + pause > TOTAL / 2 => {
                    return Err(Error::other(format!(
                        "the instance {} in {} could not be destroyed",
                        instance.id, instance.region
                    ))
                    .caused_by(error));
                }
                Err(error) => tracing::warn!("{}; trying again", error.chain()),
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// For a creation that never told its instance's id: finds it by this launch's tag.
    async fn search_and_destroy(&self, regions: &[String]) -> Result<()> {
        let started = Instant::now();
        let mut found = false;
        loop {
            let mut problem = None;
            for region in regions {
                match self.cloud.list(region, Some(&self.launch_id)).await {
                    Ok(instances) => {
                        for instance in instances {
                            found = true;
                            if !matches!(
                                instance.state,
                                InstanceState::Ending | InstanceState::Gone
                            ) {
                                self.destroy(&instance.reference).await?;
                            }
                        }
                    }
                    Err(error) => problem = Some(error),
                }
            }
            match problem {
                Some(error) if started.elapsed() > SEARCH => return Err(error),
                None if found || started.elapsed() > SEARCH => return Ok(()),
                _ => sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Removes the runner's record. `late`: the registration was never answered, so that the
    /// record may appear after a first look.
    async fn undo_runner(&self, id: Option<u64>, late: bool) -> Result<()> {
        let looks = if late { 2 } else { 1 };
        match forget(self.forge.as_ref(), id, &self.spec.name, looks, BUSY).await? {
            Forgotten::Removed | Forgotten::Absent => Ok(()),
            Forgotten::Busy => Err(Error::other(format!(
                "the forge still sees a job on the runner {}",
                self.spec.name
            ))),
        }
    }
}
