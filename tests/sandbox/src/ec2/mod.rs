//! EC2's query API, version 2016-11-15.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Welcome.html>

mod accounts;
mod catalogue;
mod control;
mod error;
mod images;
mod instances;
mod launch;
mod lifecycle;
mod network;
mod query;
mod run;
mod state;
mod types;
mod xml;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(crate) use self::accounts::{ACCOUNT, Accounts, Principal, ROLE, Session};
use self::catalogue::Region;
pub use self::control::{GroupView, InstanceView, SubnetView};
pub(crate) use self::error::{ApiError, Result};
use self::images::Image;
pub(crate) use self::query::Node;
use self::state::State;
pub(crate) use self::state::{Instance, Phase};
pub(crate) use self::xml::Xml;
use crate::calls::Wire;
use crate::clock;
use crate::fault::Refusal;
use crate::server::{Answer, Code, Request, Response, Server, Service};
use crate::sigv4::{self, Flaw, Signed};
use crate::sts::Sts;
use crate::{Config, instance};

const VERSION: &str = "2016-11-15";
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// A handle to the fake EC2.
#[derive(Debug, Clone)]
pub struct Ec2 {
    world: Arc<World>,
    servers: Arc<[Server; 2]>,
}

/// Everything that EC2 knows.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) wire: Arc<Wire>,
    pub(crate) config: Config,
    /// The sandbox's folder.
    pub(crate) folder: PathBuf,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) images: Vec<Image>,
    pub(crate) state: Mutex<State>,
}

impl Ec2 {
    pub(crate) async fn start(wire: Arc<Wire>, config: &Config, folder: &Path) -> io::Result<Self> {
        let shims = (folder.to_owned(), config.docker_installed);
        tokio::task::spawn_blocking(move || instance::install_shims(&shims.0, shims.1)).await??;
        let accounts = Arc::new(Accounts::new(wire.clone()));
        let world = Arc::new(World {
            wire: wire.clone(),
            config: config.clone(),
            folder: folder.to_owned(),
            accounts: accounts.clone(),
            images: images::catalogue(),
            state: Mutex::new(State::new()),
        });
        let api = Api {
            world: world.clone(),
        };
        let ec2 = Server::start(Arc::new(api), wire.clone()).await?;
        let sts = Server::start(Arc::new(Sts::new(accounts)), wire).await?;
        Ok(Ec2 {
            world,
            servers: Arc::new([ec2, sts]),
        })
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let (key, secret) = self.world.accounts.user();
        let mut env = vec![
            ("AWS_ACCESS_KEY_ID".into(), key),
            ("AWS_SECRET_ACCESS_KEY".into(), secret),
        ];
        env.extend(self.endpoints());
        env
    }

    pub(crate) fn accounts(&self) -> Arc<Accounts> {
        self.world.accounts.clone()
    }
}

/// One authenticated and authorized call.
pub(crate) struct Context<'a> {
    world: &'a Arc<World>,
    region: &'static Region,
    principal: Principal,
}

impl Context<'_> {
    /// Refuses an action that the caller's policy doesn't allow. What changes something says so in
    /// a form that only DecodeAuthorizationMessage reads.
    fn require(&self, action: &str, resource: &str) -> Result<()> {
        let accounts = &self.world.accounts;
        if accounts.allows(&self.principal, action) {
            return Ok(());
        }
        let mut message = format!(
            "You are not authorized to perform this operation. User: {} is not authorized to \
             perform: {action}",
            self.principal.arn()
        );
        let reads = action.starts_with("ec2:Describe") || action.starts_with("ec2:Get");
        if !reads {
            message.push_str(&format!(" on resource: {resource}"));
        }
        message.push_str(&format!(
            " because no identity-based policy allows the {action} action"
        ));
        if !reads {
            let encoded = accounts.encode_failure(&self.principal, action, resource);
            message.push_str(&format!(
                ". Encoded authorization failure message: {encoded}"
            ));
        }
        Err(ApiError::new(403, "UnauthorizedOperation", message))
    }
}

type Handler = fn(&Context<'_>, &mut Node) -> Result<Xml>;

/// The actions, and the kind of resource that each is about.
const ACTIONS: &[(&str, Handler, &str)] = &[
    (
        "AuthorizeSecurityGroupEgress",
        network::authorize_egress,
        "security-group",
    ),
    (
        "AuthorizeSecurityGroupIngress",
        network::authorize_ingress,
        "security-group",
    ),
    (
        "CreateSecurityGroup",
        network::create_security_group,
        "security-group",
    ),
    ("CreateTags", instances::create_tags, "instance"),
    ("DeleteKeyPair", network::delete_key_pair, "key-pair"),
    ("DescribeImages", images::describe_images, "image"),
    (
        "DescribeInstanceTypeOfferings",
        types::describe_instance_type_offerings,
        "instance",
    ),
    (
        "DescribeInstanceTypes",
        types::describe_instance_types,
        "instance",
    ),
    (
        "DescribeInstances",
        instances::describe_instances,
        "instance",
    ),
    (
        "DescribeSecurityGroups",
        network::describe_security_groups,
        "security-group",
    ),
    ("DescribeSubnets", network::describe_subnets, "subnet"),
    ("DescribeVpcs", network::describe_vpcs, "vpc"),
    (
        "GetConsoleOutput",
        instances::get_console_output,
        "instance",
    ),
    ("ImportKeyPair", network::import_key_pair, "key-pair"),
    ("RunInstances", launch::run_instances, "instance"),
    (
        "TerminateInstances",
        instances::terminate_instances,
        "instance",
    ),
];

/// The service behind EC2's endpoint, for all regions: a call's signature names its region.
#[derive(Debug)]
struct Api {
    world: Arc<World>,
}

impl Service for Api {
    fn classify(&self, request: &Request) -> String {
        let action = form(request)
            .ok()
            .and_then(|mut form| form.text("Action").ok().flatten())
            .unwrap_or_else(|| "unknown".into());
        format!("ec2:{action}")
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Response {
        let error = match refusal {
            Refusal::Denied => ApiError::new(
                403,
                "UnauthorizedOperation",
                "You are not authorized to perform this operation.",
            ),
            Refusal::Throttled => {
                ApiError::new(503, "RequestLimitExceeded", "Request limit exceeded.")
            }
            Refusal::Capacity => ApiError::capacity(
                "InsufficientInstanceCapacity",
                "the requested",
                "of your choice",
                false,
            ),
            Refusal::Status(status) => by_status(status),
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

impl Api {
    fn answer(&self, request: &Request) -> Result<String> {
        let mut params = form(request)?;
        let action = params.text("Action")?.ok_or_else(|| {
            ApiError::client(
                "MissingAction",
                "The request must contain the parameter Action",
            )
        })?;
        let version = params.required("Version")?;
        if version != VERSION {
            return Err(ApiError::client(
                "NoSuchVersion",
                format!("The requested version ({version}) of service AmazonEC2 does not exist"),
            ));
        }
        let Some((_, handler, kind)) = ACTIONS.iter().find(|(name, _, _)| *name == action) else {
            return Err(ApiError::client(
                "InvalidAction",
                format!("The action {action} is not valid for this web service."),
            ));
        };
        let signed = authenticate(&self.world.accounts, request)?;
        let region = catalogue::region(&signed.region).ok_or_else(not_validated)?;
        let principal = self
            .world
            .accounts
            .principal(&signed.access_key)
            .ok_or_else(not_validated)?;
        let context = Context {
            world: &self.world,
            region,
            principal,
        };
        let resource = format!("arn:aws:ec2:{}:{ACCOUNT}:{kind}/*", region.name);
        context.require(&format!("ec2:{action}"), &resource)?;
        if params.flag("DryRun")? == Some(true) {
            return Err(ApiError::new(
                412,
                "DryRunOperation",
                "Request would have succeeded, but DryRun flag is set.",
            ));
        }
        let answer = handler(&context, &mut params)?;
        let id = request_id();
        Ok(Xml::document(
            &format!("{action}Response"),
            Some(NAMESPACE),
            answer.after(|xml| xml.text("requestId", &id)),
        ))
    }
}

/// The parameters, of a POST's body or a GET's query.
pub(crate) fn form(request: &Request) -> Result<Node> {
    match request.parts.method {
        http::Method::POST => {
            let form = request
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
            if !form {
                return Err(ApiError::client(
                    "MissingAction",
                    "The request must contain the parameter Action",
                ));
            }
            Node::parse(&request.body)
        }
        _ => Node::parse(request.query().as_bytes()),
    }
}

/// What EC2 says to any credentials that it can't accept.
fn not_validated() -> ApiError {
    ApiError::new(
        401,
        "AuthFailure",
        "AWS was not able to validate the provided access credentials",
    )
}

/// EC2 doesn't tell an unknown key from a wrong signature, a wrong clock or a wrong token.
fn authenticate(accounts: &Accounts, request: &Request) -> Result<Signed> {
    sigv4::verify(&request.parts, &request.body, "ec2", clock::now(), |key| {
        accounts.key(key)
    })
    .map_err(|flaw| match flaw {
        Flaw::Missing => ApiError::new(
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        ),
        Flaw::Malformed(message) => ApiError::client("IncompleteSignature", message),
        Flaw::Expired => ApiError::client("RequestExpired", "Request has expired."),
        Flaw::Scope(_) | Flaw::Skewed { .. } | Flaw::UnknownKey | Flaw::Token | Flaw::Mismatch => {
            not_validated()
        }
    })
}

/// An injected HTTP status in EC2's words.
fn by_status(status: u16) -> ApiError {
    let (code, message) = match status {
        401 => return not_validated(),
        403 => (
            "UnauthorizedOperation",
            "You are not authorized to perform this operation.",
        ),
        503 => (
            "Unavailable",
            "The service is unavailable. Please try again shortly.",
        ),
        500.. => ("InternalError", "An internal error has occurred"),
        _ => ("InvalidParameterValue", "The request is invalid."),
    };
    ApiError::new(status, code, message)
}

/// Refuses an id that has not the right form.
fn check_id(id: &str, prefix: &str, code: &str) -> Result<()> {
    let valid = id.strip_prefix(prefix).is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if valid {
        Ok(())
    } else {
        Err(ApiError::client(
            code,
            format!("Invalid id: \"{id}\" (expecting \"{prefix}...\")"),
        ))
    }
}

/// A request's id.
pub(crate) fn request_id() -> String {
    let digits = clock::random_hex(32);
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    )
}

fn error_response(error: &ApiError) -> Response {
    let mut xml = Xml::piece();
    xml.node("Errors", |xml| {
        xml.node("Error", |xml| {
            xml.text("Code", &error.code);
            xml.text("Message", &error.message);
        });
    });
    xml.text("RequestID", request_id());
    let document = Xml::document("Response", None, xml);
    xml_response(error.status, document, Some(&error.code))
}

/// An answer in XML; the code is for the record.
pub(crate) fn xml_response(status: u16, document: String, code: Option<&str>) -> Response {
    let mut response = Response::new(document.into());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/xml;charset=UTF-8"),
    );
    if let Some(code) = code {
        response.extensions_mut().insert(Code(code.to_owned()));
    }
    response
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use self::tests::launch_for_test;
