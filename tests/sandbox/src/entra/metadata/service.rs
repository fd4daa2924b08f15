//! What the service answers, and to whom.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Facts;
use super::identity::{APP_SERVICE_PATH, AppService, Kept};
use super::instance;
use crate::calls::lock;
use crate::entra::error::document;
use crate::entra::{Directory, Events};
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Service};

/// All that is below this is the metadata service's.
const ROOT: &str = "/metadata/";
/// The newest first.
const VERSIONS: &[&str] = &[
    "2025-04-07",
    "2024-07-17",
    "2024-03-15",
    "2023-11-15",
    "2023-07-01",
    "2021-12-13",
    "2021-11-15",
    "2021-11-01",
    "2021-10-01",
    "2021-08-01",
    "2021-05-01",
    "2021-03-01",
    "2021-02-01",
    "2021-01-01",
    "2020-12-01",
    "2020-10-01",
    "2020-09-01",
    "2020-07-15",
    "2020-06-01",
    "2019-11-01",
    "2019-08-15",
    "2019-08-01",
    "2019-06-04",
    "2019-06-01",
    "2019-04-30",
    "2019-03-11",
    "2019-02-01",
    "2018-10-01",
    "2018-04-02",
    "2018-02-01",
    "2017-12-01",
    "2017-10-01",
    "2017-08-01",
    "2017-04-02",
];
/// Those of scheduled events.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events#version-and-region-availability>
const EVENT_VERSIONS: &[&str] = &[
    "2020-07-01",
    "2019-08-01",
    "2019-04-01",
    "2019-01-01",
    "2017-11-01",
    "2017-08-01",
    "2017-03-01",
];
/// The oldest for tokens.
const FIRST_IDENTITY_VERSION: &str = "2018-02-01";
/// How many requests a second are answered, and how many for tokens.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service#rate-limiting>
const LIMIT: usize = 5;
const IDENTITY_LIMIT: usize = 20;

#[derive(Debug)]
pub(super) struct MetadataService {
    pub(super) directory: Arc<Directory>,
    pub(super) facts: watch::Receiver<Facts>,
    pub(super) events: Arc<Events>,
    pub(super) enabled: AtomicBool,
    pub(super) app_service: Option<AppService>,
    /// By identity and resource.
    pub(super) tokens: Mutex<Kept>,
    /// When requests of the last second came in: those for tokens, and the others.
    recent: Mutex<[VecDeque<Instant>; 2]>,
}

/// A request's parameters, each there once.
pub(super) type Parameters = BTreeMap<String, String>;

impl Service for MetadataService {
    fn classify(&self, request: &Request) -> String {
        let (method, path) = (&request.parts.method, request.path());
        let rest = path.strip_prefix(ROOT).unwrap_or(path);
        match rest {
            "identity/oauth2/token" => "azure-imds:identity".into(),
            APP_SERVICE_PATH => "app-service:identity".into(),
            _ => {
                let what = rest.trim_start_matches('/').split('/').next();
                format!("azure-imds:{method} {}", what.unwrap_or_default())
            }
        }
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        let (status, kind, words) = match refusal {
            Refusal::Status(status) => (status, "unknown", "The service failed"),
            Refusal::Denied => (403, "access_denied", "The request was denied"),
            Refusal::Throttled => (429, "too_many_requests", "Too many requests"),
            Refusal::Capacity => (503, "temporarily_unavailable", "Not available now"),
        };
        match request.path().ends_with("/token") {
            true => identity_error(status, kind, words),
            false => error(status, words),
        }
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move { self.answer(&request) })
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// An error in the form that all but tokens have.
pub(super) fn error(status: u16, words: &str) -> Response {
    document(status, &json!({"error": words}))
}

fn too_many() -> Response {
    error(429, "Too many requests")
}

/// An error in the form that tokens have.
pub(super) fn identity_error(status: u16, kind: &str, words: &str) -> Response {
    document(status, &json!({"error": kind, "error_description": words}))
}

impl MetadataService {
    pub(super) fn new(
        directory: Arc<Directory>,
        facts: watch::Receiver<Facts>,
        events: Arc<Events>,
    ) -> Self {
        MetadataService {
            directory,
            facts,
            events,
            enabled: AtomicBool::new(true),
            app_service: None,
            tokens: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    fn answer(&self, request: &Request) -> Response {
        if !self.enabled.load(Ordering::SeqCst) {
            // Whoever this is, it isn't Azure's.
            return document(404, &Value::Null);
        }
        let path = request.path();
        if path == APP_SERVICE_PATH {
            return self.app_service_token(request);
        }
        let Some(path) = path.strip_prefix(ROOT) else {
            return error(404, "Not found");
        };
        let (category, rest) = path.split_once('/').unwrap_or((path, ""));
        let for_tokens = category == "identity";
        if !self.admit(for_tokens) {
            return too_many();
        }
        let fault = |words: &str| match for_tokens {
            true => identity_error(400, "invalid_request", words),
            false => error(400, &format!("Bad request. {words}")),
        };
        // In lower case where tokens are at stake.
        let is_meant = request.header("metadata").is_some_and(|value| {
            value == "true" || (!for_tokens && value.eq_ignore_ascii_case("true"))
        });
        if !is_meant {
            return match for_tokens {
                true => identity_error(
                    400,
                    "bad_request_102",
                    "Required metadata header not specified",
                ),
                false => fault("Required metadata header not specified"),
            };
        }
        if request.header("x-forwarded-for").is_some() {
            return fault("Requests that were forwarded are not served");
        }
        let Some(parameters) = parameters(request.query()) else {
            return fault("A query parameter is there more than once");
        };
        let version = parameters.get("api-version").map(String::as_str);
        match (category, &request.parts.method) {
            ("versions", &Method::GET) => {
                let mut versions = VERSIONS.to_vec();
                versions.reverse();
                document(200, &json!({"apiVersions": versions}))
            }
            ("instance", &Method::GET) => match version.filter(|v| VERSIONS.contains(v)) {
                None => no_version(VERSIONS),
                Some(_) => instance::answer(&self.facts.borrow(), rest, &parameters),
            },
            ("scheduledevents", method) => {
                match version.filter(|version| EVENT_VERSIONS.contains(version)) {
                    None => no_version(EVENT_VERSIONS),
                    Some(_) => self.scheduled_events(method, &request.body),
                }
            }
            ("identity", &Method::GET) if rest == "oauth2/token" => {
                match version.filter(|version| *version >= FIRST_IDENTITY_VERSION) {
                    None => identity_error(
                        400,
                        "bad_request_102",
                        "The api-version is invalid or was not specified",
                    ),
                    Some(_) => self.token(&parameters),
                }
            }
            ("versions" | "instance" | "identity", method) if method != Method::GET => {
                error(405, "Method not allowed")
            }
            _ => error(404, "Not found"),
        }
    }

    fn scheduled_events(&self, method: &Method, body: &[u8]) -> Response {
        match *method {
            Method::GET => {
                let name = self.facts.borrow().name.clone();
                document(200, &self.events.document(&name))
            }
            Method::POST => match self.events.approve(body) {
                Some(()) => Response::default(),
                None => error(400, "Bad request. The StartRequests are malformed"),
            },
            _ => error(405, "Method not allowed"),
        }
    }

    /// Whether one more request is answered this second.
    fn admit(&self, for_tokens: bool) -> bool {
        let mut recent = lock(&self.recent);
        let [tokens, others] = &mut *recent;
        let (times, limit) = match for_tokens {
            true => (tokens, IDENTITY_LIMIT),
            false => (others, LIMIT),
        };
        let now = Instant::now();
        times.retain(|time| now.duration_since(*time) < Duration::from_secs(1));
        if times.len() >= limit {
            return false;
        }
        times.push_back(now);
        true
    }
}

fn no_version(known: &[&str]) -> Response {
    document(
        400,
        &json!({
            "error": "Bad request. api-version is invalid or was not specified in the request. For \
                      more information refer to aka.ms/azureimds",
            "newest-versions": known.iter().take(3).collect::<Vec<_>>(),
        }),
    )
}

/// `None`: one is there twice.
pub(super) fn parameters(query: &str) -> Option<Parameters> {
    let mut read = Parameters::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if read
            .insert(name.to_lowercase(), value.into_owned())
            .is_some()
        {
            return None;
        }
    }
    Some(read)
}
