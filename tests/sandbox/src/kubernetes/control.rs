//! What a test sees of the cluster, and what it can do to it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::access::{Rule, User};
use super::container::Container;
use super::deletion::{Options, is_over};
use super::kind::Kind;
use super::state::{PodRecord, State};
use super::store::{Key, text};
use super::view::{self, KubernetesEventView, KubernetesJobView, PodView, SecretView};
use super::{Kubernetes, NAMESPACE, USER};
use crate::calls::lock;
use crate::instance::{self, Process};

/// How long the end of all pods may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl Kubernetes {
    /// Every pod there ever was, in the order of their making.
    pub fn pods(&self) -> Vec<PodView> {
        self.with(|state| state.pods.iter().map(view::pod).collect())
    }

    /// Those that are not gone; those that have ended are there.
    pub fn live(&self) -> Vec<PodView> {
        let mut pods = self.pods();
        pods.retain(|pod| pod.exists);
        pods
    }

    /// Every Job there ever was, in the order of their making.
    pub fn jobs(&self) -> Vec<KubernetesJobView> {
        self.with(|state| state.jobs.iter().map(view::job).collect())
    }

    /// The Secrets that are there.
    pub fn secrets(&self) -> Vec<SecretView> {
        self.with(|state| view::secrets(state))
    }

    /// What has been told of objects, in the order of the last time.
    pub fn events(&self) -> Vec<KubernetesEventView> {
        self.with(|state| view::events(state))
    }

    /// The namespace of the launcher's context.
    pub fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    /// The object itself, as the API tells it; the kind is its resource, such as `jobs`.
    pub fn object(&self, resource: &str, name: &str) -> Option<Value> {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.plural() == resource)?;
        let namespace = if kind.is_namespaced() { NAMESPACE } else { "" };
        self.with(|state| {
            let found = state.store.get(&Key::new(kind, namespace, name));
            found.map(|object| Value::clone(object))
        })
    }

    /// Does something with everything, and lets the controllers see it.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.world.state);
        // The records may lag behind the store.
        state.record();
        let version = state.store.version();
        let done = f(&mut state);
        if state.store.version() != version {
            state.record();
        }
        done
    }

    /// Changes a setting, and lets the controllers see it.
    fn set(&self, f: impl FnOnce(&mut State)) {
        let mut state = lock(&self.world.state);
        f(&mut state);
        state.store.nudge();
    }

    fn pod<T>(&self, name: &str, f: impl FnOnce(&mut PodRecord) -> T) -> Option<T> {
        self.with(|state| state.pod_named(name).map(f))
    }

    fn container(&self, name: &str) -> Option<Container> {
        self.pod(name, |record| record.container.clone()).flatten()
    }

    fn key(&self, pod: &str) -> Option<Key> {
        self.pod(pod, |record| Key::of(Kind::Pod, &record.object))
    }

    /// Evicts a pod, as the Eviction API does it; says whether it was there.
    pub fn evict(&self, pod: &str) -> bool {
        let Some(key) = self.key(pod) else {
            return false;
        };
        let evicted =
            lock(&self.world.state).evict(&key, "EvictionByEvictionAPI", &Options::default());
        evicted.is_ok()
    }

    /// Takes a pod's place for one of a higher priority; says whether it was there.
    pub fn preempt(&self, pod: &str) -> bool {
        let Some(key) = self.key(pod) else {
            return false;
        };
        lock(&self.world.state)
            .evict(&key, "PreemptionByScheduler", &Options::default())
            .is_ok()
    }

    /// Deletes a pod, as `kubectl delete pod` does it; says whether it was there.
    pub fn delete_pod(&self, pod: &str) -> bool {
        let Some(key) = self.key(pod) else {
            return false;
        };
        let mut state = lock(&self.world.state);
        super::deletion::delete(&mut state.store, &key, &Options::default()).is_ok()
    }

    /// Empties a node: it gets no more pods, and those that it has are evicted.
    pub fn drain(&self, node: &str) {
        self.set(|state| state.drain(node));
    }

    /// SIGKILL to the container of a pod; says whether there was one.
    pub async fn kill_container(&self, pod: &str) -> bool {
        match self.container(pod) {
            Some(container) => {
                container.kill().await;
                true
            }
            None => false,
        }
    }

    /// The same, because it has used too much memory.
    pub async fn out_of_memory(&self, pod: &str) -> bool {
        self.pod(pod, |record| record.is_out_of_memory = true);
        self.kill_container(pod).await
    }

    /// Loses the node of a pod: its processes are gone, but the API server doesn't know. Its pods
    /// stay as they are until they are deleted by force, or until [`Kubernetes::forget_node`].
    pub fn lose_node(&self, pod: &str) {
        if let Some(node) = self.node(pod) {
            self.set(|state| state.lose_node(&node));
        }
    }

    /// Takes a lost node of a pod away, as a cloud does it: its pods are gone.
    pub fn forget_node(&self, pod: &str) {
        if let Some(node) = self.node(pod) {
            self.set(|state| state.forget_node(&node));
        }
    }

    fn node(&self, pod: &str) -> Option<String> {
        self.pod(pod, |record| {
            record.object["spec"]["nodeName"].as_str().map(Into::into)
        })
        .flatten()
    }

    /// From now on no pod can be scheduled: `0/3 nodes are available: 3 Insufficient cpu.`
    pub fn shortage(&self, message: &str) {
        self.set(|state| state.settings.shortages.push(message.into()));
    }

    /// Takes back all of [`Kubernetes::shortage`].
    pub fn clear_shortages(&self) {
        self.set(|state| state.settings.shortages.clear());
    }

    /// From now on pods are refused for want of quota: `exceeded quota: gpus, requested: …`
    pub fn quota(&self, message: &str) {
        self.set(|state| state.settings.quotas.push(message.into()));
    }

    /// From now on pods aren't admitted: `violates PodSecurity "restricted:latest": …`
    pub fn admission(&self, message: &str) {
        self.set(|state| state.settings.admissions.push(message.into()));
    }

    /// From now on who makes something that blocks its owner's deletion needs to be allowed to set
    /// the owner's finalizers.
    pub fn watch_over_owners(&self) {
        self.set(|state| state.settings.watches_owners = true);
    }

    /// From now on a Job that is deleted goes before its pod, as it may in a cluster that has just
    /// started: that goes as an orphan.
    pub fn overlook_dependents(&self) {
        self.set(|state| state.settings.overlooks_dependents = true);
    }

    /// Takes back all of [`Kubernetes::quota`] and [`Kubernetes::admission`].
    pub fn clear_refusals(&self) {
        self.set(|state| {
            state.settings.quotas.clear();
            state.settings.admissions.clear();
        });
    }

    /// What the pull of an image takes from now on.
    pub fn slow_pull(&self, time: Duration) {
        self.set(|state| state.settings.pull = time);
    }

    /// Forgets all versions so far: every watch, and every one that begins at such a version, is told
    /// that it is too old (410).
    pub fn compaction(&self) {
        self.set(|state| state.store.compact());
    }

    /// Lets every watch send a bookmark that wants them.
    pub fn bookmark_now(&self) {
        self.world.bookmarks.send_modify(|count| *count += 1);
    }

    /// Breaks all watches off, as a connection does that is lost.
    pub fn close_watches(&self) {
        self.world.closing.send_modify(|count| *count += 1);
    }

    /// From now on the server ends watches in good order after this time.
    pub fn expire_watch_after(&self, time: Duration) {
        self.set(|state| state.settings.watch_limit = Some(time));
    }

    /// Sets what the launcher's user may do in its namespace: the `rules` of a Role. It may do
    /// everything before that.
    ///
    /// # Errors
    /// When these are no rules.
    pub fn role(&self, rules: Value) -> Result<(), serde_json::Error> {
        let rules: Vec<Rule> = serde_json::from_value(rules)?;
        lock(&self.world.access).bind(USER, NAMESPACE, rules);
        Ok(())
    }

    /// Sets what a service account of the launcher's namespace may do there; nothing before that.
    ///
    /// # Errors
    /// When these are no rules.
    pub fn service_account_role(&self, name: &str, rules: Value) -> Result<(), serde_json::Error> {
        let rules: Vec<Rule> = serde_json::from_value(rules)?;
        let user = User::service_account(NAMESPACE, name);
        lock(&self.world.access).bind(&user.name, NAMESPACE, rules);
        Ok(())
    }

    /// Adds a service account to the launcher's namespace.
    pub fn service_account(&self, name: &str) {
        self.set(|state| state.add_service_account(NAMESPACE, name));
    }

    /// Adds a namespace, in which the launcher's user may do everything.
    pub fn add_namespace(&self, name: &str) {
        self.allow_in(name);
        self.set(|state| state.add_namespace(name));
    }

    /// Lets the launcher's user do everything in a namespace, which need not be there.
    pub fn allow_in(&self, namespace: &str) {
        lock(&self.world.access).bind(USER, namespace, vec![Rule::all()]);
    }

    /// Adds a node with labels besides those that each one has.
    pub fn add_node(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.set(|state| state.add_node(name, &labels));
    }

    /// Gives a node this much of a resource, such as `nvidia.com/gpu`.
    pub fn set_capacity(&self, node: &str, resource: &str, amount: &str) {
        self.set(|state| {
            state.store.update(&Key::new(Kind::Node, "", node), |node| {
                node["status"]["capacity"][resource] = json!(amount);
                node["status"]["allocatable"][resource] = json!(amount);
            });
        });
    }

    /// Takes a Secret away, as somebody might do it.
    pub fn remove_secret(&self, name: &str) {
        self.set(|state| {
            state.store.remove(&Key::new(Kind::Secret, NAMESPACE, name));
        });
    }

    /// Makes a Job this much older: its making, its start and its end.
    pub fn age(&self, job: &str, by: Duration) {
        let ago = jiff::SignedDuration::try_from(by).unwrap_or_default();
        self.set(|state| {
            let key = Key::new(Kind::Job, NAMESPACE, job);
            let older = |time: &Value| {
                let time: jiff::Timestamp = text(time).parse().ok()?;
                Some(json!(crate::clock::seconds(time - ago)))
            };
            state.store.update(&key, |job| {
                for place in ["/metadata/creationTimestamp", "/status/startTime"] {
                    if let Some(time) = job.pointer_mut(place)
                        && let Some(aged) = older(time)
                    {
                        *time = aged;
                    }
                }
            });
            let uid = state
                .store
                .get(&key)
                .map(|job| text(&job["metadata"]["uid"]).to_owned());
            if let Some(record) = uid.and_then(|uid| state.job(&uid)) {
                for time in [&mut record.started, &mut record.finished] {
                    *time = time.and_then(|time| time.checked_sub(by)).or(*time);
                }
            }
        });
    }

    /// Takes an object's labels and annotations away, so that it is anybody's.
    pub fn unmark(&self, job: &str) {
        self.set(|state| {
            state
                .store
                .update(&Key::new(Kind::Job, NAMESPACE, job), |job| {
                    job["metadata"]["labels"] = json!({});
                    job["metadata"]["annotations"] = json!({});
                });
        });
    }

    /// The live processes of a pod.
    pub fn processes(&self, pod: &str) -> Vec<Process> {
        instance::processes(&self.world.folder, pod)
    }

    /// What a pod's container has printed so far.
    pub fn log(&self, pod: &str) -> String {
        self.container(pod)
            .map(|container| container.log())
            .unwrap_or_default()
    }

    /// What would hold resources, or live on, if this were real.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut ended = Vec::new();
        self.with(|state| {
            for (key, object) in state.store.all() {
                let what = match key.kind {
                    Kind::Job => "job",
                    Kind::Pod => "pod",
                    Kind::Secret => "secret",
                    _ => continue,
                };
                let phase = match text(&object["status"]["phase"]) {
                    "" => "left".to_owned(),
                    phase => format!("left, {phase}"),
                };
                leaks.push(format!("{what} {} is {phase}", key.name));
            }
            for record in &state.pods {
                if record.is_gone || is_over(&record.object) {
                    ended.push(text(&record.object["metadata"]["name"]).to_owned());
                }
            }
        });
        for name in ended {
            for process in instance::processes(&self.world.folder, &name) {
                let words = process.argv.join(" ");
                leaks.push(format!("process {} of {name} lives: {words}", process.pid));
            }
        }
        leaks
    }

    /// Ends all pods at once.
    pub(crate) async fn stop_all(&self) {
        self.running.manager.abort();
        let mut lives = self.world.lives.subscribe();
        {
            let mut state = lock(&self.world.state);
            state.record();
            state.clear();
            for record in &state.pods {
                record.lost.send_replace(true);
            }
        }
        // What is left then goes with the sandbox's folder.
        let _ = tokio::time::timeout(STOP_LIMIT, lives.wait_for(|count| *count == 0)).await;
    }
}
