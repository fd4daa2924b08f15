//! The token endpoint, for applications that sign in as themselves.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow>

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use jiff::SignedDuration;
use serde_json::json;

use super::assertion;
use super::error::{Result, StsError, document};
use super::{Directory, LAUNCHER, TENANT};
use crate::fault::Refusal;
use crate::oidc::Issuer;
use crate::server::{Answer, Request, Response, Service};

/// The tenant's other name.
const DOMAIN: &str = "octo.onmicrosoft.com";
const SUFFIX: &str = "/.default";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The endpoint.
#[derive(Debug)]
pub(super) struct TokenService {
    pub(super) directory: Arc<Directory>,
    /// GitHub, whose tokens the launcher's application takes.
    pub(super) issuer: Issuer,
}

impl Service for TokenService {
    fn classify(&self, request: &Request) -> String {
        match tenant(request.path()) {
            Some(_) => "entra:token".into(),
            None => format!("entra:{} {}", request.parts.method, request.path()),
        }
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Response {
        let unavailable = |status| StsError {
            status,
            kind: "temporarily_unavailable",
            number: 90033,
            message: "A transient error has occurred. Please try again.".into(),
        };
        match refusal {
            Refusal::Status(status) => unavailable(status),
            Refusal::Denied => expired_secret(LAUNCHER),
            Refusal::Throttled => StsError {
                number: 90055,
                message: "The tenant is throttled because of too many requests.".into(),
                ..unavailable(429)
            },
            Refusal::Capacity => unavailable(503),
        }
        .response()
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            let Some(tenant) = tenant(request.path()) else {
                return document(404, &json!({}));
            };
            match self.token(tenant, &request) {
                Ok(response) => response,
                Err(error) => error.response(),
            }
        })
    }
}

/// The tenant in a token endpoint's path.
fn tenant(path: &str) -> Option<&str> {
    let tenant = path.strip_prefix('/')?.strip_suffix("/oauth2/v2.0/token")?;
    (!tenant.is_empty() && !tenant.contains('/')).then_some(tenant)
}

fn expired_secret(client: &str) -> StsError {
    StsError::client(
        7_000_222,
        format!(
            "The provided client secret keys for app '{client}' are expired. Visit the Azure \
             portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider \
             using certificate credentials for added security: https://aka.ms/certCreds."
        ),
    )
}

impl TokenService {
    fn token(&self, tenant: &str, request: &Request) -> Result<Response> {
        if request.parts.method != Method::POST {
            return Err(StsError::request(
                "invalid_request",
                900_561,
                format!(
                    "The endpoint only accepts POST requests. Received a {} request.",
                    request.parts.method
                ),
            ));
        }
        let form = Form::read(request)?;
        if tenant != TENANT && tenant != DOMAIN {
            return Err(StsError::request(
                "invalid_request",
                90002,
                format!(
                    "Tenant '{tenant}' not found. Check to make sure you have the correct tenant \
                     ID and are signing into the correct cloud. Check with your subscription \
                     administrator, this may happen if there are no active subscriptions for the \
                     tenant."
                ),
            ));
        }
        let grant = form.need("grant_type")?;
        if grant != "client_credentials" {
            return Err(StsError::request(
                "unsupported_grant_type",
                70003,
                format!("The app requested an unsupported grant type '{grant}'."),
            ));
        }
        let client = form.need("client_id")?;
        if client != LAUNCHER {
            return Err(StsError::request(
                "unauthorized_client",
                700_016,
                format!(
                    "Application with identifier '{client}' was not found in the directory 'Octo'. \
                     This can happen if the application has not been installed by the \
                     administrator of the tenant or consented to by any user in the tenant. You \
                     may have sent your authentication request to the wrong tenant."
                ),
            ));
        }
        let resource = self.resource(form.need("scope")?)?;
        self.check_credentials(&form, client, request)?;
        let lifetime = SignedDuration::from_secs(3599);
        let token = self
            .directory
            .token(&Directory::launcher(), resource, lifetime, json!({}));
        Ok(document(
            200,
            &json!({
                "token_type": "Bearer",
                "expires_in": lifetime.as_secs(),
                "ext_expires_in": lifetime.as_secs(),
                "access_token": token.value,
            }),
        ))
    }

    /// The resource that a scope is about.
    fn resource<'a>(&self, scope: &'a str) -> Result<&'a str> {
        let Some(resource) = scope.strip_suffix(SUFFIX) else {
            return Err(StsError::request(
                "invalid_scope",
                1_002_012,
                format!(
                    "The provided value for scope {scope} is not valid. Client credential flows \
                     must have a scope value with /.default suffixed to the resource identifier \
                     (application ID URI)."
                ),
            ));
        };
        if !self.directory.is_resource_manager(resource) {
            return Err(StsError::request(
                "invalid_resource",
                500_011,
                format!(
                    "The resource principal named {resource} was not found in the tenant named \
                     Octo. This can happen if the application has not been installed by the \
                     administrator of the tenant or consented to by any user in the tenant. You \
                     might have sent your authentication request to the wrong tenant."
                ),
            ));
        }
        Ok(resource)
    }

    fn check_credentials(&self, form: &Form, client: &str, request: &Request) -> Result<()> {
        if let Some(kind) = form.get("client_assertion_type") {
            if kind != ASSERTION_TYPE {
                return Err(StsError::client(
                    7_000_216,
                    "'client_assertion', 'client_secret' or 'request' is required for the \
                     'client_credentials' grant type.",
                ));
            }
            let assertion = form.need("client_assertion")?;
            let here = format!(
                "http://{}{}",
                request.header("host").unwrap_or_default(),
                request.path()
            );
            return assertion::check(assertion, client, &here, &self.issuer);
        }
        match form.get("client_secret") {
            Some(secret) if secret == self.directory.client_secret => Ok(()),
            Some(secret) if secret == self.directory.expired_secret => Err(expired_secret(client)),
            Some(_) => Err(StsError::client(
                7_000_215,
                format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request \
                     is the client secret value, not the client secret ID, for a secret added to \
                     app '{client}'."
                ),
            )),
            None => Err(StsError::client(
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or \
                 'client_secret'.",
            )),
        }
    }
}

/// What was posted.
struct Form(BTreeMap<String, String>);

impl Form {
    fn read(request: &Request) -> Result<Self> {
        let kind = request.header("content-type").unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(missing("grant_type"));
        }
        let mut read = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(&request.body) {
            if read.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(StsError::request(
                    "invalid_request",
                    90023,
                    format!("The parameter '{name}' is there more than once."),
                ));
            }
        }
        Ok(Form(read))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> StsError {
    StsError::request(
        "invalid_request",
        900_144,
        format!("The request body must contain the following parameter: '{name}'."),
    )
}

#[cfg(test)]
pub(crate) mod tests;
