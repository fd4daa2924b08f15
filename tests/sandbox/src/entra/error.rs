//! Refusals of the token endpoint.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes>

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::clock;
use crate::server::{Code, Response};

/// An error with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StsError {
    /// The HTTP status.
    pub(super) status: u16,
    /// What OAuth calls it (`invalid_client`).
    pub(super) kind: &'static str,
    /// The number after `AADSTS`.
    pub(super) number: u32,
    pub(super) message: String,
}

pub(super) type Result<T> = std::result::Result<T, StsError>;

impl StsError {
    /// A request that is wrong in itself: 400.
    pub(super) fn request(kind: &'static str, number: u32, message: impl Into<String>) -> Self {
        StsError {
            status: 400,
            kind,
            number,
            message: message.into(),
        }
    }

    /// A caller that isn't who it says: 401, `invalid_client`.
    pub(super) fn client(number: u32, message: impl Into<String>) -> Self {
        StsError {
            status: 401,
            kind: "invalid_client",
            number,
            message: message.into(),
        }
    }

    pub(super) fn response(&self) -> Response {
        let now = clock::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let (trace, correlation) = (clock::uuid(), clock::uuid());
        let number = self.number;
        let mut response = document(
            self.status,
            &json!({
                "error": self.kind,
                "error_description": format!(
                    "AADSTS{number}: {} Trace ID: {trace} Correlation ID: {correlation} \
                     Timestamp: {now}",
                    self.message
                ),
                "error_codes": [number],
                "timestamp": now,
                "trace_id": trace,
                "correlation_id": correlation,
                "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
            }),
        );
        if self.status == 429 {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        let code = Code(format!("AADSTS{number}"));
        response.extensions_mut().insert(code);
        response
    }
}

/// An answer in JSON.
pub(super) fn document(status: u16, body: &Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
