//! Workload identity federation: GitHub's token for a workflow is exchanged for one of Google's.
//! <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>,
//! <https://cloud.google.com/iam/docs/workload-identity-federation-with-other-providers>

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::PROJECT_NUMBER;
use super::endpoints::{OAuthError, parameters};
use super::identity::{Identity, Principal};
use super::jwt::Jwt;
use crate::clock;
use crate::oidc::{ISSUER, SUBJECT};
use crate::server::Request;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const SUBJECT_TYPES: &[&str] = &[
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
];
const LIFETIME: i64 = 3600;

/// The pool's and the provider's names.
fn pool() -> String {
    format!("projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools/pipelines")
}

/// The provider's whole name.
pub(super) fn provider() -> String {
    format!("//iam.googleapis.com/{}/providers/github", pool())
}

/// GitHub's token for a workflow, meant for `audience`.
pub(super) fn subject_token(identity: &Identity, audience: &str) -> String {
    let lifetime = SignedDuration::from_mins(5);
    identity.issuer.sign(audience, SUBJECT, lifetime)
}

/// Exchanges a token for one of Google's.
pub(super) fn exchange(identity: &Identity, request: &Request) -> Result<Value, OAuthError> {
    let wrong = |description: &str| OAuthError::new("invalid_request", description);
    let parameters = parameters(request).ok_or_else(|| wrong("Invalid request body."))?;
    let parameter = |name: &str| {
        let value = parameters.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| wrong(&format!("Missing required field: {name}.")))
    };
    for (name, known) in [
        ("grant_type", [EXCHANGE].as_slice()),
        ("requested_token_type", &[ACCESS_TOKEN]),
        ("subject_token_type", SUBJECT_TYPES),
    ] {
        if !known.contains(&parameter(name)?.as_str()) {
            return Err(wrong(&format!("Invalid value for \"{name}\".")));
        }
    }
    let audience = parameter("audience")?;
    if !audience.starts_with("//iam.googleapis.com/projects/") {
        return Err(wrong(
            "Invalid value for \"audience\". This value should be the full resource name of the \
             Identity Provider. See \
             https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list \
             of possible formats.",
        ));
    }
    if *audience != provider() {
        return Err(OAuthError::new(
            "invalid_target",
            "The target service indicated by the \"audience\" parameters is invalid. This might \
             either be because the pool or provider is disabled or deleted or because it doesn't \
             exist.",
        ));
    }
    let scopes = parameter("scope")?.split_whitespace();
    let scopes: Vec<String> = scopes.map(Into::into).collect();
    let subject = check_subject_token(identity, parameter("subject_token")?)?;
    let principal = Principal {
        email: format!(
            "principal://iam.googleapis.com/{}/subject/{subject}",
            pool()
        ),
        scopes,
    };
    let token = identity.token(principal, SignedDuration::from_secs(LIFETIME));
    Ok(json!({
        "access_token": token.value,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": LIFETIME,
    }))
}

/// The answer is the token's subject.
fn check_subject_token(identity: &Identity, token: &str) -> Result<String, OAuthError> {
    let invalid = |description: String| OAuthError::new("invalid_grant", description);
    let jwt = Jwt::read(token)
        .ok_or_else(|| invalid("The given credential is not a valid JWT.".into()))?;
    if jwt.claim("iss") != Some(ISSUER) {
        let issuer = jwt.claim("iss").unwrap_or_default();
        return Err(invalid(format!(
            "The issuer in ID Token {issuer} does not match the expected ones: {ISSUER}"
        )));
    }
    if !jwt.is_signed_by(identity.issuer.key()) {
        return Err(invalid("Invalid JWT signature.".into()));
    }
    // With or without the scheme, unless the provider lists others.
    let meant = jwt.claim("aud").unwrap_or_default();
    if meant.trim_start_matches("https:") != provider() {
        return Err(invalid(format!(
            "The audience in ID Token [{meant}] does not match the expected audience."
        )));
    }
    let now = clock::now().as_second();
    if jwt.time("exp").is_none_or(|expires| expires <= now) {
        let issued = jwt.time("iat").unwrap_or_default();
        return Err(invalid(format!(
            "ID Token issued at {issued} is stale to sign-in."
        )));
    }
    Ok(jwt.claim("sub").unwrap_or_default().to_owned())
}
