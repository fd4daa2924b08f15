//! Names, labels, annotations, owners.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/>

use serde_json::Value;

use super::{Report, entries};
use crate::kubernetes::error::Cause;
use crate::kubernetes::kind::Kind;
use crate::kubernetes::names;
use crate::kubernetes::store::text;

pub(super) fn check(report: &mut Report, kind: Kind, object: &Value) {
    let metadata = &object["metadata"];
    let name = text(&metadata["name"]);
    if name.is_empty() {
        report.add(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        let complaint = match kind {
            Kind::Namespace => names::label(name),
            _ => names::subdomain(name),
        };
        report.complain("metadata.name", name, complaint);
    }
    labels(report, &metadata["labels"], "metadata.labels");
    annotations(report, &metadata["annotations"], "metadata.annotations");
    owners(report, &metadata["ownerReferences"]);
    for (path, finalizer) in entries(&metadata["finalizers"], "metadata.finalizers") {
        report.complain(&path, text(finalizer), names::label_key(text(finalizer)));
    }
}

pub(super) fn labels(report: &mut Report, labels: &Value, path: &str) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        report.complain(path, key, names::label_key(key));
        report.complain(path, text(value), names::label_value(text(value)));
    }
}

pub(super) fn annotations(report: &mut Report, annotations: &Value, path: &str) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        report.complain(path, key, names::label_key(&key.to_lowercase()));
        size += key.len() + text(value).len();
    }
    if size > names::ANNOTATIONS_LIMIT {
        report.add(Cause::too_long(path, names::ANNOTATIONS_LIMIT));
    }
}

fn owners(report: &mut Report, owners: &Value) {
    let mut controllers = 0;
    for (path, owner) in entries(owners, "metadata.ownerReferences") {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(&owner[field]).is_empty() {
                report.add(Cause::required(
                    format!("{path}.{field}"),
                    "must not be empty",
                ));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        report.add(Cause::invalid(
            "metadata.ownerReferences",
            owners,
            "Only one reference can have Controller set to true",
        ));
    }
}

pub(super) fn check_update(report: &mut Report, before: &Value, after: &Value) {
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let value = &after["metadata"][field];
        if *value != before["metadata"][field] {
            report.add(Cause::invalid(
                format!("metadata.{field}"),
                value,
                "field is immutable",
            ));
        }
    }
    let added = after["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|finalizer| {
            let known = before["metadata"]["finalizers"].as_array();
            known.is_none_or(|known| !known.contains(finalizer))
        });
    if added && before["metadata"]["deletionTimestamp"].is_string() {
        report.add(Cause::forbidden(
            "metadata.finalizers",
            "no new finalizers can be added if the object is being deleted",
        ));
    }
}
