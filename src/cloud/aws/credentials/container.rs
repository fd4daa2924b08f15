//! The credentials service of ECS and of EKS Pod Identity.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use url::{Host as UrlHost, Url};

use super::{Context, Found, Written, denied};
use crate::error::Result;
use crate::http::{Policy, Request, redacted};
use crate::secret::Secret;

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Where ECS serves them.
const ECS: &str = "http://169.254.170.2";

/// What else may serve them without TLS, beside this machine itself: ECS, and EKS in both
/// address families.
const LINK_LOCAL: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

pub(super) async fn keys(context: Context<'_>) -> Found {
    let host = context.host;
    let url = match (host.env(RELATIVE), host.env(FULL)) {
        (Some(path), _) => address(&format!("{ECS}/{}", path.trim_start_matches('/')), RELATIVE)?,
        (None, Some(full)) => address(full, FULL)?,
        (None, None) => return Ok(None),
    };
    let token = match (host.env(TOKEN_FILE), host.env(TOKEN)) {
        (Some(file), _) => Some(Secret::new(
            tokio::fs::read_to_string(file)
                .await
                .map_err(|error| denied(format!("reading {TOKEN_FILE}")).caused_by(error))?
                .trim(),
        )),
        (None, token) => token.map(Secret::new),
    };
    let build = || {
        let mut request = Request::new(Method::GET, url.clone());
        if let Some(token) = &token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|_| {
                denied("the container's authorization token has a line break in it")
            })?;
            value.set_sensitive(true);
            request.headers.insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    };
    let doing = || denied(format!("asking {} for AWS credentials", redacted(&url)));
    let reply = context
        .http
        .send_direct("container:GET", Policy::LOCAL, build)
        .await
        .map_err(|error| doing().caused_by(error))?;
    if reply.status != StatusCode::OK {
        return Err(doing().caused_by(format!("it answered {}", reply.status)));
    }
    let written: Written =
        serde_json::from_slice(&reply.body).map_err(|error| doing().caused_by(error))?;
    Ok(Some(written.into()))
}

/// An address that may be trusted with our authorization, and that may give us keys.
fn address(text: &str, variable: &str) -> Result<Url> {
    let url = Url::parse(text)
        .map_err(|error| denied(format!("{variable} is no address")).caused_by(error))?;
    let allowed = |ip: IpAddr| ip.is_loopback() || LINK_LOCAL.contains(&ip);
    let good = match (url.scheme(), url.host()) {
        ("https", Some(_)) | ("http", Some(UrlHost::Domain("localhost"))) => true,
        ("http", Some(UrlHost::Ipv4(ip))) => allowed(ip.into()),
        ("http", Some(UrlHost::Ipv6(ip))) => allowed(ip.into()),
        _ => false,
    };
    if !good {
        return Err(denied(format!(
            "{variable} leads to {}: without TLS, only this machine, ECS and EKS may give credentials",
            redacted(&url)
        )));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_only_from_where_they_may() {
        let good = [
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:8080/",
            "http://[::1]/",
            "http://localhost/x",
            "https://vault.example/aws",
        ];
        for text in good {
            assert!(address(text, FULL).is_ok(), "{text}");
        }
        let bad = [
            "http://169.254.170.3/",
            "http://169.254.170.2.evil.example/",
            "http://169.254.170.2@evil.example/",
            "http://10.0.0.1/",
            "http://localhost.evil.example/",
            "ftp://127.0.0.1/",
            "127.0.0.1",
        ];
        for text in bad {
            assert!(address(text, FULL).is_err(), "{text}");
        }
    }
}
