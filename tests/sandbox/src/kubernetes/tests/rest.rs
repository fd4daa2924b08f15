//! Objects are made, read, listed, changed and deleted; what is wrong is refused.

use super::*;

fn secret(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let lab = lab().await;
    let made = lab
        .made("secrets", &secret("a", &json!({"k": "c2VjcmV0IHdvcmRz"})))
        .await;
    assert_eq!(made["type"], "Opaque");
    assert!(made["metadata"]["uid"].is_string(), "{made}");
    assert_eq!(made["metadata"]["namespace"], "runners");
    assert!(lab.sandbox.secrets().contains(&"secret words".to_owned()));

    let (status, read) = lab.get(&at("secrets/a")).await;
    assert_eq!((status, &read), (200, &made));
    let (status, again) = lab.create("secrets", &secret("a", &json!({}))).await;
    assert_eq!((status, &again["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(again["message"], "secrets \"a\" already exists");

    let patch = json!({"metadata": {"labels": {"x": "y"}}});
    let (status, patched) = lab.call("PATCH", &at("secrets/a"), &patch).await;
    assert_eq!(
        (status, &patched["metadata"]["labels"]["x"]),
        (200, &json!("y"))
    );
    let stale = json!({"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}});
    let (status, refused) = lab.call("PATCH", &at("secrets/a"), &stale).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("Conflict")));
    let other = json!({"metadata": {"uid": "other"}});
    let (status, refused) = lab.call("PATCH", &at("secrets/a"), &other).await;
    let cause = &refused["details"]["causes"][0];
    assert_eq!((status, &cause["field"]), (422, &json!("metadata.uid")));

    let other = json!({"preconditions": {"uid": "other"}});
    let (status, refused) = lab.call("DELETE", &at("secrets/a"), &other).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("Conflict")));
    let own = json!({"preconditions": {"uid": made["metadata"]["uid"]}});
    let (status, gone) = lab.call("DELETE", &at("secrets/a"), &own).await;
    assert_eq!((status, &gone["status"]), (200, &json!("Success")));
    let (status, missing) = lab.get(&at("secrets/a")).await;
    assert_eq!(status, 404);
    assert_eq!(missing["message"], "secrets \"a\" not found");
    assert_eq!(missing["details"], json!({"name": "a", "kind": "secrets"}));
    lab.end().await;
}

#[tokio::test]
async fn lists_are_selected_and_come_in_parts() {
    let lab = lab().await;
    for name in ["a", "b", "c"] {
        let mut body = secret(name, &json!({}));
        body["metadata"]["labels"] = json!({"n": name, "all": "yes"});
        lab.made("secrets", &body).await;
    }
    for (query, expected) in [
        ("labelSelector=n%3Db", vec!["b"]),
        ("labelSelector=n%20in%20(a,c)", vec!["a", "c"]),
        ("labelSelector=all,n!%3Da", vec!["b", "c"]),
        ("labelSelector=!all", vec![]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
    ] {
        let (status, list) = lab.get(&at(&format!("secrets?{query}"))).await;
        assert_eq!(status, 200, "{list}");
        let items = list["items"].as_array().unwrap();
        let names: Vec<_> = items.iter().map(|i| text(&i["metadata"]["name"])).collect();
        assert_eq!(names, expected, "{query}");
        assert_eq!(list["kind"], "SecretList");
    }
    let (_, part) = lab.get(&at("secrets?limit=2")).await;
    assert_eq!(part["items"].as_array().unwrap().len(), 2);
    assert_eq!(part["metadata"]["remainingItemCount"], 1);
    let token = text(&part["metadata"]["continue"]);
    let (_, rest) = lab
        .get(&at(&format!("secrets?limit=2&continue={token}")))
        .await;
    assert_eq!(rest["items"][0]["metadata"]["name"], "c");
    lab.cluster.compaction();
    let (status, late) = lab.get(&at(&format!("secrets?continue={token}"))).await;
    assert_eq!((status, &late["reason"]), (410, &json!("Expired")));
    let (status, _) = lab.get(&at("secrets?fieldSelector=spec.x%3D1")).await;
    assert_eq!(status, 400);
    let (_, gone) = lab
        .call("DELETE", &at("secrets?labelSelector=all"), &Value::Null)
        .await;
    assert_eq!(gone["items"].as_array().unwrap().len(), 3);
    lab.end().await;
}

#[tokio::test]
async fn what_nobody_knows_is_refused() {
    let lab = lab().await;
    let mut body = job("a", "true");
    body["spec"]["template"]["spec"]["containers"][0]["privileged"] = json!(true);
    body["spec"]["foo"] = json!(1);
    let (status, refused) = lab.create("jobs", &body).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused["message"],
        "Job in version \"v1\" cannot be handled as a Job: strict decoding error: unknown field \
         \"spec.foo\", unknown field \"spec.template.spec.containers[0].privileged\""
    );
    let mut body = job("a", "true");
    body["spec"]["backoffLimit"] = json!("0");
    let (status, refused) = lab.create("jobs", &body).await;
    assert_eq!((status, &refused["reason"]), (400, &json!("BadRequest")));
    assert!(
        text(&refused["message"]).contains("cannot unmarshal string"),
        "{refused}"
    );
    let (status, refused) = lab
        .call(
            "DELETE",
            &at("jobs/a"),
            &json!({"propagation": "Foreground"}),
        )
        .await;
    assert_eq!(status, 400, "{refused}");
    lab.end().await;
}

/// Each case: what is changed, and the fields that are complained of.
#[tokio::test]
async fn what_is_wrong_is_told_field_by_field() {
    let lab = lab().await;
    let spec = "/spec/template/spec";
    let container = "/spec/template/spec/containers/0";
    let base = "spec.template.spec.containers[0]";
    for (place, value, field) in [
        (
            "/metadata/name".into(),
            json!("A_b"),
            "metadata.name".to_owned(),
        ),
        (
            "/metadata/name".into(),
            json!("a".repeat(64)),
            "spec.template.labels".into(),
        ),
        (
            "/metadata/labels".into(),
            json!({"a": "b c"}),
            "metadata.labels".into(),
        ),
        (
            "/metadata/annotations".into(),
            json!({"a b": ""}),
            "metadata.annotations".into(),
        ),
        (
            "/spec/completions".into(),
            json!(-1),
            "spec.completions".into(),
        ),
        (
            format!("{spec}/restartPolicy"),
            json!("Always"),
            "spec.template.spec.restartPolicy".into(),
        ),
        (
            format!("{container}/image"),
            json!(""),
            format!("{base}.image"),
        ),
        (
            format!("{container}/resources"),
            json!({"limits": {"cpu": "1x"}}),
            format!("{base}.resources.limits[cpu]"),
        ),
        (
            format!("{container}/resources"),
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            format!("{base}.resources.requests"),
        ),
        (
            format!("{container}/resources"),
            json!({"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": 0}}),
            format!("{base}.resources.requests"),
        ),
        (
            format!("{container}/securityContext"),
            json!({"privileged": true, "allowPrivilegeEscalation": false}),
            format!("{base}.securityContext"),
        ),
        (
            format!("{container}/volumeMounts"),
            json!([{"name": "x", "mountPath": "/x"}]),
            format!("{base}.volumeMounts[0].name"),
        ),
        (
            format!("{spec}/volumes"),
            json!([{"name": "x", "emptyDir": {}}, {"name": "x", "emptyDir": {}}]),
            "spec.template.spec.volumes[1].name".into(),
        ),
        (
            format!("{container}/env"),
            json!([{"name": "a=b"}]),
            format!("{base}.env[0].name"),
        ),
    ] {
        let mut body = job("a", "true");
        let (parent, last) = place.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[last] = value;
        let (status, refused) = lab.create("jobs", &body).await;
        assert_eq!(status, 422, "{place}: {refused}");
        assert_eq!(refused["reason"], "Invalid");
        let causes = refused["details"]["causes"].as_array().unwrap();
        assert!(
            causes.iter().any(|cause| cause["field"] == *field),
            "{field}: {refused}"
        );
    }
    let mut big = secret("big", &json!({}));
    big["stringData"] = json!({"k": "x".repeat((1 << 20) + 1)});
    let (status, refused) = lab.create("secrets", &big).await;
    assert_eq!(status, 422, "{refused}");
    let (status, _) = lab
        .create("secrets", &secret("a", &json!({"k": "?"})))
        .await;
    assert_eq!(status, 400);
    assert!(lab.cluster.jobs().is_empty() && lab.cluster.pods().is_empty());
    lab.end().await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let lab = lab().await;
    let (status, _) = lab.create("jobs?dryRun=All", &job("a", "true")).await;
    assert_eq!(status, 201);
    assert_eq!(lab.get(&at("jobs/a")).await.0, 404);
    lab.end().await;
}

#[tokio::test]
async fn faults_are_in_the_servers_words() {
    let lab = lab().await;
    lab.sandbox
        .fault("create jobs", Some(1), crate::FaultKind::Throttled);
    lab.sandbox
        .fault("create jobs", Some(2), crate::FaultKind::Denied);
    let reply = lab
        .send("POST", &at("jobs"), &[], &job("a", "true").to_string())
        .await;
    assert_eq!(
        (reply.status, &reply.headers["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    let (status, refused) = lab.create("jobs", &job("a", "true")).await;
    assert_eq!(status, 403);
    assert_eq!(
        refused["message"],
        "jobs.batch is forbidden: User \"launcher\" cannot create resource \"jobs\" in API group \
         \"batch\" in the namespace \"runners\""
    );
    let call = &lab.sandbox.calls()[0];
    assert_eq!(
        (call.name.as_str(), call.service.as_str()),
        ("create jobs", "kubernetes")
    );
    assert_eq!(call.code.as_deref(), Some("TooManyRequests"));
    lab.end().await;
}
