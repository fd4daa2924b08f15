//! What controllers tell of objects.
//! <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>

use serde_json::{Value, json};

use super::kind::Kind;
use super::state::State;
use super::store::text;
use crate::clock;

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source<'a> {
    JobController,
    Scheduler,
    /// Of this node.
    Kubelet(&'a str),
    NodeController,
}

impl Source<'_> {
    fn value(self) -> Value {
        match self {
            Source::JobController => json!({"component": "job-controller"}),
            Source::Scheduler => json!({"component": "default-scheduler"}),
            Source::Kubelet(node) => json!({"component": "kubelet", "host": node}),
            Source::NodeController => json!({"component": "node-controller"}),
        }
    }
}

impl State {
    /// Something of note. What is told again is counted.
    pub(super) fn event(
        &mut self,
        kind: Kind,
        object: &Value,
        source: Source<'_>,
        (level, reason): (&str, &str),
        message: &str,
    ) {
        let metadata = &object["metadata"];
        let namespace = match text(&metadata["namespace"]) {
            "" => "default",
            namespace => namespace,
        };
        let now = clock::seconds(clock::now());
        let known = self
            .store
            .list(Kind::Event, namespace)
            .find(|(_, event)| {
                event["involvedObject"]["uid"] == metadata["uid"]
                    && event["reason"] == reason
                    && event["message"] == message
            })
            .map(|(key, _)| key.clone());
        if let Some(key) = known {
            self.store.update(&key, |event| {
                let count = event["count"].as_u64().unwrap_or(1);
                event["count"] = json!(count + 1);
                event["lastTimestamp"] = json!(now);
            });
            return;
        }
        let mut involved = kind.head();
        for field in ["namespace", "name", "uid", "resourceVersion"] {
            if !metadata[field].is_null() {
                involved[field] = metadata[field].clone();
            }
        }
        let component = source.value();
        let event = json!({
            "metadata": {
                "name": format!("{}.{}", text(&metadata["name"]), clock::random_hex(16)),
                "namespace": namespace,
            },
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": level,
            "eventTime": null,
            "reportingComponent": component["component"],
            "reportingInstance": component["host"].as_str().unwrap_or_default(),
        });
        // A name of 64 random bits is free.
        let _ = self.store.create(Kind::Event, event);
    }
}
