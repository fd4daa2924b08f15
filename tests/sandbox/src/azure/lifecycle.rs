//! The life of one machine.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::mpsc::UnboundedReceiver;

use super::World;
use super::error::ApiError;
use super::path::Kind;
use super::state::{Machine, Outcome, Phase};
use crate::calls::{Event, lock};
use crate::clock;
use crate::entra::{ScheduledEvent, Vm, VmParts};

/// What others want of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// An operation that ends with what the machine is doing.
    Tell(String),
    /// Somebody deletes it.
    Delete {
        /// Without a shutdown.
        forced: bool,
    },
    /// Something is announced to it (`Preempt`, `Terminate`, `Reboot`, …), and then done.
    Announce(String),
    /// A shutdown from outside. It stays, and it is paid for.
    Stop,
    /// A shutdown after which it costs no more than its disk.
    Deallocate,
    /// End at once, without a shutdown: the sandbox ends.
    Destroy,
}

/// Runs a machine. One task per machine; it alone changes the phase, but that a deletion is marked as
/// soon as it was asked for.
pub(super) async fn live(
    world: Arc<World>,
    id: String,
    mut orders: UnboundedReceiver<Order>,
    operation: String,
    failure: Option<ApiError>,
) {
    let mut waiting = vec![operation];
    let mut early = VecDeque::new();
    let delay = tokio::time::sleep(world.config.boot_delay);
    tokio::pin!(delay);
    loop {
        tokio::select! {
            () = &mut delay => break,
            order = orders.recv() => match order {
                Some(Order::Tell(operation)) => waiting.push(operation),
                Some(Order::Delete { .. } | Order::Destroy) | None => {
                    world.end(&id);
                    return world.tell(waiting, &Outcome::Succeeded);
                }
                // For the machine, once it is there.
                Some(order) => early.push_back(order),
            }
        }
    }
    let booted = match failure {
        Some(error) => Err(error),
        None => boot(&world, &id)
            .await
            .map_err(|_| ApiError::allocation("InternalExecutionError", "of the sandbox")),
    };
    let machine = match booted {
        Ok(machine) => machine,
        Err(error) => {
            world.with_machine(&id, |machine| machine.failure = Some(error.clone()));
            world.enter(&id, Phase::Failed, &error.code);
            world.tell(waiting, &Outcome::Failed(error));
            return rest(&world, &id, orders, Vec::new()).await;
        }
    };
    let note = world.with_machine(&id, |record| {
        record.vm = Some(machine.clone());
        format!("{} in {}", record.wanted.size.name, record.location)
    });
    world.enter(&id, Phase::Running, &note.unwrap_or_default());
    world.tell(std::mem::take(&mut waiting), &Outcome::Succeeded);
    // What it becomes when it is off.
    let mut becomes = Phase::Stopped;
    loop {
        let order = match early.pop_front() {
            Some(order) => Some(order),
            None => tokio::select! {
                () = machine.off() => None,
                order = orders.recv() => Some(order.unwrap_or(Order::Destroy)),
            },
        };
        let machine = machine.clone();
        match order {
            None => break,
            Some(Order::Tell(operation)) => waiting.push(operation),
            Some(Order::Delete { forced: true }) => {
                becomes = Phase::Deleted;
                tokio::spawn(async move { machine.pull_plug().await });
            }
            Some(Order::Delete { forced: false }) => {
                becomes = Phase::Deleted;
                tokio::spawn(async move { machine.shut_down().await });
            }
            Some(Order::Stop) => {
                tokio::spawn(async move { machine.shut_down().await });
            }
            Some(Order::Deallocate) => {
                becomes = Phase::Deallocated;
                tokio::spawn(async move { machine.shut_down().await });
            }
            Some(Order::Announce(kind)) => {
                let (world, id) = (world.clone(), id.clone());
                tokio::spawn(async move { announce(world, id, kind, machine).await });
            }
            Some(Order::Destroy) => {
                machine.pull_plug().await;
                world.end(&id);
                return world.tell(waiting, &Outcome::Succeeded);
            }
        }
    }
    // A guest that turned itself off is off; what Azure does to a machine takes its time.
    if becomes != Phase::Stopped {
        tokio::time::sleep(world.config.shutdown_delay).await;
    }
    // An order to delete may have come while it went off.
    let ending = world.with_machine(&id, |machine| machine.phase.is_ending());
    if becomes == Phase::Deleted || ending == Some(true) {
        world.end(&id);
        return world.tell(waiting, &Outcome::Succeeded);
    }
    let note = match becomes {
        Phase::Stopped => "still paid for",
        _ => "",
    };
    world.enter(&id, becomes, note);
    rest(&world, &id, orders, waiting).await;
}

/// A machine that doesn't run, until somebody deletes it.
async fn rest(
    world: &Arc<World>,
    id: &str,
    mut orders: UnboundedReceiver<Order>,
    mut waiting: Vec<String>,
) {
    loop {
        match orders.recv().await {
            Some(Order::Tell(operation)) => waiting.push(operation),
            Some(Order::Deallocate) => world.enter(id, Phase::Deallocated, ""),
            Some(Order::Delete { .. } | Order::Destroy) | None => break,
            Some(Order::Announce(_) | Order::Stop) => {}
        }
    }
    world.end(id);
    world.tell(waiting, &Outcome::Succeeded);
}

/// Switches the machine on, with its metadata service.
async fn boot(world: &Arc<World>, id: &str) -> std::io::Result<Vm> {
    let parts = world.with_machine(id, |machine| VmParts {
        sandbox: world.folder.clone(),
        id: machine.folder.clone(),
        distribution: machine.wanted.image.distribution,
        docker_installed: world.config.docker_installed,
        custom_data: machine.wanted.custom_data.clone(),
        facts: machine.facts.subscribe(),
        events: machine.events.clone(),
    });
    let parts = parts.ok_or_else(|| std::io::Error::other("no such machine"))?;
    Vm::boot(parts, world.wire.clone(), world.directory.clone()).await
}

/// Announces something, waits until the machine approves it or its time has come, and does it.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events>
async fn announce(world: Arc<World>, id: String, kind: String, vm: Vm) {
    let notice = world.config.spot_notice;
    let found = world.with_machine(&id, |machine| {
        (machine.events.clone(), machine.wanted.deleted_when_evicted)
    });
    let Some((events, deleted)) = found else {
        return;
    };
    let event = events.schedule(ScheduledEvent {
        kind: kind.clone(),
        not_before: clock::now() + SignedDuration::try_from(notice).unwrap_or_default(),
        by_user: kind == "Terminate",
        description: String::new(),
    });
    events.approved(&event, notice).await;
    events.start(&event);
    match kind.as_str() {
        "Preempt" if deleted => world.order(&id, Order::Delete { forced: false }),
        "Preempt" => world.order(&id, Order::Deallocate),
        "Terminate" => world.order(&id, Order::Delete { forced: false }),
        "Reboot" | "Redeploy" => vm.reset().await,
        _ => {}
    }
    events.end(&event);
}

impl World {
    /// Does something with a machine's record.
    pub(super) fn with_machine<T>(&self, id: &str, f: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        lock(&self.state).machine_mut(id).map(f)
    }

    /// Tells a machine what is wanted of it. A deletion shows at once.
    pub(super) fn order(&self, id: &str, order: Order) {
        if matches!(order, Order::Delete { .. }) {
            self.enter(id, Phase::Deleting, "");
        }
        self.with_machine(id, |machine| {
            // One that is gone takes no orders.
            let _ = machine.orders.send(order);
        });
    }

    /// Ends operations.
    fn tell(&self, operations: Vec<String>, outcome: &Outcome) {
        for operation in operations {
            self.finish(&operation, outcome.clone());
        }
    }

    /// Brings a machine into a phase, unless it is past that.
    fn enter(&self, id: &str, phase: Phase, note: &str) {
        let name = self.with_machine(id, |machine| {
            let past = machine.phase == phase
                || machine.phase == Phase::Deleted
                || (machine.phase == Phase::Deleting && phase != Phase::Deleted);
            if past {
                return None;
            }
            machine.phase = phase;
            Some(machine.folder.clone())
        });
        if let Some(Some(id)) = name {
            self.wire.emit(Event::Instance {
                id,
                state: phase.name().into(),
                note: note.into(),
            });
        }
    }

    /// The end: what goes with a machine goes, and its identity.
    pub(super) fn end(&self, id: &str) {
        let parts = self.with_machine(id, |machine| {
            if machine.phase == Phase::Deleted {
                return None;
            }
            let identity = machine.identity.as_ref().map(|own| own.resource.clone());
            Some((machine.group.clone(), machine.parts.clone(), identity))
        });
        if let Some(Some((group, parts, identity))) = parts {
            if let Ok(group) = lock(&self.state).group_mut(&group) {
                group.resources.retain(|resource| {
                    let own = parts
                        .iter()
                        .find(|(kind, name, _)| *kind == resource.kind && *name == resource.name);
                    !own.is_some_and(|(kind, _, deleted)| *deleted && goes(&parts, *kind))
                });
            }
            if let Some(resource) = identity {
                self.directory.remove_identity(&resource);
            }
        }
        self.enter(id, Phase::Deleted, "");
    }
}

/// An address goes with its interface alone.
fn goes(parts: &[(Kind, String, bool)], kind: Kind) -> bool {
    kind != Kind::PublicIpAddress
        || parts
            .iter()
            .all(|(kind, _, deleted)| *kind != Kind::NetworkInterface || *deleted)
}
