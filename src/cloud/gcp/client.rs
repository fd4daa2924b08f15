//! Compute Engine's REST API: calls in, JSON out; refusals become errors here.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::credentials::Chain;
use super::refusal::{COMPUTE, Meaning, Refusal, judge};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy, Reply, Request, authorization, is_unanswered};
use crate::secret::Secret;

/// Where the service is. <https://cloud.google.com/compute/docs/reference/rest/v1>
const BASE: &str = "https://compute.googleapis.com/compute/v1/";

/// gcloud's variable for another place.
/// <https://cloud.google.com/sdk/gcloud/reference/topic/configurations>
const BASE_VARIABLE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE";

/// Who pays for a call and whose rates it counts against, where that isn't the project called.
/// <https://cloud.google.com/apis/docs/system-parameters>
const USER_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// A call of the API.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The method's name in the API's description, such as `instances.insert`.
    what: &'static str,
    method: Method,
    path: String,
    /// Whether the path begins below the launch's own project.
    own: bool,
    query: Vec<(&'static str, String)>,
    body: Bytes,
    /// Whether a repetition does no more than the first one.
    repeatable: bool,
    policy: Option<Policy>,
}

impl Call {
    /// Reads what is at a path below the project, such as `zones/us-west1-b/instances/x`.
    pub(super) fn get(what: &'static str, path: impl Into<String>) -> Self {
        Self {
            repeatable: true,
            ..Self::new(what, Method::GET, path)
        }
    }

    /// Changes something; repeated only with [`Call::request_id`].
    pub(super) fn post(what: &'static str, path: impl Into<String>) -> Self {
        Self::new(what, Method::POST, path)
    }

    /// Deletes something; repeated only with [`Call::request_id`].
    pub(super) fn delete(what: &'static str, path: impl Into<String>) -> Self {
        Self::new(what, Method::DELETE, path)
    }

    fn new(what: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self {
            what,
            method,
            path: path.into(),
            own: true,
            query: Vec::new(),
            body: Bytes::new(),
            repeatable: false,
            policy: None,
        }
    }

    /// The path begins with `projects/` and somebody else's project.
    pub(super) fn elsewhere(mut self) -> Self {
        self.own = false;
        self
    }

    /// Adds a parameter.
    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// The same call with the same parts is executed once, however often it arrives.
    /// <https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert>
    pub(super) fn request_id(self, parts: &[&str]) -> Self {
        self.query("requestId", crate::uuid::of(parts)).repeatable()
    }

    /// A repetition does no more than the first one, by its nature.
    pub(super) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Adds a body.
    pub(super) fn body(mut self, body: &impl Serialize) -> Result<Self> {
        self.body = serde_json::to_vec(body)
            .map_err(|error| Error::other(format!("writing {}", self.what)).caused_by(error))?
            .into();
        Ok(self)
    }

    /// How often and how long it is tried.
    pub(super) fn within(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The name in traces.
    fn name(&self) -> String {
        format!("compute:{}", self.what)
    }

    fn policy(&self) -> Policy {
        self.policy.unwrap_or(match self.repeatable {
            true => Policy::IDEMPOTENT,
            false => Policy::ONCE,
        })
    }

    fn url(&self, base: &Url, project: &str) -> Result<Url> {
        let mut url = base.clone();
        let own = ["projects", project];
        let before = own.iter().copied().filter(|_| self.own);
        url.path_segments_mut()
            .map_err(|()| Error::usage(format!("{BASE_VARIABLE} is no address")))?
            .pop_if_empty()
            .extend(before.chain(self.path.split('/')));
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service said no.
    Refused(Refusal),
    /// It didn't come to an answer, or to one that can be read.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Broken(error)
    }
}

impl Failure {
    /// What the refusal means, where it is one.
    pub(super) fn meaning(&self) -> Option<Meaning> {
        match self {
            Failure::Refused(refusal) => Some(refusal.meaning()),
            Failure::Broken(_) => None,
        }
    }

    /// Whether the same call, if it may be repeated, may do better in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Failure::Refused(refusal) => {
                refusal.meaning() == Meaning::Throttled
                    || (refusal.failed && refusal.meaning() == Meaning::Other)
            }
            // Connections that couldn't be made, and answers that didn't come.
            Failure::Broken(error) => is_unanswered(error),
        }
    }

    /// The error of what was being done.
    pub(super) fn during(self, doing: impl Into<String>) -> Error {
        match self {
            Failure::Refused(refusal) => refusal.during(doing),
            Failure::Broken(error) => error.during(doing),
        }
    }
}

/// Compute Engine with credentials.
#[derive(Debug)]
pub(super) struct Client {
    host: Host,
    http: Http,
    chain: Chain,
}

impl Client {
    pub(super) fn new(host: Host, http: Http) -> Self {
        let chain = Chain::new(host.clone(), http.clone());
        Self { host, http, chain }
    }

    /// Makes sure of the credentials and the project, so that their lack is told as that, and not
    /// as the failure of whatever came first.
    pub(super) async fn ready(&self) -> Result<()> {
        self.api()?;
        self.chain.bearer().await?;
        self.project().await.map(drop)
    }

    /// The project in which instances are made.
    pub(super) async fn project(&self) -> Result<String> {
        self.chain.project().await
    }

    /// The service account that the launcher is, where it is one and knows which.
    pub(super) async fn account(&self) -> Result<Option<String>> {
        self.chain.account().await
    }

    /// Where the service is; ends with a slash.
    pub(super) fn api(&self) -> Result<Url> {
        let Some(text) = self.host.env(BASE_VARIABLE) else {
            return Url::parse(BASE)
                .map_err(|error| Error::other("reading our own address").caused_by(error));
        };
        let mut url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::usage(format!("{BASE_VARIABLE} is no address such as {BASE}")))?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(url)
    }

    /// Sends a call and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let api = self.api()?;
        let project = match call.own {
            true => self.project().await?,
            false => String::new(),
        };
        loop {
            let bearer = self.chain.bearer().await?;
            let payer = self.chain.quota_project().await?;
            let reply =
                exchange(&self.http, &api, &project, call, &bearer, payer.as_deref()).await?;
            // A token that isn't taken has done nothing: where there is another way to one, the
            // call is made again.
            if reply.status == StatusCode::UNAUTHORIZED && self.chain.refused(&bearer).await {
                continue;
            }
            if !reply.status.is_success() {
                return Err(Failure::Refused(Refusal::read(COMPUTE, &reply)));
            }
            return serde_json::from_slice(&reply.body).map_err(|error| {
                let reading = Error::other(format!("reading the answer to {}", call.name()));
                Failure::Broken(reading.caused_by(error))
            });
        }
    }
}

/// Sends a call with a token; `payer` is the project that its rates count against, where that is
/// another one.
pub(super) async fn exchange(
    http: &Http,
    api: &Url,
    project: &str,
    call: &Call,
    bearer: &Secret,
    payer: Option<&str>,
) -> Result<Reply> {
    let url = call.url(api, project)?;
    let build = || {
        let mut request = Request::new(call.method.clone(), url.clone());
        request.body = call.body.clone();
        let headers = &mut request.headers;
        headers.insert(header::AUTHORIZATION, authorization(bearer)?);
        if let Some(payer) = payer {
            let value = HeaderValue::from_str(payer)
                .map_err(|error| Error::usage("reading the quota project").caused_by(error))?;
            headers.insert(USER_PROJECT, value);
        }
        if !call.body.is_empty() {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        } else if call.method != Method::GET {
            // Google refuses a POST that doesn't say how long it is: 411.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    };
    http.send(&call.name(), call.policy(), build, |reply| {
        judge(COMPUTE, reply)
    })
    .await
}

/// How long a token may take to come, all tries together.
pub(super) const TOKEN_POLICY: Policy = Policy {
    tries: 4,
    total: Duration::from_secs(30),
    ..Policy::IDEMPOTENT
};

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
