//! Scheduled events of one machine.
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events>

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock;

/// What is going to happen to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduledEvent {
    /// `Freeze`, `Reboot`, `Redeploy`, `Preempt` or `Terminate`.
    pub(crate) kind: String,
    pub(crate) not_before: Timestamp,
    /// Whether a user asked for it, and not the platform.
    pub(crate) by_user: bool,
    pub(crate) description: String,
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    event: ScheduledEvent,
    started: bool,
    approved: bool,
}

#[derive(Debug, Clone, Default)]
struct List {
    entries: Vec<Entry>,
    /// Of the document.
    incarnation: u64,
    /// The ids of all that were ever approved.
    approved: Vec<String>,
}

/// The events of one machine, changed by whoever plays the platform and read through the metadata
/// service.
#[derive(Debug, Default)]
pub(crate) struct Events(watch::Sender<List>);

impl Events {
    /// Announces an event; the answer is its id.
    pub(crate) fn schedule(&self, event: ScheduledEvent) -> String {
        let id = clock::uuid().to_uppercase();
        self.0.send_modify(|list| {
            list.incarnation += 1;
            list.entries.push(Entry {
                id: id.clone(),
                event,
                started: false,
                approved: false,
            });
        });
        id
    }

    /// Ends when somebody on the machine has approved the event, or after `limit`; says whether it
    /// was approved.
    pub(crate) async fn approved(&self, id: &str, limit: Duration) -> bool {
        let mut list = self.0.subscribe();
        let approved = list.wait_for(|list| list.approved.iter().any(|known| known == id));
        let outcome = tokio::time::timeout(limit, approved).await;
        matches!(outcome, Ok(Ok(_)))
    }

    /// The event begins.
    pub(crate) fn start(&self, id: &str) {
        self.0.send_modify(|list| {
            if let Some(entry) = list.entries.iter_mut().find(|entry| entry.id == id) {
                entry.started = true;
                list.incarnation += 1;
            }
        });
    }

    /// The event is over, or won't be.
    pub(crate) fn end(&self, id: &str) {
        self.0.send_modify(|list| {
            list.entries.retain(|entry| entry.id != id);
            list.incarnation += 1;
        });
    }

    /// The ids of all events that were approved so far.
    pub(crate) fn all_approved(&self) -> Vec<String> {
        self.0.borrow().approved.clone()
    }

    /// Takes a StartRequests body; `None`: it is malformed, or names no event of this machine.
    pub(super) fn approve(&self, body: &[u8]) -> Option<()> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let requests = body["StartRequests"].as_array()?;
        let ids: Option<Vec<&str>> = requests
            .iter()
            .map(|request| request["EventId"].as_str())
            .collect();
        let ids = ids.filter(|ids| !ids.is_empty())?;
        let known = |id: &&str| {
            let list = self.0.borrow();
            list.entries.iter().any(|entry| entry.id == *id)
        };
        if !ids.iter().all(known) {
            return None;
        }
        self.0.send_modify(|list| {
            for entry in &mut list.entries {
                if ids.contains(&entry.id.as_str()) && !entry.approved {
                    entry.approved = true;
                    list.approved.push(entry.id.clone());
                }
            }
        });
        Some(())
    }

    /// The document, about the machine of this name.
    pub(super) fn document(&self, machine: &str) -> Value {
        let list = self.0.borrow();
        let events: Vec<Value> = list
            .entries
            .iter()
            .map(|entry| {
                let (status, time) = match entry.started {
                    true => ("Started", String::new()),
                    false => ("Scheduled", rfc1123(entry.event.not_before)),
                };
                json!({
                    "EventId": entry.id,
                    "EventStatus": status,
                    "EventType": entry.event.kind,
                    "ResourceType": "VirtualMachine",
                    "Resources": [machine],
                    "NotBefore": time,
                    "Description": entry.event.description,
                    "EventSource": if entry.event.by_user { "User" } else { "Platform" },
                    "DurationInSeconds": -1,
                })
            })
            .collect();
        json!({"DocumentIncarnation": list.incarnation + 1, "Events": events})
    }
}

/// `Mon, 19 Sep 2016 18:29:47 GMT`.
fn rfc1123(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
