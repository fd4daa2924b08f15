//! GitLab: gitlab.com and self-managed servers, projects, groups and sub-groups.

mod api;
mod endpoints;
mod pipelines;
mod program;
mod runners;

use std::path::Path;
use std::time::Duration;

use ::gitlab::api::groups::Group;
use ::gitlab::api::personal_access_tokens::PersonalAccessTokenSelf;
use ::gitlab::api::projects::Project;
use ::gitlab::api::runners::{DeleteRunner, DeleteRunnerByToken};
use ::gitlab::api::{Endpoint, Pageable, ignore, raw};
use async_trait::async_trait;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::error::{Error, Kind, Result};
use crate::forge::{
    Enrolment, Findings, Forge, JobRef, LogEvent, Programs, Provided, Question, Registration,
    Runner, Start, Surroundings, Unregistered,
};
use crate::host::Host;
use crate::http::Http;
use crate::secret::Secret;
use crate::spec::{Driver, ForgeSpec, Target};
use api::{Api, built};

/// GitLab.
pub struct GitLab {
    api: Api,
    http: Http,
    host: Host,
    spec: ForgeSpec,
    home: OnceCell<Home>,
}

/// The project or group that the runner serves.
#[derive(Debug)]
struct Home {
    id: u64,
    is_group: bool,
}

impl GitLab {
    /// A client for what the specification names. Sends nothing yet.
    pub fn new(spec: &ForgeSpec, host: &Host, http: &Http) -> Self {
        debug_assert_eq!(spec.driver, Driver::Gitlab);
        Self {
            api: Api::new(http.clone(), spec.api.clone(), spec.access.clone()),
            http: http.clone(),
            host: host.clone(),
            spec: spec.clone(),
            home: OnceCell::new(),
        }
    }

    /// A path of several parts is a project's, or else a sub-group's.
    async fn home(&self) -> Result<&Home> {
        self.home
            .get_or_try_init(async || {
                if let Target::Repository(_) = self.spec.target
                    && let Some(project) = self.ask_home(false).await?
                {
                    return Ok(project);
                }
                self.ask_home(true).await?.ok_or_else(|| {
                    let path = self.spec.target.path();
                    Error::new(
                        Kind::Denied,
                        format!("looking for {path}: GitLab knows no such project or group"),
                    )
                    .hint("check --repo, and that the token's owner is a member there")
                })
            })
            .await
    }

    async fn ask_home(&self, is_group: bool) -> Result<Option<Home>> {
        #[derive(Deserialize)]
        struct Record {
            id: u64,
        }
        let record: Option<Record> = self.ask_for_home(is_group).await?;
        Ok(record.map(|record| Home {
            id: record.id,
            is_group,
        }))
    }

    /// With which runners registered themselves before GitLab 16. It is good for any number of
    /// runners, so that it is asked for where it is needed, and not kept.
    async fn registration_token(&self) -> Result<Option<Secret>> {
        #[derive(Deserialize)]
        struct Record {
            runners_token: Option<Secret>,
        }
        let is_group = self.home().await?.is_group;
        let record: Option<Record> = self.ask_for_home(is_group).await?;
        Ok(record.and_then(|record| record.runners_token))
    }

    async fn ask_for_home<T: DeserializeOwned + 'static>(
        &self,
        is_group: bool,
    ) -> Result<Option<T>> {
        let path = self.spec.target.path();
        let doing = "looking for the project";
        match is_group {
            true => {
                let group = built(Group::builder().group(path).build())?;
                self.api.find(doing, &group).await
            }
            false => {
                let project = built(Project::builder().project(path).build())?;
                self.api.find(doing, &project).await
            }
        }
    }

    /// A list of the project's or group's. A project is asked at once, without looking for it first:
    /// where there is none of that path, it is a group.
    async fn list_at_home<T: DeserializeOwned + Send + 'static>(
        &self,
        doing: &str,
        of_project: &(impl Endpoint + Pageable + Sync),
        of_group: &(impl Endpoint + Pageable + Sync),
    ) -> Result<Vec<T>> {
        let known = self.home.get().map(|home| home.is_group);
        if let Target::Repository(_) = self.spec.target
            && known != Some(true)
            && let Some(list) = self.api.list(doing, of_project).await?
        {
            return Ok(list);
        }
        // Neither is an error that says so.
        self.home().await?;
        let list = self.api.list(doing, of_group).await?;
        list.ok_or_else(|| Error::new(Kind::Denied, format!("{doing}: GitLab knows no such group")))
    }

    async fn remove_by_token(&self, token: &Secret) -> Result<()> {
        let doing = "removing the runner";
        let runner = built(DeleteRunnerByToken::builder().token(token.expose()).build())?;
        match self.api.unsigned().query(doing, &ignore(&runner)).await? {
            Ok(()) => Ok(()),
            Err(refusal) => match refusal.status {
                // A token that isn't known is that of a runner that is gone; a proxy's refusal says
                // nothing of it.
                StatusCode::FORBIDDEN if refusal.says("403 Forbidden") => Ok(()),
                StatusCode::NOT_FOUND if refusal.says("404 ") => Ok(()),
                _ => Err(refusal.error(doing)),
            },
        }
    }

    /// Complains at once of a token whose scopes are known not to do. What isn't known is left to
    /// the calls themselves. Says whether the token could have jobs run again.
    /// <https://docs.gitlab.com/api/personal_access_tokens/#self-inform>
    async fn check_scopes(&self, retry: bool) -> Result<bool> {
        #[derive(Deserialize)]
        struct Token {
            scopes: Vec<String>,
        }
        let doing = "checking the access token";
        let own = built(PersonalAccessTokenSelf::builder().build())?;
        let answer = match self.api.repeatable().query(doing, &raw(&own)).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
                return Err(refusal.error(doing));
            }
            Err(refusal) => {
                tracing::debug!("{}", refusal.error(doing).chain());
                Vec::new()
            }
        };
        // An OAuth token, or an old server.
        let Ok(token) = serde_json::from_slice::<Token>(&answer) else {
            return Ok(true);
        };
        let has = |scope: &str| token.scopes.iter().any(|own| own == scope);
        if has("api") {
            return Ok(true);
        }
        let missing: Vec<&str> = ["create_runner", "manage_runner", "read_api"]
            .into_iter()
            .filter(|scope| !has(scope))
            .collect();
        if !missing.is_empty() {
            return Err(Error::new(
                Kind::Denied,
                format!(
                    "{doing}: it has the scopes {}, and lacks {}",
                    token.scopes.join(", "),
                    missing.join(", ")
                ),
            )
            .refused()
            .hint(format!("the token needs {}", api::SCOPES)));
        }
        if retry {
            tracing::warn!(
                "the access token lacks the scope `api`: interrupted jobs can't be run again \
                 (--no-retry says that this is meant)"
            );
        }
        Ok(false)
    }
}

#[async_trait]
impl Forge for GitLab {
    async fn look(&self, question: &Question<'_>) -> Result<Findings> {
        let (scopes, runners, programs) = tokio::join!(
            self.check_scopes(question.retry),
            self.look_at_runners(question),
            self.programs(question.runner_version),
        );
        // A token's own complaint says more than what follows from it.
        let can_rerun = scopes?;
        let (namesake, reusable) = runners?;
        let programs = match programs {
            // Either makes a new runner unnecessary, or impossible.
            Err(error) if namesake.is_some() || reusable.is_some() => {
                tracing::debug!("{}", error.chain());
                Programs::new()
            }
            programs => programs?,
        };
        Ok(Findings {
            namesake,
            reusable,
            programs,
            can_rerun,
        })
    }

    async fn register(&self, enrolment: &Enrolment<'_>) -> Result<Registration> {
        runners::register(self, enrolment).await
    }

    async fn find(&self, id: Option<u64>, name: &str) -> Result<Option<Runner>> {
        match id {
            Some(id) => self.runner(id).await,
            None => self.namesake(name).await,
        }
    }

    async fn unregister(&self, id: u64) -> Result<Unregistered> {
        let runner = built(DeleteRunner::builder().runner(id).build())?;
        let doing = "removing the runner";
        match self.api.repeatable().query(doing, &ignore(&runner)).await? {
            Err(refusal) if refusal.status != StatusCode::NOT_FOUND => Err(refusal.error(doing)),
            _ => Ok(Unregistered::Done),
        }
    }

    /// <https://docs.gitlab.com/api/runners/#delete-a-runner-by-authentication-token>
    async fn resign(&self, registration: &Registration) -> Option<Result<()>> {
        let token = registration.own.as_ref()?;
        Some(self.remove_by_token(token).await)
    }

    async fn rerun(
        &self,
        _: &str,
        job: &JobRef,
        again: bool,
        patience: Duration,
    ) -> Result<Option<u64>> {
        pipelines::rerun(self, job, again, patience).await
    }

    fn start(
        &self,
        enrolment: &Enrolment<'_>,
        registration: &Registration,
        surroundings: &Surroundings<'_>,
    ) -> Start {
        program::start(&self.spec, enrolment, registration, surroundings)
    }

    fn provided(&self) -> Provided {
        program::PROVIDED
    }

    fn accepts(&self, said: &str, version: Option<&str>) -> bool {
        program::accepts(said, version)
    }

    fn registered_id(&self, _: &Path) -> Option<u64> {
        None
    }

    fn read_log(&self, line: &str) -> Option<LogEvent> {
        program::read_log(line, &self.spec)
    }

    /// None is needed: the program's own log names a job's number and its project.
    fn job_hook(&self, _: &str) -> Option<(&'static str, String)> {
        None
    }

    fn read_job(&self, _: &str) -> JobRef {
        JobRef::default()
    }

    /// A project's own limit ends a job as a failure, and that is what its owner wants.
    fn job_limit(&self) -> Option<Duration> {
        None
    }

    /// The program counts the idle time between two requests, so that no job is sent to it
    /// meanwhile. A request may hang for the server's long poll.
    /// <https://docs.gitlab.com/ci/runners/long_polling/>
    fn idle_margin(&self) -> Duration {
        Duration::from_secs(120)
    }
}

/// <https://docs.gitlab.com/runner/install/docker/>
pub(super) fn image(version: Option<&str>) -> String {
    match version {
        Some(version) => format!("gitlab/gitlab-runner:v{version}"),
        None => "gitlab/gitlab-runner:latest".to_owned(),
    }
}
