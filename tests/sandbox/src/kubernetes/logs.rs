//! What a pod's container has printed.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log-of-the-specified-pod>

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::CONTENT_TYPE;

use super::World;
use super::container::Container;
use super::error::{ApiError, Result};
use super::kind::Kind;
use super::path::Target;
use super::store::{Key, text};
use super::stream::{self, Pieces};
use crate::calls::lock;
use crate::server::Response;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn get(world: &Arc<World>, target: &Target) -> Result<Response> {
    let number = |name: &str| match target.parameter(name) {
        None => Ok(None),
        Some(value) => value
            .parse::<usize>()
            .map(Some)
            .map_err(|_| ApiError::bad(format!("{name}: Invalid value: {value:?}"))),
    };
    let (tail, limit) = (number("tailLines")?, number("limitBytes")?);
    let mut state = lock(&world.state);
    let key = Key::new(Kind::Pod, &target.namespace, &target.name);
    let pod = state.store.find(&key)?;
    let own = text(&pod["spec"]["containers"][0]["name"]);
    let wanted = target.parameter("container").unwrap_or(own);
    let name = &target.name;
    if wanted != own {
        return Err(ApiError::bad(format!(
            "container {wanted} is not valid for pod {name}"
        )));
    }
    if target.flag("previous") {
        return Err(ApiError::bad(format!(
            "previous terminated container {own:?} in pod {name:?} not found"
        )));
    }
    let record = state.pod(text(&pod["metadata"]["uid"]));
    if record.as_ref().is_some_and(|record| *record.lost.borrow()) {
        let node = text(&pod["spec"]["nodeName"]);
        return Err(ApiError::new(
            500,
            "InternalError",
            format!(
                "Get \"https://{node}:10250/containerLogs/{}/{name}/{own}\": dial tcp {node}:10250: \
                 connect: no route to host",
                target.namespace
            ),
        ));
    }
    let Some(container) = record.and_then(|record| record.container.clone()) else {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        // A pod without a node has no log, and nothing is wrong with that.
        if pod["spec"]["nodeName"].is_null() || waiting.is_null() {
            return Ok(plain(Body::empty()));
        }
        let reason = text(&waiting["reason"]);
        return Err(ApiError::bad(format!(
            "container {own:?} in pod {name:?} is waiting to start: {}",
            match reason {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                reason => reason,
            }
        )));
    };
    drop(state);
    let mut log = last_lines(container.log(), tail);
    if let Some(limit) = limit {
        truncate(&mut log, limit);
    }
    if !target.flag("follow") {
        return Ok(plain(log.into()));
    }
    let (pieces, body) = stream::body();
    tokio::spawn(follow(container, log, pieces));
    Ok(plain(body))
}

fn plain(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

fn last_lines(mut log: String, count: Option<usize>) -> String {
    let Some(count) = count else {
        return log;
    };
    let starts: Vec<usize> = log
        .split_inclusive('\n')
        .scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some(start)
        })
        .collect();
    let from = match count {
        0 => log.len(),
        count => starts
            .len()
            .checked_sub(count)
            .and_then(|at| starts.get(at).copied())
            .unwrap_or(0),
    };
    log.split_off(from)
}

fn truncate(log: &mut String, limit: usize) {
    let mut end = limit.min(log.len());
    while !log.is_char_boundary(end) {
        end -= 1;
    }
    log.truncate(end);
}

async fn follow(container: Container, first: String, pieces: Pieces) {
    let mut told = container.log().len();
    let mut piece = first;
    loop {
        if !piece.is_empty() && pieces.send(Ok(piece.into())).await.is_err() {
            return;
        }
        let ended = tokio::select! {
            _ = container.exited() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let log = container.log();
        piece = log.get(told..).unwrap_or_default().into();
        told = log.len();
        if ended {
            // What comes last; nobody may want it any more.
            let _ = pieces.send(Ok(piece.into())).await;
            return;
        }
    }
}
