//! The instance metadata service, version 2, and the notices that it gives.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::Url;

use crate::cache::{Cached, Expiring};
use crate::cloud::{NOTICE_INTERVAL, Notice};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy, Reply, Request};
use crate::secret::Secret;

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_LIFE: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN_PATH: &str = "/latest/api/token";
/// The longest life that the service grants.
const LIFE_SECONDS: i64 = 21_600;

const INTERRUPTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";

/// A client of this machine's metadata service.
#[derive(Debug)]
pub(super) struct Imds {
    host: Host,
    http: Http,
    base: Url,
    token: Cached<Secret>,
}

impl Imds {
    pub(super) fn new(host: Host, http: Http) -> Result<Self> {
        let variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
        let mode = host
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
            .unwrap_or_default();
        let base = match (host.env(variable), mode.eq_ignore_ascii_case("ipv6")) {
            (Some(given), _) => given,
            (None, true) => "http://[fd00:ec2::254]",
            (None, false) => "http://169.254.169.254",
        };
        let base = Url::parse(base)
            .map_err(|error| Error::usage(format!("{variable} is no address")).caused_by(error))?;
        Ok(Self {
            host,
            http,
            base,
            token: Cached::new(),
        })
    }

    /// What is at a path; `None` where nothing is.
    pub(super) async fn get(&self, path: &str) -> Result<Option<String>> {
        let token = self
            .token
            .get(self.host.now(), async || self.new_token().await)
            .await?;
        let mut reply = self.ask(path, &token).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            // Tokens are bound to the instance: one that moved or was restored needs another.
            let token = self.new_token().await?.value;
            reply = self.ask(path, &token).await?;
        }
        match reply.status {
            StatusCode::OK => Ok(Some(reply.text())),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(
                Error::other(format!("reading the instance metadata {path}"))
                    .caused_by(format!("it answered {status}")),
            ),
        }
    }

    async fn ask(&self, path: &str, token: &Secret) -> Result<Reply> {
        self.send(Method::GET, path, &TOKEN, token.expose()).await
    }

    async fn new_token(&self) -> Result<Expiring<Secret>> {
        let asked = self.host.now();
        let reply = self
            .send(
                Method::PUT,
                TOKEN_PATH,
                &TOKEN_LIFE,
                &LIFE_SECONDS.to_string(),
            )
            .await?;
        if reply.status != StatusCode::OK {
            return Err(Error::other("asking for an instance metadata token")
                .caused_by(format!("it answered {}", reply.status)));
        }
        Ok(Expiring {
            value: Secret::new(reply.text().trim()),
            expires: asked
                .checked_add(SignedDuration::from_secs(LIFE_SECONDS))
                .ok(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        header: &HeaderName,
        value: &str,
    ) -> Result<Reply> {
        let url = self
            .base
            .join(path)
            .map_err(|error| Error::other("building a metadata address").caused_by(error))?;
        let build = || {
            let mut request = Request::new(method.clone(), url.clone());
            let mut value = HeaderValue::from_str(value)
                .map_err(|error| Error::other("reading a metadata token").caused_by(error))?;
            value.set_sensitive(true);
            request.headers.insert(header, value);
            Ok(request)
        };
        self.http
            .send_direct(&format!("imds:{method} {path}"), Policy::LOCAL, build)
            .await
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
#[derive(Debug, Deserialize)]
struct Interruption {
    action: String,
    time: Option<Timestamp>,
}

/// Waits for the next notice of this instance. An outage of the metadata service is waited out.
pub async fn next_notice(host: &Host, http: &Http, rebalance_seen: bool) -> Notice {
    let imds = match Imds::new(host.clone(), http.clone()) {
        Ok(imds) => imds,
        Err(error) => {
            tracing::warn!(
                "no notice of an interruption can be seen: {}",
                error.chain()
            );
            return std::future::pending().await;
        }
    };
    let mut outage = false;
    loop {
        match poll(&imds, rebalance_seen).await {
            Ok(Some(notice)) => return notice,
            Ok(None) => outage = false,
            Err(error) => {
                // Once per outage, not every five seconds.
                if !outage {
                    tracing::debug!("looking for notices: {}", error.chain());
                }
                outage = true;
            }
        }
        tokio::time::sleep(NOTICE_INTERVAL).await;
    }
}

async fn poll(imds: &Imds, rebalance_seen: bool) -> Result<Option<Notice>> {
    if let Some(text) = imds.get(INTERRUPTION).await? {
        return Ok(Some(Notice::Interruption {
            detail: detail(&text),
        }));
    }
    if !rebalance_seen && imds.get(REBALANCE).await?.is_some() {
        return Ok(Some(Notice::Rebalance {
            detail: "rebalance recommendation".to_owned(),
        }));
    }
    Ok(None)
}

fn detail(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(Interruption {
            action,
            time: Some(time),
        }) => format!("EC2 will {action} this instance at {time}"),
        Ok(Interruption { action, time: None }) => format!("EC2 will {action} this instance"),
        // Whatever its form, that it is there is the notice.
        Err(_) => format!("EC2 announces: {}", text.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_told_in_words() {
        let published = r#"{"action": "terminate", "time": "2017-09-18T08:22:00Z"}"#;
        assert_eq!(
            detail(published),
            "EC2 will terminate this instance at 2017-09-18T08:22:00Z"
        );
        assert_eq!(detail("soon\n"), "EC2 announces: soon");
    }

    #[test]
    fn the_endpoint_can_be_moved() {
        let base = |env: &[(&str, &str)]| {
            let host = Host::fixed(env.iter().copied());
            let http = Http::new(&host).unwrap();
            Imds::new(host, http).map(|imds| imds.base.to_string())
        };
        assert_eq!(base(&[]).unwrap(), "http://169.254.169.254/");
        let ipv6 = ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
        assert_eq!(base(&[ipv6]).unwrap(), "http://[fd00:ec2::254]/");
        let moved = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9");
        assert_eq!(base(&[ipv6, moved]).unwrap(), "http://127.0.0.1:9/");
        assert!(base(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "nowhere")]).is_err());
    }
}
