//! Refusals in the words of Azure Resource Manager and the resource providers behind it.
//!
//! The form: <https://github.com/microsoft/api-guidelines/blob/vNext/azure/Guidelines.md>; the codes:
//! <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/common-deployment-errors>.
//! Where Microsoft's pages have no words, they are those that users report.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::path::Kind;
use crate::entra::{Principal, Unauthorized};
use crate::server::{Code, Response};

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    /// What of the request is wrong.
    pub(super) target: Option<Box<str>>,
    pub(super) details: Vec<Value>,
    /// `WWW-Authenticate`.
    challenge: Option<Box<str>>,
    /// `Retry-After`, in seconds.
    retry_after: Option<u32>,
}

pub(super) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub(super) fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        ApiError {
            status,
            code: code.into(),
            message: message.into(),
            target: None,
            details: Vec::new(),
            challenge: None,
            retry_after: None,
        }
    }

    /// The caller's mistake.
    pub(super) fn bad(code: impl Into<String>, message: impl Into<String>) -> Self {
        ApiError::new(400, code, message)
    }

    /// A parameter's value that Compute doesn't take.
    pub(super) fn parameter(target: &str, message: impl Into<String>) -> Self {
        ApiError::bad("InvalidParameter", message).target(target)
    }

    pub(super) fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into().into_boxed_str());
        self
    }

    pub(super) fn detail(mut self, code: &str, message: impl Into<String>) -> Self {
        self.details
            .push(json!({"code": code, "message": message.into()}));
        self
    }

    /// The caller may not do that.
    /// <https://learn.microsoft.com/en-us/azure/role-based-access-control/troubleshooting>
    pub(super) fn denied(principal: &Principal, action: &str, scope: &str) -> Self {
        let Principal { client, object } = principal;
        ApiError::new(
            403,
            "AuthorizationFailed",
            format!(
                "The client '{client}' with object id '{object}' does not have authorization to \
                 perform action '{action}' over scope '{scope}' or the scope is invalid. If access \
                 was recently granted, please refresh your credentials."
            ),
        )
    }

    /// The caller may not do that to what the request refers to.
    /// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-linked-authorization-failed>
    pub(super) fn linked(
        principal: &Principal,
        (action, scope): (&str, &str),
        (linked_action, linked_scope): (&str, &str),
    ) -> Self {
        let Principal { client, object } = principal;
        ApiError::new(
            403,
            "LinkedAuthorizationFailed",
            format!(
                "The client '{client}' with object id '{object}' has permission to perform action \
                 '{action}' on scope '{scope}'; however, it does not have permission to perform \
                 action(s) '{linked_action}' on the linked scope(s) '{linked_scope}' \
                 (respectively) or the linked scope(s) are invalid."
            ),
        )
    }

    /// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-not-found>
    pub(super) fn no_group(name: &str) -> Self {
        ApiError::new(
            404,
            "ResourceGroupNotFound",
            format!("Resource group '{name}' could not be found."),
        )
    }

    /// See there, too.
    pub(super) fn no_resource(kind: Kind, group: &str, name: &str) -> Self {
        ApiError::new(
            404,
            "ResourceNotFound",
            format!(
                "The Resource '{}/{}/{name}' under resource group '{group}' was not found. For \
                 more details please go to https://aka.ms/ARMResourceNotFoundFix",
                kind.provider(),
                kind.name()
            ),
        )
    }

    /// <https://github.com/Azure/azure-cli/issues/21121>
    pub(super) fn group_is_going(name: &str) -> Self {
        ApiError::new(
            409,
            "ResourceGroupBeingDeleted",
            format!(
                "The resource group '{name}' is in deprovisioning state and cannot perform this \
                 operation."
            ),
        )
    }

    /// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/request-limits-and-throttling>
    pub(super) fn throttled() -> Self {
        ApiError {
            retry_after: Some(1),
            ..ApiError::new(
                429,
                "SubscriptionRequestsThrottled",
                "Number of requests for subscription exceeded the limit. Please try again after \
                 '1' seconds.",
            )
        }
    }

    /// No room for a size. Regular and spot machines are refused alike:
    /// <https://learn.microsoft.com/en-us/azure/virtual-machines/error-codes-spot>,
    /// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-sku-not-available>
    pub(super) fn no_size(size: &str, location: &str) -> Self {
        ApiError::new(
            409,
            "SkuNotAvailable",
            format!(
                "The requested VM size for resource 'Following SKUs have failed for Capacity \
                 Restrictions: {size}' is currently not available in location '{location}'. Please \
                 try another size or deploy to a different location or different zone. See \
                 https://aka.ms/azureskunotavailable for details."
            ),
        )
    }

    /// A quota that is used up: `OperationNotAllowed`, or `QuotaExceeded` of late.
    /// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-resource-quota>
    pub(super) fn quota(code: &str, quota: &str, location: &str, cpus: u32) -> Self {
        ApiError::new(
            409,
            code,
            format!(
                "Operation could not be completed as it results in exceeding approved {quota} \
                 Cores quota. Additional details - Deployment Model: Resource Manager, Location: \
                 {location}, Current Limit: 0, Current Usage: 0, Additional Required: {cpus}, \
                 (Minimum) New Limit Required: {cpus}. Setup Alerts when Quota reaches threshold. \
                 Learn more at https://aka.ms/quotamonitoringalerting . Submit a request for Quota \
                 increase at https://aka.ms/ProdportalCRP/#blade/Microsoft_Azure_Capacity/\
                 UsageAndQuota.ReactView by specifying parameters listed in the 'Details' section \
                 for deployment to succeed. Please read more about quota limits at \
                 https://docs.microsoft.com/en-us/azure/azure-supportability/per-vm-quota-requests"
            ),
        )
    }

    /// What a machine's operation ends with when there is no room after all.
    /// <https://learn.microsoft.com/en-us/troubleshoot/azure/virtual-machines/windows/allocation-failure>
    pub(super) fn allocation(code: &str, size: &str) -> Self {
        let message = match code {
            "AllocationFailed" => {
                "Allocation failed. We do not have sufficient capacity for the requested VM size in \
                 this region. Read more about improving likelihood of allocation success at \
                 http://aka.ms/allocation-guidance"
            }
            "ZonalAllocationFailed" => {
                "Allocation failed. We do not have sufficient capacity for the requested VM size in \
                 this zone. Read more about improving likelihood of allocation success at \
                 http://aka.ms/allocation-guidance"
            }
            "OverconstrainedAllocationRequest" | "OverconstrainedZonalAllocationRequest" => {
                "Allocation failed. VM(s) with the following constraints cannot be allocated, \
                 because the condition is too restrictive. Please remove some constraints and try \
                 again."
            }
            "InternalExecutionError" => "An internal execution error occurred. Please retry later.",
            _ => "The operation can't be completed.",
        };
        ApiError::new(409, code, format!("{message} Size: {size}."))
    }

    /// An injected HTTP status.
    pub(super) fn by_status(status: u16) -> Self {
        let (code, message) = match status {
            400 => ("BadRequest", "The request is invalid."),
            401 => ("AuthenticationFailed", "Authentication failed."),
            403 => (
                "AuthorizationFailed",
                "The client does not have authorization to perform this action.",
            ),
            404 => ("NotFound", "The resource was not found."),
            409 => (
                "Conflict",
                "The request failed due to conflict with a concurrent request. To resolve it, \
                 please refer to https://aka.ms/activitylog to get more details on the conflicting \
                 requests.",
            ),
            412 => (
                "PreconditionFailed",
                "A precondition of the request is not met.",
            ),
            429 => return ApiError::throttled(),
            503 => (
                "ServerTimeout",
                "The service is temporarily unavailable. Please retry later.",
            ),
            504 => (
                "GatewayTimeout",
                "The gateway did not receive a response from the resource provider within the \
                 specified time period.",
            ),
            500.. => (
                "InternalServerError",
                "Encountered internal server error. Please retry later.",
            ),
            _ => ("BadRequest", "The request is invalid."),
        };
        ApiError::new(status, code, message)
    }

    /// The object under `error`.
    pub(super) fn object(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(target) = &self.target {
            error["target"] = (**target).into();
        }
        if !self.details.is_empty() {
            error["details"] = self.details.clone().into();
        }
        error
    }

    pub(super) fn response(&self) -> Response {
        let mut response = document(self.status, &json!({"error": self.object()}));
        response.extensions_mut().insert(Code(self.code.clone()));
        if let Some(challenge) = &self.challenge {
            set(&mut response, header::WWW_AUTHENTICATE.as_str(), challenge);
        }
        if let Some(seconds) = self.retry_after {
            set(
                &mut response,
                header::RETRY_AFTER.as_str(),
                &seconds.to_string(),
            );
        }
        response
    }
}

impl From<Unauthorized> for ApiError {
    fn from(reason: Unauthorized) -> Self {
        ApiError {
            challenge: Some(reason.challenge().into_boxed_str()),
            ..ApiError::new(401, reason.code, &reason.message)
        }
    }
}

/// An answer in JSON.
pub(super) fn document(status: u16, body: &Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    set(
        &mut response,
        header::CONTENT_TYPE.as_str(),
        "application/json; charset=utf-8",
    );
    response
}

/// An answer without a body.
pub(super) fn empty(status: u16) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// Sets a header.
pub(super) fn set(response: &mut Response, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (
        header::HeaderName::try_from(name),
        HeaderValue::from_str(value),
    ) {
        response.headers_mut().insert(name, value);
    }
}
