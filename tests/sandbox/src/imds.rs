//! The instance metadata service, version 2 (and 1, where an instance still allows it), and the
//! credentials endpoint of containers.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use jiff::SignedDuration;
use serde_json::json;

use crate::calls::{Wire, lock};
use crate::clock;
use crate::ec2::{ACCOUNT, Accounts, Instance, Phase, Principal, ROLE, Session, World};
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Server, Service};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// What a role's credentials last.
const CREDENTIALS_LIFETIME: SignedDuration = SignedDuration::from_hours(6);

/// The tokens of one metadata service, with the time of their end.
#[derive(Debug, Default)]
struct Tokens(Mutex<BTreeMap<String, Instant>>);

impl Tokens {
    /// Answers `PUT /latest/api/token`.
    fn issue(&self, request: &Request) -> Response {
        if request.header("x-forwarded-for").is_some() {
            return plain(StatusCode::FORBIDDEN, "");
        }
        let seconds = request
            .header(TTL_HEADER)
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|seconds| (1..=21600).contains(seconds));
        let Some(seconds) = seconds else {
            return plain(StatusCode::BAD_REQUEST, "");
        };
        let token = format!("{}==", clock::random_of(clock::ALPHANUMERIC, 54));
        lock(&self.0).insert(token.clone(), Instant::now() + Duration::from_secs(seconds));
        let mut response = plain(StatusCode::OK, &token);
        response.headers_mut().insert(TTL_HEADER, seconds.into());
        response
    }

    /// Whether a GET may be answered.
    fn admit(&self, request: &Request, required: bool) -> bool {
        match request.header(TOKEN_HEADER) {
            Some(token) => lock(&self.0)
                .get(token)
                .is_some_and(|end| Instant::now() < *end),
            None => !required,
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(text.to_owned().into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain"),
    );
    response
}

fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "404 - Not Found")
}

/// An answer in JSON, or 404.
fn found(text: Option<String>) -> Response {
    match text {
        Some(text) => plain(StatusCode::OK, &text),
        None => not_found(),
    }
}

fn refuse(refusal: Refusal) -> Response {
    let status = match refusal {
        Refusal::Status(status) => StatusCode::from_u16(status).unwrap_or_default(),
        Refusal::Denied => StatusCode::FORBIDDEN,
        Refusal::Throttled => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Capacity => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain(status, "")
}

/// A role's credentials as the metadata service tells them.
fn credentials(session: &Session) -> String {
    json!({
        "Code": "Success",
        "LastUpdated": clock::seconds(clock::now()),
        "Type": "AWS-HMAC",
        "AccessKeyId": session.access_key,
        "SecretAccessKey": session.secret,
        "Token": session.token,
        "Expiration": clock::seconds(session.expires),
    })
    .to_string()
}

/// An instance's metadata service, while it runs.
#[derive(Debug)]
pub(crate) struct InstanceMetadata {
    server: Server,
}

impl InstanceMetadata {
    pub(crate) async fn start(world: Arc<World>, instance: &str) -> io::Result<Self> {
        let wire = world.wire.clone();
        let service = InstanceService {
            world,
            instance: instance.into(),
            tokens: Tokens::default(),
            session: Mutex::default(),
        };
        let server = Server::start(Arc::new(service), wire).await?;
        Ok(InstanceMetadata { server })
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }
}

#[derive(Debug)]
struct InstanceService {
    world: Arc<World>,
    instance: String,
    tokens: Tokens,
    /// The role's credentials, once they were asked for.
    session: Mutex<Option<Session>>,
}

impl Service for InstanceService {
    fn classify(&self, request: &Request) -> String {
        format!("imds:{} {}", request.parts.method, request.path())
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Response {
        refuse(refusal)
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            self.world
                .with_instance(&self.instance, |instance| instance.clone())
                .map_or_else(not_found, |instance| self.answer(&request, &instance))
        })
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl InstanceService {
    fn answer(&self, request: &Request, instance: &Instance) -> Response {
        if !instance.metadata.enabled {
            return plain(StatusCode::FORBIDDEN, "");
        }
        match (&request.parts.method, request.path()) {
            (&Method::PUT, TOKEN_PATH) => return self.tokens.issue(request),
            (&Method::GET, _) => {}
            _ => return plain(StatusCode::METHOD_NOT_ALLOWED, ""),
        }
        if !self
            .tokens
            .admit(request, instance.metadata.tokens_required)
        {
            return plain(StatusCode::UNAUTHORIZED, "401 - Unauthorized");
        }
        match request.path() {
            "/latest/user-data" => match instance.user_data.as_slice() {
                [] => not_found(),
                data => Response::new(data.to_vec().into()),
            },
            "/latest/dynamic/instance-identity/document" => found(Some(self.document(instance))),
            path => found(
                path.strip_prefix("/latest/meta-data")
                    .and_then(|path| self.item(instance, path.trim_start_matches('/'))),
            ),
        }
    }

    /// What is at a path below `meta-data`.
    fn item(&self, instance: &Instance, path: &str) -> Option<String> {
        if let Some(key) = path.strip_prefix("tags/instance") {
            let tags = instance.metadata.tags.then_some(&instance.tags)?;
            return match key.trim_start_matches('/') {
                "" => Some(tags.keys().cloned().collect::<Vec<_>>().join("\n")),
                key => tags.get(key).cloned(),
            };
        }
        if let Some(path) = path.strip_prefix("iam/") {
            return self.iam(instance, path);
        }
        let public = (instance.phase != Phase::Pending)
            .then(|| instance.public_ip.clone())
            .flatten();
        Some(match path {
            "" => "ami-id\nevents/\nhostname\niam/\ninstance-action\ninstance-id\ninstance-life-cycle\ninstance-type\nlocal-ipv4\nplacement/\nspot/".into(),
            "ami-id" => instance.image.clone(),
            "hostname" | "local-hostname" => instance.dns(),
            "instance-action" => "none".into(),
            "instance-id" => instance.id.clone(),
            "instance-life-cycle" => match instance.spot {
                Some(_) => "spot".into(),
                None => "on-demand".into(),
            },
            "instance-type" => instance.instance_type.clone(),
            "local-ipv4" => instance.private_ip.clone(),
            "public-ipv4" => public?,
            "reservation-id" => instance.reservation.clone(),
            "placement/availability-zone" => instance.zone.clone(),
            "placement/region" => instance.region.name.into(),
            "spot/instance-action" => {
                let time = clock::seconds(instance.interruption?);
                json!({"action": "terminate", "time": time}).to_string()
            }
            "spot/termination-time" => clock::seconds(instance.interruption?),
            "events/recommendations/rebalance" => {
                let time = clock::seconds(instance.rebalance?);
                json!({"noticeTime": time}).to_string()
            }
            _ => return None,
        })
    }

    /// What is at a path below `iam`; nothing without a profile.
    fn iam(&self, instance: &Instance, path: &str) -> Option<String> {
        let profile = instance.profile.as_ref()?;
        match path {
            "info" => Some(
                json!({
                    "Code": "Success",
                    "LastUpdated": clock::seconds(instance.launched),
                    "InstanceProfileArn": profile.arn(),
                    "InstanceProfileId": profile.id,
                })
                .to_string(),
            ),
            "security-credentials" | "security-credentials/" => Some(profile.name.clone()),
            _ => {
                let role = path.strip_prefix("security-credentials/")?;
                if role != profile.name {
                    return None;
                }
                let mut session = lock(&self.session);
                let session = session.get_or_insert_with(|| {
                    let principal = Principal::Instance {
                        role: role.into(),
                        id: instance.id.clone(),
                    };
                    self.world.accounts.session(principal, CREDENTIALS_LIFETIME)
                });
                Some(credentials(session))
            }
        }
    }

    fn document(&self, instance: &Instance) -> String {
        json!({
            "accountId": ACCOUNT,
            "architecture": self.world.architecture(&instance.instance_type),
            "availabilityZone": instance.zone,
            "imageId": instance.image,
            "instanceId": instance.id,
            "instanceType": instance.instance_type,
            "pendingTime": clock::seconds(instance.launched),
            "privateIp": instance.private_ip,
            "region": instance.region.name,
            "version": "2017-09-30",
        })
        .to_string()
    }
}

/// The metadata service of the host: off unless a test makes the host an instance.
#[derive(Debug)]
pub(crate) struct HostMetadata {
    server: Server,
    service: Arc<HostService>,
}

#[derive(Debug)]
struct HostService {
    accounts: Arc<Accounts>,
    enabled: AtomicBool,
    tokens: Tokens,
}

impl HostMetadata {
    pub(crate) async fn start(wire: Arc<Wire>, accounts: Arc<Accounts>) -> io::Result<Self> {
        let service = Arc::new(HostService {
            accounts,
            enabled: AtomicBool::new(false),
            tokens: Tokens::default(),
        });
        let server = Server::start(service.clone(), wire).await?;
        Ok(HostMetadata { server, service })
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Makes the host an instance with the launcher's role; the answer is the role's name.
    pub(crate) fn enable(&self) -> String {
        self.service.enabled.store(true, Ordering::SeqCst);
        ROLE.into()
    }
}

impl Service for HostService {
    fn classify(&self, request: &Request) -> String {
        format!("imds:{} {}", request.parts.method, request.path())
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Response {
        refuse(refusal)
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move { self.answer(&request) })
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl HostService {
    fn answer(&self, request: &Request) -> Response {
        if !self.enabled.load(Ordering::SeqCst) {
            return not_found();
        }
        match (&request.parts.method, request.path()) {
            (&Method::PUT, TOKEN_PATH) => return self.tokens.issue(request),
            (&Method::GET, _) => {}
            _ => return plain(StatusCode::METHOD_NOT_ALLOWED, ""),
        }
        if !self.tokens.admit(request, true) {
            return plain(StatusCode::UNAUTHORIZED, "401 - Unauthorized");
        }
        let path = request.path().strip_prefix("/latest/meta-data/");
        found(path.and_then(|path| match path {
            "instance-id" => Some("i-00000000000000000".into()),
            "placement/region" => Some("us-east-1".into()),
            "placement/availability-zone" => Some("us-east-1a".into()),
            "iam/security-credentials" | "iam/security-credentials/" => Some(ROLE.into()),
            _ => {
                let role = path.strip_prefix("iam/security-credentials/")?;
                (role == ROLE).then(|| {
                    let principal = Principal::Launcher {
                        session: "i-00000000000000000".into(),
                    };
                    credentials(&self.accounts.session(principal, CREDENTIALS_LIFETIME))
                })
            }
        }))
    }
}

/// The credentials endpoint that a container with a task role has.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>
#[derive(Debug)]
pub(crate) struct ContainerCredentials {
    server: Server,
    token: String,
}

#[derive(Debug)]
struct ContainerService {
    accounts: Arc<Accounts>,
    token: String,
}

const CONTAINER_PATH: &str = "/v1/credentials";

impl ContainerCredentials {
    pub(crate) async fn start(wire: Arc<Wire>, accounts: Arc<Accounts>) -> io::Result<Self> {
        let token = clock::random_of(clock::ALPHANUMERIC, 64);
        wire.secret(&token);
        let service = ContainerService {
            accounts,
            token: token.clone(),
        };
        let server = Server::start(Arc::new(service), wire).await?;
        Ok(ContainerCredentials { server, token })
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        vec![
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI".into(),
                format!("{}{CONTAINER_PATH}", self.server.url()),
            ),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN".into(),
                self.token.clone(),
            ),
        ]
    }
}

impl Service for ContainerService {
    fn classify(&self, request: &Request) -> String {
        format!("container:{}", request.parts.method)
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Response {
        refuse(refusal)
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            if request.header("authorization") != Some(self.token.as_str()) {
                return plain(StatusCode::UNAUTHORIZED, "{\"message\":\"Not authorized\"}");
            }
            if request.parts.method != Method::GET || request.path() != CONTAINER_PATH {
                return not_found();
            }
            let principal = Principal::Launcher {
                session: "container".into(),
            };
            let session = self.accounts.session(principal, CREDENTIALS_LIFETIME);
            let text = json!({
                "AccessKeyId": session.access_key,
                "SecretAccessKey": session.secret,
                "Token": session.token,
                "Expiration": clock::seconds(session.expires),
                "RoleArn": Accounts::role_arn(),
            });
            plain(StatusCode::OK, &text.to_string())
        })
    }

    fn is_local(&self) -> bool {
        true
    }
}
