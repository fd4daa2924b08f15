//! Errors in the form of Google's APIs.
//! <https://cloud.google.com/apis/design/errors>,
//! <https://cloud.google.com/compute/docs/reference/rest/v1/errors> for the older list of `errors`.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::server::{Code, Response};

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What `errors[0].reason` says (`notFound`), where the API has that list.
    pub(crate) reason: String,
    /// The words.
    pub(crate) message: String,
    /// What `errors[0].message` says, where it is something else.
    pub(crate) short: Option<String>,
    /// Whether the canonical code (`PERMISSION_DENIED`) is told, too; Compute Engine's own errors
    /// come without.
    pub(crate) is_canonical: bool,
    /// The header that is wrong.
    pub(crate) header: Option<&'static str>,
    /// Further objects.
    pub(crate) details: Vec<Value>,
}

pub(crate) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    /// An error as a service behind Google's front door makes it: without a canonical code.
    pub(crate) fn new(
        status: u16,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError {
            status,
            reason: reason.into(),
            message: message.into(),
            short: None,
            is_canonical: false,
            header: None,
            details: Vec::new(),
        }
    }

    /// With the canonical code that goes with the status.
    pub(crate) fn canonical(mut self) -> ApiError {
        self.is_canonical = true;
        self
    }

    /// With an object of the type `google.rpc.ErrorInfo`.
    pub(crate) fn info(mut self, reason: &str, metadata: Value) -> ApiError {
        self.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": metadata,
        }));
        self
    }

    /// The body; `list`: with `errors`.
    pub(crate) fn document(&self, list: bool) -> Value {
        let mut error = json!({"code": self.status, "message": self.message});
        if list {
            let mut entry = json!({
                "message": self.short.as_ref().unwrap_or(&self.message),
                "domain": "global",
                "reason": self.reason,
            });
            if let Some(header) = self.header {
                entry["location"] = header.into();
                entry["locationType"] = "header".into();
            }
            error["errors"] = json!([entry]);
        }
        if self.is_canonical {
            error["status"] = canonical(self.status).into();
        }
        if !self.details.is_empty() {
            error["details"] = self.details.clone().into();
        }
        json!({"error": error})
    }

    /// The answer; `list`: with `errors`. The record gets the reason.
    pub(crate) fn response(&self, list: bool) -> Response {
        let mut response = document(self.status, &self.document(list));
        response.extensions_mut().insert(Code(self.reason.clone()));
        response
    }
}

/// An answer in JSON, indented as Google does it.
pub(crate) fn document(status: u16, body: &Value) -> Response {
    let mut response = Response::new(format!("{body:#}\n").into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    response
}

/// <https://cloud.google.com/apis/design/errors#handling_errors>
fn canonical(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ALREADY_EXISTS",
        412 => "FAILED_PRECONDITION",
        429 => "RESOURCE_EXHAUSTED",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "UNKNOWN",
    }
}
