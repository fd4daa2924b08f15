//! Pods, and the templates of Jobs.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Report, container, entries, meta};
use crate::kubernetes::error::Cause;
use crate::kubernetes::names;
use crate::kubernetes::store::text;

/// The names of volumes, and what each is.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

pub(super) fn check(report: &mut Report, spec: &Value, path: &str) {
    report.one_of(
        &format!("{path}.restartPolicy"),
        &spec["restartPolicy"],
        &["Always", "OnFailure", "Never"],
    );
    report.one_of(
        &format!("{path}.dnsPolicy"),
        &spec["dnsPolicy"],
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    let grace = "terminationGracePeriodSeconds";
    report.not_negative(&format!("{path}.{grace}"), &spec[grace]);
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && seconds < 1
    {
        report.add(Cause::invalid(
            format!("{path}.activeDeadlineSeconds"),
            &seconds.into(),
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    let account = text(&spec["serviceAccountName"]);
    if !account.is_empty() {
        let at = format!("{path}.serviceAccountName");
        report.complain(&at, account, names::subdomain(account));
    }
    meta::labels(
        report,
        &spec["nodeSelector"],
        &format!("{path}.nodeSelector"),
    );
    for (at, toleration) in entries(&spec["tolerations"], &format!("{path}.tolerations")) {
        report.one_of(
            &format!("{at}.operator"),
            &toleration["operator"],
            &["Equal", "Exists"],
        );
        report.one_of(
            &format!("{at}.effect"),
            &toleration["effect"],
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        if toleration["operator"] == "Exists" && !text(&toleration["value"]).is_empty() {
            let detail = "value must be empty when `operator` is 'Exists'";
            report.add(Cause::invalid(
                format!("{at}.operator"),
                &toleration["operator"],
                detail,
            ));
        }
    }
    for (at, reference) in entries(
        &spec["imagePullSecrets"],
        &format!("{path}.imagePullSecrets"),
    ) {
        if text(&reference["name"]).is_empty() {
            report.add(Cause::required(format!("{at}.name"), ""));
        }
    }
    if spec["hostPID"] == true && spec["shareProcessNamespace"] == true {
        report.add(Cause::invalid(
            format!("{path}.shareProcessNamespace"),
            &true.into(),
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    let security = &spec["securityContext"];
    container::security_ids(report, security, &format!("{path}.securityContext"));
    container::seccomp(
        report,
        &security["seccompProfile"],
        &format!("{path}.securityContext.seccompProfile"),
    );
    let volumes = volumes(report, &spec["volumes"], &format!("{path}.volumes"));
    container::check_all(report, spec, path, &volumes);
}

fn volumes<'a>(report: &mut Report, list: &'a Value, path: &str) -> Volumes<'a> {
    let mut volumes = Volumes::new();
    for (at, volume) in entries(list, path) {
        let name = text(&volume["name"]);
        if name.is_empty() {
            report.add(Cause::required(format!("{at}.name"), ""));
        } else {
            report.complain(&format!("{at}.name"), name, names::label(name));
            if volumes.insert(name, volume).is_some() {
                report.add(Cause::duplicate(format!("{at}.name"), &name.into()));
            }
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, _)| field)
            .filter(|field| *field != "name")
            .collect();
        match sources.as_slice() {
            [] => report.add(Cause::required(&at, "must specify a volume type")),
            [_] => {}
            [_, more @ ..] => {
                for source in more {
                    let detail = "may not specify more than 1 volume type";
                    report.add(Cause::forbidden(format!("{at}.{source}"), detail));
                }
            }
        }
        if !volume["secret"].is_null() {
            secret(report, &volume["secret"], &format!("{at}.secret"));
        }
    }
    volumes
}

fn secret(report: &mut Report, source: &Value, path: &str) {
    if text(&source["secretName"]).is_empty() {
        report.add(Cause::required(format!("{path}.secretName"), ""));
    }
    mode(
        report,
        &source["defaultMode"],
        &format!("{path}.defaultMode"),
    );
    for (at, item) in entries(&source["items"], &format!("{path}.items")) {
        if text(&item["key"]).is_empty() {
            report.add(Cause::required(format!("{at}.key"), ""));
        }
        let file = text(&item["path"]);
        if file.is_empty() {
            report.add(Cause::required(format!("{at}.path"), ""));
        } else if file.starts_with('/') {
            let detail = "must be a relative path";
            report.add(Cause::invalid(format!("{at}.path"), &file.into(), detail));
        } else if file.split('/').any(|part| part == "..") {
            let detail = "must not contain '..'";
            report.add(Cause::invalid(format!("{at}.path"), &file.into(), detail));
        }
        mode(report, &item["mode"], &format!("{at}.mode"));
    }
}

fn mode(report: &mut Report, value: &Value, path: &str) {
    if value
        .as_i64()
        .is_some_and(|mode| !(0..=0o777).contains(&mode))
    {
        report.add(Cause::invalid(
            path,
            value,
            "must be a number between 0 and 0777 (octal), both inclusive",
        ));
    }
}

/// Of a pod little can be changed: <https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement>
pub(super) fn check_update(report: &mut Report, before: &Value, after: &Value) {
    let bare = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("activeDeadlineSeconds");
            spec.remove("tolerations");
        }
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
        spec
    };
    if bare(before) != bare(after) {
        report.add(Cause::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
             additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
             set to 1 if it was previously negative)",
        ));
    }
}
