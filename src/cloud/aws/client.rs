//! The query API of EC2 and STS: parameters in, signed, XML out; refusals become errors here.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::credentials::{Chain, Keys};
use super::denial::Denial;
use super::refusal::{Refusal, judge};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy, Request};

/// The services that this cloud is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Ec2,
    Sts,
}

impl Service {
    /// The name that people know it by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Service::Ec2 => "EC2",
            Service::Sts => "STS",
        }
    }

    /// The name in addresses and signatures.
    fn id(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::Sts => "sts",
        }
    }

    /// The API's version, the only one of each.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html>
    /// <https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html>
    fn version(self) -> &'static str {
        match self {
            Service::Ec2 => "2016-11-15",
            Service::Sts => "2011-06-15",
        }
    }

    /// Where the service is, in a region.
    /// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
    fn endpoint(self, host: &Host, region: &str) -> Result<Url> {
        let own = match self {
            Service::Ec2 => "AWS_ENDPOINT_URL_EC2",
            Service::Sts => "AWS_ENDPOINT_URL_STS",
        };
        for name in [own, "AWS_ENDPOINT_URL"] {
            if let Some(text) = host.env(name) {
                return Url::parse(text)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                    .ok_or(Error::usage(format!(
                        "{name} is no address such as https://host:port"
                    )));
            }
        }
        let suffix = match region.starts_with("cn-") {
            true => "amazonaws.com.cn",
            false => "amazonaws.com",
        };
        Url::parse(&format!("https://{}.{region}.{suffix}/", self.id()))
            .map_err(|error| Error::usage(format!("`{region}` is no region")).caused_by(error))
    }
}

/// An action and its parameters.
#[derive(Debug, Clone)]
pub(super) struct Query {
    service: Service,
    action: &'static str,
    params: Vec<(String, String)>,
}

impl Query {
    pub(super) fn ec2(action: &'static str) -> Self {
        Self::new(Service::Ec2, action)
    }

    pub(super) fn sts(action: &'static str) -> Self {
        Self::new(Service::Sts, action)
    }

    fn new(service: Service, action: &'static str) -> Self {
        Self {
            service,
            action,
            params: Vec::new(),
        }
    }

    /// Adds a parameter.
    pub(super) fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// Adds a numbered list.
    pub(super) fn list<V: Into<String>>(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        for (index, value) in values.into_iter().enumerate() {
            self.params
                .push((format!("{name}.{}", index + 1), value.into()));
        }
        self
    }

    /// Adds a filter: any of the values.
    pub(super) fn filter<V: Into<String>>(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let known = self
            .params
            .iter()
            .filter(|(name, _)| name.starts_with("Filter.") && name.ends_with(".Name"))
            .count();
        let number = known + 1;
        self.params
            .push((format!("Filter.{number}.Name"), name.to_owned()));
        self.list(&format!("Filter.{number}.Value"), values)
    }

    #[cfg(test)]
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn body(&self) -> Bytes {
        let fixed = [("Action", self.action), ("Version", self.service.version())];
        let params = self
            .params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let mut body = String::new();
        for (name, value) in fixed.into_iter().chain(params) {
            if !body.is_empty() {
                body.push('&');
            }
            encode(name, &mut body);
            body.push('=');
            encode(value, &mut body);
        }
        body.into()
    }
}

/// Form encoding that leaves only RFC 3986's unreserved characters as they are. The browser's rule
/// differs (`*` and `~`), and servers that check a signature over a body that they have read and
/// written again need the common one.
fn encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                to.push(char::from(byte));
            }
            b' ' => to.push('+'),
            _ => to.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service said no.
    Refused(Refusal),
    /// It didn't come to an answer, or to one that can be read.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Broken(error)
    }
}

impl Failure {
    /// The service's code.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Failure::Refused(refusal) => Some(&refusal.code),
            Failure::Broken(_) => None,
        }
    }

    /// The error of what was being done.
    pub(super) fn during(self, doing: impl Into<String>) -> Error {
        match self {
            Failure::Refused(refusal) => refusal.during(doing),
            Failure::Broken(error) => error.during(doing),
        }
    }
}

/// Sends one query, signed with `keys` where there are any. Every query of ours may be repeated:
/// reads by nature, writes by client token, name, or being idempotent themselves.
pub(super) async fn exchange<T: DeserializeOwned>(
    host: &Host,
    http: &Http,
    region: &str,
    query: &Query,
    keys: Option<&Keys>,
    policy: Policy,
) -> Result<T, Failure> {
    let service = query.service;
    let endpoint = service.endpoint(host, region)?;
    let what = format!("{}:{}", service.id(), query.action);
    let body = query.body();
    let build = || {
        let mut request = Request::new(Method::POST, endpoint.clone());
        request.body = body.clone();
        request.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
        );
        if let Some(keys) = keys {
            signed(&mut request, keys, service.id(), region, host.now().into())?;
        }
        Ok(request)
    };
    let reply = http
        .send(&what, policy, build, |reply| judge(service, reply))
        .await?;
    if reply.status != StatusCode::OK {
        return Err(Failure::Refused(Refusal::read(service, &reply)));
    }
    quick_xml::de::from_str(&reply.text()).map_err(|error| {
        Failure::Broken(Error::other(format!("reading the answer to {what}")).caused_by(error))
    })
}

/// Adds a signature, version 4, to a request.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>
fn signed(
    request: &mut Request,
    keys: &Keys,
    service: &str,
    region: &str,
    now: SystemTime,
) -> Result<()> {
    let identity = Credentials::new(
        &keys.id,
        keys.secret.expose(),
        keys.token.as_ref().map(|token| token.expose().to_owned()),
        None,
        "runner-launch",
    )
    .into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| Error::other("preparing a signature").caused_by(error))?
        .into();
    let failed = |error| Error::other("signing a request").caused_by(error);
    let headers = request
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(
        request.method.as_str(),
        request.url.as_str(),
        headers,
        SignableBody::Bytes(&request.body),
    )
    .map_err(failed)?;
    let (instructions, _) = sign(signable, &params).map_err(failed)?.into_parts();
    let (headers, _) = instructions.into_parts();
    for added in headers {
        let mut value = HeaderValue::from_str(added.value())
            .map_err(|_| Error::usage("the AWS keys hold characters that no key has"))?;
        value.set_sensitive(true);
        request
            .headers
            .insert(HeaderName::from_static(added.name()), value);
    }
    Ok(())
}

/// EC2 and STS with credentials.
#[derive(Debug)]
pub(super) struct Client {
    host: Host,
    http: Http,
    chain: Chain,
}

impl Client {
    pub(super) fn new(host: Host, http: Http) -> Self {
        let chain = Chain::new(host.clone(), http.clone());
        Self { host, http, chain }
    }

    /// Makes sure of the credentials, so that their lack is told as that, and not as the failure of
    /// whatever came first.
    pub(super) async fn ready(&self, region: &str) -> Result<()> {
        self.chain.keys(region).await.map(drop)
    }

    /// Sends a query and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        region: &str,
        query: &Query,
    ) -> Result<T, Failure> {
        self.call_within(region, query, Policy::IDEMPOTENT).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        region: &str,
        query: &Query,
        policy: Policy,
    ) -> Result<T, Failure> {
        let keys = self.chain.keys(region).await?;
        exchange(&self.host, &self.http, region, query, Some(&keys), policy).await
    }

    /// The error of what was being done. A denial that EC2 encoded is decoded, where that is
    /// allowed, so that the error names what is missing.
    pub(super) async fn error(
        &self,
        region: &str,
        doing: impl Into<String>,
        failure: Failure,
    ) -> Error {
        let encoded = match &failure {
            Failure::Refused(refusal) => refusal.encoded.clone(),
            Failure::Broken(_) => None,
        };
        let error = failure.during(doing);
        let Some(encoded) = encoded else {
            return error;
        };
        match self.decode(region, &encoded).await {
            Some(denial) => error.hint(denial.hint()),
            None => error.hint(format!(
                "who may sts:DecodeAuthorizationMessage sees which permission is missing: aws sts \
                 decode-authorization-message --encoded-message {encoded}"
            )),
        }
    }

    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html>
    async fn decode(&self, region: &str, encoded: &str) -> Option<Denial> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "DecodeAuthorizationMessageResult")]
            result: Decoded,
        }
        #[derive(Deserialize)]
        struct Decoded {
            #[serde(rename = "DecodedMessage")]
            message: String,
        }
        /// Only a better message depends on it.
        const BRIEFLY: Policy = Policy {
            tries: 1,
            total: Duration::from_secs(5),
            per_try: Some(Duration::from_secs(5)),
            idempotent: true,
        };
        let query = Query::sts("DecodeAuthorizationMessage").set("EncodedMessage", encoded);
        let answer: Answer = self.call_within(region, &query, BRIEFLY).await.ok()?;
        Denial::read(&answer.result.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn keys(token: Option<&str>) -> Keys {
        Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            token: token.map(Secret::new),
        }
    }

    /// The case `post-x-www-form-urlencoded` of AWS's published Signature Version 4 test suite.
    #[test]
    fn a_published_request_gets_its_published_signature() {
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        let mut request = Request::new(Method::POST, url);
        request.body = Bytes::from_static(b"Param1=value1");
        request.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        signed(&mut request, &keys(None), "service", "us-east-1", at).unwrap();
        assert_eq!(
            request.headers[header::AUTHORIZATION],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
        assert!(request.headers[header::AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn a_session_token_is_sent_signed_and_hidden() {
        let mut request = Request::new(Method::POST, Url::parse("http://127.0.0.1:1/").unwrap());
        signed(
            &mut request,
            &keys(Some("tok")),
            "ec2",
            "us-east-1",
            SystemTime::UNIX_EPOCH,
        )
        .unwrap();
        let token = &request.headers["x-amz-security-token"];
        assert_eq!(token, "tok");
        assert!(token.is_sensitive());
        let authorization = request.headers[header::AUTHORIZATION].to_str().unwrap();
        assert!(
            authorization.contains("x-amz-security-token"),
            "{authorization}"
        );
    }

    #[test]
    fn queries_are_numbered_and_encoded() {
        let query = Query::ec2("DescribeImages")
            .list("Owner", ["amazon", "self"])
            .filter("name", ["a b*~", "c&dé"])
            .filter("state", ["available"]);
        assert_eq!(
            query.body(),
            "Action=DescribeImages&Version=2016-11-15&Owner.1=amazon&Owner.2=self\
             &Filter.1.Name=name&Filter.1.Value.1=a+b%2A~&Filter.1.Value.2=c%26d%C3%A9\
             &Filter.2.Name=state&Filter.2.Value.1=available"
        );
    }

    #[test]
    fn endpoints_follow_region_and_environment() {
        let none = Host::fixed::<&str, &str>([]);
        let url = |service: Service, host: &Host, region| {
            service.endpoint(host, region).unwrap().to_string()
        };
        assert_eq!(
            url(Service::Ec2, &none, "us-west-1"),
            "https://ec2.us-west-1.amazonaws.com/"
        );
        assert_eq!(
            url(Service::Sts, &none, "cn-north-1"),
            "https://sts.cn-north-1.amazonaws.com.cn/"
        );
        let all = Host::fixed([
            ("AWS_ENDPOINT_URL", "http://a:1"),
            ("AWS_ENDPOINT_URL_STS", "http://b:2"),
        ]);
        assert_eq!(url(Service::Ec2, &all, "us-west-1"), "http://a:1/");
        assert_eq!(url(Service::Sts, &all, "us-west-1"), "http://b:2/");
        let bad = Host::fixed([("AWS_ENDPOINT_URL", "a:1")]);
        assert!(Service::Ec2.endpoint(&bad, "us-west-1").is_err());
    }
}
