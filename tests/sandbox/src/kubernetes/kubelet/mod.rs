//! The kubelet: brings up the pods of a node, and takes them down.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

mod environment;
mod status;
mod volumes;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use self::environment::{Environment, expanded};
use self::status::Ended;
use super::World;
use super::container::{Capabilities, Container, Parts};
use super::deletion::{self, Options};
use super::events::Source;
use super::kind::Kind;
use super::state::State;
use super::store::{Key, text};
use crate::calls::lock;

/// Until a volume that couldn't be mounted is tried again: at the real kubelet half a second, doubled
/// each time.
const MOUNT_RETRY: Duration = Duration::from_millis(100);
/// How long an image that couldn't be pulled shows that.
const PULL_ERROR: Duration = Duration::from_millis(100);
/// Until it is pulled again: at the real kubelet ten seconds, doubled each time.
const PULL_RETRY: Duration = Duration::from_secs(1);
/// Until a container is tried again that can't be made for want of something.
const CONFIG_RETRY: Duration = Duration::from_millis(200);

/// Takes over the pods that the scheduler has found nodes for.
pub(super) fn adopt(world: &Arc<World>, state: &mut State) {
    for record in &mut state.pods {
        let node = text(&record.object["spec"]["nodeName"]);
        if node.is_empty() || record.is_adopted || record.is_gone {
            continue;
        }
        record.is_adopted = true;
        let life = Life {
            world: world.clone(),
            key: Key::of(Kind::Pod, &record.object),
            uid: record.uid.clone(),
            node: node.to_owned(),
            pod: record.object.clone(),
            lost: record.lost.subscribe(),
        };
        let alive = Alive::new(world);
        tokio::spawn(async move {
            life.live().await;
            drop(alive);
        });
    }
}

/// Counts a pod that is taken care of, until it is dropped.
struct Alive(Arc<World>);

impl Alive {
    fn new(world: &Arc<World>) -> Self {
        world.lives.send_modify(|count| *count += 1);
        Alive(world.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.lives.send_modify(|count| *count -= 1);
    }
}

/// A pod's life on its node.
struct Life {
    world: Arc<World>,
    key: Key,
    uid: String,
    node: String,
    /// As it was when it came to the node: little of its specification changes.
    pod: Arc<Value>,
    lost: watch::Receiver<bool>,
}

/// Why something isn't so yet: the reason and the message.
type Waiting = (&'static str, String);

impl Life {
    async fn live(self) {
        let mut lost = self.lost.clone();
        // The sender lives as long as the pod's record; without it all is over.
        let gone = async move {
            let _ = lost.wait_for(|lost| *lost).await;
        };
        tokio::pin!(gone);
        self.accept();
        let parts = tokio::select! {
            () = &mut gone => return,
            parts = self.bring_up() => parts,
            _ = self.leaving(None) => return self.bury(),
        };
        // Not to be broken off: there would be processes that nobody knows of.
        let container = match self.start(parts).await {
            Some(container) => container,
            None => {
                tokio::select! {
                    () = &mut gone => {}
                    _ = self.leaving(None) => self.bury(),
                }
                return;
            }
        };
        let started = Instant::now();
        tokio::select! {
            () = &mut gone => container.kill().await,
            code = self.run(&container) => {
                let ended = Ended { code, after: started.elapsed() };
                if self.has_others() && self.deletion().is_none() {
                    self.end_alone(&ended);
                    tokio::select! {
                        () = &mut gone => return,
                        _ = self.leaving(None) => {}
                    }
                }
                self.end(&ended);
                let is_deleted = self.deletion().is_some();
                if is_deleted {
                    tokio::time::sleep(self.world.config.shutdown_delay).await;
                    self.bury();
                }
            }
        }
    }

    fn event(&self, what: (&str, &str), message: &str) {
        let mut state = lock(&self.world.state);
        state.event(
            Kind::Pod,
            &self.pod,
            Source::Kubelet(&self.node),
            what,
            message,
        );
    }

    /// The grace of the pod's deletion, when it is to go; nothing is left of one that is gone.
    fn deletion(&self) -> Option<i64> {
        let state = lock(&self.world.state);
        let pod = state
            .store
            .get(&self.key)
            .filter(|pod| pod["metadata"]["uid"] == *self.uid);
        let Some(pod) = pod else {
            return Some(0);
        };
        pod["metadata"]["deletionTimestamp"].as_str()?;
        pod["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .or(Some(0))
    }

    /// Ends when the pod is to go with another grace than the one that is known.
    async fn leaving(&self, known: Option<i64>) -> i64 {
        let mut changed = lock(&self.world.state).store.subscribe();
        loop {
            if let Some(grace) = self.deletion()
                && known != Some(grace)
            {
                return grace;
            }
            // The store lives as long as the world.
            let _ = changed.changed().await;
        }
    }

    /// The last of a pod: its object goes.
    fn bury(&self) {
        let options = Options {
            grace: Some(0),
            uid: Some(self.uid.clone()),
            ..Options::default()
        };
        let mut state = lock(&self.world.state);
        // One that never ran has failed, as far as it went.
        self.fail_unstarted(&mut state);
        // One that is gone already needs no burial.
        let _ = deletion::delete(&mut state.store, &self.key, &options);
    }

    /// Does all that comes before the container's start.
    ///
    /// An error says why the container contradicts itself.
    async fn bring_up(&self) -> Result<Parts, String> {
        tokio::time::sleep(self.world.config.boot_delay / 2).await;
        let (files, folders) = loop {
            match volumes::mount(&self.world, &self.key, &self.uid, &self.pod) {
                Ok(mounted) => break mounted,
                Err(message) => self.event(("Warning", "FailedMount"), &message),
            }
            tokio::time::sleep(MOUNT_RETRY).await;
        };
        self.ready_to_start();
        self.pull().await;
        let environment = loop {
            let services = self.world.service_variables();
            let resolved =
                environment::resolve(&lock(&self.world.state).store, &self.key, services);
            match resolved {
                Ok(environment) => break environment,
                Err(message) => {
                    self.event(("Warning", "Failed"), &format!("Error: {message}"));
                    self.wait_for(("CreateContainerConfigError", message));
                }
            }
            tokio::time::sleep(CONFIG_RETRY).await;
        };
        tokio::time::sleep(self.world.config.boot_delay / 2).await;
        self.parts(files, folders, environment)
    }

    async fn pull(&self) {
        let image = text(&self.pod["spec"]["containers"][0]["image"]);
        loop {
            self.event(("Normal", "Pulling"), &format!("Pulling image \"{image}\""));
            let begun = Instant::now();
            let time = lock(&self.world.state).settings.pull;
            tokio::time::sleep(time).await;
            match Container::pull(image) {
                Ok(_) => {
                    let took = begun.elapsed().as_millis();
                    let message = format!(
                        "Successfully pulled image \"{image}\" in {took}ms ({took}ms including \
                         waiting). Image size: 104857600 bytes."
                    );
                    return self.event(("Normal", "Pulled"), &message);
                }
                Err(why) => {
                    let message = format!("Failed to pull image \"{image}\": {why}");
                    self.event(("Warning", "Failed"), &message);
                    self.event(("Warning", "Failed"), "Error: ErrImagePull");
                    self.wait_for(("ErrImagePull", why.clone()));
                    tokio::time::sleep(PULL_ERROR).await;
                    let message = format!("Back-off pulling image \"{image}\"");
                    self.event(("Normal", "BackOff"), &message);
                    self.event(("Warning", "Failed"), "Error: ImagePullBackOff");
                    self.wait_for((
                        "ImagePullBackOff",
                        format!("{message}: ErrImagePull: {why}"),
                    ));
                    tokio::time::sleep(PULL_RETRY).await;
                }
            }
        }
    }

    fn parts(
        &self,
        files: Vec<super::container::MountedFile>,
        folders: Vec<std::path::PathBuf>,
        environment: Environment,
    ) -> Result<Parts, String> {
        let spec = &self.pod["spec"];
        let container = &spec["containers"][0];
        let (own, all) = (&container["securityContext"], &spec["securityContext"]);
        // The container's own word counts before the pod's.
        let security = |field: &str| match &own[field] {
            Value::Null => &all[field],
            value => value,
        };
        let command = ["command", "args"]
            .into_iter()
            .flat_map(|list| container[list].as_array().into_iter().flatten())
            .map(|word| expanded(text(word), &environment))
            .collect();
        let privileged = own["privileged"] == true;
        let named = |list: &'static str| {
            let names = own["capabilities"][list].as_array();
            names.into_iter().flatten().map(text)
        };
        let capabilities = match privileged {
            true => Capabilities::all(),
            false => Capabilities::of(named("add"), named("drop"))?,
        };
        Ok(Parts {
            sandbox: self.world.folder.clone(),
            id: self.key.name.clone(),
            image: text(&container["image"]).into(),
            command,
            env: environment,
            files,
            folders,
            user: security("runAsUser")
                .as_u64()
                .and_then(|id| u32::try_from(id).ok()),
            non_root: *security("runAsNonRoot") == true,
            no_new_privileges: own["allowPrivilegeEscalation"] == false,
            privileged,
            capabilities,
            agent: self.world.config.agent_binary.clone(),
        })
    }

    /// `None`: the container can't be started, and won't be.
    async fn start(&self, parts: Result<Parts, String>) -> Option<Container> {
        let name = text(&self.pod["spec"]["containers"][0]["name"]).to_owned();
        let started = match parts {
            Ok(parts) => Container::start(parts, self.world.wire.clone()).await,
            Err(why) => Err(io::Error::new(io::ErrorKind::InvalidInput, why)),
        };
        match started {
            Ok(container) => {
                self.event(("Normal", "Created"), &format!("Created container: {name}"));
                self.event(("Normal", "Started"), &format!("Started container {name}"));
                self.started(&container);
                Some(container)
            }
            // What the container is to be contradicts itself, or its image.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.event(("Warning", "Failed"), &format!("Error: {error}"));
                self.wait_for(("CreateContainerConfigError", error.to_string()));
                None
            }
            Err(error) => {
                self.event(("Warning", "Failed"), &format!("Error: {error}"));
                self.cannot_start(&error.to_string());
                None
            }
        }
    }

    /// Until the container has ended, of its own accord or because the pod is to go.
    async fn run(&self, container: &Container) -> i32 {
        let mut known = None;
        let mut asked: Option<Instant> = None;
        loop {
            let deadline = match (asked, known) {
                (Some(asked), Some(grace)) => {
                    let grace = u64::try_from(grace).unwrap_or(0);
                    asked + Duration::from_secs(grace)
                }
                // Never, as it were.
                _ => Instant::now() + Duration::from_secs(86400),
            };
            tokio::select! {
                code = container.exited() => return code,
                grace = self.leaving(known) => {
                    known = Some(grace);
                    if asked.is_none() {
                        asked = Some(Instant::now());
                        let name = text(&self.pod["spec"]["containers"][0]["name"]);
                        let message = format!("Stopping container {name}");
                        self.event(("Normal", "Killing"), &message);
                        container.terminate();
                    }
                }
                () = tokio::time::sleep_until(deadline.into()), if asked.is_some() => {
                    container.kill().await;
                }
            }
        }
    }
}
