//! STS's query API, version 2011-06-15.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html>

use std::sync::Arc;

use jiff::SignedDuration;

use crate::clock;
use crate::ec2::{
    ACCOUNT, Accounts, ApiError, Node, Principal, Result, Session, Xml, form, request_id,
    xml_response,
};
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Service};
use crate::sigv4::{self, Flaw};

const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The service behind STS's endpoint.
#[derive(Debug)]
pub(crate) struct Sts {
    accounts: Arc<Accounts>,
}

impl Sts {
    pub(crate) fn new(accounts: Arc<Accounts>) -> Self {
        Sts { accounts }
    }

    fn answer(&self, request: &Request) -> Result<String> {
        let mut params = form(request)?;
        let action = params
            .text("Action")?
            .ok_or_else(|| ApiError::client("MissingAction", "Missing Action"))?;
        let version = params.required("Version")?;
        let result = match action.as_str() {
            _ if version != VERSION => Err(no_such_action(&action, &version)),
            "AssumeRoleWithWebIdentity" => self.assume_role_with_web_identity(&mut params),
            "AssumeRole" => {
                self.authenticate(request)?;
                self.assume_role(&mut params)
            }
            "GetCallerIdentity" => {
                let principal = self.authenticate(request)?;
                params.finish()?;
                Ok(caller_identity(&principal))
            }
            "DecodeAuthorizationMessage" => {
                let principal = self.authenticate(request)?;
                self.decode_authorization_message(&principal, &mut params)
            }
            _ => Err(no_such_action(&action, &version)),
        }?;
        let mut xml = Xml::piece();
        xml.node(&format!("{action}Result"), |xml| xml.put(result));
        xml.node("ResponseMetadata", |xml| {
            xml.text("RequestId", request_id())
        });
        Ok(Xml::document(
            &format!("{action}Response"),
            Some(NAMESPACE),
            xml,
        ))
    }

    fn authenticate(&self, request: &Request) -> Result<Principal> {
        let now = clock::now();
        let signed = sigv4::verify(&request.parts, &request.body, "sts", now, |key| {
            self.accounts.key(key)
        })
        .map_err(refusal)?;
        self.accounts
            .principal(&signed.access_key)
            .ok_or_else(|| refusal(Flaw::UnknownKey))
    }

    fn assume_role_with_web_identity(&self, params: &mut Node) -> Result<Xml> {
        let role = params.required("RoleArn")?;
        let session = session_name(params)?;
        let token = params.required("WebIdentityToken")?;
        params.text("ProviderId")?;
        let lifetime = lifetime(params)?;
        params.finish()?;
        let subject = self.accounts.check_web_token(&token)?;
        if role != Accounts::role_arn() {
            return Err(denied(
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            ));
        }
        let principal = Principal::Launcher { session };
        let credentials = self.accounts.session(principal.clone(), lifetime);
        let mut xml = Xml::piece();
        write_session(&mut xml, &principal, &credentials);
        xml.text("SubjectFromWebIdentityToken", subject);
        xml.text("Audience", "sts.amazonaws.com");
        xml.text(
            "Provider",
            format!("arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"),
        );
        Ok(xml)
    }

    fn assume_role(&self, params: &mut Node) -> Result<Xml> {
        let role = params.required("RoleArn")?;
        let session = session_name(params)?;
        params.text("ExternalId")?;
        let lifetime = lifetime(params)?;
        params.finish()?;
        if role != Accounts::role_arn() {
            return Err(denied(&format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {role}",
                Principal::User.arn()
            )));
        }
        let principal = Principal::Launcher { session };
        let credentials = self.accounts.session(principal.clone(), lifetime);
        let mut xml = Xml::piece();
        write_session(&mut xml, &principal, &credentials);
        Ok(xml)
    }

    fn decode_authorization_message(
        &self,
        principal: &Principal,
        params: &mut Node,
    ) -> Result<Xml> {
        let encoded = params.required("EncodedMessage")?;
        params.finish()?;
        let action = "sts:DecodeAuthorizationMessage";
        if !self.accounts.allows(principal, action) {
            return Err(denied(&format!(
                "User: {} is not authorized to perform: {action} because no identity-based policy \
                 allows the {action} action",
                principal.arn()
            )));
        }
        let message = self.accounts.decode_failure(&encoded).ok_or_else(|| {
            ApiError::client(
                "InvalidAuthorizationMessageException",
                "Failed to decode message",
            )
        })?;
        let mut xml = Xml::piece();
        xml.text("DecodedMessage", message);
        Ok(xml)
    }
}

impl Service for Sts {
    fn classify(&self, request: &Request) -> String {
        let action = form(request)
            .ok()
            .and_then(|mut form| form.text("Action").ok().flatten())
            .unwrap_or_else(|| "unknown".into());
        format!("sts:{action}")
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Response {
        let error = match refusal {
            Refusal::Denied => denied("Access denied"),
            Refusal::Throttled => ApiError::client("Throttling", "Rate exceeded"),
            Refusal::Capacity => ApiError::new(503, "ServiceUnavailable", "Service Unavailable"),
            Refusal::Status(status @ 500..) => {
                ApiError::new(status, "InternalFailure", "An internal error has occurred")
            }
            Refusal::Status(403) => denied("Access denied"),
            Refusal::Status(status) => {
                ApiError::new(status, "ValidationError", "The request is invalid")
            }
        };
        error_response(&error)
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            match self.answer(&request) {
                Ok(document) => xml_response(200, document, None),
                Err(error) => error_response(&error),
            }
        })
    }
}

fn error_response(error: &ApiError) -> Response {
    let mut xml = Xml::piece();
    xml.node("Error", |xml| {
        xml.text(
            "Type",
            if error.status < 500 {
                "Sender"
            } else {
                "Receiver"
            },
        );
        xml.text("Code", &error.code);
        xml.text("Message", &error.message);
    });
    xml.text("RequestId", request_id());
    let document = Xml::document("ErrorResponse", Some(NAMESPACE), xml);
    xml_response(error.status, document, Some(&error.code))
}

/// What STS says to a flawed signature; unlike EC2 it tells the flaws apart.
fn refusal(flaw: Flaw) -> ApiError {
    let (code, message) = match flaw {
        Flaw::Missing => (
            "MissingAuthenticationToken",
            "Request is missing Authentication Token".into(),
        ),
        Flaw::Malformed(message) => ("IncompleteSignature", message),
        Flaw::Skewed { date, now } => (
            "SignatureDoesNotMatch",
            format!(
                "Signature expired: {} is now earlier than {} (5 min.)",
                clock::seconds(date),
                clock::seconds(now)
            ),
        ),
        Flaw::Scope(message) => ("SignatureDoesNotMatch", message),
        Flaw::UnknownKey | Flaw::Token => (
            "InvalidClientTokenId",
            "The security token included in the request is invalid.".into(),
        ),
        Flaw::Expired => (
            "ExpiredToken",
            "The security token included in the request is expired".into(),
        ),
        Flaw::Mismatch => (
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check \
             your AWS Secret Access Key and signing method. Consult the service documentation for \
             details."
                .into(),
        ),
    };
    ApiError::new(403, code, message)
}

fn denied(message: &str) -> ApiError {
    ApiError::new(403, "AccessDenied", message)
}

fn no_such_action(action: &str, version: &str) -> ApiError {
    ApiError::client(
        "InvalidAction",
        format!("Could not find operation {action} for version {version}"),
    )
}

/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
fn session_name(params: &mut Node) -> Result<String> {
    let name = params.required("RoleSessionName")?;
    let valid = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if !(2..=64).contains(&name.len()) || !name.chars().all(valid) {
        return Err(ApiError::client(
            "ValidationError",
            format!(
                "1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*"
            ),
        ));
    }
    Ok(name)
}

fn lifetime(params: &mut Node) -> Result<SignedDuration> {
    let seconds = params.number::<i64>("DurationSeconds")?.unwrap_or(3600);
    if !(900..=43200).contains(&seconds) {
        return Err(ApiError::client(
            "ValidationError",
            format!(
                "1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to \
                 satisfy constraint: Member must have a value between 900 and 43200"
            ),
        ));
    }
    Ok(SignedDuration::from_secs(seconds))
}

fn write_session(xml: &mut Xml, principal: &Principal, session: &Session) {
    xml.node("Credentials", |xml| {
        xml.text("AccessKeyId", &session.access_key);
        xml.text("SecretAccessKey", &session.secret);
        xml.text("SessionToken", &session.token);
        xml.text("Expiration", clock::seconds(session.expires));
    });
    xml.node("AssumedRoleUser", |xml| {
        xml.text("AssumedRoleId", principal.user_id());
        xml.text("Arn", principal.arn());
    });
    xml.text("PackedPolicySize", 1);
}

fn caller_identity(principal: &Principal) -> Xml {
    let mut xml = Xml::piece();
    xml.text("Arn", principal.arn());
    xml.text("UserId", principal.user_id());
    xml.text("Account", ACCOUNT);
    xml
}
