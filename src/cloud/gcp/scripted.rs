//! What a scripted server says that is Google Cloud.

use serde_json::json;

use crate::cloud::gcp::Gcp;
use crate::cloud::scripted;
pub(super) use crate::cloud::scripted::Seen;
use crate::host::Host;
use crate::http::Http;

/// The key of the account in [`Server::key_file`], for tests alone.
pub(super) const KEY: &str = include_str!("../../../tests/data/debug-key.pem");

/// What is answered.
pub(super) type Answer = scripted::Answer<Gcp>;

impl Answer {
    /// What a metadata server says.
    pub(in crate::cloud::gcp) fn metadata(text: &str, etag: &str) -> Self {
        Self::new(200, text)
            .header("metadata-flavor", "Google")
            .header("etag", etag)
    }

    /// A metadata server has nothing there.
    pub(in crate::cloud::gcp) fn no_metadata() -> Self {
        Self::new(404, "").header("metadata-flavor", "Google")
    }

    /// Compute Engine's error document.
    pub(in crate::cloud::gcp) fn refusal(status: u16, reason: &str, message: &str) -> Self {
        let error = json!({
            "code": status,
            "message": message,
            "errors": [{ "message": message, "domain": "global", "reason": reason }],
        });
        Self::new(status, json!({ "error": error }).to_string())
    }
}

/// The server.
pub(super) type Server = scripted::Server<Gcp>;

impl scripted::Kinds for Gcp {}

impl Server {
    /// A machine for which this server is Compute Engine and the metadata server, and nothing else
    /// is anywhere.
    pub(in crate::cloud::gcp) fn host(&self, more: &[(&str, &str)]) -> Host {
        let compute = format!("{}/compute/v1/", self.url);
        let metadata = self.url.trim_start_matches("http://").to_owned();
        let fixed = [
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", compute.as_str()),
            ("GCE_METADATA_HOST", metadata.as_str()),
            ("HOME", "/no/such/home"),
        ];
        Host::fixed(fixed.into_iter().chain(more.iter().copied()))
    }

    /// The same with a client for it.
    pub(in crate::cloud::gcp) fn machine(&self, more: &[(&str, &str)]) -> (Host, Http) {
        let host = self.host(more);
        let http = Http::new(&host).unwrap();
        (host, http)
    }

    /// A service account's key whose tokens are made at this server.
    pub(in crate::cloud::gcp) fn key_file(&self) -> String {
        json!({
            "type": "service_account",
            "project_id": "proj",
            "private_key_id": "kid1",
            "private_key": KEY,
            "client_email": "ci@proj.iam.gserviceaccount.com",
            "token_uri": format!("{}/token", self.url),
            "universe_domain": "googleapis.com",
        })
        .to_string()
    }
}
