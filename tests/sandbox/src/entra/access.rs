//! Access tokens, and whom they let in.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference>

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::directory::Directory;
use super::{TENANT, directory};
use crate::calls::lock;
use crate::clock;
use crate::jwt::Jwt;

/// What Resource Manager is called by those who want a token for it.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/azure-services-resource-providers>
const RESOURCE_MANAGER: &[&str] = &[
    "https://management.core.windows.net",
    "https://management.azure.com",
];

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The client id of its application or managed identity.
    pub(crate) client: String,
    /// The object id of its service principal, which role assignments name.
    pub(crate) object: String,
}

/// Why a token lets nobody in. The status is 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unauthorized {
    /// `InvalidAuthenticationToken`, say.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Unauthorized {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Unauthorized {
            code,
            message: message.into(),
        }
    }

    /// The value of `WWW-Authenticate`.
    pub(crate) fn challenge(&self) -> String {
        let [url, _] = directory::PUBLIC;
        format!(
            "Bearer authorization_uri=\"{url}/{TENANT}\", error=\"invalid_token\", \
             error_description=\"The authentication failed because of missing 'Authorization' \
             header.\""
        )
    }
}

/// An access token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) value: String,
    id: String,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// Makes a token for `resource`; `more`: further claims.
    pub(super) fn token(
        &self,
        principal: &Principal,
        resource: &str,
        lifetime: SignedDuration,
        more: Value,
    ) -> Token {
        let issued = clock::now();
        let expires = issued + lifetime;
        let issuer = format!("https://sts.windows.net/{TENANT}/");
        let id = clock::random_of(clock::ALPHANUMERIC, 22);
        let mut claims = json!({
            "aud": resource,
            "iss": issuer,
            "iat": issued.as_second(),
            "nbf": issued.as_second(),
            "exp": expires.as_second(),
            "appid": principal.client,
            "idp": issuer,
            "idtyp": "app",
            "oid": principal.object,
            "sub": principal.object,
            "tid": TENANT,
            "uti": id,
            "ver": "1.0",
        });
        if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
            claims.extend(more);
        }
        let token = Token {
            value: self.key.sign(&claims),
            id: id.clone(),
            issued,
            expires,
        };
        self.wire.secret(&token.value);
        lock(&self.good_tokens).insert(id);
        token
    }

    /// Ends every token that is out.
    pub(super) fn expire_tokens(&self) {
        lock(&self.good_tokens).clear();
    }

    /// Whether nobody has ended a token.
    pub(super) fn is_good(&self, token: &Token) -> bool {
        lock(&self.good_tokens).contains(&token.id)
    }

    /// Whether a resource is Resource Manager, with or without a slash at its end.
    pub(super) fn is_resource_manager(&self, resource: &str) -> bool {
        let bare = resource.strip_suffix('/').unwrap_or(resource);
        RESOURCE_MANAGER.contains(&bare) || self.resource_manager().as_deref() == Some(bare)
    }

    /// Who calls Resource Manager with this `Authorization` header.
    ///
    /// # Errors
    /// Why nobody does, in its words.
    pub(crate) fn authenticate(
        &self,
        authorization: Option<&str>,
    ) -> Result<Principal, Unauthorized> {
        let Some(authorization) = authorization else {
            return Err(Unauthorized::new(
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.",
            ));
        };
        let invalid = |message: &str| Err(Unauthorized::new("InvalidAuthenticationToken", message));
        let token = match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                return Err(Unauthorized::new(
                    "AuthenticationFailedInvalidHeader",
                    "Authentication failed. The 'Authorization' header is provided in an invalid \
                     format.",
                ));
            }
        };
        let Some(jwt) = Jwt::read(token) else {
            return invalid("The access token is invalid.");
        };
        if !jwt.is_signed_by(&self.key) {
            return invalid("The access token is from the wrong issuer or its signature is wrong.");
        }
        let audience = jwt.claim("aud").unwrap_or_default();
        if !self.is_resource_manager(audience) {
            return Err(Unauthorized::new(
                "InvalidAuthenticationTokenAudience",
                format!(
                    "The access token has been obtained for wrong audience or resource \
                     '{audience}'. It should exactly match with one of the allowed audiences \
                     'https://management.core.windows.net/','https://management.core.windows.net',\
                     'https://management.azure.com/','https://management.azure.com'."
                ),
            ));
        }
        let now = clock::now();
        let expires = Timestamp::from_second(jwt.time("exp").unwrap_or_default());
        let mut expires = expires.unwrap_or_default();
        let id = jwt.claim("uti").unwrap_or_default();
        if !lock(&self.good_tokens).contains(id) {
            expires = expires.min(now);
        }
        if expires <= now {
            let time = |time: Timestamp| time.strftime("%-m/%-d/%Y %-I:%M:%S %p");
            return Err(Unauthorized::new(
                "ExpiredAuthenticationToken",
                format!(
                    "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
                    time(expires),
                    time(now)
                ),
            ));
        }
        match (jwt.claim("appid"), jwt.claim("oid")) {
            (Some(client), Some(object)) => Ok(Principal {
                client: client.into(),
                object: object.into(),
            }),
            _ => invalid("The access token is invalid."),
        }
    }
}
