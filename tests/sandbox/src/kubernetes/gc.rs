//! The garbage collector: what belongs to something goes with it.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::sync::Arc;

use serde_json::Value;

use super::deletion::{self, FOREGROUND, ORPHAN, Options, Propagation};
use super::kind::Kind;
use super::state::State;
use super::store::{Key, Store, text};

/// Does what is to be done now.
pub(super) fn sync(state: &mut State) {
    let all: Vec<(Key, Arc<Value>)> = state
        .store
        .all()
        .map(|(key, object)| (key.clone(), object.clone()))
        .collect();
    for (key, _) in &all {
        // As it is by now: an owner may have let go of it.
        let Some(object) = state.store.get(key).cloned() else {
            continue;
        };
        let metadata = &object["metadata"];
        let uid = text(&metadata["uid"]);
        if metadata["deletionTimestamp"].is_string() {
            if holds(&object, FOREGROUND) && state.settings.overlooks_dependents {
                release(&mut state.store, key, FOREGROUND);
            } else if holds(&object, FOREGROUND) {
                delete_dependents(&mut state.store, key, &all, uid);
            } else if holds(&object, ORPHAN) {
                orphan_dependents(&mut state.store, key, &all, uid);
            }
        } else if is_orphaned(&state.store, key, &object) {
            let options = Options::of(Propagation::Background, uid);
            // Only one that is gone can't be deleted.
            let _ = deletion::delete(&mut state.store, key, &options);
        }
    }
}

fn holds(object: &Value, finalizer: &str) -> bool {
    let names = object["metadata"]["finalizers"].as_array();
    names.is_some_and(|names| names.iter().any(|name| name == finalizer))
}

fn release(store: &mut Store, key: &Key, finalizer: &str) {
    store.update(key, |object| {
        if let Some(names) = object["metadata"]["finalizers"].as_array_mut() {
            names.retain(|name| name != finalizer);
        }
    });
}

/// The references of an object to an owner.
fn references<'a>(object: &'a Value, uid: &'a str) -> impl Iterator<Item = &'a Value> {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners
        .into_iter()
        .flatten()
        .filter(move |owner| owner["uid"] == uid)
}

/// The owner waits for those that block it.
fn delete_dependents(store: &mut Store, owner: &Key, all: &[(Key, Arc<Value>)], uid: &str) {
    let mut is_blocked = false;
    for (key, dependent) in all {
        if references(dependent, uid).next().is_none() {
            continue;
        }
        let options = Options::of(Propagation::Background, text(&dependent["metadata"]["uid"]));
        if !dependent["metadata"]["deletionTimestamp"].is_string() {
            // Only one that is gone can't be deleted.
            let _ = deletion::delete(store, key, &options);
        }
        let is_there = store
            .get(key)
            .is_some_and(|now| now["metadata"]["uid"] == dependent["metadata"]["uid"]);
        let blocks = references(dependent, uid).any(|owner| owner["blockOwnerDeletion"] == true);
        is_blocked |= is_there && blocks;
    }
    if !is_blocked {
        release(store, owner, FOREGROUND);
    }
}

fn orphan_dependents(store: &mut Store, owner: &Key, all: &[(Key, Arc<Value>)], uid: &str) {
    for (key, dependent) in all {
        if references(dependent, uid).next().is_none() {
            continue;
        }
        store.update(key, |object| {
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| owner["uid"] != uid);
            }
        });
    }
    release(store, owner, ORPHAN);
}

/// Whether an object has owners, but none of them is there: owners are looked up by their names in
/// the same namespace, and have to be those that are meant.
fn is_orphaned(store: &Store, key: &Key, object: &Value) -> bool {
    let Some(owners) = object["metadata"]["ownerReferences"].as_array() else {
        return false;
    };
    !owners.is_empty()
        && owners.iter().all(|owner| {
            let kind = Kind::ALL.into_iter().find(|kind| {
                owner["kind"] == kind.name() && owner["apiVersion"] == *kind.api_version()
            });
            // Kinds that the sandbox doesn't have are there as far as it knows.
            kind.is_some_and(|kind| {
                let namespace = if kind.is_namespaced() {
                    &key.namespace
                } else {
                    ""
                };
                let found = store.get(&Key::new(kind, namespace, text(&owner["name"])));
                found.is_none_or(|found| found["metadata"]["uid"] != owner["uid"])
            })
        })
}
