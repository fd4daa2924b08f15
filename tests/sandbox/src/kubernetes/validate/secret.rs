//! Secrets.
//! <https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Report;
use crate::kubernetes::error::Cause;
use crate::kubernetes::names;
use crate::kubernetes::store::text;

/// The most that all values may have together.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size>
const LIMIT: usize = 1 << 20;

pub(super) fn check(report: &mut Report, secret: &Value) {
    let mut size = 0;
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        report.complain(&format!("data[{key}]"), key, names::data_key(key));
        size += STANDARD.decode(text(value)).map_or(0, |bytes| bytes.len());
    }
    if size > LIMIT {
        report.add(Cause::too_long("data", LIMIT));
    }
}

pub(super) fn check_update(report: &mut Report, before: &Value, after: &Value) {
    if before["type"] != after["type"] {
        report.add(Cause::invalid("type", &after["type"], "field is immutable"));
    }
    if before["immutable"] == true {
        if after["immutable"] != true {
            let detail = "field is immutable when `immutable` is set";
            report.add(Cause::forbidden("immutable", detail));
        }
        if before["data"] != after["data"] {
            let detail = "field is immutable when `immutable` is set";
            report.add(Cause::forbidden("data", detail));
        }
    }
}
