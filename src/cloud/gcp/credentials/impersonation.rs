//! Another account's token, for the token of one who may act for it.
//! <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>

use http::Method;
use http::header::{self, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::file::{self, File};
use super::{Context, PLATFORM_SCOPE, denied, token};
use crate::cache::Expiring;
use crate::error::Result;
use crate::http::{Request, authorization};
use crate::secret::Secret;

const IAM: token::Service = token::Service {
    call: "iamcredentials:generateAccessToken",
    name: "IAM",
};

/// The life of a token where nobody says otherwise, and the longest without a policy of its own.
pub(super) const LIFE_SECONDS: u32 = 3600;

#[derive(Serialize)]
struct Ask<'a> {
    scope: [&'a str; 1],
    lifetime: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    delegates: &'a [String],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: Secret,
    expire_time: Timestamp,
}

/// Asks for the token of the account that the address names.
pub(super) async fn token(
    context: Context<'_>,
    url: &Url,
    own: &Secret,
    scope: &str,
    life_seconds: u32,
    delegates: &[String],
) -> Result<Expiring<Secret>> {
    let account = account_of(url);
    let doing = format!(
        "getting a token for {}",
        account.as_deref().unwrap_or("the impersonated account")
    );
    let ask = Ask {
        scope: [scope],
        lifetime: format!("{life_seconds}s"),
        delegates,
    };
    let body = serde_json::to_vec(&ask).map_err(|error| denied(&doing).caused_by(error))?;
    let build = || {
        let mut request = Request::new(Method::POST, url.clone());
        request
            .headers
            .insert(header::AUTHORIZATION, authorization(own)?);
        request.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        request.body = body.clone().into();
        Ok(request)
    };
    let reply = token::send(context, IAM, build, &doing).await?;
    let answer: Answer = serde_json::from_slice(&reply.body)
        .map_err(|_| denied(&doing).caused_by("the answer holds no access token"))?;
    Ok(Expiring {
        value: answer.access_token,
        expires: Some(answer.expire_time),
    })
}

/// The account in `…/serviceAccounts/NAME@PROJECT.iam.gserviceaccount.com:generateAccessToken`.
pub(super) fn account_of(url: &Url) -> Option<String> {
    let last = url.path_segments()?.next_back()?;
    let (email, _) = last.rsplit_once(':')?;
    let email = email.replace("%40", "@");
    email.contains('@').then_some(email)
}

/// The project in an account's name; that of an organisation of old has a domain before it.
/// <https://cloud.google.com/iam/docs/service-account-types#user-managed>
pub(super) fn project_of(account: &str) -> Option<String> {
    let (_, domain) = account.split_once('@')?;
    let project = domain.strip_suffix(".iam.gserviceaccount.com")?;
    Some(match project.split_once('.') {
        Some((project, organisation)) => format!("{organisation}:{project}"),
        None => project.to_owned(),
    })
}

/// What `gcloud auth application-default login --impersonate-service-account` writes.
/// <https://cloud.google.com/docs/authentication/use-service-account-impersonation>
#[derive(Debug)]
pub(super) struct Impersonated {
    url: Url,
    delegates: Vec<String>,
    quota_project_id: Option<String>,
    source: Box<File>,
}

#[derive(Deserialize)]
struct Written {
    service_account_impersonation_url: Url,
    #[serde(default)]
    delegates: Option<Vec<String>>,
    quota_project_id: Option<String>,
    source_credentials: Value,
}

impl Impersonated {
    pub(super) fn read(value: Value, place: &str) -> Result<Self> {
        let written: Written = file::fields(&value, place)?;
        let source = File::of(written.source_credentials, place)?;
        if matches!(source, File::Impersonated(_)) {
            return Err(denied(format!("reading the credentials in {place}"))
                .caused_by("an impersonated account can't be the source of another"));
        }
        Ok(Self {
            url: written.service_account_impersonation_url,
            delegates: written.delegates.unwrap_or_default(),
            quota_project_id: written.quota_project_id,
            source: Box::new(source),
        })
    }

    pub(super) fn account(&self) -> Option<String> {
        account_of(&self.url)
    }

    pub(super) fn quota_project(&self) -> Option<&str> {
        self.quota_project_id
            .as_deref()
            .or_else(|| self.source.quota_project())
            .filter(|id| !id.is_empty())
    }

    pub(super) async fn token(
        &self,
        context: Context<'_>,
        scope: &str,
    ) -> Result<Expiring<Secret>> {
        let own = Box::pin(self.source.token(context, PLATFORM_SCOPE)).await?;
        token(
            context,
            &self.url,
            &own.value,
            scope,
            LIFE_SECONDS,
            &self.delegates,
        )
        .await
    }
}
