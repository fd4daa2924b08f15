//! The deletion of objects, with grace and with finalizers.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion>
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::error::{ApiError, Result};
use super::kind::Kind;
use super::store::{Key, Store, text};
use crate::clock;

/// What keeps an owner until its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// What keeps an owner until its dependents know of it no more.
pub(super) const ORPHAN: &str = "orphan";

/// How dependents are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// DeleteOptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) propagation: Option<Propagation>,
    pub(super) grace: Option<i64>,
    pub(super) uid: Option<String>,
    pub(super) version: Option<String>,
}

impl Options {
    pub(super) fn read(body: &Value) -> Result<Options> {
        let propagation = match &body["propagationPolicy"] {
            Value::Null => match body["orphanDependents"].as_bool() {
                None => None,
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
            },
            word => Some(match text(word) {
                "Background" => Propagation::Background,
                "Foreground" => Propagation::Foreground,
                "Orphan" => Propagation::Orphan,
                _ => {
                    let words = r#"supported values: "Foreground", "Background", "Orphan", "nil""#;
                    let mut error = ApiError::by_status(422);
                    error.message = format!(
                        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: \
                         Unsupported value: {word}: {words}"
                    );
                    return Err(error);
                }
            }),
        };
        let conditions = &body["preconditions"];
        Ok(Options {
            propagation,
            grace: body["gracePeriodSeconds"].as_i64(),
            uid: conditions["uid"].as_str().map(Into::into),
            version: conditions["resourceVersion"].as_str().map(Into::into),
        })
    }

    /// As controllers delete.
    pub(super) fn of(propagation: Propagation, uid: &str) -> Self {
        Options {
            propagation: Some(propagation),
            uid: Some(uid.into()),
            ..Options::default()
        }
    }

    fn check(&self, key: &Key, object: &Value) -> Result<()> {
        let pairs = [
            ("UID", &self.uid, &object["metadata"]["uid"]),
            (
                "ResourceVersion",
                &self.version,
                &object["metadata"]["resourceVersion"],
            ),
        ];
        for (what, wanted, found) in pairs {
            if let Some(wanted) = wanted
                && found != wanted.as_str()
            {
                let why = format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {}",
                    text(found)
                );
                return Err(ApiError::conflict(key.kind, &key.name, &why));
            }
        }
        Ok(())
    }
}

/// What has become of the object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) object: Arc<Value>,
    pub(super) is_gone: bool,
}

/// Whether a pod has ended.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

/// Deletes an object, or begins to.
pub(super) fn delete(store: &mut Store, key: &Key, options: &Options) -> Result<Outcome> {
    let object = store.find(key)?;
    options.check(key, &object)?;
    let grace = match key.kind {
        Kind::Pod => pod_grace(&object, options.grace),
        _ => 0,
    };
    let was_deleting = object["metadata"]["deletionTimestamp"].is_string();
    let propagation = options.propagation.or_else(|| default(key.kind, &object));
    let updated = store.update(key, |object| {
        let metadata = &mut object["metadata"];
        if !was_deleting {
            let mut finalizers = metadata["finalizers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if let Some(propagation) = propagation {
                finalizers.retain(|name| name != FOREGROUND && name != ORPHAN);
                match propagation {
                    Propagation::Background => {}
                    Propagation::Foreground => finalizers.push(json!(FOREGROUND)),
                    Propagation::Orphan => finalizers.push(json!(ORPHAN)),
                }
            }
            metadata["finalizers"] = json!(finalizers);
        }
        let before = metadata["deletionGracePeriodSeconds"].as_i64();
        // A second deletion can only shorten the first one's grace.
        if !was_deleting || before.is_some_and(|before| grace < before) {
            let end = clock::now() + SignedDuration::from_secs(grace);
            metadata["deletionTimestamp"] = json!(clock::seconds(end));
            metadata["deletionGracePeriodSeconds"] = json!(grace);
        }
    });
    // An object was found, so there is one now.
    let object = updated.unwrap_or(object);
    Ok(Outcome {
        is_gone: store.get(key).is_none(),
        object,
    })
}

/// The grace of a pod that has a process to end.
fn pod_grace(pod: &Value, wanted: Option<i64>) -> i64 {
    if is_over(pod) || pod["spec"]["nodeName"].is_null() {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    wanted.or(own).unwrap_or(30).max(0)
}

/// What applies when the caller doesn't say: Jobs leave their pods alone.
/// <https://kubernetes.io/docs/reference/using-api/deprecation-guide/>
fn default(kind: Kind, object: &Value) -> Option<Propagation> {
    let asked = |name: &str| {
        let names = object["metadata"]["finalizers"].as_array();
        names.is_some_and(|names| names.iter().any(|known| known == name))
    };
    if asked(FOREGROUND) {
        Some(Propagation::Foreground)
    } else if asked(ORPHAN) || kind == Kind::Job {
        Some(Propagation::Orphan)
    } else {
        None
    }
}
