//! Ways for a pod to end before its time.
//! <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/>

use serde_json::json;

use super::deletion::{self, Options, is_over};
use super::error::Result;
use super::events::Source;
use super::kind::Kind;
use super::scheduler::condition;
use super::state::State;
use super::store::{Key, text};

impl State {
    /// Evicts a pod: it is marked, and deleted with its grace.
    pub(super) fn evict(&mut self, key: &Key, reason: &str, options: &Options) -> Result<()> {
        let message = match reason {
            "EvictionByEvictionAPI" => "Eviction API: evicting",
            _ => "default-scheduler: preempting to accommodate a higher priority pod",
        };
        let ends = self.store.get(key).is_some_and(|pod| !is_over(pod));
        if ends {
            self.store.update(key, |pod| {
                condition(pod, "DisruptionTarget", true, (reason, message));
            });
        }
        deletion::delete(&mut self.store, key, options).map(|_| ())
    }

    /// Marks a node as one that gets no more pods, and evicts those that it has.
    pub(super) fn drain(&mut self, node: &str) {
        self.store.update(&Key::new(Kind::Node, "", node), |node| {
            node["spec"]["unschedulable"] = json!(true);
        });
        for key in self.pods_on(node) {
            // Only one that is gone can't be evicted.
            let _ = self.evict(&key, "EvictionByEvictionAPI", &Options::default());
        }
    }

    pub(super) fn pods_on(&self, node: &str) -> Vec<Key> {
        self.store
            .list(Kind::Pod, "")
            .filter(|(_, pod)| pod["spec"]["nodeName"] == node)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// A node is heard of no more: its pods aren't ready, and can't be told to end.
    /// <https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller>
    pub(super) fn lose_node(&mut self, node: &str) {
        self.store
            .update(&Key::new(Kind::Node, "", node), |object| {
                object["spec"]["taints"] = json!([
                    {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
                    {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
                ]);
                object["status"]["conditions"][0]["status"] = json!("Unknown");
                object["status"]["conditions"][0]["reason"] = json!("NodeStatusUnknown");
            });
        for key in self.pods_on(node) {
            self.store
                .update(&key, |pod| condition(pod, "Ready", false, ("", "")));
            let Some(pod) = self.store.get(&key).cloned() else {
                continue;
            };
            let what = ("Warning", "NodeNotReady");
            self.event(
                Kind::Pod,
                &pod,
                Source::NodeController,
                what,
                "Node is not ready",
            );
            if let Some(record) = self.pod(text(&pod["metadata"]["uid"])) {
                record.lost.send_replace(true);
            }
        }
    }

    /// A lost node is known to be no more: what was on it goes without its consent.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection>
    pub(super) fn forget_node(&mut self, node: &str) {
        self.store.remove(&Key::new(Kind::Node, "", node));
        for key in self.pods_on(node) {
            self.store.update(&key, |pod| {
                if !is_over(pod) {
                    pod["status"]["phase"] = json!("Failed");
                    let why = ("DeletionByPodGC", "PodGC: node no longer exists");
                    condition(pod, "DisruptionTarget", true, why);
                }
            });
            let options = Options {
                grace: Some(0),
                ..Options::default()
            };
            // Only one that is gone can't be deleted.
            let _ = deletion::delete(&mut self.store, &key, &options);
        }
    }

    /// Takes everything away at once, as the sandbox's end does.
    pub(super) fn clear(&mut self) {
        let keys: Vec<Key> = self
            .store
            .all()
            .filter(|(key, _)| matches!(key.kind, Kind::Job | Kind::Pod | Kind::Secret))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.store.remove(&key);
        }
    }
}
