//! Instances, which are Jobs: their state, what they have to say, their end.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, Preconditions};
use kube::runtime::{conditions, wait::await_condition};
use tokio::time::{sleep, timeout};

use super::body::{self, CONTAINER};
use super::client::{Client, Cluster};
use super::follow::{CONTROLLER_UID, JOB_NAME, Seen};
use super::labels::{self, MANAGED_BY, RUNNER, SIZE};
use super::views::{Event, Job, Pod};
use super::{pods, refusal, told};
use crate::cloud::{Instance, InstanceRef, InstanceState, TAG_LAUNCH, TAG_OWNER, TAG_SERVES};
use crate::error::{Error, Kind, Result};

/// How much longer than its pod's grace a Job that was deleted may take to go.
const GOING: Duration = Duration::from_secs(45);
/// From a watch that failed to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// How often in a row the look for what is left may be denied.
const DENIALS: u32 = 12;
/// How long a pod may be in trouble that might pass.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a log an error may need.
const LOG_LINES: i64 = 100;
/// How many events of a pod are worth showing before its log.
const EVENTS: usize = 12;

/// A Job that isn't watched.
pub(super) async fn inspect(client: &Client, instance: &InstanceRef) -> Result<Option<Instance>> {
    let (job, pod) = read(client, instance).await?;
    let seen = job.map(|job| Seen::once(job, pod));
    Ok(seen.and_then(|seen| described(&seen, &instance.region)))
}

/// Reads a Job and its pod.
pub(super) async fn read(
    client: &Client,
    instance: &InstanceRef,
) -> Result<(Option<Job>, Option<Pod>)> {
    let doing = format!("looking at the Job {}", instance.id);
    let read = client.with(doing, |cluster| async move {
        match cluster.jobs().get(&instance.id).await {
            Ok(job) => Ok((Some(job), pod(&cluster, &instance.id).await?)),
            Err(error) if refusal::is_absent(&error) => Ok((None, None)),
            Err(error) => Err(error),
        }
    });
    Box::pin(read).await
}

/// The newest pod of a Job.
async fn pod(cluster: &Cluster, job: &str) -> Result<Option<Pod>, kube::Error> {
    let of_job = ListParams::default().labels(&format!("{JOB_NAME}={job}"));
    let pods = cluster.pods().list(&of_job).await?;
    let newest = pods.items.into_iter();
    Ok(newest.max_by_key(|pod| pod.creation_timestamp().map(|time| time.0)))
}

/// A Job as an instance; `None`: it is gone.
pub(super) fn described(seen: &Seen, namespace: &str) -> Option<Instance> {
    let job = seen.job.as_ref()?;
    let (state, reason) = state(seen, job);
    let annotation = |name: &str| job.annotations().get(name).cloned();
    let mut containers = job.spec.template.spec.containers.iter();
    let container = containers.find(|container| container.name == CONTAINER);
    let disk = container.and_then(|container| container.resources.limits.get("ephemeral-storage"));
    let disk = disk.and_then(|quantity| quantity.strip_suffix('G')?.parse().ok());
    let pod = seen.pod.as_ref();
    Some(Instance {
        reference: InstanceRef {
            id: job.name_any(),
            region: namespace.to_owned(),
        },
        name: annotation(RUNNER),
        is_ours: job.labels().get(MANAGED_BY).map(String::as_str) == Some(TAG_OWNER)
            && job.labels().contains_key(TAG_LAUNCH),
        serves: annotation(TAG_SERVES),
        state,
        zone: None,
        instance_type: annotation(SIZE).unwrap_or_default(),
        ip: pod.and_then(|pod| pod.status.pod_ip.clone()),
        spot: false,
        launch_time: job.creation_timestamp().map(|time| time.0),
        image: container
            .and_then(|container| container.image.clone())
            .unwrap_or_default(),
        disk_gb: disk,
        security_group: None,
        subnet: None,
        reason,
    })
}

fn state(seen: &Seen, job: &Job) -> (InstanceState, Option<String>) {
    let pod = seen.pod.as_ref();
    let why = pod.map(pods::reason).filter(|why| !why.is_empty());
    if job.metadata.deletion_timestamp.is_some() {
        return (
            InstanceState::Ending,
            why.or(Some("it is being deleted".to_owned())),
        );
    }
    if let Some(end) = end(job) {
        let parts = [Some(end), why].into_iter().flatten();
        return (over(job), Some(parts.collect::<Vec<_>>().join("; ")));
    }
    if let Some(refused) = refused(seen) {
        return (InstanceState::Stopped, Some(refused.to_string()));
    }
    let Some(pod) = pod else {
        return (InstanceState::Pending, None);
    };
    if pod.metadata.deletion_timestamp.is_some() {
        let words = "its pod is being deleted";
        let why = why.map_or(words.to_owned(), |why| format!("{words}: {why}"));
        return (InstanceState::Ending, Some(why));
    }
    if let Some(trouble) = pods::trouble(pod)
        && (trouble.hopeless || seen.trouble.is_some_and(|since| since.elapsed() > PATIENCE))
    {
        let said = format!(
            "its pod can't start: {}: {}",
            trouble.reason, trouble.message
        );
        return (
            InstanceState::Stopped,
            Some(said.trim_end_matches([':', ' ']).to_owned()),
        );
    }
    match pods::phase(pod) {
        "Running" => (InstanceState::Running, None),
        "Succeeded" | "Failed" => (over(job), why),
        _ => (InstanceState::Pending, None),
    }
}

/// What a Job is whose pod has ended: the cluster removes it at once, or after a while in which its
/// Secret is still there.
fn over(job: &Job) -> InstanceState {
    match job.spec.ttl_seconds_after_finished {
        Some(0) => InstanceState::Ending,
        _ => InstanceState::Stopped,
    }
}

/// How a Job ended, in its own words.
fn end(job: &Job) -> Option<String> {
    const ENDS: [&str; 4] = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"];
    let mut conditions = job.status.conditions.iter();
    let condition = conditions.find(|condition| ENDS.iter().any(|kind| condition.is(kind)))?;
    let reason = condition.reason.as_ref().unwrap_or(&condition.kind);
    Some(match &condition.message {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.clone(),
    })
}

/// What a cluster says of a namespace that it is still making, or of a quota that it is counting.
const PASSING: [&str; 2] = [
    "status unknown for quota",
    "error looking up service account",
];

/// Why the cluster doesn't let the Job have a pod, where it says so.
pub(super) fn refused(seen: &Seen) -> Option<&told::Told> {
    let none = seen.pod.is_none();
    let mut refusals = seen
        .events
        .iter()
        .filter(|told| none && told.reason == "FailedCreate");
    refusals.find(|told| {
        let passes = PASSING.iter().any(|words| told.message.contains(words));
        !passes
            && (refusal::is_quota(&told.message)
                || refusal::is_policy(&told.message)
                || told.message.contains("is forbidden")
                || told.message.contains("is invalid"))
    })
}

/// The pod's events, and the end of its log.
pub(super) async fn console(
    client: &Client,
    instance: &InstanceRef,
    known: Option<Seen>,
) -> Result<Option<String>> {
    let cluster = client.cluster().await?;
    let (pod, events) = match known {
        Some(seen) => (seen.pod, seen.events),
        None => look_back(&cluster, instance).await,
    };
    let mut text: Vec<String> = Vec::new();
    let first = events.len().saturating_sub(EVENTS);
    text.extend(
        events
            .get(first..)
            .unwrap_or_default()
            .iter()
            .map(|told| format!("event {told}")),
    );
    if let Some(pod) = &pod
        && let Some(log) = log(&cluster, &pod.name_any()).await
    {
        text.push(log);
    }
    Ok(crate::cloud::told::console(&text.join("\n")))
}

/// What can still be read of an instance that nobody has watched. What may not be read isn't shown.
async fn look_back(cluster: &Cluster, instance: &InstanceRef) -> (Option<Pod>, Vec<told::Told>) {
    let pod = pod(cluster, &instance.id).await.ok().flatten();
    let mut all: Vec<Event> = Vec::new();
    let names = [
        Some(instance.id.clone()),
        pod.as_ref().map(kube::ResourceExt::name_any),
    ];
    for name in names.into_iter().flatten() {
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        if let Ok(events) = cluster.events().list(&about).await {
            all.extend(events.items);
        }
    }
    (pod, told::lines(&all))
}

/// A container that has not started has no log, and that of a pod that is gone is gone.
async fn log(cluster: &Cluster, pod: &str) -> Option<String> {
    let end = LogParams {
        container: Some(CONTAINER.to_owned()),
        tail_lines: Some(LOG_LINES),
        ..LogParams::default()
    };
    match cluster.pods().logs(pod, &end).await {
        Ok(log) => Some(log),
        Err(error) => {
            tracing::debug!("reading the log of {pod}: {error}");
            None
        }
    }
}

/// Takes back what ends a Job whose runner isn't ready. One that is over meanwhile needs none of it.
pub(super) async fn settle(
    client: &Client,
    instance: &InstanceRef,
    uid: Option<String>,
) -> Result<()> {
    let patch = Patch::Merge(body::lasting(uid));
    let doing = format!("letting the Job {} live on", instance.id);
    let settle = client.with(doing, |cluster| {
        let patch = &patch;
        async move {
            let jobs = cluster.jobs();
            let params = PatchParams::default();
            match jobs.patch(&instance.id, &params, patch).await {
                Ok(_) => Ok(()),
                Err(error) if refusal::is_absent(&error) => Ok(()),
                Err(error) if refusal::is_another(&error) => Ok(()),
                Err(error) => Err(error),
            }
        }
    });
    Box::pin(settle).await
}

/// Deletes a Job with its pod and its Secret, and waits until it is gone. Gone is success, and so is
/// another one that has the name by now: it is the one that is there when this is called, or the one
/// of this `uid`, that goes.
pub(super) async fn destroy(
    client: &Client,
    instance: &InstanceRef,
    uid: Option<String>,
) -> Result<()> {
    let doing = || format!("deleting the Job {}", instance.id);
    let uid = match uid {
        Some(uid) => Some(uid),
        None => {
            let (job, _) = read(client, instance).await?;
            job.and_then(|job| job.uid())
        }
    };
    let Some(uid) = uid else { return Ok(()) };
    let precisely = DeleteParams::foreground().preconditions(Preconditions {
        uid: Some(uid.clone()),
        resource_version: None,
    });
    let deletion = client.with(doing(), |cluster| {
        let precisely = &precisely;
        async move {
            let jobs = cluster.jobs();
            match jobs.delete(&instance.id, precisely).await {
                Ok(either) => Ok((jobs, either.left())),
                Err(error) if refusal::is_absent(&error) => Ok((jobs, None)),
                Err(error) if refusal::is_conflict(&error) => Ok((jobs, None)),
                Err(error) => Err(error),
            }
        }
    });
    let (mut jobs, job) = Box::pin(deletion).await?;
    let gone = async {
        while job.is_some() {
            let is_gone = conditions::is_deleted(&uid);
            match await_condition(jobs.clone(), &instance.id, is_gone).await {
                Ok(_) => break,
                Err(error) => tracing::debug!("watching {} go: {error}", instance.id),
            }
            sleep(PAUSE).await;
            // Credentials may have ended.
            if let Ok(cluster) = client.cluster().await {
                jobs = cluster.jobs();
            }
        }
        // A cluster that has just started may not know yet whose the pod is, and lets the Job go
        // before it. It may deny everything, too; who may never look has to believe that none is left.
        let mut denied = 0;
        while denied < DENIALS {
            match has_pods(client, &uid).await {
                Ok(false) => break,
                Ok(true) => denied = 0,
                Err(error) if error.kind() == Kind::Denied => denied += 1,
                Err(error) => tracing::debug!("{}; asking again", error.chain()),
            }
            sleep(PAUSE).await;
        }
    };
    let limit = GOING + job.as_ref().map_or(Duration::ZERO, grace);
    match timeout(limit, gone).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::other(doing())
            .caused_by(format!("it, or its pod, is still there after {limit:?}"))
            .hint(format!(
                "its node may be lost: kubectl get pods -l {JOB_NAME}={} shows it, and kubectl delete pod --force \
                 gives it up",
                instance.id
            ))),
    }
}

/// Whether pods of the Job with this uid are left.
async fn has_pods(client: &Client, uid: &str) -> Result<bool> {
    let of_job = ListParams::default().labels(&format!("{CONTROLLER_UID}={uid}"));
    let left = client.with("looking for its pods", |cluster| {
        let of_job = &of_job;
        async move { Ok(!cluster.pods().list(of_job).await?.items.is_empty()) }
    });
    Box::pin(left).await
}

/// What a Job's pod is given to end.
fn grace(job: &Job) -> Duration {
    let seconds = job.spec.template.spec.termination_grace_period_seconds;
    Duration::from_secs(seconds.unwrap_or_default().unsigned_abs())
}

/// Jobs of ours: those of one launch, or all.
pub(super) async fn list(client: &Client, launch_id: Option<&str>) -> Result<Vec<Instance>> {
    let ours = ListParams::default().labels(&labels::selector(launch_id));
    let listing = client.with("listing the Jobs of this program", |cluster| {
        let (jobs, pods, ours) = (cluster.jobs(), cluster.pods(), &ours);
        async move {
            let (jobs, pods) = tokio::try_join!(jobs.list(ours), pods.list(ours))?;
            Ok((jobs, pods, cluster.namespace))
        }
    });
    let (jobs, pods, namespace) = Box::pin(listing).await?;
    let of = |job: &Job| {
        let name = job.name_any();
        let own = pods
            .items
            .iter()
            .filter(|pod| pod.labels().get(JOB_NAME) == Some(&name));
        own.max_by_key(|pod| pod.creation_timestamp().map(|time| time.0))
            .cloned()
    };
    let seen = jobs
        .items
        .iter()
        .map(|job| Seen::once(job.clone(), of(job)));
    Ok(seen
        .filter_map(|seen| described(&seen, &namespace))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::time::{Instant, advance};

    use super::*;

    fn job(more: Value) -> Job {
        let mut job = json!({
            "metadata": {
                "name": "cml-1",
                "labels": { "app.kubernetes.io/managed-by": "runner-launch", "runner-launch-id": "i" },
                "annotations": { "runner-launch-runner": "cml 1", "runner-launch-type": "m",
                                 "runner-launch-serves": "https://example.com/o/r" },
            },
            "spec": { "template": { "spec": { "containers": [{
                "name": CONTAINER, "image": "i", "resources": { "limits": { "ephemeral-storage": "35G" } },
            }]}}},
        });
        job.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap()
    }

    fn state_of(seen: &Seen) -> (InstanceState, String) {
        let instance = described(seen, "ns").unwrap();
        (instance.state, instance.reason.unwrap_or_default())
    }

    #[test]
    fn a_job_is_described_by_what_it_carries() {
        let pod = pod(json!({ "phase": "Running", "podIP": "10.0.0.7" }));
        let instance = described(&Seen::once(job(json!({})), Some(pod)), "ns").unwrap();
        assert_eq!(instance.reference.id, "cml-1");
        assert_eq!(instance.reference.region, "ns");
        assert_eq!(instance.name.as_deref(), Some("cml 1"));
        assert!(instance.is_ours);
        assert_eq!(instance.ip.as_deref(), Some("10.0.0.7"));
        assert_eq!(instance.disk_gb, Some(35));
        assert_eq!(instance.instance_type, "m");
        assert_eq!(instance.state, InstanceState::Running);
        let mut strange = job(json!({}));
        strange.metadata.labels = None;
        assert!(!described(&Seen::once(strange, None), "ns").unwrap().is_ours);
    }

    #[test]
    fn its_state_follows_its_pod_and_its_conditions() {
        let state =
            |more: Value, status: Option<Value>| state_of(&Seen::once(job(more), status.map(pod)));
        assert_eq!(state(json!({}), None).0, InstanceState::Pending);
        assert_eq!(
            state(json!({}), Some(json!({ "phase": "Pending" }))).0,
            InstanceState::Pending
        );
        let failed = || Some(json!({ "phase": "Failed" }));
        assert_eq!(state(json!({}), failed()).0, InstanceState::Stopped);
        let settled = json!({ "spec": { "ttlSecondsAfterFinished": 0 } });
        assert_eq!(state(settled, failed()).0, InstanceState::Ending);
        let failed = json!({ "status": { "conditions": [
            { "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long" },
        ]}});
        assert_eq!(
            state(failed, None),
            (
                InstanceState::Stopped,
                "DeadlineExceeded: too long".to_owned()
            )
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_can_t_be_pulled_is_given_a_minute() {
        let state =
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
        let status = json!({ "phase": "Pending", "containerStatuses": [
            { "name": CONTAINER, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0 },
        ]});
        let mut seen = Seen::once(job(json!({})), Some(pod(status)));
        seen.trouble = Some(Instant::now());
        assert_eq!(state_of(&seen).0, InstanceState::Pending);
        advance(PATIENCE + Duration::from_secs(1)).await;
        let (state, reason) = state_of(&seen);
        assert_eq!(state, InstanceState::Stopped);
        assert_eq!(
            reason,
            "its pod can't start: ImagePullBackOff: no such image"
        );
    }

    #[test]
    fn a_pod_that_the_cluster_refuses_never_comes() {
        let mut seen = Seen::once(job(json!({})), None);
        let told = |message: &str| told::Told {
            reason: "FailedCreate".to_owned(),
            message: message.to_owned(),
            warning: true,
        };
        seen.events = vec![told("Error creating: etcd timed out")];
        assert_eq!(state_of(&seen).0, InstanceState::Pending);
        seen.events.push(told(
            "Error creating: pods \"x\" is forbidden: exceeded quota: q",
        ));
        let (state, reason) = state_of(&seen);
        assert_eq!(state, InstanceState::Stopped);
        assert!(reason.contains("exceeded quota"), "{reason}");
    }
}
