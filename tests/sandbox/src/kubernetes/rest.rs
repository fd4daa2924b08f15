//! The verbs.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs>

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::access::User;
use super::deletion::{self, Options};
use super::description::definition;
use super::error::{ApiError, Cause, Result, document};
use super::kind::Kind;
use super::path::Target;
use super::select::{Fields, Labels};
use super::state::State;
use super::store::{Key, text};
use super::{World, admission, logs, owners, patch, schema, validate, watching};
use crate::calls::lock;
use crate::server::{Request, Response};

/// Contents of Secrets that are shorter than this aren't looked for elsewhere: they are found
/// anywhere.
const SHORT: usize = 8;

/// Answers an authorized call.
pub(super) async fn dispatch(
    world: &Arc<World>,
    user: &User,
    target: &Target,
    request: &Request,
) -> Result<Response> {
    check_query(target)?;
    check_content_type(target, request)?;
    if !target.sub.is_empty() {
        return subresource(world, target, request).await;
    }
    if !target.kind.verbs().contains(&target.verb) {
        return Err(ApiError::method(target.verb));
    }
    match target.verb {
        "watch" => watching::watch(world, target),
        "list" => list(&lock(&world.state), target),
        "get" => {
            let object = lock(&world.state).store.find(&key(target))?;
            Ok(document(200, &object, &[]))
        }
        "create" => create(world, user, target, &request.body),
        "update" => {
            let object = schema::object(target.kind, &request.body)?;
            change(world, target, |_| Ok(object.clone()))
        }
        "patch" => patch_object(world, target, request),
        "delete" => delete(world, target, &request.body),
        "deletecollection" => delete_all(world, target, &request.body),
        verb => Err(ApiError::method(verb)),
    }
}

/// Bodies are JSON: this server reads neither YAML nor Protocol Buffers.
fn check_content_type(target: &Target, request: &Request) -> Result<()> {
    let kind = request.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if target.verb == "patch" || matches!(kind, "" | "application/json") {
        return Ok(());
    }
    Err(unsupported("application/json"))
}

fn unsupported(known: &str) -> ApiError {
    ApiError::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {known}"
        ),
    )
}

fn key(target: &Target) -> Key {
    Key::new(target.kind, &target.namespace, &target.name)
}

/// What holds for any verb's parameters.
fn check_query(target: &Target) -> Result<()> {
    if let Some(word) = target.parameter("dryRun")
        && word != "All"
    {
        return Err(ApiError::bad(format!(
            "invalid dry-run value {word:?}: supported values: \"All\""
        )));
    }
    if let Some(word) = target.parameter("fieldValidation")
        && !matches!(word, "Ignore" | "Warn" | "Strict")
    {
        return Err(ApiError::bad(format!(
            "fieldValidation: Unsupported value: {word:?}: supported values: \"Ignore\", \"Warn\", \
             \"Strict\""
        )));
    }
    for name in ["timeoutSeconds", "limit", "gracePeriodSeconds"] {
        if let Some(value) = target.parameter(name)
            && value.parse::<i64>().is_err()
        {
            return Err(ApiError::bad(format!(
                "strconv.ParseInt: parsing {value:?}: invalid syntax"
            )));
        }
    }
    Ok(())
}

fn selectors(target: &Target) -> Result<(Labels, Fields)> {
    let labels = Labels::read(target.parameter("labelSelector").unwrap_or_default())?;
    let fields = Fields::read(
        target.kind,
        target.parameter("fieldSelector").unwrap_or_default(),
    )?;
    Ok((labels, fields))
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>
fn list(state: &State, target: &Target) -> Result<Response> {
    let (labels, fields) = selectors(target)?;
    watching::check_version(&state.store, target)?;
    let token = target.parameter("continue");
    let (version, after) = match token {
        None => (state.store.version(), None),
        Some(token) => {
            let (version, after) = read_token(target, token)?;
            if version < state.store.forgotten() {
                return Err(ApiError::expired(
                    "The provided continue parameter is too old to display a consistent list \
                     result. You can start a new list without the continue parameter, or use the \
                     continue token in this response to retrieve the remainder of the results.",
                ));
            }
            (version, Some(after))
        }
    };
    let mut found: Vec<_> = state
        .store
        .list(target.kind, &target.namespace)
        .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
        .filter(|(_, object)| labels.fits(object) && fields.fits(object))
        .collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let limit = target
        .parameter("limit")
        .and_then(|limit| limit.parse::<usize>().ok());
    if let Some(limit) = limit.filter(|limit| *limit > 0 && found.len() > *limit) {
        let rest = found.len() - limit;
        found.truncate(limit);
        if let Some((last, _)) = found.last() {
            let token = json!([version, last.namespace, last.name]).to_string();
            metadata["continue"] = json!(URL_SAFE_NO_PAD.encode(token));
            metadata["remainingItemCount"] = json!(rest);
        }
    }
    let items: Vec<Value> = found
        .into_iter()
        .map(|(_, object)| {
            let mut object = Value::clone(object);
            // The list tells what its items are.
            if let Some(object) = object.as_object_mut() {
                object.remove("kind");
                object.remove("apiVersion");
            }
            object
        })
        .collect();
    let body = json!({
        "kind": format!("{}List", target.kind.name()),
        "apiVersion": target.kind.api_version(),
        "metadata": metadata,
        "items": items,
    });
    Ok(document(200, &body, &[]))
}

fn read_token(target: &Target, token: &str) -> Result<(u64, Key)> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    let parts: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let version = parts[0].as_u64().ok_or_else(|| {
        ApiError::bad("continue key is not valid: illegal base64 data at input byte 0")
    })?;
    let key = Key::new(target.kind, text(&parts[1]), text(&parts[2]));
    Ok((version, key))
}

fn create(world: &World, user: &User, target: &Target, body: &[u8]) -> Result<Response> {
    if !target.name.is_empty() {
        return Err(ApiError::method("POST"));
    }
    let object = schema::object(target.kind, body)?;
    if target.kind == Kind::AccessReview {
        let answer = lock(&world.access).review(user, &object)?;
        return Ok(document(201, &answer, &[]));
    }
    if target.namespace.is_empty() {
        return Err(ApiError::method("POST"));
    }
    if lock(&world.state).settings.watches_owners {
        owners::check(&lock(&world.access), user, target, &object)?;
    }
    let mut state = lock(&world.state);
    let object = admission::prepare(&state, target.kind, &target.namespace, object)?;
    if target.kind == Kind::Secret {
        world.note_secret(&object);
    }
    if target.flag("dryRun") {
        let key = Key::of(target.kind, &object);
        return match state.store.get(&key) {
            Some(_) => Err(ApiError::exists(target.kind, &key.name)),
            None => Ok(document(201, &object, &[])),
        };
    }
    let stored = state.store.create(target.kind, object)?;
    Ok(document(201, &stored, &[]))
}

impl World {
    /// What is in a Secret mustn't be found elsewhere.
    fn note_secret(&self, secret: &Value) {
        for (_, value) in secret["data"].as_object().into_iter().flatten() {
            let bytes = STANDARD.decode(text(value)).unwrap_or_default();
            let content = String::from_utf8_lossy(&bytes);
            if content.len() >= SHORT {
                self.wire.secret(content.trim());
                self.wire.secret(text(value));
            }
        }
    }
}

fn patch_object(world: &World, target: &Target, request: &Request) -> Result<Response> {
    let kind = request.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let steps: Value = serde_json::from_slice(&request.body)
        .map_err(|error| ApiError::bad(format!("error decoding patch: {error}")))?;
    let apply = |before: &Value| {
        let mut after = before.clone();
        match kind {
            "application/merge-patch+json" => patch::merge(&mut after, &steps),
            "application/strategic-merge-patch+json" => {
                patch::strategic(&mut after, &steps, definition(&target.kind.definition()));
            }
            "application/json-patch+json" => patch::json(&mut after, &steps)?,
            _ => {
                return Err(unsupported(
                    "application/json-patch+json, application/merge-patch+json, \
                     application/strategic-merge-patch+json",
                ));
            }
        }
        schema::check(&target.kind.definition(), target.kind.name(), &after)?;
        Ok(schema::without_nulls(after))
    };
    change(world, target, apply)
}

/// Replaces an object by what becomes of it.
fn change(
    world: &World,
    target: &Target,
    apply: impl FnOnce(&Value) -> Result<Value>,
) -> Result<Response> {
    let key = key(target);
    let mut state = lock(&world.state);
    let before = state.store.find(&key)?;
    let mut after = apply(&before)?;
    let (old, new) = (&before["metadata"], &after["metadata"]);
    if !new["uid"].is_null() && new["uid"] != old["uid"] {
        let why = Cause::invalid("metadata.uid", &new["uid"], "field is immutable");
        return Err(ApiError::invalid(key.kind, &key.name, &[why]));
    }
    if !new["resourceVersion"].is_null() && new["resourceVersion"] != old["resourceVersion"] {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        return Err(ApiError::conflict(key.kind, &key.name, why));
    }
    // What only the server sets.
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if old[field].is_null() {
            if let Some(metadata) = after["metadata"].as_object_mut() {
                metadata.remove(field);
            }
        } else {
            after["metadata"][field] = old[field].clone();
        }
    }
    if !before["status"].is_null() {
        after["status"] = before["status"].clone();
    }
    validate::update(key.kind, &before, &after)?;
    validate::object(key.kind, &after)?;
    if key.kind == Kind::Secret {
        world.note_secret(&after);
    }
    if target.flag("dryRun") {
        return Ok(document(200, &after, &[]));
    }
    let stored = state
        .store
        .update(&key, |object| *object = after)
        .unwrap_or(before);
    Ok(document(200, &stored, &[]))
}

/// The options of a deletion come in the body, or as parameters.
fn delete_options(target: &Target, body: &[u8]) -> Result<Options> {
    let mut options = json!({});
    if !body.is_empty() {
        options = serde_json::from_slice(body).map_err(|error| {
            ApiError::bad(format!("the object provided is unrecognized: {error}"))
        })?;
        schema::check(schema::DELETE_OPTIONS, "DeleteOptions", &options)?;
    }
    if let Some(policy) = target.parameter("propagationPolicy") {
        options["propagationPolicy"] = json!(policy);
    }
    if let Some(seconds) = target.parameter("gracePeriodSeconds") {
        options["gracePeriodSeconds"] = json!(seconds.parse::<i64>().ok());
    }
    Options::read(&options)
}

fn delete(world: &World, target: &Target, body: &[u8]) -> Result<Response> {
    let options = delete_options(target, body)?;
    let mut state = lock(&world.state);
    let key = key(target);
    if target.flag("dryRun") {
        let object = state.store.find(&key)?;
        return Ok(document(200, &object, &[]));
    }
    let mut warnings = Vec::new();
    if key.kind == Kind::Job && options.propagation.is_none() {
        warnings.push(
            "child pods are preserved by default when jobs are deleted; set \
             propagationPolicy=Background to remove them or set propagationPolicy=Orphan to \
             suppress this warning"
                .to_owned(),
        );
    }
    let outcome = deletion::delete(&mut state.store, &key, &options)?;
    if !outcome.is_gone || key.kind == Kind::Pod {
        return Ok(document(200, &outcome.object, &warnings));
    }
    let mut details = json!({
        "name": key.name,
        "kind": key.kind.plural(),
        "uid": outcome.object["metadata"]["uid"],
    });
    if !key.kind.group().is_empty() {
        details["group"] = json!(key.kind.group());
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    });
    Ok(document(200, &status, &warnings))
}

fn delete_all(world: &World, target: &Target, body: &[u8]) -> Result<Response> {
    let options = delete_options(target, body)?;
    let (labels, fields) = selectors(target)?;
    let mut state = lock(&world.state);
    let keys: Vec<Key> = state
        .store
        .list(target.kind, &target.namespace)
        .filter(|(_, object)| labels.fits(object) && fields.fits(object))
        .map(|(key, _)| key.clone())
        .collect();
    let mut items = Vec::new();
    for key in keys {
        items.push(Value::clone(
            &deletion::delete(&mut state.store, &key, &options)?.object,
        ));
    }
    let body = json!({
        "kind": format!("{}List", target.kind.name()),
        "apiVersion": target.kind.api_version(),
        "metadata": {"resourceVersion": state.store.version().to_string()},
        "items": items,
    });
    Ok(document(200, &body, &[]))
}

async fn subresource(world: &Arc<World>, target: &Target, request: &Request) -> Result<Response> {
    match (target.verb, target.sub.as_str()) {
        ("get", "log") => logs::get(world, target),
        ("get", "status") => {
            let object = lock(&world.state).store.find(&key(target))?;
            Ok(document(200, &object, &[]))
        }
        ("create", "eviction") => {
            let body: Value = serde_json::from_slice(&request.body)
                .map_err(|error| ApiError::bad(error.to_string()))?;
            schema::check(schema::EVICTION, "Eviction", &body)?;
            let options = Options::read(&body["deleteOptions"])?;
            let mut state = lock(&world.state);
            let key = key(target);
            state.store.find(&key)?;
            state.evict(&key, "EvictionByEvictionAPI", &options)?;
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "code": 201,
            });
            Ok(document(201, &status, &[]))
        }
        (verb, _) => Err(ApiError::method(verb)),
    }
}
