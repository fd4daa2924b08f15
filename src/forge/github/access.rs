//! Who we are to GitHub: a token, or an App that makes its own.

use std::time::Duration;

use http::{Method, header};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use url::Url;

use super::transport::api_headers;
use crate::cache::{Cached, Expiring};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::http::{Http, Policy, Reply, Request, Verdict, authorization, below};
use crate::secret::Secret;
use crate::spec::{Access, Target};

/// Hands out the token for each request.
pub(super) struct Authenticator {
    host: Host,
    http: Http,
    base: Url,
    target: Target,
    access: Access,
    cached: Cached<Secret>,
}

/// The claims of an App's token.
/// <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>
#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
}

#[derive(Deserialize)]
struct InstallationToken {
    token: Secret,
    expires_at: Timestamp,
}

impl Authenticator {
    pub(super) fn new(host: Host, http: Http, base: Url, target: Target, access: Access) -> Self {
        Self {
            host,
            http,
            base,
            target,
            access,
            cached: Cached::new(),
        }
    }

    /// The token to send.
    pub(super) async fn bearer(&self) -> Result<Secret> {
        match &self.access {
            Access::None => Err(Error::new(
                Kind::Denied,
                "no access to GitHub was given along",
            )),
            Access::Token(token) => Ok(token.clone()),
            Access::App {
                id,
                key,
                installation,
            } => {
                self.cached
                    .get(self.host.now(), async || {
                        self.installation_token(id, key, *installation).await
                    })
                    .await
            }
        }
    }

    /// <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>
    async fn installation_token(
        &self,
        id: &str,
        key: &Secret,
        installation: Option<u64>,
    ) -> Result<Expiring<Secret>> {
        let jwt = self.jwt(id, key)?;
        let installation = match installation {
            Some(id) => id,
            None => {
                let route = match &self.target {
                    Target::Repository(path) => format!("/repos/{path}/installation"),
                    Target::Organization(path) => format!("/orgs/{path}/installation"),
                };
                let found: Installation = self.ask(Method::GET, &route, &jwt).await?;
                found.id
            }
        };
        let route = format!("/app/installations/{installation}/access_tokens");
        let token: InstallationToken = self.ask(Method::POST, &route, &jwt).await?;
        Ok(Expiring {
            value: token.token,
            expires: Some(token.expires_at),
        })
    }

    fn jwt(&self, id: &str, key: &Secret) -> Result<Secret> {
        let now = self.host.now().as_second();
        let claims = Claims {
            // A minute back, for clocks that run ahead; ten minutes are the most GitHub takes.
            iat: now - 60,
            exp: now + 540,
            iss: id,
        };
        let key = EncodingKey::from_rsa_pem(key.expose().as_bytes()).map_err(|error| {
            Error::usage("reading the GitHub App's private key")
                .caused_by(error)
                .hint("--github-app-private-key takes the content of the .pem file")
        })?;
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)
            .map(Secret::new)
            .map_err(|error| Error::other("signing the GitHub App's token").caused_by(error))
    }

    /// A repeated token request makes one token more, which expires by itself.
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        jwt: &Secret,
    ) -> Result<T> {
        let url = below(&self.base, route)?;
        let mut headers = http::HeaderMap::from_iter(api_headers());
        headers.insert(header::AUTHORIZATION, authorization(jwt)?);
        let build = || {
            let mut request = Request::new(method.clone(), url.clone());
            request.headers = headers.clone();
            Ok(request)
        };
        let policy = Policy {
            total: Duration::from_secs(30),
            ..Policy::IDEMPOTENT
        };
        let what = format!("github {method} {route}");
        let reply: Reply = self
            .http
            .send(&what, policy, build, Verdict::by_status)
            .await?;
        if !reply.status.is_success() {
            return Err(Error::new(
                Kind::Denied,
                format!(
                    "signing in to GitHub as an App: {} {}",
                    reply.status,
                    super::words(&reply.body)
                ),
            )
            .hint(
                "check --github-app-id and --github-app-private-key, and that the App is \
                 installed for this repository or organisation",
            ));
        }
        serde_json::from_slice(&reply.body)
            .map_err(|error| Error::other(format!("reading {what}")).caused_by(error))
    }
}
