//! Entra's token endpoint, for applications.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow>

use std::time::Duration;

use http::Method;
use http::header::{self, HeaderValue};
use jiff::SignedDuration;
use serde::Deserialize;

use super::{Application, Context, denied};
use crate::cache::Expiring;
use crate::cloud::azure::clouds::AUTHORITY_VARIABLE;
use crate::cloud::azure::refusal::{ENTRA, Meaning, Refusal};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Policy, Reply, Request, Verdict};
use crate::secret::Secret;

/// How long a token may take to come, all tries together.
pub(super) const TOKEN_POLICY: Policy = Policy {
    tries: 4,
    total: Duration::from_secs(30),
    ..Policy::IDEMPOTENT
};

/// <https://datatracker.ietf.org/doc/html/rfc7523#section-2.2>
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// By what an application shows that it is the one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof<'a> {
    Secret(&'a Secret),
    /// A token that the application has signed itself, or somebody whom it trusts.
    Assertion(&'a Secret),
}

/// The form that asks for a token.
pub(super) fn form(application: &Application, audience: &str, proof: Proof<'_>) -> Secret {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &application.client)
        .append_pair("scope", &format!("{audience}/.default"));
    match proof {
        Proof::Secret(secret) => form.append_pair("client_secret", secret.expose()),
        Proof::Assertion(token) => form
            .append_pair("client_assertion_type", JWT_BEARER)
            .append_pair("client_assertion", token.expose()),
    };
    Secret::new(form.finish())
}

#[derive(Deserialize)]
struct Answer {
    access_token: Secret,
    expires_in: i64,
}

/// Asks for a token. Asking twice makes two, which end by themselves.
pub(super) async fn token(
    context: Context<'_>,
    application: &Application,
    audience: &str,
    proof: Proof<'_>,
) -> Result<Expiring<Secret>> {
    let doing = format!(
        "signing in to Azure as the application {}",
        application.client
    );
    let url = application.endpoint()?;
    let body = form(application, audience, proof);
    let asked = context.host.now();
    let build = || {
        let mut request = Request::new(Method::POST, url.clone());
        request.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        request.body = body.expose().to_owned().into();
        Ok(request)
    };
    let reply = context
        .http
        .send("entra:token", TOKEN_POLICY, build, judge)
        .await
        .map_err(|error| somewhere_else(context.host, error.during(&doing)))?;
    if !reply.status.is_success() {
        let refusal = Refusal::read(ENTRA, &reply);
        let is_entra = refusal.code.starts_with("AADSTS");
        let error = refusal.of_token(doing);
        return Err(match is_entra {
            true => error,
            false => somewhere_else(context.host, error),
        });
    }
    // The text is never part of an error.
    let answer: Answer = serde_json::from_slice(&reply.body)
        .map_err(|_| denied(doing).caused_by("the answer holds no access token"))?;
    Ok(Expiring {
        value: answer.access_token,
        expires: asked
            .checked_add(SignedDuration::from_secs(answer.expires_in))
            .ok(),
    })
}

/// Where nobody answered as Entra does, the address may be the reason, if it was given.
fn somewhere_else(host: &Host, error: Error) -> Error {
    match host.env(AUTHORITY_VARIABLE) {
        Some(address) => error.hint(format!("check {AUTHORITY_VARIABLE}, which is {address}")),
        None => error,
    }
}

fn judge(reply: &Reply) -> Verdict {
    if reply.status.is_success() {
        return Verdict::Final;
    }
    match Refusal::read(ENTRA, reply).meaning() {
        Meaning::Throttled => Verdict::Retry(reply.retry_after()),
        _ => Verdict::by_status(reply),
    }
}
