//! Azure Resource Manager, and behind it as much of the providers as a launch needs.
//! <https://learn.microsoft.com/en-us/rest/api/azure/>

mod answer;
mod assignments;
mod blobs;
mod catalogue;
mod control;
mod error;
mod groups;
mod images;
mod lifecycle;
mod machines;
mod making;
mod network;
mod operations;
mod os;
mod path;
mod reads;
mod rules;
mod schema;
mod state;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};

use self::blobs::{BlobService, Blobs};
use self::error::{ApiError, Result};
use self::path::{Kind, Route};
use self::state::State;
pub use self::view::{AzureGroupView, AzureInstanceView};
use crate::Config;
use crate::calls::Wire;
use crate::clock;
use crate::entra::{Directory, Entra, Principal};
use crate::fault::Refusal;
use crate::server::{Answer, Request, Response, Server, Service};

/// Versions of the galleries' API, which has its own.
/// <https://learn.microsoft.com/en-us/rest/api/compute/gallery-image-versions>
const GALLERY_VERSIONS: &[&str] = &["2022-03-03", "2023-07-03", "2024-03-03"];

/// A handle to the fake Azure.
#[derive(Debug, Clone)]
pub struct Azure {
    world: Arc<World>,
    servers: Arc<[Server; 2]>,
    entra: Entra,
}

/// Everything that Resource Manager knows.
#[derive(Debug)]
struct World {
    wire: Arc<Wire>,
    config: Config,
    /// The sandbox's folder.
    folder: PathBuf,
    directory: Arc<Directory>,
    state: Mutex<State>,
    blobs: Blobs,
}

impl Azure {
    /// Starts Resource Manager and the storage that boot diagnostics are read from.
    pub(crate) async fn start(
        wire: Arc<Wire>,
        config: &Config,
        folder: &Path,
        entra: Entra,
    ) -> io::Result<Self> {
        let directory = entra.directory().clone();
        let world = Arc::new(World {
            wire: wire.clone(),
            config: config.clone(),
            folder: folder.to_owned(),
            directory: directory.clone(),
            state: Mutex::new(State {
                recording: config
                    .bodies
                    .as_ref()
                    .map(|folder| folder.join(format!("{}.jsonl", clock::uuid()))),
                ..control::initial()
            }),
            blobs: Blobs::new(wire.clone()),
        });
        let api = Api {
            world: world.clone(),
        };
        let manager = Server::start(Arc::new(api), wire.clone()).await?;
        let storage = Server::start(Arc::new(BlobService::new(world.clone())), wire).await?;
        world.blobs.are_at(storage.url());
        directory.resource_manager_is(&manager.url());
        Ok(Azure {
            world,
            servers: Arc::new([manager, storage]),
            entra,
        })
    }

    /// Where Resource Manager is: `AZURE_RESOURCE_MANAGER_ENDPOINT`.
    pub fn url(&self) -> String {
        let [manager, _] = &*self.servers;
        manager.url()
    }

    /// The tenant and everybody in it.
    pub(crate) fn entra(&self) -> &Entra {
        &self.entra
    }
}

/// One authenticated call.
struct Call<'a> {
    world: &'a Arc<World>,
    principal: Principal,
    /// `http://127.0.0.1:PORT`, as the caller says it.
    base: String,
    path_and_query: String,
    query: BTreeMap<String, String>,
    version: String,
    body: &'a [u8],
}

impl Call<'_> {
    fn may(&self, action: &str, scope: &str) -> bool {
        let rights = &self.world.directory.rights;
        rights.allows(&self.principal, action, scope)
    }

    /// Refuses what the caller may not do.
    fn require(&self, action: &str, scope: &str) -> Result<()> {
        match self.may(action, scope) {
            true => Ok(()),
            false => Err(ApiError::denied(&self.principal, action, scope)),
        }
    }

    /// Refuses what the caller may not do to something that the resource `id` refers to.
    fn require_linked(&self, id: &str, action: &str, scope: &str) -> Result<()> {
        if self.may(action, scope) {
            return Ok(());
        }
        let written = path::resource(id)
            .map(|(_, kind, ..)| format!("{}/{}/write", kind.provider(), kind.name()));
        Err(ApiError::linked(
            &self.principal,
            (&written.unwrap_or_default(), id),
            (action, scope),
        ))
    }

    /// A list, or a page of it.
    fn page(&self, all: Vec<Value>, size: Option<usize>) -> Result<Response> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = self.query.get(name) else {
                return Ok(None);
            };
            text.parse().map(Some).map_err(|_| {
                ApiError::bad(
                    "InvalidQueryParameter",
                    format!("The value '{text}' of the query parameter '{name}' is invalid."),
                )
            })
        };
        let from = number("$skiptoken")?.unwrap_or(0);
        let most = number("$top")?.or(size).unwrap_or(usize::MAX);
        let to = from.saturating_add(most).min(all.len());
        let rest = to < all.len();
        let mut body = json!({"value": all.get(from..to).unwrap_or_default()});
        if rest {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in self.query.iter().filter(|(name, _)| *name != "$skiptoken") {
                query.append_pair(name, value);
            }
            query.append_pair("$skiptoken", &to.to_string());
            let path = self.path_and_query.split('?').next().unwrap_or_default();
            body["nextLink"] = format!("{}{path}?{}", self.base, query.finish()).into();
        }
        Ok(error::document(200, &body))
    }

    fn answer(&self, method: &Method, route: &Route) -> Result<Response> {
        match (method.as_str(), route) {
            ("GET", Route::Groups) => self.list_groups(),
            ("PUT", Route::Group(name)) => self.put_group(name),
            ("GET", Route::Group(name)) => self.get_group(name),
            ("DELETE", Route::Group(name)) => self.delete_group(name),
            ("GET", Route::GroupOperation(id)) => self.operation_result("Microsoft.Resources", id),
            ("GET", Route::Operation(provider, id)) => self.operation_status(provider, id),
            ("GET", Route::OperationResult(provider, id)) => self.operation_result(provider, id),
            (
                method,
                Route::Resource {
                    group,
                    kind,
                    name,
                    rest,
                },
            ) => self.resource(method, (group, *kind, name), rest),
            ("GET", Route::InGroup(group, Kind::VirtualMachine)) => self.list_machines(Some(group)),
            ("GET", Route::InSubscription(Kind::VirtualMachine)) => self.list_machines(None),
            ("GET", Route::InGroup(group, kind)) => self.list_resources(Some(group), *kind),
            ("GET", Route::InSubscription(kind)) => self.list_resources(None, *kind),
            ("GET", Route::Skus) => self.list_skus(),
            ("GET", Route::ImageVersions(names)) => self.list_versions(names),
            ("GET", Route::ImageVersion(names, version)) => self.get_version(names, version),
            ("GET", Route::OpenImage(names)) => self.get_open_image(names),
            ("GET", Route::Feature(provider, name)) => self.get_feature(provider, name),
            ("GET", Route::Permissions(scope)) => self.list_permissions(scope),
            ("PUT", Route::RoleAssignment(scope, name)) => self.put_assignment(scope, name),
            ("GET", Route::RoleAssignment(scope, name)) => self.get_assignment(scope, name),
            ("DELETE", Route::RoleAssignment(scope, name)) => self.delete_assignment(scope, name),
            _ => Err(not_allowed(method)),
        }
    }

    fn resource(
        &self,
        method: &str,
        (group, kind, name): (&str, Kind, &str),
        rest: &[String],
    ) -> Result<Response> {
        match (method, kind, rest) {
            ("PUT", Kind::VirtualMachine, []) => self.put_machine(group, name),
            ("GET", Kind::VirtualMachine, rest) => self.get_machine(group, name, rest),
            ("DELETE", Kind::VirtualMachine, []) => self.delete_machine(group, name),
            ("POST", Kind::VirtualMachine, [action]) => self.post_machine(group, name, action),
            ("PUT", Kind::NetworkSecurityGroup | Kind::VirtualNetwork, []) => {
                self.put_network(group, kind, name)
            }
            ("GET", Kind::UserAssignedIdentity, []) => self.get_identity(group, name),
            ("GET", Kind::Image | Kind::Gallery, rest) => self.get_image(kind, group, name, rest),
            ("GET", kind, []) => self.get_resource(group, kind, name),
            _ => Err(not_allowed(&method.parse().unwrap_or_default())),
        }
    }
}

fn not_allowed(method: &Method) -> ApiError {
    ApiError::new(
        405,
        "MethodNotAllowed",
        format!("The HTTP method '{method}' is not supported at this scope."),
    )
}

/// A location that a type of resource isn't in.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/common-deployment-errors>
fn no_location(kind: &str, location: &str) -> ApiError {
    let regions: Vec<&str> = catalogue::REGIONS.iter().map(|(name, _)| *name).collect();
    ApiError::bad(
        "LocationNotAvailableForResourceType",
        format!(
            "The provided location '{location}' is not available for resource type '{kind}'. List of \
             available regions for the resource type is '{}'.",
            regions.join(",")
        ),
    )
}

/// The service behind Resource Manager's endpoint.
#[derive(Debug)]
struct Api {
    world: Arc<World>,
}

impl Service for Api {
    fn classify(&self, request: &Request) -> String {
        Route::of(request.path()).call(&request.parts.method)
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        let error = match refusal {
            Refusal::Denied => ApiError::denied(
                &Directory::launcher(),
                &Route::of(request.path()).action(&request.parts.method),
                request.path(),
            ),
            Refusal::Throttled => ApiError::throttled(),
            Refusal::Capacity => ApiError::no_size("the requested one", "the requested one"),
            Refusal::Status(status) => ApiError::by_status(status),
        };
        finished(request, error.response())
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            let answer = self.answer(&request);
            finished(&request, answer.unwrap_or_else(|error| error.response()))
        })
    }
}

impl Api {
    fn answer(&self, request: &Request) -> Result<Response> {
        let principal = self
            .world
            .directory
            .authenticate(request.header("authorization"))?;
        let route = Route::of(request.path());
        match &route {
            Route::OtherSubscription(id) => {
                return Err(ApiError::new(
                    404,
                    "SubscriptionNotFound",
                    format!("The subscription '{id}' could not be found."),
                ));
            }
            Route::UnknownType(namespace, name) => {
                return Err(ApiError::new(
                    404,
                    "InvalidResourceType",
                    format!(
                        "The resource type '{name}' could not be found in the namespace \
                         '{namespace}'."
                    ),
                ));
            }
            Route::Unknown => return Err(ApiError::by_status(404)),
            _ => {}
        }
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.query().as_bytes())
                .into_owned()
                .collect();
        let version = check_version(&route, &query)?;
        let json = request
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"));
        if request.parts.method == Method::PUT && !json {
            return Err(ApiError::new(
                415,
                "UnsupportedMediaType",
                "The content media type is not supported. Only 'application/json' is supported.",
            ));
        }
        let path_and_query = request.parts.uri.path_and_query();
        let call = Call {
            world: &self.world,
            principal,
            base: format!("http://{}", request.header("host").unwrap_or_default()),
            path_and_query: path_and_query.map(ToString::to_string).unwrap_or_default(),
            query,
            version,
            body: &request.body,
        };
        call.answer(&request.parts.method, &route)
    }
}

/// The API's version, which every call must name.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-register-resource-provider>
fn check_version(route: &Route, query: &BTreeMap<String, String>) -> Result<String> {
    let version = query.get("api-version").ok_or_else(|| {
        ApiError::bad(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    })?;
    let (provider, name, known) = route.version();
    let fits = match name {
        "galleries" => GALLERY_VERSIONS.contains(&version.as_str()),
        _ => version == known,
    };
    if fits {
        return Ok(version.clone());
    }
    Err(match provider {
        "Microsoft.Resources" => ApiError::bad(
            "InvalidApiVersionParameter",
            format!(
                "The api-version '{version}' is invalid. The supported versions are '{known}'."
            ),
        ),
        _ => ApiError::bad(
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for API version '{version}' for type \
                 '{name}'. The supported api-versions are '{known}'."
            ),
        ),
    })
}

/// Sets the headers that every answer has.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/request-limits-and-throttling>
fn finished(request: &Request, mut response: Response) -> Response {
    let id = clock::uuid();
    error::set(&mut response, "x-ms-request-id", &id);
    error::set(&mut response, "x-ms-correlation-request-id", &id);
    let left = match request.parts.method.as_str() {
        "GET" => "x-ms-ratelimit-remaining-subscription-reads",
        "DELETE" => "x-ms-ratelimit-remaining-subscription-deletes",
        _ => "x-ms-ratelimit-remaining-subscription-writes",
    };
    error::set(&mut response, left, "199");
    response
}

#[cfg(test)]
mod tests;
