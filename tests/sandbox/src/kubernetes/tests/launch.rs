//! What a launcher makes, and in which order: a Job that waits for its Secret.

use super::*;

/// A Job whose pod is confined, with a Secret and room to work.
fn launch() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "ci-1", "labels": {"app.kubernetes.io/managed-by": "runner-launch"}},
        "spec": {
            "completions": 1, "parallelism": 1, "backoffLimit": 0,
            "ttlSecondsAfterFinished": 0, "activeDeadlineSeconds": 600,
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/managed-by": "runner-launch"}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 30,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "shareProcessNamespace": true,
                    "nodeSelector": {"kubernetes.io/arch": "amd64"},
                    "containers": [{
                        "name": "runner",
                        "image": "registry.example/tools:1",
                        "command": ["/bin/sh", "/etc/runner-launch/bootstrap"],
                        "volumeMounts": [
                            {"name": "runner-launch", "mountPath": "/etc/runner-launch", "readOnly": true},
                            {"name": "work", "mountPath": "/var/lib/runner-launch"},
                        ],
                        "resources": {
                            "limits": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi"},
                            "requests": {"cpu": "0", "memory": "0", "ephemeral-storage": "0"},
                        },
                        "securityContext": {
                            "runAsUser": 0,
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "SETUID"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                    }],
                    "volumes": [
                        {"name": "runner-launch", "secret": {
                            "secretName": "ci-1", "defaultMode": 0o400,
                        }},
                        {"name": "work", "emptyDir": {}},
                    ],
                },
            },
        },
    })
}

fn secret(job: &Value, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "ci-1", "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": "ci-1",
            "uid": job["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }]},
        "stringData": {"bootstrap": script},
    })
}

const SCRIPT: &str = "cd \"$RUNNER_LAUNCH_ROOT/var/lib/runner-launch\" && echo x >y && cat y";

#[tokio::test]
async fn a_launch_is_followed_to_its_end() {
    let lab = lab().await;
    let job = lab.made("jobs", &launch()).await;
    let version = text(&job["metadata"]["resourceVersion"]).to_owned();
    let path = at(&format!(
        "pods?watch=true&resourceVersion={version}&labelSelector=batch.kubernetes.io%2Fjob-name%3Dci-1"
    ));
    let mut pods = lab.send("GET", &path, &[], "").await;
    assert_eq!(pods.told().await.0, "ADDED");
    lab.told("FailedMount").await;
    lab.made("secrets", &secret(&job, SCRIPT)).await;
    let patch = json!({"spec": {"activeDeadlineSeconds": null}});
    let (status, _) = lab.call("PATCH", &at("jobs/ci-1"), &patch).await;
    assert_eq!(status, 200);
    let mut phases = Vec::new();
    loop {
        let event = pods.event().await.unwrap().unwrap();
        let phase = text(&event["object"]["status"]["phase"]).to_owned();
        if phases.last() != Some(&phase) {
            phases.push(phase);
        }
        if event["type"] == "DELETED" {
            break;
        }
    }
    assert_eq!(phases, ["Pending", "Running", "Succeeded"]);
    lab.until("gone", |cluster| {
        let is_over = cluster.secrets().is_empty() && !cluster.jobs()[0].exists;
        is_over.then_some(())
    })
    .await;
    assert_eq!(lab.cluster.pods()[0].log, "x\n");
    let names: Vec<String> = lab
        .sandbox
        .calls()
        .into_iter()
        .map(|call| call.name)
        .collect();
    assert_eq!(
        names,
        ["create jobs", "watch pods", "create secrets", "patch jobs"]
    );
    lab.end().await;
}

#[tokio::test]
async fn a_secret_of_another_job_of_that_name_goes_at_once() {
    let lab = lab().await;
    let mut job = lab.made("jobs", &launch()).await;
    job["metadata"]["uid"] = json!("0b7b1a6e-0000-4000-a000-000000000000");
    lab.made("secrets", &secret(&job, SCRIPT)).await;
    lab.until("gone", |cluster| cluster.secrets().is_empty().then_some(()))
        .await;
    let options = json!({"propagationPolicy": "Foreground"});
    let (status, _) = lab.call("DELETE", &at("jobs/ci-1"), &options).await;
    assert_eq!(status, 200);
    lab.until("gone", |cluster| cluster.live().is_empty().then_some(()))
        .await;
    let view = lab.cluster.pods().remove(0);
    assert_eq!((view.exit_code, view.log.as_str()), (None, ""));
    lab.until("job", |cluster| (!cluster.jobs()[0].exists).then_some(()))
        .await;
    lab.end().await;
}
