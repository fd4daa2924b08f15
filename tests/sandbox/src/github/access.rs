//! Who may call: personal access tokens, a GitHub App with its installation tokens, the tokens
//! with which runners register; and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use crate::calls::Wire;
use crate::clock;

/// The key of the fake's App. It opens nothing else.
const APP_KEY: &str = include_str!("app.pem");
const APP_ID: &str = "248163";
/// The App's one installation, for the organisation `octo` with all its repositories.
pub(super) const INSTALLATION: u64 = 48_211_503;

/// Requests per hour.
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>
pub(super) const LIMIT: u64 = 5000;

/// The longest life of an App's JWT.
/// <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>
const JWT_LIFE: i64 = 600;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A personal access token of an administrator.
    Admin,
    /// A fine-grained personal access token that may only read code.
    Weak,
    /// An App installation's.
    Installation,
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    expires: Option<Timestamp>,
    used: u64,
}

/// What a token for the runner program allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Register,
    Remove,
}

/// A token for the runner program.
#[derive(Debug)]
struct RunnerToken {
    scope: String,
    purpose: Purpose,
    expires: Timestamp,
}

/// The state of a caller's rate limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) used: u64,
    pub(super) reset: Timestamp,
}

impl Limit {
    pub(super) fn remaining(self) -> u64 {
        LIMIT.saturating_sub(self.used)
    }
}

/// All tokens and limits.
#[derive(Debug)]
pub(super) struct Access {
    tokens: BTreeMap<String, Token>,
    runner_tokens: BTreeMap<String, RunnerToken>,
    pub(super) admin: String,
    pub(super) weak: String,
    /// The start of the hour that is counted.
    since: Timestamp,
    /// Nobody has anything left until then.
    exhausted_until: Option<Timestamp>,
}

/// Within the hour from now.
fn within(time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::ZERO);
    clock::now().checked_add(time).unwrap_or(Timestamp::MAX)
}

const HOUR: Duration = Duration::from_secs(3600);

impl Access {
    pub(super) fn new(wire: &Wire) -> Self {
        let random = |prefix: &str, length| {
            let token = format!("{prefix}{}", clock::random_of(clock::ALPHANUMERIC, length));
            wire.secret(token.clone());
            token
        };
        let (admin, weak) = (random("ghp_", 36), random("github_pat_", 82));
        wire.secret(APP_KEY);
        // In whatever way a key is printed, its first line is likely to be in it.
        wire.secret(APP_KEY.lines().nth(1).unwrap_or_default());
        let token = |kind| Token {
            kind,
            expires: None,
            used: 0,
        };
        Access {
            tokens: BTreeMap::from([
                (admin.clone(), token(Kind::Admin)),
                (weak.clone(), token(Kind::Weak)),
            ]),
            runner_tokens: BTreeMap::new(),
            admin,
            weak,
            since: clock::now(),
            exhausted_until: None,
        }
    }

    /// What a presented token is, if it is any good; counts the request.
    pub(super) fn recognise(&mut self, token: &str, counts: bool) -> Option<(Kind, Limit)> {
        let now = clock::now();
        if now.duration_since(self.since).as_secs() >= 3600 {
            self.since = now;
            self.tokens.values_mut().for_each(|token| token.used = 0);
        }
        let exhausted = self.exhausted_until.filter(|until| *until > now);
        let known = self.tokens.get_mut(token)?;
        if known.expires.is_some_and(|expires| expires <= now) {
            return None;
        }
        if counts && exhausted.is_none() {
            known.used += 1;
        }
        let hour = SignedDuration::from_secs(3600);
        let limit = match exhausted {
            Some(reset) => Limit { used: LIMIT, reset },
            None => Limit {
                used: known.used,
                reset: self.since.checked_add(hour).unwrap_or(now),
            },
        };
        Some((known.kind, limit))
    }

    /// Whether the limit is used up for everybody.
    pub(super) fn exhausted(&self) -> bool {
        self.exhausted_until
            .is_some_and(|until| until > clock::now())
    }

    pub(super) fn exhaust(&mut self, seconds: u64) {
        // The header tells whole seconds: rounded up, so that who waits that long has waited enough.
        let second = within(Duration::from_secs(seconds)).as_second() + 1;
        self.exhausted_until = Timestamp::from_second(second).ok();
    }

    /// Makes an installation token.
    pub(super) fn installation_token(&mut self, wire: &Wire) -> (String, Timestamp) {
        let token = format!("ghs_{}", clock::random_of(clock::ALPHANUMERIC, 36));
        wire.secret(token.clone());
        let expires = within(HOUR);
        self.tokens.insert(
            token.clone(),
            Token {
                kind: Kind::Installation,
                expires: Some(expires),
                used: 0,
            },
        );
        (token, expires)
    }

    /// Makes a token for the runner program.
    pub(super) fn runner_token(
        &mut self,
        wire: &Wire,
        scope: &str,
        purpose: Purpose,
    ) -> (String, Timestamp) {
        let token = clock::random_of(clock::CAPITALS, 29);
        wire.secret(token.clone());
        let expires = within(HOUR);
        self.runner_tokens.insert(
            token.clone(),
            RunnerToken {
                scope: scope.into(),
                purpose,
                expires,
            },
        );
        (token, expires)
    }

    /// Whether a token lets a runner program do this in this repository or organisation.
    pub(super) fn allows(&self, token: &str, scope: &str, purpose: Purpose) -> bool {
        self.runner_tokens.get(token).is_some_and(|known| {
            known.scope == scope && known.purpose == purpose && known.expires > clock::now()
        })
    }
}

/// The App's id and private key, as a person would hold them.
pub(super) fn app() -> (String, String) {
    (APP_ID.into(), APP_KEY.into())
}

#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
}

#[derive(Deserialize)]
struct JwtClaims {
    iat: Option<Value>,
    exp: Option<Value>,
    iss: Option<Value>,
}

/// Checks that the App itself is speaking.
///
/// # Errors
/// GitHub's words for what is wrong with the JWT.
pub(super) fn check_jwt(jwt: &str, now: i64) -> Result<(), &'static str> {
    const UNREADABLE: &str = "A JSON web token could not be decoded";
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| UNREADABLE);
    let (signed, signature) = jwt.rsplit_once('.').ok_or(UNREADABLE)?;
    let (header, claims) = signed.split_once('.').ok_or(UNREADABLE)?;
    let header: JwtHeader = serde_json::from_slice(&decode(header)?).map_err(|_| UNREADABLE)?;
    let claims: JwtClaims = serde_json::from_slice(&decode(claims)?).map_err(|_| UNREADABLE)?;
    if header.alg != "RS256" {
        return Err(UNREADABLE);
    }
    let issuer = match &claims.iss {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err("'Issuer' claim ('iss') must be an Integer"),
    };
    if issuer != APP_ID {
        return Err("Integration not found");
    }
    let key = public_key().ok_or(UNREADABLE)?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| UNREADABLE)?;
    let number = |claim: &Option<Value>| claim.as_ref().and_then(Value::as_i64);
    let issued = number(&claims.iat).filter(|issued| *issued <= now).ok_or(
        "'Issued at' claim ('iat') must be an Integer representing the time that the assertion \
         was issued",
    )?;
    let expires = number(&claims.exp).filter(|expires| *expires > now).ok_or(
        "'Expiration time' claim ('exp') must be a numeric value representing the future time at \
         which the assertion expires",
    )?;
    if expires > now + JWT_LIFE || expires - issued > JWT_LIFE {
        return Err("'Expiration time' claim ('exp') is too far in the future");
    }
    Ok(())
}

fn public_key() -> Option<Vec<u8>> {
    let body: String = APP_KEY
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let pair = RsaKeyPair::from_der(&BASE64_STANDARD.decode(body).ok()?).ok()?;
    Some(pair.public_key().as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::RSA_PKCS1_SHA256;
    use serde_json::json;

    const NOW: i64 = 1_767_225_600;

    fn jwt(alg: &str, claims: Value) -> String {
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            encode(json!({"alg": alg, "typ": "JWT"})),
            encode(claims)
        );
        let body: String = APP_KEY
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let pair = RsaKeyPair::from_der(&BASE64_STANDARD.decode(body).unwrap()).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        )
        .unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn an_app_s_token_is_checked() {
        let claims = |iat: i64, exp: i64, iss: &str| json!({"iat": iat, "exp": exp, "iss": iss});
        let good = jwt("RS256", claims(NOW - 60, NOW + 540, APP_ID));
        assert_eq!(check_jwt(&good, NOW), Ok(()));
        for (claims, complaint) in [
            (claims(NOW - 60, NOW + 541, APP_ID), "too far in the future"),
            (claims(NOW - 900, NOW - 1, APP_ID), "the future time"),
            (claims(NOW + 30, NOW + 300, APP_ID), "'Issued at'"),
            (claims(NOW, NOW + 300, "1"), "Integration not found"),
            (json!({"iat": NOW, "exp": NOW + 300}), "'Issuer'"),
            (json!({"exp": NOW + 300, "iss": APP_ID}), "'Issued at'"),
        ] {
            let error = check_jwt(&jwt("RS256", claims.clone()), NOW).unwrap_err();
            assert!(error.contains(complaint), "{claims}: {error}");
        }
    }

    #[test]
    fn a_forged_signature_is_refused() {
        let good = jwt(
            "RS256",
            json!({"iat": NOW, "exp": NOW + 300, "iss": APP_ID}),
        );
        let other = jwt(
            "RS256",
            json!({"iat": NOW, "exp": NOW + 301, "iss": APP_ID}),
        );
        let (signed, _) = good.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        assert!(check_jwt(&format!("{signed}.{signature}"), NOW).is_err());
        let none = jwt("none", json!({"iat": NOW, "exp": NOW + 300, "iss": APP_ID}));
        assert!(check_jwt(&none, NOW).is_err());
        assert!(check_jwt("a.b", NOW).is_err());
    }
}
