//! Who we are to Azure: one file per source, asked in the order of Azure's own libraries.
//!
//! What somebody has set expressly comes before what a pipeline or a machine merely offers. A
//! source that doesn't apply is `None`; one that applies and is broken ends the search, because
//! going on could mean acting as somebody else than was meant.
//! <https://learn.microsoft.com/en-us/dotnet/azure/sdk/authentication/credential-chains>

mod certificate;
mod entra;
mod federated;
mod github;
pub(super) mod managed;

use url::Url;

use self::certificate::Certificate;
use self::entra::Proof;
use super::clouds::{AUTHORITY_VARIABLE, Endpoints};
use crate::cache::{Cached, Expiring};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::http::Http;
use crate::secret::Secret;

const CLIENT: &str = "AZURE_CLIENT_ID";
const TENANT: &str = "AZURE_TENANT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";

/// What the sources draw from.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    host: &'a Host,
    http: &'a Http,
}

/// An application of a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Application {
    /// Where tokens are made.
    pub(super) authority: Url,
    /// The tenant's id, or one of its domains.
    pub(super) tenant: String,
    /// The application's id.
    pub(super) client: String,
}

/// An application's secret: the last way for an instance to have itself deleted.
#[derive(Debug, Clone)]
pub(super) struct ClientSecret {
    pub(super) application: Application,
    pub(super) secret: Secret,
}

impl Application {
    /// The one that the environment names; `reason` is the variable that calls for one.
    fn named(host: &Host, reason: &str) -> Result<Self> {
        let variable = |name: &str| {
            host.env(name)
                .map(str::trim)
                .ok_or_else(|| denied(format!("{reason} is set, but {name} isn't")))
        };
        let (tenant, client) = (variable(TENANT)?, variable(CLIENT)?);
        // They become parts of addresses and of forms.
        for (name, value) in [(TENANT, tenant), (CLIENT, client)] {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if !value.bytes().all(is_plain) {
                return Err(Error::usage(format!(
                    "{name} holds characters that no id has"
                )));
            }
        }
        Ok(Self {
            authority: Endpoints::of(host)?.authority,
            tenant: tenant.to_owned(),
            client: client.to_owned(),
        })
    }

    /// Where its tokens are made.
    /// <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow#get-a-token>
    fn endpoint(&self) -> Result<Url> {
        let mut url = self.authority.clone();
        url.path_segments_mut()
            .map_err(|()| Error::usage(format!("{AUTHORITY_VARIABLE} is no address")))?
            .pop_if_empty()
            .extend([self.tenant.as_str(), "oauth2", "v2.0", "token"]);
        Ok(url)
    }
}

impl ClientSecret {
    fn given(host: &Host) -> Result<Option<Self>> {
        let Some(secret) = host.env(SECRET) else {
            return Ok(None);
        };
        Ok(Some(Self {
            application: Application::named(host, SECRET)?,
            secret: Secret::new(secret),
        }))
    }

    /// The request that brings a token, as a form.
    pub(super) fn form(&self, audience: &str) -> Result<(Url, Secret)> {
        let form = entra::form(&self.application, audience, Proof::Secret(&self.secret));
        Ok((self.application.endpoint()?, form))
    }

    /// A token for an audience.
    pub(super) async fn token(
        &self,
        host: &Host,
        http: &Http,
        audience: &str,
    ) -> Result<Expiring<Secret>> {
        let context = Context { host, http };
        entra::token(
            context,
            &self.application,
            audience,
            Proof::Secret(&self.secret),
        )
        .await
    }
}

/// Every source in its order, and what it brought.
#[derive(Debug)]
pub(super) struct Chain {
    host: Host,
    http: Http,
    cached: Cached<Secret>,
}

impl Chain {
    pub(super) fn new(host: Host, http: Http) -> Self {
        Self {
            host,
            http,
            cached: Cached::new(),
        }
    }

    /// A token to send.
    pub(super) async fn bearer(&self) -> Result<Secret> {
        let now = self.host.now();
        self.cached.get(now, async || self.find().await).await
    }

    /// The next one to send, after one was refused: tokens can end before their time.
    /// <https://learn.microsoft.com/en-us/entra/identity/conditional-access/concept-continuous-access-evaluation>
    pub(super) async fn bearer_after(&self, refused: &Secret) -> Result<Secret> {
        let is_refused = |held: &Secret| held.expose() == refused.expose();
        self.cached.forget(is_refused).await;
        self.bearer().await
    }

    /// The client secret, where that is the source.
    pub(super) fn client_secret(&self) -> Result<Option<ClientSecret>> {
        ClientSecret::given(&self.host)
    }

    async fn find(&self) -> Result<Expiring<Secret>> {
        let Self { host, http, .. } = self;
        let context = Context { host, http };
        let audience = Endpoints::of(host)?.audience;
        if let Some(secret) = self.client_secret()? {
            return found(
                "a client secret",
                secret.token(host, http, &audience).await?,
            );
        }
        if let Some((application, assertion)) = federated::assertion(host)? {
            let proof = Proof::Assertion(&assertion);
            let token = entra::token(context, &application, &audience, proof).await?;
            return found("a federated token", token);
        }
        if let Some((application, certificate)) = Certificate::given(host)? {
            let assertion = certificate.assertion(&application, host)?;
            let proof = Proof::Assertion(&assertion);
            let token = entra::token(context, &application, &audience, proof).await?;
            return found("a client certificate", token);
        }
        if let Some((application, assertion)) = github::assertion(context).await? {
            let proof = Proof::Assertion(&assertion);
            let token = entra::token(context, &application, &audience, proof).await?;
            return found("the GitHub job's own token", token);
        }
        if let Some(token) = managed::token(context, &audience).await? {
            return found("a managed identity", token);
        }
        Err(denied("no Azure credentials were found").hint(
            "set AZURE_TENANT_ID and AZURE_CLIENT_ID, and with them AZURE_CLIENT_SECRET; or, \
             without any secret: AZURE_FEDERATED_TOKEN_FILE, AZURE_FEDERATED_TOKEN (GitLab's \
             id_tokens), or `permissions: id-token: write` in a GitHub job; or \
             AZURE_CLIENT_CERTIFICATE_PATH; or run on a machine that has a managed identity",
        ))
    }
}

fn found(source: &str, token: Expiring<Secret>) -> Result<Expiring<Secret>> {
    tracing::debug!("Azure credentials come from {source}");
    Ok(token)
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

#[cfg(test)]
mod tests;
