//! Asking a server for a token, and reading its answer.

use http::Method;
use http::header::{self, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::Url;

use super::{Context, denied};
use crate::cache::Expiring;
use crate::cloud::gcp::client::TOKEN_POLICY;
use crate::cloud::gcp::refusal::{Refusal, judge};
use crate::error::{Error, Result};
use crate::http::{Reply, Request};
use crate::secret::Secret;

/// <https://datatracker.ietf.org/doc/html/rfc6749#section-5.1>
#[derive(Deserialize)]
struct Answer {
    access_token: Secret,
    expires_in: Option<i64>,
}

/// Reads a token that lasts some seconds from `asked`. The text is never part of an error.
pub(super) fn read(text: &str, asked: Timestamp) -> Result<Expiring<Secret>> {
    let answer: Answer =
        serde_json::from_str(text).map_err(|_| Error::other("the answer holds no access token"))?;
    Ok(Expiring {
        value: answer.access_token,
        expires: answer
            .expires_in
            .and_then(|seconds| asked.checked_add(SignedDuration::from_secs(seconds)).ok()),
    })
}

/// Who is asked: the name in traces, and for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    pub(super) call: &'static str,
    pub(super) name: &'static str,
}

/// <https://developers.google.com/identity/protocols/oauth2>
pub(super) const OAUTH: Service = Service {
    call: "oauth2:token",
    name: "Google's token service",
};

/// <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>
pub(super) const STS: Service = Service {
    call: "google-sts:token",
    name: "Google's Security Token Service",
};

/// Posts a form and reads the token in the answer. Asking twice makes two tokens, which end by
/// themselves.
pub(super) async fn ask(
    context: Context<'_>,
    service: Service,
    url: &Url,
    form: &[(&str, &str)],
    authorization: Option<&HeaderValue>,
    doing: &str,
) -> Result<Expiring<Secret>> {
    let asked = context.host.now();
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let build = || {
        let mut request = Request::new(Method::POST, url.clone());
        request.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        if let Some(value) = authorization {
            request.headers.insert(header::AUTHORIZATION, value.clone());
        }
        request.body = body.clone().into();
        Ok(request)
    };
    let reply = send(context, service, build, doing).await?;
    read(&reply.text(), asked).map_err(|error| denied(doing).caused_by(error))
}

/// Sends a request for a token; whatever isn't a success is an error of `doing`.
pub(super) async fn send(
    context: Context<'_>,
    service: Service,
    build: impl Fn() -> Result<Request> + Send,
    doing: &str,
) -> Result<Reply> {
    let reply = context
        .http
        .send(service.call, TOKEN_POLICY, build, |reply| {
            judge(service.name, reply)
        })
        .await
        .map_err(|error| error.during(doing))?;
    match reply.status.is_success() {
        true => Ok(reply),
        false => Err(Refusal::read(service.name, &reply).of_token(doing)),
    }
}
