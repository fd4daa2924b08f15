//! Who we are to the cluster, where that isn't said by a client certificate.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use kube::config::AuthInfo;
use secrecy::ExposeSecret as _;

use crate::error::{Error, Result};
use crate::http::authorization;
use crate::secret::Secret;

/// Where the header of every request comes from.
#[derive(Debug, Clone)]
pub(super) enum User {
    /// A token: given, or an identity provider's.
    Token(Secret),
    /// A file with a token, which somebody renews: of a pod's service account, the kubelet.
    File(String),
    /// A name and a password, as they are sent.
    Password(Secret),
    /// Nobody, or whom the client certificate is for.
    None,
}

impl User {
    /// A kubeconfig's user; what a plugin gave is in it already.
    pub(super) fn new(user: &AuthInfo) -> Self {
        let provided = user.auth_provider.as_ref();
        let provided = provided.and_then(|provider| provider.config.get("id-token"));
        let password = user.username.as_ref().zip(user.password.as_ref());
        // A file's is the one that is renewed.
        if let Some(file) = &user.token_file {
            Self::File(file.clone())
        } else if let Some(token) = &user.token {
            Self::Token(Secret::new(token.expose_secret()))
        } else if let Some((name, password)) = password {
            let pair = format!("{name}:{}", password.expose_secret());
            Self::Password(Secret::new(BASE64_STANDARD.encode(pair)))
        } else if let Some(token) = provided {
            Self::Token(Secret::new(token.as_str()))
        } else {
            Self::None
        }
    }

    /// The header that proves it.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>> {
        match self {
            Self::Token(token) => bearer(token.expose()).map(Some),
            Self::File(file) => {
                let doing = || format!("reading the token in {file}");
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Error::other(doing()).caused_by(error))?;
                bearer(&text).map(Some)
            }
            Self::Password(pair) => {
                let value = HeaderValue::from_str(&format!("Basic {}", pair.expose()));
                let mut value = value.map_err(|_| Error::other("writing a password"))?;
                value.set_sensitive(true);
                Ok(Some(value))
            }
            Self::None => Ok(None),
        }
    }
}

/// Tokens that were written by hand end with a line break.
fn bearer(token: &str) -> Result<HeaderValue> {
    authorization(&Secret::new(token.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(user: &str) -> String {
        let user: AuthInfo = serde_json::from_str(user).unwrap();
        let value = User::new(&user).header().unwrap();
        value.map_or("none".to_owned(), |value| {
            assert!(value.is_sensitive());
            value.to_str().unwrap().to_owned()
        })
    }

    #[test]
    fn a_user_is_known_by_what_the_kubeconfig_has() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from-a-file\n").unwrap();
        let file = format!(r#"{{"tokenFile": "{}"}}"#, file.display());
        assert_eq!(header(&file), "Bearer from-a-file");
        assert_eq!(header(r#"{"token": "given\n"}"#), "Bearer given");
        assert_eq!(
            header(r#"{"username": "u", "password": "p"}"#),
            "Basic dTpw"
        );
        assert_eq!(
            header(r#"{"auth-provider": {"name": "oidc", "config": {"id-token": "t"}}}"#),
            "Bearer t"
        );
        assert_eq!(header("{}"), "none");
        let bad: AuthInfo = serde_json::from_str(r#"{"token": "two\nlines"}"#).unwrap();
        assert!(User::new(&bad).header().is_err());
    }
}
