//! The metadata server of the machine that this program runs on, and the notices that it gives.
//! <https://cloud.google.com/compute/docs/metadata/querying-metadata>

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::cloud::{NOTICE_INTERVAL, Notice};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy, Reply, Request};

/// Another server than the link's own, as `host` or `host:port`.
const VARIABLE: &str = "GCE_METADATA_HOST";

/// Where it is, by number: no name need be resolved.
const LINK_LOCAL: &str = "169.254.169.254";

/// Set where nobody should look for the server at all.
const DISABLED: &str = "NO_GCE_CHECK";

/// What every request must say, and every answer says: proof that neither was led here by accident.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: HeaderValue = HeaderValue::from_static("Google");

/// A token may have to be fetched by the server first, and the server is away for moments during
/// maintenance.
const READING: Policy = Policy {
    tries: 4,
    total: Duration::from_secs(10),
    per_try: Some(Duration::from_secs(4)),
    idempotent: true,
};

/// How long the server holds a request for a change. Google's own agent asks for as much.
const HELD: Duration = Duration::from_secs(60);

/// One held request, with some seconds for its way.
const WAITING: Policy = Policy {
    tries: 1,
    total: Duration::from_secs(70),
    per_try: Some(Duration::from_secs(70)),
    idempotent: true,
};

/// Between held requests that were answered at once.
const PAUSE: Duration = Duration::from_secs(1);

/// <https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption>
const PREEMPTED: &str = "instance/preempted";

/// <https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice>
const MAINTENANCE: &str = "instance/maintenance-event";

/// A client of the server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    http: Http,
    base: Url,
    disabled: bool,
}

/// What is at a path, and how a change of it is asked for.
#[derive(Debug)]
struct Value {
    text: String,
    etag: Option<String>,
}

impl Server {
    pub(super) fn new(host: Host, http: Http) -> Result<Self> {
        let place = host.env(VARIABLE).unwrap_or(LINK_LOCAL).trim();
        let base = Url::parse(&format!("http://{place}/computeMetadata/v1/"))
            .ok()
            .filter(|url| url.path() == "/computeMetadata/v1/")
            .ok_or_else(|| Error::usage(format!("{VARIABLE} is no host, such as {LINK_LOCAL}")))?;
        Ok(Self {
            http,
            base,
            disabled: host
                .env(DISABLED)
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        })
    }

    /// Whether there is one: whether this is a Google Cloud machine.
    pub(super) async fn is_there(&self) -> bool {
        if self.disabled {
            return false;
        }
        match self.ask("", &[], Policy::LOCAL).await {
            Ok(reply) => is_google(&reply),
            Err(error) => {
                tracing::debug!("no metadata server: {}", error.chain());
                false
            }
        }
    }

    /// What is at a path; `None` where nothing is.
    pub(super) async fn get(&self, path: &str) -> Result<Option<String>> {
        let value = self.read(path, &[], READING).await?;
        Ok(value.map(|value| value.text))
    }

    /// The same, once it differs from what the tag stands for, or some time has passed.
    async fn changed(&self, path: &str, etag: &str) -> Result<Option<Value>> {
        let seconds = HELD.as_secs().to_string();
        let query = [
            ("wait_for_change", "true"),
            ("timeout_sec", seconds.as_str()),
            ("last_etag", etag),
        ];
        self.read(path, &query, WAITING).await
    }

    async fn read(
        &self,
        path: &str,
        query: &[(&str, &str)],
        policy: Policy,
    ) -> Result<Option<Value>> {
        let reply = self.ask(path, query, policy).await?;
        match reply.status {
            StatusCode::OK => Ok(Some(Value {
                text: reply.text().trim().to_owned(),
                etag: reply
                    .headers
                    .get(header::ETAG)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned),
            })),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Error::other(format!("reading the metadata {path}"))
                .caused_by(format!("it answered {status}"))),
        }
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)], policy: Policy) -> Result<Reply> {
        let reading = || Error::other(format!("reading the metadata {path}"));
        let mut url = self
            .base
            .join(path)
            .map_err(|error| reading().caused_by(error))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let build = || {
            let mut request = Request::new(Method::GET, url.clone());
            request.headers.insert(FLAVOR, GOOGLE);
            Ok(request)
        };
        let reply = self
            .http
            .send_direct(&format!("gce-metadata:GET {path}"), policy, build)
            .await?;
        // Some other cloud's, or a router.
        if reply.status.is_success() && !is_google(&reply) {
            return Err(reading().caused_by("what answered isn't Google's metadata server"));
        }
        Ok(reply)
    }
}

fn is_google(reply: &Reply) -> bool {
    reply
        .headers
        .get(FLAVOR)
        .is_some_and(|flavor| flavor == GOOGLE)
}

/// Waits for the next notice of this machine. An outage of the server is waited out.
pub async fn next_notice(host: &Host, http: &Http, rebalance_seen: bool) -> Notice {
    let server = match Server::new(host.clone(), http.clone()) {
        Ok(server) => server,
        Err(error) => {
            tracing::warn!(
                "no notice of an interruption can be seen: {}",
                error.chain()
            );
            return std::future::pending().await;
        }
    };
    if rebalance_seen {
        return watch(&server, PREEMPTED, preemption).await;
    }
    tokio::select! {
        biased;
        notice = watch(&server, PREEMPTED, preemption) => notice,
        notice = watch(&server, MAINTENANCE, maintenance) => notice,
    }
}

/// Some thirty seconds are left.
fn preemption(text: &str) -> Option<Notice> {
    (text == "TRUE").then(|| Notice::Interruption {
        detail: "Compute Engine takes this spot machine away".to_owned(),
    })
}

/// Up to an hour before: the end itself is the machine's power button. A migration is none.
fn maintenance(text: &str) -> Option<Notice> {
    (text == "TERMINATE_ON_HOST_MAINTENANCE").then(|| Notice::Rebalance {
        detail: format!("Compute Engine will stop it for its host's maintenance: {text}"),
    })
}

async fn watch(server: &Server, path: &str, means: impl Fn(&str) -> Option<Notice>) -> Notice {
    let mut etag: Option<String> = None;
    let mut outage = false;
    loop {
        let asked = Instant::now();
        // The first time, what is there already.
        let answer = match &etag {
            None => server.read(path, &[], READING).await,
            Some(etag) => server.changed(path, etag).await,
        };
        let pause = match answer {
            Ok(Some(value)) => {
                outage = false;
                if let Some(notice) = means(&value.text) {
                    return notice;
                }
                let first = etag.is_none();
                etag = value.etag;
                match (&etag, first) {
                    (Some(_), true) => Duration::ZERO,
                    (Some(_), false) => PAUSE.saturating_sub(asked.elapsed()),
                    // Without a tag there is nothing to wait by.
                    (None, _) => NOTICE_INTERVAL,
                }
            }
            Ok(None) => NOTICE_INTERVAL,
            Err(error) => {
                // Once per outage, not every five seconds.
                if !outage {
                    tracing::debug!("looking for notices: {}", error.chain());
                }
                outage = true;
                // What changed in the meantime shows at once.
                etag = None;
                NOTICE_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
