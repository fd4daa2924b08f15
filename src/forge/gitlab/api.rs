//! GitLab's interface: the `gitlab` crate's endpoints over our own transport, pages, and the one
//! place where a refusal becomes ours.
//!
//! The crate's own client isn't used: retries, proxy, authorities, deadlines and redaction are those
//! of every other call of this program.
//!
//! <https://docs.gitlab.com/api/rest/>

use std::error::Error as StdError;
use std::sync::OnceLock;

use ::gitlab::api::{ApiError, AsyncClient, AsyncQuery, Endpoint, Pageable, RestClient, ignore};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::endpoints::Page;
use crate::error::{Error, Kind, Result};
use crate::http::{Http, Policy, Reply, Request, Verdict, authorization};
use crate::secret::Secret;
use crate::spec::Access;

/// What a token must be able to do, in words for hints.
pub(super) const SCOPES: &str = "the scope `api`; or `create_runner`, `manage_runner` and \
     `read_api`, with which interrupted jobs can't be run again";

/// The server's interface, with the access to it.
pub(super) struct Api {
    http: Http,
    base: Url,
    access: Access,
}

/// What the crate sends one call through.
pub(super) struct Session<'a> {
    api: &'a Api,
    /// Whether the call may be repeated after an unanswered try.
    repeatable: bool,
    /// Whether the access goes along.
    signed: bool,
    /// The headers of a good answer, which the crate hands out bodies of alone.
    headers: OnceLock<HeaderMap>,
}

/// Why a call has no good answer. The crate's own reading of a refusal would keep one field of its
/// body, where a missing scope is told in others.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Unanswered(Error),
    #[error("GitLab answered {}", .0.status)]
    Refused(Refusal),
}

/// An answer that doesn't say yes.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    body: Bytes,
}

impl Refusal {
    /// The one place where a refusal of GitLab's becomes ours.
    pub(super) fn error(&self, doing: &str) -> Error {
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

impl Refusal {
    /// Whether GitLab itself, and no proxy before it, says so in these words.
    pub(super) fn says(&self, words: &str) -> bool {
        serde_json::from_slice::<Value>(&self.body)
            .ok()
            .and_then(|body| Some(body.get("message")?.as_str()?.contains(words)))
            .unwrap_or(false)
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

    /// For a call that may be repeated: one that reads, or whose repetition changes nothing.
    pub(super) fn repeatable(&self) -> Session<'_> {
        Session {
            api: self,
            repeatable: true,
            signed: true,
            headers: OnceLock::new(),
        }
    }

    /// For a call that does more when it is repeated.
    pub(super) fn once(&self) -> Session<'_> {
        Session {
            repeatable: false,
            ..self.repeatable()
        }
    }

    /// For a call that carries its own proof, and may be repeated.
    pub(super) fn unsigned(&self) -> Session<'_> {
        Session {
            signed: false,
            ..self.repeatable()
        }
    }

    pub(super) async fn get<T>(&self, doing: &str, endpoint: &(impl Endpoint + Sync)) -> Result<T>
    where
        T: DeserializeOwned + 'static,
    {
        let outcome = self.repeatable().query(doing, endpoint).await?;
        outcome.map_err(|refusal| refusal.error(doing))
    }

    /// `None` where GitLab knows no such thing.
    pub(super) async fn find<T>(
        &self,
        doing: &str,
        endpoint: &(impl Endpoint + Sync),
    ) -> Result<Option<T>>
    where
        T: DeserializeOwned + 'static,
    {
        known(doing, self.repeatable().query(doing, endpoint).await?)
    }

    /// A change that may be repeated, and whose answer tells nothing more.
    pub(super) async fn tell(&self, doing: &str, endpoint: &(impl Endpoint + Sync)) -> Result<()> {
        let outcome = self.repeatable().query(doing, &ignore(endpoint)).await?;
        outcome.map_err(|refusal| refusal.error(doing))
    }

    /// All entries of a list; `None` where there is nothing to have such a list. The first page tells
    /// how many there are, and the others are asked for side by side; of very long lists GitLab
    /// doesn't tell, and they are gone through.
    ///
    /// The crate's `paged` asks for one page after the other, and of some lists it takes the next one's
    /// address from the answer: the access would go along to wherever that is.
    pub(super) async fn list<T, E>(&self, doing: &str, endpoint: &E) -> Result<Option<Vec<T>>>
    where
        T: DeserializeOwned + Send + 'static,
        E: Endpoint + Pageable + Sync,
    {
        let page = async |number: u64| {
            let session = self.repeatable();
            let outcome = session.query(doing, &Page { endpoint, number }).await?;
            Ok::<_, Error>((known::<Vec<T>>(doing, outcome)?, session))
        };
        let (first, session) = page(1).await?;
        let Some(mut entries) = first else {
            return Ok(None);
        };
        if let Some(pages) = session.number("x-total-pages") {
            for (more, _) in try_join_all((2..=pages).map(page)).await? {
                entries.extend(more.into_iter().flatten());
            }
            return Ok(Some(entries));
        }
        let mut next = session.number("x-next-page");
        while let Some(number) = next {
            let (more, session) = page(number).await?;
            entries.extend(more.into_iter().flatten());
            next = session.number("x-next-page");
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
        authorization(token)
    }
}

/// What was found, or that there is no such thing.
fn known<T>(doing: &str, outcome: Result<T, Refusal>) -> Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
        Err(refusal) => Err(refusal.error(doing)),
    }
}

impl<'a> Session<'a> {
    /// The outer error is of a call without an answer, or with one that can't be read.
    pub(super) async fn query<T, Q>(&self, doing: &str, query: &Q) -> Result<Result<T, Refusal>>
    where
        Q: AsyncQuery<T, Session<'a>> + Sync,
    {
        let unread = |source: Box<dyn StdError + Send + Sync>| {
            Error::other(format!("{doing}: reading the answer")).caused_by(source)
        };
        match query.query_async(self).await {
            Ok(found) => Ok(Ok(found)),
            Err(ApiError::Client { source }) => match source {
                Failure::Unanswered(error) => Err(error),
                Failure::Refused(refusal) => Ok(Err(refusal)),
            },
            // The crate's messages hold their sources, too.
            Err(ApiError::Json { source } | ApiError::DataType { source, .. }) => {
                Err(unread(source.into()))
            }
            Err(error) => Err(unread(error.to_string().into())),
        }
    }

    /// A header of the answer that holds a number.
    fn number(&self, name: &str) -> Option<u64> {
        let value = self.headers.get()?.get(name)?;
        value.to_str().ok()?.trim().parse().ok()
    }

    async fn exchange(&self, request: http::request::Builder, body: Vec<u8>) -> Result<Reply> {
        let building = |error: Box<dyn StdError + Send + Sync>| {
            Error::other("building a GitLab call").caused_by(error)
        };
        let (parts, ()) = request
            .body(())
            .map_err(|error| building(error.into()))?
            .into_parts();
        let mut url = Url::parse(&parts.uri.to_string()).map_err(|error| building(error.into()))?;
        // The crate adds a query to every address, be it empty.
        if url.query() == Some("") {
            url.set_query(None);
        }
        let root = self.api.base.path().trim_end_matches('/');
        let path = url.path().strip_prefix(root).unwrap_or(url.path());
        let what = format!("gitlab {} {path}", parts.method);
        let mut headers = parts.headers;
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if self.signed {
            headers.insert(header::AUTHORIZATION, self.api.authorization()?);
        }
        let body = Bytes::from(body);
        let build = || {
            Ok(Request {
                method: parts.method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                body: body.clone(),
            })
        };
        let policy = match self.repeatable {
            true => Policy::IDEMPOTENT,
            false => Policy::ONCE,
        };
        let judge = |reply: &Reply| judge(reply, self.repeatable);
        self.api.http.send(&what, policy, build, judge).await
    }
}

impl RestClient for Session<'_> {
    type Error = Failure;

    fn rest_endpoint(&self, endpoint: &str) -> Result<Url, ApiError<Failure>> {
        let base = self.api.base.as_str().trim_end_matches('/');
        // The crate lets a backslash stand, which an address takes for a slash.
        let endpoint = endpoint.replace('\\', "%5C");
        Ok(Url::parse(&format!("{base}/{endpoint}"))?)
    }
}

#[async_trait]
impl AsyncClient for Session<'_> {
    async fn rest_async(
        &self,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> Result<http::Response<Bytes>, ApiError<Failure>> {
        let reply = self
            .exchange(request, body)
            .await
            .map_err(|error| ApiError::client(Failure::Unanswered(error)))?;
        if !reply.status.is_success() {
            return Err(ApiError::client(Failure::Refused(Refusal {
                status: reply.status,
                body: reply.body,
            })));
        }
        // A session is for one call.
        let _ = self.headers.set(reply.headers);
        let mut response = http::Response::new(reply.body);
        *response.status_mut() = reply.status;
        Ok(response)
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

/// What the crate's builders make; they fail where something is left out.
pub(super) fn built<E, X>(endpoint: Result<E, X>) -> Result<E>
where
    X: StdError + Send + Sync + 'static,
{
    endpoint.map_err(|error| Error::other("building a GitLab call").caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &'static str) -> Refusal {
        Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn a_missing_scope_is_told_with_the_scopes_that_help() {
        let body = r#"{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token.","scope":"api create_runner"}"#;
        let error = refusal(403, body).error("creating the runner");
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.chain().contains("wanted: api create_runner"));
        let hints = error.hints().join(" ");
        for scope in ["`api`", "`create_runner`", "`manage_runner`"] {
            assert!(hints.contains(scope), "{hints}");
        }
    }

    #[test]
    fn a_proxy_s_refusal_isn_t_gitlab_s() {
        let gitlab = refusal(403, r#"{"message":"403 Forbidden - Job is not retryable"}"#);
        assert!(gitlab.says("403 Forbidden") && gitlab.says("not retryable"));
        let scope = refusal(403, r#"{"error":"insufficient_scope"}"#);
        let proxy = refusal(403, "<html>403 Forbidden</html>");
        assert!(!scope.says("403 Forbidden") && !proxy.says("403 Forbidden"));
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
            let error = refusal(status, body).error("asking");
            assert!(error.chain().contains(words), "{}", error.chain());
            assert!(error.is_refusal());
        }
        assert!(!refusal(502, "").error("asking").is_refusal());
    }

    #[test]
    fn no_part_of_an_address_leads_out_of_it() {
        let host = crate::host::Host::fixed([("HOME", "/nowhere")]);
        let base = Url::parse("https://example.com/gitlab/api/v4/").unwrap();
        let api = Api::new(Http::new(&host).unwrap(), base, Access::None);
        let job = ::gitlab::api::projects::jobs::Job::builder()
            .project("a/..\\..\\b?c#d")
            .job(7)
            .build();
        let path = built(job).unwrap().endpoint();
        assert_eq!(
            api.repeatable().rest_endpoint(&path).unwrap().as_str(),
            "https://example.com/gitlab/api/v4/projects/a%2F..%5C..%5Cb%3Fc%23d/jobs/7"
        );
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
