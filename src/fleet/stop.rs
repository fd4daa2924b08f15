//! `stop`: these instances and their runners, now.

use futures_util::stream::{self, StreamExt as _};

use super::{AT_ONCE, Keeper, together};
use crate::cloud::{self, Instance, InstanceRef, InstanceState};
use crate::error::{Error, Result};

/// What one argument of `stop` means.
struct Target<'a> {
    text: &'a str,
    /// The instances to destroy.
    instances: Vec<Instance>,
    /// The runner whose record goes, where its name is known.
    runner: Option<String>,
}

impl Keeper<'_> {
    /// Nothing is destroyed before it is clear what every target means.
    pub(super) async fn stop(&self, targets: &[String]) -> Result<()> {
        let known = self.instances().await?;
        let mut meant = Vec::new();
        let mut problems = Vec::new();
        for text in targets {
            match self.resolve(text, &known).await {
                Ok(target) => meant.push(target),
                Err(error) => problems.push(error),
            }
        }
        together("stopping, which has not begun", problems)?;
        let stopped = meant.iter().map(|target| self.stop_one(target));
        let outcomes: Vec<Result<()>> = stream::iter(stopped).buffered(AT_ONCE).collect().await;
        let problems = outcomes.into_iter().filter_map(Result::err).collect();
        together("stopping", problems)
    }

    async fn resolve<'t>(&self, text: &'t str, known: &[Instance]) -> Result<Target<'t>> {
        let by_id: Vec<&Instance> = known.iter().filter(|i| i.reference.id == text).collect();
        if let [instance] = by_id.as_slice() {
            return Ok(self.target(text, instance));
        }
        let by_name = |i: &&Instance| i.name.as_deref() == Some(text) && self.is_served(i);
        let instances: Vec<Instance> = known.iter().filter(by_name).cloned().collect();
        if !instances.is_empty() || !cloud::is_id(self.fleet.provider, text) {
            return Ok(Target {
                text,
                instances,
                runner: Some(text.to_owned()),
            });
        }
        // An id that isn't among ours: gone, elsewhere, or somebody else's.
        for region in &self.fleet.regions {
            let reference = InstanceRef {
                id: text.to_owned(),
                region: region.clone(),
            };
            match self.cloud.inspect(&reference).await? {
                None => {}
                Some(found) if found.state == InstanceState::Gone && found.is_ours => {
                    return Ok(self.target(text, &found));
                }
                Some(found) if found.state == InstanceState::Gone => {}
                Some(_) => {
                    return Err(Error::usage(format!(
                        "the instance {text} in {region} was not launched by runner-launch: it has no tag `{}`",
                        cloud::TAG_OWNER
                    )));
                }
            }
        }
        Ok(Target {
            text,
            instances: Vec::new(),
            runner: None,
        })
    }

    fn target<'t>(&self, text: &'t str, instance: &Instance) -> Target<'t> {
        let runner = instance.name.clone().filter(|_| self.is_served(instance));
        if let (None, Some(serves)) = (&runner, &instance.serves) {
            tracing::warn!(
                "the runner of {text} serves {serves}: its record there is not touched; --repo={serves} does both"
            );
        }
        Target {
            text,
            instances: vec![instance.clone()],
            runner,
        }
    }

    /// The instance first: it is what costs money.
    async fn stop_one(&self, target: &Target<'_>) -> Result<()> {
        let live: Vec<&Instance> = target.instances.iter().filter(|i| !i.is_ending()).collect();
        if live.is_empty() {
            tracing::info!(
                "{}: no instance in {}",
                target.text,
                self.fleet.regions.join(", ")
            );
        }
        for instance in &live {
            self.cloud.destroy(&instance.reference).await?;
            tracing::info!(
                "instance {} in {} destroyed",
                instance.reference.id,
                instance.reference.region
            );
        }
        match &target.runner {
            // An instance that lived until now may just have registered its runner.
            Some(name) => self.forget(name, if live.is_empty() { 1 } else { 2 }).await,
            None => Ok(()),
        }
    }
}
