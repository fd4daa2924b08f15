//! What Azure answers when it refuses, and what it means for us.
//!
//! Three shapes: Resource Manager's error document, the error of an operation that has ended, which
//! is the same document's inside, and OAuth's fields of Entra and of the metadata service.

use std::fmt;

use serde_json::Value;

use super::clouds::Portal;
use crate::error::{Error, Kind};
use crate::http::{Reply, Verdict};

/// Who answers for groups, machines, networks and roles.
pub(super) const RESOURCE_MANAGER: &str = "Azure Resource Manager";

/// Who answers for tokens.
pub(super) const ENTRA: &str = "Microsoft Entra";

/// With these words, messages turn from what is wrong to long addresses, and to ids that change with
/// every answer.
const ASIDES: [&str; 6] = [
    " Submit a request for Quota increase",
    " Setup Alerts when Quota",
    " Please read more about quota",
    " Trace ID:",
    " Correlation ID:",
    " Timestamp:",
];

/// A refusal in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Who refused, as people know it.
    pub(super) service: &'static str,
    /// The status; 0 where an operation told of it.
    pub(super) status: u16,
    /// The most telling code; the status where there was none.
    pub(super) code: String,
    pub(super) message: String,
    /// That of the cloud that refused; the public one's until somebody says so.
    pub(super) portal: Portal,
    /// The quota that is used up, where that is the reason and it is told.
    pub(super) quota: Option<String>,
    /// The actions that aren't allowed, where that is the reason and they are told.
    pub(super) actions: Vec<String>,
    /// Whether the service itself failed, and may have done it all the same.
    pub(super) failed: bool,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Who we say we are isn't believed.
    Credentials,
    /// We are known, and may not.
    Denied,
    /// This size isn't to be had in this region, or not now; another size or region may be.
    Capacity,
    /// The region's quota of this family of sizes is used up; another family may have room.
    FamilyQuota,
    /// The region's quota of spot cores is used up; on demand may have room.
    SpotQuota,
    /// A quota of the region is used up, whatever the size.
    RegionQuota,
    /// What the call is about doesn't exist.
    Missing,
    /// It is being deleted.
    Deleting,
    /// Something else is being done to it: later.
    Busy,
    /// It is there already, and isn't what was asked for.
    Conflict,
    /// The principal that should get a role isn't known everywhere yet.
    PrincipalUnknown,
    /// The same call may succeed later.
    Throttled,
    /// Everything else.
    Other,
}

impl Meaning {
    /// What a code means, with its message where the code alone says little.
    /// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/common-deployment-errors>
    /// <https://learn.microsoft.com/en-us/azure/virtual-machines/error-codes-spot>
    /// <https://learn.microsoft.com/en-us/troubleshoot/azure/virtual-machines/windows/allocation-failure>
    fn of(code: &str, message: &str) -> Self {
        match code {
            "InvalidAuthenticationToken"
            | "InvalidAuthenticationTokenTenant"
            | "InvalidAuthenticationTokenAudience"
            | "ExpiredAuthenticationToken"
            | "AuthenticationFailed"
            | "AuthenticationFailedMissingToken"
            | "AuthenticationFailedInvalidHeader" => Self::Credentials,
            "AuthorizationFailed"
            | "LinkedAuthorizationFailed"
            | "RequestDisallowedByPolicy"
            | "ScopeLocked"
            | "SubscriptionNotFound"
            | "InvalidSubscriptionId"
            | "DisabledSubscription"
            | "ReadOnlyDisabledSubscription"
            | "MissingSubscriptionRegistration"
            | "SubscriptionNotRegistered"
            | "InvalidSubscriptionRegistrationState"
            | "NoRegisteredProviderFound"
            | "MarketplacePurchaseEligibilityFailed"
            | "ResourcePurchaseValidationFailed"
            | "AzureSpotFeatureNotEnabledForSubscription" => Self::Denied,
            "SkuNotAvailable"
            | "NotAvailableForSubscription"
            | "AllocationFailed"
            | "ZonalAllocationFailed"
            | "OverconstrainedAllocationRequest"
            | "OverconstrainedZonalAllocationRequest"
            | "LocationNotAvailableForResourceType"
            | "MissingRegistrationForLocation"
            | "RegionDoesNotAllowProvisioning"
            | "RequestDisallowedByAzure"
            | "AzureSpotIsNotSupportedForThisVMSize"
            | "SpotPriceGreaterThanProvidedMaxPrice" => Self::Capacity,
            // "The value Standard_X provided for the VM size is not valid. The valid sizes in the
            // current region are: …"
            "InvalidParameter" if message.contains("provided for the VM size is not valid") => {
                Self::Capacity
            }
            "ResourceNotFound"
            | "ResourceGroupNotFound"
            | "ParentResourceNotFound"
            | "NotFound"
            | "PlatformImageNotFound"
            | "ImageNotFound"
            | "ImageVersionNotFound" => Self::Missing,
            "ResourceGroupBeingDeleted" => Self::Deleting,
            "AnotherOperationInProgress"
            | "RetryableError"
            | "RetryableErrorDueToAnotherOperation"
            | "CanceledAndSupersededDueToAnotherOperation"
            | "ReferencedResourceNotProvisioned"
            // For three minutes after a machine couldn't be made, its interface is kept for it.
            | "NicReservedForAnotherVm" => Self::Busy,
            // "Another operation is in progress …" comes with this code, too.
            "Conflict" if is_about_another_operation(message) => Self::Busy,
            "Conflict" | "PropertyChangeNotAllowed" | "RoleAssignmentExists" => Self::Conflict,
            "PrincipalNotFound" => Self::PrincipalUnknown,
            "TooManyRequests"
            | "SubscriptionRequestsThrottled"
            | "ResourceRequestsThrottled"
            | "ServerTimeout"
            | "ServiceUnavailable"
            | "GatewayTimeout"
            | "temporarily_unavailable" => Self::Throttled,
            // The one code stands for quotas and for a state that forbids something.
            "OperationNotAllowed" if quota(message).is_some() => Self::of_quota(message),
            "QuotaExceeded" | "ResourceQuotaExceeded" => Self::of_quota(message),
            code if code.ends_with("LimitReached") || code.ends_with("QuotaExceeded") => {
                Self::RegionQuota
            }
            _ => Self::Other,
        }
    }

    fn of_quota(message: &str) -> Self {
        match quota(message) {
            Some(name) if name.contains("LowPriority") || name.contains("Spot") => Self::SpotQuota,
            Some(name) if name.contains("Family") => Self::FamilyQuota,
            _ => Self::RegionQuota,
        }
    }

    /// The kind of error that the user sees.
    fn kind(self) -> Kind {
        match self {
            Self::Credentials | Self::Denied => Kind::Denied,
            Self::Capacity | Self::FamilyQuota | Self::SpotQuota | Self::RegionQuota => {
                Kind::Capacity
            }
            Self::Missing
            | Self::Deleting
            | Self::Busy
            | Self::Conflict
            | Self::PrincipalUnknown
            | Self::Throttled
            | Self::Other => Kind::Other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.service, self.code)?;
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
            code: reply.status.to_string(),
            message: String::new(),
            portal: Portal::default(),
            quota: None,
            actions: Vec::new(),
            failed: reply.status.is_server_error(),
        };
        // What isn't JSON is a proxy's page, perhaps: the status is all there is.
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        match &body["error"] {
            Value::String(error) => refusal.fill_oauth(error, &body),
            document @ Value::Object(_) => refusal.fill(document),
            // Some providers leave the outer level away.
            _ => refusal.fill(&body),
        }
        refusal
    }

    /// Reads the error that an operation ended with.
    /// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/async-operations>
    pub(super) fn of_operation(status: &str, error: &Value) -> Self {
        let mut refusal = Self {
            service: RESOURCE_MANAGER,
            status: 0,
            code: status.to_owned(),
            message: String::new(),
            portal: Portal::default(),
            quota: None,
            actions: Vec::new(),
            failed: false,
        };
        refusal.fill(error);
        refusal
    }

    /// Outer codes such as `DeploymentFailed` say less than those in their details.
    /// <https://learn.microsoft.com/en-us/rest/api/resources/resource-groups/create-or-update#errordetail>
    fn fill(&mut self, document: &Value) {
        let known = |said: &(String, String)| Meaning::of(&said.0, &said.1) != Meaning::Other;
        let said = said(document);
        let telling = said.iter().find(|said| known(said)).or(said.first());
        if let Some((code, message)) = telling {
            self.code.clone_from(code);
            self.message.clone_from(message);
        }
        self.actions = said
            .iter()
            .flat_map(|(_, message)| actions(message))
            .collect();
        self.actions.sort();
        self.actions.dedup();
        if self.is_quota() {
            self.quota = quota(&self.message).or_else(|| Some(self.code.clone()));
        }
    }

    /// <https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes>
    fn fill_oauth(&mut self, error: &str, body: &Value) {
        let description = trimmed(body["error_description"].as_str().unwrap_or_default());
        match description.split_once(": ") {
            Some((code, text)) if code.starts_with("AADSTS") => {
                self.code = code.to_owned();
                self.message = text.to_owned();
            }
            _ => {
                self.code = error.to_owned();
                self.message = description;
            }
        }
        if error == "temporarily_unavailable" {
            self.code = error.to_owned();
        }
    }

    /// Whether it is about what was made just now, and isn't known everywhere yet.
    pub(super) fn is_too_early(&self) -> bool {
        let unknown = [
            "ResourceGroupNotFound",
            "ParentResourceNotFound",
            "InvalidResourceReference",
        ];
        self.meaning() == Meaning::Busy || unknown.contains(&self.code.as_str())
    }

    pub(super) fn meaning(&self) -> Meaning {
        let meaning = Meaning::of(&self.code, &self.message);
        match (meaning, self.status) {
            (Meaning::Other, _) if self.code.starts_with("AADSTS") && !self.failed => {
                Meaning::Credentials
            }
            (Meaning::Other, 401) => Meaning::Credentials,
            (Meaning::Other, 403) => Meaning::Denied,
            (Meaning::Other, 404) => Meaning::Missing,
            (Meaning::Other, 429) => Meaning::Throttled,
            (Meaning::Other, 409) => Meaning::Conflict,
            (meaning, _) => meaning,
        }
    }

    /// Whether a quota is used up.
    pub(super) fn is_quota(&self) -> bool {
        matches!(
            self.meaning(),
            Meaning::FamilyQuota | Meaning::SpotQuota | Meaning::RegionQuota
        )
    }

    /// Whether it is about what the launcher may do, and not about its subscription: a 403 whose code
    /// says nothing else is, too.
    pub(super) fn is_lack_of_rights(&self) -> bool {
        match self.code.as_str() {
            "AuthorizationFailed" | "LinkedAuthorizationFailed" => true,
            code => {
                self.status == 403
                    && Meaning::of(code, &self.message) == Meaning::Other
                    && !code.contains("Subscription")
            }
        }
    }

    /// Whether this action is what isn't allowed.
    pub(super) fn denies(&self, action: &str) -> bool {
        self.actions
            .iter()
            .any(|known| known.eq_ignore_ascii_case(action))
    }

    /// The error of what was being done, with the advice that the refusal calls for.
    pub(super) fn during(self, doing: impl Into<String>) -> Error {
        let kind = self.meaning().kind();
        let hint = self.hint();
        // An operation has done something before it failed, and a failure inside the service says
        // nothing about what was done.
        let certain = self.status != 0 && !self.failed;
        let mut error = Error::new(kind, doing).caused_by(self);
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
}

/// Every code and message of an error document, the outermost first.
fn said(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![document];
    while let Some(document) = open.pop() {
        let text = |name: &str| document[name].as_str().map(trimmed).unwrap_or_default();
        let code = text("code");
        if !code.is_empty() {
            found.push((code, text("message")));
        }
        let details = document["details"].as_array();
        open.extend(details.into_iter().flatten().rev());
    }
    found
}

fn is_about_another_operation(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["in progress", "concurrent"]
        .iter()
        .any(|words| message.contains(words))
}

/// One line, and only what is wrong.
fn trimmed(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = ASIDES.iter().filter_map(|aside| line.find(aside)).min();
    line[..end.unwrap_or(line.len())].to_owned()
}

/// "… exceeding approved standardNCASv3_T4Family Cores quota. …", or the older "… exceeding quota
/// limits of Core. Maximum allowed: …".
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-resource-quota>
fn quota(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("in exceeding ")?;
    let name = match rest.strip_prefix("approved ") {
        Some(rest) => rest.split_once(" quota")?.0,
        None => {
            let rest = rest.strip_prefix("quota limits of ")?;
            rest.split_once('.').map_or(rest, |(name, _)| name)
        }
    };
    (!name.is_empty()).then(|| name.to_owned())
}

/// "… to perform action 'Microsoft.Compute/virtualMachines/write' over scope …", and the two of a
/// linked scope: "has permission to perform action 'a' on scope …; however, it does not have
/// permission to perform action(s) 'b' on the linked scope(s) …".
fn actions(message: &str) -> Vec<String> {
    let denied = match message.rsplit_once("does not have permission to perform action") {
        Some((_, rest)) => Some(rest),
        None => message
            .split_once("does not have authorization to perform action")
            .map(|(_, rest)| rest),
    };
    let quoted = denied.and_then(|rest| rest.split_once('\''));
    let list = quoted.and_then(|(_, rest)| rest.split_once('\''));
    list.map(|(list, _)| list)
        .unwrap_or_default()
        .split(',')
        .map(|action| action.trim().to_owned())
        .filter(|action| action.contains('/'))
        .collect()
}

/// Which answers are tried again at once. Capacity doesn't come by asking again.
pub(super) fn judge(reply: &Reply) -> Verdict {
    if reply.status.is_success() {
        return Verdict::Final;
    }
    match Refusal::read(RESOURCE_MANAGER, reply).meaning() {
        Meaning::Throttled | Meaning::Busy => Verdict::Retry(reply.retry_after()),
        Meaning::Other => Verdict::by_status(reply),
        _ => Verdict::Final,
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
