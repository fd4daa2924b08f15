//! What runs of Entra ID: the token endpoint, and the host's metadata service.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::endpoint::TokenService;
use super::metadata::HostMetadata;
use super::{Directory, LAUNCHER, SUBSCRIPTION, TENANT};
use crate::Config;
use crate::calls::Wire;
use crate::oidc::Issuer;
use crate::server::Server;

/// Entra ID, running.
#[derive(Debug, Clone)]
pub(crate) struct Entra {
    directory: Arc<Directory>,
    authority: Arc<Server>,
    pub(super) host: Arc<HostMetadata>,
    pub(super) issuer: Issuer,
    pub(super) folder: PathBuf,
}

impl Entra {
    /// Starts everything; files with credentials will lie in `folder`.
    pub(crate) async fn start(
        wire: Arc<Wire>,
        config: &Config,
        folder: &Path,
        issuer: Issuer,
    ) -> io::Result<Self> {
        let directory = Arc::new(Directory::new(
            wire.clone(),
            config.visibility_delay,
            config.role_delay,
        ));
        let service = TokenService {
            directory: directory.clone(),
            issuer: issuer.clone(),
        };
        let authority = Server::start(Arc::new(service), wire.clone()).await?;
        let host = HostMetadata::start(wire, directory.clone()).await?;
        Ok(Entra {
            directory,
            authority: Arc::new(authority),
            host: Arc::new(host),
            issuer,
            folder: folder.to_owned(),
        })
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The variables that lead to the token endpoint and to the host's metadata service, and those
    /// with which the launcher signs in with a secret.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        vec![
            ("AZURE_AUTHORITY_HOST".into(), self.authority.url()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST".into(), self.host.url()),
            ("AZURE_TENANT_ID".into(), TENANT.into()),
            ("AZURE_CLIENT_ID".into(), LAUNCHER.into()),
            (
                "AZURE_CLIENT_SECRET".into(),
                self.directory.client_secret.clone(),
            ),
            ("AZURE_SUBSCRIPTION_ID".into(), SUBSCRIPTION.into()),
        ]
    }
}
