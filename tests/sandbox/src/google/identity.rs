//! Who may call: service accounts with their keys, tokens, permissions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use jiff::{SignedDuration, Timestamp};

use super::error::Result;
use super::jwt::SigningKey;
use super::{CLOUD_PLATFORM, LAUNCHER, PROJECT_NUMBER, READER, RUNNER, access};
use crate::calls::{Wire, lock};
use crate::clock;
use crate::oidc::Issuer;

/// The launcher's key, which opens nothing else.
const LAUNCHER_KEY: &str = include_str!("launcher.pem");

/// What launchers may do unless [`Identity::allow_only`] says otherwise: the specification's list,
/// and what its absence would only make worse.
const DEFAULT_POLICY: &[&str] = &[
    "compute.diskTypes.get",
    "compute.disks.create",
    "compute.firewalls.create",
    "compute.firewalls.delete",
    "compute.globalOperations.get",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
    "compute.machineTypes.get",
    "compute.networks.create",
    "compute.networks.get",
    "compute.networks.updatePolicy",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.zoneOperations.get",
    "compute.zones.get",
    "compute.zones.list",
    "iam.serviceAccounts.actAs",
];

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// A service account's or a person's address, or a federated identity's `principal://…`.
    pub(crate) email: String,
    /// What the token is good for.
    pub(crate) scopes: Vec<String>,
}

impl Principal {
    /// Whether the token has one of these scopes, or the scope of everything.
    pub(crate) fn has_scope(&self, wanted: &[&str]) -> bool {
        let has = |scope: &String| scope == CLOUD_PLATFORM || wanted.contains(&scope.as_str());
        self.scopes.iter().any(has)
    }
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) expires: Timestamp,
}

/// All accounts, tokens and permissions.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(super) wire: Arc<Wire>,
    /// Where files with credentials may lie.
    pub(super) folder: PathBuf,
    /// Where the token endpoints are.
    pub(super) endpoint: OnceLock<String>,
    pub(super) launcher: SigningKey,
    /// GitHub, whose tokens for workflows are taken.
    pub(super) issuer: Issuer,
    pub(super) refresh_token: String,
    pub(super) client_secret: String,
    pub(super) refuses_self_signed: AtomicBool,
    /// Whether the host is an instance, with a metadata server.
    pub(super) host_is_instance: AtomicBool,
    /// Whether nobody may attach an account to an instance.
    refuses_act_as: AtomicBool,
    pub(super) tokens: Mutex<BTreeMap<String, (Principal, Timestamp)>>,
    policies: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Identity {
    pub(crate) fn new(wire: Arc<Wire>, folder: &Path, issuer: Issuer) -> Self {
        let random = |prefix: &str, length| {
            let text = format!("{prefix}{}", clock::random_of(clock::ALPHANUMERIC, length));
            wire.secret(&text);
            text
        };
        let (refresh_token, client_secret) = (random("1//", 100), random("GOCSPX-", 28));
        wire.secret(LAUNCHER_KEY);
        // In whatever way a key is printed, its second line is likely to be in it.
        wire.secret(LAUNCHER_KEY.lines().nth(1).unwrap_or_default());
        let policy = |permissions: &[&str]| permissions.iter().map(|p| (*p).to_owned()).collect();
        let policies = BTreeMap::from([
            (LAUNCHER.to_owned(), policy(DEFAULT_POLICY)),
            (RUNNER.to_owned(), policy(&["compute.instances.delete"])),
            (Self::default_account(), policy(&["compute.*"])),
            (READER.to_owned(), BTreeSet::new()),
        ]);
        Identity {
            folder: folder.to_owned(),
            endpoint: OnceLock::new(),
            launcher: SigningKey::new("0c5f7a19d3be4e62b8f1", LAUNCHER_KEY),
            issuer,
            refresh_token,
            client_secret,
            refuses_self_signed: AtomicBool::new(false),
            host_is_instance: AtomicBool::new(false),
            refuses_act_as: AtomicBool::new(false),
            tokens: Mutex::default(),
            policies: Mutex::new(policies),
            wire,
        }
    }

    /// The account that instances get in the console unless another is chosen.
    pub(crate) fn default_account() -> String {
        format!("{PROJECT_NUMBER}-compute@developer.gserviceaccount.com")
    }

    /// The addresses of all service accounts.
    pub(crate) fn service_accounts(&self) -> Vec<String> {
        lock(&self.policies).keys().cloned().collect()
    }

    /// Who calls an API with this `Authorization` header. `audience` is the API's address, for
    /// which tokens signed by the caller itself are made (`https://compute.googleapis.com/`).
    ///
    /// # Errors
    /// 401 in Google's words.
    pub(crate) fn authenticate(
        &self,
        authorization: Option<&str>,
        audience: &str,
    ) -> Result<Principal> {
        access::authenticate(self, authorization, audience)
    }

    /// Whether a caller may do something (`compute.instances.create`); `on` is what it is done to,
    /// of which an account's address matters alone.
    pub(crate) fn allows(&self, principal: &Principal, permission: &str, on: &str) -> bool {
        if permission == "iam.serviceAccounts.actAs" {
            let known = lock(&self.policies).contains_key(on);
            if !known || self.refuses_act_as.load(Ordering::SeqCst) {
                return false;
            }
        }
        let policies = lock(&self.policies);
        // People and pipelines are let in as launchers here.
        let policy = policies
            .get(&principal.email)
            .or_else(|| policies.get(LAUNCHER));
        policy.is_some_and(|policy| {
            policy
                .iter()
                .any(|pattern| crate::fault::wildcard(pattern, permission))
        })
    }

    /// Makes a token.
    pub(crate) fn token(&self, principal: Principal, lifetime: SignedDuration) -> Token {
        let token = Token {
            value: format!("ya29.c.{}", clock::random_of(clock::ALPHANUMERIC, 180)),
            expires: clock::now() + lifetime,
        };
        self.wire.secret(&token.value);
        lock(&self.tokens).insert(token.value.clone(), (principal, token.expires));
        token
    }

    /// A service account's token, as its metadata server hands it out.
    pub(crate) fn account_token(&self, email: &str, scopes: &[String]) -> Token {
        let principal = Principal {
            email: email.into(),
            scopes: scopes.to_vec(),
        };
        self.token(principal, SignedDuration::from_secs(3599))
    }

    /// Launchers may do this and nothing else.
    pub(crate) fn allow_only(&self, permissions: &[&str]) {
        let policy = permissions.iter().map(|p| (*p).to_owned()).collect();
        lock(&self.policies).insert(LAUNCHER.into(), policy);
    }

    /// Launchers may do this, too.
    pub(crate) fn allow(&self, permission: &str) {
        if let Some(policy) = lock(&self.policies).get_mut(LAUNCHER) {
            policy.insert(permission.into());
        }
    }

    /// Launchers may not do this any more.
    pub(crate) fn deny(&self, permission: &str) {
        if let Some(policy) = lock(&self.policies).get_mut(LAUNCHER) {
            policy.retain(|known| known != permission);
        }
    }

    /// Nobody may attach an account to an instance any more.
    pub(crate) fn refuse_act_as(&self) {
        self.refuses_act_as.store(true, Ordering::SeqCst);
    }

    /// Whether APIs refuse tokens that their callers signed themselves.
    pub(crate) fn refuse_self_signed(&self, refuse: bool) {
        self.refuses_self_signed.store(refuse, Ordering::SeqCst);
    }
}
