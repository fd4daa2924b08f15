//! The instance metadata service: who this machine is, its identities' tokens, and the events that
//! are scheduled for it.
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service>

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::Url;

use super::credentials::managed;
use crate::cache::Expiring;
use crate::cloud::{NOTICE_INTERVAL, Notice, TAG_OWNER};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy, Reply, Request};
use crate::secret::Secret;

/// Another server than the link's own: the variable that Microsoft's identity libraries read.
const VARIABLE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
const LINK_LOCAL: &str = "http://169.254.169.254";

/// What every request must say: proof that it wasn't led here by accident.
const METADATA: HeaderName = HeaderName::from_static("metadata");

/// <https://learn.microsoft.com/en-us/azure/virtual-machines/instance-metadata-service#supported-api-versions>
const INSTANCE_VERSION: &str = "2021-02-01";
/// <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#get-a-token-using-http>
const IDENTITY_VERSION: &str = "2018-02-01";
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events#version-and-region-availability>
const EVENTS_VERSION: &str = "2020-07-01";

const INSTANCE: &str = "metadata/instance/compute";
const IDENTITY: &str = "metadata/identity/oauth2/token";
const EVENTS: &str = "metadata/scheduledevents";

/// The service is away for moments while it is updated, and a token may have to be fetched first.
pub(super) const READING: Policy = Policy {
    tries: 4,
    total: Duration::from_secs(20),
    per_try: Some(Duration::from_secs(10)),
    idempotent: true,
};

/// Waits while it says that it isn't there: it is being updated.
const UPDATING: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The first question for events switches them on, which takes up to two minutes.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events#enabling-and-disabling-scheduled-events>
const LISTENING: Policy = Policy {
    tries: 1,
    total: Duration::from_secs(130),
    per_try: Some(Duration::from_secs(130)),
    idempotent: true,
};

/// Between questions for events, as recommended: a spot machine has thirty seconds left.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events#polling-frequency>
const EVENTS_INTERVAL: Duration = Duration::from_secs(1);

/// A reboot that comes later than this leaves time for a job: the usual notice is fifteen minutes,
/// that of a machine's expected failure days.
const SOON: SignedDuration = SignedDuration::from_mins(20);

/// A client of this machine's metadata service.
#[derive(Debug)]
pub(super) struct Imds {
    http: Http,
    base: Url,
}

/// What this machine is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) resource_group_name: String,
    pub(super) subscription_id: String,
    #[serde(default)]
    tags_list: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    name: String,
}

impl Machine {
    /// Whether this program has made it, so that the group holds nothing but what belongs to it.
    pub(super) fn is_ours(&self) -> bool {
        let is_marked = self.tags_list.iter().any(|tag| tag.name == TAG_OWNER);
        is_marked && self.name.eq_ignore_ascii_case(&self.resource_group_name)
    }
}

/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events#event-properties>
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    event_id: String,
    event_type: String,
    #[serde(default)]
    event_status: String,
    #[serde(default)]
    resources: Vec<String>,
    /// Empty once it has begun.
    #[serde(default)]
    not_before: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Events {
    #[serde(default)]
    events: Vec<Event>,
}

impl Event {
    /// Whether it takes this machine away. A pause of some seconds doesn't.
    fn takes(&self, name: Option<&str>) -> bool {
        let is_end = matches!(
            self.event_type.as_str(),
            "Preempt" | "Terminate" | "Reboot" | "Redeploy"
        );
        // Others' events are told, too, where machines belong together.
        let is_ours = name.is_none_or(|name| {
            self.resources.is_empty()
                || self
                    .resources
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(name))
        });
        is_end && is_ours
    }

    fn notice(&self, now: Timestamp) -> Notice {
        let what = match self.event_type.as_str() {
            "Preempt" => "takes this spot machine away",
            "Terminate" => "deletes this machine",
            "Reboot" => "reboots this machine",
            _ => "moves this machine to another host",
        };
        let when = jiff::fmt::rfc2822::parse(&self.not_before)
            .ok()
            .map(|time| time.timestamp());
        let detail = match when {
            Some(when) => format!("Azure {what}, not before {when}"),
            None => format!("Azure {what}"),
        };
        let waits = matches!(self.event_type.as_str(), "Reboot" | "Redeploy")
            && self.event_status != "Started"
            && when.is_some_and(|when| when > now + SOON);
        match waits {
            true => Notice::Rebalance { detail },
            false => Notice::Interruption { detail },
        }
    }
}

impl Imds {
    pub(super) fn new(host: &Host, http: Http) -> Result<Self> {
        let text = host.env(VARIABLE).unwrap_or(LINK_LOCAL);
        let mut base = Url::parse(text)
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host())
            .ok_or_else(|| {
                Error::usage(format!("{VARIABLE} is no address such as {LINK_LOCAL}"))
            })?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { http, base })
    }

    /// Whether there is one: whether this is a machine of Azure's. Other clouds have something else
    /// at the same address, which doesn't answer this.
    pub(super) async fn is_there(&self) -> bool {
        let query = [("api-version", INSTANCE_VERSION)];
        match self.ask("instance", INSTANCE, &query, Policy::LOCAL).await {
            Ok(reply) => !matches!(reply.status.as_u16(), 401 | 403 | 404 | 405),
            Err(error) => {
                tracing::debug!("no metadata service: {}", error.chain());
                false
            }
        }
    }

    /// What this machine is.
    pub(super) async fn machine(&self, policy: Policy) -> Result<Machine> {
        let query = [("api-version", INSTANCE_VERSION), ("format", "json")];
        let reply = self.ask("instance", INSTANCE, &query, policy).await?;
        self.read("what this machine is", &reply)
    }

    /// A token of this machine's own identity, or of the one with a client id; `None`: it has no
    /// such identity.
    /// <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling>
    pub(super) async fn token(
        &self,
        asked: Timestamp,
        audience: &str,
        client: Option<&str>,
    ) -> Result<Option<Expiring<Secret>>> {
        let doing = || Error::other("getting a token of this machine's identity");
        let mut query = vec![("api-version", IDENTITY_VERSION), ("resource", audience)];
        query.extend(client.map(|client| ("client_id", client)));
        let mut pauses = UPDATING.iter();
        let reply = loop {
            let reply = self.ask("identity", IDENTITY, &query, READING).await?;
            match (reply.status, pauses.next()) {
                (StatusCode::NOT_FOUND | StatusCode::GONE, Some(pause)) => {
                    tokio::time::sleep(*pause).await;
                }
                _ => break reply,
            }
        };
        match reply.status {
            StatusCode::OK => managed::read(&reply.body, asked)
                .map(Some)
                .ok_or_else(|| doing().caused_by("the answer holds no token")),
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => Ok(None),
            status => Err(doing().caused_by(format!("the metadata service answered {status}"))),
        }
    }

    /// The events that are scheduled.
    pub(super) async fn events(&self, policy: Policy) -> Result<Vec<Event>> {
        let query = [("api-version", EVENTS_VERSION)];
        let reply = self.ask("scheduledevents", EVENTS, &query, policy).await?;
        let events: Events = self.read("scheduled events", &reply)?;
        Ok(events.events)
    }

    /// Tells Azure that it need not wait with what takes this machine away: `name` is ready.
    /// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events#start-an-event>
    pub(super) async fn acknowledge(&self, name: Option<&str>) -> Result<()> {
        let events = self.events(Policy::LOCAL).await?;
        let ready: Vec<_> = events
            .iter()
            .filter(|event| event.takes(name) && event.event_status != "Started")
            .map(|event| serde_json::json!({ "EventId": event.event_id }))
            .collect();
        if ready.is_empty() {
            return Ok(());
        }
        let body = serde_json::json!({ "StartRequests": ready }).to_string();
        let query = [("api-version", EVENTS_VERSION)];
        let what = "azure-imds:POST scheduledevents";
        let reply = self
            .send(
                what,
                Method::POST,
                EVENTS,
                &query,
                &body.into(),
                Policy::LOCAL,
            )
            .await?;
        match reply.status.is_success() {
            true => Ok(()),
            false => Err(Error::other("acknowledging scheduled events")
                .caused_by(format!("the metadata service answered {}", reply.status))),
        }
    }

    async fn ask(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, &str)],
        policy: Policy,
    ) -> Result<Reply> {
        let what = match what {
            "identity" => "azure-imds:identity".to_owned(),
            what => format!("azure-imds:GET {what}"),
        };
        self.send(&what, Method::GET, path, query, &Bytes::new(), policy)
            .await
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &Bytes,
        policy: Policy,
    ) -> Result<Reply> {
        let mut url = self
            .base
            .join(path)
            .map_err(|error| Error::other("building a metadata address").caused_by(error))?;
        url.query_pairs_mut().extend_pairs(query);
        let build = || {
            let mut request = Request::new(method.clone(), url.clone());
            let headers = &mut request.headers;
            headers.insert(METADATA, HeaderValue::from_static("true"));
            if !body.is_empty() {
                headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
            }
            request.body = body.clone();
            Ok(request)
        };
        self.http.send_direct(what, policy, build).await
    }

    fn read<T: serde::de::DeserializeOwned>(&self, what: &str, reply: &Reply) -> Result<T> {
        let doing = || Error::other(format!("reading {what} from the metadata service"));
        match reply.status {
            StatusCode::OK => {
                serde_json::from_slice(&reply.body).map_err(|error| doing().caused_by(error))
            }
            status => Err(doing().caused_by(format!("it answered {status}"))),
        }
    }
}

/// Waits for the next notice of this machine. An outage of the service is waited out.
pub async fn next_notice(host: &Host, http: &Http, rebalance_seen: bool) -> Notice {
    let imds = match Imds::new(host, http.clone()) {
        Ok(imds) => imds,
        Err(error) => {
            tracing::warn!(
                "no notice of an interruption can be seen: {}",
                error.chain()
            );
            return std::future::pending().await;
        }
    };
    let mut name = None;
    let mut outage = false;
    loop {
        if name.is_none() {
            name = imds
                .machine(Policy::LOCAL)
                .await
                .ok()
                .map(|machine| machine.name);
        }
        let pause = match imds.events(LISTENING).await {
            Ok(events) => {
                outage = false;
                let ours = events.iter().filter(|event| event.takes(name.as_deref()));
                let notices: Vec<_> = ours.map(|event| event.notice(host.now())).collect();
                let is_end = |notice: &Notice| matches!(notice, Notice::Interruption { .. });
                let at = notices.iter().position(is_end);
                match (at, rebalance_seen) {
                    (Some(at), _) => return notices[at].clone(),
                    (None, false) if !notices.is_empty() => return notices[0].clone(),
                    _ => EVENTS_INTERVAL,
                }
            }
            Err(error) => {
                // Once per outage, not every five seconds.
                if !outage {
                    tracing::debug!("looking for notices: {}", error.chain());
                }
                outage = true;
                NOTICE_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
