//! What a scripted server says that is Azure.

use serde_json::json;

use crate::cloud::azure::Azure;
use crate::cloud::scripted;
pub(super) use crate::cloud::scripted::Seen;
use crate::host::Host;
use crate::http::Http;

impl Seen {
    /// The server's own address and a path.
    pub(in crate::cloud::azure) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.header("host").unwrap_or_default())
    }
}

/// What is answered.
pub(super) type Answer = scripted::Answer<Azure>;

impl Answer {
    /// Resource Manager's error document.
    pub(in crate::cloud::azure) fn refusal(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "error": { "code": code, "message": message } });
        Self::new(status, body.to_string())
    }
}

/// Entra's answer to a good request for a token.
pub(super) fn token(text: &str) -> Answer {
    Answer::json(&json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": text }))
}

/// The line with which [`Server::signed_in`] has a token made.
pub(super) const TOKEN: &str = "POST /tenant/oauth2/v2.0/token";

/// The subscription of [`Server::host`].
pub(super) const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";

/// The server.
pub(super) type Server = scripted::Server<Azure>;

impl scripted::Kinds for Azure {}

impl Server {
    /// An environment in which this server is Entra, Resource Manager and the metadata service.
    pub(in crate::cloud::azure) fn host(&self, more: &[(&str, &str)]) -> (Host, Http) {
        let places = [
            ("AZURE_AUTHORITY_HOST", self.url.as_str()),
            ("AZURE_RESOURCE_MANAGER_ENDPOINT", self.url.as_str()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", self.url.as_str()),
            ("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION),
        ];
        let host = Host::fixed(places.into_iter().chain(more.iter().copied()));
        let http = Http::new(&host).unwrap();
        (host, http)
    }

    /// The same with a client secret.
    pub(in crate::cloud::azure) fn signed_in(&self) -> (Host, Http) {
        self.host(&[
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_CLIENT_SECRET", "s3cr3t&+"),
        ])
    }
}
