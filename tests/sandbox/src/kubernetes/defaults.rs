//! What the API server fills in.
//!
//! The defaults are told field by field in the API's reference:
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/>

use serde_json::{Value, json};

use super::store::text;

/// Sets a field that has no value.
fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

/// Of a Job. Its uid is in the labels of its pods.
pub(super) fn job(job: &mut Value) {
    let spec = &mut job["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = json!(1);
    }
    default(spec, "parallelism", json!(1));
    default(spec, "backoffLimit", json!(6));
    default(spec, "completionMode", json!("NonIndexed"));
    default(spec, "suspend", json!(false));
    default(spec, "manualSelector", json!(false));
    let replacement = match spec["podFailurePolicy"].is_null() {
        true => "TerminatingOrFailed",
        false => "Failed",
    };
    default(spec, "podReplacementPolicy", json!(replacement));
    pod_spec(&mut spec["template"]["spec"]);
}

/// The selector and the labels that a Job's pods are found by.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-labels>
pub(super) fn job_labels(job: &mut Value) {
    let (uid, name) = (
        job["metadata"]["uid"].clone(),
        job["metadata"]["name"].clone(),
    );
    if job["spec"]["manualSelector"] == true {
        return;
    }
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    let labels = &mut job["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels[key] = value.clone();
    }
    if job["metadata"]["labels"].is_null() {
        // A Job without labels takes those of its template.
        job["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"].clone();
    }
}

/// Of a pod.
pub(super) fn pod_spec(spec: &mut Value) {
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "securityContext", json!({}));
    let account = spec["serviceAccountName"].clone();
    if !account.is_null() {
        spec["serviceAccount"] = account;
    }
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        if !volume["secret"].is_null() {
            default(&mut volume["secret"], "defaultMode", json!(0o644));
        }
        if !volume["projected"].is_null() {
            default(&mut volume["projected"], "defaultMode", json!(0o644));
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container_defaults(container);
        }
    }
}

fn container_defaults(container: &mut Value) {
    default(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    default(container, "terminationMessagePolicy", json!("File"));
    default(container, "resources", json!({}));
    let image = text(&container["image"]);
    let last = image.rsplit('/').next().unwrap_or_default();
    let is_latest = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    let policy = if is_latest { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", json!(policy));
    // What is limited but not requested is requested.
    let limits = container["resources"]["limits"].clone();
    for (name, amount) in limits.as_object().into_iter().flatten() {
        default(
            &mut container["resources"]["requests"],
            name,
            amount.clone(),
        );
    }
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
    }
}

/// Of a pod alone, not of a template: what the admission plugins add.
/// <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>
pub(super) fn admitted_pod(pod: &mut Value) {
    let spec = &mut pod["spec"];
    default(spec, "serviceAccountName", json!("default"));
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    default(spec, "enableServiceLinks", json!(true));
    default(spec, "priority", json!(0));
    default(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    if spec["tolerations"].is_null() {
        spec["tolerations"] = ["not-ready", "unreachable"]
            .into_iter()
            .map(|taint| {
                json!({
                    "key": format!("node.kubernetes.io/{taint}"),
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                })
            })
            .collect();
    }
    pod["status"] = json!({"phase": "Pending", "qosClass": quality(&pod["spec"])});
}

/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
fn quality(spec: &Value) -> &'static str {
    let containers = spec["containers"].as_array();
    let amounts = |kind: &'static str| {
        containers.into_iter().flatten().flat_map(move |container| {
            ["cpu", "memory"].map(|name| container["resources"][kind][name].clone())
        })
    };
    let counts = |value: &Value| super::quantity::read(value).is_some_and(|amount| amount > 0.0);
    if amounts("limits").all(|value| counts(&value)) && amounts("requests").eq(amounts("limits")) {
        return "Guaranteed";
    }
    let is_any = amounts("limits")
        .chain(amounts("requests"))
        .any(|value| counts(&value));
    if is_any { "Burstable" } else { "BestEffort" }
}
