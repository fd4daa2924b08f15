//! The Job controller, and what deletes finished Jobs.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/>
//! <https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/>

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::admission;
use super::deletion::{self, Options, Propagation, is_over};
use super::events::Source;
use super::kind::Kind;
use super::state::State;
use super::store::{Key, text};
use crate::clock;

/// What keeps a pod until its Job has counted it.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Until the controller tries again to make a pod; at the real one it doubles.
const RETRY: Duration = Duration::from_secs(1);

/// A Job's pods, by what has become of them.
#[derive(Debug, Default)]
struct Pods {
    active: Vec<(Key, Arc<Value>)>,
    terminating: usize,
    ready: usize,
}

/// Whether a condition holds.
pub(super) fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Does what is to be done now; the answer is when there is more.
pub(super) fn sync(state: &mut State) -> Option<Instant> {
    let jobs: Vec<(Key, Arc<Value>)> = state
        .store
        .list(Kind::Job, "")
        .map(|(key, job)| (key.clone(), job.clone()))
        .collect();
    let next = jobs
        .iter()
        .filter_map(|(key, job)| sync_job(state, key, job))
        .min();
    release_orphans(state);
    next
}

/// Pods whose Job is gone need no counting.
fn release_orphans(state: &mut State) {
    let orphans: Vec<Key> = state
        .store
        .list(Kind::Pod, "")
        .filter(|(_, pod)| is_tracked(pod))
        .filter(|(_, pod)| {
            let owner = controller(pod);
            owner.is_none_or(|uid| state.store.by_uid(uid).is_none())
        })
        .map(|(key, _)| key.clone())
        .collect();
    for key in orphans {
        release(state, &key);
    }
}

fn is_tracked(pod: &Value) -> bool {
    let finalizers = pod["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|names| names.iter().any(|name| name == TRACKING))
}

fn release(state: &mut State, pod: &Key) {
    state.store.update(pod, |pod| {
        if let Some(names) = pod["metadata"]["finalizers"].as_array_mut() {
            names.retain(|name| name != TRACKING);
        }
    });
}

/// The uid of the owner that controls an object.
fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

fn sync_job(state: &mut State, key: &Key, job: &Value) -> Option<Instant> {
    let uid = text(&job["metadata"]["uid"]);
    let mut owned: Vec<(Key, Arc<Value>)> = state
        .store
        .list(Kind::Pod, &key.namespace)
        .filter(|(_, pod)| controller(pod) == Some(uid))
        .map(|(key, pod)| (key.clone(), pod.clone()))
        .collect();
    if job["metadata"]["deletionTimestamp"].is_string() {
        for (pod, _) in owned.iter().filter(|(_, pod)| is_tracked(pod)) {
            release(state, pod);
        }
        return None;
    }
    if has_condition(job, "Complete") || has_condition(job, "Failed") {
        for (pod, _) in owned.iter().filter(|(_, pod)| is_tracked(pod)) {
            release(state, pod);
        }
        return sync_finished(state, key, job, uid);
    }
    if job["spec"]["suspend"] == true {
        return None;
    }
    let mut status = job["status"].clone();
    let record = state.job(uid)?;
    let started = *record.started.get_or_insert_with(Instant::now);
    if status["startTime"].is_null() {
        status["startTime"] = json!(clock::seconds(clock::now()));
    }
    count(state, &mut owned, &mut status);
    let mut pods = sort(&owned);
    let next = decide(state, key, job, &mut status, &mut pods, started);
    let set = |status: &mut Value, field: &str, number: usize| match number {
        0 if field != "ready" && field != "terminating" => {
            if let Some(status) = status.as_object_mut() {
                status.remove(field);
            }
        }
        number => status[field] = json!(number),
    };
    set(&mut status, "active", pods.active.len());
    set(&mut status, "ready", pods.ready);
    set(&mut status, "terminating", pods.terminating);
    status["uncountedTerminatedPods"] = json!({});
    state.store.update(key, |job| job["status"] = status);
    next
}

/// Counts the pods that have ended, each once.
fn count(state: &mut State, owned: &mut Vec<(Key, Arc<Value>)>, status: &mut Value) {
    owned.retain(|(key, pod)| {
        if !is_over(pod) {
            return true;
        }
        if is_tracked(pod) {
            let field = match text(&pod["status"]["phase"]) {
                "Succeeded" => "succeeded",
                _ => "failed",
            };
            status[field] = json!(status[field].as_u64().unwrap_or(0) + 1);
            release(state, key);
        }
        false
    });
}

fn sort(owned: &[(Key, Arc<Value>)]) -> Pods {
    let mut pods = Pods::default();
    for (key, pod) in owned {
        if pod["metadata"]["deletionTimestamp"].is_string() {
            pods.terminating += 1;
        } else {
            pods.ready += usize::from(has_condition(pod, "Ready"));
            pods.active.push((key.clone(), pod.clone()));
        }
    }
    pods
}

/// Makes pods, or ends the Job.
fn decide(
    state: &mut State,
    key: &Key,
    job: &Value,
    status: &mut Value,
    pods: &mut Pods,
    started: Instant,
) -> Option<Instant> {
    let spec = &job["spec"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (succeeded, failed) = (number(&status["succeeded"]), number(&status["failed"]));
    let completions = spec["completions"].as_u64();
    let is_done = match completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && pods.active.is_empty(),
    };
    let limit = spec["activeDeadlineSeconds"]
        .as_u64()
        .map(Duration::from_secs);
    let deadline = limit.and_then(|limit| started.checked_add(limit));
    // Pods that are being ended count as failures, unless they are to be replaced only afterwards.
    let replaces_early = spec["podReplacementPolicy"] != "Failed";
    let failures = failed
        + match replaces_early {
            true => pods.terminating as u64,
            false => 0,
        };
    if !has_target(status) {
        if is_done {
            add(
                status,
                "SuccessCriteriaMet",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            );
        } else if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            add(
                status,
                "FailureTarget",
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            );
        } else if failures > number(&spec["backoffLimit"]) {
            add(
                status,
                "FailureTarget",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        }
    }
    if has_target(status) {
        end_pods(state, key, job, pods);
        if pods.active.is_empty() && pods.terminating == 0 {
            finish(state, key, job, status);
        }
        return None;
    }
    let left = completions.map_or(u64::MAX, |completions| completions - succeeded);
    let blocked = if replaces_early {
        0
    } else {
        pods.terminating as u64
    };
    let wanted = number(&spec["parallelism"]).min(left);
    let missing = wanted.saturating_sub(pods.active.len() as u64 + blocked);
    let retry = make_pods(state, key, job, pods, missing);
    [deadline, retry].into_iter().flatten().min()
}

fn has_target(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        matches!(
            text(&condition["type"]),
            "SuccessCriteriaMet" | "FailureTarget"
        )
    })
}

fn add(status: &mut Value, kind: &str, reason: &str, message: &str) {
    let now = clock::seconds(clock::now());
    let condition = json!({
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastProbeTime": now, "lastTransitionTime": now,
    });
    match status["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(condition),
        None => status["conditions"] = json!([condition]),
    }
}

/// What is to end with the Job is deleted.
fn end_pods(state: &mut State, key: &Key, job: &Value, pods: &mut Pods) {
    for (pod, object) in std::mem::take(&mut pods.active) {
        let uid = text(&object["metadata"]["uid"]);
        let options = Options::of(Propagation::Background, uid);
        match deletion::delete(&mut state.store, &pod, &options) {
            Ok(outcome) => {
                pods.terminating += usize::from(!outcome.is_gone);
                let message = format!("Deleted pod: {}", pod.name);
                let what = ("Normal", "SuccessfulDelete");
                state.event(key.kind, job, Source::JobController, what, &message);
            }
            // Only one that is gone can't be deleted.
            Err(_) => continue,
        }
    }
}

/// The Job is over.
fn finish(state: &mut State, key: &Key, job: &Value, status: &mut Value) {
    let target = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| {
            matches!(
                text(&condition["type"]),
                "SuccessCriteriaMet" | "FailureTarget"
            )
        });
    let Some(target) = target.cloned() else {
        return;
    };
    let (reason, message) = (text(&target["reason"]), text(&target["message"]));
    if target["type"] == "SuccessCriteriaMet" {
        add(status, "Complete", reason, message);
        status["completionTime"] = json!(clock::seconds(clock::now()));
        let what = ("Normal", "Completed");
        state.event(key.kind, job, Source::JobController, what, "Job completed");
    } else {
        add(status, "Failed", reason, message);
        let what = ("Warning", reason);
        state.event(key.kind, job, Source::JobController, what, message);
    }
    if let Some(record) = state.job(text(&job["metadata"]["uid"])) {
        record.finished = Some(Instant::now());
    }
}

fn make_pods(
    state: &mut State,
    key: &Key,
    job: &Value,
    pods: &mut Pods,
    missing: u64,
) -> Option<Instant> {
    let uid = text(&job["metadata"]["uid"]);
    if let Some(retry) = state.job(uid)?.retry
        && retry > Instant::now()
    {
        return Some(retry);
    }
    for _ in 0..missing {
        let made = admission::prepare(state, Kind::Pod, &key.namespace, pod_of(key, job))
            .and_then(|pod| state.store.create(Kind::Pod, pod));
        let retry = Instant::now() + RETRY;
        match made {
            Ok(pod) => {
                let name = text(&pod["metadata"]["name"]);
                let message = format!("Created pod: {name}");
                let what = ("Normal", "SuccessfulCreate");
                state.event(key.kind, job, Source::JobController, what, &message);
                pods.active.push((Key::of(Kind::Pod, &pod), pod));
            }
            Err(error) => {
                let message = format!("Error creating: {}", error.message);
                let what = ("Warning", "FailedCreate");
                state.event(key.kind, job, Source::JobController, what, &message);
                state.job(uid)?.retry = Some(retry);
                return Some(retry);
            }
        }
    }
    None
}

/// A pod after the Job's template.
fn pod_of(key: &Key, job: &Value) -> Value {
    let template = &job["spec"]["template"];
    let prefix: String = format!("{}-", key.name);
    let mut metadata = json!({
        "generateName": prefix,
        "namespace": key.namespace,
        "labels": template["metadata"]["labels"],
        "finalizers": [TRACKING],
        "ownerReferences": [{
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": key.name,
            "uid": job["metadata"]["uid"],
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    });
    if !template["metadata"]["annotations"].is_null() {
        metadata["annotations"] = template["metadata"]["annotations"].clone();
    }
    json!({"metadata": metadata, "spec": template["spec"]})
}

/// Deletes a finished Job when its time is over, its pods first.
fn sync_finished(state: &mut State, key: &Key, job: &Value, uid: &str) -> Option<Instant> {
    let ttl = Duration::from_secs(job["spec"]["ttlSecondsAfterFinished"].as_u64()?);
    let finished = state.job(uid)?.finished?;
    let end = finished.checked_add(ttl)?;
    if end > Instant::now() {
        return Some(end);
    }
    let options = Options::of(Propagation::Foreground, uid);
    // Only one that is gone can't be deleted.
    let _ = deletion::delete(&mut state.store, key, &options);
    None
}
