//! The metadata server, of instances and of the host.
//! <https://cloud.google.com/compute/docs/metadata/querying-metadata>

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use http::StatusCode;
use tokio::sync::watch;

use super::Identity;
use crate::calls::Wire;
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Server, Service};

/// What the metadata server tells about an instance. Whoever changes it wakes the calls that wait
/// for a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its number.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: String,
    /// Its zone's name.
    pub(crate) zone: String,
    /// Its machine type's name.
    pub(crate) machine_type: String,
    /// Its image: `projects/…/global/images/…`.
    pub(crate) image: String,
    pub(crate) description: String,
    /// Its own metadata, `startup-script` among it.
    pub(crate) attributes: BTreeMap<String, String>,
    /// Its network tags.
    pub(crate) tags: Vec<String>,
    /// The attached account's address and scopes.
    pub(crate) service_account: Option<(String, Vec<String>)>,
    /// Its network's name.
    pub(crate) network: String,
    pub(crate) internal_ip: String,
    pub(crate) external_ip: Option<String>,
    pub(crate) automatic_restart: bool,
    /// Whether it ends, instead of being moved, when its host is maintained.
    pub(crate) terminates_on_maintenance: bool,
    /// Whether it is spot.
    pub(crate) preemptible: bool,
    /// Whether it is being preempted.
    pub(crate) preempted: bool,
    /// `MIGRATE_ON_HOST_MAINTENANCE` or `TERMINATE_ON_HOST_MAINTENANCE`; `None`: nothing is
    /// planned.
    pub(crate) maintenance: Option<String>,
}

/// An instance's metadata server, while it runs.
#[derive(Debug)]
pub(crate) struct InstanceMetadata {
    server: Server,
}

#[derive(Debug)]
struct InstanceService {
    #[expect(dead_code, reason = "the next commit answers")]
    identity: Arc<Identity>,
    #[expect(dead_code, reason = "the next commit answers")]
    facts: watch::Receiver<Facts>,
}

impl InstanceMetadata {
    pub(crate) async fn start(
        wire: Arc<Wire>,
        identity: Arc<Identity>,
        facts: watch::Receiver<Facts>,
    ) -> io::Result<Self> {
        let service = Arc::new(InstanceService { identity, facts });
        let server = Server::start(service, wire).await?;
        Ok(InstanceMetadata { server })
    }

    /// `127.0.0.1:PORT`, as `GCE_METADATA_HOST` has it.
    pub(crate) fn host(&self) -> String {
        self.server.address.to_string()
    }
}

impl Service for InstanceService {
    fn classify(&self, request: &Request) -> String {
        format!("gce-metadata:{} {}", request.parts.method, request.path())
    }

    fn refuse(&self, _: Refusal, _: &Request) -> Response {
        not_found()
    }

    fn handle(self: Arc<Self>, _: Request) -> Answer {
        Box::pin(async move { not_found() })
    }

    fn is_local(&self) -> bool {
        true
    }
}

fn not_found() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
