//! The wait for a ready runner: the forge says that it is online, or the cloud says that the
//! instance is gone, or the time is over.

use std::time::Duration;

use tokio::time::Instant;

use super::Life;
use crate::agent;
use crate::cloud::{Instance, InstanceState};
use crate::error::{Error, Kind, Result};
use crate::forge::Registration;

/// How long a cloud must not know an instance that it has just made, to be believed.
const BLIND: Duration = Duration::from_secs(60);
/// The same of an instance that it did know: some forget one as soon as it is deleted, and some are
/// of two minds about new ones.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// How often to ask: often at first, then ever more seldom, to spare the rate limits.
const FASTEST: Duration = Duration::from_millis(250);
const SLOWEST: Duration = Duration::from_secs(5);
/// How many lines of a console are worth showing.
const SHOWN_LINES: usize = 40;
/// Rounds of asking in a row that a service may refuse, and for how long: one that has just started
/// may deny everything until it knows who may do what.
const FORGIVEN: u32 = 5;
const DENYING: Duration = Duration::from_secs(20);
/// How long a service may not answer, or fail: control planes are upgraded, and the instance goes on
/// without them.
const OUTAGE: Duration = Duration::from_secs(180);

/// What the wait found.
pub(super) struct Ready {
    /// The instance as last described.
    pub(super) instance: Instance,
    /// The runner's id; `None` when its record is gone again, its only job done.
    pub(super) runner_id: Option<u64>,
}

/// Rounds of asking in a row of which no one was answered in full.
struct Trouble {
    since: Instant,
    /// How many of them were refused.
    refused: u32,
    last: Error,
}

impl Trouble {
    fn after(before: Option<Self>, error: Error) -> Self {
        let (since, refused) = match before {
            Some(before) => (before.since, before.refused),
            None => (Instant::now(), 0),
        };
        Self {
            since,
            refused: refused + u32::from(error.is_refusal()),
            last: error,
        }
    }

    fn is_too_much(&self) -> bool {
        let lasts = self.since.elapsed();
        (self.refused > FORGIVEN && lasts > DENYING) || lasts > OUTAGE
    }
}

impl Life<'_> {
    /// Waits until the runner is ready for jobs.
    pub(super) async fn until_ready(
        &self,
        created: Instance,
        registration: &Registration,
        started: Instant,
    ) -> Result<Ready> {
        let deadline = started + self.spec.timeout;
        let made = Instant::now();
        let mut instance = created;
        let mut trouble: Option<Trouble> = None;
        let mut was_known = false;
        let mut unknown: Option<Instant> = None;
        loop {
            let (runner, seen) = tokio::join!(
                self.forge.find(registration.runner_id, &self.spec.name),
                self.cloud.inspect(&instance.reference)
            );
            let mut known = false;
            let mut gone = false;
            let mut problem = None;
            match seen {
                Ok(Some(seen)) => {
                    (known, was_known, unknown) = (true, true, None);
                    gone = !matches!(seen.state, InstanceState::Pending | InstanceState::Running);
                    instance = updated(instance, seen);
                }
                Ok(None) => {
                    let since = *unknown.get_or_insert_with(Instant::now);
                    let believed = if was_known { FORGOTTEN } else { BLIND };
                    gone = since.elapsed() > believed;
                }
                Err(error) => problem = Some(error),
            }
            match runner {
                // A record that is gone may have done its job, or may never have been ready: then
                // the end of the instance tells.
                Ok(runner) => {
                    if let Some(runner) = runner.filter(|runner| runner.online)
                        && (known || gone)
                    {
                        return Ok(Ready {
                            instance,
                            runner_id: Some(runner.id),
                        });
                    }
                }
                Err(error) => problem = Some(error),
            }
            if gone {
                return self.ended(instance).await;
            }
            trouble = match problem {
                None => None,
                Some(error) => {
                    tracing::debug!("{}; asking again", error.chain());
                    let now = Trouble::after(trouble, error);
                    if now.is_too_much() {
                        return Err(now.last);
                    }
                    Some(now)
                }
            };
            let pause = (made.elapsed() / 10).clamp(FASTEST, SLOWEST);
            if Instant::now() + pause >= deadline {
                return Err(self.late(&instance, trouble).await);
            }
            // News are heard at once, but the forge isn't asked at every one of them.
            tokio::join!(
                self.cloud.news(&instance.reference, pause),
                tokio::time::sleep(FASTEST)
            );
        }
    }

    /// The error of a runner that isn't ready in time, or isn't known to be.
    async fn late(&self, instance: &Instance, trouble: Option<Trouble>) -> Error {
        let error = Error::new(
            Kind::NotReady,
            format!(
                "waiting for the runner {} on {}: not ready within {:?}{}",
                self.spec.name,
                instance.reference.id,
                self.spec.timeout,
                shown(self.console(instance).await)
            ),
        )
        .hint("--timeout gives it more time; a long startup script belongs into an image");
        match trouble {
            None => error,
            Some(Trouble { last, .. }) => {
                let hints = last.hints().to_vec();
                let error = error.hint(format!("the last answer was: {}", last.chain()));
                hints.into_iter().fold(error, Error::hint)
            }
        }
    }

    /// An instance that is gone was ready all the same if its agent said so: its only job, or a
    /// short idle time, was over before we looked.
    async fn ended(&self, instance: Instance) -> Result<Ready> {
        let console = self.console(&instance).await;
        if console
            .as_ref()
            .is_ok_and(|text| text.contains(agent::READY))
        {
            tracing::warn!(
                "the runner {} was ready, and has already ended",
                self.spec.name
            );
            return Ok(Ready {
                instance,
                runner_id: None,
            });
        }
        let reason = instance.reason.as_deref().unwrap_or("no reason given");
        Err(Error::new(
            Kind::NotReady,
            format!(
                "waiting for the runner {}: its instance {} ended before it was ready ({reason}){}",
                self.spec.name,
                instance.reference.id,
                shown(console)
            ),
        ))
    }

    /// The end of the instance's console; empty where the cloud has none.
    async fn console(&self, instance: &Instance) -> Result<String> {
        let text = self.cloud.console(&instance.reference).await?;
        Ok(text.unwrap_or_default())
    }
}

/// An instance as it is described now. A description knows less than the creation about some things.
fn updated(instance: Instance, seen: Instance) -> Instance {
    Instance {
        disk_gb: seen.disk_gb.or(instance.disk_gb),
        security_group: seen.security_group.clone().or(instance.security_group),
        subnet: seen.subnet.clone().or(instance.subnet),
        launch_time: seen.launch_time.or(instance.launch_time),
        image: match seen.image.is_empty() {
            true => instance.image,
            false => seen.image.clone(),
        },
        ..seen
    }
}

/// A console, ready to stand behind a message.
fn shown(console: Result<String>) -> String {
    match console {
        Ok(text) if text.trim().is_empty() => "; the cloud has no output of it".to_owned(),
        Ok(text) => {
            let lines: Vec<&str> = text.trim_end().lines().collect();
            let last = lines.get(lines.len().saturating_sub(SHOWN_LINES)..);
            let last = last.unwrap_or_default().join("\n");
            format!("\nthe instance's last output:\n{last}")
        }
        Err(error) => format!("; its output can't be read: {}", error.chain()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long such errors are outlasted, one each second.
    async fn outlasted(error: impl Fn() -> Error) -> Duration {
        let began = Instant::now();
        let mut trouble = None;
        loop {
            let now = Trouble::after(trouble.take(), error());
            if now.is_too_much() {
                return began.elapsed();
            }
            trouble = Some(now);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_passes_and_a_refusal_stays() {
        let second = Duration::from_secs(1);
        let silent = outlasted(|| Error::other("asking")).await;
        assert_eq!(silent, OUTAGE + second);
        let refused = outlasted(|| Error::other("asking").refused()).await;
        assert_eq!(refused, DENYING + second);
    }
}
