//! The shapes of Google's errors, and what stands in their words alone.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::refusal::{Quota, Scope};

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Body {
    /// <https://cloud.google.com/apis/design/errors#http_mapping>
    Document { error: Document },
    /// <https://datatracker.ietf.org/doc/html/rfc6749#section-5.2>
    OAuth {
        error: String,
        #[serde(default)]
        error_description: String,
    },
}

#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) errors: Vec<Item>,
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) details: Vec<Detail>,
}

#[derive(Deserialize)]
pub(super) struct Item {
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) message: String,
}

/// `google.rpc.ErrorInfo`, and all others, of which nothing is read.
#[derive(Deserialize)]
pub(super) struct Detail {
    pub(super) reason: Option<String>,
    #[serde(alias = "metadatas", default)]
    pub(super) metadata: BTreeMap<String, serde_json::Value>,
}

/// One error of an operation that has ended.
/// <https://cloud.google.com/compute/docs/reference/rest/v1/zoneOperations>
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationItem {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) error_details: Vec<OperationDetail>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct OperationDetail {
    pub(super) quota_info: Option<QuotaInfo>,
    pub(super) error_info: Option<ErrorInfo>,
    pub(super) localized_message: Option<Localized>,
}

/// <https://cloud.google.com/compute/docs/reference/rest/v1/QuotaExceededInfo>
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct QuotaInfo {
    pub(super) metric_name: String,
    pub(super) limit_name: String,
    pub(super) dimensions: BTreeMap<String, String>,
    pub(super) limit: Option<serde_json::Number>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorInfo {
    #[serde(alias = "metadata")]
    pub(super) metadatas: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Localized {
    pub(super) message: String,
}

impl QuotaInfo {
    pub(super) fn quota(&self) -> Option<Quota> {
        let name = match self.limit_name.as_str() {
            "" => self.metric_name.as_str(),
            limit => limit,
        };
        (!name.is_empty()).then(|| Quota {
            name: name.to_owned(),
            limit: self.limit.as_ref().map(ToString::to_string),
            scope: if self.dimensions.contains_key("zone") {
                Scope::Zone
            } else if self.dimensions.contains_key("region") {
                Scope::Region
            } else {
                Scope::Project
            },
        })
    }
}

/// "Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 0.0 in region us-west1."; project-wide ones end
/// with "globally".
/// <https://cloud.google.com/compute/resource-usage#quotas_and_resource_availability>
pub(super) fn quota(message: &str) -> Option<Quota> {
    let (_, rest) = message.split_once("Quota '")?;
    let (name, rest) = rest.split_once('\'')?;
    let limit = rest.split_once("Limit: ").map(|(_, rest)| rest);
    let value = limit.and_then(|limit| limit.split_whitespace().next());
    Some(Quota {
        name: name.to_owned(),
        limit: value.map(|value| value.trim_end_matches('.').to_owned()),
        scope: if rest.contains("in zone ") {
            Scope::Zone
        } else if rest.contains("globally") {
            Scope::Project
        } else {
            Scope::Region
        },
    })
}

/// "Required 'compute.instances.create' permission for 'projects/p/…'", or "Permission 'x.y.z'
/// denied on resource …".
pub(super) fn permissions(message: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["Required '", "Permission '"] {
        for (_, rest) in message
            .match_indices(start)
            .map(|(at, _)| message.split_at(at + start.len()))
        {
            match rest.split_once('\'') {
                Some((name, _)) if name.split('.').count() >= 3 && !name.contains(' ') => {
                    found.push(name.to_owned());
                }
                _ => {}
            }
        }
    }
    found
}

/// Google breaks some messages into lines.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
