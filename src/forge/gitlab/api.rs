//! GitLab's interface: calls, pages, and the one place where a refusal becomes ours.
//!
//! <https://docs.gitlab.com/api/rest/>

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::http::{Http, Policy, Reply, Request, Verdict};
use crate::secret::Secret;
use crate::spec::Access;

/// The most entries a page holds. <https://docs.gitlab.com/api/rest/#pagination>
const PER_PAGE: usize = 100;

/// What a token must be able to do, in words for hints.
pub(super) const SCOPES: &str = "the scope `api`; or `create_runner`, `manage_runner` and \
     `read_api`, with which interrupted jobs can't be run again";

/// The server's interface, with the access to it.
pub(super) struct Api {
    http: Http,
    base: Url,
    access: Access,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// The address below the interface's base, with its query.
    pub(super) route: &'a str,
    pub(super) body: Option<Value>,
    /// Whether it may be repeated after an unanswered try.
    pub(super) repeatable: bool,
    /// Whether the access goes along.
    pub(super) signed: bool,
}

impl<'a> Call<'a> {
    pub(super) fn get(route: &'a str) -> Self {
        Self {
            method: Method::GET,
            route,
            body: None,
            repeatable: true,
            signed: true,
        }
    }

    /// A call that changes something, and that can be repeated all the same.
    pub(super) fn idempotent(method: Method, route: &'a str) -> Self {
        Self {
            method,
            ..Self::get(route)
        }
    }
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// A header that holds a number.
    fn number(&self, name: &str) -> Option<usize> {
        self.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    }

    /// The body, of an answer that says yes.
    pub(super) fn read<T: DeserializeOwned>(&self, doing: &str) -> Result<T> {
        if !self.status.is_success() {
            return Err(self.refusal(doing));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::other(format!("{doing}: reading the answer")).caused_by(error))
    }

    /// The one place where a refusal of GitLab's becomes ours.
    pub(super) fn refusal(&self, doing: &str) -> Error {
        let said = Said::read(&self.body);
        let status = self.status.as_u16();
        let kind = match status {
            401 | 403 | 404 => Kind::Denied,
            _ => Kind::Forge,
        };
        let mut error = Error::new(
            kind,
            format!("{doing}: GitLab answered {status} {}", said.words),
        );
        if self.status.is_client_error() {
            error = error.refused();
        }
        match status {
            401 => error.hint(format!(
                "the token is wrong or has expired: pass a personal, project or group access token \
                 as REPO_TOKEN or --token, with {SCOPES}. The pipeline's CI_JOB_TOKEN can't manage \
                 runners"
            )),
            403 if said.lacks_scope => error.hint(format!("the token needs {SCOPES}")),
            403 => error.hint(
                "the token's owner must be a Maintainer of the project, or an Owner of the group",
            ),
            404 => error.hint(
                "GitLab says the same of what isn't there and of what the token's owner can't see: \
                 check --repo, and the token",
            ),
            429 => error.hint("wait until the limit is reset"),
            _ => error,
        }
    }
}

/// What GitLab said, from the several forms of its error bodies.
struct Said {
    words: String,
    lacks_scope: bool,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            message: Option<Value>,
            error: Option<Value>,
            error_description: Option<String>,
            scope: Option<String>,
        }
        let Ok(said) = serde_json::from_slice::<Body>(body) else {
            return Self {
                words: String::from_utf8_lossy(body)
                    .trim()
                    .chars()
                    .take(200)
                    .collect(),
                lacks_scope: false,
            };
        };
        let text = |value: Value| match value {
            Value::String(text) => text,
            value => value.to_string(),
        };
        let lacks_scope = said.error.as_ref().and_then(Value::as_str) == Some("insufficient_scope");
        let scope = said.scope.map(|scope| format!("(wanted: {scope})"));
        let parts = [
            said.error.map(text),
            said.message.map(text),
            said.error_description,
            scope,
        ];
        Self {
            words: parts.into_iter().flatten().collect::<Vec<_>>().join(" "),
            lacks_scope,
        }
    }
}

impl Api {
    pub(super) fn new(http: Http, base: Url, access: Access) -> Self {
        Self { http, base, access }
    }

    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer> {
        let path = call.route.split('?').next().unwrap_or_default();
        let what = format!("gitlab {} {path}", call.method);
        let text = format!("{}{}", self.base.as_str().trim_end_matches('/'), call.route);
        let url = Url::parse(&text)
            .map_err(|error| Error::other("building a GitLab address").caused_by(error))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if call.signed {
            headers.insert(header::AUTHORIZATION, self.authorization()?);
        }
        let body = match &call.body {
            Some(body) => {
                let json = HeaderValue::from_static("application/json");
                headers.insert(header::CONTENT_TYPE, json);
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let build = || {
            Ok(Request {
                method: call.method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                body: body.clone(),
            })
        };
        let policy = match call.repeatable {
            true => Policy::IDEMPOTENT,
            false => Policy::ONCE,
        };
        let judge = |reply: &Reply| judge(reply, call.repeatable);
        let reply = self.http.send(&what, policy, build, judge).await?;
        Ok(Answer {
            status: reply.status,
            headers: reply.headers,
            body: reply.body,
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, doing: &str, route: &str) -> Result<T> {
        self.call(Call::get(route)).await?.read(doing)
    }

    /// All entries of a list. The first page tells how many there are, and the others are asked
    /// for side by side; of very long lists GitLab doesn't tell, and they are gone through. `None`
    /// where there is nothing to have such a list.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        doing: &str,
        route: &str,
    ) -> Result<Option<Vec<T>>> {
        let joint = if route.contains('?') { '&' } else { '?' };
        let page = async |page: usize| {
            let route = format!("{route}{joint}per_page={PER_PAGE}&page={page}");
            self.call(Call::get(&route)).await
        };
        let first = page(1).await?;
        if first.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let mut entries: Vec<T> = first.read(doing)?;
        if let Some(pages) = first.number("x-total-pages") {
            for answer in try_join_all((2..=pages).map(page)).await? {
                entries.extend(answer.read::<Vec<T>>(doing)?);
            }
            return Ok(Some(entries));
        }
        let mut next = first.number("x-next-page");
        while let Some(number) = next {
            let answer = page(number).await?;
            entries.extend(answer.read::<Vec<T>>(doing)?);
            next = answer.number("x-next-page");
        }
        Ok(Some(entries))
    }

    /// Personal, project, group and OAuth tokens all travel this way.
    fn authorization(&self) -> Result<HeaderValue> {
        let token: &Secret = match &self.access {
            Access::Token(token) => token,
            Access::None | Access::App { .. } => {
                return Err(Error::new(
                    Kind::Denied,
                    "no access to GitLab was given along",
                ));
            }
        };
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
                Error::usage("the access token holds characters that no token has")
                    .hint("check for a line break or a space at its end")
            })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Which answers are tried again: a rate limit refuses before the work, so that any call may be
/// repeated after it; a server's failure may come after the work.
fn judge(reply: &Reply, repeatable: bool) -> Verdict {
    match Verdict::by_status(reply) {
        Verdict::Retry(wait) if repeatable || reply.status == StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Retry(wait)
        }
        _ => Verdict::Final,
    }
}

/// A path as one part of an address.
pub(super) fn encoded(path: &str) -> String {
    url::form_urlencoded::byte_serialize(path.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn a_missing_scope_is_told_with_the_scopes_that_help() {
        let body = r#"{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token.","scope":"api create_runner"}"#;
        let error = answer(403, body).refusal("creating the runner");
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.chain().contains("wanted: api create_runner"));
        let hints = error.hints().join(" ");
        for scope in ["`api`", "`create_runner`", "`manage_runner`"] {
            assert!(hints.contains(scope), "{hints}");
        }
    }

    #[test]
    fn every_form_of_a_refusal_is_understood() {
        let cases = [
            (400, r#"{"message":{"tags_list":["too many"]}}"#, "too many"),
            (404, r#"{"message":"404 Project Not Found"}"#, "Project Not"),
            (400, r#"{"error":"runner_type is missing"}"#, "is missing"),
            (429, "Retry later\n", "Retry later"),
        ];
        for (status, body, words) in cases {
            let error = answer(status, body).refusal("asking");
            assert!(error.chain().contains(words), "{}", error.chain());
            assert!(error.is_refusal());
        }
        assert!(!answer(502, "").refusal("asking").is_refusal());
    }

    #[test]
    fn a_write_is_repeated_only_when_it_was_refused_before_the_work() {
        let reply = |status| Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        assert_eq!(judge(&reply(502), false), Verdict::Final);
        assert_eq!(judge(&reply(502), true), Verdict::Retry(None));
        assert_eq!(judge(&reply(429), false), Verdict::Retry(None));
    }
}
