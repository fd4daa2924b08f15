//! The identity of the machine, or of the service, that this program runs on.
//! <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/overview>

use std::time::Duration;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::Url;

use super::{CLIENT, Context, denied};
use crate::cache::Expiring;
use crate::cloud::azure::metadata::Imds;
use crate::cloud::azure::refusal::Refusal;
use crate::error::{Error, Result};
use crate::http::{Policy, Request};
use crate::secret::Secret;

/// App Service, Functions, Container Apps.
/// <https://learn.microsoft.com/en-us/azure/app-service/overview-managed-identity#rest-endpoint-reference>
const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const ENDPOINT_SECRET: &str = "IDENTITY_HEADER";
const ENDPOINT_HEADER: HeaderName = HeaderName::from_static("x-identity-header");
const ENDPOINT_VERSION: &str = "2019-08-01";

/// How long a token is taken to be good that doesn't say.
const EXPIRY_UNKNOWN: SignedDuration = SignedDuration::from_mins(5);

/// A token may have to be fetched first.
const POLICY: Policy = Policy {
    tries: 4,
    total: Duration::from_secs(30),
    per_try: Some(Duration::from_secs(10)),
    idempotent: true,
};

/// A token, where there is an identity.
pub(super) async fn token(
    context: Context<'_>,
    audience: &str,
) -> Result<Option<Expiring<Secret>>> {
    let host = context.host;
    // Of several, the one that is named.
    let client = host.env(CLIENT);
    if let (Some(endpoint), Some(secret)) = (host.env(ENDPOINT), host.env(ENDPOINT_SECRET)) {
        let secret = Secret::new(secret);
        return service(context, endpoint, &secret, audience, client)
            .await
            .map(Some);
    }
    let imds = Imds::new(host, context.http.clone())?;
    if !imds.is_there().await {
        return Ok(None);
    }
    match (imds.token(host.now(), audience, client).await?, client) {
        (Some(token), _) => Ok(Some(token)),
        (None, None) => Ok(None),
        (None, Some(client)) => Err(denied(format!(
            "this machine has no identity with the client id {client}"
        ))
        .hint(
            "give the identity to the machine; or, for an application, set AZURE_TENANT_ID and \
             AZURE_CLIENT_SECRET, a federated token, or a certificate",
        )),
    }
}

async fn service(
    context: Context<'_>,
    endpoint: &str,
    secret: &Secret,
    audience: &str,
    client: Option<&str>,
) -> Result<Expiring<Secret>> {
    let doing = "getting a token of this service's identity";
    let mut url = Url::parse(endpoint)
        .map_err(|error| Error::usage(format!("{ENDPOINT} is no address")).caused_by(error))?;
    url.query_pairs_mut()
        .append_pair("api-version", ENDPOINT_VERSION)
        .append_pair("resource", audience)
        .extend_pairs(client.map(|client| ("client_id", client)));
    let build = || {
        let mut request = Request::new(Method::GET, url.clone());
        let mut value = HeaderValue::from_str(secret.expose())
            .map_err(|_| denied(doing).caused_by(format!("{ENDPOINT_SECRET} can't be sent")))?;
        value.set_sensitive(true);
        request.headers.insert(ENDPOINT_HEADER, value);
        Ok(request)
    };
    let asked = context.host.now();
    let reply = context
        .http
        .send_direct("app-service:identity", POLICY, build)
        .await
        .map_err(|error| error.during(doing))?;
    if !reply.status.is_success() {
        return Err(Refusal::read("the identity endpoint", &reply)
            .of_token(doing)
            .hint("give the service an identity; of several, AZURE_CLIENT_ID names one"));
    }
    read(&reply.body, asked).ok_or_else(|| denied(doing).caused_by("the answer holds no token"))
}

/// Both endpoints write seconds as text, and some versions as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(i64),
    Text(String),
}

impl Seconds {
    fn value(&self) -> Option<i64> {
        match self {
            Seconds::Number(number) => Some(*number),
            Seconds::Text(text) => text.trim().parse().ok(),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: Secret,
    expires_on: Option<Seconds>,
    expires_in: Option<Seconds>,
}

/// Reads a token. The text is never part of an error.
pub(in crate::cloud::azure) fn read(body: &[u8], asked: Timestamp) -> Option<Expiring<Secret>> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let seconds = |value: &Option<Seconds>| value.as_ref().and_then(Seconds::value);
    // The length of its life doesn't depend on this machine's clock.
    let life = seconds(&answer.expires_in).map(SignedDuration::from_secs);
    let end = match (life, seconds(&answer.expires_on)) {
        (Some(life), _) => asked.checked_add(life).ok(),
        (None, Some(end)) => Timestamp::from_second(end).ok(),
        (None, None) => None,
    };
    Some(Expiring {
        value: answer.access_token,
        expires: end.or_else(|| asked.checked_add(EXPIRY_UNKNOWN).ok()),
    })
}
