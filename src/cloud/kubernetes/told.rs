//! What the cluster tells of a Job and its pod: events.
//! <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>

use std::fmt;

use jiff::Timestamp;

use super::body::SECRET_VOLUME;
use super::views::Event;

/// How many events are kept: more don't explain more.
const MOST: usize = 50;

/// Ordinary events that a waiting user wants to hear of: they tell where the time goes.
const WORTH_TELLING: [&str; 4] = ["Scheduled", "Pulling", "Pulled", "TriggeredScaleUp"];

/// An event's words, of which a repetition has no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) warning: bool,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// An event's words.
fn words(event: &Event) -> Told {
    Told {
        reason: event.reason.clone().unwrap_or_default(),
        message: event.message.clone().unwrap_or_default().trim().to_owned(),
        warning: event.level.as_deref() == Some("Warning"),
    }
}

/// Keeps an event, and tells the user of one that wasn't known. Kubernetes counts repetitions up.
pub(super) fn remember(event: &Event, known: &mut Vec<Told>) {
    let told = words(event);
    if known.contains(&told) {
        return;
    }
    // The Secret follows its Job: for a moment it isn't there.
    let early = told.reason == "FailedMount"
        && told.message.contains(&format!("\"{SECRET_VOLUME}\""))
        && told.message.contains("not found");
    match (
        told.warning && !early,
        WORTH_TELLING.contains(&told.reason.as_str()),
    ) {
        (true, _) => tracing::warn!("{told}"),
        (false, true) => tracing::info!("{told}"),
        (false, false) => tracing::debug!("{told}"),
    }
    known.push(told);
    if known.len() > MOST {
        known.remove(0);
    }
}

/// When it happened last. Newer reporters fill other fields than older ones.
fn when(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let series = series.and_then(|series| series.last_observed_time);
    let made = event.metadata.creation_timestamp.as_ref();
    event
        .last_timestamp
        .or(series)
        .or(event.event_time)
        .or(made.map(|time| time.0))
}

/// Events as lines, for errors; those of a list that was just read.
pub(super) fn lines<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Told> {
    let mut events: Vec<&Event> = events.into_iter().collect();
    events.sort_by_key(|event| when(event));
    let mut known: Vec<Told> = Vec::new();
    for event in events {
        let told = words(event);
        if !known.contains(&told) {
            known.push(told);
        }
    }
    known
}
