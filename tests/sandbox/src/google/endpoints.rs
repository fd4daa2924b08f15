//! The addresses at which tokens are had, all three behind one server.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::error::{ApiError, document};
use super::identity::Identity;
use super::metadata::HostMetadata;
use super::{credentials, federation, oauth2};
use crate::calls::Wire;
use crate::fault::Refusal;
use crate::oidc::Issuer;
use crate::server::{Answer, Code, Request, Response, Server, Service};

/// Where each is: <https://oauth2.googleapis.com/token>, <https://sts.googleapis.com/v1/token>,
/// <https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/…>.
pub(super) const OAUTH2: &str = "/oauth2/token";
pub(super) const STS: &str = "/sts/v1/token";
pub(super) const CREDENTIALS: &str = "/iamcredentials/v1/projects/-/serviceAccounts/";

/// Google's identities, with all that hands out tokens, running.
#[derive(Debug)]
pub(crate) struct Google {
    identity: Arc<Identity>,
    _server: Server,
    metadata: Arc<HostMetadata>,
}

impl Google {
    /// `folder` is where files with credentials may lie; `issuer` whom pipelines' tokens are from.
    pub(crate) async fn start(wire: Arc<Wire>, folder: &Path, issuer: Issuer) -> io::Result<Self> {
        let identity = Arc::new(Identity::new(wire.clone(), folder, issuer));
        let server = Server::start(Arc::new(Api(identity.clone())), wire.clone()).await?;
        // Nobody else sets it.
        let _ = identity.endpoint.set(server.url());
        let metadata = Arc::new(HostMetadata::start(wire, identity.clone()).await?);
        Ok(Google {
            identity,
            _server: server,
            metadata,
        })
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }

    /// The host's metadata server.
    pub(crate) fn metadata(&self) -> Arc<HostMetadata> {
        self.metadata.clone()
    }
}

/// What goes wrong with a request for a token.
/// <https://www.rfc-editor.org/rfc/rfc6749#section-5.2>
#[derive(Debug)]
pub(super) struct OAuthError {
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) description: String,
}

impl OAuthError {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        OAuthError {
            status: 400,
            error,
            description: description.into(),
        }
    }

    fn response(&self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = document(self.status, &body);
        response.extensions_mut().insert(Code(self.error.into()));
        response
    }
}

/// The parameters of a form, or the members of a JSON object, its names with capitals as Google's
/// APIs have them.
pub(super) fn parameters(request: &Request) -> Option<BTreeMap<String, String>> {
    let kind = request.header("content-type").unwrap_or_default();
    match kind.split(';').next()?.trim() {
        "application/x-www-form-urlencoded" => {
            let pairs = url::form_urlencoded::parse(&request.body);
            Some(pairs.into_owned().collect())
        }
        "application/json" => {
            let body: BTreeMap<String, Value> = serde_json::from_slice(&request.body).ok()?;
            let text = |(name, value): (String, Value)| {
                Some((underscored(&name), value.as_str()?.to_owned()))
            };
            body.into_iter().map(text).collect()
        }
        _ => None,
    }
}

/// `grantType` as `grant_type`.
fn underscored(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// Google's three.
#[derive(Debug)]
struct Api(Arc<Identity>);

impl Service for Api {
    fn classify(&self, request: &Request) -> String {
        match request.path() {
            OAUTH2 => "oauth2:token".into(),
            STS => "google-sts:token".into(),
            path => match path
                .strip_prefix(CREDENTIALS)
                .and_then(|rest| rest.split_once(':'))
            {
                Some((_, method)) => format!("iamcredentials:{method}"),
                None => format!("google:{} {path}", request.parts.method),
            },
        }
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        let (status, error) = match refusal {
            Refusal::Denied | Refusal::Status(403) => (403, "access_denied"),
            Refusal::Throttled => (429, "rate_limit_exceeded"),
            Refusal::Capacity => (503, "temporarily_unavailable"),
            Refusal::Status(401) => (401, "invalid_client"),
            Refusal::Status(status @ 500..) => (status, "internal_failure"),
            Refusal::Status(status) => (status, "invalid_request"),
        };
        if matches!(request.path(), OAUTH2 | STS) {
            let refused = OAuthError {
                status,
                error,
                description: "The request was refused by the sandbox".into(),
            };
            return refused.response();
        }
        let message = "The request was refused by the sandbox";
        ApiError::new(status, error, message)
            .canonical()
            .response(false)
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move { self.answer(&request) })
    }
}

impl Api {
    fn answer(&self, request: &Request) -> Response {
        if request.parts.method != Method::POST {
            return not_found();
        }
        let account = request.path().strip_prefix(CREDENTIALS);
        let account = account.and_then(|rest| rest.strip_suffix(":generateAccessToken"));
        let token = match (request.path(), account) {
            (OAUTH2, _) => oauth2::token(&self.0, request),
            (STS, _) => federation::exchange(&self.0, request),
            (_, Some(account)) => {
                return match credentials::generate_access_token(&self.0, account, request) {
                    Ok(token) => document(200, &token),
                    Err(error) => error.response(false),
                };
            }
            _ => return not_found(),
        };
        match token {
            Ok(token) => document(200, &token),
            Err(error) => error.response(),
        }
    }
}

fn not_found() -> Response {
    ApiError::new(404, "notFound", "Method not found.")
        .canonical()
        .response(false)
}
