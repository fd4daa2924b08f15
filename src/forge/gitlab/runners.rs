//! Runner records: looked for, made.
//!
//! <https://docs.gitlab.com/api/runners/>

use std::time::Duration;

use ::gitlab::api::groups::runners::GroupRunners;
use ::gitlab::api::projects::jobs::{JobScope, Jobs};
use ::gitlab::api::projects::runners::ProjectRunners;
use ::gitlab::api::runners::{self, RunnerAccessLevel, RunnerJobStatus, RunnerStatus, RunnerType};
use ::gitlab::api::{Pagination, paged, users};
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::GitLab;
use super::api::{Refusal, built};
use crate::error::{Error, Kind, Result};
use crate::forge::{Enrolment, Forge, Question, Registration, Runner};
use crate::http::maybe_done;
use crate::secret::Secret;
use crate::spec::Reuse;

/// A runner as lists show it, without its tags; or by itself, with them.
#[derive(Deserialize)]
pub(super) struct Record {
    id: u64,
    /// What we call its name; its `name` is what the runner program calls itself.
    description: Option<String>,
    online: Option<bool>,
    #[serde(default)]
    paused: bool,
    /// What older servers say instead.
    active: Option<bool>,
    runner_type: Option<String>,
    /// Unknown to older servers.
    job_execution_status: Option<String>,
    #[serde(default)]
    tag_list: Vec<String>,
}

impl From<Record> for Runner {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            name: record.description.unwrap_or_default(),
            online: record.online.unwrap_or(false),
            busy: record.job_execution_status.as_deref() == Some("active"),
            labels: record.tag_list,
        }
    }
}

#[derive(Deserialize)]
struct Created {
    id: u64,
    token: Secret,
}

const LISTING: &str = "listing the runners";

impl GitLab {
    /// A runner of this name, and one that makes a new one unnecessary.
    pub(super) async fn look_at_runners(
        &self,
        question: &Question<'_>,
    ) -> Result<(Option<Runner>, Option<Runner>)> {
        // The record itself isn't needed yet, but costs no time beside the others.
        let (_, namesake, reusable) = tokio::try_join!(
            self.home(),
            self.namesake(question.name),
            self.reusable(question)
        )?;
        Ok((namesake, reusable))
    }

    /// A runner that has the name.
    pub(super) async fn namesake(&self, name: &str) -> Result<Option<Runner>> {
        Ok(self.namesakes(name).await?.into_iter().next())
    }

    /// The runners that have the name, among those that belong to the project or group itself: GitLab
    /// has no filter for it, and lets many have the same.
    async fn namesakes(&self, name: &str) -> Result<Vec<Runner>> {
        let path = self.spec.target.path();
        let of_project = ProjectRunners::builder()
            .project(path)
            .type_(RunnerType::Project)
            .build();
        let of_group = GroupRunners::builder()
            .group(path)
            .type_(RunnerType::Group)
            .build();
        let records: Vec<Record> = self
            .list_at_home(LISTING, &built(of_project)?, &built(of_group)?)
            .await?;
        Ok(records
            .into_iter()
            .map(Runner::from)
            .filter(|runner| runner.name == name)
            .collect())
    }

    /// An online runner that carries all labels, of any owner whose runners may be used here: GitLab
    /// itself filters by tags, which its lists don't show.
    async fn reusable(&self, question: &Question<'_>) -> Result<Option<Runner>> {
        if question.reuse == Reuse::Never {
            return Ok(None);
        }
        let path = self.spec.target.path();
        let of_project = ProjectRunners::builder()
            .project(path)
            .status(RunnerStatus::Online)
            .tags(question.labels.iter().map(String::as_str))
            .build();
        let of_group = GroupRunners::builder()
            .group(path)
            .status(RunnerStatus::Online)
            .tags(question.labels.iter().map(String::as_str))
            .build();
        let mut records: Vec<Record> = self
            .list_at_home(LISTING, &built(of_project)?, &built(of_group)?)
            .await?;
        records.retain(|record| {
            !record.paused && record.active != Some(false) && record.online == Some(true)
        });
        let found = match question.reuse {
            Reuse::Idle => self.idle(records).await?,
            Reuse::Any | Reuse::Never => records.into_iter().next(),
        };
        Ok(found.map(|record| Runner {
            labels: question.labels.to_vec(),
            ..record.into()
        }))
    }

    /// The first one without a job. Older servers' lists don't tell. Of a project's own runners its
    /// running jobs do, in one question more; a group's or the server's may be at work for others, and
    /// count as busy. For a group, which has no list of jobs, the few are asked for one by one.
    async fn idle(&self, records: Vec<Record>) -> Result<Option<Record>> {
        #[derive(Deserialize)]
        struct Job {
            runner: Option<RunnerId>,
        }
        #[derive(Deserialize)]
        struct RunnerId {
            id: u64,
        }
        let (known, unknown): (Vec<Record>, Vec<Record>) = records
            .into_iter()
            .partition(|record| record.job_execution_status.is_some());
        let idle = |record: &Record| record.job_execution_status.as_deref() == Some("idle");
        if let Some(record) = known.into_iter().find(idle) {
            return Ok(Some(record));
        }
        if unknown.is_empty() {
            return Ok(None);
        }
        let doing = "looking for running jobs";
        if !self.home().await?.is_group {
            let running = Jobs::builder()
                .project(self.spec.target.path())
                .scope(JobScope::Running)
                .build();
            let jobs: Option<Vec<Job>> = self.api.list(doing, &built(running)?).await?;
            let jobs = jobs.unwrap_or_default();
            let busy = |record: &Record| {
                jobs.iter()
                    .any(|job| job.runner.as_ref().is_some_and(|r| r.id == record.id))
            };
            let is_own = |record: &Record| record.runner_type.as_deref() == Some("project_type");
            return Ok(unknown
                .into_iter()
                .find(|record| is_own(record) && !busy(record)));
        }
        for record in unknown {
            let running = runners::RunnerJobs::builder()
                .runner(record.id)
                .status(RunnerJobStatus::Running)
                .build();
            let one = paged(built(running)?, Pagination::Limit(1));
            let answer: Result<Vec<IgnoredAny>, Refusal> =
                self.api.repeatable().query(doing, &one).await?;
            match answer {
                Ok(jobs) if jobs.is_empty() => return Ok(Some(record)),
                Ok(_) => {}
                // Whose jobs nobody may see counts as busy.
                Err(refusal) => tracing::debug!("{}", refusal.error(doing).chain()),
            }
        }
        Ok(None)
    }

    pub(super) async fn runner(&self, id: u64) -> Result<Option<Runner>> {
        let runner = built(runners::Runner::builder().runner(id).build())?;
        let record: Option<Record> = self.api.find("looking for the runner", &runner).await?;
        Ok(record.map(Runner::from))
    }
}

/// Makes a record, and with it the runner's own token. Not idempotent by itself: after an
/// unanswered try, a record of that name is ours (the look found none), is removed, and another is
/// asked for. What an unanswered try made after that look is removed once there is an answer.
pub(super) async fn register(gitlab: &GitLab, enrolment: &Enrolment<'_>) -> Result<Registration> {
    let doing = "registering the runner";
    let mut tries = 3;
    let mut unclear = false;
    loop {
        tries -= 1;
        match create(gitlab, doing, enrolment).await {
            Ok(Err(refusal)) if refusal.status.is_server_error() && tries > 0 => {}
            Ok(Err(refusal)) => return Err(refusal.error(doing)),
            Ok(Ok(created)) => {
                if unclear {
                    remove_others(gitlab, enrolment.name, created.id).await;
                }
                return Ok(Registration {
                    runner_id: Some(created.id),
                    jit: None,
                    token: None,
                    own: Some(created.token),
                });
            }
            Err(error) if maybe_done(&error) && tries > 0 => {}
            Err(error) if error.kind() == Kind::Other => return Err(error.with_kind(Kind::Forge)),
            Err(error) => return Err(error),
        }
        unclear = true;
        for ours in gitlab.namesakes(enrolment.name).await? {
            gitlab.unregister(ours.id).await?;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Removes every record of the name but one. The runner works without this.
async fn remove_others(gitlab: &GitLab, name: &str, id: u64) {
    let removed = async {
        for other in gitlab.namesakes(name).await? {
            if other.id != id {
                gitlab.unregister(other.id).await?;
            }
        }
        Ok::<(), Error>(())
    };
    if let Err(error) = removed.await {
        tracing::warn!(
            "a second record of the runner {name} may be left: {}",
            error.chain()
        );
    }
}

/// <https://docs.gitlab.com/api/users/#create-a-runner-linked-to-a-user>
async fn create(
    gitlab: &GitLab,
    doing: &str,
    enrolment: &Enrolment<'_>,
) -> Result<Result<Created, Refusal>> {
    let home = gitlab.home().await?;
    let labels = || enrolment.labels.iter().map(String::as_str);
    let mut runner = users::CreateRunner::builder();
    match home.is_group {
        true => runner.group(home.id),
        false => runner.project(home.id),
    };
    let runner = runner
        .description(enrolment.name)
        .tags(labels())
        .locked(true)
        .run_untagged(true)
        .access_level(RunnerAccessLevel::NotProtected)
        .build();
    let outcome = gitlab.api.once().query(doing, &built(runner)?).await?;
    let unknown = |refusal: &Refusal| {
        matches!(
            refusal.status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        )
    };
    if !outcome.as_ref().is_err_and(unknown) {
        return Ok(outcome);
    }
    // Before GitLab 16, runners were registered with the token of their project or group.
    let Some(token) = gitlab.registration_token().await? else {
        return Err(Error::new(
            Kind::Denied,
            "registering the runner: this GitLab is older than 16.0, and doesn't show the \
             registration token",
        )
        .refused()
        .hint("the token's owner must be a Maintainer of the project, or an Owner of the group"));
    };
    let runner = runners::CreateRunner::builder()
        .token(token.expose())
        .description(enrolment.name)
        .tags(labels())
        .locked(true)
        .run_untagged(true)
        .access_level(RunnerAccessLevel::NotProtected)
        .build();
    gitlab.api.once().query(doing, &built(runner)?).await
}
