//! Watches.

use super::*;

fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "labels": {"w": "1"}},
    })
}

async fn watch(lab: &Lab, query: &str) -> Reply {
    let path = at(&format!("secrets?watch=1&{query}"));
    let reply = lab.send("GET", &path, &[], "").await;
    assert_eq!(reply.status, 200);
    reply
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.into(), name.into())
}

#[tokio::test]
async fn changes_are_told_from_a_version_on() {
    let lab = lab().await;
    let first = lab.made("secrets", &secret("a")).await;
    let version = text(&first["metadata"]["resourceVersion"]);
    let mut from = watch(
        &lab,
        &format!("resourceVersion={version}&labelSelector=w%3D1"),
    )
    .await;
    let mut all = watch(&lab, "").await;
    assert_eq!(all.told().await, pair("ADDED", "a"));
    lab.made("secrets", &secret("b")).await;
    assert_eq!(from.told().await, pair("ADDED", "b"));
    assert_eq!(all.told().await, pair("ADDED", "b"));
    // What doesn't fit the selector any more is as good as gone.
    let patch = json!({"metadata": {"labels": {"w": null, "v": "1"}}});
    lab.call("PATCH", &at("secrets/b"), &patch).await;
    assert_eq!(from.told().await, pair("DELETED", "b"));
    assert_eq!(all.told().await, pair("MODIFIED", "b"));
    lab.call("DELETE", &at("secrets/b"), &Value::Null).await;
    assert_eq!(all.told().await, pair("DELETED", "b"));
    lab.call("DELETE", &at("secrets/a"), &Value::Null).await;
    assert_eq!(from.told().await, pair("DELETED", "a"));
    lab.end().await;
}

#[tokio::test]
async fn bookmarks_come_to_those_who_want_them() {
    let lab = lab().await;
    let mut plain = watch(&lab, "timeoutSeconds=1").await;
    let mut marked = watch(&lab, "allowWatchBookmarks=true&timeoutSeconds=60").await;
    lab.cluster.bookmark_now();
    let event = marked.event().await.unwrap().unwrap();
    assert_eq!(event["type"], "BOOKMARK");
    assert!(event["object"]["metadata"]["resourceVersion"].is_string());
    assert_eq!(plain.event().await.unwrap(), None);
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    lab.made("secrets", &secret("a")).await;
    let mut initial = watch(&lab, query).await;
    assert_eq!(initial.told().await, pair("ADDED", "a"));
    let event = initial.event().await.unwrap().unwrap();
    let marks = &event["object"]["metadata"]["annotations"];
    assert_eq!(marks["k8s.io/initial-events-end"], "true");
    lab.call("DELETE", &at("secrets/a"), &Value::Null).await;
    lab.end().await;
}

#[tokio::test]
async fn watches_end_in_three_ways() {
    let lab = lab().await;
    let version = lab.get(&at("secrets")).await.1["metadata"]["resourceVersion"].clone();
    let mut broken = watch(&lab, "").await;
    lab.cluster.close_watches();
    assert!(broken.event().await.is_err());

    let mut expired = watch(&lab, "").await;
    lab.cluster.compaction();
    let event = expired.event().await.unwrap().unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(expired.event().await.unwrap(), None);
    let mut late = watch(&lab, &format!("resourceVersion={}", text(&version))).await;
    let event = late.event().await.unwrap().unwrap();
    assert_eq!(event["object"]["code"], 410);

    lab.cluster.expire_watch_after(Duration::from_millis(30));
    assert_eq!(watch(&lab, "").await.event().await.unwrap(), None);
    let (status, refused) = lab
        .get(&at("secrets?watch=1&resourceVersion=99999999"))
        .await;
    assert_eq!((status, &refused["reason"]), (504, &json!("Timeout")));
    lab.end().await;
}
