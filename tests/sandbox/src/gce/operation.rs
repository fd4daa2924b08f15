//! Operations: what a call has begun.
//! <https://docs.cloud.google.com/compute/docs/api/how-tos/api-requests-responses#handling_api_responses>

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::{ApiError, Failure, Result};
use super::state::{Remembered, State, time};
use super::{Context, World, link};
use crate::calls::lock;
use crate::clock;
use crate::google::PROJECT;

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Running,
    Done,
}

/// An operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) name: String,
    /// `None`: a global one.
    pub(super) zone: Option<String>,
    /// `insert` or `delete`.
    pub(super) kind: &'static str,
    /// The resource that it is about: `projects/…`.
    target: String,
    target_id: String,
    user: String,
    pub(super) status: Status,
    progress: u8,
    inserted: Timestamp,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    failure: Option<Failure>,
}

impl Operation {
    /// `projects/…/operations/…`
    fn resource(&self) -> String {
        let place = match &self.zone {
            Some(zone) => format!("zones/{zone}"),
            None => "global".into(),
        };
        format!("projects/{PROJECT}/{place}/operations/{}", self.name)
    }

    pub(super) fn json(&self, world: &World) -> Value {
        let resource = self.resource();
        let mut json = json!({
            "kind": "compute#operation",
            "id": link::id(&resource),
            "name": self.name,
            "operationType": self.kind,
            "targetLink": world.link(&self.target),
            "targetId": self.target_id,
            "status": match self.status {
                Status::Pending => "PENDING",
                Status::Running => "RUNNING",
                Status::Done => "DONE",
            },
            "user": self.user,
            "progress": self.progress,
            "insertTime": time(self.inserted),
            "selfLink": world.link(&resource),
        });
        if let Some(zone) = &self.zone {
            json["zone"] = world
                .link(&format!("projects/{PROJECT}/zones/{zone}"))
                .into();
        }
        for (name, value) in [("startTime", self.started), ("endTime", self.ended)] {
            if let Some(value) = value {
                json[name] = time(value).into();
            }
        }
        if let Some(failure) = &self.failure {
            let mut error = json!({"code": failure.code, "message": failure.message});
            if !failure.details.is_empty() {
                error["errorDetails"] = failure.details.clone().into();
            }
            json["error"] = json!({"errors": [error]});
            json["httpErrorStatusCode"] = failure.status.into();
            json["httpErrorMessage"] = failure.words.into();
        }
        json
    }
}

/// Begins an operation, which a later call with the same request id gets again.
pub(super) fn begin(
    context: &Context<'_>,
    state: &mut State,
    kind: &'static str,
    target: &str,
    target_id: &str,
) -> Operation {
    let now = clock::now();
    let zone = context.route.path.get("zone").cloned();
    let operation = Operation {
        name: format!(
            "operation-{}-{}-{}-{}",
            now.as_millisecond(),
            clock::random_hex(13),
            clock::random_hex(8),
            clock::random_hex(8)
        ),
        zone,
        kind,
        target: target.into(),
        target_id: target_id.into(),
        user: context.principal.email.clone(),
        status: Status::Pending,
        progress: 0,
        inserted: now,
        started: None,
        ended: None,
        failure: None,
    };
    state.operations.push(operation.clone());
    if let Some(id) = context.parameter("requestId") {
        let remembered = Remembered {
            request: fingerprint(context),
            operation: operation.name.clone(),
        };
        state.requests.insert(id.to_lowercase(), remembered);
    }
    operation
}

fn fingerprint(context: &Context<'_>) -> (String, String, Value) {
    let path = context.request.path().to_owned();
    (context.method().to_owned(), path, context.body.clone())
}

/// The operation that an earlier call with the same request id began. Google says that such a call
/// is ignored; it doesn't say what it does where the two calls differ: here that is refused.
pub(super) fn earlier(context: &Context<'_>, state: &State) -> Result<Option<Value>> {
    let Some(id) = context.parameter("requestId") else {
        return Ok(None);
    };
    if !is_request_id(id) {
        let why = "Must be a valid UUID, and not the zero UUID.";
        return Err(ApiError::invalid("requestId", id, why));
    }
    let Some(earlier) = state.requests.get(&id.to_lowercase()) else {
        return Ok(None);
    };
    if earlier.request != fingerprint(context) {
        let why = "The request ID was used for a different request.";
        return Err(ApiError::invalid("requestId", id, why));
    }
    let operation = state
        .operations
        .iter()
        .find(|operation| operation.name == earlier.operation);
    Ok(operation.map(|operation| operation.json(context.world)))
}

/// A UUID of RFC 9562, with its version and its variant.
fn is_request_id(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && ('1'..='8').any(|version| groups[2].starts_with(version))
        && groups[3].starts_with(['8', '9', 'a', 'b', 'A', 'B'])
}

impl World {
    /// Brings an operation on; nothing brings it back.
    pub(super) fn advance(&self, name: &str, status: Status, progress: u8) {
        {
            let mut state = lock(&self.state);
            let found = state.operations.iter_mut().find(|o| o.name == name);
            let Some(operation) = found.filter(|o| o.status != Status::Done) else {
                return;
            };
            let now = clock::now();
            operation.status = status;
            operation.progress = progress;
            if status != Status::Pending {
                operation.started.get_or_insert(now);
            }
            if status == Status::Done {
                operation.ended = Some(now);
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends an operation with an error.
    pub(super) fn fail(&self, name: &str, failure: Failure) {
        {
            let mut state = lock(&self.state);
            let found = state.operations.iter_mut().find(|o| o.name == name);
            if let Some(operation) = found.filter(|o| o.status != Status::Done) {
                operation.failure = Some(failure);
            }
        }
        self.advance(name, Status::Done, 100);
    }

    fn find_operation(&self, context: &Context<'_>) -> Result<(Value, Status)> {
        let name = context.path("operation");
        let zone = context.route.path.get("zone");
        let state = lock(&self.state);
        let found = state
            .operations
            .iter()
            .find(|operation| operation.name == name && operation.zone.as_ref() == zone);
        let operation = found.ok_or_else(|| {
            let place = zone.map_or("global".into(), |zone| format!("zones/{zone}"));
            ApiError::not_found(&format!("projects/{PROJECT}/{place}/operations/{name}"))
        })?;
        Ok((operation.json(self), operation.status))
    }
}

fn permitted(context: &Context<'_>) -> Result<()> {
    let (permission, place) = match context.route.path.get("zone") {
        Some(zone) => ("compute.zoneOperations.get", format!("zones/{zone}")),
        None => ("compute.globalOperations.get", "global".into()),
    };
    let name = context.path("operation");
    context.require(
        permission,
        &format!("projects/{PROJECT}/{place}/operations/{name}"),
    )
}

pub(super) fn get(context: &Context<'_>) -> Result<Value> {
    permitted(context)?;
    Ok(context.world.find_operation(context)?.0)
}

/// Answers when the operation is done, or after two minutes with what it is then.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/zoneOperations/wait>
pub(super) async fn wait(context: &Context<'_>) -> Result<Value> {
    permitted(context)?;
    let world = context.world;
    let limit: Duration = lock(&world.state).wait_limit;
    let mut changes = world.changed.subscribe();
    let done = async {
        loop {
            changes.borrow_and_update();
            match world.find_operation(context) {
                Ok((_, Status::Pending | Status::Running)) => {}
                answer => return answer.map(|_| ()),
            }
            // The sender lives as long as the world.
            let _ = changes.changed().await;
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(limit, done) => ended.unwrap_or(Ok(()))?,
        () = context.request.hung_up() => {}
    }
    Ok(world.find_operation(context)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids() {
        for (text, expected) in [
            ("0b8e7b0c-2f43-4c2e-9d3b-6f1c2a3b4c5d", true),
            ("0B8E7B0C-2F43-4C2E-AD3B-6F1C2A3B4C5D", true),
            ("00000000-0000-0000-0000-000000000000", false),
            ("0b8e7b0c-2f43-0c2e-9d3b-6f1c2a3b4c5d", false),
            ("0b8e7b0c-2f43-4c2e-1d3b-6f1c2a3b4c5d", false),
            ("0b8e7b0c2f434c2e9d3b6f1c2a3b4c5d", false),
            ("launch-1", false),
            ("", false),
        ] {
            assert_eq!(is_request_id(text), expected, "{text}");
        }
    }
}
