//! What the cluster knows besides its objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::container::Container;
use super::kind::Kind;
use super::store::{Key, Store, text};
use crate::clock;

/// The cluster.
#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    /// Every pod there ever was, in the order of their making.
    pub(super) pods: Vec<PodRecord>,
    /// Every Job there ever was, in the order of their making, as it was at last; and since when it
    /// counts as started.
    pub(super) jobs: Vec<JobRecord>,
    pub(super) settings: Settings,
    /// The last octet of the next pod's address, as it were.
    next_address: u32,
}

/// What a test has set.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Why no pod can be scheduled.
    pub(super) shortages: Vec<String>,
    /// Why the Job controller can't make pods.
    pub(super) quotas: Vec<String>,
    /// Why pods aren't admitted.
    pub(super) admissions: Vec<String>,
    /// Whether the deletion of owners is blocked only by who may set their finalizers.
    pub(super) watches_owners: bool,
    /// Whether the garbage collector doesn't know yet who owns what.
    pub(super) overlooks_dependents: bool,
    /// What a pull takes.
    pub(super) pull: Duration,
    /// After which time the server ends watches.
    pub(super) watch_limit: Option<Duration>,
}

/// A pod's life outside the store.
#[derive(Debug)]
pub(super) struct PodRecord {
    pub(super) uid: String,
    /// As it was at last.
    pub(super) object: Arc<Value>,
    pub(super) is_gone: bool,
    pub(super) container: Option<Container>,
    pub(super) exit_code: Option<i32>,
    /// Whether it was killed for want of memory.
    pub(super) is_out_of_memory: bool,
    /// What has been shown of it.
    pub(super) shown: String,
    /// Whether its node takes care of it.
    pub(super) is_adopted: bool,
    /// Whether its node is lost.
    pub(super) lost: watch::Sender<bool>,
}

/// A Job's life outside the store.
#[derive(Debug)]
pub(super) struct JobRecord {
    pub(super) uid: String,
    pub(super) object: Arc<Value>,
    pub(super) is_gone: bool,
    /// Times in objects are of whole seconds.
    pub(super) started: Option<Instant>,
    /// When it finished.
    pub(super) finished: Option<Instant>,
    /// When the controller may try again to make a pod.
    pub(super) retry: Option<Instant>,
}

impl State {
    pub(super) fn new() -> Self {
        State {
            store: Store::new(),
            pods: Vec::new(),
            jobs: Vec::new(),
            settings: Settings::default(),
            next_address: 0,
        }
    }

    /// Adds a namespace with what belongs into it.
    pub(super) fn add_namespace(&mut self, name: &str) {
        let namespace = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        // One that is there already stays as it is.
        let _ = self.store.create(Kind::Namespace, namespace);
        self.add_service_account(name, "default");
    }

    pub(super) fn add_service_account(&mut self, namespace: &str, name: &str) {
        let account = json!({"metadata": {"name": name, "namespace": namespace}});
        // One that is there already stays as it is.
        let _ = self.store.create(Kind::ServiceAccount, account);
    }

    pub(super) fn add_node(&mut self, name: &str, labels: &BTreeMap<String, String>) {
        let mut all = json!({
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        });
        for (key, value) in labels {
            all[key] = json!(value);
        }
        let amounts = json!({
            "cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110",
            "nvidia.com/gpu": "0",
        });
        let node = json!({
            "metadata": {"name": name, "labels": all},
            "spec": {},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady",
                    "message": "kubelet is posting ready status",
                    "lastTransitionTime": clock::seconds(clock::now()),
                }],
            },
        });
        // One that is there already stays as it is.
        let _ = self.store.create(Kind::Node, node);
    }

    /// The next pod's address.
    pub(super) fn address(&mut self) -> String {
        self.next_address += 1;
        format!(
            "10.244.{}.{}",
            self.next_address / 250,
            self.next_address % 250 + 2
        )
    }

    pub(super) fn pod(&mut self, uid: &str) -> Option<&mut PodRecord> {
        self.pods.iter_mut().find(|record| record.uid == uid)
    }

    pub(super) fn job(&mut self, uid: &str) -> Option<&mut JobRecord> {
        self.jobs.iter_mut().find(|record| record.uid == uid)
    }

    /// The newest pod of a name.
    pub(super) fn pod_named(&mut self, name: &str) -> Option<&mut PodRecord> {
        self.pods
            .iter_mut()
            .rfind(|record| record.object["metadata"]["name"] == name)
    }

    /// Keeps the records up to date with the store.
    pub(super) fn record(&mut self) {
        for (key, object) in self.store.all() {
            let uid = text(&object["metadata"]["uid"]);
            match key.kind {
                Kind::Pod => match self.pods.iter_mut().find(|record| record.uid == uid) {
                    Some(record) => record.object = object.clone(),
                    None => self.pods.push(PodRecord {
                        uid: uid.into(),
                        object: object.clone(),
                        is_gone: false,
                        container: None,
                        exit_code: None,
                        is_out_of_memory: false,
                        shown: String::new(),
                        is_adopted: false,
                        lost: watch::Sender::new(false),
                    }),
                },
                Kind::Job => match self.jobs.iter_mut().find(|record| record.uid == uid) {
                    Some(record) => record.object = object.clone(),
                    None => self.jobs.push(JobRecord {
                        uid: uid.into(),
                        object: object.clone(),
                        is_gone: false,
                        started: None,
                        finished: None,
                        retry: None,
                    }),
                },
                _ => {}
            }
        }
        for record in self.pods.iter_mut().filter(|record| !record.is_gone) {
            record.is_gone = is_gone(&self.store, Kind::Pod, &record.object, &record.uid);
        }
        for record in self.jobs.iter_mut().filter(|record| !record.is_gone) {
            record.is_gone = is_gone(&self.store, Kind::Job, &record.object, &record.uid);
        }
    }
}

fn is_gone(store: &Store, kind: Kind, object: &Value, uid: &str) -> bool {
    store
        .get(&Key::of(kind, object))
        .is_none_or(|now| now["metadata"]["uid"] != uid)
}
