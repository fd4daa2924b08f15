//! Who we are to AWS: one file per source, asked in the order of AWS's own tools.
//!
//! A source that doesn't apply is `Ok(None)`; one that applies and is broken ends the search,
//! because going on could mean acting as somebody else than was meant.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>

mod assume;
mod container;
mod environment;
mod instance;
mod process;
mod profile;
mod web_identity;

use jiff::Timestamp;
use serde::Deserialize;

use crate::cache::{Cached, Expiring};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::http::Http;
use crate::secret::Secret;

/// What requests are signed with.
#[derive(Debug, Clone)]
pub(in crate::cloud::aws) struct Keys {
    /// The access key's id, which is no secret.
    pub(in crate::cloud::aws) id: String,
    pub(in crate::cloud::aws) secret: Secret,
    /// There for temporary keys.
    pub(in crate::cloud::aws) token: Option<Secret>,
}

/// What a source found: nothing, or keys.
type Found = Result<Option<Expiring<Keys>>>;

/// What the sources draw from.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    host: &'a Host,
    http: &'a Http,
    /// Where STS is asked.
    region: &'a str,
}

/// Every source in its order, and what it brought.
#[derive(Debug)]
pub(super) struct Chain {
    host: Host,
    http: Http,
    cached: Cached<Keys>,
}

impl Chain {
    pub(super) fn new(host: Host, http: Http) -> Self {
        Self {
            host,
            http,
            cached: Cached::new(),
        }
    }

    /// Good keys; STS is asked in `region` where it must be.
    pub(super) async fn keys(&self, region: &str) -> Result<Keys> {
        let now = self.host.now();
        self.cached.get(now, async || self.find(region).await).await
    }

    async fn find(&self, region: &str) -> Result<Expiring<Keys>> {
        let context = Context {
            host: &self.host,
            http: &self.http,
            region,
        };
        if let Some(keys) = environment::keys(context)? {
            return found("the environment", keys);
        }
        if let Some(keys) = web_identity::keys(context).await? {
            return found("a web identity", keys);
        }
        if let Some(keys) = profile::keys(context).await? {
            return found("a profile", keys);
        }
        if let Some(keys) = container::keys(context).await? {
            return found("the container's credentials service", keys);
        }
        if let Some(keys) = instance::keys(context).await? {
            return found("this instance's role", keys);
        }
        Err(denied("no AWS credentials were found").hint(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or, without any key, \
             AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN; or AWS_PROFILE; or run in a container \
             or on an instance that has a role",
        ))
    }
}

fn found(source: &str, keys: Expiring<Keys>) -> Result<Expiring<Keys>> {
    tracing::debug!("AWS credentials come from {source}");
    Ok(keys)
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

/// Keys as metadata services and processes write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    access_key_id: String,
    secret_access_key: Secret,
    #[serde(alias = "SessionToken")]
    token: Option<Secret>,
    expiration: Option<Timestamp>,
}

impl From<Written> for Expiring<Keys> {
    fn from(written: Written) -> Self {
        Expiring {
            value: Keys {
                id: written.access_key_id,
                secret: written.secret_access_key,
                token: written.token,
            },
            expires: written.expiration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_any_source_the_ways_are_named() {
        let home = std::env::temp_dir().join("runner-launch-no-such-home");
        let host = Host::fixed([
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("HOME", home.to_str().unwrap()),
        ]);
        let chain = Chain::new(host.clone(), Http::new(&host).unwrap());
        let error = chain.keys("us-west-1").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        let hint = error.hints().join("\n");
        for way in [
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_PROFILE",
            "role",
        ] {
            assert!(hint.contains(way), "{hint}");
        }
    }

    #[test]
    fn keys_never_print_their_secrets() {
        let written: Written = serde_json::from_str(
            r#"{"AccessKeyId":"AKID","SecretAccessKey":"sssssecret","Token":"ttttoken",
                "Expiration":"2026-01-01T00:00:00Z"}"#,
        )
        .unwrap();
        let keys: Expiring<Keys> = written.into();
        let text = format!("{keys:?}");
        assert!(
            !text.contains("sssssecret") && !text.contains("ttttoken"),
            "{text}"
        );
        assert_eq!(keys.expires.unwrap().to_string(), "2026-01-01T00:00:00Z");
    }
}
