//! Workflow runs and their jobs.
//! <https://docs.github.com/en/rest/actions/workflow-runs>
//! <https://docs.github.com/en/rest/actions/workflow-jobs>

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{self, error, not_found};
use super::records::{Job, Run};
use super::routes::{Endpoint, Route};
use super::state::State;
use crate::clock;
use crate::server::{Request, Response};

/// The commit that everything runs on.
pub(super) const HEAD: &str = "6dcb09b5b57875f334f61aebed695e2e4193db5e";
/// The only workflow.
pub(super) const WORKFLOW: &str = "train";

fn shown(url: &str, run: &Run) -> Value {
    let address = format!("{url}/repos/{}/actions/runs/{}", run.repository, run.id);
    json!({
        "id": run.id,
        "name": WORKFLOW,
        "path": ".github/workflows/train.yml",
        "head_branch": "main",
        "head_sha": HEAD,
        "run_number": run.number,
        "run_attempt": run.attempt,
        "event": "push",
        "status": run.status(),
        "conclusion": run.conclusion(),
        "created_at": clock::seconds(run.created),
        "updated_at": clock::seconds(run.updated),
        "url": address,
        "html_url": format!("{url}/{}/actions/runs/{}", run.repository, run.id),
        "jobs_url": format!("{address}/jobs"),
        "cancel_url": format!("{address}/cancel"),
        "rerun_url": format!("{address}/rerun"),
        "repository": { "full_name": run.repository },
    })
}

fn shown_job(url: &str, run: &Run, job: &Job) -> Value {
    let time = |time: Option<Timestamp>| time.map(clock::seconds);
    json!({
        "id": job.id,
        "run_id": run.id,
        "run_attempt": job.attempt,
        "name": job.name,
        "workflow_name": WORKFLOW,
        "head_branch": "main",
        "head_sha": HEAD,
        "labels": job.labels,
        "status": job.status,
        "conclusion": job.conclusion,
        "created_at": clock::seconds(job.created),
        // Never null: the time of creation until it starts.
        "started_at": clock::seconds(job.started.unwrap_or(job.created)),
        "completed_at": time(job.completed),
        "runner_id": job.runner.as_ref().map(|(id, _)| id),
        "runner_name": job.runner.as_ref().map(|(_, name)| name),
        "steps": [],
        "url": format!("{url}/repos/{}/actions/jobs/{}", run.repository, job.id),
    })
}

/// The newest run is the first.
pub(super) fn list(state: &State, request: &Request, route: &Route) -> Response {
    let status = answer::parameter(request, "status");
    let created = answer::parameter(request, "created");
    let runs = state
        .runs
        .values()
        .rev()
        .filter(|run| run.repository == route.scope)
        .filter(|run| {
            status
                .as_deref()
                .is_none_or(|wanted| run.status() == wanted || run.conclusion() == Some(wanted))
        })
        .filter(|run| {
            created
                .as_deref()
                .is_none_or(|range| in_range(&clock::seconds(run.created), range))
        })
        .map(|run| shown(&state.url, run))
        .collect();
    answer::page(request, &state.url, "workflow_runs", runs)
}

/// <https://docs.github.com/en/search-github/getting-started-with-searching-on-github/understanding-the-search-syntax#query-for-dates>
fn in_range(time: &str, range: &str) -> bool {
    // ISO 8601 sorts as text; a date alone is compared with the date alone.
    let compare = |bound: &str| time.get(..bound.len()).unwrap_or(time).cmp(bound);
    if let Some((from, to)) = range.split_once("..") {
        return (from == "*" || compare(from).is_ge()) && (to == "*" || compare(to).is_le());
    }
    if let Some(bound) = range.strip_prefix(">=") {
        compare(bound).is_ge()
    } else if let Some(bound) = range.strip_prefix("<=") {
        compare(bound).is_le()
    } else if let Some(bound) = range.strip_prefix('>') {
        compare(bound).is_gt()
    } else if let Some(bound) = range.strip_prefix('<') {
        compare(bound).is_lt()
    } else {
        compare(range).is_eq()
    }
}

/// Everything about one run.
pub(super) fn one(
    state: &mut State,
    request: &Request,
    route: &Route,
    endpoint: Endpoint,
) -> Response {
    let found = route.id().and_then(|id| state.runs.get(&id));
    let Some(run) = found.filter(|run| run.repository == route.scope) else {
        return not_found();
    };
    let (id, completed) = (run.id, run.status() == "completed");
    match endpoint {
        Endpoint::ListJobs => {
            let all = answer::parameter(request, "filter").as_deref() == Some("all");
            let jobs = run
                .jobs
                .iter()
                .filter(|job| all || job.attempt == run.attempt)
                .map(|job| shown_job(&state.url, run, job))
                .collect();
            answer::page(request, &state.url, "jobs", jobs)
        }
        Endpoint::CancelRun | Endpoint::ForceCancelRun => {
            if completed {
                return error(409, "Cannot cancel a workflow run that is completed.");
            }
            state.cancel(id, endpoint == Endpoint::ForceCancelRun);
            answer::json(202, &json!({}))
        }
        Endpoint::Rerun | Endpoint::RerunFailedJobs => {
            if let Err(response) = answer::object(request, &[], &["enable_debug_logging"]) {
                return *response;
            }
            let only_failed = endpoint == Endpoint::RerunFailedJobs;
            if !completed {
                return error(403, "This workflow is already running");
            }
            if only_failed && run.conclusion() == Some("success") {
                return error(403, "This workflow run cannot be retried");
            }
            state.rerun(id, only_failed);
            answer::json(201, &json!({}))
        }
        _ => answer::json(200, &shown(&state.url, run)),
    }
}

#[cfg(test)]
mod tests {
    use super::in_range;

    #[test]
    fn dates_are_compared() {
        let time = "2026-03-04T05:06:07Z";
        for (range, inside) in [
            (">=2026-03-04", true),
            (">2026-03-04", false),
            ("<2026-03-05", true),
            ("2026-03-04", true),
            ("2026-03-01..2026-03-04", true),
            ("*..2026-03-03", false),
            (">=2026-03-04T05:06:08Z", false),
        ] {
            assert_eq!(in_range(time, range), inside, "{range}");
        }
    }
}
