//! The Instance Metadata Service, of machines and of the host.
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service>

mod identity;
mod instance;
mod service;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use self::identity::AppService;
use self::service::MetadataService;
use super::{Directory, Events, ManagedIdentity, role};
use crate::calls::Wire;
use crate::server::Server;

/// What the metadata service tells about a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its name.
    pub(crate) name: String,
    /// `properties.vmId`.
    pub(crate) vm_id: String,
    /// Its group's name.
    pub(crate) group: String,
    pub(crate) location: String,
    pub(crate) size: String,
    /// Publisher, offer, SKU and version of its image, if it is the marketplace's.
    pub(crate) marketplace_image: Option<[String; 4]>,
    /// Its image's id, if it is another.
    pub(crate) image_id: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) spot: bool,
    pub(crate) computer_name: String,
    pub(crate) admin: String,
    /// The administrator's public keys.
    pub(crate) public_keys: Vec<String>,
    pub(crate) disk_gb: u32,
    pub(crate) private_ip: String,
    /// Its own identity.
    pub(crate) system_identity: Option<ManagedIdentity>,
    /// Those that were assigned to it.
    pub(crate) user_identities: Vec<ManagedIdentity>,
}

/// A machine's metadata service, while it runs.
#[derive(Debug)]
pub(crate) struct InstanceMetadata {
    server: Server,
}

impl InstanceMetadata {
    pub(crate) async fn start(
        wire: Arc<Wire>,
        directory: Arc<Directory>,
        facts: watch::Receiver<Facts>,
        events: Arc<Events>,
    ) -> io::Result<Self> {
        let service = MetadataService::new(directory, facts, events);
        let server = Server::start(Arc::new(service), wire).await?;
        Ok(InstanceMetadata { server })
    }

    /// What is `http://169.254.169.254` on a real machine.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }
}

/// The metadata service of the host, and App Service's in its place: off unless a test makes the
/// host one of Azure's machines.
#[derive(Debug)]
pub(crate) struct HostMetadata {
    server: Server,
    service: Arc<MetadataService>,
    facts: watch::Sender<Facts>,
}

/// The resources whose identities the host has.
const HOST: [&str; 2] = [
    "resourceGroups/ci/providers/Microsoft.Compute/virtualMachines/ci-host",
    "resourceGroups/ci/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ci-launcher",
];

impl HostMetadata {
    pub(crate) async fn start(wire: Arc<Wire>, directory: Arc<Directory>) -> io::Result<Self> {
        let (sender, facts) = watch::channel(Facts {
            name: "ci-host".into(),
            vm_id: "6d7f5b0a-2b0e-4f67-9a43-0e5f4f0d7c21".into(),
            group: "ci".into(),
            location: "westeurope".into(),
            size: "Standard_B2s".into(),
            computer_name: "ci-host".into(),
            admin: "azureuser".into(),
            disk_gb: 30,
            private_ip: "10.8.0.4".into(),
            ..Facts::default()
        });
        let mut service = MetadataService::new(directory, facts, Arc::default());
        service.enabled = AtomicBool::new(false);
        service.app_service = Some(AppService::new(&wire));
        let service = Arc::new(service);
        let server = Server::start(service.clone(), wire).await?;
        Ok(HostMetadata {
            server,
            service,
            facts: sender,
        })
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Makes the host a machine with an identity of its own and one that was assigned to it, which
    /// may both do what launchers may; the answer is the latter's client id.
    pub(crate) fn enable(&self) -> String {
        let directory = &self.service.directory;
        let subscription = Directory::subscription();
        let [own, assigned] = HOST.map(|resource| {
            let identity = directory.add_identity(&format!("{subscription}/{resource}"));
            directory.rights.grant_at_once(
                resource,
                &subscription,
                role::LAUNCHER,
                &identity.object,
            );
            identity
        });
        let client = assigned.client.clone();
        self.facts.send_modify(|facts| {
            facts.system_identity = Some(own);
            facts.user_identities = vec![assigned];
        });
        self.service.enabled.store(true, Ordering::SeqCst);
        client
    }

    /// The variables by which programs in App Service find their identities.
    pub(crate) fn app_service(&self) -> Vec<(String, String)> {
        let secret = self.service.app_service.as_ref().map(AppService::secret);
        vec![
            (
                "IDENTITY_ENDPOINT".into(),
                format!("{}{}", self.server.url(), identity::APP_SERVICE_PATH),
            ),
            ("IDENTITY_HEADER".into(), secret.unwrap_or_default()),
        ]
    }
}

#[cfg(test)]
mod tests;
