//! AWS Signature Version 4, from the receiving side.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far the date of a request may be from now.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// What is wrong with a request's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// There is none.
    Missing,
    /// It isn't one.
    Malformed(String),
    /// Its date is too far from now.
    Skewed { date: Timestamp, now: Timestamp },
    /// It is for another service or region.
    Scope(String),
    /// Nobody has this access key.
    UnknownKey,
    /// The session token isn't the key's.
    Token,
    /// The session is over.
    Expired,
    /// Something differs between what was signed and what came in, or the secret is wrong.
    Mismatch,
}

/// What the receiver knows about an access key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) secret: String,
    pub(crate) session_token: Option<String>,
    pub(crate) expires: Option<Timestamp>,
}

/// Who signed, and for where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) access_key: String,
    pub(crate) region: String,
}

/// The parts of an Authorization header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authorization<'a> {
    access_key: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
    headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Self, Flaw> {
        let malformed = |what: &str| Flaw::Malformed(what.into());
        let rest = text
            .strip_prefix(ALGORITHM)
            .ok_or_else(|| malformed("the algorithm isn't AWS4-HMAC-SHA256"))?;
        let fields: BTreeMap<&str, &str> = rest
            .split(',')
            .filter_map(|field| field.trim().split_once('='))
            .collect();
        let field = |name: &str| {
            fields
                .get(name)
                .copied()
                .ok_or_else(|| malformed(&format!("Authorization header requires '{name}'")))
        };
        let scope: Vec<&str> = field("Credential")?.split('/').collect();
        let [access_key, day, region, service, "aws4_request"] = scope[..] else {
            return Err(malformed("Credential must have exactly 5 parts"));
        };
        Ok(Authorization {
            access_key,
            day,
            region,
            service,
            headers: field("SignedHeaders")?.split(';').collect(),
            signature: field("Signature")?,
        })
    }
}

/// Checks a request's signature. `key` looks up an access key.
pub(crate) fn verify(
    parts: &Parts,
    body: &[u8],
    service: &str,
    now: Timestamp,
    key: impl FnOnce(&str) -> Option<Key>,
) -> Result<Signed, Flaw> {
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let authorization = Authorization::parse(header("authorization").ok_or(Flaw::Missing)?)?;
    let stamp = header("x-amz-date")
        .ok_or_else(|| Flaw::Malformed("the header X-Amz-Date is missing".into()))?;
    let date = read_date(stamp)
        .ok_or_else(|| Flaw::Malformed(format!("{stamp:?} is not a date in basic format")))?;
    if !stamp.starts_with(authorization.day) {
        return Err(Flaw::Malformed(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date".into(),
        ));
    }
    if date.duration_since(now).abs() > TOLERANCE {
        return Err(Flaw::Skewed { date, now });
    }
    if authorization.service != service {
        return Err(Flaw::Scope(format!(
            "Credential should be scoped to correct service: '{service}'."
        )));
    }
    let known = key(authorization.access_key).ok_or(Flaw::UnknownKey)?;
    if known.session_token.as_deref() != header("x-amz-security-token") {
        return Err(Flaw::Token);
    }
    for name in parts.headers.keys().map(http::HeaderName::as_str) {
        let must = name == "host" || name.starts_with("x-amz-");
        if must && !authorization.headers.contains(&name) {
            return Err(Flaw::Mismatch);
        }
    }
    let canonical = canonical_request(parts, body, &authorization.headers).ok_or(Flaw::Mismatch)?;
    let expected = signature(&known.secret, &authorization, stamp, &canonical);
    if expected != authorization.signature {
        return Err(Flaw::Mismatch);
    }
    if known.expires.is_some_and(|expires| expires <= now) {
        return Err(Flaw::Expired);
    }
    Ok(Signed {
        access_key: authorization.access_key.into(),
        region: authorization.region.into(),
    })
}

/// The request in the one form that both sides hash; `None` when a header that was signed isn't
/// there, or their list isn't sorted.
fn canonical_request(parts: &Parts, body: &[u8], headers: &[&str]) -> Option<String> {
    if !headers.is_sorted() {
        return None;
    }
    let mut text = format!(
        "{}\n{}\n{}\n",
        parts.method,
        canonical_path(parts.uri.path()),
        canonical_query(parts.uri.query().unwrap_or_default())
    );
    for name in headers {
        let values: Vec<String> = parts
            .headers
            .get_all(*name)
            .iter()
            .map(|value| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                value.split_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        if values.is_empty() {
            return None;
        }
        text.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    text.push_str(&format!("\n{}\n{}", headers.join(";"), hash(body)));
    Some(text)
}

/// The path without `.`, `..` and doubled slashes, its parts encoded once more (all services but S3
/// do so).
fn canonical_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let mut text: String = parts
        .iter()
        .map(|part| format!("/{}", encode(part)))
        .collect();
    if text.is_empty() || path.ends_with('/') {
        text.push('/');
    }
    text
}

/// The query's parameters, sorted by name and value.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (encode(&name), encode(&value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Everything but letters, digits, `-`, `.`, `_` and `~` as `%XX`.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn signature(
    secret: &str,
    authorization: &Authorization<'_>,
    stamp: &str,
    canonical: &str,
) -> String {
    let Authorization {
        day,
        region,
        service,
        ..
    } = authorization;
    let text = format!(
        "{ALGORITHM}\n{stamp}\n{day}/{region}/{service}/aws4_request\n{}",
        hash(canonical.as_bytes())
    );
    let key = [*day, *region, *service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| {
            hmac(&key, part.as_bytes())
        });
    hex(&hmac(&key, text.as_bytes()))
}

/// HMAC with SHA-256.
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length, so there is no error to handle.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `20150830T123600Z`.
fn read_date(stamp: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS_KEY: &str = "AKIDEXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// A request of AWS's published test suite, signed by `signature`.
    fn request(
        method: &str,
        uri: &str,
        extra: &[(&str, &str)],
        service: &str,
        signature: &str,
    ) -> Parts {
        let mut names: Vec<&str> = vec!["host", "x-amz-date"];
        names.extend(extra.iter().map(|(name, _)| *name));
        names.sort_unstable();
        names.dedup();
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("x-amz-date", "20150830T123600Z")
            .header(
                "authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20150830/us-east-1/{service}/aws4_request, \
                     SignedHeaders={}, Signature={signature}",
                    names.join(";")
                ),
            );
        if !extra.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "example.amazonaws.com");
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn now() -> Timestamp {
        "2015-08-30T12:36:00Z".parse().unwrap()
    }

    fn key(id: &str) -> Option<Key> {
        (id == ACCESS_KEY).then(|| Key {
            secret: SECRET.into(),
            session_token: None,
            expires: None,
        })
    }

    #[test]
    fn published_examples_are_accepted() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let service = "service";
        for (name, parts, body, service) in [
            (
                "get-vanilla",
                request(
                    "GET",
                    "/",
                    &[],
                    service,
                    "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
                ),
                "",
                service,
            ),
            (
                "get-vanilla-query-order-key-case",
                request(
                    "GET",
                    "/?Param2=value2&Param1=value1",
                    &[],
                    service,
                    "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
                ),
                "",
                service,
            ),
            (
                "post-vanilla",
                request(
                    "POST",
                    "/",
                    &[],
                    service,
                    "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
                ),
                "",
                service,
            ),
            (
                "post-x-www-form-urlencoded",
                request(
                    "POST",
                    "/",
                    &[form],
                    service,
                    "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
                ),
                "Param1=value1",
                service,
            ),
            (
                "the guide's ListUsers",
                request(
                    "GET",
                    "/?Action=ListUsers&Version=2010-05-08",
                    &[
                        ("host", "iam.amazonaws.com"),
                        (
                            "content-type",
                            "application/x-www-form-urlencoded; charset=utf-8",
                        ),
                    ],
                    "iam",
                    "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
                ),
                "",
                "iam",
            ),
        ] {
            assert_eq!(
                verify(&parts, body.as_bytes(), service, now(), key),
                Ok(Signed {
                    access_key: ACCESS_KEY.into(),
                    region: "us-east-1".into()
                }),
                "{name}"
            );
        }
    }

    #[test]
    fn any_change_is_noticed() {
        let good = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        let parts = || request("POST", "/", &[], "service", good);
        let check = |parts: &Parts, body: &str, now, service| {
            verify(parts, body.as_bytes(), service, now, key)
        };
        assert!(check(&parts(), "", now(), "service").is_ok());
        assert_eq!(check(&parts(), "x", now(), "service"), Err(Flaw::Mismatch));
        assert!(matches!(
            check(&parts(), "", now(), "ec2"),
            Err(Flaw::Scope(_))
        ));
        let late = now() + SignedDuration::from_mins(6);
        assert!(matches!(
            check(&parts(), "", late, "service"),
            Err(Flaw::Skewed { .. })
        ));
        let mut other = parts();
        other
            .headers
            .insert("x-amz-extra", "unsigned".parse().unwrap());
        assert_eq!(check(&other, "", now(), "service"), Err(Flaw::Mismatch));
        let mut other = parts();
        other
            .headers
            .insert("x-amz-security-token", "t".parse().unwrap());
        assert_eq!(check(&other, "", now(), "service"), Err(Flaw::Token));
        let mut other = parts();
        other.uri = "/other".parse().unwrap();
        assert_eq!(check(&other, "", now(), "service"), Err(Flaw::Mismatch));
        let mut other = parts();
        other.headers.remove("authorization");
        assert_eq!(check(&other, "", now(), "service"), Err(Flaw::Missing));
        let nobody = verify(&parts(), b"", "service", now(), |_| None);
        assert_eq!(nobody, Err(Flaw::UnknownKey));
        let ended = |_: &str| {
            Some(Key {
                secret: SECRET.into(),
                session_token: None,
                expires: Some(now()),
            })
        };
        assert_eq!(
            verify(&parts(), b"", "service", now(), ended),
            Err(Flaw::Expired)
        );
    }

    #[test]
    fn paths_and_queries_take_their_canonical_form() {
        assert_eq!(canonical_path(""), "/");
        assert_eq!(canonical_path("/a/../b/./c//d/"), "/b/c/d/");
        assert_eq!(canonical_path("/%20"), "/%2520");
        assert_eq!(canonical_query("b=2&a=x%20y+z&a="), "a=&a=x%20y%20z&b=2");
    }
}
