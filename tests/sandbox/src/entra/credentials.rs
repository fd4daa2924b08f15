//! The launcher's credentials, one kind at a time.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use jiff::SignedDuration;

use super::assertion::AUDIENCE;
use super::{Entra, LAUNCHER_CERTIFICATE, LAUNCHER_KEY};
use crate::oidc::SUBJECT;

/// A token of a provider that the launcher's application trusts, or what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FederatedToken {
    /// GitHub's, and good.
    Good,
    /// GitLab's, and good.
    OfGitLab,
    /// It is over.
    Expired,
    /// It is about another workflow.
    OfAnother,
    /// It is meant for somebody else.
    ForAnother,
}

impl Entra {
    /// Such a token.
    pub(super) fn federated_token(&self, token: FederatedToken) -> String {
        const OTHER: &str = "repo:octo/other:ref:refs/heads/main";
        let (audience, subject, minutes) = match token {
            FederatedToken::Good => (AUDIENCE, SUBJECT, 10),
            FederatedToken::OfGitLab => return self.issuer.sign_as_gitlab(AUDIENCE),
            FederatedToken::Expired => (AUDIENCE, SUBJECT, -10),
            FederatedToken::OfAnother => (AUDIENCE, OTHER, 10),
            FederatedToken::ForAnother => ("https://github.com/octo", SUBJECT, 10),
        };
        let lifetime = SignedDuration::from_mins(minutes);
        self.issuer.sign(audience, subject, lifetime)
    }

    /// A file that holds one.
    pub(super) fn federated_token_file(&self, token: FederatedToken) -> io::Result<PathBuf> {
        self.file("federated-token", &self.federated_token(token))
    }

    /// A file that holds the certificate and its key.
    pub(super) fn certificate(&self) -> io::Result<PathBuf> {
        let text = format!("{LAUNCHER_KEY}{LAUNCHER_CERTIFICATE}");
        self.file("launcher.pem", &text)
    }

    fn file(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join("azure-credentials");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?
            .write_all(text.as_bytes())?;
        Ok(path)
    }
}
