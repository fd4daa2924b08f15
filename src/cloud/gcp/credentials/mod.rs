//! Who we are to Google: one file per source.

use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::http::Http;
use crate::secret::Secret;

/// Every source in its order, and what it brought.
#[derive(Debug)]
pub(super) struct Chain {
    host: Host,
    http: Http,
}

impl Chain {
    pub(super) fn new(host: Host, http: Http) -> Self {
        Self { host, http }
    }

    /// A token to send.
    pub(super) async fn bearer(&self) -> Result<Secret> {
        Ok(Secret::new(""))
    }

    pub(super) async fn project(&self) -> Result<String> {
        Ok(String::new())
    }

    pub(super) async fn account(&self) -> Result<Option<String>> {
        Ok(None)
    }

    pub(super) async fn quota_project(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Hears that a token wasn't taken; `true`: there is another way to one.
    pub(super) async fn refused(&self, _bearer: &Secret) -> bool {
        false
    }
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}
