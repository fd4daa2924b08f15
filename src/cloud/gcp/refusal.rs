//! What Google answers when it refuses, and what it means for us.
//!
//! Three shapes: Compute Engine's error document, the error of an operation that has ended, and
//! OAuth's two fields.

use std::fmt;

use super::answer::{Body, Document, OperationItem, one_line, permissions, quota};
use crate::error::{Error, Kind};
use crate::http::{Reply, Verdict};

/// Who answers for instances, networks and the rest.
pub(super) const COMPUTE: &str = "Compute Engine";

/// The permission to let an instance be a service account.
pub(super) const ACT_AS: &str = "iam.serviceAccounts.actAs";

/// Where quotas are raised. <https://cloud.google.com/docs/quotas/view-manage>
const QUOTAS: &str = "https://console.cloud.google.com/iam-admin/quotas";

/// What a zone says of a type that it doesn't have, beside that it wasn't found.
const ABSENT: [&str; 3] = [
    "does not exist in zone",
    "not supported in zone",
    "not available in zone",
];

/// A refusal in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Who refused, as people know it.
    pub(super) service: &'static str,
    pub(super) status: u16,
    /// An operation's code, or the answer's most telling reason; the status where it gave none.
    pub(super) reason: String,
    pub(super) message: String,
    /// The quota that is used up, where that is the reason.
    pub(super) quota: Option<Quota>,
    /// The permissions that are missing, where that is the reason and they are told.
    pub(super) permissions: Vec<String>,
    /// The zones that Google says have capacity.
    pub(super) zones_available: Vec<String>,
    /// Whether the service itself failed, and may have done it all the same.
    pub(super) failed: bool,
}

/// A quota that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quota {
    /// The name that the console knows it by, such as `NVIDIA_T4_GPUS`.
    pub(super) name: String,
    /// How much of it there is, as Google writes it.
    pub(super) limit: Option<String>,
    /// What it counts for.
    pub(super) scope: Scope,
}

/// What a quota counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Zone,
    Region,
    /// The project as a whole.
    Project,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Who we say we are isn't believed.
    Credentials,
    /// We are known, and may not.
    Denied,
    /// No capacity in this zone, or none of this type; another zone may have some.
    ZoneCapacity,
    /// A quota is used up.
    Quota(Scope),
    /// What the call is about doesn't exist.
    Missing,
    /// What should be made is there already.
    Exists,
    /// Something that the call needs is still being made or changed.
    NotReady,
    /// The same call may succeed later.
    Throttled,
    /// Everything else.
    Other,
}

impl Meaning {
    /// What a code or a reason means by itself; the same words come in both spellings.
    /// <https://cloud.google.com/compute/docs/reference/rest/v1/errors>
    fn of(code: &str) -> Self {
        match code {
            "authError"
            | "UNAUTHENTICATED"
            | "ACCESS_TOKEN_EXPIRED"
            | "ACCESS_TOKEN_TYPE_UNSUPPORTED"
            | "CREDENTIALS_MISSING"
            | "ACCOUNT_STATE_INVALID"
            | "SESSION_COOKIE_INVALID"
            // OAuth's own: RFC 6749, section 5.2, and RFC 8693, section 2.2.2.
            | "invalid_grant"
            | "invalid_client"
            | "unauthorized_client"
            | "invalid_target"
            | "invalid_scope"
            | "invalid_request"
            | "unsupported_grant_type"
            | "access_denied"
            | "admin_policy_enforced" => Self::Credentials,
            "forbidden"
            | "insufficientPermissions"
            | "accessNotConfigured"
            | "PERMISSION_DENIED"
            | "IAM_PERMISSION_DENIED"
            | "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
            | "SERVICE_DISABLED"
            | "BILLING_DISABLED"
            | "CONSUMER_INVALID"
            | "SERVICE_ACCOUNT_ACCESS_DENIED"
            | "SERVICE_ACCOUNT_NOT_FOUND"
            | "PERMISSIONS_ERROR" => Self::Denied,
            "ZONE_RESOURCE_POOL_EXHAUSTED"
            | "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
            | "STOCKOUT"
            | "stockout"
            | "resource_availability"
            | "insufficientCapacity"
            | "INSUFFICIENT_CAPACITY"
            | "UNSUPPORTED_OPERATION"
            | "unsupportedOperation" => Self::ZoneCapacity,
            "quotaExceeded" | "QUOTA_EXCEEDED" | "RESOURCE_QUOTA_EXCEEDED" | "limitExceeded"
            | "LIMIT_EXCEEDED" => Self::Quota(Scope::Region),
            "notFound" | "NOT_FOUND" | "RESOURCE_NOT_FOUND" => Self::Missing,
            "alreadyExists" | "ALREADY_EXISTS" | "RESOURCE_ALREADY_EXISTS" | "duplicate" => {
                Self::Exists
            }
            "resourceNotReady"
            | "RESOURCE_NOT_READY"
            | "resourceInUseByAnotherResource"
            | "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"
            | "RESOURCE_OPERATION_RATE_EXCEEDED"
            | "resourceOperationRateExceeded" => Self::NotReady,
            "rateLimitExceeded"
            | "userRateLimitExceeded"
            | "concurrentLimitExceeded"
            | "RATE_LIMIT_EXCEEDED"
            | "RESOURCE_EXHAUSTED"
            | "backendError"
            | "UNAVAILABLE"
            | "temporarily_unavailable" => Self::Throttled,
            _ => Self::Other,
        }
    }

    /// The kind of error that the user sees.
    fn kind(self) -> Kind {
        match self {
            Self::Credentials | Self::Denied => Kind::Denied,
            Self::ZoneCapacity | Self::Quota(_) => Kind::Capacity,
            Self::Missing | Self::Exists | Self::NotReady | Self::Throttled | Self::Other => {
                Kind::Other
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.service, self.reason)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Reads an answer that is no success.
    pub(super) fn read(service: &'static str, reply: &Reply) -> Self {
        let mut refusal = Self {
            service,
            status: reply.status.as_u16(),
            reason: reply.status.to_string(),
            message: String::new(),
            quota: None,
            permissions: Vec::new(),
            zones_available: Vec::new(),
            failed: reply.status.is_server_error(),
        };
        match serde_json::from_slice(&reply.body) {
            Ok(Body::Document { error }) => refusal.fill(error),
            Ok(Body::OAuth {
                error,
                error_description,
            }) => {
                refusal.reason = error;
                refusal.message = error_description;
            }
            // A proxy's page, perhaps: the status is all there is.
            Err(_) => {}
        }
        refusal.conclude();
        refusal
    }

    fn fill(&mut self, document: Document) {
        let info = document
            .details
            .iter()
            .find(|detail| detail.reason.is_some());
        let info_reason = info.and_then(|detail| detail.reason.clone());
        let item = document.errors.iter().find_map(|item| item.reason.clone());
        // The detail is the more exact of the two, where it says something that is known here.
        let known = |code: &String| Meaning::of(code) != Meaning::Other;
        self.reason = info_reason
            .clone()
            .filter(known)
            .or(item)
            .or(info_reason)
            .or(document.status)
            .unwrap_or_else(|| std::mem::take(&mut self.reason));
        self.message = one_line(&document.message);
        let told = document
            .details
            .iter()
            .filter_map(|detail| Some(detail.metadata.get("permission")?.as_str()?.to_owned()));
        let written = document.errors.iter().map(|item| item.message.as_str());
        self.permissions = told
            .chain(written.flat_map(permissions))
            .collect::<Vec<String>>();
    }

    /// Reads the errors of an operation; the first one is what it failed of.
    pub(super) fn of_operation(status: u16, items: &[OperationItem]) -> Self {
        let first = items.first();
        let code = first.map_or("an error", |item| item.code.as_str());
        let details = || items.iter().flat_map(|item| &item.error_details);
        let explained = details().find_map(|detail| detail.localized_message.as_ref());
        let message = match explained {
            // It says the same with the type and the zone, where the other has internal words.
            Some(localized) if Meaning::of(code) == Meaning::ZoneCapacity => &localized.message,
            _ => first.map_or("", |item| item.message.as_str()),
        };
        let zones = details()
            .filter_map(|detail| detail.error_info.as_ref()?.metadatas.get("zonesAvailable"))
            .filter_map(|zones| zones.as_str())
            .flat_map(|zones| zones.split(','))
            .map(|zone| zone.trim().to_owned())
            .filter(|zone| !zone.is_empty());
        let mut refusal = Self {
            service: COMPUTE,
            status,
            reason: code.to_owned(),
            message: one_line(message),
            quota: details().find_map(|detail| detail.quota_info.as_ref()?.quota()),
            permissions: items
                .iter()
                .flat_map(|item| permissions(&item.message))
                .collect(),
            zones_available: zones.collect(),
            // The operation has ended, and says how; but this one says that it doesn't know.
            failed: code == "INTERNAL_ERROR",
        };
        refusal.conclude();
        refusal
    }

    /// What stands in the message alone.
    fn conclude(&mut self) {
        if matches!(self.meaning(), Meaning::Quota(_)) {
            // The console's name stands in the message, the API's in the details.
            if let Some(written) = quota(&self.message) {
                self.quota = Some(match self.quota.take() {
                    Some(told) => Quota {
                        limit: told.limit.or(written.limit),
                        ..written
                    },
                    None => written,
                });
            }
        }
        if self.permissions.is_empty() {
            self.permissions = permissions(&self.message);
        }
        // <https://cloud.google.com/iam/docs/service-accounts-actas>
        if self.reason == "SERVICE_ACCOUNT_ACCESS_DENIED"
            || self
                .message
                .contains("does not have access to service account")
        {
            self.permissions.push(ACT_AS.to_owned());
        }
        self.permissions.sort();
        self.permissions.dedup();
    }

    /// Whether this permission is what is missing.
    pub(super) fn lacks(&self, permission: &str) -> bool {
        self.permissions.iter().any(|known| known == permission)
    }

    pub(super) fn meaning(&self) -> Meaning {
        let message = self.message.as_str();
        let meaning = match (Meaning::of(&self.reason), self.status) {
            (Meaning::Other, 401) => Meaning::Credentials,
            (Meaning::Other, 403) => Meaning::Denied,
            (Meaning::Other, 404) => Meaning::Missing,
            (Meaning::Other, 429) => Meaning::Throttled,
            (meaning, _) => meaning,
        };
        match meaning {
            // Who may not use a service account is told so with status 400.
            Meaning::Other | Meaning::Missing if self.lacks(ACT_AS) => Meaning::Denied,
            // An organisation's policy, such as "Constraint constraints/compute.vmExternalIpAccess
            // violated": no way leads past it.
            Meaning::Other if message.contains("onstraint constraints/") => Meaning::Denied,
            // A type that this zone doesn't have.
            Meaning::Missing | Meaning::Other
                if ["/acceleratorTypes/", "/machineTypes/"].iter().any(|kind| {
                    message.contains(kind)
                        && (message.contains("not found") || message.contains("not exist"))
                }) || ABSENT.iter().any(|words| message.contains(words)) =>
            {
                Meaning::ZoneCapacity
            }
            Meaning::Other if message.contains("is not ready") => Meaning::NotReady,
            Meaning::Quota(_) if message.starts_with("Quota exceeded for quota metric") => {
                Meaning::Throttled
            }
            Meaning::Quota(scope) => {
                Meaning::Quota(self.quota.as_ref().map_or(scope, |quota| quota.scope))
            }
            meaning => meaning,
        }
    }

    /// The error of what was being done, with the advice that the refusal calls for.
    pub(super) fn during(self, doing: impl Into<String>) -> Error {
        let meaning = self.meaning();
        let hint = self.hint();
        // A failure inside the service says nothing about what was done, but for want of capacity.
        let certain = !self.failed || matches!(meaning, Meaning::ZoneCapacity | Meaning::Quota(_));
        let mut error = Error::new(meaning.kind(), doing).caused_by(self);
        if certain {
            error = error.refused();
        }
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// The same where a token was asked for: whatever the reason, we are not who we should be.
    pub(super) fn of_token(self, doing: impl Into<String>) -> Error {
        let ours = (400..500).contains(&self.status) && self.meaning() != Meaning::Throttled;
        let error = self.during(doing);
        match ours {
            true => error.with_kind(Kind::Denied),
            false => error,
        }
    }

    fn hint(&self) -> Option<String> {
        let fixed = match self.reason.as_str() {
            "invalid_grant" => {
                "check that the key still exists, that its account isn't disabled, and this \
                 machine's clock; for a user, sign in again: gcloud auth application-default login"
            }
            "invalid_target" | "invalid_request" => {
                "check the federation's audience, its provider, and what its condition demands of \
                 the token"
            }
            "SERVICE_DISABLED" | "accessNotConfigured" => {
                "enable the Compute Engine API of the project: \
                 https://console.cloud.google.com/apis/library/compute.googleapis.com"
            }
            "BILLING_DISABLED" => "enable billing for the project",
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT" | "insufficientPermissions"
                if self.permissions.is_empty() =>
            {
                "the token's scopes must include https://www.googleapis.com/auth/compute or \
                 cloud-platform"
            }
            _ => "",
        };
        if !fixed.is_empty() {
            return Some(fixed.to_owned());
        }
        match self.meaning() {
            Meaning::Credentials => Some(
                "check the Google Cloud credentials: a key that was deleted, a token that is over, \
                 or a clock that is wrong are refused alike"
                    .to_owned(),
            ),
            Meaning::Denied if !self.permissions.is_empty() => {
                Some(format!("grant {}", self.permissions.join(", ")))
            }
            Meaning::ZoneCapacity => Some(match self.zones_available.as_slice() {
                [] => "try again later, or give more to choose from: --cloud-type and \
                       --cloud-region take lists, and --cloud-spot-fallback ends on demand"
                    .to_owned(),
                zones => format!("Google says that there is capacity in {}", zones.join(", ")),
            }),
            Meaning::Quota(_) => Some(match &self.quota {
                Some(quota) => format!(
                    "raise the quota {} at {QUOTAS}, or choose another type or region",
                    quota.name
                ),
                None => format!("raise the quota at {QUOTAS}, or choose another type or region"),
            }),
            _ => None,
        }
    }
}

/// Which answers are tried again at once. What isn't ready is the caller's to wait for, and capacity
/// doesn't come by asking again.
pub(super) fn judge(service: &'static str, reply: &Reply) -> Verdict {
    if reply.status.is_success() {
        return Verdict::Final;
    }
    match Refusal::read(service, reply).meaning() {
        Meaning::Throttled => Verdict::Retry(reply.retry_after()),
        Meaning::Other => Verdict::by_status(reply),
        _ => Verdict::Final,
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
