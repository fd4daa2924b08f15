//! The record of what happened: every call, and the events a person wants to watch.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::fault::Rules;

/// Who made a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A process that belongs to no instance: the launcher, or a test.
    Host,
    /// A process of this instance.
    Instance(String),
}

/// One call of any fake service.
#[derive(Debug, Clone)]
pub struct Call {
    /// `ec2`, `sts`, `imds`, `container`; `compute`, `oauth2`, `google-sts`, `iamcredentials`,
    /// `gce-metadata`; `arm`, `blob`, `entra`, `azure-imds`, `app-service`; `kubernetes`; `oidc`, `github`,
    /// `gitlab`, `download` or `runner`.
    pub service: String,
    /// The service and what was asked: `ec2:RunInstances`, `github:GET /repos/{owner}/{repo}`. Of
    /// Kubernetes' API server the verb and the resource: `create jobs`, `get pods/log`.
    pub name: String,
    /// Who called.
    pub peer: Caller,
    /// When its head and body had come in.
    pub started: Instant,
    /// When it ended; `None` while it is under way.
    pub finished: Option<Instant>,
    /// The HTTP status; `None` when it was never answered.
    pub status: Option<u16>,
    /// The error code in the answer, where there is one (`UnauthorizedOperation`).
    pub code: Option<String>,
    /// The name of the fault that hit it.
    pub fault: Option<String>,
}

/// Something worth showing.
#[derive(Debug, Clone)]
pub enum Event {
    /// A call ended.
    Call(Call),
    /// An instance came into a state (`pending`, `running`, `shutting-down`, `terminated`, …; of
    /// Compute Engine's `PROVISIONING`, `RUNNING`, `STOPPING`, `TERMINATED`, …, and `DELETED`; of
    /// Azure's `creating`, `running`, `stopped`, `deleting`, `deleted`, …).
    Instance {
        /// The instance's id.
        id: String,
        /// The state.
        state: String,
        /// Why, or with what (type, zone).
        note: String,
    },
    /// An instance printed a line on its console.
    Console {
        /// The instance's id.
        id: String,
        /// The line.
        line: String,
    },
    /// A runner record changed (`registered`, `online`, `busy`, `offline`, `removed`).
    Runner {
        /// The runner's name.
        name: String,
        /// What it is now.
        state: String,
    },
    /// A job changed (`queued`, `in_progress`, `completed: success`, …; of GitLab's `pending`,
    /// `running`, `completed: failed`, …).
    Job {
        /// The job's name.
        name: String,
        /// The run or pipeline it belongs to.
        run_id: u64,
        /// What it is now.
        state: String,
    },
    /// A job printed a line.
    JobOutput {
        /// The job's name.
        name: String,
        /// The line.
        line: String,
    },
}

/// What all fakes share: the record of calls, the rules for faults, latency, secrets and the sink
/// for events.
#[derive(Debug)]
pub(crate) struct Wire {
    calls: Mutex<Vec<Call>>,
    pub(crate) rules: Mutex<Rules>,
    latency: RwLock<Duration>,
    secrets: Mutex<BTreeSet<String>>,
    sink: Option<UnboundedSender<Event>>,
}

/// Locks, whatever happened to the last holder.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    pub(crate) fn new(latency: Duration, sink: Option<UnboundedSender<Event>>) -> Self {
        Wire {
            calls: Mutex::default(),
            rules: Mutex::default(),
            latency: RwLock::new(latency),
            secrets: Mutex::default(),
            sink,
        }
    }

    /// Shows an event.
    pub(crate) fn emit(&self, event: Event) {
        if let Some(sink) = &self.sink {
            // Nobody watching any more is fine.
            let _ = sink.send(event);
        }
    }

    /// Remembers a value that must never show up in a log, an argument or a job's environment.
    pub(crate) fn secret(&self, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            lock(&self.secrets).insert(value);
        }
    }

    pub(crate) fn secrets(&self) -> Vec<String> {
        lock(&self.secrets).iter().cloned().collect()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    pub(crate) fn latency(&self) -> Duration {
        *self.latency.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        *self.latency.write().unwrap_or_else(PoisonError::into_inner) = latency;
    }

    /// Writes down that a call has come in; the answer is its place in the record.
    pub(crate) fn begin(&self, name: &str, peer: Caller, fault: Option<String>) -> usize {
        let mut calls = lock(&self.calls);
        calls.push(Call {
            // Kubernetes' calls go by verb and resource alone.
            service: name
                .split_once(':')
                .map_or("kubernetes", |(service, _)| service)
                .into(),
            name: name.into(),
            peer,
            started: Instant::now(),
            finished: None,
            status: None,
            code: None,
            fault,
        });
        calls.len() - 1
    }

    /// Writes down how a call ended.
    pub(crate) fn end(&self, index: usize, status: Option<u16>, code: Option<String>) {
        let mut calls = lock(&self.calls);
        if let Some(call) = calls.get_mut(index)
            && call.finished.is_none()
        {
            call.finished = Some(Instant::now());
            call.status = status;
            call.code = code;
            let call = call.clone();
            drop(calls);
            self.emit(Event::Call(call));
        }
    }
}
