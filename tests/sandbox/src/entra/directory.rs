//! The tenant: the launcher's application with its credentials, and managed identities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::rights::Rights;
use super::{LAUNCHER, LAUNCHER_KEY, LAUNCHER_OBJECT, Principal, SUBSCRIPTION};
use crate::calls::{Wire, lock};
use crate::clock;
use crate::jwt::SigningKey;

/// Where sign-in is in the public cloud, and its older address.
pub(super) const PUBLIC: [&str; 2] = [
    "https://login.microsoftonline.com",
    "https://login.windows.net",
];
/// With which the tenant signs its tokens. It opens nothing else.
const TENANT_KEY: &str = include_str!("tenant.pem");

/// An identity that Azure looks after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManagedIdentity {
    /// The resource that it is, or whose it is.
    pub(crate) resource: String,
    /// `clientId`.
    pub(crate) client: String,
    /// `principalId`, the object id.
    pub(crate) object: String,
}

impl ManagedIdentity {
    pub(crate) fn principal(&self) -> Principal {
        Principal {
            client: self.client.clone(),
            object: self.object.clone(),
        }
    }
}

/// The tenant, as far as it matters here.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(super) wire: Arc<Wire>,
    pub(super) key: SigningKey,
    /// What callers may do.
    pub(crate) rights: Rights,
    pub(super) client_secret: String,
    /// One that was good once.
    pub(super) expired_secret: String,
    /// How long it takes until all of the directory knows a new principal.
    replication: Duration,
    /// By resource id, in lower case; with the moment from which everybody knows it.
    identities: Mutex<BTreeMap<String, (ManagedIdentity, Instant)>>,
    resource_manager: Mutex<Option<String>>,
    /// The ids (`uti`) of the tokens that are good.
    pub(super) good_tokens: Mutex<BTreeSet<String>>,
}

impl Directory {
    /// `replication`: how long a new principal isn't found yet; `propagation`: how long a role
    /// assignment doesn't count yet.
    pub(crate) fn new(wire: Arc<Wire>, replication: Duration, propagation: Duration) -> Self {
        let secret = || {
            let (begin, rest) = (
                clock::random_of(clock::ALPHANUMERIC, 5),
                clock::random_of(clock::ALPHANUMERIC, 34),
            );
            let secret = format!("{begin}~{rest}");
            wire.secret(&secret);
            // Forms write the sign before it in another way.
            wire.secret(&rest);
            secret
        };
        let (client_secret, expired_secret) = (secret(), secret());
        wire.secret(LAUNCHER_KEY);
        // In whatever way a key is printed, its second line is likely to be in it.
        wire.secret(LAUNCHER_KEY.lines().nth(1).unwrap_or_default());
        let rights = Rights::new(propagation);
        Directory {
            wire,
            key: SigningKey::new("nOo3ZDrODXEK1jKWhXslHR_KXEg", TENANT_KEY),
            rights,
            client_secret,
            expired_secret,
            replication,
            identities: Mutex::default(),
            resource_manager: Mutex::default(),
            good_tokens: Mutex::default(),
        }
    }

    /// The launcher as callers see it.
    pub(crate) fn launcher() -> Principal {
        Principal {
            client: LAUNCHER.into(),
            object: LAUNCHER_OBJECT.into(),
        }
    }

    /// Tells where Resource Manager is: its URL is a name for it, too, by which tokens are made.
    pub(crate) fn resource_manager_is(&self, url: &str) {
        *lock(&self.resource_manager) = Some(url.trim_end_matches('/').into());
    }

    pub(super) fn resource_manager(&self) -> Option<String> {
        lock(&self.resource_manager).clone()
    }

    /// Makes an identity for a resource (a virtual machine's own, or a user-assigned one that is a
    /// resource itself), or finds it.
    pub(crate) fn add_identity(&self, resource: &str) -> ManagedIdentity {
        let mut identities = lock(&self.identities);
        let known = identities
            .entry(resource.to_lowercase())
            .or_insert_with(|| {
                let identity = ManagedIdentity {
                    resource: resource.into(),
                    client: clock::uuid(),
                    object: clock::uuid(),
                };
                (identity, Instant::now() + self.replication)
            });
        known.0.clone()
    }

    /// The identity of a resource, if it has one.
    pub(crate) fn identity(&self, resource: &str) -> Option<ManagedIdentity> {
        let identities = lock(&self.identities);
        Some(identities.get(&resource.to_lowercase())?.0.clone())
    }

    /// Takes a resource's identity away, and with it everything that it may do. Its tokens last.
    pub(crate) fn remove_identity(&self, resource: &str) {
        lock(&self.identities).remove(&resource.to_lowercase());
    }

    /// Whether a principal is there for all of the directory: what `PrincipalNotFound` is about.
    pub(crate) fn knows(&self, object: &str) -> bool {
        object == LAUNCHER_OBJECT
            || lock(&self.identities)
                .values()
                .any(|(identity, known)| identity.object == object && Instant::now() >= *known)
    }

    /// The launcher's assignment as launchers have it: at the subscription.
    pub(crate) fn subscription() -> String {
        format!("/subscriptions/{SUBSCRIPTION}")
    }
}
