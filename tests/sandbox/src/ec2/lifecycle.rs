//! The life of one instance, from `pending` to `terminated`.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::mpsc::UnboundedReceiver;

use super::World;
use super::catalogue;
use super::state::{Instance, Phase, Reason};
use crate::calls::Event;
use crate::clock;
use crate::imds::InstanceMetadata;
use crate::instance::{Cloud, Machine, Parts};

/// What others want of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// End: TerminateInstances was called.
    Terminate,
    /// The spot market takes it back, after the notice.
    Interrupt,
    /// Somebody pressed the power button.
    PowerButton,
    /// End at once, without a shutdown: the sandbox ends.
    Destroy,
}

/// Runs an instance. One task per instance; it alone changes the phase, except that
/// TerminateInstances itself marks it as shutting down.
pub(crate) async fn live(world: Arc<World>, id: String, mut orders: UnboundedReceiver<Order>) {
    let mut early = VecDeque::new();
    let delay = tokio::time::sleep(world.config.boot_delay);
    tokio::pin!(delay);
    loop {
        tokio::select! {
            () = &mut delay => break,
            order = orders.recv() => match order {
                // For the machine, once it is there.
                Some(order @ (Order::Interrupt | Order::PowerButton)) => early.push_back(order),
                Some(Order::Terminate | Order::Destroy) | None => {
                    world.end(&id, None);
                    return;
                }
            }
        }
    }
    let Ok((machine, metadata)) = boot(&world, &id).await else {
        world.enter(&id, Phase::ShuttingDown, Some(Reason::BROKEN));
        world.end(&id, None);
        return;
    };
    let dropped = {
        let machine = machine.clone();
        // It may have been terminated in the very moment of its boot.
        world.with_instance(&id, |instance| {
            instance.machine = Some(machine);
            instance.phase.is_ending()
        })
    };
    if dropped != Some(true) {
        world.enter(&id, Phase::Running, None);
    }
    loop {
        let order = match early.pop_front() {
            Some(order) => Some(order),
            None => tokio::select! {
                () = machine.off() => None,
                order = orders.recv() => Some(order.unwrap_or(Order::Destroy)),
            },
        };
        match order {
            None => break,
            Some(Order::PowerButton) => {
                let machine = machine.clone();
                tokio::spawn(async move { machine.shut_down().await });
            }
            Some(Order::Interrupt) => {
                let world = world.clone();
                let id = id.clone();
                tokio::spawn(async move { interrupt(world, id).await });
            }
            Some(Order::Terminate) => {
                let machine = machine.clone();
                tokio::spawn(async move { machine.shut_down().await });
            }
            Some(Order::Destroy) => {
                world.enter(&id, Phase::ShuttingDown, Some(Reason::USER));
                machine.pull_plug().await;
                world.end(&id, None);
                return;
            }
        }
    }
    drop(metadata);
    // The machine is off: on its own account, unless it was told to end.
    let (ending, behavior) = world
        .with_instance(&id, |instance| {
            (
                instance.phase.is_ending(),
                instance.shutdown_behavior.clone(),
            )
        })
        .unwrap_or((true, String::new()));
    if !ending && behavior == "stop" {
        world.enter(&id, Phase::Stopping, Some(Reason::GUEST));
        tokio::time::sleep(world.config.shutdown_delay).await;
        world.enter(&id, Phase::Stopped, Some(Reason::GUEST));
        while let Some(order) = orders.recv().await {
            if matches!(order, Order::Terminate | Order::Destroy) {
                break;
            }
        }
        world.end(&id, None);
        return;
    }
    if !ending {
        world.enter(&id, Phase::ShuttingDown, Some(Reason::GUEST));
    }
    tokio::time::sleep(world.config.shutdown_delay).await;
    world.end(&id, None);
}

/// Switches the machine on, with its metadata service.
async fn boot(world: &Arc<World>, id: &str) -> std::io::Result<(Machine, InstanceMetadata)> {
    let metadata = InstanceMetadata::start(world.clone(), id).await?;
    let gone = || std::io::Error::other("no such instance");
    let (image, user_data) = world
        .with_instance(id, |instance| {
            (instance.image.clone(), instance.user_data.clone())
        })
        .ok_or_else(gone)?;
    let distribution = world
        .images
        .iter()
        .find(|candidate| candidate.id == image)
        .ok_or_else(gone)?
        .distribution;
    let parts = Parts {
        sandbox: world.folder.clone(),
        id: id.into(),
        distribution,
        docker_installed: world.config.docker_installed,
        cloud: Cloud::Amazon {
            user_data,
            metadata: metadata.url(),
        },
    };
    let machine = Machine::boot(parts, world.wire.clone()).await?;
    Ok((machine, metadata))
}

/// The notice has been given; after its time the instance is shut down.
async fn interrupt(world: Arc<World>, id: String) {
    let notice = world.config.spot_notice;
    world.with_instance(&id, |instance| {
        let time = SignedDuration::try_from(notice).unwrap_or_default();
        instance.interruption = Some(clock::now() + time);
    });
    tokio::time::sleep(notice).await;
    world.enter(&id, Phase::ShuttingDown, Some(Reason::SPOT));
    let machine = world.with_instance(&id, |instance| instance.machine.clone());
    if let Some(Some(machine)) = machine {
        machine.shut_down().await;
    }
}

impl World {
    /// The architecture of a type.
    pub(crate) fn architecture(&self, instance_type: &str) -> &'static str {
        catalogue::instance_type(instance_type).map_or("x86_64", |kind| kind.architecture)
    }

    /// Does something with an instance's record.
    pub(crate) fn with_instance<T>(
        &self,
        id: &str,
        f: impl FnOnce(&mut Instance) -> T,
    ) -> Option<T> {
        crate::calls::lock(&self.state).instance_mut(id).map(f)
    }

    /// Brings an instance into a phase, unless it is past that.
    pub(crate) fn enter(&self, id: &str, phase: Phase, reason: Option<Reason>) {
        let note = self.with_instance(id, |instance| {
            if instance.phase >= phase {
                return None;
            }
            instance.phase = phase;
            if reason.is_some() {
                instance.reason = reason;
                instance.ended = Some(clock::now());
            }
            Some(match reason {
                Some(reason) => reason.code.to_owned(),
                None => format!("{} in {}", instance.instance_type, instance.zone),
            })
        });
        if let Some(Some(note)) = note {
            self.wire.emit(Event::Instance {
                id: id.into(),
                state: phase.name().into(),
                note,
            });
        }
    }

    /// The end: `terminated`, and what goes with an instance goes.
    fn end(&self, id: &str, reason: Option<Reason>) {
        {
            let mut state = crate::calls::lock(&self.state);
            for volume in &mut state.volumes {
                if volume.instance == id && volume.delete_on_termination {
                    volume.exists = false;
                }
            }
        }
        self.enter(id, Phase::Terminated, reason);
    }
}
