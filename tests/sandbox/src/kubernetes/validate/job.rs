//! Jobs.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/>

use serde_json::Value;

use super::{Report, meta, pod};
use crate::kubernetes::error::Cause;

pub(super) fn check(report: &mut Report, job: &Value) {
    let spec = &job["spec"];
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        report.not_negative(&format!("spec.{field}"), &spec[field]);
    }
    report.one_of(
        "spec.completionMode",
        &spec["completionMode"],
        &["NonIndexed", "Indexed"],
    );
    report.one_of(
        "spec.podReplacementPolicy",
        &spec["podReplacementPolicy"],
        &["Failed", "TerminatingOrFailed"],
    );
    let template = &spec["template"];
    if template.is_null() {
        report.add(Cause::required("spec.template", ""));
        return;
    }
    // The Job's name is among them.
    meta::labels(
        report,
        &template["metadata"]["labels"],
        "spec.template.labels",
    );
    meta::annotations(
        report,
        &template["metadata"]["annotations"],
        "spec.template.annotations",
    );
    pod::check(report, &template["spec"], "spec.template.spec");
    let policy = &template["spec"]["restartPolicy"];
    if !matches!(policy.as_str(), Some("Never" | "OnFailure")) {
        report.add(Cause::unsupported(
            "spec.template.spec.restartPolicy",
            policy,
            &["OnFailure", "Never"],
        ));
    }
}

pub(super) fn check_update(report: &mut Report, before: &Value, after: &Value) {
    for field in [
        "completions",
        "selector",
        "template",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        let value = &after["spec"][field];
        if *value != before["spec"][field] {
            report.add(Cause::invalid(
                format!("spec.{field}"),
                value,
                "field is immutable",
            ));
        }
    }
}
