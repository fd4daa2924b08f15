//! What octocrab sends its requests through: our HTTP client, our access, GitHub's rate limits.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, header};
use http_body_util::{BodyExt, Full};
use octocrab::OctoBody;
use url::Url;

use super::access::Authenticator;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy, Reply, Request, Verdict, authorization, below};

/// Marks a request that may be repeated after an unanswered try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeatable(pub(super) bool);

/// A `tower` service over [`Http`].
#[derive(Clone)]
pub(super) struct Transport {
    http: Http,
    host: Host,
    base: Url,
    access: Arc<Authenticator>,
}

impl Transport {
    pub(super) fn new(http: Http, host: Host, base: Url, access: Arc<Authenticator>) -> Self {
        Self {
            http,
            host,
            base,
            access,
        }
    }

    async fn send(self, request: http::Request<OctoBody>) -> Result<http::Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| Error::other("reading a request's own body").caused_by(error))?
            .to_bytes();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = below(&self.base, path)?;
        let what = format!("github {} {}", parts.method, parts.uri.path());
        let repeatable = parts
            .extensions
            .get::<Repeatable>()
            .map_or(parts.method == Method::GET, |repeatable| repeatable.0);
        let policy = match repeatable {
            true => Policy::IDEMPOTENT,
            false => Policy::ONCE,
        };
        let bearer = self.access.bearer().await?;
        let mut headers = parts.headers;
        headers.remove(header::CONTENT_LENGTH);
        for (name, value) in api_headers() {
            headers.insert(name, value);
        }
        headers.insert(header::AUTHORIZATION, authorization(&bearer)?);
        let build = || {
            Ok(Request {
                method: parts.method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                body: body.clone(),
            })
        };
        let host = self.host.clone();
        let judge = move |reply: &Reply| judge(reply, repeatable, &host);
        let reply = self.http.send(&what, policy, build, judge).await?;
        let mut response = http::Response::new(Full::new(reply.body));
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

impl tower::Service<http::Request<OctoBody>> for Transport {
    type Response = http::Response<Full<Bytes>>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<OctoBody>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// The media type and API version that this program is written for.
/// <https://docs.github.com/en/rest/about-the-rest-api/api-versions>
pub(super) fn api_headers() -> [(header::HeaderName, HeaderValue); 2] {
    [
        (
            header::ACCEPT,
            HeaderValue::from_static("application/vnd.github+json"),
        ),
        (
            header::HeaderName::from_static("x-github-api-version"),
            HeaderValue::from_static("2022-11-28"),
        ),
    ]
}

/// Which answers are tried again. Rate limits are refusals before the work, so any request may
/// be repeated after them; a server's failure may come after the work.
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>
fn judge(reply: &Reply, repeatable: bool, host: &Host) -> Verdict {
    if let Some(wait) = rate_limited(reply, host) {
        return Verdict::Retry(Some(wait));
    }
    match Verdict::by_status(reply) {
        Verdict::Retry(wait) if repeatable => Verdict::Retry(wait),
        _ => Verdict::Final,
    }
}

/// How long GitHub wants us to wait, where the answer is a primary or secondary rate limit.
pub(super) fn rate_limited(reply: &Reply, host: &Host) -> Option<Duration> {
    if !matches!(reply.status.as_u16(), 403 | 429) {
        return None;
    }
    let header =
        |name: &str| -> Option<i64> { reply.headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    if let Some(after) = reply.retry_after() {
        return Some(after);
    }
    if header("x-ratelimit-remaining") == Some(0) {
        let reset = header("x-ratelimit-reset")?;
        let wait = reset - host.now().as_second() + 1;
        return Some(Duration::from_secs(wait.max(1).unsigned_abs()));
    }
    // Without a header, GitHub asks for at least a minute.
    let secondary = reply.status.as_u16() == 429 || reply.text().contains("secondary rate limit");
    secondary.then_some(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (
                        header::HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect::<HeaderMap>(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn both_rate_limits_are_waited_for() {
        let host = Host::fixed::<&str, &str>([]);
        let cases = [
            (reply(403, &[("retry-after", "7")], ""), Some(7)),
            (reply(429, &[("retry-after", "1")], ""), Some(1)),
            (reply(429, &[], ""), Some(60)),
            (
                reply(
                    403,
                    &[
                        ("x-ratelimit-remaining", "0"),
                        ("x-ratelimit-reset", "1767225610"),
                    ],
                    "",
                ),
                Some(11),
            ),
            (
                reply(403, &[], "You have exceeded a secondary rate limit"),
                Some(60),
            ),
            (
                reply(
                    403,
                    &[("x-ratelimit-remaining", "12")],
                    "Resource not accessible",
                ),
                None,
            ),
            (reply(200, &[("x-ratelimit-remaining", "0")], ""), None),
        ];
        for (reply, seconds) in cases {
            assert_eq!(
                rate_limited(&reply, &host),
                seconds.map(Duration::from_secs)
            );
        }
    }

    #[test]
    fn a_write_without_a_key_is_not_repeated_after_a_server_failure() {
        let host = Host::fixed::<&str, &str>([]);
        assert_eq!(judge(&reply(502, &[], ""), false, &host), Verdict::Final);
        assert_eq!(
            judge(&reply(502, &[], ""), true, &host),
            Verdict::Retry(None)
        );
    }
}
