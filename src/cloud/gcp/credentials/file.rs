//! Credentials as a file writes them.

use serde::Deserialize;
use serde_json::Value;

use super::authorized_user::AuthorizedUser;
use super::external_account::ExternalAccount;
use super::impersonation::Impersonated;
use super::service_account::ServiceAccount;
use super::{Context, denied};
use crate::cache::Expiring;
use crate::error::Result;
use crate::secret::Secret;

/// The one universe whose addresses are known here.
/// <https://cloud.google.com/docs/authentication/rest#universe>
const UNIVERSE: &str = "googleapis.com";

/// The kinds of files.
#[derive(Debug)]
pub(super) enum File {
    ServiceAccount(ServiceAccount),
    External(Box<ExternalAccount>),
    Impersonated(Impersonated),
    User(AuthorizedUser),
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type", default)]
    kind: String,
    universe_domain: Option<String>,
}

impl File {
    /// Reads a file's text; `place` is where it stood. No error of it holds any of the text.
    pub(super) fn read(text: &Secret, place: &str) -> Result<Self> {
        let doing = || denied(format!("reading the credentials in {place}"));
        let value: Value = serde_json::from_str(text.expose()).map_err(|error| {
            doing().caused_by(format!(
                "they aren't JSON (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        Self::of(value, place)
    }

    /// The same of what has been parsed.
    pub(super) fn of(value: Value, place: &str) -> Result<Self> {
        let doing = || denied(format!("reading the credentials in {place}"));
        let head: Head = fields(&value, place)?;
        if let Some(universe) = head.universe_domain.filter(|name| name != UNIVERSE) {
            return Err(doing().caused_by(format!(
                "they are for {universe}, and only {UNIVERSE} is known here"
            )));
        }
        Ok(match head.kind.as_str() {
            "service_account" => Self::ServiceAccount(fields(&value, place)?),
            "external_account" => {
                let account: ExternalAccount = fields(&value, place)?;
                Self::External(Box::new(account.checked(place)?))
            }
            "impersonated_service_account" => Self::Impersonated(Impersonated::read(value, place)?),
            "authorized_user" => Self::User(fields(&value, place)?),
            "" => return Err(doing().caused_by("they have no `type`")),
            other => {
                return Err(doing()
                    .caused_by(format!(
                        "credentials of the type `{other}` are not known here"
                    ))
                    .hint(
                        "known are service_account, external_account, \
                         impersonated_service_account and authorized_user",
                    ));
            }
        })
    }

    /// A token with a scope.
    pub(super) async fn token(
        &self,
        context: Context<'_>,
        scope: &str,
    ) -> Result<Expiring<Secret>> {
        match self {
            File::ServiceAccount(account) => account.exchanged(context, scope).await,
            File::External(account) => account.token(context, scope).await,
            File::Impersonated(account) => Box::pin(account.token(context, scope)).await,
            File::User(user) => user.token(context).await,
        }
    }

    /// The project that the file names.
    pub(super) fn project(&self) -> Option<&str> {
        match self {
            File::ServiceAccount(account) => account.project(),
            File::External(_) | File::Impersonated(_) | File::User(_) => None,
        }
    }

    /// The service account whose tokens these are.
    pub(super) fn account(&self) -> Option<String> {
        match self {
            File::ServiceAccount(account) => Some(account.email().to_owned()),
            File::External(account) => account.account(),
            File::Impersonated(account) => account.account(),
            File::User(_) => None,
        }
    }

    pub(super) fn quota_project(&self) -> Option<&str> {
        match self {
            File::ServiceAccount(_) => None,
            File::External(account) => account.quota_project(),
            File::Impersonated(account) => account.quota_project(),
            File::User(user) => user.quota_project(),
        }
    }
}

/// Reads a kind's fields. serde's own words would show a value of the wrong type, which may be a
/// secret that stands in the wrong place.
pub(super) fn fields<T: serde::de::DeserializeOwned>(value: &Value, place: &str) -> Result<T> {
    T::deserialize(value).map_err(|error| {
        let words = error.to_string();
        let what = match words.starts_with("missing field") {
            true => words,
            false => "a field has a value of the wrong type".to_owned(),
        };
        denied(format!("reading the credentials in {place}")).caused_by(what)
    })
}
