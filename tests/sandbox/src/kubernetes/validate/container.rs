//! The containers of a pod.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container>

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::Volumes;
use super::{Report, entries};
use crate::kubernetes::error::Cause;
use crate::kubernetes::names;
use crate::kubernetes::quantity;
use crate::kubernetes::store::text;

pub(super) fn check_all(report: &mut Report, spec: &Value, path: &str, volumes: &Volumes<'_>) {
    let mut seen = BTreeSet::new();
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        report.add(Cause::required(format!("{path}.containers"), ""));
    }
    for list in ["initContainers", "containers"] {
        for (at, container) in entries(&spec[list], &format!("{path}.{list}")) {
            let name = text(&container["name"]);
            if name.is_empty() {
                report.add(Cause::required(format!("{at}.name"), ""));
            } else {
                report.complain(&format!("{at}.name"), name, names::label(name));
            }
            if !name.is_empty() && !seen.insert(name) {
                report.add(Cause::duplicate(format!("{at}.name"), &name.into()));
            }
            restarts(report, container, &at, list == "initContainers");
            check(report, container, &at, volumes);
        }
    }
}

/// Only what begins before the others says for itself whether it is restarted: a sidecar.
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>
fn restarts(report: &mut Report, container: &Value, path: &str, is_init: bool) {
    let policy = &container["restartPolicy"];
    let path = format!("{path}.restartPolicy");
    if is_init {
        report.one_of(&path, policy, &["Always", "Never", "OnFailure"]);
    } else if !policy.is_null() {
        let detail = "may not be set for non-init containers";
        report.add(Cause::forbidden(path, detail));
    }
}

fn check(report: &mut Report, container: &Value, path: &str, volumes: &Volumes<'_>) {
    let image = text(&container["image"]);
    if image.is_empty() {
        report.add(Cause::required(format!("{path}.image"), ""));
    } else if image != image.trim() {
        report.add(Cause::invalid(
            format!("{path}.image"),
            &image.into(),
            "must not have leading or trailing whitespace",
        ));
    }
    report.one_of(
        &format!("{path}.imagePullPolicy"),
        &container["imagePullPolicy"],
        &["Always", "IfNotPresent", "Never"],
    );
    report.one_of(
        &format!("{path}.terminationMessagePolicy"),
        &container["terminationMessagePolicy"],
        &["FallbackToLogsOnError", "File"],
    );
    environment(report, &container["env"], &format!("{path}.env"));
    mounts(report, container, path, volumes);
    resources(
        report,
        &container["resources"],
        &format!("{path}.resources"),
    );
    let security = &container["securityContext"];
    let at = format!("{path}.securityContext");
    security_ids(report, security, &at);
    seccomp(
        report,
        &security["seccompProfile"],
        &format!("{at}.seccompProfile"),
    );
    if security["allowPrivilegeEscalation"] == false {
        let detail = if security["privileged"] == true {
            Some("cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        } else if entries(&security["capabilities"]["add"], "")
            .any(|(_, name)| matches!(text(name), "SYS_ADMIN" | "CAP_SYS_ADMIN"))
        {
            Some(
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            )
        } else {
            None
        };
        if let Some(detail) = detail {
            report.add(Cause::invalid(at, security, detail));
        }
    }
}

fn environment(report: &mut Report, env: &Value, path: &str) {
    for (at, variable) in entries(env, path) {
        let name = text(&variable["name"]);
        if name.is_empty() {
            report.add(Cause::required(format!("{at}.name"), ""));
        } else if name.contains('=') || !name.chars().all(|c| (' '..='~').contains(&c)) {
            let detail = "a valid environment variable name must consist only of printable ASCII \
                          characters other than '='";
            report.add(Cause::invalid(format!("{at}.name"), &name.into(), detail));
        }
        let from = &variable["valueFrom"];
        if from.is_null() {
            continue;
        }
        let at = format!("{at}.valueFrom");
        let sources = from.as_object().map_or(0, serde_json::Map::len);
        if sources == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
                          `secretKeyRef` or `fileKeyRef`";
            report.add(Cause::invalid(&at, &"".into(), detail));
        } else if sources > 1 {
            let detail = "may not have more than one field specified at a time";
            report.add(Cause::invalid(&at, &"".into(), detail));
        }
        if !text(&variable["value"]).is_empty() {
            let detail = "may not be specified when `value` is not empty";
            report.add(Cause::invalid(&at, &"".into(), detail));
        }
        let reference = &from["secretKeyRef"];
        if !reference.is_null() {
            for field in ["name", "key"] {
                if text(&reference[field]).is_empty() {
                    report.add(Cause::required(format!("{at}.secretKeyRef.{field}"), ""));
                }
            }
        }
    }
}

fn mounts(report: &mut Report, container: &Value, path: &str, volumes: &Volumes<'_>) {
    let mut seen = BTreeSet::new();
    for (at, mount) in entries(&container["volumeMounts"], &format!("{path}.volumeMounts")) {
        let name = text(&mount["name"]);
        if name.is_empty() {
            report.add(Cause::required(format!("{at}.name"), ""));
        } else if !volumes.contains_key(name) {
            report.add(Cause::not_found(format!("{at}.name"), &mount["name"]));
        }
        let folder = text(&mount["mountPath"]);
        if folder.is_empty() {
            report.add(Cause::required(format!("{at}.mountPath"), ""));
        } else if folder.contains(':') {
            let detail = "must not contain ':'";
            report.add(Cause::invalid(
                format!("{at}.mountPath"),
                &folder.into(),
                detail,
            ));
        } else if !seen.insert(folder) {
            let detail = "must be unique";
            report.add(Cause::invalid(
                format!("{at}.mountPath"),
                &folder.into(),
                detail,
            ));
        }
        let below = text(&mount["subPath"]);
        if below.starts_with('/') || below.split('/').any(|part| part == "..") {
            let detail = "must be a relative path without '..'";
            report.add(Cause::invalid(
                format!("{at}.subPath"),
                &below.into(),
                detail,
            ));
        }
    }
}

/// <https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/>
fn resources(report: &mut Report, resources: &Value, path: &str) {
    for list in ["limits", "requests"] {
        for (name, value) in resources[list].as_object().into_iter().flatten() {
            let at = format!("{path}.{list}[{name}]");
            resource_name(report, &at, name);
            match quantity::read(value) {
                None => report.add(Cause::invalid(&at, value, quantity::COMPLAINT)),
                Some(amount) if amount < 0.0 => {
                    let detail = "must be greater than or equal to 0";
                    report.add(Cause::invalid(&at, value, detail));
                }
                Some(amount) if name.contains('/') && amount.fract() != 0.0 => {
                    report.add(Cause::invalid(&at, value, "must be an integer"));
                }
                Some(_) => {}
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][name];
        let at = format!("{path}.requests");
        match (quantity::read(request), quantity::read(limit)) {
            (Some(_), None) if name.contains('/') && limit.is_null() => {
                let detail = "Limit must be set for non overcommitable resources";
                report.add(Cause::required(format!("{path}.limits"), detail));
            }
            (Some(request_amount), Some(limit_amount)) => {
                let detail = if name.contains('/') && request_amount != limit_amount {
                    format!("must be equal to {name} limit of {}", text_of(limit))
                } else if request_amount > limit_amount {
                    format!(
                        "must be less than or equal to {name} limit of {}",
                        text_of(limit)
                    )
                } else {
                    continue;
                };
                report.add(Cause::invalid(at, request, &detail));
            }
            _ => {}
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

fn resource_name(report: &mut Report, path: &str, name: &str) {
    let complaint = names::label_key(name);
    if complaint.is_some() {
        report.complain(path, name, complaint);
        return;
    }
    let is_standard =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !is_standard && !name.contains('/') {
        let detail = "must be a standard resource for containers";
        report.add(Cause::invalid(path, &name.into(), detail));
    }
}

/// Users and groups are numbers of 32 bits.
pub(super) fn security_ids(report: &mut Report, security: &Value, path: &str) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        let value = &security[field];
        if value
            .as_i64()
            .is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id))
        {
            let detail = "must be between 0 and 2147483647, inclusive";
            report.add(Cause::invalid(format!("{path}.{field}"), value, detail));
        }
    }
}

pub(super) fn seccomp(report: &mut Report, profile: &Value, path: &str) {
    if profile.is_null() {
        return;
    }
    let words = ["Localhost", "RuntimeDefault", "Unconfined"];
    let kind = &profile["type"];
    if kind.is_null() {
        report.add(Cause::required(
            format!("{path}.type"),
            "type is required when seccompProfile is set",
        ));
    }
    report.one_of(&format!("{path}.type"), kind, &words);
    let file = &profile["localhostProfile"];
    if kind == "Localhost" && file.is_null() {
        let detail = "must be set when seccomp type is Localhost";
        report.add(Cause::required(format!("{path}.localhostProfile"), detail));
    } else if kind != "Localhost" && !file.is_null() {
        let detail = "can only be set when seccomp type is Localhost";
        report.add(Cause::invalid(
            format!("{path}.localhostProfile"),
            file,
            detail,
        ));
    }
}
