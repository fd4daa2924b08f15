//! A service account's key.

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Context, denied, token};
use crate::cache::Expiring;
use crate::error::Result;
use crate::secret::Secret;

/// How long a token lives that a key signs: exactly this, says the specification.
/// <https://google.aip.dev/auth/4111>
const LIFE: SignedDuration = SignedDuration::from_hours(1);

/// Where the tokens of a key without its own address are made.
/// <https://google.aip.dev/auth/4112>
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// <https://cloud.google.com/iam/docs/keys-create-delete#creating>
#[derive(Debug, Deserialize)]
pub(super) struct ServiceAccount {
    client_email: String,
    private_key: Secret,
    private_key_id: Option<String>,
    project_id: Option<String>,
    token_uri: Option<Url>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    iat: i64,
    exp: i64,
}

impl ServiceAccount {
    pub(super) fn email(&self) -> &str {
        &self.client_email
    }

    pub(super) fn project(&self) -> Option<&str> {
        self.project_id.as_deref().filter(|id| !id.is_empty())
    }

    /// A token that the key signs itself: no round trip.
    /// <https://google.aip.dev/auth/4111>
    pub(super) fn signed_for(&self, audience: &str, now: Timestamp) -> Result<Expiring<Secret>> {
        let email = self.client_email.as_str();
        self.sign(now, Some(email), audience, None)
    }

    /// A token of Google's for one that the key signs.
    /// <https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests>
    pub(super) async fn exchanged(
        &self,
        context: Context<'_>,
        scope: &str,
    ) -> Result<Expiring<Secret>> {
        let doing = format!("getting a token for {}", self.client_email);
        let url = match &self.token_uri {
            Some(url) => url.clone(),
            None => Url::parse(TOKEN_URI).map_err(|error| denied(&doing).caused_by(error))?,
        };
        let assertion = self.sign(context.host.now(), None, url.as_str(), Some(scope))?;
        let form = [
            ("grant_type", JWT_BEARER),
            ("assertion", assertion.value.expose()),
        ];
        token::ask(context, token::OAUTH, &url, &form, None, &doing).await
    }

    fn sign(
        &self,
        now: Timestamp,
        subject: Option<&str>,
        audience: &str,
        scope: Option<&str>,
    ) -> Result<Expiring<Secret>> {
        let doing = || {
            denied(format!(
                "signing with the private key of {}",
                self.client_email
            ))
        };
        // jsonwebtoken's errors hold nothing of the key.
        let key =
            EncodingKey::from_rsa_pem(self.private_key.expose().as_bytes()).map_err(|error| {
                doing().caused_by(error).hint(
                    "the key's JSON must be complete and unchanged, with `\\n` inside private_key",
                )
            })?;
        let expires = now + LIFE;
        let claims = Claims {
            iss: &self.client_email,
            sub: subject,
            aud: audience,
            scope,
            iat: now.as_second(),
            exp: expires.as_second(),
        };
        let mut header = Header::new(Algorithm::RS256);
        header.kid = self.private_key_id.clone();
        let token = jsonwebtoken::encode(&header, &claims, &key)
            .map_err(|error| doing().caused_by(error))?;
        Ok(Expiring {
            value: Secret::new(token),
            expires: Some(expires),
        })
    }
}
