//! Runner records: looked for, made.
//!
//! <https://docs.gitlab.com/api/runners/>

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::GitLab;
use super::api::{Call, encoded};
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

    /// The runner that has the name, among those that belong to the project or group itself: GitLab
    /// has no filter for it.
    pub(super) async fn namesake(&self, name: &str) -> Result<Option<Runner>> {
        let own = |is_group: bool| {
            let kind = if is_group { "group" } else { "project" };
            format!("runners?type={kind}_type")
        };
        let records: Vec<Record> = self.list_at_home(LISTING, own).await?;
        Ok(records
            .into_iter()
            .map(Runner::from)
            .find(|runner| runner.name == name))
    }

    /// An online runner that carries all labels, of any owner whose runners may be used here: GitLab
    /// itself filters by tags, which its lists don't show.
    async fn reusable(&self, question: &Question<'_>) -> Result<Option<Runner>> {
        if question.reuse == Reuse::Never {
            return Ok(None);
        }
        let tags = encoded(&question.labels.join(","));
        let usable = |_| format!("runners?status=online&tag_list={tags}");
        let mut records: Vec<Record> = self.list_at_home(LISTING, usable).await?;
        records.retain(|record| !record.paused && record.online == Some(true));
        let found = match question.reuse {
            Reuse::Idle => self.idle(records).await?,
            Reuse::Any | Reuse::Never => records.into_iter().next(),
        };
        Ok(found.map(|record| Runner {
            labels: question.labels.to_vec(),
            ..record.into()
        }))
    }

    /// The first one without a job. Older servers' lists don't tell: a project's running jobs do, in
    /// one question more; for a group, which has no list of jobs, those few are asked for one by one.
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
            let running = |_| "jobs?scope[]=running".to_owned();
            let jobs: Vec<Job> = self.list_at_home(doing, running).await?;
            let busy = |record: &Record| {
                jobs.iter()
                    .any(|job| job.runner.as_ref().is_some_and(|r| r.id == record.id))
            };
            return Ok(unknown.into_iter().find(|record| !busy(record)));
        }
        for record in unknown {
            let route = format!("/runners/{}/jobs?status=running&per_page=1", record.id);
            let jobs: Vec<Value> = self.api.get(doing, &route).await?;
            if jobs.is_empty() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    pub(super) async fn runner(&self, id: u64) -> Result<Option<Runner>> {
        let route = format!("/runners/{id}");
        let answer = self.api.call(Call::get(&route)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let record: Record = answer.read("looking for the runner")?;
        Ok(Some(record.into()))
    }
}

/// Makes a record, and with it the runner's own token. Not idempotent by itself: after an
/// unanswered try, a record of that name is ours (the look found none), is removed, and another is
/// asked for.
pub(super) async fn register(gitlab: &GitLab, enrolment: &Enrolment<'_>) -> Result<Registration> {
    let doing = "registering the runner";
    let mut tries = 3;
    loop {
        tries -= 1;
        match create(gitlab, enrolment).await {
            Ok(answer) if answer.status.is_server_error() && tries > 0 => {}
            Ok(answer) => {
                let created: Created = answer.read(doing)?;
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
        if let Some(ours) = gitlab.namesake(enrolment.name).await? {
            gitlab.unregister(ours.id).await?;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// <https://docs.gitlab.com/api/users/#create-a-runner-linked-to-a-user>
async fn create(gitlab: &GitLab, enrolment: &Enrolment<'_>) -> Result<super::api::Answer> {
    let home = gitlab.home().await?;
    let mut body = json!({
        "description": enrolment.name,
        "tag_list": enrolment.labels.join(","),
        "locked": true,
        "run_untagged": true,
        "access_level": "not_protected",
    });
    let add = |body: &mut Value, more: Value| {
        if let (Value::Object(body), Value::Object(more)) = (body, more) {
            body.extend(more);
        }
    };
    let mut modern = body.clone();
    add(
        &mut modern,
        match home.is_group {
            true => json!({ "runner_type": "group_type", "group_id": home.id }),
            false => json!({ "runner_type": "project_type", "project_id": home.id }),
        },
    );
    let call = |route: &'static str, body: Value| Call {
        body: Some(body),
        repeatable: false,
        ..Call::idempotent(Method::POST, route)
    };
    let answer = gitlab.api.call(call("/user/runners", modern)).await?;
    let unknown = matches!(
        answer.status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
    );
    if !unknown {
        return Ok(answer);
    }
    // Before GitLab 16, runners were registered with the token of their project or group.
    let Some(token) = &home.runners_token else {
        return Err(Error::new(
            Kind::Denied,
            "registering the runner: this GitLab is older than 16.0, and doesn't show the \
             registration token",
        )
        .refused()
        .hint("the token's owner must be a Maintainer of the project, or an Owner of the group"));
    };
    add(&mut body, json!({ "token": token.expose() }));
    gitlab.api.call(call("/runners", body)).await
}
