//! Microsoft Entra ID: applications and their credentials, managed identities, tokens, what role
//! assignments let callers do; the token endpoint, the Instance Metadata Service, and the machines
//! behind that. Azure Resource Manager itself is in `azure`.

mod access;
mod assertion;
mod control;
mod credentials;
mod directory;
mod endpoint;
mod error;
mod events;
mod metadata;
mod rights;
mod service;
mod vm;

pub(crate) use self::access::{Principal, Unauthorized};
pub use self::credentials::FederatedToken;
pub(crate) use self::directory::{Directory, ManagedIdentity};
pub(crate) use self::events::{Events, ScheduledEvent};
pub(crate) use self::metadata::Facts;
pub(crate) use self::rights::role;
pub(crate) use self::service::Entra;
pub(crate) use self::vm::{Vm, VmParts};

/// The tenant that everything belongs to.
pub(crate) const TENANT: &str = "5c8dbb8a-6f3d-4a2f-9d4e-0b1f6f1c7a90";
/// The subscription that everything belongs to.
pub(crate) const SUBSCRIPTION: &str = "0b1f6f1c-7a90-4d6e-8a52-3f5d1b9c2e74";
/// The launcher's application (client id), and its service principal's object id.
pub(crate) const LAUNCHER: &str = "9e2f4c61-1d7b-4b0a-8c35-6a4d2e8f7b13";
pub(crate) const LAUNCHER_OBJECT: &str = "d3a7f0b2-58c4-4e19-9b6d-71f2c8e5a046";

/// The launcher's certificate, and the key that goes with it, which opens nothing else.
const LAUNCHER_CERTIFICATE: &str = include_str!("launcher.crt.pem");
const LAUNCHER_KEY: &str = include_str!("launcher.key.pem");
