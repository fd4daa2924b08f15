//! Tokens of managed identities.
//! <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::json;

use super::service::{MetadataService, Parameters, identity_error, parameters};
use crate::calls::{Wire, lock};
use crate::clock;
use crate::entra::ManagedIdentity;
use crate::entra::access::Token;
use crate::entra::error::document;
use crate::server::{Request, Response};

/// Where App Service has its identities.
/// <https://learn.microsoft.com/en-us/azure/app-service/overview-managed-identity#rest-endpoint-reference>
pub(super) const APP_SERVICE_PATH: &str = "/msi/token";
/// What a token lasts.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// A token is handed out again as long as it lasts this much longer.
const RENEWAL: i64 = 12 * 60 * 60;

/// Tokens that are handed out again, by the identity's client id and the resource.
pub(super) type Kept = BTreeMap<(String, String), Token>;

/// What App Service has besides.
#[derive(Debug)]
pub(super) struct AppService {
    /// What the caller must know.
    secret: String,
}

impl AppService {
    pub(super) fn new(wire: &Wire) -> Self {
        let secret = clock::uuid().to_uppercase();
        wire.secret(&secret);
        AppService { secret }
    }

    pub(super) fn secret(&self) -> String {
        self.secret.clone()
    }
}

impl MetadataService {
    /// Which identity a request is about; all ways to name one exclude each other.
    fn chosen(&self, parameters: &Parameters) -> Result<ManagedIdentity, &'static str> {
        const NOT_FOUND: &str = "Identity not found";
        let facts = self.facts.borrow();
        let all = || facts.system_identity.iter().chain(&facts.user_identities);
        type Part = fn(&ManagedIdentity) -> &str;
        let names: [(&[&str], Part); 3] = [
            (&["client_id"], |identity| &identity.client),
            (&["object_id", "principal_id"], |identity| &identity.object),
            (&["msi_res_id", "mi_res_id"], |identity| &identity.resource),
        ];
        for (names, part) in names {
            let given = names.iter().find_map(|name| parameters.get(*name));
            let Some(given) = given else { continue };
            return all()
                .find(|identity| part(identity).eq_ignore_ascii_case(given))
                .cloned()
                .ok_or(NOT_FOUND);
        }
        match (&facts.system_identity, facts.user_identities.as_slice()) {
            (Some(own), _) => Ok(own.clone()),
            (None, [one]) => Ok(one.clone()),
            (None, []) => Err(NOT_FOUND),
            (None, _) => Err(
                "Multiple user assigned identities exist, please specify the clientId / \
                 resourceId of the identity in the token request",
            ),
        }
    }

    /// A token for an identity; the same for as long as it is good enough.
    fn token_of(&self, identity: &ManagedIdentity, resource: &str) -> Token {
        let mut kept = lock(&self.tokens);
        let now = clock::now();
        let key = (identity.client.clone(), resource.to_owned());
        let good = |token: &&Token| {
            token.expires.duration_since(now).as_secs() > RENEWAL && self.directory.is_good(token)
        };
        if let Some(token) = kept.get(&key).filter(good) {
            return token.clone();
        }
        let more = json!({"xms_mirid": identity.resource});
        let token = self
            .directory
            .token(&identity.principal(), resource, LIFETIME, more);
        kept.insert(key, token.clone());
        token
    }

    /// Answers `GET /metadata/identity/oauth2/token`.
    pub(super) fn token(&self, parameters: &Parameters) -> Response {
        let Some(resource) = parameters.get("resource").filter(|text| !text.is_empty()) else {
            return identity_error(
                400,
                "invalid_request",
                "Required query variable 'resource' is missing",
            );
        };
        if !self.directory.is_resource_manager(resource) {
            return identity_error(
                400,
                "invalid_resource",
                &format!(
                    "AADSTS500011: The resource principal named {resource} was not found in the \
                     tenant named Octo."
                ),
            );
        }
        let identity = match self.chosen(parameters) {
            Ok(identity) => identity,
            Err(words) => return identity_error(400, "invalid_request", words),
        };
        let token = self.token_of(&identity, resource);
        let left = token.expires.duration_since(clock::now()).as_secs();
        document(
            200,
            &json!({
                "access_token": token.value,
                "client_id": identity.client,
                "expires_in": left.to_string(),
                "expires_on": token.expires.as_second().to_string(),
                "ext_expires_in": LIFETIME.as_secs().to_string(),
                "not_before": token.issued.as_second().to_string(),
                "resource": resource,
                "token_type": "Bearer",
            }),
        )
    }

    /// Answers App Service's endpoint.
    pub(super) fn app_service_token(&self, request: &Request) -> Response {
        let refuse = |status: u16, words: &str| {
            document(status, &json!({"statusCode": status, "message": words}))
        };
        let Some(app_service) = &self.app_service else {
            return refuse(404, "Not found");
        };
        if request.header("x-identity-header") != Some(&app_service.secret) {
            return refuse(401, "The header X-IDENTITY-HEADER is missing or wrong");
        }
        let Some(parameters) = parameters(request.query()) else {
            return refuse(400, "A query parameter is there more than once");
        };
        if parameters.get("api-version").map(String::as_str) != Some("2019-08-01") {
            return refuse(400, "The api-version is not supported");
        }
        let resource = parameters.get("resource");
        let Some(resource) = resource.filter(|text| self.directory.is_resource_manager(text))
        else {
            return refuse(400, "The resource is missing or unknown");
        };
        let Ok(identity) = self.chosen(&parameters) else {
            return refuse(400, "No User Assigned or Delegated Managed Identity found");
        };
        let token = self.token_of(&identity, resource);
        document(
            200,
            &json!({
                "access_token": token.value,
                "client_id": identity.client,
                "expires_on": token.expires.as_second().to_string(),
                "resource": resource,
                "token_type": "Bearer",
            }),
        )
    }
}
