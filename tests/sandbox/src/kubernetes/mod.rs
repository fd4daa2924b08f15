//! An API server of Kubernetes with its controllers, a scheduler and nodes.
//! <https://kubernetes.io/docs/reference/kubernetes-api/>

mod access;
mod admission;
mod container;
mod control;
mod defaults;
mod deletion;
mod description;
mod discovery;
mod disruption;
mod error;
mod events;
mod gc;
mod jobs;
mod kind;
mod kubeconfig;
mod kubelet;
mod logs;
mod names;
mod owners;
mod patch;
mod path;
mod quantity;
mod rest;
mod scheduler;
mod schema;
mod select;
mod state;
mod store;
mod stream;
mod tls;
mod validate;
mod view;
mod watching;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::access::{Access, Rule, User};
use self::error::{ApiError, Result};
use self::kubeconfig::Files;
pub use self::kubeconfig::InCluster;
use self::path::Target;
use self::state::State;
use self::store::text;
use self::tls::Authority;
pub use self::view::{KubernetesEventView, KubernetesJobView, PodView, SecretView};
use crate::Config;
use crate::calls::{Event, Wire, lock};
use crate::clock;
use crate::fault::Refusal;
use crate::server::{Answer, ClientCertificate, Request, Response, Server, Service};

/// The namespace of the launcher's context.
const NAMESPACE: &str = "runners";
/// The launcher's user.
const USER: &str = "launcher";
/// The group of the launcher's user.
const GROUP: &str = "ci";
/// The node that is there from the beginning.
const NODE: &str = "node-1";
/// How often the controllers look at each other's changes before they wait for more.
const ROUNDS: usize = 100;
/// How long the controllers wait when nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// A handle to the fake cluster.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    world: Arc<World>,
    files: Arc<Files>,
    running: Arc<Running>,
}

/// What runs as long as there are handles.
#[derive(Debug)]
struct Running {
    server: Server,
    manager: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.manager.abort();
    }
}

/// Everything that the cluster knows.
#[derive(Debug)]
struct World {
    wire: Arc<Wire>,
    config: Config,
    /// The sandbox's folder.
    folder: PathBuf,
    authority: Authority,
    access: Mutex<Access>,
    state: Mutex<State>,
    /// Where the API server listens.
    address: OnceLock<SocketAddr>,
    /// How many pods are taken care of.
    lives: watch::Sender<usize>,
    /// Counts the times when all watches break off.
    closing: watch::Sender<u64>,
    /// Counts the times when all watches are to send bookmarks.
    bookmarks: watch::Sender<u64>,
}

impl World {
    /// A new token of a user.
    fn token(&self, user: User) -> String {
        let token = clock::random_of(clock::ALPHANUMERIC, 48);
        self.wire.secret(&token);
        lock(&self.access).add_token(&token, user);
        token
    }

    /// The token that a pod has of its service account.
    fn pod_token(&self, uid: &str, namespace: &str, account: &str) -> String {
        if let Some(token) = lock(&self.access).pod_token(uid) {
            return token;
        }
        let token = self.token(User::service_account(namespace, account));
        lock(&self.access).keep_pod_token(uid, &token);
        token
    }

    /// The variables by which a program in a pod finds the API server.
    /// <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>
    fn service_variables(&self) -> Vec<(String, String)> {
        let Some(address) = self.address.get() else {
            return Vec::new();
        };
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        [
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", port.clone()),
            ("KUBERNETES_SERVICE_PORT_HTTPS", port),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Lets the controllers do what is to be done; the answer is when there is more.
    fn sync(self: &Arc<Self>) -> Option<Instant> {
        let mut state = lock(&self.state);
        let mut next = None;
        for _ in 0..ROUNDS {
            let before = state.store.version();
            state.record();
            next = jobs::sync(&mut state);
            gc::sync(&mut state);
            scheduler::sync(&mut state);
            state.record();
            kubelet::adopt(self, &mut state);
            self.show(&mut state);
            if state.store.version() == before {
                break;
            }
        }
        next
    }

    /// Shows what has become of pods.
    fn show(&self, state: &mut State) {
        for record in &mut state.pods {
            let phase = match record.is_gone {
                true => "deleted",
                false => text(&record.object["status"]["phase"]),
            };
            if record.shown == phase {
                continue;
            }
            phase.clone_into(&mut record.shown);
            self.wire.emit(Event::Instance {
                id: text(&record.object["metadata"]["name"]).into(),
                state: phase.into(),
                note: text(&record.object["spec"]["containers"][0]["image"]).into(),
            });
        }
    }
}

/// Runs the controllers.
async fn manage(world: Arc<World>, mut changed: watch::Receiver<u64>) {
    loop {
        changed.mark_unchanged();
        let next = world.sync().unwrap_or_else(|| Instant::now() + LONG);
        tokio::select! {
            // The store lives as long as the world.
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
}

impl Kubernetes {
    pub(crate) async fn start(
        wire: Arc<Wire>,
        config: &Config,
        folder: &Path,
        home: &Path,
    ) -> io::Result<Self> {
        let authority = Authority::new()?;
        let tls = authority.server()?;
        let mut state = State::new();
        for namespace in ["default", "kube-system", NAMESPACE] {
            state.add_namespace(namespace);
        }
        state.add_node(NODE, &BTreeMap::new());
        let mut access = Access::default();
        access.bind(USER, NAMESPACE, vec![Rule::all()]);
        let changed = state.store.subscribe();
        let world = Arc::new(World {
            wire: wire.clone(),
            config: config.clone(),
            folder: folder.to_owned(),
            authority,
            access: Mutex::new(access),
            state: Mutex::new(state),
            address: OnceLock::new(),
            lives: watch::Sender::new(0),
            closing: watch::Sender::new(0),
            bookmarks: watch::Sender::new(0),
        });
        let api = Api {
            world: world.clone(),
        };
        let server = Server::start_tls(Arc::new(api), wire, Arc::new(tls)).await?;
        // Nobody else sets it.
        let _ = world.address.set(server.address);
        let files = Files::write(&world, &home.join("kubernetes"), &server.url())?;
        let manager = tokio::spawn(manage(world.clone(), changed));
        Ok(Kubernetes {
            world,
            files: Arc::new(files),
            running: Arc::new(Running { server, manager }),
        })
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        self.running.server.url()
    }
}

/// The service behind the API server's address.
#[derive(Debug)]
struct Api {
    world: Arc<World>,
}

impl Service for Api {
    fn classify(&self, request: &Request) -> String {
        match Target::of(request) {
            // Another call than the one that has an effect, for faults and whoever counts.
            Some(target) if target.parameter("dryRun").is_some() => {
                format!("dry-run {} {}", target.verb, target.resource())
            }
            Some(target) => format!("{} {}", target.verb, target.resource()),
            None => format!(
                "{} {}",
                request.parts.method.as_str().to_lowercase(),
                request.path()
            ),
        }
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        let target = Target::of(request);
        let error = match (refusal, target) {
            (Refusal::Denied, Some(target)) => {
                let user = self.user(request).map_or(String::new(), |user| user.name);
                access::denied(&user, &target)
            }
            (Refusal::Denied, None) => ApiError::by_status(403),
            (Refusal::Throttled, _) => ApiError::throttled(),
            (Refusal::Capacity, Some(target)) => ApiError::forbidden(
                target.kind,
                &target.name,
                "exceeded quota: compute-resources, requested: count/jobs.batch=1, used: \
                 count/jobs.batch=10, limited: count/jobs.batch=10",
            ),
            (Refusal::Capacity, None) => ApiError::by_status(503),
            (Refusal::Status(status), _) => ApiError::by_status(status),
        };
        error.response()
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            match self.answer(&request).await {
                Ok(response) => response,
                Err(error) => error.response(),
            }
        })
    }
}

impl Api {
    /// Who calls: a token counts before a certificate, as the real server's order is of no matter.
    fn user(&self, request: &Request) -> Result<User> {
        if let Some(header) = request.header("authorization") {
            let token = header
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map(|(_, token)| token.trim());
            let user = token.and_then(|token| lock(&self.world.access).user(token));
            return user.ok_or_else(ApiError::unauthorized);
        }
        let certificate = request.parts.extensions.get::<ClientCertificate>();
        certificate
            .and_then(|shown| self.world.authority.user(&shown.0))
            .ok_or_else(ApiError::unauthorized)
    }

    async fn answer(&self, request: &Request) -> Result<Response> {
        let user = self.user(request)?;
        let Some(target) = Target::of(request) else {
            if request.parts.method != http::Method::GET {
                return Err(ApiError::no_resource());
            }
            return discovery::answer(request.path());
        };
        lock(&self.world.access).require(&user, &target)?;
        rest::dispatch(&self.world, &user, &target, request).await
    }
}

#[cfg(test)]
mod tests;
