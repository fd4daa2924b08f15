//! GitHub: github.com and GitHub Enterprise Server, repositories and organisations.

mod access;
mod program;
mod runs;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use http::{Method, StatusCode};
use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, Kind, Result};
use crate::forge::{
    Enrolment, Findings, Forge, JobRef, LogEvent, Provided, Question, Registration, Runner, Start,
    Surroundings, Unregistered,
};
use crate::host::Host;
use crate::http::{Http, maybe_done};
use crate::secret::Secret;
use crate::spec::{Driver, ForgeSpec, Reuse, Target};
use access::Authenticator;
use transport::{Repeatable, Transport};

/// The most runners a page holds.
/// <https://docs.github.com/en/rest/actions/self-hosted-runners#list-self-hosted-runners-for-a-repository>
const PER_PAGE: usize = 100;

/// GitHub.
pub struct GitHub {
    octocrab: Octocrab,
    host: Host,
    spec: ForgeSpec,
}

/// An answer of the API.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct RunnerPage {
    total_count: usize,
    runners: Vec<RunnerRecord>,
}

#[derive(Deserialize)]
struct RunnerRecord {
    id: u64,
    name: String,
    status: String,
    busy: bool,
    #[serde(default)]
    labels: Vec<Label>,
}

#[derive(Deserialize)]
struct Label {
    name: String,
}

impl From<RunnerRecord> for Runner {
    fn from(record: RunnerRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            online: record.status == "online",
            busy: record.busy,
            labels: record.labels.into_iter().map(|label| label.name).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Secret,
}

#[derive(Deserialize)]
struct JitConfig {
    runner: RunnerRecord,
    encoded_jit_config: Secret,
}

impl GitHub {
    /// A client for what the specification names. Sends nothing yet.
    pub fn new(spec: &ForgeSpec, host: &Host, http: &Http) -> Result<Self> {
        debug_assert_eq!(spec.driver, Driver::Github);
        let access = Authenticator::new(
            host.clone(),
            http.clone(),
            spec.api.clone(),
            spec.target.clone(),
            spec.access.clone(),
        );
        let transport = Transport::new(
            http.clone(),
            host.clone(),
            spec.api.clone(),
            Arc::new(access),
        );
        let built = OctocrabBuilder::new_empty()
            .with_service(transport)
            .with_auth(AuthState::None)
            .build();
        let octocrab = match built {
            Ok(octocrab) => octocrab,
            Err(never) => match never {},
        };
        Ok(Self {
            octocrab,
            host: host.clone(),
            spec: spec.clone(),
        })
    }

    /// The part of every address that names the repository or organisation.
    fn scope(&self) -> String {
        match &self.spec.target {
            Target::Repository(path) => format!("/repos/{path}"),
            Target::Organization(path) => format!("/orgs/{path}"),
        }
    }

    async fn call(
        &self,
        method: Method,
        route: &str,
        body: Option<&serde_json::Value>,
        repeatable: bool,
    ) -> Result<Answer> {
        let read = |error: octocrab::Error| match error {
            octocrab::Error::Service { source, .. } => match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => {
                    Error::other(format!("calling github {method} {route}")).caused_by(source)
                }
            },
            error => Error::other(format!("calling github {method} {route}")).caused_by(error),
        };
        let builder = http::Request::builder()
            .method(method.clone())
            .uri(route)
            .extension(Repeatable(repeatable));
        let request = self.octocrab.build_request(builder, body).map_err(read)?;
        let response = self.octocrab.execute(request).await.map_err(read)?;
        let status = response.status();
        let body = self.octocrab.body_to_string(response).await.map_err(read)?;
        Ok(Answer {
            status,
            body: body.into_bytes(),
        })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, doing: &str, route: &str) -> Result<T> {
        let answer = self.call(Method::GET, route, None, true).await?;
        self.read(doing, answer)
    }

    /// The one place where a refusal of GitHub's becomes ours.
    fn read<T: serde::de::DeserializeOwned>(&self, doing: &str, answer: Answer) -> Result<T> {
        if !answer.status.is_success() {
            return Err(self.refusal(doing, &answer));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| Error::other(format!("{doing}: reading the answer")).caused_by(error))
    }

    fn refusal(&self, doing: &str, answer: &Answer) -> Error {
        let said = words(&answer.body);
        let path = self.spec.target.path();
        let status = answer.status.as_u16();
        let limited = said.contains("rate limit");
        let kind = match status {
            401 | 403 | 404 if !limited => Kind::Denied,
            _ => Kind::Forge,
        };
        let mut error = Error::new(kind, format!("{doing}: GitHub answered {status} {said}"));
        // A limit passes; what is refused stays so.
        if answer.status.is_client_error() && !limited && status != 429 {
            error = error.refused();
        }
        match (status, &self.spec.target) {
            _ if limited => error.hint("wait until the limit is reset, or use a GitHub App, whose limit is its own"),
            (401, _) => error.hint(
                "the token is wrong or has expired: pass a personal access token, not the \
                 workflow's GITHUB_TOKEN, as REPO_TOKEN or --token",
            ),
            (403 | 404, Target::Repository(_)) => error.hint(format!(
                "managing the runners of {path} wants a personal access token with the `repo` \
                 scope (classic) or `Administration: write` (fine-grained); the workflow's \
                 GITHUB_TOKEN can't"
            )),
            (403 | 404, Target::Organization(_)) => error.hint(format!(
                "managing the runners of the organisation {path} wants a personal access token \
                 with the `admin:org` scope (classic) or `Self-hosted runners: write` (fine-grained)"
            )),
            _ => error,
        }
    }

    /// All runners, or those of one name: the first page tells how many there are, the others are
    /// asked for side by side.
    async fn runners(&self, name: Option<&str>) -> Result<Vec<Runner>> {
        let doing = "listing the runners";
        let filter = match name {
            Some(name) => format!("&name={}", encoded(name)),
            None => String::new(),
        };
        let route = |page: usize| {
            format!(
                "{}/actions/runners?per_page={PER_PAGE}&page={page}{filter}",
                self.scope()
            )
        };
        let first: RunnerPage = self.get(doing, &route(1)).await?;
        let pages = first.total_count.div_ceil(PER_PAGE);
        let others = try_join_all((2..=pages).map(|page| {
            let route = route(page);
            async move { self.get::<RunnerPage>(doing, &route).await }
        }))
        .await?;
        Ok(std::iter::once(first)
            .chain(others)
            .flat_map(|page| page.runners)
            .map(Runner::from)
            // Older servers don't know the filter and answer with everything.
            .filter(|runner| name.is_none_or(|name| runner.name == name))
            .collect())
    }

    /// Not idempotent by itself: after an unanswered try, a record of that name is ours (the look
    /// found none), is removed, and the configuration is asked for again. `None` where the server
    /// doesn't offer it.
    async fn jit(&self, enrolment: &Enrolment<'_>) -> Result<Option<Registration>> {
        let route = format!("{}/actions/runners/generate-jitconfig", self.scope());
        let body = json!({
            "name": enrolment.name,
            "runner_group_id": 1,
            "labels": self.all_labels(enrolment),
            "work_folder": "_work",
        });
        let doing = "registering the runner";
        let mut tries = 3;
        loop {
            tries -= 1;
            match self.call(Method::POST, &route, Some(&body), false).await {
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => return Ok(None),
                Ok(answer) if answer.status.is_server_error() && tries > 0 => {}
                Ok(answer) => {
                    let jit: JitConfig = self.read(doing, answer)?;
                    return Ok(Some(Registration {
                        runner_id: Some(jit.runner.id),
                        jit: Some(jit.encoded_jit_config),
                        token: None,
                        own: None,
                    }));
                }
                Err(error) if maybe_done(&error) && tries > 0 => {}
                Err(error) => return Err(error.with_kind(Kind::Forge)),
            }
            if let Some(ours) = self.find(None, enrolment.name).await? {
                self.unregister(ours.id).await?;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// A just-in-time configuration gets no label that isn't asked for, so the ones that every
    /// other runner has are.
    fn all_labels(&self, enrolment: &Enrolment<'_>) -> Vec<String> {
        let mut labels = vec!["self-hosted".to_owned(), "Linux".to_owned()];
        labels.extend(
            enrolment
                .arch
                .map(|arch| program::github_arch(arch).to_uppercase()),
        );
        for label in enrolment.labels {
            if !labels.iter().any(|known| known.eq_ignore_ascii_case(label)) {
                labels.push(label.clone());
            }
        }
        labels
    }
}

#[async_trait]
impl Forge for GitHub {
    async fn look(&self, question: &Question<'_>) -> Result<Findings> {
        // Only a reuse needs every runner; a name clash needs one question.
        let filter = match question.reuse {
            Reuse::Never => Some(question.name),
            Reuse::Any | Reuse::Idle => None,
        };
        let (runners, programs) =
            tokio::try_join!(self.runners(filter), self.programs(question.runner_version),)?;
        let carries_all = |runner: &&Runner| {
            question.labels.iter().all(|wanted| {
                runner
                    .labels
                    .iter()
                    .any(|has| has.eq_ignore_ascii_case(wanted))
            })
        };
        let reusable = match question.reuse {
            Reuse::Never => None,
            Reuse::Any => runners.iter().filter(|r| r.online).find(carries_all),
            Reuse::Idle => runners
                .iter()
                .filter(|r| r.online && !r.busy)
                .find(carries_all),
        };
        Ok(Findings {
            reusable: reusable.cloned(),
            namesake: runners.iter().find(|r| r.name == question.name).cloned(),
            programs,
            can_rerun: true,
        })
    }

    async fn register(&self, enrolment: &Enrolment<'_>) -> Result<Registration> {
        if enrolment.single
            && let Some(registration) = self.jit(enrolment).await?
        {
            return Ok(registration);
        }
        // Asking twice makes two tokens; both expire within the hour, unused.
        let route = format!("{}/actions/runners/registration-token", self.scope());
        let answer = self.call(Method::POST, &route, None, true).await?;
        let token: Token = self.read("getting a registration token", answer)?;
        Ok(Registration {
            runner_id: None,
            jit: None,
            token: Some(token.token),
            own: None,
        })
    }

    async fn find(&self, id: Option<u64>, name: &str) -> Result<Option<Runner>> {
        let Some(id) = id else {
            return Ok(self.runners(Some(name)).await?.into_iter().next());
        };
        let route = format!("{}/actions/runners/{id}", self.scope());
        let answer = self.call(Method::GET, &route, None, true).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let record: RunnerRecord = self.read("looking for the runner", answer)?;
        Ok(Some(record.into()))
    }

    async fn unregister(&self, id: u64) -> Result<Unregistered> {
        let route = format!("{}/actions/runners/{id}", self.scope());
        let answer = self.call(Method::DELETE, &route, None, true).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Unregistered::Done),
            status if status.is_success() => Ok(Unregistered::Done),
            // A busy runner is refused as 422, or as 400 by older servers.
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST
                if words(&answer.body).contains("running a job") =>
            {
                Ok(Unregistered::Busy)
            }
            _ => Err(self.refusal("removing the runner", &answer)),
        }
    }

    /// A registration token registers, and a just-in-time configuration works: neither removes.
    async fn resign(&self, _: &Registration) -> Option<Result<()>> {
        None
    }

    async fn rerun(
        &self,
        runner: &str,
        job: &JobRef,
        _: bool,
        patience: Duration,
    ) -> Result<Option<u64>> {
        runs::rerun(self, runner, job, patience).await
    }

    fn start(
        &self,
        enrolment: &Enrolment<'_>,
        registration: &Registration,
        surroundings: &Surroundings<'_>,
    ) -> Start {
        let url = self.spec.target_url.as_str();
        program::start(url, enrolment, registration, surroundings)
    }

    fn provided(&self) -> Provided {
        program::PROVIDED
    }

    fn accepts(&self, said: &str, version: Option<&str>) -> bool {
        program::accepts(said, version)
    }

    fn registered_id(&self, folder: &Path) -> Option<u64> {
        program::registered_id(folder)
    }

    fn read_log(&self, line: &str) -> Option<LogEvent> {
        program::read_log(line)
    }

    fn job_hook(&self, note: &str) -> Option<(&'static str, String)> {
        Some(program::job_hook(note))
    }

    fn read_job(&self, note: &str) -> JobRef {
        program::read_job(note)
    }

    /// <https://docs.github.com/en/actions/reference/limits>
    fn job_limit(&self) -> Option<Duration> {
        Some(Duration::from_secs(35 * 24 * 3600))
    }
}

/// What GitHub said, from its error body.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize, Serialize)]
    struct Said {
        message: String,
        #[serde(default)]
        errors: Vec<serde_json::Value>,
    }
    match serde_json::from_slice::<Said>(body) {
        Ok(said) if said.errors.is_empty() => said.message,
        Ok(said) => format!("{} {}", said.message, json!(said.errors)),
        Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

/// A value for a query string.
fn encoded(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// <https://github.com/actions/runner/pkgs/container/actions-runner>
pub(super) fn image(version: Option<&str>) -> String {
    format!(
        "ghcr.io/actions/actions-runner:{}",
        version.unwrap_or("latest")
    )
}
