//! Watches: streams of changes.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::World;
use super::error::{ApiError, Result};
use super::kind::Kind;
use super::path::Target;
use super::select::{Fields, Labels};
use super::store::{Change, Store};
use super::stream::{self, Broken, Pieces};
use crate::calls::lock;
use crate::server::Response;

/// How long a watch goes on whose caller doesn't say: at the real server between half an hour and an
/// hour.
const LIMIT: Duration = Duration::from_secs(1800);
/// The time between bookmarks: at the real server a minute or so.
const BOOKMARKS: Duration = Duration::from_secs(5);

struct Watch {
    kind: Kind,
    namespace: String,
    labels: Labels,
    fields: Fields,
    bookmarks: bool,
    limit: Duration,
    /// The last version told of.
    at: u64,
}

/// Refuses versions that are yet to come.
pub(super) fn check_version(store: &Store, target: &Target) -> Result<u64> {
    let Some(text) = target.parameter("resourceVersion") else {
        return Ok(0);
    };
    let version: u64 = text.parse().map_err(|_| {
        ApiError::bad(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid \
             syntax"
        ))
    })?;
    if version > store.version() {
        return Err(ApiError::new(
            504,
            "Timeout",
            format!(
                "Too large resource version: {version}, current: {}",
                store.version()
            ),
        ));
    }
    Ok(version)
}

pub(super) fn watch(world: &Arc<World>, target: &Target) -> Result<Response> {
    let labels = Labels::read(target.parameter("labelSelector").unwrap_or_default())?;
    let fields = Fields::read(
        target.kind,
        target.parameter("fieldSelector").unwrap_or_default(),
    )?;
    let bookmarks = target.flag("allowWatchBookmarks");
    let sends_initial = target.flag("sendInitialEvents");
    if sends_initial && target.parameter("resourceVersionMatch") != Some("NotOlderThan") {
        let mut error = ApiError::by_status(422);
        error.message =
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                         sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                .into();
        return Err(error);
    }
    let state = lock(&world.state);
    let from = check_version(&state.store, target)?;
    let mut limit = target
        .parameter("timeoutSeconds")
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds| *seconds > 0)
        .map_or(LIMIT, Duration::from_secs);
    if let Some(most) = state.settings.watch_limit {
        limit = limit.min(most);
    }
    let mut watch = Watch {
        kind: target.kind,
        namespace: target.namespace.clone(),
        labels,
        fields,
        bookmarks,
        limit,
        at: from,
    };
    let mut first = Vec::new();
    // Without a version all that is there comes first.
    if from == 0 || sends_initial {
        for (_, object) in state.store.list(watch.kind, &watch.namespace) {
            if watch.fits(object) {
                first.push(line("ADDED", object));
            }
        }
        watch.at = state.store.version();
        if sends_initial && bookmarks {
            first.push(watch.bookmark(true));
        }
    }
    drop(state);
    let (pieces, body) = stream::body();
    tokio::spawn(run(world.clone(), watch, first, pieces));
    let mut response = Response::new(body);
    response.headers_mut().insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

async fn run(world: Arc<World>, mut watch: Watch, first: Vec<Bytes>, pieces: Pieces) {
    let mut changed = lock(&world.state).store.subscribe();
    let (mut closing, mut asked) = (world.closing.subscribe(), world.bookmarks.subscribe());
    let end = tokio::time::sleep(watch.limit);
    tokio::pin!(end);
    let mut clock = tokio::time::interval(BOOKMARKS);
    clock.reset();
    let mut lines = first;
    loop {
        let over = match watch.news(&lock(&world.state).store, &mut lines) {
            Ok(()) => false,
            Err(error) => {
                lines.push(line("ERROR", &error.status()));
                true
            }
        };
        if !lines.is_empty() && pieces.send(Ok(lines.concat().into())).await.is_err() {
            return;
        }
        lines.clear();
        if over {
            return;
        }
        tokio::select! {
            // The store lives as long as the world.
            _ = changed.changed() => {}
            _ = closing.changed() => {
                let _ = pieces.send(Err(Broken)).await;
                return;
            }
            _ = asked.changed() => lines.extend(watch.bookmarks.then(|| watch.bookmark(false))),
            _ = clock.tick() => lines.extend(watch.bookmarks.then(|| watch.bookmark(false))),
            () = &mut end => {
                if watch.bookmarks {
                    let _ = pieces.send(Ok(watch.bookmark(false))).await;
                }
                return;
            }
            () = pieces.closed() => return,
        }
    }
}

impl Watch {
    fn fits(&self, object: &Value) -> bool {
        self.labels.fits(object) && self.fields.fits(object)
    }

    /// Adds what has happened since.
    fn news(&mut self, store: &Store, lines: &mut Vec<Bytes>) -> Result<()> {
        for change in store.since(self.at)? {
            lines.extend(self.tell(change));
        }
        self.at = store.version();
        Ok(())
    }

    /// What comes to fit is added, and what doesn't fit any more is deleted.
    fn tell(&self, change: &Change) -> Option<Bytes> {
        let key = &change.key;
        if key.kind != self.kind || !(self.namespace.is_empty() || self.namespace == key.namespace)
        {
            return None;
        }
        let was = change
            .before
            .as_ref()
            .is_some_and(|before| self.fits(before));
        let is = !change.is_gone && self.fits(&change.after);
        match (was, is) {
            (false, true) => Some(line("ADDED", &change.after)),
            (true, true) => Some(line("MODIFIED", &change.after)),
            (true, false) => {
                // As it was when it fitted, with the version of its end.
                let mut last = match (&change.before, change.is_gone) {
                    (Some(before), false) => Value::clone(before),
                    _ => Value::clone(&change.after),
                };
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                Some(line("DELETED", &last))
            }
            (false, false) => None,
        }
    }

    fn bookmark(&self, is_initial: bool) -> Bytes {
        let mut object = self.kind.head();
        object["metadata"] = json!({
            "resourceVersion": self.at.to_string(),
            "creationTimestamp": null,
        });
        if is_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.kind {
            Kind::Pod => {
                object["spec"] = json!({"containers": null});
                object["status"] = json!({});
            }
            Kind::Job => {
                object["spec"] = json!({"template": {
                    "metadata": {"creationTimestamp": null}, "spec": {"containers": null},
                }});
                object["status"] = json!({});
            }
            Kind::Event => {
                object["involvedObject"] = json!({});
                object["source"] = json!({});
                for field in ["eventTime", "firstTimestamp", "lastTimestamp"] {
                    object[field] = Value::Null;
                }
                object["reportingComponent"] = json!("");
                object["reportingInstance"] = json!("");
            }
            _ => {}
        }
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}
