//! Compute Engine's API, version 1.
//! <https://docs.cloud.google.com/compute/docs/reference/rest/v1>

mod catalogue;
mod control;
mod description;
mod error;
mod filter;
mod images;
mod insert;
mod instances;
mod launch;
mod lifecycle;
mod link;
mod mask;
mod names;
mod networks;
mod operation;
mod page;
mod places;
mod schema;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

pub use self::control::{FirewallView, GceInstanceView, NetworkView};
use self::description::{Route, description};
use self::error::{ApiError, Result};
use self::mask::Mask;
use self::state::State;
use crate::Config;
use crate::calls::Wire;
use crate::fault::Refusal;
use crate::google::{self, Identity, PROJECT, PROJECT_NUMBER, Principal, document};
use crate::server::{Answer, Request, Response, Server, Service};

/// Whom a token that its bearer signed is meant for.
const AUDIENCE: &str = "https://compute.googleapis.com/";
/// Where the API is.
const BASE: &str = "/compute/v1/";
/// How long a `wait` waits.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/zoneOperations/wait>
const WAIT_LIMIT: Duration = Duration::from_secs(120);

/// A handle to the fake Compute Engine.
#[derive(Debug, Clone)]
pub struct Gce {
    world: Arc<World>,
    server: Arc<Server>,
    pub(crate) identity: Arc<Identity>,
}

/// Everything that Compute Engine knows.
#[derive(Debug)]
struct World {
    wire: Arc<Wire>,
    config: Config,
    /// The sandbox's folder.
    folder: PathBuf,
    identity: Arc<Identity>,
    state: Mutex<State>,
    /// Counts the changes of operations.
    changed: watch::Sender<u64>,
}

impl World {
    /// A resource's URL, which is Google's whatever address the API was called by.
    fn link(&self, path: &str) -> String {
        format!("https://www.googleapis.com{BASE}{path}")
    }
}

impl Gce {
    pub(crate) async fn start(
        wire: Arc<Wire>,
        config: &Config,
        folder: &Path,
        identity: Arc<Identity>,
    ) -> io::Result<Self> {
        let world = Arc::new(World {
            wire: wire.clone(),
            config: config.clone(),
            folder: folder.to_owned(),
            identity: identity.clone(),
            state: Mutex::new(State::new(WAIT_LIMIT)),
            changed: watch::Sender::new(0),
        });
        let api = Api {
            world: world.clone(),
        };
        let server = Server::start(Arc::new(api), wire).await?;
        Ok(Gce {
            world,
            server: Arc::new(server),
            identity,
        })
    }

    /// The API's address, as gcloud's property `api_endpoint_overrides/compute` has it.
    pub fn url(&self) -> String {
        format!("{}{BASE}", self.server.url())
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        vec![("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE".into(), self.url())]
    }
}

/// One authenticated call, its parts checked against the API's description.
struct Context<'a> {
    world: &'a Arc<World>,
    request: &'a Request,
    principal: Principal,
    route: Route,
    query: BTreeMap<String, Vec<String>>,
    body: Value,
}

impl Context<'_> {
    /// The method: `instances.insert`.
    fn method(&self) -> &'static str {
        self.route.name
    }

    /// A value in the path.
    fn path(&self, name: &str) -> &str {
        self.route.path.get(name).map_or("", String::as_str)
    }

    /// A value in the query.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name)?.first().map(String::as_str)
    }

    /// Refuses what the caller may not do.
    fn require(&self, permission: &str, resource: &str) -> Result<()> {
        let identity = &self.world.identity;
        if identity.allows(&self.principal, permission, resource) {
            return Ok(());
        }
        Err(ApiError::denied(permission, resource))
    }
}

/// The service behind Compute Engine's endpoint.
#[derive(Debug)]
struct Api {
    world: Arc<World>,
}

impl Service for Api {
    fn classify(&self, request: &Request) -> String {
        let name = route(request).map_or("unknown", |route| route.name);
        format!("compute:{name}")
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        let name = route(request).map_or("unknown", |route| route.name);
        let error = match refusal {
            Refusal::Denied => {
                let permission = match name.split_once('.') {
                    Some((resource, "insert")) => format!("compute.{resource}.create"),
                    Some((resource, "wait")) => format!("compute.{resource}.get"),
                    Some((resource, "aggregatedList")) => format!("compute.{resource}.list"),
                    _ => format!("compute.{name}"),
                };
                let path = request.path().strip_prefix(BASE).unwrap_or_default();
                ApiError::denied(&permission, path)
            }
            Refusal::Throttled => ApiError::throttled(),
            Refusal::Capacity => match self.run_dry(request) {
                Ok(operation) => return document(200, &operation),
                Err(error) => error,
            },
            Refusal::Status(status) => ApiError::by_status(status),
        };
        error.response(true)
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            match self.answer(&request).await {
                Ok(body) => document(200, &body),
                Err(error) => error.response(true),
            }
        })
    }
}

fn route(request: &Request) -> Option<Route> {
    let path = request.path().strip_prefix(BASE)?;
    description().route(request.parts.method.as_str(), path)
}

impl Api {
    /// A call whose caller is known, its parts checked.
    fn context<'a>(&'a self, request: &'a Request) -> Result<Context<'a>> {
        let Some(route) = route(request) else {
            return Err(ApiError::new(
                404,
                "notFound",
                format!(
                    "The requested URL {} was not found on this server, or is not part of this \
                     sandbox.",
                    request.path()
                ),
            ));
        };
        let principal = self
            .world
            .identity
            .authenticate(request.header("authorization"), AUDIENCE)?;
        let scopes: Vec<&str> = route.method.scopes.iter().map(String::as_str).collect();
        if !principal.has_scope(&scopes) {
            return Err(google::scope_insufficient());
        }
        let query = schema::query(route.method, request.query())?;
        if !request.body.is_empty() && !is_json(request) {
            return Err(ApiError::unreadable(
                "",
                "Invalid JSON payload received. The request's content type is not JSON.",
            ));
        }
        let body = schema::body(route.name, route.method, &request.body)?;
        let context = Context {
            world: &self.world,
            request,
            principal,
            route,
            query,
            body,
        };
        check_place(&context)?;
        Ok(context)
    }

    async fn answer(&self, request: &Request) -> Result<Value> {
        let context = self.context(request)?;
        let response = context.route.method.response.as_deref();
        let mask = context
            .parameter("fields")
            .filter(|text| !text.is_empty())
            .map(|text| Mask::read(text, response.unwrap_or_default()))
            .transpose()?;
        let answer = dispatch(&context).await?;
        Ok(match mask {
            Some(mask) => mask.apply(answer),
            None => answer,
        })
    }

    /// Begins what fails for want of room, as a zone without any does it.
    fn run_dry(&self, request: &Request) -> Result<Value> {
        let context = self.context(request)?;
        if context.method() != "instances.insert" {
            return Err(ApiError::by_status(503));
        }
        launch::run_dry(&context)
    }
}

fn is_json(request: &Request) -> bool {
    request
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"))
}

/// Refuses a project or a zone that isn't there.
fn check_place(context: &Context<'_>) -> Result<()> {
    let project = context.path("project");
    let is_own = project == PROJECT || project == PROJECT_NUMBER.to_string();
    if !is_own && !context.method().starts_with("images.") {
        return Err(ApiError::not_found(&format!("projects/{project}")));
    }
    if let Some(zone) = context.route.path.get("zone")
        && !catalogue::zones().any(|known| known == *zone)
    {
        return Err(ApiError::invalid("zone", zone, "Unknown zone."));
    }
    Ok(())
}

async fn dispatch(context: &Context<'_>) -> Result<Value> {
    match context.method() {
        "diskTypes.get" => places::get_disk_type(context),
        "firewalls.delete" => networks::delete_firewall(context),
        "firewalls.get" => networks::get_firewall(context),
        "firewalls.insert" => networks::insert_firewall(context),
        "firewalls.list" => networks::list_firewalls(context),
        "globalOperations.get" | "zoneOperations.get" => operation::get(context),
        "globalOperations.wait" | "zoneOperations.wait" => operation::wait(context).await,
        "images.get" => images::get(context),
        "images.getFromFamily" => images::get_from_family(context),
        "instances.aggregatedList" => instances::aggregated_list(context),
        "instances.delete" => instances::delete(context),
        "instances.get" => instances::get(context),
        "instances.getSerialPortOutput" => instances::get_serial_port_output(context),
        "instances.insert" => launch::insert(context),
        "instances.list" => instances::list(context),
        "machineTypes.get" => places::get_machine_type(context),
        "machineTypes.list" => places::list_machine_types(context),
        "networks.get" => networks::get_network(context),
        "networks.insert" => networks::insert_network(context),
        "networks.list" => networks::list_networks(context),
        "zones.get" => places::get_zone(context),
        "zones.list" => places::list_zones(context),
        _ => Err(ApiError::by_status(501)),
    }
}

#[cfg(test)]
mod tests;
