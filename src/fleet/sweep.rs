//! `sweep`: what was launched too long ago and has no runner at work.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use jiff::SignedDuration;

use super::report::{self, Row};
use super::{AT_ONCE, Keeper, RunnerState, together};
use crate::cloud::{Instance, InstanceState};
use crate::error::Result;
use crate::pipeline::Pipeline;

impl Keeper<'_> {
    /// The forge is asked first, and what it can't speak of is kept, unless `all`: then the age alone
    /// decides.
    pub(super) async fn sweep(
        &self,
        older_than: Duration,
        all: bool,
        dry_run: bool,
        pipeline: &Pipeline,
    ) -> Result<()> {
        let (known, unseen) = self.instances().await;
        let old = known
            .iter()
            .filter(|i| !i.is_ending() && self.is_older(i, enough(i, older_than)));
        let old: Vec<Instance> = old.cloned().collect();
        let mut swept = Vec::new();
        let mut rows = Vec::new();
        for (instance, runner) in self.with_runners(old).await? {
            if !all && let Some(reason) = self.reason_to_keep(&instance, runner) {
                tracing::info!("{} is kept: {reason}", instance.reference.id);
                continue;
            }
            rows.push(Row::new(&instance, runner, self.now));
            swept.push(instance);
        }
        if dry_run {
            tracing::info!("a dry run: nothing is destroyed, and what would be is listed");
            report::print(&rows, self.fleet, pipeline)?;
            return together("sweeping", unseen);
        }
        let destroyed = swept
            .iter()
            .map(|instance| self.sweep_one(instance, &known));
        let outcomes: Vec<Result<()>> = stream::iter(destroyed).buffered(AT_ONCE).collect().await;
        let mut problems = unseen;
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

    fn reason_to_keep(&self, instance: &Instance, runner: RunnerState) -> Option<String> {
        if instance.state == InstanceState::Stopped {
            return None;
        }
        let name = instance.name.as_deref().unwrap_or_default();
        if runner.is_alive() {
            return Some(format!(
                "its runner {name} is {}; `stop` ends it all the same",
                runner.name()
            ));
        }
        (!self.is_served(instance)).then(|| match &instance.serves {
            Some(serves) => {
                format!("it serves {serves}; --repo={serves} asks there, --all asks nobody")
            }
            None => "it doesn't say what it serves; --all sweeps it".to_owned(),
        })
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

    async fn sweep_one(&self, instance: &Instance, known: &[Instance]) -> Result<()> {
        self.cloud.destroy(&instance.reference).await?;
        tracing::info!(
            "instance {} in {} destroyed",
            instance.reference.id,
            instance.reference.region
        );
        match &instance.name {
            Some(name) if self.is_served(instance) && !self.is_taken(name, &[instance], known) => {
                self.forget(name).await
            }
            _ => Ok(()),
        }
    }
}

/// The age at which an instance is swept. One that stopped has no runner, costs all the same, and
/// ends when it is started again: it only has to be older than any launch that may still read its
/// console.
fn enough(instance: &Instance, older_than: Duration) -> Duration {
    const LONGEST_LAUNCH: Duration = Duration::from_secs(600);
    match instance.state {
        InstanceState::Stopped => older_than.min(LONGEST_LAUNCH),
        _ => older_than,
    }
}
