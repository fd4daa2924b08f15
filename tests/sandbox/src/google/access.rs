//! Whom a token lets in.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::error::{ApiError, Result};
use super::identity::{Identity, Principal};
use super::jwt::Jwt;
use super::{CLOUD_PLATFORM, LAUNCHER};
use crate::calls::lock;
use crate::clock;

/// The longest life of a token that its bearer signed.
/// <https://google.aip.dev/auth/4111>
const LONGEST: i64 = 3600;
/// By how much clocks may differ.
const SKEW: i64 = 30;

pub(super) fn authenticate(
    identity: &Identity,
    authorization: Option<&str>,
    audience: &str,
) -> Result<Principal> {
    let Some(authorization) = authorization else {
        return Err(missing());
    };
    let token = match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        _ => return Err(invalid("ACCESS_TOKEN_TYPE_UNSUPPORTED")),
    };
    if let Some((principal, expires)) = lock(&identity.tokens).get(token) {
        if *expires <= clock::now() {
            return Err(invalid("ACCESS_TOKEN_EXPIRED"));
        }
        return Ok(principal.clone());
    }
    let jwt = Jwt::read(token).ok_or_else(|| invalid("ACCESS_TOKEN_TYPE_UNSUPPORTED"))?;
    self_signed(identity, &jwt, audience).ok_or_else(|| invalid("ACCESS_TOKEN_TYPE_UNSUPPORTED"))
}

/// A token that a service account signed itself, for one API or for some scopes.
/// <https://google.aip.dev/auth/4111>
fn self_signed(identity: &Identity, jwt: &Jwt, audience: &str) -> Option<Principal> {
    if identity.refuses_self_signed.load(Ordering::SeqCst) {
        return None;
    }
    check_account_jwt(identity, jwt).ok()?;
    let scopes = match (jwt.claim("aud"), jwt.claim("scope")) {
        (Some(meant), None) => (meant == audience).then(|| vec![CLOUD_PLATFORM.to_owned()])?,
        (None, Some(scopes)) => scopes.split_whitespace().map(Into::into).collect(),
        _ => return None,
    };
    (jwt.claim("sub") == jwt.claim("iss")).then(|| Principal {
        email: LAUNCHER.into(),
        scopes,
    })
}

/// Checks a token's issuer, key, signature and times.
///
/// # Errors
/// What the token endpoint says about it.
pub(super) fn check_account_jwt(
    identity: &Identity,
    jwt: &Jwt,
) -> std::result::Result<(), &'static str> {
    if jwt.claim("iss") != Some(LAUNCHER) {
        return Err("Invalid grant: account not found");
    }
    let key = &identity.launcher;
    let names_key = jwt
        .header
        .get("kid")
        .is_none_or(|kid| *kid == key.id.as_str());
    if !names_key || !jwt.is_signed_by(key) {
        return Err("Invalid JWT Signature.");
    }
    let now = clock::now().as_second();
    let timely = match (jwt.time("iat"), jwt.time("exp")) {
        (Some(issued), Some(expires)) => {
            issued <= now + SKEW && expires > now - SKEW && expires - issued <= LONGEST
        }
        _ => false,
    };
    if !timely {
        return Err(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable \
             timeframe. Check your iat and exp values in the JWT claim.",
        );
    }
    Ok(())
}

fn missing() -> ApiError {
    ApiError {
        short: Some("Login Required.".into()),
        header: Some("Authorization"),
        ..ApiError::new(
            401,
            "required",
            "Request is missing required authentication credential. Expected OAuth 2 access token, \
             login cookie or other valid authentication credential. See \
             https://developers.google.com/identity/sign-in/web/devconsole-project.",
        )
    }
    .canonical()
    .info("CREDENTIALS_MISSING", json!({}))
}

fn invalid(reason: &str) -> ApiError {
    ApiError {
        short: Some("Invalid Credentials".into()),
        header: Some("Authorization"),
        ..ApiError::new(
            401,
            "authError",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login \
             cookie or other valid authentication credential. See \
             https://developers.google.com/identity/sign-in/web/devconsole-project.",
        )
    }
    .canonical()
    .info(reason, json!({}))
}

/// What an API says to a token without the scope that it wants.
pub(crate) fn scope_insufficient() -> ApiError {
    ApiError {
        short: Some("Insufficient Permission".into()),
        ..ApiError::new(
            403,
            "insufficientPermissions",
            "Request had insufficient authentication scopes.",
        )
    }
    .canonical()
    .info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", json!({}))
}
