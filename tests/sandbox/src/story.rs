//! What has happened so far, and whether it is over.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use sandbox::{Caller, Event};

/// An instance's life.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) state: String,
    /// Type and zone, or whatever came with its first state.
    pub(crate) note: String,
    pub(crate) born: Instant,
    pub(crate) ended: Option<Instant>,
}

impl Life {
    /// Whether it ended as it should: nothing of it is left that costs money.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.state.as_str(), "terminated" | "DELETED" | "deleted")
    }

    /// Whether it ended, or was left switched off.
    fn is_over(&self) -> bool {
        // Google Cloud's word for one that is off is Amazon's for one that is gone.
        self.is_gone()
            || matches!(
                self.state.as_str(),
                "stopped" | "TERMINATED" | "deallocated"
            )
    }
}

/// The launch from the outside.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) start: Instant,
    /// How the launcher ended, and when.
    pub(crate) exit: Option<(ExitStatus, Duration)>,
    /// When the first runner was online.
    pub(crate) ready: Option<Duration>,
    pub(crate) instances: BTreeMap<String, Life>,
    pub(crate) calls_of_launcher: usize,
    pub(crate) calls_of_instances: usize,
    pub(crate) interrupted: bool,
    wants_job: bool,
    jobs_done: bool,
}

impl Story {
    pub(crate) fn new(wants_job: bool) -> Self {
        Story {
            start: Instant::now(),
            exit: None,
            ready: None,
            instances: BTreeMap::new(),
            calls_of_launcher: 0,
            calls_of_instances: 0,
            interrupted: false,
            wants_job,
            jobs_done: false,
        }
    }

    /// Takes note of an event; says whether it is time to queue the job.
    pub(crate) fn hear(&mut self, event: &Event) -> bool {
        match event {
            Event::Call(call) => match call.peer {
                // A local runner's program is no part of the launcher, though on its machine.
                Caller::Host if call.service != "runner" => self.calls_of_launcher += 1,
                _ => self.calls_of_instances += 1,
            },
            Event::Instance { id, state, note } => {
                let life = self.instances.entry(id.clone()).or_insert_with(|| Life {
                    state: String::new(),
                    note: note.clone(),
                    born: Instant::now(),
                    ended: None,
                });
                life.state.clone_from(state);
                if life.is_over() {
                    life.ended.get_or_insert_with(Instant::now);
                }
            }
            Event::Runner { state, .. } if state == "online" && self.ready.is_none() => {
                self.ready = Some(self.start.elapsed());
                return std::mem::take(&mut self.wants_job);
            }
            Event::Job { state, .. } if state.starts_with("completed") => self.jobs_done = true,
            _ => {}
        }
        false
    }

    pub(crate) fn launcher_ended(&mut self, status: ExitStatus) {
        self.exit = Some((status, self.start.elapsed()));
    }

    /// Whether nothing more will happen by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.exit.is_some() && self.instances.values().all(|life| life.ended.is_some())
    }

    /// Whether the rest is a long wait.
    pub(crate) fn waits_for_idle_timeout(&self, program: &[String]) -> bool {
        let succeeded = self.exit.is_some_and(|(status, _)| status.success());
        succeeded && !self.is_over() && !program.iter().any(|arg| arg.starts_with("--single"))
    }

    /// Whether a job was to run and has.
    pub(crate) fn jobs_done(&self) -> bool {
        self.jobs_done
    }
}
