//! The life of one instance.
//! <https://docs.cloud.google.com/compute/docs/instances/instance-lifecycle>

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::World;
use super::error::Failure;
use super::operation::Status;
use super::state::{Instance, Phase};
use crate::calls::{Event, lock};
use crate::clock;
use crate::google::{Vm, VmParts};

/// What others want of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// End: `instances.delete` was called, and began this operation.
    Delete(String),
    /// The machine is wanted for somebody who pays more: it ends after the notice.
    Preempt,
    /// Somebody pressed the power button, or stopped it.
    PowerButton,
    /// A crash: the machine boots again if it is to.
    Crash,
    /// Crash and boot, whatever its scheduling says.
    Reset,
    /// End at once, without a shutdown: the sandbox ends.
    Destroy,
}

/// Runs an operation that comes to nothing.
pub(super) async fn fail(
    world: Arc<World>,
    key: (String, String),
    operation: String,
    failure: Failure,
) {
    tokio::time::sleep(world.config.visibility_delay).await;
    world.advance(&operation, Status::Running, 0);
    tokio::time::sleep(world.config.boot_delay / 2).await;
    lock(&world.state).reserved.remove(&key);
    world.fail(&operation, failure);
}

/// Why an instance's machine went off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Guest,
    Preemption,
}

/// Runs an instance. One task per instance; it alone changes the phase.
pub(super) async fn live(
    world: Arc<World>,
    instance: Instance,
    operation: String,
    orders: UnboundedReceiver<Order>,
) {
    let id = instance.id;
    tokio::time::sleep(world.config.visibility_delay).await;
    {
        let mut state = lock(&world.state);
        let key = (instance.zone.clone(), instance.name.clone());
        state.reserved.remove(&key);
        state.instances.push(instance);
    }
    world.show(id);
    world.advance(&operation, Status::Running, 10);
    let mut life = Life {
        world,
        id,
        orders,
        early: VecDeque::new(),
        deletions: Vec::new(),
    };
    let deletions = life.run(&operation).await;
    let world = life.world;
    world.end(id);
    world.advance(&operation, Status::Done, 100);
    for deletion in deletions {
        world.advance(&deletion, Status::Done, 100);
    }
}

struct Life {
    world: Arc<World>,
    id: u64,
    orders: UnboundedReceiver<Order>,
    early: VecDeque<Order>,
    /// The operations that wait for the end.
    deletions: Vec<String>,
}

impl Life {
    /// Until the instance is to be no more; the answer is the operations that asked for that.
    async fn run(&mut self, operation: &str) -> Vec<String> {
        let delay = self.world.config.boot_delay / 2;
        if !self.pass(delay).await {
            return std::mem::take(&mut self.deletions);
        }
        self.world.enter(self.id, Phase::Staging);
        self.world.advance(operation, Status::Running, 50);
        if !self.pass(delay).await {
            return std::mem::take(&mut self.deletions);
        }
        let Ok(machine) = boot(&self.world, self.id).await else {
            self.world.fail(operation, Failure::other("INTERNAL_ERROR"));
            return std::mem::take(&mut self.deletions);
        };
        self.world.with_instance(self.id, |instance| {
            instance.machine = Some(machine.clone());
            instance.started = Some(clock::now());
        });
        self.world.enter(self.id, Phase::Running);
        self.world.advance(operation, Status::Done, 100);
        let Some(cause) = self.watch(&machine).await else {
            return Vec::new();
        };
        if !self.deletions.is_empty() {
            return std::mem::take(&mut self.deletions);
        }
        let deletes = self.world.with_instance(self.id, |instance| {
            instance.scheduling.termination_action == "DELETE"
        });
        self.world.enter(self.id, Phase::Stopping);
        tokio::time::sleep(self.world.config.shutdown_delay).await;
        if cause == Cause::Preemption && deletes == Some(true) {
            return Vec::new();
        }
        self.world
            .with_instance(self.id, |instance| instance.stopped = Some(clock::now()));
        self.world.enter(self.id, Phase::Terminated);
        loop {
            match self.next().await {
                Order::Delete(operation) => {
                    self.world.advance(&operation, Status::Running, 0);
                    self.world.enter(self.id, Phase::Stopping);
                    tokio::time::sleep(self.world.config.shutdown_delay).await;
                    return vec![operation];
                }
                Order::Destroy => return Vec::new(),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> Order {
        match self.early.pop_front() {
            Some(order) => order,
            None => self.orders.recv().await.unwrap_or(Order::Destroy),
        }
    }

    /// Lets time pass before there is a machine; false: there shall be none.
    async fn pass(&mut self, time: std::time::Duration) -> bool {
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return true,
                order = self.orders.recv() => match order {
                    Some(Order::Delete(operation)) => {
                        self.world.advance(&operation, Status::Running, 0);
                        self.deletions.push(operation);
                        self.world.enter(self.id, Phase::Stopping);
                        tokio::time::sleep(self.world.config.shutdown_delay).await;
                        return false;
                    }
                    Some(Order::Destroy) | None => return false,
                    // For the machine, once it is there.
                    Some(order) => self.early.push_back(order),
                }
            }
        }
    }

    /// Until the machine is off; `None`: pulled down with the sandbox.
    async fn watch(&mut self, machine: &Vm) -> Option<Cause> {
        let mut cause = Cause::Guest;
        loop {
            let order = match self.early.pop_front() {
                Some(order) => order,
                None => tokio::select! {
                    () = machine.off() => return Some(cause),
                    order = self.orders.recv() => order.unwrap_or(Order::Destroy),
                },
            };
            let machine = machine.clone();
            match order {
                Order::Delete(operation) => {
                    self.world.advance(&operation, Status::Running, 0);
                    self.deletions.push(operation);
                    self.world.enter(self.id, Phase::Stopping);
                    tokio::spawn(async move { machine.shut_down().await });
                }
                Order::PowerButton => {
                    tokio::spawn(async move { machine.shut_down().await });
                }
                Order::Preempt => {
                    cause = Cause::Preemption;
                    let (world, id) = (self.world.clone(), self.id);
                    tokio::spawn(async move { preempt(world, id, machine).await });
                }
                Order::Reset => {
                    tokio::spawn(async move { machine.reset().await });
                }
                Order::Crash => {
                    let restarts = self
                        .world
                        .with_instance(self.id, |instance| instance.scheduling.automatic_restart);
                    if restarts == Some(true) {
                        tokio::spawn(async move { machine.reset().await });
                    } else {
                        machine.pull_plug().await;
                    }
                }
                Order::Destroy => {
                    self.world.enter(self.id, Phase::Stopping);
                    machine.pull_plug().await;
                    return None;
                }
            }
        }
    }
}

/// The notice is given; after its time the power button is pressed.
/// <https://docs.cloud.google.com/compute/docs/instances/preemptible#preemption-process>
async fn preempt(world: Arc<World>, id: u64, machine: Vm) {
    world.with_instance(id, |instance| {
        instance.facts.send_modify(|facts| facts.preempted = true);
    });
    tokio::time::sleep(world.config.spot_notice).await;
    world.enter(id, Phase::Stopping);
    machine.shut_down().await;
}

/// Switches the machine on, with its metadata server.
async fn boot(world: &Arc<World>, id: u64) -> std::io::Result<Vm> {
    let parts = world
        .with_instance(id, |instance| VmParts {
            sandbox: world.folder.clone(),
            id: instance.machine_id.clone(),
            distribution: instance.distribution,
            docker_installed: world.config.docker_installed,
            facts: instance.facts.subscribe(),
        })
        .ok_or_else(|| std::io::Error::other("no such instance"))?;
    Vm::boot(parts, world.wire.clone(), world.identity.clone()).await
}

impl World {
    /// Does something with an instance's record.
    pub(super) fn with_instance<T>(
        &self,
        id: u64,
        f: impl FnOnce(&mut Instance) -> T,
    ) -> Option<T> {
        lock(&self.state).by_id(id).map(f)
    }

    /// Brings an instance into a phase; one that is being deleted isn't stopped.
    fn enter(&self, id: u64, phase: Phase) {
        let is_new = self.with_instance(id, |instance| {
            let is_new = instance.phase != phase && instance.phase != Phase::Deleted;
            if is_new {
                instance.phase = phase;
            }
            is_new
        });
        if is_new == Some(true) {
            self.show(id);
        }
    }

    fn show(&self, id: u64) {
        let event = self.with_instance(id, |instance| Event::Instance {
            id: instance.machine_id.clone(),
            state: instance.phase.name().into(),
            note: format!("{} in {}", instance.machine_type, instance.zone),
        });
        if let Some(event) = event {
            self.wire.emit(event);
        }
    }

    /// The end: what goes with an instance goes.
    fn end(&self, id: u64) {
        self.with_instance(id, |instance| {
            if instance.disk.auto_delete {
                instance.disk.exists = false;
            }
        });
        self.enter(id, Phase::Deleted);
    }
}
