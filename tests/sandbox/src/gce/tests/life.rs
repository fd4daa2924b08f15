use super::*;

const ZONE: &str = "us-west1-b";

fn running(name: &str, script: &str) -> Value {
    with(
        least(ZONE, name),
        "metadata",
        json!({"items": [{"key": "startup-script", "value": script}]}),
    )
}

#[tokio::test]
async fn an_instance_is_there_when_its_operation_runs() {
    let mut config = Config::new("/bin/true");
    config.visibility_delay = Duration::from_millis(1500);
    config.boot_delay = Duration::from_secs(8);
    let lab = lab_with(config).await;
    let body = least(ZONE, "a");
    let path = format!("zones/{ZONE}/instances");
    let (_, operation) = lab.call("POST", &path, &body).await;
    assert_eq!(
        (&operation["status"], &operation["progress"]),
        (&json!("PENDING"), &json!(0))
    );
    let (status, _) = lab.get(&format!("{path}/a")).await;
    assert_eq!(status, 404);
    let (status, _) = lab.call("DELETE", &format!("{path}/a"), &Value::Null).await;
    assert_eq!(status, 404);
    // Its name is taken from the call on.
    let (status, _) = lab.call("POST", &path, &body).await;
    assert_eq!(status, 409);
    let instance = lab.until_found(&format!("{path}/a")).await;
    assert_eq!(instance["status"], "PROVISIONING");
    let name = operation["name"].as_str().unwrap();
    let (_, operation) = lab.get(&format!("zones/{ZONE}/operations/{name}")).await;
    assert_eq!(operation["status"], "RUNNING");
    assert!(operation["startTime"].is_string() && operation["endTime"].is_null());
}

#[tokio::test]
async fn a_wait_ends_after_its_time() {
    let mut config = Config::new("/bin/true");
    config.boot_delay = Duration::from_secs(20);
    let lab = lab_with(config).await;
    lab.gce.set_wait_limit(Duration::from_millis(50));
    let path = format!("zones/{ZONE}/instances");
    let (_, operation) = lab.call("POST", &path, &least(ZONE, "a")).await;
    let name = operation["name"].as_str().unwrap();
    let wait = format!("zones/{ZONE}/operations/{name}/wait");
    let (status, operation) = lab.call("POST", &wait, &Value::Null).await;
    assert_eq!(status, 200);
    assert_ne!(operation["status"], "DONE");
    let elsewhere = format!("zones/us-west1-c/operations/{name}/wait");
    let (status, _) = lab.call("POST", &elsewhere, &Value::Null).await;
    assert_eq!(status, 404);
    lab.gce.set_wait_limit(Duration::from_secs(120));
    // One that is being made can be deleted.
    let path = format!("{path}/a");
    lab.until_found(&path).await;
    let (status, deletion) = lab.call("DELETE", &path, &Value::Null).await;
    assert_eq!(status, 200);
    lab.wait(&deletion).await;
    lab.wait(&operation).await;
    lab.until("a", "DELETED").await;
    assert!(lab.sandbox.shutdown().await.is_empty());
}

#[tokio::test]
async fn a_deletion_takes_the_disk_along() {
    let lab = lab().await;
    lab.insert(ZONE, &running("a", "#!/bin/sh\nsleep 600"))
        .await;
    lab.insert(
        ZONE,
        &with(least(ZONE, "b"), "disks.0.autoDelete", json!(false)),
    )
    .await;
    let id = "5d1c3c34-6d7a-4c0b-9c55-0f6d8a6f8b03";
    for name in ["a", "b"] {
        let path = format!("zones/{ZONE}/instances/{name}");
        let with_id = match name {
            "a" => format!("{path}?requestId={id}"),
            _ => path.clone(),
        };
        let (_, operation) = lab.call("DELETE", &with_id, &Value::Null).await;
        assert_eq!(operation["operationType"], "delete");
        lab.wait(&operation).await;
        let (status, answer) = lab.call("DELETE", &path, &Value::Null).await;
        assert_eq!((status, refusal(&answer).0), (404, "notFound"));
    }
    // The same request again is the same operation, whatever has become of the instance.
    let path = format!("zones/{ZONE}/instances/a?requestId={id}");
    let (status, operation) = lab.call("DELETE", &path, &Value::Null).await;
    assert_eq!((status, &operation["status"]), (200, &json!("DONE")));
    assert!(lab.gce.live().is_empty());
    assert_eq!(lab.sandbox.shutdown().await, ["disk b of b is left"]);
}

#[tokio::test]
async fn a_machine_that_switches_itself_off_is_stopped_and_not_gone() {
    let lab = lab().await;
    lab.insert(
        ZONE,
        &running("a", "#!/bin/sh\nsystemctl poweroff\nsleep 600"),
    )
    .await;
    lab.until("a", "TERMINATED").await;
    let path = format!("zones/{ZONE}/instances/a");
    let (_, instance) = lab.get(&path).await;
    assert!(instance["lastStopTimestamp"].is_string(), "{instance}");
    assert_eq!(lab.gce.live().len(), 1);
    let stopped = instance["lastStopTimestamp"].as_str().unwrap().to_owned();
    lab.gce.age("a", Duration::from_secs(600));
    let (_, instance) = lab.get(&path).await;
    assert!(instance["lastStopTimestamp"].as_str().unwrap() < stopped.as_str());
    let (status, answer) = lab.get(&format!("{path}/serialPort")).await;
    assert_eq!((status, refusal(&answer).0), (400, "resourceNotReady"));
    let (_, operation) = lab.call("DELETE", &path, &Value::Null).await;
    lab.wait(&operation).await;
    assert!(lab.sandbox.shutdown().await.is_empty());
}

#[tokio::test]
async fn a_spot_instance_is_told_and_then_deleted() {
    let lab = lab().await;
    let script = "#!/bin/sh\ncurl -s -H 'Metadata-Flavor: Google' \
                  \"http://$GCE_METADATA_HOST/computeMetadata/v1/instance/preempted?wait_for_change=true\"\n\
                  echo; sleep 600";
    for (name, action, end) in [("a", "DELETE", "DELETED"), ("b", "STOP", "TERMINATED")] {
        let body = with(
            running(name, script),
            "scheduling",
            json!({"provisioningModel": "SPOT", "instanceTerminationAction": action}),
        );
        lab.insert(ZONE, &body).await;
        let start = Instant::now();
        while !lab.sandbox.calls().iter().any(|call| {
            call.name.starts_with("gce-metadata:GET instance/preempted")
                && call.peer == crate::Caller::Instance(name.into())
        }) {
            assert!(start.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lab.gce.preempt(name);
        lab.until(name, end).await;
        let console = lab.gce.console(name);
        assert!(console.contains("TRUE"), "{console}");
    }
}

#[tokio::test]
async fn a_crash_boots_again_where_that_is_wanted() {
    let lab = lab().await;
    let script = "#!/bin/sh\necho here I am; sleep 600";
    let boots = |name: &str| lab.gce.console(name).matches("here I am").count();
    let until = async |name: &str, count: usize| {
        let start = Instant::now();
        while boots(name) < count {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", boots(name));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    lab.insert(ZONE, &running("a", script)).await;
    let once = with(
        running("b", script),
        "scheduling",
        json!({"automaticRestart": false}),
    );
    lab.insert(ZONE, &once).await;
    until("a", 1).await;
    until("b", 1).await;
    lab.gce.crash("a");
    lab.gce.crash("b");
    until("a", 2).await;
    lab.until("b", "TERMINATED").await;
    assert_eq!(lab.gce.live()[0].status, "RUNNING");
    let path = format!("zones/{ZONE}/instances/a/serialPort");
    let (_, output) = lab.get(&format!("{path}?port=1&start=-6")).await;
    assert_eq!(output["contents"].as_str().unwrap().len(), 6);
    let (_, output) = lab.get(&path).await;
    assert!(output["contents"].as_str().unwrap().contains("here I am"));
    lab.gce.deny("compute.instances.getSerialPortOutput");
    assert_eq!(lab.get(&path).await.0, 403);
}

#[tokio::test]
async fn a_name_can_come_again() {
    let lab = lab().await;
    for round in 1..=2 {
        lab.insert(ZONE, &running("a", "#!/bin/sh\nsleep 600"))
            .await;
        let (_, operation) = lab
            .call("DELETE", &format!("zones/{ZONE}/instances/a"), &Value::Null)
            .await;
        lab.wait(&operation).await;
        assert_eq!(lab.gce.instances().len(), round);
    }
    // The same name in another zone is another's.
    lab.insert(ZONE, &least(ZONE, "b")).await;
    let (status, _) = lab.insert("us-west1-a", &least("us-west1-a", "b")).await;
    assert_eq!(status, 200);
    assert_eq!(lab.gce.live().len(), 2);
}

#[tokio::test]
async fn an_instance_deletes_itself_with_its_own_token() {
    let lab = lab().await;
    let script = format!(
        "#!/bin/sh\nmeta=http://$GCE_METADATA_HOST/computeMetadata/v1/instance\n\
         token=$(curl -s -H 'Metadata-Flavor: Google' $meta/service-accounts/default/token | \
         sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\
         curl -s -X DELETE -H \"Authorization: Bearer $token\" \
         {}projects/octo-ci/zones/{ZONE}/instances/a\nsleep 600",
        lab.gce.url()
    );
    let body = with(
        running("a", &script),
        "serviceAccounts",
        json!([{
            "email": lab.gce.launcher_account(),
            "scopes": ["https://www.googleapis.com/auth/compute"],
        }]),
    );
    lab.insert(ZONE, &body).await;
    lab.until("a", "DELETED").await;
    let calls = lab.sandbox.calls();
    let call = calls.iter().find(|c| c.name == "compute:instances.delete");
    assert_eq!(call.unwrap().peer, crate::Caller::Instance("a".into()));
    assert!(lab.sandbox.shutdown().await.is_empty());
}
