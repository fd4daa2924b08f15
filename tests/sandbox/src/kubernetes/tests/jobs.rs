//! Jobs and what belongs to them.

use super::*;

async fn conditions(lab: &Lab, wanted: &str) -> KubernetesJobView {
    lab.until(wanted, |cluster| {
        cluster
            .jobs()
            .into_iter()
            .find(|job| job.conditions.iter().any(|(kind, _)| kind == wanted))
    })
    .await
}

async fn gone(lab: &Lab, name: &str) {
    lab.until("gone", |cluster| {
        let jobs = cluster.jobs();
        let job = jobs.iter().rfind(|job| job.name == name)?;
        (!job.exists && cluster.live().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_completes_and_goes_with_its_pod_and_secret() {
    let lab = lab().await;
    let mut body = job("a", "cat \"$RUNNER_LAUNCH_ROOT/etc/x/word\"");
    body["spec"]["ttlSecondsAfterFinished"] = json!(1);
    let spec = &mut body["spec"]["template"]["spec"];
    spec["volumes"] = json!([{"name": "x", "secret": {"secretName": "a"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/etc/x"}]);
    let made = lab.made("jobs", &body).await;
    let event = lab.told("FailedMount").await;
    assert_eq!(
        event.message,
        "MountVolume.SetUp failed for volume \"x\" : secret \"a\" not found"
    );
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "a", "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": "a",
            "uid": made["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }]},
        "stringData": {"word": "a long word"},
    });
    lab.made("secrets", &secret).await;
    let pod = lab.pod("Succeeded").await;
    assert_eq!((pod.exit_code, pod.log.as_str()), (Some(0), "a long word"));
    assert_eq!(pod.labels["batch.kubernetes.io/job-name"], "a");
    assert_eq!(pod.labels["controller-uid"], made["metadata"]["uid"]);
    assert!(
        pod.name.starts_with("a-") && pod.name.len() == 7,
        "{}",
        pod.name
    );
    let job = conditions(&lab, "Complete").await;
    assert_eq!(job.status["succeeded"], 1);
    gone(&lab, "a").await;
    assert!(lab.cluster.secrets().is_empty());
    for reason in [
        "SuccessfulCreate",
        "Completed",
        "Scheduled",
        "Pulled",
        "Started",
    ] {
        lab.told(reason).await;
    }
    lab.end().await;
}

#[tokio::test]
async fn a_job_whose_pod_fails_has_failed() {
    let lab = lab().await;
    lab.made("jobs", &job("a", "exit 3")).await;
    let view = conditions(&lab, "Failed").await;
    assert!(
        view.conditions
            .contains(&("Failed".into(), "BackoffLimitExceeded".into()))
    );
    let pod = lab.pod("Failed").await;
    assert_eq!(pod.exit_code, Some(3));
    let state = &pod.status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&state["exitCode"], &state["reason"]),
        (&json!(3), &json!("Error"))
    );
    // Without a word about them its pods stay.
    let reply = lab.send("DELETE", &at("jobs/a"), &[], "").await;
    let warning = reply.headers["warning"].to_str().unwrap();
    assert!(
        warning.starts_with("299 - \"child pods are preserved"),
        "{warning}"
    );
    lab.until("orphaned", |cluster| {
        (!cluster.jobs()[0].exists).then_some(())
    })
    .await;
    assert_eq!(lab.cluster.live().len(), 1);
    lab.cluster.delete_pod(&pod.name);
    lab.end().await;
}

#[tokio::test]
async fn a_deadline_ends_a_job_unless_it_is_taken_away() {
    let lab = lab().await;
    let mut body = job("a", PATIENT);
    body["spec"]["activeDeadlineSeconds"] = json!(1);
    lab.made("jobs", &body).await;
    lab.pod("Running").await;
    let view = conditions(&lab, "Failed").await;
    assert!(
        view.conditions
            .contains(&("Failed".into(), "DeadlineExceeded".into()))
    );
    lab.told("DeadlineExceeded").await;
    lab.call(
        "DELETE",
        &at("jobs/a?propagationPolicy=Background"),
        &Value::Null,
    )
    .await;
    gone(&lab, "a").await;

    body["metadata"]["name"] = json!("b");
    lab.made("jobs", &body).await;
    let patch = json!({"spec": {"activeDeadlineSeconds": null}});
    let (status, patched) = lab.call("PATCH", &at("jobs/b"), &patch).await;
    assert_eq!(status, 200, "{patched}");
    assert_eq!(
        (status, &patched["spec"]["activeDeadlineSeconds"]),
        (200, &Value::Null)
    );
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let running = lab.cluster.live();
    assert_eq!(running.len(), 1, "{running:?}");
    assert_eq!(running[0].phase, "Running");
    let patch = json!({"spec": {"completions": 2}});
    let (status, _) = lab.call("PATCH", &at("jobs/b"), &patch).await;
    assert_eq!(status, 422);
    lab.call(
        "DELETE",
        &at("jobs/b?propagationPolicy=Background"),
        &Value::Null,
    )
    .await;
    gone(&lab, "b").await;
    lab.end().await;
}

#[tokio::test]
async fn a_job_waits_for_what_belongs_to_it() {
    let lab = lab().await;
    lab.made("jobs", &job("a", PATIENT)).await;
    let pod = lab.pod("Running").await;
    lab.until("begun", |cluster| {
        cluster.log(&pod.name).contains("begun").then_some(())
    })
    .await;
    let options = json!({"propagationPolicy": "Foreground"});
    let (status, answer) = lab.call("DELETE", &at("jobs/a"), &options).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    assert!(answer["metadata"]["deletionTimestamp"].is_string());
    gone(&lab, "a").await;
    let pod = lab.cluster.pods().remove(0);
    assert!(pod.log.contains("asked"), "{}", pod.log);
    assert_eq!(pod.exit_code, Some(0));
    lab.told("Killing").await;
    lab.end().await;
}

#[tokio::test]
async fn pods_that_are_refused_are_told_of_by_their_job() {
    let lab = lab().await;
    lab.cluster
        .quota("exceeded quota: gpus, requested: pods=1, used: pods=0, limited: pods=0");
    lab.made("jobs", &job("a", PATIENT)).await;
    let event = lab.told("FailedCreate").await;
    assert!(
        event.message.starts_with("Error creating: pods \"a-"),
        "{}",
        event.message
    );
    assert!(
        event.message.contains("is forbidden: exceeded quota: gpus"),
        "{}",
        event.message
    );
    lab.cluster.clear_refusals();
    lab.pod("Running").await;
    lab.call(
        "DELETE",
        &at("jobs/a?propagationPolicy=Foreground"),
        &Value::Null,
    )
    .await;
    gone(&lab, "a").await;
    lab.end().await;
}
