//! What happens to an object before it is stored: defaults, plugins, validation.
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::error::{ApiError, Result};
use super::kind::Kind;
use super::schema::without_nulls;
use super::state::State;
use super::store::{Key, text};
use super::{defaults, validate};
use crate::clock;

/// The characters of generated names.
const NAME_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// What a generated name's beginning may have.
const PREFIX_LIMIT: usize = 58;
/// Where pods find the token of their service account.
pub(super) const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Makes an object ready to be stored.
pub(super) fn prepare(
    state: &State,
    kind: Kind,
    namespace: &str,
    mut object: Value,
) -> Result<Value> {
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    match text(&metadata["namespace"]) {
        "" if kind.is_namespaced() => metadata["namespace"] = json!(namespace),
        given if given != namespace => {
            return Err(ApiError::bad(
                "the namespace of the provided object does not match the namespace sent on the \
                 request",
            ));
        }
        _ => {}
    }
    if !text(&metadata["resourceVersion"]).is_empty() {
        return Err(ApiError::bad(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if let Some(metadata) = metadata.as_object_mut() {
        for field in [
            "creationTimestamp",
            "deletionGracePeriodSeconds",
            "deletionTimestamp",
            "generation",
            "managedFields",
            "selfLink",
            "uid",
        ] {
            metadata.remove(field);
        }
    }
    let prefix = text(&metadata["generateName"]);
    if text(&metadata["name"]).is_empty() && !prefix.is_empty() {
        metadata["name"] = json!(generated(prefix));
    }
    metadata["uid"] = json!(clock::uuid());
    if kind.is_namespaced()
        && state
            .store
            .get(&Key::new(Kind::Namespace, "", namespace))
            .is_none()
    {
        return Err(ApiError::not_found(Kind::Namespace, namespace));
    }
    match kind {
        Kind::Job => {
            object["status"] = json!({});
            if object["spec"]["template"].is_object() {
                defaults::job(&mut object);
                validate::object(kind, &object)?;
                defaults::job_labels(&mut object);
            }
        }
        Kind::Pod => {
            defaults::pod_spec(&mut object["spec"]);
            validate::object(kind, &object)?;
            defaults::admitted_pod(&mut object);
            admit_pod(state, &mut object)?;
        }
        Kind::Secret => {
            if object["type"].is_null() {
                object["type"] = json!("Opaque");
            }
            encode_strings(&mut object);
        }
        _ => {}
    }
    let object = without_nulls(object);
    validate::object(kind, &object)?;
    Ok(object)
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values>
pub(super) fn generated(prefix: &str) -> String {
    let prefix: String = prefix.chars().take(PREFIX_LIMIT).collect();
    format!("{prefix}{}", clock::random_of(NAME_CHARACTERS, 5))
}

fn encode_strings(secret: &mut Value) {
    let strings = secret["stringData"].take();
    for (key, value) in strings.as_object().into_iter().flatten() {
        secret["data"][key] = json!(STANDARD.encode(text(value)));
    }
    if let Some(secret) = secret.as_object_mut() {
        secret.remove("stringData");
    }
}

fn admit_pod(state: &State, pod: &mut Value) -> Result<()> {
    let (namespace, name) = (
        text(&pod["metadata"]["namespace"]).to_owned(),
        text(&pod["metadata"]["name"]).to_owned(),
    );
    let refused = |why: &str| Err(ApiError::forbidden(Kind::Pod, &name, why));
    let account = text(&pod["spec"]["serviceAccountName"]).to_owned();
    let key = Key::new(Kind::ServiceAccount, &namespace, &account);
    let Some(account) = state.store.get(&key) else {
        return refused(&format!(
            "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" \
             not found"
        ));
    };
    if let Some(why) = state
        .settings
        .admissions
        .iter()
        .chain(&state.settings.quotas)
        .next()
    {
        return refused(why);
    }
    let spec = &mut pod["spec"];
    let mounts = spec["automountServiceAccountToken"]
        .as_bool()
        .or(account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if mounts {
        mount_token(spec);
    }
    // What the sandbox has no processes for.
    if spec["restartPolicy"] != "Never" {
        return refused("this sandbox restarts no containers: restartPolicy has to be Never");
    }
    let list = |name: &str| spec[name].as_array().into_iter().flatten();
    if list("initContainers").any(|container| container["restartPolicy"] != "Always") {
        return refused(
            "this sandbox runs no initContainers but those that go on: restartPolicy has to be \
             Always",
        );
    }
    let is_read_only =
        |container: &Value| container["securityContext"]["readOnlyRootFilesystem"] == true;
    if list("containers").any(is_read_only) {
        return refused("this sandbox has no readOnlyRootFilesystem");
    }
    Ok(())
}

/// The plugin ServiceAccount.
/// <https://kubernetes.io/docs/concepts/security/service-accounts/>
fn mount_token(spec: &mut Value) {
    let name = generated("kube-api-access-");
    let volume = json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    });
    push(&mut spec["volumes"], volume);
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_FOLDER});
        push(&mut container["volumeMounts"], mount);
    }
}

fn push(list: &mut Value, entry: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(entry),
        None => *list = json!([entry]),
    }
}
