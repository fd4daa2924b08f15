//! Resource Manager's REST API: calls in, JSON out; refusals become errors here.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::clouds::{self, Endpoints, Portal};
use super::credentials::{Chain, ClientSecret};
use super::nulls::WithoutNulls;
use super::operation::Operation;
use super::refusal::{Meaning, RESOURCE_MANAGER, Refusal, judge};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
pub(super) use crate::http::authorization;
use crate::http::{Http, Policy, Reply, Request, Verdict, maybe_done};
use crate::secret::Secret;

/// The variable that names the subscription. <https://learn.microsoft.com/en-us/azure/developer/terraform/authenticate-to-azure>
const SUBSCRIPTION_VARIABLE: &str = "AZURE_SUBSCRIPTION_ID";

/// The most pages of one list: a server that always names a next one must come to an end.
const MOST_PAGES: usize = 200;

/// The interfaces that this cloud is made of, each with one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// Subscriptions and resource groups.
    Resources,
    /// A subscription's switches.
    Features,
    /// Virtual machines and their images.
    Compute,
    /// The sizes of virtual machines, which have a version of their own.
    Skus,
    /// Images in galleries, which have one, too.
    Galleries,
    /// Networks and addresses.
    Network,
    /// Roles and permissions.
    Authorization,
    /// User-assigned identities.
    Identity,
}

impl Api {
    /// Versions that the sovereign clouds have, too.
    fn version(self) -> &'static str {
        match self {
            // <https://learn.microsoft.com/en-us/rest/api/resources/resource-groups/create-or-update?view=rest-resources-2021-04-01>
            Api::Resources => "2021-04-01",
            // <https://learn.microsoft.com/en-us/rest/api/resources/features/get?view=rest-resources-2021-07-01>
            Api::Features => "2021-07-01",
            // <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/create-or-update?view=rest-compute-2024-07-01>
            Api::Compute => "2024-07-01",
            // <https://learn.microsoft.com/en-us/rest/api/compute/resource-skus/list?view=rest-compute-2021-07-01>
            Api::Skus => "2021-07-01",
            // <https://learn.microsoft.com/en-us/rest/api/compute/gallery-images/get?view=rest-compute-2023-07-03>
            Api::Galleries => "2023-07-03",
            // <https://learn.microsoft.com/en-us/rest/api/virtualnetwork/virtual-networks/create-or-update?view=rest-virtualnetwork-2024-05-01>
            Api::Network => "2024-05-01",
            // <https://learn.microsoft.com/en-us/rest/api/authorization/role-assignments/create?view=rest-authorization-2022-04-01>
            Api::Authorization => "2022-04-01",
            // <https://learn.microsoft.com/en-us/rest/api/managedidentity/user-assigned-identities/get?view=rest-managedidentity-2023-01-31>
            Api::Identity => "2023-01-31",
        }
    }
}

/// A call of the API.
#[derive(Debug, Clone)]
pub(super) struct Call {
    api: Api,
    /// The kind of what is called, such as `virtualMachines`.
    what: &'static str,
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Bytes,
    /// Whether a repetition does no more than the first one.
    repeatable: bool,
    policy: Option<Policy>,
}

impl Call {
    /// Reads what is at a path below the launch's own subscription, such as `resourceGroups/x`; one
    /// that begins with a slash is a whole one.
    pub(super) fn get(api: Api, what: &'static str, path: impl Into<String>) -> Self {
        Self::new(api, what, Method::GET, path).repeatable()
    }

    /// Makes what has the path's name, or makes it so: by the name, a repetition is known.
    pub(super) fn put(api: Api, what: &'static str, path: impl Into<String>) -> Self {
        Self::new(api, what, Method::PUT, path).repeatable()
    }

    /// Deletes what has the path's name; what is gone stays gone.
    pub(super) fn delete(api: Api, what: &'static str, path: impl Into<String>) -> Self {
        Self::new(api, what, Method::DELETE, path).repeatable()
    }

    /// Deletes a whole group at a path; its machines without waiting for their shutdown.
    /// <https://learn.microsoft.com/en-us/rest/api/resources/resource-groups/delete>
    pub(super) fn delete_group(path: impl Into<String>) -> Self {
        Self::delete(Api::Resources, "resourceGroups", path)
            .query("forceDeletionTypes", "Microsoft.Compute/virtualMachines")
    }

    /// Does something; repeated only with [`Call::repeatable`].
    pub(super) fn post(api: Api, what: &'static str, path: impl Into<String>) -> Self {
        Self::new(api, what, Method::POST, path)
    }

    fn new(api: Api, what: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self {
            api,
            what,
            method,
            path: path.into(),
            query: Vec::new(),
            body: Bytes::new(),
            repeatable: false,
            policy: None,
        }
    }

    /// Adds a parameter, beside `api-version`.
    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
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
        format!("arm:{} {}", self.method, self.what)
    }

    /// What reads the thing that this call makes.
    pub(super) fn reading(&self) -> Self {
        Self::get(self.api, self.what, self.path.clone())
    }

    /// The kind of what is called.
    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    /// Whether the thing is there no more afterwards.
    pub(super) fn deletes(&self) -> bool {
        self.method == Method::DELETE
    }

    fn policy(&self) -> Policy {
        self.policy.unwrap_or(match self.repeatable {
            true => Policy::IDEMPOTENT,
            false => Policy::ONCE,
        })
    }

    /// Where it goes; `subscription` isn't looked at where the path is a whole one.
    fn url(&self, arm: &Url, subscription: &str) -> Result<Url> {
        let mut url = arm.clone();
        let own = ["subscriptions", subscription];
        let (before, path) = match self.path.strip_prefix('/') {
            Some(path) => (&own[..0], path),
            None => (&own[..], self.path.as_str()),
        };
        url.path_segments_mut()
            .map_err(|()| Error::usage(format!("{} is no address", clouds::ENDPOINT_VARIABLE)))?
            .pop_if_empty()
            .extend(before)
            .extend(path.split('/'));
        url.query_pairs_mut()
            .extend_pairs(&self.query)
            .append_pair("api-version", self.api.version());
        Ok(url)
    }

    fn request(&self, url: &Url, bearer: &Secret) -> Result<Request> {
        let mut request = Request::new(self.method.clone(), url.clone());
        request.body = self.body.clone();
        let headers = &mut request.headers;
        headers.insert(header::AUTHORIZATION, authorization(bearer)?);
        if !self.body.is_empty() {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        } else if self.method == Method::POST || self.method == Method::PUT {
            // Who sends nothing must say so: 411 Length Required.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
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

    /// Whether what the call is about isn't there.
    pub(super) fn is_missing(&self) -> bool {
        self.meaning() == Some(Meaning::Missing)
    }

    /// Whether there is no such subscription, as far as the launcher sees: nothing in it can be had.
    pub(super) fn is_without_subscription(&self) -> bool {
        match self {
            Failure::Refused(refusal) => matches!(
                refusal.code.as_str(),
                "SubscriptionNotFound" | "InvalidSubscriptionId"
            ),
            Failure::Broken(_) => false,
        }
    }

    /// Whether the same call, if it may be repeated, may do better in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Failure::Refused(refusal) => match refusal.meaning() {
                Meaning::Throttled | Meaning::Busy => true,
                Meaning::Other => refusal.failed,
                _ => false,
            },
            Failure::Broken(error) => maybe_done(error),
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

/// Resource Manager with credentials.
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

    /// Makes sure of the credentials and the subscription, so that their lack is told as that, and
    /// not as the failure of whatever came first.
    pub(super) async fn ready(&self) -> Result<()> {
        self.subscription()?;
        self.chain.bearer().await.map(drop)
    }

    /// The subscription in which instances are made.
    pub(super) fn subscription(&self) -> Result<&str> {
        let id = self.host.env(SUBSCRIPTION_VARIABLE).ok_or_else(|| {
            Error::new(Kind::Denied, "no Azure subscription is named").hint(format!(
                "set {SUBSCRIPTION_VARIABLE}: az account show --query id"
            ))
        })?;
        // It becomes a part of addresses.
        match id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            true => Ok(id),
            false => Err(Error::usage(format!(
                "{SUBSCRIPTION_VARIABLE} is no id such as 00000000-0000-0000-0000-000000000000"
            ))),
        }
    }

    /// Now.
    pub(super) fn now(&self) -> Timestamp {
        self.host.now()
    }

    /// Reads what is at an address outside of Resource Manager that it gave us, and that is its own
    /// key: no token goes there.
    pub(super) async fn elsewhere(&self, what: &str, address: &str) -> Result<Reply> {
        // The address is not for everybody's eyes.
        let url = Url::parse(address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::other(format!("calling {what}: no address was given")))?;
        let build = || Ok(Request::new(Method::GET, url.clone()));
        self.http
            .send(what, Policy::IDEMPOTENT, build, Verdict::by_status)
            .await
    }

    /// Where Resource Manager is; what the agent must know of it.
    pub(super) fn arm(&self) -> Result<Url> {
        Ok(Endpoints::of(&self.host)?.arm)
    }

    pub(super) fn portal(&self) -> Portal {
        self.arm()
            .map_or(Portal::Public, |arm| clouds::portal(&arm))
    }

    /// The client secret with which the launcher signs in, where that is what it does: the last way
    /// for an instance to delete itself.
    pub(super) fn client_secret(&self) -> Result<Option<ClientSecret>> {
        self.chain.client_secret()
    }

    /// Sends a call and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let reply = self.send(call).await?;
        Ok(read::<WithoutNulls<T>>(&call.name(), &reply)?.0)
    }

    /// Sends a call that may go on after its answer.
    pub(super) async fn start(&self, call: &Call) -> Result<Operation, Failure> {
        let reply = self.send(call).await?;
        Ok(Operation::begun(self, call, &reply))
    }

    /// Reads a list to its end.
    pub(super) async fn list<T: DeserializeOwned>(&self, call: &Call) -> Result<Vec<T>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", bound = "T: DeserializeOwned")]
        struct Page<T> {
            value: Option<Vec<WithoutNulls<T>>>,
            next_link: Option<String>,
        }
        let mut page: Page<T> = read(&call.name(), &self.send(call).await?)?;
        let mut all = page.value.unwrap_or_default();
        let mut pages = 1;
        while let Some(next) = page.next_link.filter(|next| !next.is_empty()) {
            if pages == MOST_PAGES {
                // Half a list would be taken for a whole one.
                return Err(Error::other(format!("reading the list of {}", call.what))
                    .caused_by(format!("it goes on after {MOST_PAGES} pages"))
                    .into());
            }
            pages += 1;
            let next = self.own(&next)?;
            let reply = self.fetch(&call.name(), &next, call.policy()).await?;
            page = read(&call.name(), &reply)?;
            all.extend(page.value.into_iter().flatten());
        }
        Ok(all.into_iter().map(|entry| entry.0).collect())
    }

    /// Sends a call; whatever isn't a success is a failure.
    pub(super) async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        let subscription = match call.path.starts_with('/') {
            true => "",
            false => self.subscription()?,
        };
        let url = call.url(&self.arm()?, subscription)?;
        let build = |bearer: &Secret| call.request(&url, bearer);
        self.authorized(&call.name(), call.policy(), build).await
    }

    /// Sends a request with a token; once more with another one where that is refused, for then
    /// nothing was done.
    async fn authorized(
        &self,
        what: &str,
        policy: Policy,
        build: impl Fn(&Secret) -> Result<Request> + Send + Sync,
    ) -> Result<Reply, Failure> {
        let bearer = self.chain.bearer().await?;
        let send = |bearer: Secret| {
            let build = &build;
            self.http.send(what, policy, move || build(&bearer), judge)
        };
        let reply = send(bearer.clone()).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            return self.success(reply);
        }
        let next = self.chain.bearer_after(&bearer).await?;
        match next.expose() == bearer.expose() {
            true => self.success(reply),
            false => self.success(send(next).await?),
        }
    }

    /// Reads what is at an address that Resource Manager gave. Whether its status is a success is
    /// looked at, and no more.
    pub(super) async fn fetch(
        &self,
        what: &str,
        url: &Url,
        policy: Policy,
    ) -> Result<Reply, Failure> {
        let build = |bearer: &Secret| {
            let mut request = Request::new(Method::GET, url.clone());
            let authorization = authorization(bearer)?;
            request.headers.insert(header::AUTHORIZATION, authorization);
            Ok(request)
        };
        self.authorized(what, policy, build).await
    }

    fn success(&self, reply: Reply) -> Result<Reply, Failure> {
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(Failure::Refused(Refusal {
                portal: self.portal(),
                ..Refusal::read(RESOURCE_MANAGER, &reply)
            })),
        }
    }

    /// An address in an answer, if it is Resource Manager's own: our token goes nowhere else.
    pub(super) fn own(&self, text: &str) -> Result<Url> {
        let arm = self.arm()?;
        let foreign = || {
            Error::other("following an address of Resource Manager's")
                .caused_by("it leads somewhere else")
        };
        let url = arm.join(text).map_err(|_| foreign())?;
        match is_within(&url, &arm) {
            true => Ok(url),
            false => Err(foreign()),
        }
    }
}

/// Whether an address is the same server, or a region's own below it.
fn is_within(url: &Url, arm: &Url) -> bool {
    let (Some(host), Some(known)) = (url.host_str(), arm.host_str()) else {
        return false;
    };
    let below = host
        .strip_suffix(known)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'));
    below
        && url.scheme() == arm.scheme()
        && url.port_or_known_default() == arm.port_or_known_default()
}

/// Reads a body; an empty one is `null`.
fn read<T: DeserializeOwned>(what: &str, reply: &Reply) -> Result<T, Failure> {
    let body: &[u8] = match reply.body.is_empty() {
        true => b"null",
        false => &reply.body,
    };
    serde_json::from_slice(body).map_err(|error| {
        Failure::Broken(Error::other(format!("reading the answer to {what}")).caused_by(error))
    })
}

/// Sends a call with a token.
pub(super) async fn exchange(
    http: &Http,
    arm: &Url,
    subscription: &str,
    call: &Call,
    bearer: &Secret,
) -> Result<Reply> {
    let url = call.url(arm, subscription)?;
    let build = || call.request(&url, bearer);
    http.send(&call.name(), call.policy(), build, judge).await
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
