//! Pods: where they run, what they wait for, how they end.

use super::*;

fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": pod_spec(script),
    })
}

async fn delete(lab: &Lab, name: &str) {
    lab.call(
        "DELETE",
        &at(&format!("pods/{name}?gracePeriodSeconds=0")),
        &Value::Null,
    )
    .await;
    lab.until("gone", |cluster| {
        let live = cluster.live();
        live.iter().all(|pod| pod.name != name).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_waits_for_a_node_that_fits() {
    let lab = lab().await;
    let mut body = pod("a", "true");
    body["spec"]["nodeSelector"] = json!({"disk": "fast"});
    lab.made("pods", &body).await;
    let event = lab.told("FailedScheduling").await;
    assert_eq!(
        event.message,
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: \
         0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    lab.cluster.add_node("fast-1", &[("disk", "fast")]);
    let view = lab.pod("Succeeded").await;
    assert_eq!(view.node.as_deref(), Some("fast-1"));
    delete(&lab, "a").await;

    let mut body = pod("b", "true");
    body["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    lab.made("pods", &body).await;
    lab.until("gpu", |cluster| {
        let events = cluster.events();
        events
            .iter()
            .any(|event| event.message.contains("2 Insufficient nvidia.com/gpu"))
            .then_some(())
    })
    .await;
    lab.cluster.set_capacity("node-1", "nvidia.com/gpu", "1");
    lab.until("run", |cluster| {
        let pods = cluster.live();
        (pods.first()?.phase == "Succeeded").then_some(())
    })
    .await;
    delete(&lab, "b").await;
    lab.end().await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_tried_again() {
    let lab = lab().await;
    let mut body = pod("a", "true");
    body["spec"]["containers"][0]["image"] = json!("registry.example/missing:1");
    lab.made("pods", &body).await;
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        lab.until(reason, |cluster| {
            let pods = cluster.live();
            let state = &pods.first()?.status["containerStatuses"][0]["state"];
            (state["waiting"]["reason"] == reason).then_some(())
        })
        .await;
    }
    let (status, refused) = lab.get(&at("pods/a/log")).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused["message"],
        "container \"runner\" in pod \"a\" is waiting to start: trying and failing to pull image"
    );
    lab.told("BackOff").await;
    delete(&lab, "a").await;
    lab.end().await;
}

#[tokio::test]
async fn what_a_container_prints_can_be_read() {
    let lab = lab().await;
    lab.made("pods", &pod("a", "echo one; echo two; echo three"))
        .await;
    lab.pod("Succeeded").await;
    for (query, expected) in [
        ("", "one\ntwo\nthree\n"),
        ("tailLines=2", "two\nthree\n"),
        ("tailLines=0", ""),
        ("limitBytes=5", "one\nt"),
        ("container=runner&follow=true", "one\ntwo\nthree\n"),
    ] {
        let reply = lab
            .send("GET", &at(&format!("pods/a/log?{query}")), &[], "")
            .await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text().await, expected, "{query}");
    }
    let (status, refused) = lab.get(&at("pods/a/log?container=x")).await;
    assert_eq!(
        (status, &refused["message"]),
        (400, &json!("container x is not valid for pod a"))
    );
    delete(&lab, "a").await;
    lab.end().await;
}

#[tokio::test]
async fn a_pod_gets_its_grace_and_no_more() {
    let lab = lab().await;
    let stubborn = "trap '' TERM; echo begun; while :; do sleep 0.05; done";
    let mut body = pod("a", stubborn);
    body["spec"]["terminationGracePeriodSeconds"] = json!(1);
    lab.made("pods", &body).await;
    lab.pod("Running").await;
    lab.until("begun", |cluster| {
        cluster.log("a").contains("begun").then_some(())
    })
    .await;
    let begun = Instant::now();
    assert!(lab.cluster.evict("a"));
    lab.until("gone", |cluster| cluster.live().is_empty().then_some(()))
        .await;
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(5),
        "{took:?}"
    );
    let view = lab.cluster.pods().remove(0);
    assert_eq!((view.exit_code, view.phase.as_str()), (Some(137), "Failed"));
    assert!(!lab.cluster.preempt("b"));
    let conditions = view.status["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|known| known["type"] == "DisruptionTarget")
    );
    lab.end().await;
}

#[tokio::test]
async fn containers_are_killed_and_nodes_are_lost() {
    let lab = lab().await;
    lab.made("pods", &pod("a", PATIENT)).await;
    lab.pod("Running").await;
    assert!(lab.cluster.out_of_memory("a").await);
    let view = lab.pod("Failed").await;
    let state = &view.status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&state["exitCode"], &state["reason"]),
        (&json!(137), &json!("OOMKilled"))
    );
    delete(&lab, "a").await;

    lab.made("pods", &pod("b", PATIENT)).await;
    lab.pod("Running").await;
    lab.cluster.lose_node("b");
    lab.until("killed", |cluster| {
        cluster.processes("b").is_empty().then_some(())
    })
    .await;
    lab.call("DELETE", &at("pods/b"), &Value::Null).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let live = lab.cluster.live();
    assert!(
        live[0].terminating && live[0].phase == "Running",
        "{live:?}"
    );
    assert_eq!(lab.get(&at("pods/b/log")).await.0, 500);
    lab.cluster.forget_node("b");
    lab.until("gone", |cluster| cluster.live().is_empty().then_some(()))
        .await;
    lab.end().await;
}

#[tokio::test]
async fn variables_come_from_secrets_and_fields() {
    let lab = lab().await;
    let mut body = pod("a", "echo $WORD $NAME $(WORD)x");
    body["spec"]["containers"][0]["env"] = json!([
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    lab.made("pods", &body).await;
    lab.until("config error", |cluster| {
        let pods = cluster.live();
        let state = &pods.first()?.status["containerStatuses"][0]["state"]["waiting"];
        (state["reason"] == "CreateContainerConfigError"
            && state["message"] == "secret \"s\" not found")
            .then_some(())
    })
    .await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "stringData": {"k": "wordword"},
    });
    lab.made("secrets", &secret).await;
    let view = lab.pod("Succeeded").await;
    assert_eq!(view.log, "wordword a wordwordx\n");
    delete(&lab, "a").await;
    lab.cluster.remove_secret("s");
    lab.end().await;
}

#[tokio::test]
async fn a_pod_without_its_service_account_is_refused() {
    let lab = lab().await;
    let mut body = pod("a", "true");
    body["spec"]["serviceAccountName"] = json!("x");
    let (status, refused) = lab.create("pods", &body).await;
    assert_eq!(status, 403);
    assert_eq!(
        refused["message"],
        "pods \"a\" is forbidden: error looking up service account runners/x: serviceaccount \"x\" \
         not found"
    );
    lab.cluster.service_account("x");
    body["spec"]["automountServiceAccountToken"] = json!(true);
    let made = lab.made("pods", &body).await;
    assert!(
        text(&made["spec"]["volumes"][0]["name"]).starts_with("kube-api-access-"),
        "{made}"
    );
    lab.pod("Succeeded").await;
    delete(&lab, "a").await;
    lab.end().await;
}

#[tokio::test]
async fn the_end_of_the_sandbox_is_the_end_of_all_pods() {
    let lab = lab().await;
    lab.made("pods", &pod("a", PATIENT)).await;
    lab.pod("Running").await;
    let mut body = pod("b", "true");
    body["spec"]["volumes"] = json!([{"name": "x", "secret": {"secretName": "none"}}]);
    lab.made("pods", &body).await;
    lab.told("FailedMount").await;
    let cluster = lab.cluster.clone();
    let leaks = lab.sandbox.shutdown().await;
    assert_eq!(leaks, ["pod a is left, Running", "pod b is left, Pending"]);
    assert_eq!(*cluster.world.lives.borrow(), 0);
    assert!(cluster.processes("a").is_empty());
}

#[tokio::test]
async fn sidecars_are_there_and_go_with_the_pod() {
    let lab = lab().await;
    let mut body = pod("a", "sleep 0.2; exit 3");
    let mut sidecar = json!({"name": "docker", "image": "docker:dind"});
    body["spec"]["initContainers"] = json!([sidecar.clone()]);
    let (status, refused) = lab.create("pods", &body).await;
    assert_eq!(status, 403, "{refused}");
    sidecar["restartPolicy"] = json!("Always");
    body["spec"]["initContainers"] = json!([sidecar.clone()]);
    lab.made("pods", &body).await;
    let status = lab.pod("Running").await.status;
    let entry = &status["initContainerStatuses"][0];
    assert_eq!(
        (&entry["name"], &entry["ready"]),
        (&json!("docker"), &json!(true))
    );
    assert!(entry["state"]["running"].is_object(), "{entry}");
    let view = lab.pod("Failed").await;
    assert_eq!(view.exit_code, Some(3));
    let state = &view.status["initContainerStatuses"][0]["state"];
    assert!(state["terminated"].is_object(), "{state}");
    delete(&lab, "a").await;

    // Its word is for initContainers alone.
    let mut body = pod("b", "true");
    push(&mut body["spec"]["containers"], sidecar);
    let (status, refused) = lab.create("pods", &body).await;
    assert_eq!(status, 422, "{refused}");
    lab.end().await;
}

#[tokio::test]
async fn another_container_keeps_the_pod() {
    let lab = lab().await;
    let mut body = pod("a", "exit 3");
    let other = json!({"name": "other", "image": "registry.example/other:1"});
    push(&mut body["spec"]["containers"], other);
    lab.made("pods", &body).await;
    let entry = |view: &PodView, at: usize| view.status["containerStatuses"][at]["state"].clone();
    let view = lab
        .until("the end of the first", |cluster| {
            let view = cluster.pods().remove(0);
            entry(&view, 0)["terminated"].is_object().then_some(view)
        })
        .await;
    assert_eq!(view.phase, "Running");
    assert_eq!(entry(&view, 0)["terminated"]["exitCode"], 3);
    assert!(entry(&view, 1)["running"].is_object());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(lab.pod("Running").await.exit_code, Some(3));
    lab.call("DELETE", &at("pods/a"), &Value::Null).await;
    let view = lab.pod("Failed").await;
    assert_eq!(entry(&view, 0)["terminated"]["exitCode"], 3);
    assert_eq!(entry(&view, 1)["terminated"]["exitCode"], 0);
    delete(&lab, "a").await;
    lab.end().await;
}

#[tokio::test]
async fn what_a_container_can_t_be_is_told() {
    let lab = lab().await;
    let mut body = pod("a", "true");
    let rights = json!({"readOnlyRootFilesystem": true});
    body["spec"]["containers"][0]["securityContext"] = rights;
    let (status, refused) = lab.create("pods", &body).await;
    assert_eq!(status, 403, "{refused}");
    let rights = json!({"capabilities": {"add": ["CAP_KILL"]}});
    body["spec"]["containers"][0]["securityContext"] = rights;
    lab.made("pods", &body).await;
    lab.until("waiting", |cluster| {
        let pods = cluster.live();
        let state = &pods.first()?.status["containerStatuses"][0]["state"]["waiting"];
        text(&state["message"])
            .contains("unknown capability")
            .then_some(())
    })
    .await;
    delete(&lab, "a").await;
    lab.end().await;
}

fn push(list: &mut Value, entry: Value) {
    list.as_array_mut().unwrap().push(entry);
}
