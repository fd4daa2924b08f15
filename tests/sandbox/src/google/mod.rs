//! Google's identities and what hands out tokens for them: the OAuth 2.0 token endpoint, the Security
//! Token Service, IAM Credentials, the metadata servers; and GitHub's tokens for workflows, which
//! they take. Compute Engine itself is in `gce`.

mod access;
mod control;
mod credentials;
mod endpoints;
mod error;
mod federation;
mod files;
mod identity;
mod metadata;
mod oauth2;
mod vm;

use crate::jwt;

pub(crate) use self::access::scope_insufficient;
pub(crate) use self::endpoints::Google;
pub(crate) use self::error::{ApiError, document};
pub(crate) use self::identity::{Identity, Principal};
pub(crate) use self::metadata::Facts;
pub(crate) use self::vm::{Vm, VmParts};

/// The project that everything belongs to.
pub(crate) const PROJECT: &str = "octo-ci";
/// Its number.
pub(crate) const PROJECT_NUMBER: u64 = 415_104_041_262;
/// The service account that launchers are.
pub(crate) const LAUNCHER: &str = "runner-launcher@octo-ci.iam.gserviceaccount.com";
/// A service account for runners; it may delete instances.
pub(crate) const RUNNER: &str = "ci-runner@octo-ci.iam.gserviceaccount.com";
/// A service account that may do nothing here.
pub(crate) const READER: &str = "data-reader@octo-ci.iam.gserviceaccount.com";

/// The scope of all that Google Cloud has.
pub(crate) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Compute Engine's own scope.
#[cfg(test)]
pub(crate) const COMPUTE: &str = "https://www.googleapis.com/auth/compute";
/// The same for reading.
#[cfg(test)]
pub(crate) const COMPUTE_READ_ONLY: &str = "https://www.googleapis.com/auth/compute.readonly";

#[cfg(test)]
mod tests;
