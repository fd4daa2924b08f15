//! An Azure virtual machine, with its metadata service.

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::metadata::{Facts, InstanceMetadata};
use super::{Directory, Events};
use crate::calls::Wire;
use crate::instance::{Cloud, Distribution, Machine, Parts};

/// What a machine is made from.
#[derive(Debug)]
pub(crate) struct VmParts {
    /// The sandbox's folder.
    pub(crate) sandbox: PathBuf,
    /// What its folder, its events and its calls are known by: the machine's name, as long as no
    /// other machine has had that.
    pub(crate) id: String,
    /// What the image holds.
    pub(crate) distribution: Distribution,
    /// Whether the image brings Docker and git.
    pub(crate) docker_installed: bool,
    /// As given in `osProfile`, decoded from Base64: cloud-init runs it once.
    pub(crate) custom_data: Vec<u8>,
    /// What its metadata service tells.
    pub(crate) facts: watch::Receiver<Facts>,
    /// What is going to happen to it.
    pub(crate) events: Arc<Events>,
}

/// A machine that is on, or was. See [`Machine`] for what can be done to it: `shut_down` is a
/// shutdown from outside (or the power button), `off` ends when it is off (which is `stopped` and
/// still paid for, if nobody deallocates it), `pull_plug` takes it away at once, `reset` crashes it
/// and lets it boot again.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    machine: Machine,
    _metadata: Arc<InstanceMetadata>,
}

impl Vm {
    /// Makes the disk and starts the machine; its custom data runs from now on.
    pub(crate) async fn boot(
        parts: VmParts,
        wire: Arc<Wire>,
        directory: Arc<Directory>,
    ) -> io::Result<Self> {
        let metadata =
            InstanceMetadata::start(wire.clone(), directory, parts.facts, parts.events).await?;
        let parts = Parts {
            sandbox: parts.sandbox,
            id: parts.id,
            distribution: parts.distribution,
            docker_installed: parts.docker_installed,
            cloud: Cloud::Azure {
                custom_data: parts.custom_data,
                metadata: metadata.url(),
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::calls::Caller;
    use crate::{Config, Sandbox};

    struct Lab {
        sandbox: Sandbox,
        _facts: watch::Sender<Facts>,
        vm: Vm,
    }

    async fn boot(script: &str) -> Lab {
        let sandbox = Sandbox::start(Config::new("/bin/true")).await.unwrap();
        let wire = sandbox.wire.clone();
        let directory = Directory::new(wire.clone(), Duration::ZERO, Duration::ZERO);
        let facts = watch::Sender::new(Facts {
            name: "ci-1".into(),
            system_identity: Some(directory.add_identity("/vm")),
            ..Facts::default()
        });
        let parts = VmParts {
            sandbox: sandbox.folder().to_owned(),
            id: "ci-1".into(),
            distribution: Distribution::Ubuntu("24.04"),
            docker_installed: true,
            custom_data: script.into(),
            facts: facts.subscribe(),
            events: Arc::default(),
        };
        let vm = Vm::boot(parts, wire, Arc::new(directory)).await.unwrap();
        Lab {
            sandbox,
            _facts: facts,
            vm,
        }
    }

    impl Lab {
        async fn until_printed(&self, text: &str) {
            let start = Instant::now();
            while !self.vm.console_text().contains(text) {
                let console = self.vm.console_text();
                assert!(
                    start.elapsed() < Duration::from_secs(30),
                    "no {text:?} in {console}"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn custom_data_runs_once_and_scripts_for_every_boot_at_the_next() {
        let lab = boot(
            "#!/bin/sh\necho \"user data: $HOME\"\n\
             scripts=$RUNNER_LAUNCH_ROOT/var/lib/cloud/scripts/per-boot\nmkdir -p \"$scripts\"\n\
             printf '#!/bin/sh\\necho per boot\\n' >\"$scripts/1\"\nchmod 755 \"$scripts/1\"\n",
        )
        .await;
        lab.until_printed("cloud-init: finished").await;
        assert!(!lab.vm.console_text().contains("per boot\n"));
        lab.vm.reset().await;
        lab.until_printed("\nper boot\n").await;
        let console = lab.vm.console_text();
        assert_eq!(console.matches("user data: ").count(), 1, "{console}");
        lab.vm.pull_plug().await;
    }

    #[tokio::test]
    async fn a_machine_finds_its_identity_and_may_switch_itself_off() {
        let lab = boot(
            "#!/bin/sh\ncurl -s -o /dev/null -w 'token %{http_code}\\n' -H 'Metadata: true' \
             \"$AZURE_POD_IDENTITY_AUTHORITY_HOST/metadata/identity/oauth2/token?\
             api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F\"\n\
             systemctl poweroff\nsleep 600\n",
        )
        .await;
        tokio::time::timeout(Duration::from_secs(20), lab.vm.off())
            .await
            .unwrap();
        let console = lab.vm.console_text();
        assert!(console.contains("token 200\n"), "{console}");
        let calls = lab.sandbox.calls();
        let call = calls.iter().find(|call| call.name == "azure-imds:identity");
        assert_eq!(call.unwrap().peer, Caller::Instance("ci-1".into()));
    }
}
