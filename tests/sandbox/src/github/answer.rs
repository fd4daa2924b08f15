//! Answers in GitHub's form, and what every request may carry: a query, pages, a JSON body.

use axum::body::Body;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::access::{LIMIT, Limit};
use crate::clock;
use crate::fault::Refusal;
use crate::server::{Code, Request, Response};

/// The API versions on offer; the first is taken where a request names none.
/// <https://docs.github.com/en/rest/about-the-rest-api/api-versions>
pub(super) const API_VERSIONS: [&str; 2] = ["2022-11-28", "2026-03-10"];

/// The page that errors point to.
const DOCUMENTATION: &str = "https://docs.github.com/rest";

/// A JSON answer.
pub(super) fn json(status: u16, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    set(
        &mut response,
        header::CONTENT_TYPE,
        "application/json; charset=utf-8",
    );
    with_status(response, status)
}

/// An answer without a body.
pub(super) fn empty(status: u16) -> Response {
    with_status(Response::new(Body::empty()), status)
}

/// A text, for the runner program and for the few of GitHub's answers that are no JSON.
pub(super) fn text(status: u16, text: impl Into<String>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    set(
        &mut response,
        header::CONTENT_TYPE,
        "text/plain; charset=utf-8",
    );
    with_status(response, status)
}

/// GitHub's error body. Its words are what the record shows as the error's code.
pub(super) fn error(status: u16, message: &str) -> Response {
    let body = json!({
        "message": message,
        "documentation_url": DOCUMENTATION,
        "status": status.to_string(),
    });
    let mut response = json(status, &body);
    response.extensions_mut().insert(Code(message.into()));
    response
}

pub(super) fn not_found() -> Response {
    error(404, "Not Found")
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
pub(super) fn dress(
    response: &mut Response,
    limit: Option<Limit>,
    version: &str,
    enterprise: bool,
) {
    let limit = limit.unwrap_or(Limit {
        used: 0,
        reset: clock::now(),
    });
    for (name, value) in [
        ("server", "github.com".to_owned()),
        ("x-github-request-id", clock::random_hex(20).to_uppercase()),
        ("x-github-media-type", "github.v3; format=json".to_owned()),
        ("x-github-api-version-selected", version.to_owned()),
        ("x-ratelimit-limit", LIMIT.to_string()),
        ("x-ratelimit-remaining", limit.remaining().to_string()),
        ("x-ratelimit-reset", limit.reset.as_second().to_string()),
        ("x-ratelimit-used", limit.used.to_string()),
        ("x-ratelimit-resource", "core".to_owned()),
    ] {
        set(response, HeaderName::from_static(name), &value);
    }
    if enterprise {
        let name = HeaderName::from_static("x-github-enterprise-version");
        set(response, name, "3.20.0");
    }
}

/// The refusal of an injected fault.
pub(super) fn refuse(refusal: Refusal, request: &Request) -> Response {
    match refusal {
        Refusal::Denied => error(403, "Resource not accessible by personal access token"),
        Refusal::Throttled => {
            // GitHub uses both; which one can't be foretold.
            let status = if request.parts.method == http::Method::GET {
                403
            } else {
                429
            };
            let mut response = error(
                status,
                "You have exceeded a secondary rate limit. Please wait a few minutes before you \
                 try again.",
            );
            set(&mut response, header::RETRY_AFTER, "1");
            response
        }
        Refusal::Capacity => error(503, "Service Unavailable"),
        Refusal::Status(status) => error(
            status,
            match status {
                401 => "Bad credentials",
                404 => "Not Found",
                422 => "Validation Failed",
                500.. => "Server Error",
                _ => "Forbidden",
            },
        ),
    }
}

/// A parameter of the query.
pub(super) fn parameter(request: &Request, name: &str) -> Option<String> {
    url::form_urlencoded::parse(request.query().as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// One page of a list, with the `Link` header that leads to the others.
/// <https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api>
pub(super) fn page(request: &Request, base: &str, key: &str, all: Vec<Value>) -> Response {
    let number = |name: &str, default: usize| {
        parameter(request, name)
            .and_then(|text| text.parse().ok())
            .filter(|number| *number > 0)
            .unwrap_or(default)
    };
    let size = number("per_page", 30).min(100);
    let at = number("page", 1);
    let last = all.len().div_ceil(size).max(1);
    let total = all.len();
    let items: Vec<Value> = all
        .into_iter()
        .skip((at - 1).saturating_mul(size))
        .take(size)
        .collect();
    let mut response = json(200, &json!({ "total_count": total, key: items }));

    let address = |page: usize| {
        let others = url::form_urlencoded::parse(request.query().as_bytes())
            .filter(|(key, _)| key != "page");
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("page", &page.to_string())
            .finish();
        format!("{base}{}?{query}", request.path())
    };
    let mut links = Vec::new();
    for (relation, page, there) in [
        ("prev", at.saturating_sub(1), at > 1),
        ("next", at + 1, at < last),
        ("last", last, at < last),
        ("first", 1, at > 1),
    ] {
        if there {
            links.push(format!("<{}>; rel=\"{relation}\"", address(page)));
        }
    }
    if !links.is_empty() {
        set(&mut response, header::LINK, &links.join(", "));
    }
    response
}

/// Reads a JSON object that has all of `required` and nothing beside those and `optional`.
///
/// # Errors
/// GitHub's refusal of anything else.
pub(super) fn object(
    request: &Request,
    required: &[&str],
    optional: &[&str],
) -> Result<Map<String, Value>, Box<Response>> {
    let refused = |status, message: &str| Box::new(error(status, message));
    if request.body.is_empty() && required.is_empty() {
        return Ok(Map::new());
    }
    let value: Value =
        serde_json::from_slice(&request.body).map_err(|_| refused(400, "Problems parsing JSON"))?;
    let Value::Object(fields) = value else {
        return Err(refused(400, "Body should be a JSON object"));
    };
    let mut wrong: Vec<String> = fields
        .keys()
        .filter(|key| !required.contains(&key.as_str()) && !optional.contains(&key.as_str()))
        .map(|key| format!("\"{key}\" is not a permitted key."))
        .collect();
    let missing = required.iter().filter(|key| !fields.contains_key(**key));
    wrong.extend(missing.map(|key| format!("\"{key}\" wasn't supplied.")));
    if wrong.is_empty() {
        Ok(fields)
    } else {
        Err(invalid(&wrong.join("\n")))
    }
}

/// The refusal of a body whose form is wrong.
pub(super) fn invalid(what: &str) -> Box<Response> {
    Box::new(error(422, &format!("Invalid request.\n\n{what}")))
}
