//! Who calls, and what they may do.

use super::*;

#[tokio::test]
async fn nobody_gets_in_without_credentials() {
    let lab = lab().await;
    let bare = Arc::new(client(&lab.cluster, false));
    for (headers, status) in [
        (vec![], 401),
        (vec![("authorization", "Bearer nonsense".to_owned())], 401),
        (
            vec![("authorization", format!("Bearer {}", lab.cluster.token()))],
            200,
        ),
    ] {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let reply = send(&lab.cluster, bare.clone(), "GET", &at("jobs"), &headers, "")
            .await
            .unwrap();
        assert_eq!(reply.status, status);
        if status == 401 {
            assert_eq!(reply.json().await["reason"], "Unauthorized");
        }
    }
    // A certificate of somebody else's authority doesn't get as far as that.
    let other = lab_of_another_authority(&lab.cluster).await;
    let refused = send(&lab.cluster, other, "GET", "/version", &[], "").await;
    assert!(refused.is_err());
    lab.end().await;
}

async fn lab_of_another_authority(cluster: &Kubernetes) -> Arc<ClientConfig> {
    let stranger = Authority::new().unwrap();
    let identity = stranger.certify(&User::new(USER, GROUP)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cluster.world.authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

fn review(attributes: &Value) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    })
}

#[tokio::test]
async fn a_role_says_what_may_be_done() {
    let lab = lab().await;
    let rules = json!([
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["list", "get"]},
    ]);
    lab.cluster.role(rules).unwrap();
    for (method, path, allowed) in [
        ("GET", at("jobs/a"), true),
        ("GET", at("jobs"), false),
        ("DELETE", at("jobs/a"), false),
        ("GET", at("pods/a/log"), true),
        ("GET", at("pods/a"), false),
        ("GET", at("secrets/a"), true),
        ("GET", at("secrets/b"), false),
        ("GET", at("secrets?fieldSelector=metadata.name%3Da"), true),
        ("GET", at("secrets"), false),
        ("GET", "/apis/batch/v1/jobs".into(), false),
        (
            "GET",
            "/apis/batch/v1/namespaces/default/jobs/a".into(),
            false,
        ),
    ] {
        let (status, answer) = lab.call(method, &path, &Value::Null).await;
        assert_eq!(status != 403, allowed, "{method} {path}: {answer}");
    }
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (attributes, allowed) in [
        (
            json!({"verb": "create", "group": "batch", "resource": "jobs", "namespace": "runners"}),
            true,
        ),
        (
            json!({"verb": "delete", "group": "batch", "resource": "jobs", "namespace": "runners"}),
            false,
        ),
        (
            json!({"verb": "get", "resource": "pods", "subresource": "log", "namespace": "runners"}),
            true,
        ),
        (
            json!({"verb": "get", "resource": "pods", "namespace": "runners"}),
            false,
        ),
        (
            json!({"verb": "create", "group": "batch", "resource": "jobs", "namespace": "default"}),
            false,
        ),
    ] {
        let (status, answer) = lab.call("POST", path, &review(&attributes)).await;
        assert_eq!(
            (status, &answer["status"]["allowed"]),
            (201, &json!(allowed)),
            "{attributes}"
        );
    }
    lab.end().await;
}

#[tokio::test]
async fn a_service_account_may_do_nothing_at_first() {
    let lab = lab().await;
    lab.cluster.service_account("builder");
    let files = lab.cluster.in_cluster("builder").unwrap();
    let token = std::fs::read_to_string(files.folder.join("token")).unwrap();
    let bare = Arc::new(client(&lab.cluster, false));
    let value = format!("Bearer {token}");
    let headers = [("authorization", value.as_str())];
    let get = || {
        send(
            &lab.cluster,
            bare.clone(),
            "GET",
            "/api/v1/namespaces/runners/pods",
            &headers,
            "",
        )
    };
    let reply = get().await.unwrap();
    assert_eq!(reply.status, 403);
    let message = reply.json().await["message"].clone();
    assert!(
        text(&message).contains("User \"system:serviceaccount:runners:builder\""),
        "{message}"
    );
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    lab.cluster.service_account_role("builder", rules).unwrap();
    assert_eq!(get().await.unwrap().status, 200);
    assert!(lab.sandbox.secrets().contains(&token));
    lab.end().await;
}

#[tokio::test]
async fn owners_are_kept_by_who_may_set_their_finalizers() {
    let lab = lab().await;
    let owner = lab.made("jobs", &job("x", "sleep 600")).await;
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "x", "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": "x",
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true,
        }]},
    });
    let rule = |group: &str, resource: &str, verb: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
    let create = rule("", "secrets", "create");
    let finalizers = rule("batch", "jobs/finalizers", "update");
    let role = |rules: &[&Value]| lab.cluster.role(json!(rules)).unwrap();
    lab.cluster.watch_over_owners();
    role(&[&create]);
    let (status, refused) = lab.create("secrets", &secret).await;
    assert_eq!(
        (status, text(&refused["message"])),
        (
            403,
            "secrets \"x\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to \
             a resource you can't set finalizers on: , <nil>"
        )
    );
    secret["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = json!(false);
    lab.made("secrets", &secret).await;
    role(&[&create, &finalizers]);
    secret["metadata"]["name"] = json!("y");
    secret["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = json!(true);
    lab.made("secrets", &secret).await;
    role(&[&rule("*", "*", "*")]);
    let path = "jobs/x?propagationPolicy=Foreground";
    lab.call("DELETE", &at(path), &Value::Null).await;
    lab.until("gone", |cluster| {
        (cluster.live().is_empty() && cluster.secrets().is_empty()).then_some(())
    })
    .await;
    lab.end().await;
}
