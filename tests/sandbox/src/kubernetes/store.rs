//! All objects, and the history of their changes.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::error::{ApiError, Result};
use super::kind::Kind;
use crate::clock;

/// The version that a new cluster's first object has, or so.
const FIRST: u64 = 1000;

/// By what an object is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Key {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// An object's own.
    pub(super) fn of(kind: Kind, object: &Value) -> Self {
        Key::new(
            kind,
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        )
    }
}

/// A field's text, or nothing.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What happened to an object.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    /// `None`: it is new.
    pub(super) before: Option<Arc<Value>>,
    /// As it was at last, with the version of its end.
    pub(super) after: Arc<Value>,
    pub(super) is_gone: bool,
}

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: Vec<Change>,
    /// Changes up to this version are forgotten.
    forgotten: u64,
    changed: watch::Sender<u64>,
}

impl Store {
    pub(super) fn new() -> Self {
        Store {
            version: FIRST,
            objects: BTreeMap::new(),
            history: Vec::new(),
            forgotten: 0,
            changed: watch::Sender::new(FIRST),
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Tells of every change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes everybody who waits for changes.
    pub(super) fn nudge(&self) {
        self.changed.send_modify(|_| {});
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    pub(super) fn find(&self, key: &Key) -> Result<Arc<Value>> {
        self.get(key)
            .cloned()
            .ok_or_else(|| ApiError::not_found(key.kind, &key.name))
    }

    /// All objects of a kind, those of one namespace if it is given.
    pub(super) fn list<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects.iter().filter(move |(key, _)| {
            key.kind == kind && (namespace.is_empty() || key.namespace == namespace)
        })
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<(&Key, &Arc<Value>)> {
        self.objects
            .iter()
            .find(|(_, object)| object["metadata"]["uid"] == uid)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// The changes after a version; an error if they aren't all known any more.
    pub(super) fn since(&self, version: u64) -> Result<impl Iterator<Item = &Change>> {
        if version < self.forgotten {
            return Err(ApiError::expired(format!(
                "too old resource version: {version} ({})",
                self.forgotten + 1
            )));
        }
        let from = self
            .history
            .partition_point(|change| change.version <= version);
        Ok(self.history[from..].iter())
    }

    /// Forgets all changes so far, as etcd's compaction does.
    pub(super) fn compact(&mut self) {
        // A version of something else: what anybody has seen so far is too old.
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
        self.nudge();
    }

    /// Adds an object, which must be new.
    pub(super) fn create(&mut self, kind: Kind, mut object: Value) -> Result<Arc<Value>> {
        let key = Key::of(kind, &object);
        if self.objects.contains_key(&key) {
            return Err(ApiError::exists(kind, &key.name));
        }
        object["kind"] = json!(kind.name());
        object["apiVersion"] = json!(kind.api_version());
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(clock::uuid());
        }
        metadata["creationTimestamp"] = json!(clock::seconds(clock::now()));
        if matches!(kind, Kind::Job | Kind::Pod) {
            metadata["generation"] = json!(1);
        }
        Ok(self.put(key, object))
    }

    /// Changes an object. One that is to go and that nothing holds any more goes.
    pub(super) fn update(
        &mut self,
        key: &Key,
        change: impl FnOnce(&mut Value),
    ) -> Option<Arc<Value>> {
        let before = self.objects.get(key)?.clone();
        let mut object = Value::clone(&before);
        change(&mut object);
        let metadata = &mut object["metadata"];
        if is_empty(&metadata["finalizers"])
            && let Some(metadata) = metadata.as_object_mut()
        {
            metadata.remove("finalizers");
        }
        if object == *before {
            return Some(before);
        }
        let is_held = !is_empty(&object["metadata"]["finalizers"]);
        let grace = object["metadata"]["deletionGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(0);
        if object["metadata"]["deletionTimestamp"].is_string() && !is_held && grace == 0 {
            return Some(self.remove_as(key, object));
        }
        if key.kind == Kind::Job && object["spec"] != before["spec"] {
            let generation = object["metadata"]["generation"].as_u64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        Some(self.put(key.clone(), object))
    }

    /// Takes an object away at once.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let object = Value::clone(self.objects.get(key)?);
        Some(self.remove_as(key, object))
    }

    fn remove_as(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        let before = self.objects.remove(key);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let after = Arc::new(object);
        self.note(key.clone(), before, after.clone(), true);
        after
    }

    fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let after = Arc::new(object);
        let before = self.objects.insert(key.clone(), after.clone());
        self.note(key, before, after.clone(), false);
        after
    }

    fn note(&mut self, key: Key, before: Option<Arc<Value>>, after: Arc<Value>, is_gone: bool) {
        self.history.push(Change {
            version: self.version,
            key,
            before,
            after,
            is_gone,
        });
        self.changed.send_replace(self.version);
    }
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}
