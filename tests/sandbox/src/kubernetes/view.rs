//! What a test sees of the cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kind::Kind;
use super::state::{JobRecord, PodRecord, State};
use super::store::text;

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodView {
    /// Its name, which is also its instance's.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `Pending`, `Running`, `Succeeded` or `Failed`; the last one when it is gone.
    pub phase: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Its container's image.
    pub image: String,
    /// Its Job's name.
    pub job: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its specification, with defaults.
    pub spec: Value,
    /// Its status.
    pub status: Value,
    /// What its container has printed.
    pub log: String,
    /// How its container has ended.
    pub exit_code: Option<i32>,
    /// Its node, once it has one.
    pub node: Option<String>,
}

/// A Job.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesJobView {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its specification, with defaults.
    pub spec: Value,
    /// Its status.
    pub status: Value,
    /// The conditions that hold, with their reasons: `Failed`, `DeadlineExceeded`.
    pub conditions: Vec<(String, String)>,
    /// Whether it is there.
    pub exists: bool,
}

/// A Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The names of what it holds.
    pub keys: Vec<String>,
    /// The name of the object that it goes with.
    pub owner: Option<String>,
}

/// An event of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesEventView {
    /// The object's kind.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// `Normal` or `Warning`.
    pub level: String,
    /// `FailedScheduling`.
    pub reason: String,
    /// What it says.
    pub message: String,
    /// How often it happened.
    pub count: u64,
}

fn map(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), text(value).to_owned()))
        .collect()
}

fn owner(object: &Value) -> Option<String> {
    let name = &object["metadata"]["ownerReferences"][0]["name"];
    name.as_str().map(Into::into)
}

pub(super) fn pod(record: &PodRecord) -> PodView {
    let object = &record.object;
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    PodView {
        name: text(&metadata["name"]).into(),
        namespace: text(&metadata["namespace"]).into(),
        phase: text(&object["status"]["phase"]).into(),
        exists: !record.is_gone,
        terminating: metadata["deletionTimestamp"].is_string(),
        image: text(&spec["containers"][0]["image"]).into(),
        job: owner(object),
        labels: map(&metadata["labels"]),
        annotations: map(&metadata["annotations"]),
        spec: spec.clone(),
        status: object["status"].clone(),
        log: record
            .container
            .as_ref()
            .map(|container| container.log())
            .unwrap_or_default(),
        exit_code: record.exit_code,
        node: spec["nodeName"].as_str().map(Into::into),
    }
}

pub(super) fn job(record: &JobRecord) -> KubernetesJobView {
    let object = &record.object;
    let metadata = &object["metadata"];
    let conditions = object["status"]["conditions"].as_array();
    KubernetesJobView {
        name: text(&metadata["name"]).into(),
        namespace: text(&metadata["namespace"]).into(),
        uid: record.uid.clone(),
        labels: map(&metadata["labels"]),
        annotations: map(&metadata["annotations"]),
        spec: object["spec"].clone(),
        status: object["status"].clone(),
        conditions: conditions
            .into_iter()
            .flatten()
            .map(|known| (text(&known["type"]).into(), text(&known["reason"]).into()))
            .collect(),
        exists: !record.is_gone,
    }
}

pub(super) fn secrets(state: &State) -> Vec<SecretView> {
    state
        .store
        .list(Kind::Secret, "")
        .map(|(key, secret)| SecretView {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            labels: map(&secret["metadata"]["labels"]),
            keys: map(&secret["data"]).into_keys().collect(),
            owner: owner(secret),
        })
        .collect()
}

pub(super) fn events(state: &State) -> Vec<KubernetesEventView> {
    let mut events: Vec<_> = state
        .store
        .list(Kind::Event, "")
        .map(|(_, event)| {
            let version = text(&event["metadata"]["resourceVersion"]);
            let view = KubernetesEventView {
                kind: text(&event["involvedObject"]["kind"]).into(),
                name: text(&event["involvedObject"]["name"]).into(),
                level: text(&event["type"]).into(),
                reason: text(&event["reason"]).into(),
                message: text(&event["message"]).into(),
                count: event["count"].as_u64().unwrap_or(1),
            };
            (version.parse::<u64>().unwrap_or(0), view)
        })
        .collect();
    events.sort_by_key(|(version, _)| *version);
    events.into_iter().map(|(_, view)| view).collect()
}
