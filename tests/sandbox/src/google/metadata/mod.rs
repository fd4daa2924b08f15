//! The metadata server, of instances and of the host.
//! <https://cloud.google.com/compute/docs/metadata/querying-metadata>

mod tree;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use self::tree::Entry;
use super::identity::Token;
use super::{CLOUD_PLATFORM, Identity, LAUNCHER};
use crate::calls::{Wire, lock};
use crate::clock;
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Server, Service};

const ROOT: &str = "/computeMetadata/v1/";
const FLAVOR: &str = "metadata-flavor";
/// A token is handed out again until this many seconds before its end.
const RENEWAL: i64 = 300;
/// Longer than any caller waits.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

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

impl InstanceMetadata {
    pub(crate) async fn start(
        wire: Arc<Wire>,
        identity: Arc<Identity>,
        facts: watch::Receiver<Facts>,
    ) -> io::Result<Self> {
        let service = Arc::new(MetadataService::new(identity, facts, false));
        let server = Server::start(service, wire).await?;
        Ok(InstanceMetadata { server })
    }

    /// `127.0.0.1:PORT`, as `GCE_METADATA_HOST` has it.
    pub(crate) fn host(&self) -> String {
        self.server.address.to_string()
    }
}

/// The metadata server of the host: off unless a test makes the host an instance.
#[derive(Debug)]
pub(crate) struct HostMetadata {
    server: Server,
    _facts: watch::Sender<Facts>,
}

impl HostMetadata {
    pub(crate) async fn start(wire: Arc<Wire>, identity: Arc<Identity>) -> io::Result<Self> {
        let (sender, facts) = watch::channel(Facts {
            id: 7_313_000_000_000_000_001,
            name: "ci-host".into(),
            zone: "us-east1-c".into(),
            machine_type: "e2-small".into(),
            network: "default".into(),
            internal_ip: "10.142.0.9".into(),
            automatic_restart: true,
            service_account: Some((LAUNCHER.into(), vec![CLOUD_PLATFORM.into()])),
            ..Facts::default()
        });
        let service = Arc::new(MetadataService::new(identity, facts, true));
        let server = Server::start(service, wire).await?;
        Ok(HostMetadata {
            server,
            _facts: sender,
        })
    }

    /// `127.0.0.1:PORT`, as `GCE_METADATA_HOST` has it.
    pub(crate) fn host(&self) -> String {
        self.server.address.to_string()
    }
}

#[derive(Debug)]
struct MetadataService {
    identity: Arc<Identity>,
    facts: watch::Receiver<Facts>,
    /// Whether it is the host's.
    of_host: bool,
    /// The account's token, once it was asked for.
    token: Mutex<Option<Token>>,
}

/// What a query may ask for besides a value.
#[derive(Debug, Default)]
struct Query {
    recursive: bool,
    json: Option<bool>,
    waits: bool,
    last_etag: Option<String>,
    timeout: Option<Duration>,
}

impl Query {
    fn read(query: &str) -> Self {
        let mut read = Query::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "recursive" => read.recursive = value.eq_ignore_ascii_case("true"),
                "alt" => read.json = Some(value == "json"),
                "wait_for_change" => read.waits = value.eq_ignore_ascii_case("true"),
                "last_etag" => read.last_etag = Some(value.into_owned()),
                "timeout_sec" => read.timeout = value.parse().ok().map(Duration::from_secs),
                _ => {}
            }
        }
        read
    }
}

impl Service for MetadataService {
    fn classify(&self, request: &Request) -> String {
        let path = request.path();
        let path = path.strip_prefix(ROOT).unwrap_or(path);
        format!("gce-metadata:{} {path}", request.parts.method)
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Response {
        let status = match refusal {
            Refusal::Status(status) => StatusCode::from_u16(status).unwrap_or_default(),
            Refusal::Denied => StatusCode::FORBIDDEN,
            Refusal::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Capacity => StatusCode::SERVICE_UNAVAILABLE,
        };
        page(status)
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move { self.answer(&request).await })
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl MetadataService {
    fn new(identity: Arc<Identity>, facts: watch::Receiver<Facts>, of_host: bool) -> Self {
        MetadataService {
            identity,
            facts,
            of_host,
            token: Mutex::default(),
        }
    }

    async fn answer(&self, request: &Request) -> Response {
        if self.of_host && !self.identity.host_is_instance.load(Ordering::SeqCst) {
            // Whoever this is, it isn't Google's: no header says so.
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        if request.path() == "/" {
            return found("computeMetadata/\n".into(), false);
        }
        let Some(path) = request.path().strip_prefix(ROOT) else {
            return page(StatusCode::NOT_FOUND);
        };
        let asks_google = request
            .header(FLAVOR)
            .is_some_and(|flavor| flavor.eq_ignore_ascii_case("google"));
        if !asks_google || request.header("x-forwarded-for").is_some() {
            return page(StatusCode::FORBIDDEN);
        }
        if request.parts.method != Method::GET {
            return page(StatusCode::METHOD_NOT_ALLOWED);
        }
        let query = Query::read(request.query());
        let first = self.look(path, &query);
        if !query.waits {
            return first.into_response(request);
        }
        let known = match &query.last_etag {
            Some(etag) => Some(etag.clone()),
            None => first.etag(),
        };
        self.changed(path, &query, known.as_deref(), request)
            .await
            .into_response(request)
    }

    /// Looks again and again until the value is another one than the caller knows, or the caller's
    /// time is up.
    async fn changed(
        &self,
        path: &str,
        query: &Query,
        known: Option<&str>,
        request: &Request,
    ) -> Seen {
        let mut facts = self.facts.clone();
        let timeout = tokio::time::sleep(query.timeout.unwrap_or(FOREVER));
        tokio::pin!(timeout);
        loop {
            facts.mark_unchanged();
            let seen = self.look(path, query);
            if seen.etag().as_deref() != known {
                return seen;
            }
            tokio::select! {
                changed = facts.changed() => if changed.is_err() {
                    // The instance is gone, and nothing changes any more.
                    return seen;
                },
                () = &mut timeout => return seen,
                () = request.hung_up() => return seen,
            }
        }
    }

    fn look(&self, path: &str, query: &Query) -> Seen {
        let facts = self.facts.borrow().clone();
        let root = Entry::of(&facts);
        let Some(entry) = root.at(path) else {
            return Seen::Nothing;
        };
        match entry {
            Entry::Token if !path.ends_with('/') => match &facts.service_account {
                Some((email, scopes)) => Seen::Value(self.token(email, scopes), true),
                None => Seen::Nothing,
            },
            entry if entry.is_folder() => match (path.ends_with('/') || path.is_empty(), query) {
                (false, _) => Seen::Elsewhere,
                (true, query) if !query.recursive => Seen::Value(entry.plain(), false),
                (true, query) => match query.json.unwrap_or(true) {
                    true => Seen::Value(entry.json().to_string(), true),
                    false => Seen::Value(entry.lines(), false),
                },
            },
            _ if path.ends_with('/') => Seen::Nothing,
            entry => match query.json.unwrap_or(false) {
                true => Seen::Value(entry.json().to_string(), true),
                false => Seen::Value(entry.plain(), false),
            },
        }
    }

    /// The same token for as long as it is good enough.
    fn token(&self, email: &str, scopes: &[String]) -> String {
        let mut kept = lock(&self.token);
        let now = clock::now();
        let left = |token: &Token| token.expires.duration_since(now).as_secs();
        let token = match kept.take().filter(|token| left(token) > RENEWAL) {
            Some(token) => token,
            None => self.identity.account_token(email, scopes),
        };
        let text = json!({
            "access_token": token.value,
            "expires_in": left(&token),
            "token_type": "Bearer",
        });
        *kept = Some(token);
        text.to_string()
    }
}

/// What is at a path now.
#[derive(Debug)]
enum Seen {
    /// A text, and whether that is JSON.
    Value(String, bool),
    /// A folder, asked for without the slash at its end.
    Elsewhere,
    Nothing,
}

impl Seen {
    fn etag(&self) -> Option<String> {
        match self {
            Seen::Value(text, _) => Some(etag(text)),
            Seen::Elsewhere | Seen::Nothing => None,
        }
    }

    fn into_response(self, request: &Request) -> Response {
        match self {
            Seen::Value(text, json) => found(text, json),
            Seen::Elsewhere => {
                let mut response = page(StatusCode::MOVED_PERMANENTLY);
                let query = match request.query() {
                    "" => String::new(),
                    query => format!("?{query}"),
                };
                if let Ok(place) = HeaderValue::try_from(format!("{}/{query}", request.path())) {
                    response.headers_mut().insert(header::LOCATION, place);
                }
                response
            }
            Seen::Nothing => page(StatusCode::NOT_FOUND),
        }
    }
}

fn etag(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn found(text: String, json: bool) -> Response {
    let kind = match json {
        true => "application/json",
        false => "application/text",
    };
    let tag = HeaderValue::try_from(etag(&text));
    let mut response = page(StatusCode::OK);
    *response.body_mut() = text.into();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// An answer for people, with the header that says whose it is.
fn page(status: StatusCode) -> Response {
    let mut response = Response::new(match status {
        StatusCode::OK => String::new().into(),
        status => {
            format!("<!DOCTYPE html>\n<html lang=en>\n<title>Error {status}</title>\n").into()
        }
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=UTF-8"),
    );
    headers.insert(FLAVOR, HeaderValue::from_static("Google"));
    headers.insert(
        header::SERVER,
        HeaderValue::from_static("Metadata Server for VM"),
    );
    response
}

#[cfg(test)]
mod tests;
