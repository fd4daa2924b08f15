//! An interrupted job's pipeline: cancelled, waited for, run again.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::GitLab;
use super::api::{Call, encoded};
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
    let place = format!("/projects/{}", encoded(project));
    let route = format!("{place}/jobs/{number}");
    let doing = "looking for the interrupted job";
    let answer = gitlab.api.call(Call::get(&route)).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let found: Job = answer.read(doing)?;
    if found.status == "success" {
        return Ok(None);
    }
    let id = found.pipeline.id;
    ended(gitlab, &place, id, number, patience).await?;
    // What has been retried has nothing left to retry, so that this can be repeated.
    let route = format!("{place}/pipelines/{id}/retry");
    let answer = gitlab
        .api
        .call(Call::idempotent(Method::POST, &route))
        .await?;
    if !answer.status.is_success() {
        return Err(answer.refusal("running the interrupted job's pipeline again"));
    }
    launch_again(gitlab, &place, id).await?;
    Ok(Some(id))
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
async fn ended(gitlab: &GitLab, place: &str, id: u64, job: u64, patience: Duration) -> Result<()> {
    let doing = "cancelling the interrupted job's pipeline";
    let started = Instant::now();
    let route = format!("{place}/pipelines/{id}");
    let mut asked = vec![
        format!("{place}/jobs/{job}/cancel?force=true"),
        format!("{route}/cancel"),
    ];
    loop {
        let pipeline: Pipeline = gitlab.api.get(doing, &route).await?;
        if pipeline.is_over() {
            return Ok(());
        }
        let first = asked.len() == 2;
        let due = first || started.elapsed() > patience / 2;
        if due && let Some(route) = asked.pop() {
            let call = Call::idempotent(Method::POST, &route);
            let answer = gitlab.api.call(call).await?;
            if !answer.status.is_success() {
                let refusal = answer.refusal(doing);
                match first {
                    true => return Err(refusal),
                    // Older servers have no such thing.
                    false => tracing::debug!("{}", refusal.chain()),
                }
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
async fn launch_again(gitlab: &GitLab, place: &str, pipeline: u64) -> Result<()> {
    let Some(launcher) = gitlab.spec.launcher else {
        return Ok(());
    };
    let doing = "running the launching job again";
    let route = format!("{place}/jobs/{launcher}");
    let answer = gitlab.api.call(Call::get(&route)).await?;
    if answer.status == StatusCode::NOT_FOUND {
        // It belongs to another project.
        return Ok(());
    }
    let job: Job = answer.read(doing)?;
    if job.pipeline.id != pipeline || job.status != "success" {
        return Ok(());
    }
    let route = format!("{route}/retry");
    let answer = gitlab
        .api
        .call(Call::idempotent(Method::POST, &route))
        .await?;
    match answer.status {
        status if status.is_success() => Ok(()),
        // A job is run again once: an unanswered try was heard, or somebody was faster.
        StatusCode::FORBIDDEN | StatusCode::CONFLICT => Ok(()),
        _ => Err(answer.refusal(doing)),
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
