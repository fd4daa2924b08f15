//! GitHub's tokens for workflows, which clouds take in place of keys: what signs them, and the URL at
//! which a job asks for one.
//! <https://docs.github.com/en/actions/reference/security/oidc>

use std::io;
use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Method, StatusCode, header};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::calls::Wire;
use crate::clock;
use crate::fault::Refusal;
use crate::jwt::SigningKey;
use crate::server::{Answer, Code, Request, Response, Server, Service};

/// Who the tokens say they are from.
pub(crate) const ISSUER: &str = "https://token.actions.githubusercontent.com";
/// Whom they are about: a workflow on the main branch.
pub(crate) const SUBJECT: &str = "repo:octo/repo:ref:refs/heads/main";
/// The same for GitLab's.
/// <https://docs.gitlab.com/ci/secrets/id_token_authentication/>
pub(crate) const GITLAB_ISSUER: &str = "https://gitlab.com";
pub(crate) const GITLAB_SUBJECT: &str = "project_path:octo/repo:ref_type:branch:ref:main";
/// Whom they are for unless the job asks for somebody else.
const DEFAULT_AUDIENCE: &str = "https://github.com/octo";
/// What a token lasts.
const LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// It opens nothing else.
const KEY: &str = include_str!("oidc.pem");
const PATH: &str = "/00000000-0000-0000-0000-000000000000/_apis/distributedtask/hubs/build/plans/\
                    8f0c7d5e-92f4-4a5a-8a55-2f3c1f0d2a11/jobs/\
                    2c9f1bb3-0e61-4c57-b1f3-7d83c7b2e502/idtoken";

/// GitHub's issuer of tokens for workflows.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    service: Arc<IssuerService>,
    server: Arc<OnceLock<Server>>,
}

#[derive(Debug)]
struct IssuerService {
    wire: Arc<Wire>,
    key: SigningKey,
    /// What GitHub gives a job so that it can ask for a token.
    request_token: String,
}

impl Issuer {
    /// One that answers no calls.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        let request_token = clock::random_of(clock::ALPHANUMERIC, 120);
        wire.secret(&request_token);
        let service = IssuerService {
            wire,
            key: SigningKey::new("38826b17-6a30-5f9b-b169-8beb8202f723", KEY),
            request_token,
        };
        Issuer {
            service: Arc::new(service),
            server: Arc::default(),
        }
    }

    pub(crate) async fn start(wire: Arc<Wire>) -> io::Result<Self> {
        let issuer = Issuer::new(wire.clone());
        let server = Server::start(issuer.service.clone(), wire).await?;
        // Nobody else sets it.
        let _ = issuer.server.set(server);
        Ok(issuer)
    }

    /// The key that signs the tokens.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.service.key
    }

    /// A token for somebody, as the URL would answer it, or one with another subject or another
    /// life.
    pub(crate) fn sign(&self, audience: &str, subject: &str, lifetime: SignedDuration) -> String {
        let from = (ISSUER, subject);
        self.service.sign(from, audience, lifetime)
    }

    /// A token as GitLab gives it to a job that has `id_tokens`. Its keys are GitHub's here.
    pub(crate) fn sign_as_gitlab(&self, audience: &str) -> String {
        let from = (GITLAB_ISSUER, GITLAB_SUBJECT);
        self.service.sign(from, audience, LIFETIME)
    }

    /// What a job with the permission `id-token: write` finds in its environment.
    pub(crate) fn env(&self) -> [(String, String); 2] {
        let base = self.server.get().map(Server::url).unwrap_or_default();
        // There is a query already.
        let url = format!("{base}{PATH}?api-version=2.0");
        [
            ("ACTIONS_ID_TOKEN_REQUEST_URL".into(), url),
            (
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN".into(),
                self.service.request_token.clone(),
            ),
        ]
    }
}

impl IssuerService {
    fn sign(
        &self,
        (issuer, subject): (&str, &str),
        audience: &str,
        lifetime: SignedDuration,
    ) -> String {
        let now = clock::now();
        // What is over already began before.
        let begin = now.min(now + lifetime);
        let token = self.key.sign(&json!({
            "iss": issuer,
            "sub": subject,
            "aud": audience,
            "iat": begin.as_second(),
            "nbf": begin.as_second(),
            "exp": (now + lifetime).as_second(),
            "jti": clock::uuid(),
            "repository": "octo/repo",
            "repository_owner": "octo",
            "ref": "refs/heads/main",
            "workflow": "train",
            "runner_environment": "github-hosted",
        }));
        self.wire.secret(&token);
        token
    }

    fn answer(&self, request: &Request) -> Response {
        if request.path() != PATH {
            return document(404, &json!({"message": "Not Found"}));
        }
        if request.parts.method != Method::GET {
            return document(405, &json!({"message": "Method Not Allowed"}));
        }
        let token = request.header("authorization").and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
        if token != Some(&self.request_token) {
            return refusal(401, "Unauthorized");
        }
        let asked = url::form_urlencoded::parse(request.query().as_bytes())
            .find_map(|(name, value)| (name == "audience").then(|| value.into_owned()));
        let audience = asked.unwrap_or_else(|| DEFAULT_AUDIENCE.into());
        let token = self.sign((ISSUER, SUBJECT), &audience, LIFETIME);
        document(200, &json!({"count": token.len(), "value": token}))
    }
}

impl Service for IssuerService {
    fn classify(&self, request: &Request) -> String {
        match request.path() {
            PATH => "oidc:token".into(),
            path => format!("oidc:{} {path}", request.parts.method),
        }
    }

    fn refuse(&self, refusal_asked: Refusal, _: &Request) -> Response {
        match refusal_asked {
            Refusal::Status(status) => refusal(status, "InternalError"),
            Refusal::Denied => refusal(403, "Forbidden"),
            Refusal::Throttled => refusal(429, "TooManyRequests"),
            Refusal::Capacity => refusal(503, "ServiceUnavailable"),
        }
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move { self.answer(&request) })
    }
}

fn refusal(status: u16, code: &str) -> Response {
    let mut response = document(status, &json!({"message": code}));
    response.extensions_mut().insert(Code(code.into()));
    response
}

fn document(status: u16, body: &Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}
