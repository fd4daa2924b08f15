//! What `kube` sends its requests through: our HTTP client, with the cluster's TLS and its retries.
//! Watches are streams; everything else is read whole.

use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::AUTHORIZATION;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use kube::client::Body;
use url::Url;

use super::user::User;
use crate::error::{Error, Result};
use crate::http::{self, Http, Policy, Request, Verdict};

/// How long a watch may go on: what is asked of the server, and a little more for one that has
/// forgotten us.
pub(super) const WATCH: Duration = Duration::from_secs(120);
const SLACK: Duration = Duration::from_secs(10);

/// A `tower` service over [`Http`].
#[derive(Clone)]
pub(super) struct Transport {
    http: Http,
    base: Url,
    user: User,
}

impl Transport {
    /// For the cluster at an address, which may have a path.
    pub(super) fn new(http: Http, base: Url, user: User) -> Self {
        Self { http, base, user }
    }

    async fn send(self, request: ::http::Request<Body>) -> Result<::http::Response<reqwest::Body>> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| Error::other("reading a request's own body").caused_by(error))?
            .to_bytes();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        if let Some(value) = self.user.header()? {
            headers.insert(AUTHORIZATION, value);
        }
        let request = Request {
            method: parts.method,
            url: http::below(&self.base, path)?,
            headers,
            body,
        };
        let what = format!("kubernetes {} {}", request.method, request.url.path());
        if is_watch(&request.url) {
            return self.http.open(&what, &request, WATCH + SLACK).await;
        }
        // Everything that we make has its name, what we change is put to the same, and what is gone
        // is gone: each call may be repeated.
        let build = || Ok(request.clone());
        let send = self
            .http
            .send(&what, Policy::IDEMPOTENT, build, Verdict::by_status);
        let reply = send.await?;
        let mut response = ::http::Response::new(reqwest::Body::from(reply.body));
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

fn is_watch(url: &Url) -> bool {
    url.query_pairs()
        .any(|(name, value)| name == "watch" && value == "true")
}

impl tower::Service<::http::Request<Body>> for Transport {
    type Response = ::http::Response<reqwest::Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ::http::Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
