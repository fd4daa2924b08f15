//! Pipelines and their jobs.
//! <https://docs.gitlab.com/api/pipelines/>
//! <https://docs.gitlab.com/api/jobs/>

use jiff::Timestamp;
use serde_json::{Value, json};

use super::access::Role;
use super::answer::{self, forbidden, message, not_found};
use super::api::{self, Asked};
use super::records::{Job, Pipeline};
use super::routes::Endpoint;
use super::state::State;
use crate::clock;
use crate::server::Response;

/// The commit that everything runs on.
pub(super) const HEAD: &str = "a91957a858320c0e17f3a0eca7cfacbff50ea29a";

const STATUSES: &[&str] = &[
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
];

fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(clock::millis)
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    Some(to?.duration_since(from?).as_secs_f64())
}

/// What every answer shows of a pipeline.
fn shown_briefly(state: &State, pipeline: &Pipeline) -> Value {
    let url = format!("{}/{}", state.url(), pipeline.project);
    json!({
        "id": pipeline.id,
        "iid": pipeline.number,
        "project_id": pipeline.project_id,
        "sha": HEAD,
        "ref": "main",
        "status": pipeline.status(),
        "source": "push",
        "created_at": clock::millis(pipeline.created),
        "updated_at": clock::millis(pipeline.updated),
        "web_url": format!("{url}/-/pipelines/{}", pipeline.id),
    })
}

fn shown(state: &State, pipeline: &Pipeline) -> Value {
    let mut shown = shown_briefly(state, pipeline);
    let over = pipeline.latest().all(Job::is_over);
    let ends = pipeline.latest().filter_map(|job| job.finished).max();
    let starts = pipeline.latest().filter_map(|job| job.started).min();
    shown["before_sha"] = "0".repeat(40).into();
    shown["tag"] = false.into();
    shown["yaml_errors"] = Value::Null;
    shown["user"] = api::user();
    shown["started_at"] = time(starts).into();
    shown["finished_at"] = time(ends.filter(|_| over)).into();
    shown
}

fn shown_job(state: &State, pipeline: &Pipeline, job: &Job) -> Value {
    let url = format!("{}/{}", state.url(), pipeline.project);
    let runner = job.runner.as_ref().map(|(id, name)| {
        json!({
            "id": id, "description": name, "ip_address": null, "active": true, "paused": false,
            "is_shared": false, "name": "gitlab-runner", "online": true, "status": "online",
        })
    });
    json!({
        "id": job.id,
        "status": job.status,
        "stage": "test",
        "name": job.name,
        "ref": "main",
        "tag": false,
        "coverage": null,
        "allow_failure": false,
        "created_at": clock::millis(job.created),
        "started_at": time(job.started),
        "finished_at": time(job.finished),
        "erased_at": null,
        "duration": seconds(job.started, job.finished.or(job.started.map(|_| clock::now()))),
        "queued_duration": seconds(Some(job.created), job.started),
        "user": api::user(),
        "commit": { "id": HEAD, "short_id": &HEAD[..8], "title": "Train" },
        "pipeline": shown_briefly(state, pipeline),
        "failure_reason": job.failure_reason,
        "web_url": format!("{url}/-/jobs/{}", job.id),
        "project": { "ci_job_token_scope_enabled": false },
        "runner": runner,
        "tag_list": job.tags,
    })
}

/// The jobs that a runner has or had, newest first.
/// <https://docs.gitlab.com/api/runners/#list-jobs-processed-by-a-runner>
pub(super) fn jobs_of(
    state: &State,
    asked: &Asked<'_>,
    runner: u64,
) -> Result<Response, Box<Response>> {
    let status = asked.parameters.choice("status", STATUSES)?;
    let mut all: Vec<(&Pipeline, &Job)> = state
        .pipelines
        .values()
        .flat_map(|pipeline| pipeline.jobs.iter().map(move |job| (pipeline, job)))
        .filter(|(_, job)| job.runner.as_ref().is_some_and(|(id, _)| *id == runner))
        .filter(|(_, job)| status.is_none_or(|status| job.status == status))
        .collect();
    all.sort_by_key(|(_, job)| std::cmp::Reverse(job.id));
    let all = all
        .into_iter()
        .map(|(pipeline, job)| {
            let mut shown = shown_job(state, pipeline, job);
            let name = pipeline.project.rsplit('/').next();
            shown["project"] = json!({
                "id": pipeline.project_id,
                "name": name,
                "path": name,
                "path_with_namespace": pipeline.project,
            });
            shown
        })
        .collect();
    Ok(answer::page(
        asked.request,
        asked.parameters,
        &state.address,
        all,
    ))
}

/// Everything below one project.
pub(super) fn handle(
    state: &mut State,
    asked: &Asked<'_>,
    endpoint: Endpoint,
) -> Result<Response, Box<Response>> {
    let Some(project) = state.namespace(asked.route.first(), false) else {
        return Ok(message(404, "404 Project Not Found"));
    };
    let project = project.path.clone();
    match endpoint {
        Endpoint::ListJobs | Endpoint::ListPipelines => list(state, asked, &project, endpoint),
        Endpoint::GetPipeline
        | Endpoint::PipelineJobs
        | Endpoint::CancelPipeline
        | Endpoint::RetryPipeline => one(state, asked, &project, endpoint),
        _ => one_job(state, asked, &project, endpoint),
    }
}

fn list(
    state: &State,
    asked: &Asked<'_>,
    project: &str,
    endpoint: Endpoint,
) -> Result<Response, Box<Response>> {
    let given = asked.parameters;
    let pipelines = state
        .pipelines
        .values()
        .rev()
        .filter(|pipeline| pipeline.project == project);
    let all = if endpoint == Endpoint::ListPipelines {
        let status = given.choice("status", STATUSES)?;
        pipelines
            .filter(|pipeline| status.is_none_or(|status| pipeline.status() == status))
            .map(|pipeline| shown_briefly(state, pipeline))
            .collect()
    } else {
        let scopes = scopes(asked)?;
        pipelines
            .flat_map(|pipeline| pipeline.jobs.iter().rev().map(move |job| (pipeline, job)))
            .filter(|(_, job)| scopes.is_empty() || scopes.iter().any(|scope| scope == job.status))
            .map(|(pipeline, job)| shown_job(state, pipeline, job))
            .collect()
    };
    Ok(answer::page(asked.request, given, &state.address, all))
}

fn scopes(asked: &Asked<'_>) -> Result<Vec<String>, Box<Response>> {
    let scopes = asked.parameters.list("scope")?.unwrap_or_default();
    let known = |scope: &String| STATUSES.contains(&scope.as_str());
    match scopes.iter().all(known) {
        true => Ok(scopes),
        false => Err(Box::new(answer::error(
            400,
            "scope does not have a valid value",
        ))),
    }
}

/// Everything about one pipeline.
fn one(
    state: &mut State,
    asked: &Asked<'_>,
    project: &str,
    endpoint: Endpoint,
) -> Result<Response, Box<Response>> {
    let found = asked.route.second().and_then(|id| state.pipelines.get(&id));
    let Some(pipeline) = found.filter(|pipeline| pipeline.project == project) else {
        return Ok(not_found());
    };
    let id = pipeline.id;
    let ids = |wanted: fn(&Job) -> bool| -> Vec<u64> {
        let jobs = pipeline.latest().filter(|job| wanted(job));
        jobs.map(|job| job.id).collect()
    };
    let status = match endpoint {
        Endpoint::PipelineJobs => {
            let retried = asked.parameters.flag("include_retried")?.unwrap_or(false);
            let scopes = scopes(asked)?;
            let all = pipeline
                .jobs
                .iter()
                .rev()
                .filter(|job| retried || pipeline.is_latest(job))
                .filter(|job| scopes.is_empty() || scopes.iter().any(|scope| scope == job.status))
                .map(|job| shown_job(state, pipeline, job))
                .collect();
            let given = asked.parameters;
            return Ok(answer::page(asked.request, given, &state.address, all));
        }
        // One that has ended is answered in the same way.
        Endpoint::CancelPipeline => {
            for job in ids(|job| !job.is_over()) {
                state.cancel(job, false);
            }
            200
        }
        Endpoint::RetryPipeline => {
            let jobs = ids(|job| matches!(job.status, "failed" | "canceled"));
            state.retry(id, &jobs);
            201
        }
        _ => 200,
    };
    Ok(match state.pipelines.get(&id) {
        Some(pipeline) => answer::json(status, &shown(state, pipeline)),
        None => not_found(),
    })
}

/// Everything about one job.
fn one_job(
    state: &mut State,
    asked: &Asked<'_>,
    project: &str,
    endpoint: Endpoint,
) -> Result<Response, Box<Response>> {
    let found = asked.route.second().and_then(|id| state.job(id));
    let Some((pipeline, job)) = found.filter(|(pipeline, _)| pipeline.project == project) else {
        return Ok(not_found());
    };
    let (mut id, status) = (job.id, job.status);
    let code = match endpoint {
        Endpoint::JobTrace => {
            return Ok(answer::text(
                200,
                String::from_utf8_lossy(&job.log).into_owned(),
            ));
        }
        Endpoint::CancelJob => {
            let by_force = asked.parameters.flag("force")?.unwrap_or(false);
            if by_force && asked.role == Role::Developer {
                return Ok(forbidden(""));
            }
            if by_force && status != "canceling" {
                let words = "422 Unprocessable Entity - Job is not in force cancelable state";
                return Ok(message(422, words));
            }
            state.cancel(id, by_force);
            201
        }
        Endpoint::RetryJob => {
            let retryable = job.is_over() && pipeline.is_latest(job);
            if !retryable {
                return Ok(forbidden("Job is not retryable"));
            }
            let pipeline = pipeline.id;
            id = state.retry(pipeline, &[id]).pop().unwrap_or(id);
            201
        }
        _ => 200,
    };
    Ok(match state.job(id) {
        Some((pipeline, job)) => answer::json(code, &shown_job(state, pipeline, job)),
        None => not_found(),
    })
}
