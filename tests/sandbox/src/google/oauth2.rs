//! The OAuth 2.0 token endpoint: signed assertions of service accounts, refresh tokens of people.
//! <https://developers.google.com/identity/protocols/oauth2/service-account#httprest>,
//! <https://developers.google.com/identity/protocols/oauth2/web-server#offline>

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::endpoints::{OAUTH2, OAuthError, parameters};
use super::identity::{Identity, Principal};
use super::jwt::Jwt;
use super::{CLOUD_PLATFORM, access};
use crate::server::Request;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What tokens last, in seconds.
const LIFETIME: i64 = 3599;

/// The one person's address, and the program that the person signed in with.
pub(super) const PERSON: &str = "octavia@example.com";
pub(super) const CLIENT: &str =
    "764086051850-6qr4p6gpi6hn506pt8ejuq83di341hur.apps.googleusercontent.com";

pub(super) fn token(identity: &Identity, request: &Request) -> Result<Value, OAuthError> {
    let missing = |name: &str| {
        OAuthError::new(
            "invalid_request",
            format!("Required parameter is missing: {name}"),
        )
    };
    let parameters =
        parameters(request).ok_or_else(|| OAuthError::new("invalid_request", "Bad Request"))?;
    let parameter = |name: &str| {
        let value = parameters.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| missing(name))
    };
    let (email, scopes) = match parameter("grant_type")?.as_str() {
        JWT_BEARER => assertion(identity, parameter("assertion")?)?,
        "refresh_token" => {
            let known = parameter("client_id")? == CLIENT
                && *parameter("client_secret")? == identity.client_secret;
            if !known {
                return Err(OAuthError {
                    status: 401,
                    error: "invalid_client",
                    description: "The OAuth client was not found.".into(),
                });
            }
            if *parameter("refresh_token")? != identity.refresh_token {
                return Err(OAuthError::new("invalid_grant", "Bad Request"));
            }
            (PERSON.to_owned(), vec![CLOUD_PLATFORM.to_owned()])
        }
        other => {
            return Err(OAuthError::new(
                "unsupported_grant_type",
                format!("Invalid grant_type: {other}"),
            ));
        }
    };
    let scope = scopes.join(" ");
    let person = email == PERSON;
    let token = identity.token(
        Principal { email, scopes },
        SignedDuration::from_secs(LIFETIME),
    );
    let mut answer = json!({
        "access_token": token.value,
        "expires_in": LIFETIME,
        "token_type": "Bearer",
    });
    if person {
        answer["scope"] = scope.into();
    }
    Ok(answer)
}

/// A service account that proves itself with its key; the answer is its address and the scopes.
fn assertion(identity: &Identity, text: &str) -> Result<(String, Vec<String>), OAuthError> {
    let invalid = |description: &str| OAuthError::new("invalid_grant", description);
    let jwt = Jwt::read(text).ok_or_else(|| invalid("Invalid JWT: Bad Request"))?;
    access::check_account_jwt(identity, &jwt).map_err(invalid)?;
    let url = identity.google(OAUTH2);
    if jwt.claim("aud") != Some(url.as_str()) {
        return Err(invalid(&format!(
            "Invalid JWT: Failed audience check. The right audience is {url}"
        )));
    }
    let issuer = jwt.claim("iss").unwrap_or_default();
    if jwt.claim("sub").is_some_and(|subject| subject != issuer) {
        return Err(OAuthError {
            status: 401,
            error: "unauthorized_client",
            description: "Client is unauthorized to retrieve access tokens using this method, or \
                          client not authorized for any of the scopes requested."
                .into(),
        });
    }
    let scopes = jwt.claim("scope").unwrap_or_default();
    let scopes: Vec<String> = scopes.split_whitespace().map(Into::into).collect();
    if scopes.is_empty() || !scopes.iter().all(|scope| scope.starts_with("https://")) {
        return Err(OAuthError::new(
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided.",
        ));
    }
    Ok((issuer.into(), scopes))
}
