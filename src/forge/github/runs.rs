//! An interrupted job's workflow run: found, cancelled, waited for, run again.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::GitHub;
use crate::error::{Error, Kind, Result};
use crate::forge::JobRef;
use crate::http::maybe_done;
use crate::spec::Target;

/// How many running workflow runs are looked into where the job left no note.
const SEARCHED_RUNS: usize = 30;

/// <https://docs.github.com/en/rest/actions/workflow-runs#get-a-workflow-run>
#[derive(Deserialize)]
struct Run {
    id: u64,
    status: Option<String>,
    conclusion: Option<String>,
    #[serde(default)]
    run_attempt: u64,
}

#[derive(Deserialize)]
struct RunPage {
    workflow_runs: Vec<Run>,
}

#[derive(Deserialize)]
struct JobPage {
    total_count: usize,
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    runner_name: Option<String>,
}

pub(super) async fn rerun(
    github: &GitHub,
    runner: &str,
    job: &JobRef,
    patience: Duration,
) -> Result<Option<u64>> {
    // The note lies where jobs can write: it must not lead us to runs that aren't ours.
    let noted = job
        .repository
        .as_deref()
        .filter(|path| serves(&github.spec.target, path));
    let repository = match (noted, &github.spec.target) {
        (Some(repository), _) => repository,
        (None, Target::Repository(repository)) => repository,
        (None, Target::Organization(_)) => {
            return Err(Error::new(
                Kind::Forge,
                "the interrupted job left no note of its repository",
            )
            .hint("run the workflow again by hand"));
        }
    };
    let noted = match job.run_id {
        Some(id) if holds(github, repository, id, runner).await? => Some(id),
        _ => None,
    };
    let id = match noted {
        Some(id) => id,
        None => match search(github, repository, runner).await? {
            Some(id) => id,
            None => return Ok(None),
        },
    };
    let route = format!("/repos/{repository}/actions/runs/{id}");
    let run = ended(github, &route, patience).await?;
    if run.conclusion.as_deref() == Some("success") {
        return Ok(None);
    }
    start_again(github, &route, run.run_attempt).await?;
    Ok(Some(id))
}

/// Whether a repository's workflow may use the runners of a target.
fn serves(target: &Target, repository: &str) -> bool {
    match target {
        Target::Repository(own) => own.eq_ignore_ascii_case(repository),
        Target::Organization(own) => repository
            .split_once('/')
            .is_some_and(|(owner, _)| owner.eq_ignore_ascii_case(own)),
    }
}

/// Whether one of a run's jobs has, or had, this runner.
/// <https://docs.github.com/en/rest/actions/workflow-jobs#list-jobs-for-a-workflow-run>
async fn holds(github: &GitHub, repository: &str, id: u64, runner: &str) -> Result<bool> {
    let mut seen = 0;
    for page in 1.. {
        let route = format!(
            "/repos/{repository}/actions/runs/{id}/jobs?filter=latest&per_page=100&page={page}"
        );
        let answer = github.call(Method::GET, &route, None, true).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let page: JobPage = github.read("looking for the interrupted job", answer)?;
        let ours = |job: &Job| job.runner_name.as_deref() == Some(runner);
        if page.jobs.iter().any(ours) {
            return Ok(true);
        }
        seen += page.jobs.len();
        if page.jobs.is_empty() || seen >= page.total_count {
            break;
        }
    }
    Ok(false)
}

/// Only runs in progress can hold the job, and the newest are the likeliest.
async fn search(github: &GitHub, repository: &str, runner: &str) -> Result<Option<u64>> {
    let route =
        format!("/repos/{repository}/actions/runs?status=in_progress&per_page={SEARCHED_RUNS}");
    let page: RunPage = github
        .get("looking for the interrupted job", &route)
        .await?;
    for run in page.workflow_runs {
        if holds(github, repository, run.id, runner).await? {
            return Ok(Some(run.id));
        }
    }
    Ok(None)
}

/// Cancels the run and waits for its end; past half of the patience, by force.
/// Idempotent: a run that has ended answers 409, which is what is wanted.
async fn ended(github: &GitHub, route: &str, patience: Duration) -> Result<Run> {
    let doing = "cancelling the interrupted workflow run";
    let started = Instant::now();
    let mut asked = ["/force-cancel", "/cancel"].to_vec();
    loop {
        let run: Run = github.get(doing, route).await?;
        if run.status.as_deref() == Some("completed") {
            return Ok(run);
        }
        let due = asked.len() == 2 || (asked.len() == 1 && started.elapsed() > patience / 2);
        if due && let Some(how) = asked.pop() {
            let route = format!("{route}{how}");
            let answer = github.call(Method::POST, &route, None, true).await?;
            if !answer.status.is_success() && answer.status != StatusCode::CONFLICT {
                return Err(github.refusal(doing, &answer));
            }
        }
        if started.elapsed() > patience {
            return Err(Error::new(
                Kind::Forge,
                format!(
                    "the workflow run {} didn't end within {patience:?} of its cancellation",
                    run.id
                ),
            ));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// A re-run has no idempotency key: after an unanswered call the attempt number tells whether it
/// was done.
async fn start_again(github: &GitHub, route: &str, attempt: u64) -> Result<()> {
    let doing = "running the interrupted workflow run again";
    let rerun = format!("{route}/rerun");
    let mut tries = 3;
    loop {
        tries -= 1;
        let answer = github.call(Method::POST, &rerun, None, false).await;
        let unclear = match answer {
            Ok(answer) if answer.status.is_success() => return Ok(()),
            Ok(answer) if answer.status.is_server_error() => github.refusal(doing, &answer),
            Ok(answer) => {
                // Somebody was faster, which is as good.
                let run: Run = github.get(doing, route).await?;
                if run.run_attempt > attempt {
                    return Ok(());
                }
                return Err(github.refusal(doing, &answer));
            }
            Err(error) if maybe_done(&error) => error,
            Err(error) => return Err(error),
        };
        let look = github.get::<Run>(doing, route);
        let run = timeout(Duration::from_secs(30), look).await;
        if matches!(run, Ok(Ok(run)) if run.run_attempt > attempt) {
            return Ok(());
        }
        if tries == 0 {
            return Err(unclear);
        }
        sleep(Duration::from_secs(1)).await;
    }
}
