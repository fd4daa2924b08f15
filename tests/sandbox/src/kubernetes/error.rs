//! Refusals in the API server's words.
//!
//! The form is a Status:
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>

use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};

use super::kind::Kind;
use crate::server::{Code, Response};

pub(super) type Result<T> = std::result::Result<T, ApiError>;

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) details: Value,
    pub(super) retry_after: Option<u64>,
}

/// What is wrong with one field, as `details.causes` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) field: String,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Cause {
    fn new(field: impl Into<String>, reason: &'static str, message: String) -> Self {
        Cause {
            field: field.into(),
            reason,
            message,
        }
    }

    pub(super) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {value}: {detail}");
        Cause::new(field, "FieldValueInvalid", message)
    }

    pub(super) fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = match detail {
            "" => "Required value".into(),
            detail => format!("Required value: {detail}"),
        };
        Cause::new(field, "FieldValueRequired", message)
    }

    pub(super) fn unsupported(field: impl Into<String>, value: &Value, words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let words = words.join(", ");
        let message = format!("Unsupported value: {value}: supported values: {words}");
        Cause::new(field, "FieldValueNotSupported", message)
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        let message = format!("Duplicate value: {value}");
        Cause::new(field, "FieldValueDuplicate", message)
    }

    pub(super) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        let message = format!("Forbidden: {detail}");
        Cause::new(field, "FieldValueForbidden", message)
    }

    pub(super) fn not_found(field: impl Into<String>, value: &Value) -> Self {
        let message = format!("Not found: {value}");
        Cause::new(field, "FieldValueNotFound", message)
    }

    pub(super) fn too_long(field: impl Into<String>, most: usize) -> Self {
        let message = format!("Too long: may not be more than {most} bytes");
        Cause::new(field, "FieldValueTooLong", message)
    }
}

impl ApiError {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
            retry_after: None,
        }
    }

    /// About a thing that has a name.
    fn about(mut self, kind: Kind, name: &str) -> Self {
        self.details = json!({"name": name, "kind": kind.plural()});
        if !kind.group().is_empty() {
            self.details["group"] = json!(kind.group());
        }
        self
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        ApiError::new(400, "BadRequest", message)
    }

    pub(super) fn unauthorized() -> Self {
        ApiError::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        ApiError::new(404, "NotFound", message).about(kind, name)
    }

    /// What no server of this version has.
    pub(super) fn no_resource() -> Self {
        let mut error = ApiError::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        error.details = json!({});
        error
    }

    pub(super) fn method(verb: &str) -> Self {
        ApiError::new(
            405,
            "MethodNotAllowed",
            format!("the server does not allow this method on the requested resource ({verb})"),
        )
    }

    pub(super) fn exists(kind: Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        ApiError::new(409, "AlreadyExists", message).about(kind, name)
    }

    pub(super) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.qualified()
        );
        ApiError::new(409, "Conflict", message).about(kind, name)
    }

    pub(super) fn expired(message: impl Into<String>) -> Self {
        ApiError::new(410, "Expired", message)
    }

    /// Refused by admission, or by the rules of access.
    pub(super) fn forbidden(kind: Kind, name: &str, why: &str) -> Self {
        let message = match name {
            "" => format!("{} is forbidden: {why}", kind.qualified()),
            name => format!("{} {name:?} is forbidden: {why}", kind.qualified()),
        };
        let mut error = ApiError::new(403, "Forbidden", message).about(kind, name);
        if name.is_empty()
            && let Some(details) = error.details.as_object_mut()
        {
            details.remove("name");
        }
        error
    }

    /// A body that is no such object.
    pub(super) fn undecodable(kind: &str, version: &str, why: &str) -> Self {
        ApiError::bad(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    }

    pub(super) fn invalid(kind: Kind, name: &str, causes: &[Cause]) -> Self {
        let lines: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let words = match lines.as_slice() {
            [line] => line.clone(),
            lines => format!("[{}]", lines.join(", ")),
        };
        let qualified = match kind.group() {
            "" => kind.name().to_owned(),
            group => format!("{}.{group}", kind.name()),
        };
        let message = format!("{qualified} {name:?} is invalid: {words}");
        let mut error = ApiError::new(422, "Invalid", message).about(kind, name);
        error.details["kind"] = json!(kind.name());
        error.details["causes"] = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        error
    }

    pub(super) fn throttled() -> Self {
        let mut error = ApiError::new(
            429,
            "TooManyRequests",
            "Too many requests, please try again later.",
        );
        error.details = json!({"retryAfterSeconds": 1});
        error.retry_after = Some(1);
        error
    }

    /// An injected HTTP status.
    pub(super) fn by_status(code: u16) -> Self {
        let (reason, message) = match code {
            400 => (
                "BadRequest",
                "the server rejected our request for an unknown reason",
            ),
            401 => return ApiError::unauthorized(),
            403 => ("Forbidden", "forbidden"),
            404 => return ApiError::no_resource(),
            409 => ("Conflict", "the server reported a conflict"),
            410 => return ApiError::expired("The resourceVersion is too old."),
            422 => (
                "Invalid",
                "the server rejected our request due to an error in our request",
            ),
            429 => return ApiError::throttled(),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "the server was unable to return a response in the time allotted, but may still be \
                 processing the request",
            ),
            500.. => (
                "InternalError",
                "Internal error occurred: etcdserver: request timed out",
            ),
            _ => ("BadRequest", "the server rejected our request"),
        };
        ApiError::new(code, reason, message)
    }

    /// As a Status.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }

    pub(super) fn response(&self) -> Response {
        let mut response = document(self.code, &self.status(), &[]);
        response.extensions_mut().insert(Code(self.reason.into()));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// An answer with warnings, as RFC 7234 has them.
pub(super) fn document(code: u16, body: &Value, warnings: &[String]) -> Response {
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = format!("299 - \"{quoted}\"").parse() {
            headers.append("warning", value);
        }
    }
    response
}
