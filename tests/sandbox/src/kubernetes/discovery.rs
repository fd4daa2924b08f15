//! What the server tells of itself.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use serde_json::{Value, json};

use super::error::{ApiError, Result, document};
use super::kind::Kind;
use crate::server::Response;
use axum::body::Body;

/// The groups besides the core.
const GROUPS: [&str; 2] = ["authorization.k8s.io", "batch"];

/// Answers what is about no object.
pub(super) fn answer(path: &str) -> Result<Response> {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let body = match words.as_slice() {
        ["version"] => version(),
        ["healthz" | "livez" | "readyz", ..] => return Ok(Response::new(Body::from("ok"))),
        ["api"] => json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }),
        ["apis"] => json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": GROUPS.map(group),
        }),
        ["apis", name] if GROUPS.contains(name) => {
            let mut body = group(name);
            body["kind"] = json!("APIGroup");
            body["apiVersion"] = json!("v1");
            body
        }
        ["api", "v1"] => resources(""),
        ["apis", name, "v1"] if GROUPS.contains(name) => resources(name),
        ["api" | "apis", ..] => return Err(ApiError::no_resource()),
        _ => {
            let mut response = Response::new(Body::from("404 page not found\n"));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(document(200, &body, &[]))
}

/// That of kubectl's last release with which it was tried.
fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "emulationMajor": "1",
        "emulationMinor": "33",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "32",
        "gitVersion": "v1.33.1",
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "2025-05-15T08:19:08Z",
        "goVersion": "go1.24.2",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn resources(group: &str) -> Value {
    let mut resources = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.group() == group) {
        let mut resource = json!({
            "name": kind.plural(),
            "singularName": kind.name().to_lowercase(),
            "namespaced": kind.is_namespaced(),
            "kind": kind.name(),
            "verbs": kind.verbs(),
        });
        if !kind.short_names().is_empty() {
            resource["shortNames"] = json!(kind.short_names());
        }
        if matches!(kind, Kind::Pod | Kind::Job) {
            resource["categories"] = json!(["all"]);
        }
        resources.push(resource);
        for (sub, name, verbs) in kind.subresources() {
            let mut resource = json!({
                "name": format!("{}/{sub}", kind.plural()),
                "singularName": "",
                "namespaced": true,
                "kind": name,
                "verbs": verbs,
            });
            if *name == "Eviction" {
                resource["group"] = json!("policy");
                resource["version"] = json!("v1");
            }
            resources.push(resource);
        }
    }
    let version = match group {
        "" => "v1".to_owned(),
        group => format!("{group}/v1"),
    };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": resources,
    })
}
