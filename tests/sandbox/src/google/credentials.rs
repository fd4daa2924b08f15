//! IAM Credentials: a token of a service account for someone who may act as it.
//! <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::LAUNCHER;
use super::access::scope_insufficient;
use super::error::{ApiError, Result};
use super::identity::{Identity, Principal};
use super::oauth2::PERSON;
use crate::clock;
use crate::server::Request;

const AUDIENCE: &str = "https://iamcredentials.googleapis.com/";
const SCOPE: &str = "https://www.googleapis.com/auth/iam";
const LONGEST: i64 = 3600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    scope: Vec<String>,
    #[serde(default)]
    lifetime: Option<String>,
    #[serde(default)]
    delegates: Vec<String>,
}

pub(super) fn generate_access_token(
    identity: &Identity,
    account: &str,
    request: &Request,
) -> Result<Value> {
    let principal = identity.authenticate(request.header("authorization"), AUDIENCE)?;
    if !principal.has_scope(&[SCOPE]) {
        return Err(scope_insufficient());
    }
    let invalid = |message: &str| ApiError::new(400, "badRequest", message).canonical();
    let wanted: Wanted = serde_json::from_slice(&request.body)
        .map_err(|error| invalid(&format!("Invalid JSON payload received. {error}")))?;
    let lifetime = match &wanted.lifetime {
        None => Some(LONGEST),
        Some(text) => text.strip_suffix('s').and_then(|text| text.parse().ok()),
    };
    let lifetime = lifetime.filter(|seconds| (1..=LONGEST).contains(seconds));
    let Some(lifetime) = lifetime.filter(|_| !wanted.scope.is_empty()) else {
        return Err(invalid("Request contains an invalid argument."));
    };
    let account = account.replace("%40", "@");
    let may = principal.email.starts_with("principal://") || principal.email == PERSON;
    if !may || account != LAUNCHER || !wanted.delegates.is_empty() {
        return Err(denied());
    }
    let token = identity.token(
        Principal {
            email: account,
            scopes: wanted.scope,
        },
        SignedDuration::from_secs(lifetime),
    );
    Ok(json!({
        "accessToken": token.value,
        "expireTime": clock::seconds(token.expires),
    }))
}

fn denied() -> ApiError {
    let permission = "iam.serviceAccounts.getAccessToken";
    let mut error = ApiError::new(
        403,
        "forbidden",
        format!("Permission '{permission}' denied on resource (or it may not exist)."),
    )
    .canonical();
    error.details.push(json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission},
    }));
    error
}
