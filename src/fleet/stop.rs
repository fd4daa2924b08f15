//! `stop`: these instances and their runners, now.

use futures_util::stream::{self, StreamExt as _};

use super::{AT_ONCE, Keeper, together};
use crate::cloud::{self, Instance, InstanceRef, InstanceState, TAG_LAUNCH, TAG_OWNER};
use crate::error::{Error, Kind, Result};

/// What one argument of `stop` means.
struct Target<'a> {
    text: &'a str,
    /// The instances that it names.
    instances: Vec<Instance>,
    /// The runner whose record goes, where its name is known.
    runner: Option<String>,
}

impl Keeper<'_> {
    /// Nothing is destroyed before it is clear what every target means.
    pub(super) async fn stop(&self, targets: &[String]) -> Result<()> {
        let (known, unseen) = self.instances().await;
        let mut meant = Vec::new();
        let mut problems = Vec::new();
        for text in targets {
            match self.resolve(text, &known).await {
                Ok(target) => meant.push(target),
                Err(error) => problems.push(error),
            }
        }
        // What wasn't found may be in a region that couldn't be seen.
        if meant.iter().any(|target| target.instances.is_empty()) {
            problems.extend(unseen);
        }
        together("nothing is stopped", problems)?;
        let stopped = meant.iter().map(|target| self.stop_one(target, &known));
        let outcomes: Vec<Result<()>> = stream::iter(stopped).buffered(AT_ONCE).collect().await;
        let problems = outcomes.into_iter().filter_map(Result::err).collect();
        together("stopping", problems)
    }

    async fn resolve<'t>(&self, text: &'t str, known: &[Instance]) -> Result<Target<'t>> {
        let provider = self.fleet.provider;
        // Where an instance has its runner's name, that name may mean somebody else's runner.
        let is_meant = |i: &Instance| !cloud::has_runners_names(provider) || self.is_served(i);
        match known.iter().find(|i| i.reference.id == text) {
            Some(instance) if is_meant(instance) || self.forge.is_none() => {
                return Ok(self.by_id(text, instance));
            }
            Some(other) => return Err(self.of_others(text, other)),
            None => {}
        }
        let named = |i: &&Instance| i.name.as_deref() == Some(text);
        let (ours, others): (Vec<&Instance>, Vec<&Instance>) =
            known.iter().filter(named).partition(|i| self.is_served(i));
        if ours.is_empty() && cloud::is_id(provider, text) {
            let found = self.by_unknown_id(text).await?;
            if found.is_some() || !cloud::has_runners_names(provider) {
                return Ok(found.unwrap_or(Target {
                    text,
                    instances: Vec::new(),
                    runner: None,
                }));
            }
        }
        if ours.is_empty() {
            self.check_unseen(text, &others).await?;
        }
        Ok(Target {
            text,
            instances: ours.into_iter().cloned().collect(),
            runner: Some(text.to_owned()),
        })
    }

    /// The instance of that name serves something else than what was named.
    fn of_others(&self, text: &str, other: &Instance) -> Error {
        let serves = other.serves.as_deref().unwrap_or("nobody knows what");
        let error = Error::usage(format!("the instance {text} serves {serves}"));
        match &other.serves {
            Some(serves) => error.hint(format!("--repo={serves} stops it")),
            None => error,
        }
    }

    fn by_id<'t>(&self, text: &'t str, instance: &Instance) -> Target<'t> {
        let runner = instance.name.clone().filter(|_| self.is_served(instance));
        if let (None, Some(serves)) = (&runner, &instance.serves) {
            tracing::warn!(
                "the runner of {text} serves {serves}: its record there stays; --repo={serves} removes it, too"
            );
        }
        Target {
            text,
            instances: vec![instance.clone()],
            runner,
        }
    }

    /// An id that isn't among ours: gone, elsewhere (`None`), or somebody else's.
    async fn by_unknown_id<'t>(&self, text: &'t str) -> Result<Option<Target<'t>>> {
        for region in &self.fleet.regions {
            let reference = InstanceRef {
                id: text.to_owned(),
                region: region.clone(),
            };
            match self.cloud.inspect(&reference).await? {
                Some(found) if found.state == InstanceState::Gone && found.is_ours => {
                    return Ok(Some(self.by_id(text, &found)));
                }
                Some(found) if found.state != InstanceState::Gone => {
                    return Err(Error::usage(format!(
                        "the instance {text} in {region} was not launched by runner-launch: it lacks the tags `{TAG_OWNER}` and `{TAG_LAUNCH}`"
                    )));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// A name without an instance here: fine, unless the runner is alive all the same.
    async fn check_unseen(&self, name: &str, others: &[&Instance]) -> Result<()> {
        let Some((forge, _)) = &self.forge else {
            return Ok(());
        };
        let alive = forge
            .find(None, name)
            .await?
            .is_some_and(|found| found.online);
        if !alive {
            return Ok(());
        }
        let error = Error::new(
            Kind::Usage,
            format!(
                "the runner {name} is online, but no instance of it is in {}",
                self.fleet.regions.join(", ")
            ),
        );
        Err(match others {
            [] => error.hint(format!(
                "look elsewhere {}",
                cloud::elsewhere(self.fleet.provider)
            )),
            [other, ..] => error.hint(format!(
                "{} has that name, and serves {}: name it by its id",
                other.reference.id,
                other.serves.as_deref().unwrap_or("nobody knows what")
            )),
        })
    }

    /// The instance first: it is what costs money.
    async fn stop_one(&self, target: &Target<'_>, known: &[Instance]) -> Result<()> {
        if target.instances.is_empty() {
            tracing::warn!(
                "{}: no such instance in {}; launched elsewhere, it is stopped {}",
                target.text,
                self.fleet.regions.join(", "),
                cloud::elsewhere(self.fleet.provider)
            );
        }
        for instance in &target.instances {
            let InstanceRef { id, region } = &instance.reference;
            if instance.is_ending() {
                tracing::info!("instance {id} in {region} has ended, or is about to");
            } else {
                self.cloud.destroy(&instance.reference).await?;
                tracing::info!("instance {id} in {region} destroyed");
            }
        }
        let Some(name) = &target.runner else {
            return Ok(());
        };
        let own: Vec<&Instance> = target.instances.iter().collect();
        if self.is_taken(name, &own, known) {
            tracing::info!("the record of the runner {name} stays: another instance has that name");
            return Ok(());
        }
        let gone = |instance: &Instance| instance.state == InstanceState::Gone;
        if target.instances.iter().all(gone) && self.is_online(name).await? {
            tracing::warn!("the record of the runner {name} stays: it is online");
            return Ok(());
        }
        self.forget(name).await
    }

    async fn is_online(&self, name: &str) -> Result<bool> {
        let Some((forge, _)) = &self.forge else {
            return Ok(false);
        };
        let found = forge.find(None, name).await?;
        Ok(found.is_some_and(|runner| runner.online))
    }
}
