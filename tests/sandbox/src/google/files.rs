//! The files in which launchers find their credentials.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::endpoints::{CREDENTIALS, OAUTH2, STS};
use super::identity::Identity;
use super::oauth2::{CLIENT, PERSON};
use super::{CLOUD_PLATFORM, LAUNCHER, PROJECT, federation};
use crate::calls::lock;
use crate::clock;

/// Where a federated launcher finds the token that says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubjectTokenSource {
    /// In a file, as text.
    TextFile,
    /// In a file, as a member of a JSON object.
    JsonFile,
    /// At GitHub's address, which wants a bearer header.
    Url,
}

impl SubjectTokenSource {
    /// `url`, `json-file`, or anything else for a file with text.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "url" => SubjectTokenSource::Url,
            "json-file" => SubjectTokenSource::JsonFile,
            _ => SubjectTokenSource::TextFile,
        }
    }
}

impl Identity {
    /// The address of one of Google's endpoints.
    pub(super) fn google(&self, path: &str) -> String {
        let base = self.endpoint.get().map_or("", String::as_str);
        format!("{base}{path}")
    }

    /// A service account's key.
    /// <https://cloud.google.com/iam/docs/keys-create-delete#creating>
    pub(crate) fn service_account_key(&self) -> String {
        let certificates = "https://www.googleapis.com";
        json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": self.launcher.id,
            "private_key": self.launcher.pem,
            "client_email": LAUNCHER,
            "client_id": "104738291056473829105",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.google(OAUTH2),
            "auth_provider_x509_cert_url": format!("{certificates}/oauth2/v1/certs"),
            "client_x509_cert_url": format!(
                "{certificates}/robot/v1/metadata/x509/{}",
                LAUNCHER.replace('@', "%40")
            ),
            "universe_domain": "googleapis.com",
        })
        .to_string()
    }

    /// A ready access token of the launcher's account.
    pub(crate) fn access_token(&self) -> String {
        self.account_token(LAUNCHER, &[CLOUD_PLATFORM.into()]).value
    }

    /// Ends every token that is out.
    pub(crate) fn expire_tokens(&self) {
        for (_, expires) in lock(&self.tokens).values_mut() {
            *expires = clock::now();
        }
    }

    /// What `gcloud auth application-default login` leaves behind.
    pub(crate) fn authorized_user(&self) -> String {
        self.person().to_string()
    }

    fn person(&self) -> Value {
        json!({
            "type": "authorized_user",
            "account": PERSON,
            "client_id": CLIENT,
            "client_secret": self.client_secret,
            "refresh_token": self.refresh_token,
            "quota_project_id": PROJECT,
            "token_uri": self.google(OAUTH2),
            "universe_domain": "googleapis.com",
        })
    }

    /// What `gcloud auth application-default login --impersonate-service-account` leaves behind.
    pub(crate) fn impersonated_service_account(&self) -> String {
        json!({
            "type": "impersonated_service_account",
            "delegates": [],
            "service_account_impersonation_url": self.impersonation_url(),
            "source_credentials": self.person(),
        })
        .to_string()
    }

    fn impersonation_url(&self) -> String {
        self.google(&format!("{CREDENTIALS}{LAUNCHER}:generateAccessToken"))
    }

    /// The configuration of a federated launcher, and further variables of its environment.
    /// <https://google.aip.dev/auth/4117>
    pub(crate) fn external_account(
        &self,
        source: SubjectTokenSource,
        impersonate: bool,
    ) -> (String, Vec<(String, String)>) {
        let provider = federation::provider();
        let audience = format!("https:{provider}");
        let json_format = json!({"type": "json", "subject_token_field_name": "value"});
        let mut env = Vec::new();
        let source = match source {
            SubjectTokenSource::TextFile => {
                let token = federation::subject_token(self, &audience);
                json!({"file": self.write("subject-token", &token)})
            }
            SubjectTokenSource::JsonFile => {
                let token = json!({"value": federation::subject_token(self, &audience)});
                let file = self.write("subject-token.json", &token.to_string());
                json!({"file": file, "format": json_format})
            }
            SubjectTokenSource::Url => {
                let [(_, url), (_, token)] = self.issuer.env();
                env.extend(self.issuer.env());
                let audience: String =
                    url::form_urlencoded::byte_serialize(audience.as_bytes()).collect();
                json!({
                    "url": format!("{url}&audience={audience}"),
                    "headers": {"Authorization": format!("Bearer {token}")},
                    "format": json_format,
                })
            }
        };
        let mut account = json!({
            "type": "external_account",
            "audience": provider,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": self.google(STS),
            "credential_source": source,
            "universe_domain": "googleapis.com",
        });
        if impersonate {
            account["service_account_impersonation_url"] = self.impersonation_url().into();
        }
        (account.to_string(), env)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        // A launcher that doesn't find it says so.
        let _ = std::fs::write(&file, text);
        file
    }
}
