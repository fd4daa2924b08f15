//! Who we are to Google: one file per kind of credentials, looked for in the order of Google's own
//! tools.
//!
//! A place where nothing is, is `None`; one that holds something broken ends the search, because
//! going on could mean acting as somebody else than was meant.
//! <https://google.aip.dev/auth/4110>

mod authorized_user;
mod external_account;
mod file;
mod impersonation;
mod places;
mod service_account;
mod token;

use jiff::Timestamp;
use tokio::sync::OnceCell;

use self::file::File;
use super::metadata::Server;
use crate::cache::{Cached, Expiring};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::http::Http;
use crate::secret::Secret;

/// What our tokens are for, and nothing more.
/// <https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert#authorization-scopes>
const COMPUTE_SCOPE: &str = "https://www.googleapis.com/auth/compute";

/// What a token must be for to be exchanged for another account's, or to be one of federation.
/// <https://google.aip.dev/auth/4117>
const PLATFORM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Variables that name the project, the first one wins: gcloud's, those that pipelines set along
/// with their credentials, and those of the client libraries.
const PROJECT_VARIABLES: [&str; 6] = [
    "CLOUDSDK_CORE_PROJECT",
    "CLOUDSDK_PROJECT",
    "GCLOUD_PROJECT",
    "GCP_PROJECT",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_PROJECT",
];

/// What the kinds of credentials draw from.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    host: &'a Host,
    http: &'a Http,
}

/// Where tokens come from.
#[derive(Debug)]
enum Source {
    /// A token that somebody else has made, and that can't be renewed.
    Ready(Secret),
    /// A file's content.
    File(File),
    /// The service account of the machine that this program runs on.
    Machine(Server),
}

/// The source that was found, and what it brought.
#[derive(Debug)]
pub(super) struct Chain {
    host: Host,
    http: Http,
    source: OnceCell<Source>,
    project: OnceCell<String>,
    account: OnceCell<Option<String>>,
    /// Tokens that a service account's key has signed itself.
    signed: Cached<Secret>,
    /// Tokens that a server gave.
    given: Cached<Secret>,
    /// Set once a token signed by ourselves wasn't taken.
    signed_refused: std::sync::atomic::AtomicBool,
}

impl Chain {
    pub(super) fn new(host: Host, http: Http) -> Self {
        Self {
            host,
            http,
            source: OnceCell::new(),
            project: OnceCell::new(),
            account: OnceCell::new(),
            signed: Cached::new(),
            given: Cached::new(),
            signed_refused: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// A token to send.
    pub(super) async fn bearer(&self) -> Result<Secret> {
        let now = self.host.now();
        let source = self.source().await?;
        if let Some(account) = source.service_account()
            && !self.is_signed_refused()
        {
            let sign = async || account.signed_for(places::COMPUTE_AUDIENCE, now);
            return self.signed.get(now, sign).await;
        }
        let context = self.context();
        self.given
            .get(now, async || match source {
                Source::Ready(token) => Ok(Expiring {
                    value: token.clone(),
                    expires: None,
                }),
                Source::File(file) => Box::pin(file.token(context, COMPUTE_SCOPE)).await,
                Source::Machine(server) => machine_token(server, now).await?.ok_or_else(|| {
                    denied("this machine has no service account")
                        .hint("attach one to it, with the scope compute, or set other credentials")
                }),
            })
            .await
    }

    /// Hears that a token wasn't taken; `true`: there is another way to one. A token signed by
    /// ourselves is exchanged at Google's from now on.
    pub(super) async fn refused(&self, bearer: &Secret) -> bool {
        let Ok(source) = self.source().await else {
            return false;
        };
        let Some(account) = source.service_account() else {
            return false;
        };
        let now = self.host.now();
        let ours = self
            .signed
            .get(now, async || {
                account.signed_for(places::COMPUTE_AUDIENCE, now)
            })
            .await;
        // Calls side by side may each be refused; the token that was exchanged in between may be, too.
        let was_signed = ours.is_ok_and(|ours| ours.expose() == bearer.expose());
        if was_signed
            && !self
                .signed_refused
                .swap(true, std::sync::atomic::Ordering::SeqCst)
        {
            tracing::debug!("the token that the key has signed isn't taken; exchanging it");
        }
        was_signed
    }

    fn is_signed_refused(&self) -> bool {
        self.signed_refused
            .load(std::sync::atomic::Ordering::SeqCst)
    }

    /// The project in which instances are made.
    pub(super) async fn project(&self) -> Result<String> {
        let find = || self.find_project();
        self.project.get_or_try_init(find).await.cloned()
    }

    async fn find_project(&self) -> Result<String> {
        let source = self.source().await?;
        let file = match source {
            Source::File(file) => Some(file),
            Source::Ready(_) | Source::Machine(_) => None,
        };
        if let Some(project) = file.and_then(File::project) {
            return Ok(project.to_owned());
        }
        for name in PROJECT_VARIABLES {
            if let Some(project) = trimmed(&self.host, name) {
                return Ok(project.to_owned());
            }
        }
        let account = file.and_then(File::account);
        if let Some(project) = account.as_deref().and_then(impersonation::project_of) {
            return Ok(project);
        }
        if let Some(project) = file.and_then(File::quota_project) {
            return Ok(project.to_owned());
        }
        let server = match source {
            Source::Machine(server) => server.clone(),
            Source::Ready(_) | Source::File(_) => {
                Server::new(self.host.clone(), self.http.clone())?
            }
        };
        if !server.is_there().await {
            return Err(no_project());
        }
        match server.get("project/project-id").await {
            Ok(Some(project)) if !project.trim().is_empty() => {
                return Ok(project.trim().to_owned());
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("no project from metadata: {}", error.chain()),
        }
        Err(no_project())
    }

    /// The service account that the launcher is, where it is one and knows which.
    pub(super) async fn account(&self) -> Result<Option<String>> {
        let find = || self.find_account();
        self.account.get_or_try_init(find).await.cloned()
    }

    async fn find_account(&self) -> Result<Option<String>> {
        match self.source().await? {
            Source::Ready(_) => Ok(None),
            Source::File(file) => Ok(file.account()),
            Source::Machine(server) => {
                let email = server
                    .get("instance/service-accounts/default/email")
                    .await
                    .map_err(|error| {
                        denied("asking this machine for its service account").caused_by(error)
                    })?;
                // A cluster's workload may be an identity that isn't an account.
                Ok(email
                    .map(|email| email.trim().to_owned())
                    .filter(|email| email.contains('@')))
            }
        }
    }

    /// Who pays for calls, where the credentials say so.
    pub(super) async fn quota_project(&self) -> Result<Option<String>> {
        if let Some(project) = trimmed(&self.host, "GOOGLE_CLOUD_QUOTA_PROJECT") {
            return Ok(Some(project.to_owned()));
        }
        Ok(match self.source().await? {
            Source::File(file) => file.quota_project().map(str::to_owned),
            Source::Ready(_) | Source::Machine(_) => None,
        })
    }

    async fn source(&self) -> Result<&Source> {
        let find = || places::find(self.context());
        self.source.get_or_try_init(find).await
    }

    fn context(&self) -> Context<'_> {
        Context {
            host: &self.host,
            http: &self.http,
        }
    }
}

impl Source {
    fn service_account(&self) -> Option<&service_account::ServiceAccount> {
        match self {
            Source::File(File::ServiceAccount(account)) => Some(account),
            Source::File(_) | Source::Ready(_) | Source::Machine(_) => None,
        }
    }
}

/// The token of the machine's own service account, where it has one.
/// <https://cloud.google.com/compute/docs/access/authenticate-workloads#applications>
pub(super) async fn machine_token(
    server: &Server,
    now: Timestamp,
) -> Result<Option<Expiring<Secret>>> {
    let doing = || denied("asking this machine for its service account's token");
    let text = server
        .get("instance/service-accounts/default/token")
        .await
        .map_err(|error| doing().caused_by(error))?;
    text.map(|text| token::read(&text, now).map_err(|error| doing().caused_by(error)))
        .transpose()
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

fn no_project() -> Error {
    Error::usage("the Google Cloud project isn't known")
        .hint("set GOOGLE_CLOUD_PROJECT to the project's id")
}

/// A variable's value without the line breaks that come with what is pasted into a CI's settings.
fn trimmed<'a>(host: &'a Host, name: &str) -> Option<&'a str> {
    host.env(name)
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod tests;
