//! Refusals in Compute Engine's words.
//!
//! The forms: <https://docs.cloud.google.com/compute/docs/reference/rest/v1/errors> (the catalogue)
//! and <https://cloud.google.com/apis/design/errors> (the body). Where the catalogue has no words,
//! they are those that users report.

use serde_json::{Value, json};

pub(super) use crate::google::ApiError;

pub(super) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    /// INVALID_FIELD_VALUE of the catalogue.
    pub(super) fn invalid(field: &str, value: &str, why: &str) -> Self {
        let message = format!("Invalid value for field '{field}': '{value}'. {why}");
        ApiError::new(400, "invalid", message)
    }

    /// MISSING_REQUIRED_FIELD of the catalogue.
    pub(super) fn missing(field: &str) -> Self {
        let message = format!("Required field '{field}' not specified");
        ApiError::new(400, "required", message)
    }

    /// Things that don't go together.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        ApiError::new(400, "badRequest", message)
    }

    /// A body, or a parameter, that the service's front end can't read.
    pub(super) fn unreadable(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut violation = json!({"description": message});
        if !field.is_empty() {
            violation["field"] = json!(field);
        }
        let mut error = ApiError::new(400, "badRequest", message).canonical();
        error.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [violation],
        }));
        error
    }

    /// A query parameter that the front end can't read.
    pub(super) fn parameter(field: &str, message: impl Into<String>) -> Self {
        ApiError {
            reason: "invalidParameter".into(),
            ..ApiError::unreadable(field, message)
        }
    }

    pub(super) fn not_found(resource: &str) -> Self {
        let message = format!("The resource '{resource}' was not found");
        ApiError::new(404, "notFound", message)
    }

    pub(super) fn exists(resource: &str) -> Self {
        let message = format!("The resource '{resource}' already exists");
        ApiError::new(409, "alreadyExists", message)
    }

    /// <https://github.com/GoogleCloudPlatform/magic-modules/pull/13881> shows it for a network.
    pub(super) fn not_ready(resource: &str) -> Self {
        let message = format!("The resource '{resource}' is not ready");
        ApiError::new(400, "resourceNotReady", message)
    }

    /// PERMISSIONS_ERROR of the catalogue.
    pub(super) fn denied(permission: &str, resource: &str) -> Self {
        let message = format!("Required '{permission}' permission for '{resource}'");
        ApiError::new(403, "forbidden", message)
    }

    /// Too many requests a minute: status 403, as the page on API quotas says.
    /// <https://docs.cloud.google.com/compute/api-quota>
    pub(super) fn throttled() -> Self {
        ApiError::new(
            403,
            "rateLimitExceeded",
            "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service \
             'compute.googleapis.com'.",
        )
        .canonical()
        .info(
            "RATE_LIMIT_EXCEEDED",
            json!({
                "service": "compute.googleapis.com",
                "quota_metric": "compute.googleapis.com/default",
                "quota_limit": "defaultPerMinutePerProject",
                "quota_limit_value": "1500",
            }),
        )
    }

    /// An injected HTTP status.
    pub(super) fn by_status(status: u16) -> Self {
        let (reason, message) = match status {
            400 => ("badRequest", "Bad Request"),
            401 => ("authError", "Invalid Credentials"),
            403 => ("forbidden", "Forbidden"),
            404 => ("notFound", "Not Found"),
            409 => ("conflict", "Conflict"),
            412 => ("conditionNotMet", "Precondition Failed"),
            429 => ("rateLimitExceeded", "Rate Limit Exceeded"),
            503 => (
                "backendError",
                "Service is currently unavailable. Please try again.",
            ),
            500.. => (
                "backendError",
                "Internal error. Please try again or contact Google Support.",
            ),
            _ => ("badRequest", "The request is invalid."),
        };
        ApiError::new(status, reason, message)
    }
}

/// What goes wrong in an operation that was begun: an entry of its `error.errors`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// `httpErrorStatusCode`.
    pub(super) status: u16,
    /// `httpErrorMessage`.
    pub(super) words: &'static str,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) details: Vec<Value>,
}

impl Failure {
    /// No room in a zone, in the words of today:
    /// <https://docs.cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability>
    pub(super) fn exhausted(code: &str, project: &str, zone: &str, machine_type: &str) -> Self {
        let base = format!(
            "The zone 'projects/{project}/zones/{zone}' does not have enough resources available \
             to fulfill the request. "
        );
        let message = match code {
            "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS" => {
                format!("{base} '(resource type:compute)'.")
            }
            _ => format!("{base} Try a different zone, or try again later."),
        };
        Failure {
            status: 503,
            words: "SERVICE UNAVAILABLE",
            code: code.into(),
            message,
            details: vec![
                json!({"help": {"links": [{
                    "description": "Troubleshooting documentation",
                    "url": "https://cloud.google.com/compute/docs/resource-error",
                }]}}),
                json!({"localizedMessage": {
                    "locale": "en-US",
                    "message": format!(
                        "A {machine_type} VM instance is currently unavailable in the {zone} zone. \
                         Alternatively, you can try your request again with a different VM \
                         hardware configuration or at a later time. For more information, see the \
                         troubleshooting documentation."
                    ),
                }}),
                json!({"errorInfo": {
                    "domain": "compute.googleapis.com",
                    "reason": "resource_availability",
                    "metadatas": {
                        "attachment": "",
                        "vmType": machine_type,
                        "zone": zone,
                        "zonesAvailable": "",
                    },
                }}),
            ],
        }
    }

    /// An account that the caller may not act as. The call itself is accepted.
    pub(super) fn act_as(account: &str, user: &str) -> Self {
        Failure {
            status: 400,
            words: "BAD REQUEST",
            code: "SERVICE_ACCOUNT_ACCESS_DENIED".into(),
            message: format!(
                "The user does not have access to service account '{account}'.  User: '{user}'.  \
                 Ask a project owner to grant you the iam.serviceAccountUser role on the service \
                 account"
            ),
            details: Vec::new(),
        }
    }

    /// Whatever else a test asks for.
    pub(super) fn other(code: &str) -> Self {
        let (status, words) = match code {
            "INTERNAL_ERROR" => (500, "INTERNAL SERVER ERROR"),
            "RESOURCE_NOT_FOUND" => (404, "NOT FOUND"),
            "RESOURCE_NOT_READY" | "UNSUPPORTED_OPERATION" => (400, "BAD REQUEST"),
            _ => (503, "SERVICE UNAVAILABLE"),
        };
        let message = match code {
            "INTERNAL_ERROR" => "Internal error. Please try again or contact Google Support.",
            _ => "The request can't be fulfilled.",
        };
        Failure {
            status,
            words,
            code: code.into(),
            message: message.into(),
            details: Vec::new(),
        }
    }
}

/// An allocation quota that is used up.
/// <https://docs.cloud.google.com/compute/resource-usage>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quota {
    /// `NVIDIA_T4_GPUS`.
    pub(super) metric: String,
    pub(super) limit: String,
    /// `None`: for the whole project.
    pub(super) place: Option<Place>,
}

/// What a quota is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Region(String),
    Zone(String),
}

impl Quota {
    pub(super) fn message(&self) -> String {
        let Quota { metric, limit, .. } = self;
        let place = match &self.place {
            None => "globally".to_owned(),
            Some(Place::Region(region)) => format!("in region {region}"),
            Some(Place::Zone(zone)) => format!("in zone {zone}"),
        };
        format!("Quota '{metric}' exceeded.  Limit: {limit} {place}.")
    }

    /// QuotaExceededInfo of the discovery document.
    fn info(&self) -> Value {
        let name = self.metric.replace('_', "-");
        let (suffix, dimensions) = match &self.place {
            None => ("per-project", json!({"global": "global"})),
            Some(Place::Region(region)) => ("per-project-region", json!({"region": region})),
            Some(Place::Zone(zone)) => ("per-project-zone", json!({"zone": zone})),
        };
        json!({
            "metricName": format!("compute.googleapis.com/{}", self.metric.to_lowercase()),
            "limitName": format!("{name}-{suffix}"),
            "dimensions": dimensions,
            "limit": self.limit.parse().unwrap_or(0.0),
        })
    }

    /// As the end of an operation.
    pub(super) fn failure(&self) -> Failure {
        Failure {
            status: 403,
            words: "FORBIDDEN",
            code: "QUOTA_EXCEEDED".into(),
            message: self.message(),
            details: vec![json!({"quotaInfo": self.info()})],
        }
    }

    /// As the answer to the call.
    pub(super) fn error(&self) -> ApiError {
        ApiError::new(403, "quotaExceeded", self.message())
    }
}
