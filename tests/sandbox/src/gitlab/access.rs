//! Who may call: access tokens with their scopes, a job's token; and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::calls::Wire;
use crate::clock;

/// Requests per minute, as gitlab.com has it.
/// <https://docs.gitlab.com/security/rate_limits/>
pub(super) const LIMIT: u64 = 2000;

/// The scopes that an access token can have, as far as they matter here.
/// <https://docs.gitlab.com/user/profile/personal_access_tokens/#personal-access-token-scopes>
const SCOPES: &[&str] = &[
    "api",
    "read_api",
    "read_user",
    "create_runner",
    "manage_runner",
    "read_repository",
    "write_repository",
    "k8s_proxy",
];

/// What a token's owner is in every group and project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Developer,
    Owner,
}

/// Why a token is no good any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Expired,
    Revoked,
}

/// A personal, group or project access token.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) scopes: Vec<String>,
    pub(super) role: Role,
    pub(super) ended: Option<Ended>,
}

impl Token {
    pub(super) fn has(&self, scopes: &[&str]) -> bool {
        self.scopes.iter().any(|own| scopes.contains(&own.as_str()))
    }
}

/// All tokens and limits.
#[derive(Debug)]
pub(super) struct Access {
    tokens: BTreeMap<String, Token>,
    pub(super) owner: String,
    pub(super) weak: String,
    /// Of the pipeline job that the environment is about.
    pub(super) job: String,
    /// Nobody has anything left until then.
    exhausted_until: Option<Timestamp>,
    pub(super) used: u64,
}

impl Access {
    pub(super) fn new(wire: &Wire) -> Self {
        let job = format!("glcbt-64_{}", clock::random_of(clock::ALPHANUMERIC, 20));
        wire.secret(job.clone());
        let mut access = Access {
            tokens: BTreeMap::new(),
            owner: String::new(),
            weak: String::new(),
            job,
            exhausted_until: None,
            used: 0,
        };
        access.owner = access.add(wire, &["api"], Role::Owner);
        access.weak = access.add(wire, &["api"], Role::Developer);
        access
    }

    /// Makes a token.
    pub(super) fn add(&mut self, wire: &Wire, scopes: &[&str], role: Role) -> String {
        for scope in scopes {
            assert!(SCOPES.contains(scope), "GitLab has no token scope {scope}");
        }
        let token = format!("glpat-{}", clock::random_of(clock::ALPHANUMERIC, 20));
        wire.secret(token.clone());
        let id = self.tokens.len() as u64 + 1;
        self.tokens.insert(
            token.clone(),
            Token {
                id,
                scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
                role,
                ended: None,
            },
        );
        token
    }

    /// Ends a token's life.
    pub(super) fn end(&mut self, token: &str, how: Ended) {
        if let Some(token) = self.tokens.get_mut(token) {
            token.ended = Some(how);
        }
    }

    /// What a presented token is, if it was ever any good.
    pub(super) fn recognise(&self, token: &str) -> Option<&Token> {
        self.tokens.get(token)
    }

    /// When the limit that is used up is renewed.
    pub(super) fn exhausted(&self) -> Option<Timestamp> {
        self.exhausted_until.filter(|until| *until > clock::now())
    }

    pub(super) fn exhaust(&mut self, seconds: u64) {
        // The header tells whole seconds: rounded up, so that who waits that long has waited enough.
        let time = SignedDuration::try_from(Duration::from_secs(seconds)).unwrap_or_default();
        let until = clock::now().checked_add(time).unwrap_or(Timestamp::MAX);
        self.exhausted_until = Timestamp::from_second(until.as_second() + 1).ok();
    }
}
