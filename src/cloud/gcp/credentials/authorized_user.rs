//! A user who has signed in.
//! <https://google.aip.dev/auth/4113>

use serde::Deserialize;
use url::Url;

use super::{Context, denied, token};
use crate::cache::Expiring;
use crate::error::Result;
use crate::secret::Secret;

const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// What `gcloud auth application-default login` writes.
#[derive(Debug, Deserialize)]
pub(super) struct AuthorizedUser {
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    quota_project_id: Option<String>,
    token_uri: Option<Url>,
}

impl AuthorizedUser {
    pub(super) fn quota_project(&self) -> Option<&str> {
        self.quota_project_id.as_deref().filter(|id| !id.is_empty())
    }

    /// A token with the scopes that the user has granted.
    /// <https://developers.google.com/identity/protocols/oauth2/native-app#offline>
    pub(super) async fn token(&self, context: Context<'_>) -> Result<Expiring<Secret>> {
        let doing = "renewing the signed-in user's token";
        let url = match &self.token_uri {
            Some(url) => url.clone(),
            None => Url::parse(TOKEN_URI).map_err(|error| denied(doing).caused_by(error))?,
        };
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
            ("refresh_token", self.refresh_token.expose()),
        ];
        token::ask(context, token::OAUTH, &url, &form, None, doing).await
    }
}
