//! Who may call: access keys, sessions, roles, the policy, web identity tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::error::{ApiError, Result};
use crate::calls::{Wire, lock};
use crate::clock;
use crate::sigv4::{Key, hmac};

/// The account that everything belongs to.
pub(crate) const ACCOUNT: &str = "123456789012";
/// The role that pipelines and hosts take on.
pub(crate) const ROLE: &str = "runner-launcher";
/// Whom a web identity token must be meant for.
const AUDIENCE: &str = "sts.amazonaws.com";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// What a caller may do unless [`super::Ec2::allow_only`] says otherwise: the specification's list,
/// and what its absence would only make worse.
const DEFAULT_POLICY: &[&str] = &[
    "ec2:CreateSecurityGroup",
    "ec2:AuthorizeSecurityGroupEgress",
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:ImportKeyPair",
    "ec2:DeleteKeyPair",
    "ec2:CreateTags",
    "ec2:RunInstances",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:TerminateInstances",
    "ec2:DescribeSpotInstanceRequests",
    "ec2:RequestSpotInstances",
    "ec2:CancelSpotInstanceRequests",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:GetConsoleOutput",
    "sts:DecodeAuthorizationMessage",
];

/// Who signed a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Principal {
    /// The user with the static keys.
    User,
    /// A session of the launcher's role; it may do what the user may.
    Launcher { session: String },
    /// An instance's own role; it may do nothing here.
    Instance { role: String, id: String },
}

impl Principal {
    pub(crate) fn arn(&self) -> String {
        match self {
            Principal::User => format!("arn:aws:iam::{ACCOUNT}:user/ci"),
            Principal::Launcher { session } => {
                format!("arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{session}")
            }
            Principal::Instance { role, id } => {
                format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{id}")
            }
        }
    }

    pub(crate) fn user_id(&self) -> String {
        match self {
            Principal::User => "AIDASANDBOXUSERCI0001".into(),
            Principal::Launcher { session } => format!("AROASANDBOXLAUNCHER01:{session}"),
            Principal::Instance { id, .. } => format!("AROASANDBOXINSTANCE01:{id}"),
        }
    }
}

/// A session's credentials.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) access_key: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

#[derive(Debug)]
struct Holder {
    key: Key,
    principal: Principal,
}

/// All keys and permissions of the account.
#[derive(Debug)]
pub(crate) struct Accounts {
    wire: Arc<Wire>,
    holders: Mutex<BTreeMap<String, Holder>>,
    policy: Mutex<BTreeSet<String>>,
    /// What encoded authorization failures say.
    failures: Mutex<BTreeMap<String, String>>,
    signing_key: Vec<u8>,
    user_key: String,
    user_secret: String,
}

impl Accounts {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        let user_key = format!("AKIA{}", clock::random_of(clock::CAPITALS, 16));
        let user_secret = clock::random_of(clock::ALPHANUMERIC, 40);
        wire.secret(&user_secret);
        let user = Holder {
            key: Key {
                secret: user_secret.clone(),
                session_token: None,
                expires: None,
            },
            principal: Principal::User,
        };
        Accounts {
            wire,
            holders: Mutex::new([(user_key.clone(), user)].into()),
            policy: Mutex::new(DEFAULT_POLICY.iter().map(|a| (*a).to_owned()).collect()),
            failures: Mutex::default(),
            signing_key: clock::random_bytes(32),
            user_key,
            user_secret,
        }
    }

    /// The user's access key and secret.
    pub(crate) fn user(&self) -> (String, String) {
        (self.user_key.clone(), self.user_secret.clone())
    }

    pub(crate) fn role_arn() -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{ROLE}")
    }

    pub(crate) fn key(&self, access_key: &str) -> Option<Key> {
        Some(lock(&self.holders).get(access_key)?.key.clone())
    }

    pub(crate) fn principal(&self, access_key: &str) -> Option<Principal> {
        Some(lock(&self.holders).get(access_key)?.principal.clone())
    }

    /// Hands out credentials for a session.
    pub(crate) fn session(&self, principal: Principal, lifetime: SignedDuration) -> Session {
        let session = Session {
            access_key: format!("ASIA{}", clock::random_of(clock::CAPITALS, 16)),
            secret: clock::random_of(clock::ALPHANUMERIC, 40),
            token: format!(
                "IQoJb3JpZ2luX2VjE{}",
                clock::random_of(clock::ALPHANUMERIC, 400)
            ),
            expires: clock::now() + lifetime,
        };
        self.wire.secret(&session.secret);
        self.wire.secret(&session.token);
        let holder = Holder {
            key: Key {
                secret: session.secret.clone(),
                session_token: Some(session.token.clone()),
                expires: Some(session.expires),
            },
            principal,
        };
        lock(&self.holders).insert(session.access_key.clone(), holder);
        session
    }

    pub(crate) fn allow_only(&self, actions: &[&str]) {
        *lock(&self.policy) = actions.iter().map(|action| (*action).to_owned()).collect();
    }

    pub(crate) fn allows(&self, principal: &Principal, action: &str) -> bool {
        match principal {
            Principal::User | Principal::Launcher { .. } => lock(&self.policy)
                .iter()
                .any(|pattern| crate::fault::wildcard(pattern, action)),
            Principal::Instance { .. } => false,
        }
    }

    /// Why an action isn't allowed, in the form that only DecodeAuthorizationMessage can read.
    pub(crate) fn encode_failure(
        &self,
        principal: &Principal,
        action: &str,
        resource: &str,
    ) -> String {
        let message = json!({
            "allowed": false,
            "explicitDeny": false,
            "matchedStatements": {"items": []},
            "failures": {"items": []},
            "context": {
                "principal": {"id": principal.user_id(), "arn": principal.arn()},
                "action": action,
                "resource": resource,
                "conditions": {"items": []},
            },
        });
        let encoded = format!(
            "{}_{}-{}",
            clock::random_of(clock::ALPHANUMERIC, 180),
            clock::random_of(clock::ALPHANUMERIC, 200),
            clock::random_of(clock::ALPHANUMERIC, 60)
        );
        lock(&self.failures).insert(encoded.clone(), message.to_string());
        encoded
    }

    pub(crate) fn decode_failure(&self, encoded: &str) -> Option<String> {
        lock(&self.failures).get(encoded).cloned()
    }

    /// A web identity token as GitHub would issue it, valid for so long (or expired for so long).
    pub(crate) fn web_token(&self, lifetime: SignedDuration) -> String {
        let now = clock::now();
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(json!({"alg": "HS256", "typ": "JWT"}));
        let payload = encode(json!({
            "iss": ISSUER,
            "sub": "repo:octo/repo:ref:refs/heads/main",
            "aud": AUDIENCE,
            "iat": now.as_second(),
            "exp": (now + lifetime).as_second(),
        }));
        let signed = format!("{header}.{payload}");
        let token = format!("{signed}.{}", self.sign(&signed));
        self.wire.secret(&token);
        token
    }

    /// Checks such a token; the answer is its subject.
    pub(crate) fn check_web_token(&self, token: &str) -> Result<String> {
        let invalid = |message: &str| ApiError::client("InvalidIdentityToken", message);
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or_else(|| invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"))?;
        if self.sign(signed) != signature {
            return Err(invalid(
                "Couldn't retrieve verification key from your identity provider,  please \
                 reference AssumeRoleWithWebIdentity documentation for requirements",
            ));
        }
        let claims: Value = signed
            .split_once('.')
            .and_then(|(_, payload)| BASE64_URL_SAFE_NO_PAD.decode(payload).ok())
            .and_then(|payload| serde_json::from_slice(&payload).ok())
            .ok_or_else(|| invalid("The ID Token provided is not a valid JWT."))?;
        if claims["aud"] != AUDIENCE {
            return Err(invalid("Incorrect token audience"));
        }
        let expires = claims["exp"].as_i64().unwrap_or_default();
        let now = clock::now().as_second();
        if expires <= now {
            return Err(ApiError::client(
                "ExpiredTokenException",
                format!(
                    "Token expired: current date/time {now} must be before the expiration \
                     date/time {expires}"
                ),
            ));
        }
        Ok(claims["sub"].as_str().unwrap_or_default().to_owned())
    }

    fn sign(&self, text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac(&self.signing_key, text.as_bytes()))
    }
}
