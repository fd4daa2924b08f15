//! A Compute Engine instance's machine, with its metadata server.

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::Identity;
use super::metadata::{Facts, InstanceMetadata};
use crate::calls::Wire;
use crate::instance::{Cloud, Distribution, Machine, Parts};

/// What a machine is made from.
#[derive(Debug)]
pub(crate) struct VmParts {
    /// The sandbox's folder.
    pub(crate) sandbox: PathBuf,
    /// What its folder, its events and its calls are known by: the instance's name, as long as no
    /// other instance has had that.
    pub(crate) id: String,
    /// What the image holds.
    pub(crate) distribution: Distribution,
    /// Whether the image brings Docker and git.
    pub(crate) docker_installed: bool,
    /// What its metadata server tells, and the script that it runs at every boot.
    pub(crate) facts: watch::Receiver<Facts>,
}

/// A machine that is on, or was. See [`Machine`] for what can be done to it: `shut_down` is the
/// power button, `off` ends when it is off, `reset` crashes it and lets it boot again.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    machine: Machine,
    _metadata: Arc<InstanceMetadata>,
}

impl Vm {
    /// Makes the disk and starts the machine; its startup script runs from now on.
    pub(crate) async fn boot(
        parts: VmParts,
        wire: Arc<Wire>,
        identity: Arc<Identity>,
    ) -> io::Result<Self> {
        let metadata = InstanceMetadata::start(wire.clone(), identity, parts.facts.clone()).await?;
        let parts = Parts {
            sandbox: parts.sandbox,
            id: parts.id,
            distribution: parts.distribution,
            docker_installed: parts.docker_installed,
            cloud: Cloud::Google {
                facts: parts.facts,
                metadata: metadata.host(),
            },
        };
        Ok(Vm {
            machine: Machine::boot(parts, wire).await?,
            _metadata: Arc::new(metadata),
        })
    }
}

impl Deref for Vm {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}
