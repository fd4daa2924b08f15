//! The one HTTP client: TLS roots, proxy, deadlines, retries, and the tracing of calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;
use url::Url;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Secret;

/// What this program calls itself in requests.
pub const USER_AGENT: &str = concat!("runner-launch/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(10);

/// How often a long-lived connection is tried, and how long that may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address; printed without its query.
    pub url: Url,
    /// Headers beside those that the transport adds.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}

/// An answer, whatever its status: the caller gives it meaning.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text, with replacement characters where it isn't UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What `Retry-After` asks for, in its form as seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        value.trim().parse().ok().map(Duration::from_secs)
    }
}

/// What the caller thinks of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good or bad, it is the answer.
    Final,
    /// Try again, not before this long where the service said so.
    Retry(Option<Duration>),
}

impl Verdict {
    /// The statuses that every service means as "later": pinned by a test.
    pub fn by_status(reply: &Reply) -> Self {
        match reply.status.as_u16() {
            429 | 500 | 502 | 503 | 504 => Verdict::Retry(reply.retry_after()),
            _ => Verdict::Final,
        }
    }
}

/// How often and how long a call may be tried.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Tries, the first one included.
    pub tries: u32,
    /// How long all of them may take together.
    pub total: Duration,
    /// How long one try may take; [`Host::http_timeout`] when `None`.
    pub per_try: Option<Duration>,
    /// Whether a try that got no answer may be repeated: the request is safe, or carries a key
    /// by which the service knows it again.
    pub idempotent: bool,
}

impl Policy {
    /// For reads and for writes with an idempotency key.
    pub const IDEMPOTENT: Policy = Policy {
        tries: 5,
        total: Duration::from_secs(90),
        per_try: None,
        idempotent: true,
    };
    /// For writes without a key: repeated only when the request can't have arrived.
    pub const ONCE: Policy = Policy {
        idempotent: false,
        ..Policy::IDEMPOTENT
    };
    /// For services on this machine or its link: they answer at once or aren't there.
    pub const LOCAL: Policy = Policy {
        tries: 2,
        total: Duration::from_secs(4),
        per_try: Some(Duration::from_secs(1)),
        idempotent: true,
    };
}

/// No answer: the request may or may not have been executed.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url}: {problem} ({tries} tries in {:.1} s)", elapsed.as_secs_f64())]
pub struct NoAnswer {
    method: Method,
    url: String,
    problem: &'static str,
    tries: u32,
    elapsed: Duration,
    /// Whether the server may have executed the request all the same.
    pub maybe_done: bool,
    source: reqwest::Error,
}

/// The client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    proxied: reqwest::Client,
    direct: reqwest::Client,
    timeout: Duration,
}

impl Http {
    /// A client that trusts the bundled web roots, the system's, and those of `SSL_CERT_FILE`, and
    /// that uses the proxy of the environment.
    pub fn new(host: &Host) -> Result<Self> {
        let tls = tls_config()?;
        let builder = || {
            reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .connect_timeout(CONNECTING.min(host.http_timeout()))
                .tls_backend_preconfigured(tls.clone())
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder
                .build()
                .map_err(|error| Error::other("setting up the HTTP client").caused_by(error))
        };
        Ok(Self {
            proxied: build(builder())?,
            // Link-local services answer nobody but this machine: never through a proxy, and
            // nothing they say may lead elsewhere.
            direct: build(
                builder()
                    .no_proxy()
                    .redirect(reqwest::redirect::Policy::none()),
            )?,
            timeout: host.http_timeout(),
        })
    }

    /// Sends what `build` makes (anew for each try, so that signatures are fresh) until `judge`
    /// is content or the policy's bounds are reached; the last answer is returned either way.
    pub async fn send(
        &self,
        what: &str,
        policy: Policy,
        build: impl Fn() -> Result<Request> + Send,
        judge: impl Fn(&Reply) -> Verdict + Send,
    ) -> Result<Reply> {
        self.send_with(&self.proxied, what, policy, build, judge)
            .await
    }

    /// The same without a proxy, for metadata services.
    pub async fn send_direct(
        &self,
        what: &str,
        policy: Policy,
        build: impl Fn() -> Result<Request> + Send,
    ) -> Result<Reply> {
        self.send_with(&self.direct, what, policy, build, Verdict::by_status)
            .await
    }

    /// Opens a download; the whole transfer is the caller's to bound.
    pub async fn download(&self, request: &Request) -> Result<reqwest::Response> {
        let mut headers = request.headers.clone();
        headers.remove(header::HOST);
        self.proxied
            .request(request.method.clone(), request.url.clone())
            .headers(headers)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| {
                Error::other(format!("downloading {}", redacted(&request.url)))
                    .caused_by(error.without_url())
            })
    }

    /// A client for one server that wants other TLS, and perhaps a proxy of its own; `at` is a name's
    /// address where that isn't what the name stands for.
    pub fn to(
        &self,
        tls: rustls::ClientConfig,
        proxy: Option<Url>,
        at: Option<(String, SocketAddr)>,
    ) -> Result<Self> {
        let failed = |error| Error::other("setting up the HTTP client").caused_by(error);
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECTING.min(self.timeout))
            .redirect(reqwest::redirect::Policy::none())
            // One connection carries everything, watches too: one that is dead must be found out.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .tls_backend_preconfigured(tls);
        if let Some(proxy) = proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(failed)?);
        }
        if let Some((name, address)) = at {
            // A proxy would be asked for the name.
            builder = builder.resolve(&name, address).no_proxy();
        }
        let client = builder.build().map_err(failed)?;
        Ok(Self {
            proxied: client.clone(),
            direct: client,
            timeout: self.timeout,
        })
    }

    /// Opens a stream that goes on until `limit`; one try. The beginning of the answer must come as
    /// soon as that of any other request.
    pub async fn open(
        &self,
        what: &str,
        request: &Request,
        limit: Duration,
    ) -> Result<http::Response<reqwest::Body>> {
        let sent = Instant::now();
        let opening = self
            .proxied
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone())
            .timeout(limit)
            .send();
        let failed = |problem: String| Error::other(format!("calling {what}")).caused_by(problem);
        let response = tokio::time::timeout(self.timeout, opening)
            .await
            .map_err(|_| failed(format!("no answer within {:?}", self.timeout)))?
            .map_err(|error| failed(error.without_url().to_string()))?;
        tracing::debug!(
            target: "runner_launch::calls",
            "{what}: {} in {} ms", response.status().as_u16(), sent.elapsed().as_millis()
        );
        Ok(response.into())
    }

    async fn send_with(
        &self,
        client: &reqwest::Client,
        what: &str,
        policy: Policy,
        build: impl Fn() -> Result<Request> + Send,
        judge: impl Fn(&Reply) -> Verdict + Send,
    ) -> Result<Reply> {
        let started = Instant::now();
        let per_try = policy.per_try.unwrap_or(self.timeout);
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(8))
            .with_max_times(usize::MAX)
            .with_jitter()
            .build();
        let mut tries = 0;
        loop {
            tries += 1;
            let request = build()?;
            let sent = Instant::now();
            let outcome = attempt(client, &request, per_try).await;
            let pause = delays.next().unwrap_or(Duration::from_secs(8));
            let may_wait =
                |pause: Duration| tries < policy.tries && started.elapsed() + pause < policy.total;
            match outcome {
                Ok(reply) => {
                    tracing::debug!(
                        target: "runner_launch::calls",
                        "{what}: {} in {} ms", reply.status.as_u16(), sent.elapsed().as_millis()
                    );
                    match judge(&reply) {
                        Verdict::Retry(asked) => {
                            let pause = asked.unwrap_or_default().max(pause);
                            if !may_wait(pause) {
                                return Ok(reply);
                            }
                            tokio::time::sleep(pause).await;
                        }
                        Verdict::Final => return Ok(reply),
                    }
                }
                Err(error) => {
                    let maybe_done = !error.is_connect() && !error.is_builder();
                    let problem = if error.is_connect() {
                        "couldn't connect"
                    } else if error.is_timeout() {
                        "no answer in time"
                    } else {
                        "the connection broke"
                    };
                    tracing::debug!(
                        target: "runner_launch::calls",
                        "{what}: {problem} after {} ms", sent.elapsed().as_millis()
                    );
                    let again = (policy.idempotent || !maybe_done) && !error.is_builder();
                    if !(again && may_wait(pause)) {
                        let no_answer = NoAnswer {
                            method: request.method,
                            url: redacted(&request.url),
                            problem,
                            tries,
                            elapsed: started.elapsed(),
                            maybe_done,
                            source: error.without_url(),
                        };
                        return Err(unanswered(what, no_answer));
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

fn unanswered(what: &str, no_answer: NoAnswer) -> Error {
    let mut source: Option<&dyn std::error::Error> = Some(&no_answer.source);
    let mut untrusted = false;
    while let Some(cause) = source {
        untrusted |= matches!(
            cause.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::InvalidCertificate(_))
        );
        // An I/O error shows the error that it wraps as itself, not as its source.
        source = match cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    let error = Error::other(format!("calling {what}")).caused_by(no_answer);
    match untrusted {
        true => error.hint(
            "the server's certificate isn't trusted: if its authority is a private one, name a \
             file with the authority's certificate in SSL_CERT_FILE (a cluster's: in its kubeconfig)",
        ),
        false => error,
    }
}

/// Whether an error means that a request may have been executed though no answer came.
pub fn maybe_done(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(no_answer) = cause.downcast_ref::<NoAnswer>() {
            return no_answer.maybe_done;
        }
        source = cause.source();
    }
    false
}

/// Whether an error means that no answer came, whatever became of the request.
pub fn is_unanswered(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<NoAnswer>() {
            return true;
        }
        source = cause.source();
    }
    false
}

async fn attempt(
    client: &reqwest::Client,
    request: &Request,
    per_try: Duration,
) -> Result<Reply, reqwest::Error> {
    let response = client
        .request(request.method.clone(), request.url.clone())
        .headers(request.headers.clone())
        .body(request.body.clone())
        .timeout(per_try)
        .send()
        .await?;
    Ok(Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.bytes().await?,
    })
}

/// The header that carries a token, hidden from whatever prints headers.
pub fn authorization(token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
        Error::usage("the access token holds characters that no token has")
            .hint("check for a line break or a space at its end")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An address without what may be secret in it: user, query and fragment.
pub fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    // A URL that can't carry a user or a password has none to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some("REDACTED"));
    }
    url.set_fragment(None);
    url.to_string()
}

/// The web's authorities, for machines that have no list of their own.
fn bundled_roots() -> rustls::RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// Makes ring the process's TLS provider, for whatever doesn't name one. The tree has a second one
/// (see `deny.toml`), between which nothing would choose.
pub fn install_tls_provider() {
    // It fails where it has been done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Bundled web roots for machines that have none, and the system's roots, which follow
/// `SSL_CERT_FILE` and `SSL_CERT_DIR`.
pub fn roots() -> rustls::RootCertStore {
    let mut roots = bundled_roots();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!("reading the system's certificates: {error}");
    }
    roots.add_parsable_certificates(system.certs);
    roots
}

/// An API's base with a route behind it.
pub fn below(base: &Url, route: &str) -> Result<Url> {
    let text = format!("{}{route}", base.as_str().trim_end_matches('/'));
    Url::parse(&text).map_err(|error| Error::other("building an address").caused_by(error))
}

/// One TLS provider: ring.
fn tls_config() -> Result<rustls::ClientConfig> {
    Ok(rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(|error| Error::other("setting up TLS").caused_by(error))?
    .with_root_certificates(roots())
    .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_retried_is_pinned() {
        let retried: Vec<u16> = (200..600)
            .filter(|status| {
                let reply = Reply {
                    status: StatusCode::from_u16(*status).unwrap(),
                    headers: HeaderMap::new(),
                    body: Bytes::new(),
                };
                Verdict::by_status(&reply) != Verdict::Final
            })
            .collect();
        assert_eq!(retried, [429, 500, 502, 503, 504]);
    }

    /// A provider doesn't tell its name, but its parts do.
    fn name(provider: &rustls::crypto::CryptoProvider) -> String {
        format!("{:?} {:?}", provider.secure_random, provider.key_provider)
    }

    #[test]
    fn tls_is_ring_s() {
        assert_eq!(name(tls_config().unwrap().crypto_provider()), "Ring Ring");
    }

    #[test]
    fn ring_is_the_process_s_provider() {
        install_tls_provider();
        let installed = rustls::crypto::CryptoProvider::get_default().unwrap();
        assert_eq!(name(installed), "Ring Ring");
    }

    #[test]
    fn a_machine_without_certificates_trusts_the_web() {
        assert!(bundled_roots().len() > 50);
    }

    #[test]
    fn urls_are_printed_without_user_and_query() {
        let url = Url::parse("https://me:pw@example.com/a?token=t#f").unwrap();
        assert_eq!(redacted(&url), "https://example.com/a?REDACTED");
    }
}
