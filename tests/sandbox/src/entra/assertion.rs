//! Tokens that take a secret's place: an application's own, signed with its certificate, and those
//! of a provider that the application trusts.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials>,
//! <https://learn.microsoft.com/en-us/entra/workload-id/workload-identity-federation>

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::{Result, StsError};
use super::{LAUNCHER_CERTIFICATE, LAUNCHER_KEY, TENANT};
use crate::clock;
use crate::jwt::{Jwt, SigningKey};
use crate::oidc::{GITLAB_ISSUER, GITLAB_SUBJECT, ISSUER, Issuer, SUBJECT};

/// Whom a provider's tokens are for.
pub(crate) const AUDIENCE: &str = "api://AzureADTokenExchange";
/// The application's federated credentials: issuer and subject.
const TRUSTED: &[(&str, &str)] = &[(ISSUER, SUBJECT), (GITLAB_ISSUER, GITLAB_SUBJECT)];
/// By how much clocks may differ.
const SKEW: i64 = 300;
const FEDERATION: &str =
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation";
const CERTIFICATES: &str =
    "https://learn.microsoft.com/entra/identity-platform/certificate-credentials";

/// Checks an assertion that `client` is who it says. `here`: the endpoint's own URL.
pub(super) fn check(assertion: &str, client: &str, here: &str, issuer: &Issuer) -> Result<()> {
    let Some(jwt) = Jwt::read(assertion) else {
        return Err(StsError::client(
            50027,
            "JWT token is invalid or malformed.",
        ));
    };
    match jwt.claim("iss") {
        Some(from) if from == client || is_own(&jwt) => certificate(&jwt, client, here),
        Some(_) => federated(&jwt, issuer),
        None => Err(StsError::client(
            50027,
            "JWT token is invalid or malformed.",
        )),
    }
}

/// Whether the application signed it with a certificate.
fn is_own(jwt: &Jwt) -> bool {
    ["x5t", "x5t#S256"]
        .iter()
        .any(|name| !jwt.header[*name].is_null())
}

/// The Base64 URL form of the SHA-256 of the launcher's certificate.
pub(super) fn thumbprint() -> String {
    let body: String = LAUNCHER_CERTIFICATE
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let certificate = BASE64_STANDARD.decode(body).unwrap_or_default();
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate))
}

fn certificate(jwt: &Jwt, client: &str, here: &str) -> Result<()> {
    if jwt.claim("iss") != Some(client) || jwt.claim("sub") != Some(client) {
        return Err(StsError::client(
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter. Review \
             the documentation at https://learn.microsoft.com/entra/identity-platform/\
             certificate-credentials.",
        ));
    }
    let public = format!("https://login.microsoftonline.com/{TENANT}");
    let audiences = [
        here.to_owned(),
        format!("{public}/oauth2/v2.0/token"),
        format!("{public}/oauth2/token"),
        format!("{public}/v2.0"),
    ];
    let audience = jwt.claim("aud").unwrap_or_default();
    if !audiences.iter().any(|known| known == audience) {
        return Err(StsError::client(
            700_023,
            format!(
                "Client assertion audience claim does not match Realm issuer. Review the \
                 documentation at {CERTIFICATES}."
            ),
        ));
    }
    timely(jwt)?;
    let not_registered = |reason: &str| {
        StsError::client(
            700_027,
            format!(
                "The certificate with identifier used to sign the client assertion is not \
                 registered on application. [Reason - {reason}, Please visit the Azure Portal, \
                 Graph Explorer or directly use MS Graph to see configured keys for app Id \
                 '{client}'.]"
            ),
        )
    };
    // The older `x5t` is a SHA-1, which nobody should need any more.
    if jwt.header["x5t#S256"] != thumbprint().as_str() {
        return Err(not_registered("The key was not found."));
    }
    let key = SigningKey::new("", LAUNCHER_KEY);
    if !jwt.is_signed_by_either(&key) {
        return Err(not_registered(
            "Key was found, but use of the key to verify the signature failed.",
        ));
    }
    Ok(())
}

fn federated(jwt: &Jwt, issuer: &Issuer) -> Result<()> {
    let no_match = |number, what: &str, value: &str| {
        StsError::client(
            number,
            format!(
                "No matching federated identity record found for presented assertion {what} \
                 '{value}'. Check your federated identity credential Subject, Audience and Issuer \
                 against the presented assertion. {FEDERATION}"
            ),
        )
    };
    let from = jwt.claim("iss").unwrap_or_default();
    let Some((_, trusted)) = TRUSTED.iter().find(|(issuer, _)| *issuer == from) else {
        return Err(no_match(700_211, "issuer", from));
    };
    let audience = &jwt.claims["aud"];
    let is_meant = |audience: &Value| audience == AUDIENCE;
    if !is_meant(audience)
        && !audience
            .as_array()
            .is_some_and(|list| list.iter().any(is_meant))
    {
        let audience = audience.as_str().unwrap_or_default();
        return Err(no_match(700_212, "audience", audience));
    }
    let subject = jwt.claim("sub").unwrap_or_default();
    if subject != *trusted {
        return Err(no_match(700_213, "subject", subject));
    }
    if !jwt.is_signed_by(issuer.key()) {
        return Err(StsError {
            status: 400,
            kind: "invalid_grant",
            ..StsError::client(
                50013,
                "Assertion failed signature validation. [Reason - The provided signature value \
                 did not match the expected signature value.]",
            )
        });
    }
    timely(jwt)
}

fn timely(jwt: &Jwt) -> Result<()> {
    let now = clock::now();
    let begins = jwt.time("nbf").or(jwt.time("iat")).unwrap_or_default();
    let expires = jwt.time("exp").unwrap_or_default();
    let second = now.as_second();
    if begins <= second + SKEW && expires > second - SKEW {
        return Ok(());
    }
    let time = |second| Timestamp::from_second(second).unwrap_or_default();
    Err(StsError::client(
        700_024,
        format!(
            "Client assertion is not within its valid time range. Current time: {now}, assertion \
             valid from {}, expiry time of assertion {}. Review the documentation at \
             {CERTIFICATES}.",
            time(begins),
            time(expires)
        ),
    ))
}
