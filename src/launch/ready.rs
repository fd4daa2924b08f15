//! The wait for a ready runner: the forge says that it is online, or the cloud says that the
//! instance is gone, or the time is over.

use std::time::Duration;

use tokio::time::Instant;

use super::Life;
use crate::agent;
use crate::cloud::{Instance, InstanceState};
use crate::error::{Error, Kind, Result};
use crate::forge::Registration;

/// How long a cloud may not know an instance that it has just made.
const BLIND: Duration = Duration::from_secs(60);
/// How long a cloud must not know an instance that it did know, to be believed: some forget one as
/// soon as it is deleted, and some are of two minds about new ones.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// How often to ask: often at first, then ever more seldom, to spare the rate limits.
const FASTEST: Duration = Duration::from_millis(250);
const SLOWEST: Duration = Duration::from_secs(5);
/// How many lines of a console are worth showing.
const SHOWN_LINES: usize = 40;
/// Rounds of asking in a row that a service may refuse.
const FORGIVEN: u32 = 5;
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
        self.refused > FORGIVEN || self.since.elapsed() > OUTAGE
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
        let mut last_known: Option<Instant> = None;
        loop {
            let (runner, seen) = tokio::join!(
                self.forge.find(registration.runner_id, &self.spec.name),
                self.cloud.inspect(&instance.reference)
            );
            match (runner, seen) {
                (Ok(runner), Ok(seen)) => {
                    trouble = None;
                    let known = seen.is_some();
                    if known {
                        last_known = Some(Instant::now());
                    }
                    let forgotten = last_known.is_some_and(|then| then.elapsed() > FORGOTTEN);
                    let gone = seen.as_ref().map_or(
                        forgotten || (last_known.is_none() && made.elapsed() > BLIND),
                        |seen| {
                            !matches!(seen.state, InstanceState::Pending | InstanceState::Running)
                        },
                    );
                    if let Some(seen) = seen {
                        // A description knows less than the creation about some things.
                        instance = Instance {
                            disk_gb: seen.disk_gb.or(instance.disk_gb),
                            security_group: seen.security_group.clone().or(instance.security_group),
                            subnet: seen.subnet.clone().or(instance.subnet),
                            launch_time: seen.launch_time.or(instance.launch_time),
                            image: match seen.image.is_empty() {
                                true => instance.image,
                                false => seen.image.clone(),
                            },
                            ..seen
                        };
                    }
                    // A record that is gone may have done its job, or may never have been ready:
                    // then the end of the instance tells.
                    if let Some(runner) = runner.filter(|runner| runner.online)
                        && (known || gone)
                    {
                        return Ok(Ready {
                            instance,
                            runner_id: Some(runner.id),
                        });
                    }
                    if gone {
                        return self.ended(instance).await;
                    }
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::debug!("{}; asking again", error.chain());
                    let now = Trouble::after(trouble, error);
                    if now.is_too_much() {
                        return Err(now.last);
                    }
                    trouble = Some(now);
                }
            }
            let pause = (made.elapsed() / 10).clamp(FASTEST, SLOWEST);
            if Instant::now() + pause >= deadline {
                return Err(match trouble {
                    // It may be ready, for all that is known.
                    Some(trouble) => trouble.last.during(self.not_ready(&instance)),
                    None => self.late(&instance).await,
                });
            }
            // News are heard at once, but the forge isn't asked at every one of them.
            tokio::join!(
                self.cloud.news(&instance.reference, pause),
                tokio::time::sleep(FASTEST)
            );
        }
    }

    fn not_ready(&self, instance: &Instance) -> String {
        format!(
            "waiting for the runner {} on {}: not ready within {:?}",
            self.spec.name, instance.reference.id, self.spec.timeout
        )
    }

    async fn late(&self, instance: &Instance) -> Error {
        let console = shown(self.console(instance).await);
        let error = Error::new(
            Kind::NotReady,
            format!("{}{console}", self.not_ready(instance)),
        );
        error.hint("--timeout gives it more time; a long startup script belongs into an image")
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

    fn outlasted(error: impl Fn() -> Error, rounds: u32) -> bool {
        let mut trouble = None;
        (0..rounds).all(|_| {
            let now = Trouble::after(trouble.take(), error());
            let goes_on = !now.is_too_much();
            trouble = Some(now);
            goes_on
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_lasts_and_a_refusal_stays_one() {
        let silent = || Error::other("asking");
        let refused = || Error::other("asking").refused();
        assert!(outlasted(silent, 100));
        assert!(outlasted(refused, FORGIVEN));
        assert!(!outlasted(refused, FORGIVEN + 1));
        let first = Trouble::after(None, silent());
        tokio::time::advance(OUTAGE + Duration::from_secs(1)).await;
        assert!(Trouble::after(Some(first), silent()).is_too_much());
    }
}
