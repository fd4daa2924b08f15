//! An interrupted job's pipeline: cancelled, waited for, run again.

use std::time::Duration;

use ::gitlab::api::ignore;
use ::gitlab::api::projects::{jobs, pipelines};
use http::StatusCode;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::GitLab;
use super::api::built;
use super::endpoints::CancelByForce;
use crate::error::{Error, Kind, Result};
use crate::forge::JobRef;
use crate::spec::Target;

#[derive(Deserialize)]
struct Job {
    status: String,
    pipeline: Pipeline,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    status: String,
}

impl Pipeline {
    /// Whether nothing of it runs any more.
    /// <https://docs.gitlab.com/api/pipelines/#list-project-pipelines>
    fn is_over(&self) -> bool {
        matches!(
            self.status.as_str(),
            "success" | "failed" | "canceled" | "skipped" | "manual"
        )
    }
}

pub(super) async fn rerun(
    gitlab: &GitLab,
    job: &JobRef,
    again: bool,
    patience: Duration,
) -> Result<Option<u64>> {
    let own = gitlab.spec.target.path();
    let noted = job.repository.as_deref().filter(|path| is_below(own, path));
    let project = match (noted, &gitlab.spec.target) {
        (Some(project), _) => project,
        (None, Target::Repository(project)) => project,
        (None, Target::Organization(_)) => {
            return Err(Error::new(
                Kind::Forge,
                "the runner program didn't name the interrupted job's project",
            )
            .hint("run the pipeline again by hand"));
        }
    };
    let Some(number) = job.name.as_deref().and_then(|job| job.parse::<u64>().ok()) else {
        return Ok(None);
    };
    let Some(found) = look(gitlab, "looking for the interrupted job", project, number).await?
    else {
        return Ok(None);
    };
    // Nothing in the program's log tells of a cancellation before its next question to the server.
    let somebody_s_wish = !again && matches!(found.status.as_str(), "canceled" | "canceling");
    if somebody_s_wish || found.status == "success" {
        return Ok(None);
    }
    let id = found.pipeline.id;
    ended(gitlab, project, id, number, patience).await?;
    // What has been retried has nothing left to retry, so that this can be repeated.
    let retry = pipelines::RetryPipeline::builder()
        .project(project)
        .pipeline(id)
        .build();
    let doing = "running the interrupted job's pipeline again";
    gitlab.api.tell(doing, &built(retry)?).await?;
    // The rest of the pipeline is under way.
    if let Err(error) = launch_again(gitlab, project, id).await {
        tracing::warn!("{}", error.chain());
    }
    Ok(Some(id))
}

async fn look(gitlab: &GitLab, doing: &str, project: &str, job: u64) -> Result<Option<Job>> {
    let job = jobs::Job::builder().project(project).job(job).build();
    gitlab.api.find(doing, &built(job)?).await
}

/// Whether a path is that of a target, or of something in it.
pub(super) fn is_below(target: &str, path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.strip_prefix(&target.to_ascii_lowercase())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Cancels the pipeline and waits for its end. A job whose runner is gone stays in the middle of its
/// cancellation: past half of the patience, it is cancelled by force.
/// <https://docs.gitlab.com/api/jobs/#cancel-a-job>
async fn ended(
    gitlab: &GitLab,
    project: &str,
    id: u64,
    job: u64,
    patience: Duration,
) -> Result<()> {
    let doing = "cancelling the interrupted job's pipeline";
    let started = Instant::now();
    let state = pipelines::Pipeline::builder()
        .project(project)
        .pipeline(id)
        .build();
    let cancel = pipelines::CancelPipeline::builder()
        .project(project)
        .pipeline(id)
        .build();
    let force = jobs::CancelJob::builder().project(project).job(job).build();
    let (state, cancel, force) = (built(state)?, built(cancel)?, CancelByForce(built(force)?));
    let (mut cancelled, mut forced) = (false, false);
    loop {
        let pipeline: Pipeline = gitlab.api.get(doing, &state).await?;
        if pipeline.is_over() {
            return Ok(());
        }
        if !cancelled {
            cancelled = true;
            gitlab.api.tell(doing, &cancel).await?;
        } else if !forced && started.elapsed() > patience / 2 {
            forced = true;
            let session = gitlab.api.repeatable();
            if let Err(refusal) = session.query(doing, &ignore(&force)).await? {
                // Older servers have no such thing.
                tracing::debug!("{}", refusal.error(doing).chain());
            }
        }
        if started.elapsed() > patience {
            return Err(Error::new(
                Kind::Forge,
                format!("the pipeline {id} didn't end within {patience:?} of its cancellation"),
            ));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// A retried pipeline runs again what failed or was cancelled. The job that launched this runner did
/// neither: where it belongs to the same pipeline, it is run again, too, or nobody would come to do
/// the rest.
async fn launch_again(gitlab: &GitLab, project: &str, pipeline: u64) -> Result<()> {
    let Some(launcher) = gitlab.spec.launcher else {
        return Ok(());
    };
    let doing = "running the launching job again";
    let Some(job) = look(gitlab, doing, project, launcher).await? else {
        // It belongs to another project.
        return Ok(());
    };
    if job.pipeline.id != pipeline || job.status != "success" {
        return Ok(());
    }
    let retry = jobs::RetryJob::builder()
        .project(project)
        .job(launcher)
        .build();
    let session = gitlab.api.repeatable();
    match session.query(doing, &ignore(built(retry)?)).await? {
        Ok(()) => Ok(()),
        Err(refusal) => match refusal.status {
            // A job is run again once: an unanswered try was heard, or somebody was faster.
            StatusCode::FORBIDDEN if refusal.says("not retryable") => Ok(()),
            _ => Err(refusal.error(doing)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_another_group_is_none_of_ours() {
        assert!(is_below("group", "group/sub/project"));
        assert!(is_below("group/project", "Group/Project"));
        assert!(!is_below("group", "group2/project"));
        assert!(!is_below("group/project", "group"));
    }
}
