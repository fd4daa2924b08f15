//! What EC2 and STS answer when they refuse, and what it means for us.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

use super::client::Service;
use crate::error::{Error, Kind};
use crate::http::{Reply, Verdict};

/// A refusal in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) service: Service,
    /// The code; the HTTP status where the body held none.
    pub(super) code: String,
    pub(super) message: String,
    /// The encoded account of a denial, which `sts:DecodeAuthorizationMessage` can read.
    pub(super) encoded: Option<String>,
    /// Whether the service itself failed, and may have done it all the same.
    pub(super) failed: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.service.name(), self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// What a code means.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Who we say we are isn't believed.
    Credentials,
    /// We are known, and may not.
    Permission,
    /// No capacity in this zone; another zone may have some.
    ZoneCapacity,
    /// A quota of this type's class in the region; another class may have room.
    Quota,
    /// The same call may succeed later.
    Later,
    /// What the call is about doesn't exist, or not yet.
    Missing,
    /// Everything else.
    Other,
}

impl Meaning {
    pub(super) fn of(code: &str) -> Self {
        match code {
            "AuthFailure"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "UnrecognizedClientException"
            | "MissingAuthenticationToken"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "InvalidIdentityToken"
            | "IDPRejectedClaim"
            | "NotSignedUp" => Self::Credentials,
            "UnauthorizedOperation"
            | "AccessDenied"
            | "AccessDeniedException"
            | "Blocked"
            | "OptInRequired"
            | "PendingVerification"
            | "RegionDisabledException" => Self::Permission,
            "InsufficientInstanceCapacity"
            | "InsufficientHostCapacity"
            | "InsufficientReservedInstanceCapacity"
            | "InsufficientCapacity"
            | "InsufficientFreeAddressesInSubnet"
            | "InsufficientAddressCapacity"
            | "SpotMaxPriceTooLow"
            | "Unsupported" => Self::ZoneCapacity,
            "VcpuLimitExceeded" | "InstanceLimitExceeded" | "MaxSpotInstanceCountExceeded" => {
                Self::Quota
            }
            "RequestLimitExceeded"
            | "Throttling"
            | "ThrottlingException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "EC2ThrottledException"
            | "TooManyRequestsException"
            | "SlowDown"
            | "IDPCommunicationError"
            | "InternalError"
            | "InternalFailure"
            | "ServiceUnavailable"
            | "Unavailable" => Self::Later,
            code if code.ends_with(".NotFound") => Self::Missing,
            _ => Self::Other,
        }
    }

    /// The kind of error that the user sees.
    fn kind(self) -> Kind {
        match self {
            Self::Credentials | Self::Permission => Kind::Denied,
            Self::ZoneCapacity | Self::Quota => Kind::Capacity,
            Self::Later | Self::Missing | Self::Other => Kind::Other,
        }
    }
}

#[derive(Deserialize)]
struct Ec2Body {
    #[serde(rename = "Errors")]
    errors: Ec2Errors,
}

#[derive(Deserialize)]
struct Ec2Errors {
    #[serde(rename = "Error")]
    error: Vec<Said>,
}

#[derive(Deserialize)]
struct StsBody {
    #[serde(rename = "Error")]
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

const ENCODED: &str = "Encoded authorization failure message:";

impl Refusal {
    /// Reads an answer that is no success.
    pub(super) fn read(service: Service, reply: &Reply) -> Self {
        let text = reply.text();
        let said = quick_xml::de::from_str::<Ec2Body>(&text)
            .ok()
            .and_then(|body| body.errors.error.into_iter().next())
            .or_else(|| {
                quick_xml::de::from_str::<StsBody>(&text)
                    .ok()
                    .map(|body| body.error)
            });
        let Some(said) = said else {
            return Self {
                service,
                code: reply.status.to_string(),
                message: String::new(),
                encoded: None,
                failed: reply.status.is_server_error(),
            };
        };
        let (message, encoded) = match said.message.split_once(ENCODED) {
            Some((before, encoded)) => {
                let encoded = encoded.trim();
                (
                    before.trim().to_owned(),
                    (!encoded.is_empty()).then(|| encoded.to_owned()),
                )
            }
            None => (said.message.trim().to_owned(), None),
        };
        Self {
            service,
            // Some gateways put the fault's side before the code.
            code: said
                .code
                .trim_start_matches("Client.")
                .trim_start_matches("Server.")
                .to_owned(),
            message,
            encoded,
            failed: reply.status.is_server_error(),
        }
    }

    pub(super) fn meaning(&self) -> Meaning {
        Meaning::of(&self.code)
    }

    /// The error of what was being done, with the advice that the code calls for.
    pub(super) fn during(self, doing: impl Into<String>) -> Error {
        let meaning = self.meaning();
        let hint = self.hint();
        // A failure inside the service says nothing about what was done, but for want of capacity.
        let certain = !self.failed || matches!(meaning, Meaning::ZoneCapacity | Meaning::Quota);
        let mut error = Error::new(meaning.kind(), doing).caused_by(self);
        if certain {
            error = error.refused();
        }
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self.code.as_str() {
            "AuthFailure" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary keys, \
                 AWS_SESSION_TOKEN; in a region that must be enabled first, enable it"
            }
            "SignatureDoesNotMatch" | "IncompleteSignature" => {
                "check AWS_SECRET_ACCESS_KEY, and this machine's clock"
            }
            "RequestExpired" => "check this machine's clock, or renew the temporary keys",
            "ExpiredToken" | "ExpiredTokenException" => "the temporary keys are over: renew them",
            "InvalidIdentityToken" | "IDPRejectedClaim" => {
                "check that the role's trust policy names this identity provider, its audience \
                 and this pipeline"
            }
            "OptInRequired" | "RegionDisabledException" => {
                "enable the region, or finish signing up, in the AWS console"
            }
            "PendingVerification" => {
                "AWS is still verifying the account: try again in some minutes"
            }
            "InsufficientInstanceCapacity" => {
                "try again later, or give more to choose from: --cloud-type and --cloud-region \
                 take lists, and --cloud-spot-fallback ends on demand"
            }
            "SpotMaxPriceTooLow" => {
                "raise --cloud-spot-price, leave it out for the current price, or add \
                 --cloud-spot-fallback"
            }
            "Unsupported" => "choose another --cloud-type, --cloud-region or zone",
            "InsufficientFreeAddressesInSubnet" => {
                "the subnet has no free address left: name another one with --cloud-aws-subnet"
            }
            _ => return None,
        })
    }
}

/// Which answers are tried again. EC2 sends lack of capacity with status 500, and trying the
/// same zone again at once doesn't help.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/query-api-troubleshooting.html>
pub(super) fn judge(service: Service, reply: &Reply) -> Verdict {
    if reply.status == StatusCode::OK {
        return Verdict::Final;
    }
    match Refusal::read(service, reply).meaning() {
        Meaning::Later => Verdict::Retry(reply.retry_after()),
        Meaning::Other => Verdict::by_status(reply),
        _ => Verdict::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;

    fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    fn ec2(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
             <Message>words &amp; more</Message></Error></Errors>\
             <RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>"
        )
    }

    #[test]
    fn both_services_shapes_are_read() {
        let refusal = Refusal::read(Service::Ec2, &reply(400, ec2("InvalidInstanceID.NotFound")));
        assert_eq!(refusal.meaning(), Meaning::Missing);
        assert_eq!(
            refusal.to_string(),
            "EC2 answered InvalidInstanceID.NotFound: words & more"
        );
        let sts = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
                   <Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>No provider</Message>\
                   </Error><RequestId>6d2</RequestId></ErrorResponse>";
        let refusal = Refusal::read(Service::Sts, &reply(400, sts));
        assert_eq!(refusal.meaning(), Meaning::Credentials);
        let proxy = Refusal::read(Service::Ec2, &reply(502, "<html>"));
        assert_eq!(proxy.to_string(), "EC2 answered 502 Bad Gateway");
    }

    #[test]
    fn an_encoded_denial_is_kept_apart() {
        let body = ec2("UnauthorizedOperation").replace(
            "words &amp; more",
            "You are not authorized. Encoded authorization failure message: AbC-_1",
        );
        let refusal = Refusal::read(Service::Ec2, &reply(403, body));
        assert_eq!(refusal.message, "You are not authorized.");
        assert_eq!(refusal.encoded.as_deref(), Some("AbC-_1"));
    }

    /// What is tried again and what the user's exit code will be, pinned.
    #[test]
    fn the_table_of_codes() {
        let retry = true;
        let cases = [
            ("RequestLimitExceeded", 503, retry, Kind::Other),
            ("Throttling", 400, retry, Kind::Other),
            ("ThrottlingException", 400, retry, Kind::Other),
            ("RequestThrottled", 400, retry, Kind::Other),
            ("RequestThrottledException", 400, retry, Kind::Other),
            ("EC2ThrottledException", 400, retry, Kind::Other),
            ("TooManyRequestsException", 429, retry, Kind::Other),
            ("SlowDown", 503, retry, Kind::Other),
            ("IDPCommunicationError", 400, retry, Kind::Other),
            ("InternalError", 500, retry, Kind::Other),
            ("InternalFailure", 500, retry, Kind::Other),
            ("ServiceUnavailable", 503, retry, Kind::Other),
            ("Unavailable", 503, retry, Kind::Other),
            ("SomethingNew", 500, retry, Kind::Other),
            ("SomethingNew", 400, !retry, Kind::Other),
            ("IdempotentParameterMismatch", 400, !retry, Kind::Other),
            ("InvalidGroup.NotFound", 400, !retry, Kind::Other),
            ("InsufficientInstanceCapacity", 500, !retry, Kind::Capacity),
            ("InsufficientHostCapacity", 500, !retry, Kind::Capacity),
            (
                "InsufficientFreeAddressesInSubnet",
                400,
                !retry,
                Kind::Capacity,
            ),
            ("Unsupported", 400, !retry, Kind::Capacity),
            ("SpotMaxPriceTooLow", 400, !retry, Kind::Capacity),
            ("MaxSpotInstanceCountExceeded", 400, !retry, Kind::Capacity),
            ("VcpuLimitExceeded", 400, !retry, Kind::Capacity),
            ("InstanceLimitExceeded", 400, !retry, Kind::Capacity),
            ("AuthFailure", 401, !retry, Kind::Denied),
            ("SignatureDoesNotMatch", 403, !retry, Kind::Denied),
            ("InvalidClientTokenId", 403, !retry, Kind::Denied),
            ("ExpiredToken", 403, !retry, Kind::Denied),
            ("RequestExpired", 400, !retry, Kind::Denied),
            ("InvalidIdentityToken", 400, !retry, Kind::Denied),
            ("UnauthorizedOperation", 403, !retry, Kind::Denied),
            ("AccessDenied", 403, !retry, Kind::Denied),
            ("OptInRequired", 401, !retry, Kind::Denied),
        ];
        for (code, status, retried, kind) in cases {
            let reply = reply(status, ec2(code));
            let verdict = judge(Service::Ec2, &reply);
            assert_eq!(verdict != Verdict::Final, retried, "{code} {status}");
            let error = Refusal::read(Service::Ec2, &reply).during("launching");
            assert_eq!(error.kind(), kind, "{code}");
            assert_eq!(
                error.chain(),
                format!("launching: EC2 answered {code}: words & more")
            );
        }
        assert_eq!(judge(Service::Ec2, &reply(200, "")), Verdict::Final);
        assert_ne!(judge(Service::Ec2, &reply(502, "<html>")), Verdict::Final);
    }
}
