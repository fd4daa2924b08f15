//! The token that GitHub gives to a job with `permissions: id-token: write`.
//! <https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token>

use http::Method;
use http::header::{self, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::entra::TOKEN_POLICY;
use super::{Application, CLIENT, Context, TENANT, denied};
use crate::cloud::azure::client::authorization;
use crate::error::Result;
use crate::http::{Request, Verdict};
use crate::secret::Secret;

const URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// What Entra wants such a token to be for.
/// <https://learn.microsoft.com/en-us/graph/api/resources/federatedidentitycredentials-overview>
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// The application and the job's token. A job may have the permission for another cloud's sake: only
/// with an application is it meant for Azure.
pub(super) async fn assertion(context: Context<'_>) -> Result<Option<(Application, Secret)>> {
    #[derive(Deserialize)]
    struct Answer {
        value: Secret,
    }
    let host = context.host;
    let (Some(url), Some(own)) = (host.env(URL), host.env(TOKEN)) else {
        return Ok(None);
    };
    if host.env(CLIENT).is_none() || host.env(TENANT).is_none() {
        return Ok(None);
    }
    let application = Application::named(host, URL)?;
    let doing = "getting the GitHub job's own token";
    let mut url = Url::parse(url).map_err(|error| denied(doing).caused_by(error))?;
    url.query_pairs_mut().append_pair("audience", AUDIENCE);
    let own = Secret::new(own);
    let build = || {
        let mut request = Request::new(Method::GET, url.clone());
        let headers = &mut request.headers;
        headers.insert(header::AUTHORIZATION, authorization(&own)?);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Ok(request)
    };
    let reply = context
        .http
        .send("github-oidc:token", TOKEN_POLICY, build, Verdict::by_status)
        .await
        .map_err(|error| error.during(doing))?;
    if !reply.status.is_success() {
        // What it says may repeat what it was sent.
        return Err(denied(doing)
            .caused_by(format!("GitHub answered {}", reply.status))
            .hint("the job needs `permissions: id-token: write`"));
    }
    let answer: Answer = serde_json::from_slice(&reply.body)
        .map_err(|_| denied(doing).caused_by("the answer holds no token"))?;
    Ok(Some((application, answer.value)))
}
