//! Workload identity federation: a pipeline's own token, exchanged; no key anywhere.
//! <https://google.aip.dev/auth/4117>

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use url::{Host as UrlHost, Url};

use super::{Context, PLATFORM_SCOPE, denied, impersonation, token};
use crate::cache::Expiring;
use crate::cloud::gcp::client::TOKEN_POLICY;
use crate::error::Result;
use crate::http::{Policy, Request, Verdict, redacted};
use crate::secret::Secret;

/// <https://datatracker.ietf.org/doc/html/rfc8693#section-2.1>
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What `gcloud iam workload-identity-pools create-cred-config` writes.
#[derive(Debug, Deserialize)]
pub(super) struct ExternalAccount {
    audience: String,
    subject_token_type: String,
    token_url: Url,
    credential_source: CredentialSource,
    service_account_impersonation_url: Option<Url>,
    service_account_impersonation: Option<Options>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    quota_project_id: Option<String>,
    workforce_pool_user_project: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Options {
    token_lifetime_seconds: Option<u32>,
}

/// Where the pipeline's token is.
#[derive(Debug, Deserialize)]
struct CredentialSource {
    file: Option<PathBuf>,
    url: Option<Url>,
    /// GitHub's hold the token that asks for tokens.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    #[serde(default)]
    format: Format,
    environment_id: Option<Value>,
    executable: Option<Value>,
    certificate: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Format {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    subject_token_field_name: Option<String>,
}

impl ExternalAccount {
    /// Refuses what can't be done here, before anything is asked of anybody.
    pub(super) fn checked(self, place: &str) -> Result<Self> {
        let CredentialSource {
            file,
            url,
            format,
            environment_id,
            executable,
            certificate,
            ..
        } = &self.credential_source;
        let unknown = if environment_id.is_some() {
            Some("AWS")
        } else if executable.is_some() {
            Some("a program")
        } else if certificate.is_some() {
            Some("a certificate")
        } else {
            None
        };
        let wrong = match (unknown, format.kind.as_deref()) {
            (Some(source), _) => format!(
                "tokens from {source} can't be had here: only those of a file or an address"
            ),
            _ if file.is_none() && url.is_none() => {
                "their credential_source names neither file nor url".to_owned()
            }
            (_, Some("json")) if format.subject_token_field_name.is_none() => {
                "their format json needs a subject_token_field_name".to_owned()
            }
            (_, None | Some("json" | "text")) => return Ok(self),
            (_, Some(other)) => format!("their format `{other}` is not known here"),
        };
        Err(denied(format!("reading the credentials in {place}")).caused_by(wrong))
    }

    pub(super) fn account(&self) -> Option<String> {
        impersonation::account_of(self.service_account_impersonation_url.as_ref()?)
    }

    pub(super) fn quota_project(&self) -> Option<&str> {
        self.quota_project_id.as_deref().filter(|id| !id.is_empty())
    }

    pub(super) async fn token(
        &self,
        context: Context<'_>,
        scope: &str,
    ) -> Result<Expiring<Secret>> {
        let subject = self.credential_source.token(context).await?;
        let federated = self.exchange(context, &subject).await?;
        let Some(url) = &self.service_account_impersonation_url else {
            return Ok(federated);
        };
        let life = self
            .service_account_impersonation
            .as_ref()
            .and_then(|options| options.token_lifetime_seconds)
            .unwrap_or(impersonation::LIFE_SECONDS);
        impersonation::token(context, url, &federated.value, scope, life, &[]).await
    }

    /// <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>
    async fn exchange(&self, context: Context<'_>, subject: &Secret) -> Result<Expiring<Secret>> {
        let mut form = vec![
            ("audience", self.audience.as_str()),
            ("grant_type", TOKEN_EXCHANGE),
            ("requested_token_type", ACCESS_TOKEN),
            ("scope", PLATFORM_SCOPE),
            ("subject_token_type", self.subject_token_type.as_str()),
            ("subject_token", subject.expose()),
        ];
        let options;
        // A client of one's own says by itself whose it is.
        if let (Some(project), None) = (&self.workforce_pool_user_project, &self.client_id) {
            options = serde_json::json!({ "userProject": project }).to_string();
            form.push(("options", options.as_str()));
        }
        let authorization = match (&self.client_id, &self.client_secret) {
            (Some(id), Some(secret)) => Some(basic(id, secret)?),
            _ => None,
        };
        let doing = "exchanging the pipeline's token for one of Google's";
        token::ask(
            context,
            token::STS,
            &self.token_url,
            &form,
            authorization.as_ref(),
            doing,
        )
        .await
    }
}

fn basic(id: &str, secret: &Secret) -> Result<HeaderValue> {
    let plain = format!("{id}:{}", secret.expose());
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(plain)))
        .map_err(|error| denied("reading the federation's client").caused_by(error))?;
    value.set_sensitive(true);
    Ok(value)
}

impl CredentialSource {
    /// The token, anew each time: files are replaced, and addresses give another one.
    async fn token(&self, context: Context<'_>) -> Result<Secret> {
        let (text, place) = match (&self.file, &self.url) {
            (Some(file), _) => {
                let place = file.display().to_string();
                let text = tokio::fs::read_to_string(file).await.map_err(|error| {
                    denied(format!("reading the pipeline's token in {place}")).caused_by(error)
                })?;
                (text, place)
            }
            (None, Some(url)) => (self.fetch(context, url).await?, redacted(url)),
            (None, None) => (String::new(), "the credentials".to_owned()),
        };
        let doing = || denied(format!("reading the pipeline's token in {place}"));
        let token = match (
            self.format.kind.as_deref(),
            &self.format.subject_token_field_name,
        ) {
            (Some("json"), Some(field)) => {
                let value: Value =
                    serde_json::from_str(&text).map_err(|_| doing().caused_by("it isn't JSON"))?;
                value
                    .get(field)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
                    .ok_or_else(|| doing().caused_by(format!("it has no field `{field}`")))?
            }
            _ => text.trim().to_owned(),
        };
        match token.is_empty() {
            true => Err(doing().caused_by("it is empty")),
            false => Ok(Secret::new(token)),
        }
    }

    async fn fetch(&self, context: Context<'_>, url: &Url) -> Result<String> {
        let doing = || denied(format!("asking {} for the pipeline's token", redacted(url)));
        let build = || {
            let mut request = Request::new(Method::GET, url.clone());
            for (name, value) in &self.headers {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|error| doing().caused_by(error))?;
                let mut value = HeaderValue::from_str(value.expose())
                    .map_err(|_| doing().caused_by(format!("the header {name} can't be sent")))?;
                value.set_sensitive(true);
                request.headers.insert(name, value);
            }
            Ok(request)
        };
        let sent = match is_link_local(url) {
            true => {
                context
                    .http
                    .send_direct("oidc:token", Policy::LOCAL, build)
                    .await
            }
            false => {
                context
                    .http
                    .send("oidc:token", TOKEN_POLICY, build, Verdict::by_status)
                    .await
            }
        };
        let reply = sent.map_err(|error| doing().caused_by(error))?;
        match reply.status.is_success() {
            true => Ok(reply.text()),
            // What it says may repeat what it was sent.
            false => Err(doing()
                .caused_by(format!("it answered {}", reply.status))
                .hint(
                    "on GitHub, the job needs `permissions: id-token: write`, and credentials \
                     made in the same job",
                )),
        }
    }
}

/// Whether an address is this machine's or its link's own, to which no proxy leads.
fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(UrlHost::Ipv4(ip)) => ip.is_link_local() || ip.is_loopback(),
        Some(UrlHost::Ipv6(ip)) => ip.is_loopback() || ip.is_unicast_link_local(),
        Some(UrlHost::Domain(name)) => name == "localhost",
        None => false,
    }
}
