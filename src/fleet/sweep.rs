//! `sweep`: what was launched too long ago and has no runner at work.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use jiff::SignedDuration;

use super::report::{self, Row};
use super::{AT_ONCE, Keeper, together};
use crate::cloud::Instance;
use crate::error::Result;
use crate::pipeline::Pipeline;

impl Keeper<'_> {
    /// The forge is asked first: a runner that is online is kept, however old it is. Where the forge
    /// isn't known, the age alone decides.
    pub(super) async fn sweep(
        &self,
        older_than: Duration,
        dry_run: bool,
        pipeline: &Pipeline,
    ) -> Result<()> {
        let old = self.instances().await?;
        let old = old
            .into_iter()
            .filter(|instance| !instance.is_ending() && self.is_older(instance, older_than));
        let mut swept = Vec::new();
        let mut rows = Vec::new();
        for (instance, runner) in self.with_runners(old.collect()).await? {
            let id = &instance.reference.id;
            if runner.is_online() {
                tracing::info!(
                    "{id} is kept: its runner {} is online; `stop` ends it all the same",
                    instance.name.as_deref().unwrap_or_default()
                );
                continue;
            }
            rows.push(Row::new(&instance, &runner, self.now));
            swept.push(instance);
        }
        if dry_run {
            tracing::info!("nothing is destroyed in a dry run; this would be:");
            return report::print(&rows, self.fleet, pipeline);
        }
        let destroyed = swept.iter().map(|instance| self.sweep_one(instance));
        let outcomes: Vec<Result<()>> = stream::iter(destroyed).buffered(AT_ONCE).collect().await;
        let mut problems = Vec::new();
        let mut gone = Vec::new();
        for (outcome, row) in outcomes.into_iter().zip(rows) {
            match outcome {
                Ok(()) => gone.push(row),
                Err(error) => problems.push(error),
            }
        }
        report::print(&gone, self.fleet, pipeline)?;
        together("sweeping", problems)
    }

    fn is_older(&self, instance: &Instance, than: Duration) -> bool {
        let Some(launched) = instance.launch_time else {
            tracing::warn!(
                "{} is kept: {} doesn't say when it was launched",
                instance.reference.id,
                self.fleet.provider.name()
            );
            return false;
        };
        let than = SignedDuration::try_from(than).unwrap_or(SignedDuration::MAX);
        self.now.duration_since(launched) >= than
    }

    async fn sweep_one(&self, instance: &Instance) -> Result<()> {
        self.cloud.destroy(&instance.reference).await?;
        tracing::info!(
            "instance {} in {} destroyed",
            instance.reference.id,
            instance.reference.region
        );
        match &instance.name {
            Some(name) if self.is_served(instance) => self.forget(name, 2).await,
            _ => Ok(()),
        }
    }
}
