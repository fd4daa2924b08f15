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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::google::LAUNCHER;
    use crate::oidc::Issuer;
    use crate::{Config, Sandbox};

    struct Lab {
        sandbox: Sandbox,
        facts: watch::Sender<Facts>,
        vm: Vm,
    }

    async fn boot(script: &str) -> Lab {
        let sandbox = Sandbox::start(Config::new("/bin/true")).await.unwrap();
        let attributes = [("startup-script".to_owned(), script.to_owned())];
        let facts = watch::Sender::new(Facts {
            name: "ci-1".into(),
            service_account: Some((LAUNCHER.into(), Vec::new())),
            attributes: attributes.into(),
            ..Facts::default()
        });
        let parts = VmParts {
            sandbox: sandbox.folder().to_owned(),
            id: "ci-1".into(),
            distribution: Distribution::Ubuntu("24.04"),
            docker_installed: true,
            facts: facts.subscribe(),
        };
        let wire = sandbox.wire.clone();
        let identity = Arc::new(Identity::new(
            wire.clone(),
            Path::new("/nowhere"),
            Issuer::new(wire.clone()),
        ));
        let vm = Vm::boot(parts, wire, identity).await.unwrap();
        Lab { sandbox, facts, vm }
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
    async fn the_startup_script_is_run_at_every_boot_as_the_guest_agent_does() {
        let lab = boot(
            "\n#!/bin/sh\necho \"home: ${HOME-none}, at $GCE_METADATA_HOST\"\necho \"run: $0\" >&2\n\
             ls \"$RUNNER_LAUNCH_ROOT/run\" \"$RUNNER_LAUNCH_ROOT/var/lib\"\n\
             touch \"$RUNNER_LAUNCH_ROOT/run/a\" \"$RUNNER_LAUNCH_ROOT/var/lib/b\"\nexit 3\n",
        )
        .await;
        lab.until_printed("Finished running startup scripts.").await;
        let console = lab.vm.console_text();
        for text in [
            "google_metadata_script_runner[612]: startup-script: home: none, at 127.0.0.1:",
            "startup-script: run: ",
            "Script \"startup-script\" failed with error: exit status 3",
        ] {
            assert!(console.contains(text), "{text:?} not in {console}");
        }
        assert!(!console.contains("startup-script: b"), "{console}");
        lab.vm.reset().await;
        lab.until_printed("startup-script: b\n").await;
        assert!(!lab.vm.console_text().contains("startup-script: a\n"));
        // It is asked for anew each time.
        lab.facts.send_modify(|facts| facts.attributes.clear());
        lab.vm.reset().await;
        lab.until_printed("No startup scripts to run.").await;
        lab.vm.pull_plug().await;
    }

    #[tokio::test]
    async fn a_script_may_switch_its_machine_off() {
        let lab = boot("systemctl poweroff; sleep 600").await;
        tokio::time::timeout(Duration::from_secs(20), lab.vm.off())
            .await
            .unwrap();
        assert!(lab.vm.console_text().contains("Shutting down"));
        lab.vm.reset().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let processes = crate::instance::processes(lab.sandbox.folder(), "ci-1");
        assert!(processes.is_empty(), "{processes:?}");
    }

    #[tokio::test]
    async fn what_a_machine_does_is_its_own() {
        let lab = boot(
            "#!/bin/sh\ncurl -s -H 'Metadata-Flavor: Google' \
             \"http://$GCE_METADATA_HOST/computeMetadata/v1/instance/name\"; echo",
        )
        .await;
        lab.until_printed("startup-script: ci-1").await;
        let calls = lab.sandbox.calls();
        let call = calls
            .iter()
            .find(|call| call.service == "gce-metadata")
            .unwrap();
        assert_eq!(call.name, "gce-metadata:GET instance/name");
        assert_eq!(call.peer, crate::Caller::Instance("ci-1".into()));
        lab.vm.pull_plug().await;
    }
}
