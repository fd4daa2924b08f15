//! Answers in GitLab's form.

use axum::body::Body;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::access::{Access, LIMIT};
use super::parameters::Parameters;
use crate::clock;
use crate::fault::Refusal;
use crate::server::{Code, Request, Response};

/// A JSON answer.
pub(super) fn json(status: u16, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    with_status(response, status)
}

/// An answer without a body.
pub(super) fn empty(status: u16) -> Response {
    with_status(Response::new(Body::empty()), status)
}

/// A text.
pub(super) fn text(status: u16, text: impl Into<String>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    set(&mut response, header::CONTENT_TYPE, "text/plain");
    with_status(response, status)
}

/// GitLab's refusal: `{"message":"403 Forbidden"}`. Its words are what the record shows as the
/// error's code.
pub(super) fn message(status: u16, message: &str) -> Response {
    let mut response = json(status, &json!({ "message": message }));
    response.extensions_mut().insert(Code(message.into()));
    response
}

/// The refusal of what doesn't get as far as GitLab's own code: `{"error":"404 Not Found"}`, or
/// `{"error":"runner_type is missing"}`.
pub(super) fn error(status: u16, message: &str) -> Response {
    let mut response = json(status, &json!({ "error": message }));
    response.extensions_mut().insert(Code(message.into()));
    response
}

pub(super) fn unauthorized() -> Response {
    message(401, "401 Unauthorized")
}

/// With the reason, where there is one.
pub(super) fn forbidden(reason: &str) -> Response {
    match reason {
        "" => message(403, "403 Forbidden"),
        reason => message(403, &format!("403 Forbidden - {reason}")),
    }
}

/// What was asked for by its number, without a word about what it is.
pub(super) fn not_found() -> Response {
    message(404, "404 Not found")
}

/// The refusal of a token that would have to have one of these scopes.
/// <https://www.rfc-editor.org/rfc/rfc6750#section-3.1>
pub(super) fn insufficient_scope(scopes: &[&str]) -> Response {
    let mut response = json(
        403,
        &json!({
            "error": "insufficient_scope",
            "error_description":
                "The request requires higher privileges than provided by the access token.",
            "scope": scopes.join(" "),
        }),
    );
    response
        .extensions_mut()
        .insert(Code("insufficient_scope".into()));
    response
}

/// The refusal of a token whose life is over.
pub(super) fn invalid_token(description: &str) -> Response {
    let mut response = json(
        401,
        &json!({ "error": "invalid_token", "error_description": description }),
    );
    response
        .extensions_mut()
        .insert(Code("invalid_token".into()));
    response
}

/// The refusal when there were too many requests, which is no JSON.
/// <https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#use-a-custom-rate-limit-response>
pub(super) fn too_many(retry_after: i64) -> Response {
    let mut response = text(429, "Retry later\n");
    set(&mut response, header::RETRY_AFTER, &retry_after.to_string());
    response.extensions_mut().insert(Code("Retry later".into()));
    response
}

fn with_status(mut response: Response, status: u16) -> Response {
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response
}

/// Sets a header, where the value can be one.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The headers that every answer of the API has.
/// <https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers>
pub(super) fn dress(response: &mut Response, access: &Access) {
    let exhausted = access.exhausted();
    let used = if exhausted.is_some() {
        LIMIT
    } else {
        access.used.min(LIMIT)
    };
    let reset = exhausted.unwrap_or_else(clock::now).as_second();
    for (name, value) in [
        ("server", "nginx".to_owned()),
        ("x-request-id", clock::random_hex(26).to_uppercase()),
        ("ratelimit-limit", LIMIT.to_string()),
        ("ratelimit-name", "throttle_authenticated_api".to_owned()),
        ("ratelimit-observed", used.to_string()),
        ("ratelimit-remaining", (LIMIT - used).to_string()),
        ("ratelimit-reset", reset.to_string()),
    ] {
        set(response, HeaderName::from_static(name), &value);
    }
}

/// The refusal of an injected fault.
pub(super) fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Denied => forbidden(""),
        Refusal::Throttled => too_many(1),
        Refusal::Capacity => text(503, "GitLab is not responding\n"),
        Refusal::Status(401) => unauthorized(),
        Refusal::Status(403) => forbidden(""),
        Refusal::Status(404) => message(404, "404 Not Found"),
        Refusal::Status(409) => message(409, "409 Conflict"),
        Refusal::Status(429) => too_many(1),
        Refusal::Status(500) => message(500, "500 Internal Server Error"),
        Refusal::Status(status @ 501..) => text(status, "GitLab is not responding\n"),
        Refusal::Status(status) => message(status, &format!("{status} Bad request")),
    }
}

/// One page of a list, with the headers that lead to the others.
/// <https://docs.gitlab.com/api/rest/#pagination>
pub(super) fn page(
    request: &Request,
    parameters: &Parameters,
    base: &str,
    all: Vec<Value>,
) -> Response {
    let number = |name: &str, default: usize| match parameters.number(name)? {
        Some(0) => Err(Box::new(error(
            400,
            &format!("{name} does not have a valid value"),
        ))),
        Some(number) => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        None => Ok(default),
    };
    let (size, at) = match (number("per_page", 20), number("page", 1)) {
        (Ok(size), Ok(at)) => (size.min(100), at),
        (Err(refusal), _) | (_, Err(refusal)) => return *refusal,
    };
    let total = all.len();
    let last = total.div_ceil(size).max(1);
    let items = all
        .into_iter()
        .skip((at - 1).saturating_mul(size))
        .take(size)
        .collect();
    let mut response = json(200, &Value::Array(items));

    let address = |page: usize| {
        let others = url::form_urlencoded::parse(request.query().as_bytes())
            .filter(|(key, _)| !["page", "per_page", "private_token"].contains(&key.as_ref()));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("page", &page.to_string())
            .append_pair("per_page", &size.to_string())
            .finish();
        format!("<{base}{}?{query}>", request.path())
    };
    let previous = at.checked_sub(1).filter(|page| *page > 0);
    let next = Some(at + 1).filter(|page| *page <= last);
    let mut links = Vec::new();
    for (relation, page) in [
        ("prev", previous),
        ("next", next),
        ("first", Some(1)),
        ("last", Some(last)),
    ] {
        if let Some(page) = page {
            links.push(format!("{}; rel=\"{relation}\"", address(page)));
        }
    }
    let text = |page: Option<usize>| page.map(|page| page.to_string()).unwrap_or_default();
    for (name, value) in [
        ("link", links.join(", ")),
        ("x-next-page", text(next)),
        ("x-page", at.to_string()),
        ("x-per-page", size.to_string()),
        ("x-prev-page", text(previous)),
        ("x-total", total.to_string()),
        ("x-total-pages", last.to_string()),
    ] {
        set(&mut response, HeaderName::from_static(name), &value);
    }
    response
}
