use super::*;

const ZONE: &str = "us-west1-b";

#[tokio::test]
async fn an_account_that_may_not_be_acted_as_fails_the_operation() {
    let lab = lab().await;
    let attached = |email: &str| {
        with(
            least(ZONE, "a"),
            "serviceAccounts",
            json!([{"email": email, "scopes": ["https://www.googleapis.com/auth/compute"]}]),
        )
    };
    let check = |done: &Value, email: &str| {
        assert_eq!(done["httpErrorStatusCode"], 400);
        assert_eq!(done["httpErrorMessage"], "BAD REQUEST");
        let error = &done["error"]["errors"][0];
        assert_eq!(error["code"], "SERVICE_ACCOUNT_ACCESS_DENIED");
        let message = error["message"].as_str().unwrap();
        let words = format!("does not have access to service account '{email}'");
        assert!(message.contains(&words), "{message}");
    };
    let nobody = "nobody@octo-ci.iam.gserviceaccount.com";
    let (status, done) = lab.insert(ZONE, &attached(nobody)).await;
    assert_eq!(status, 200);
    check(&done, nobody);
    lab.gce.refuse_act_as();
    let runner = lab.gce.runner_account();
    let (_, done) = lab.insert(ZONE, &attached(&runner)).await;
    check(&done, &runner);
    assert!(lab.gce.instances().is_empty());
    // The name is free again.
    let (_, done) = lab.insert(ZONE, &least(ZONE, "a")).await;
    assert!(done["error"].is_null(), "{done}");
}

#[tokio::test]
async fn want_of_room_and_of_quota_fails_the_operation() {
    let lab = lab().await;
    let spot = |zone: &str| {
        with(
            least(zone, "a"),
            "scheduling",
            json!({"provisioningModel": "SPOT"}),
        )
    };
    lab.gce
        .exhaust(Some(ZONE), None, Some(true), "ZONE_RESOURCE_POOL_EXHAUSTED");
    let (status, done) = lab.insert(ZONE, &spot(ZONE)).await;
    assert_eq!(
        (status, &done["httpErrorStatusCode"]),
        (200, &json!(503)),
        "{done}"
    );
    assert_eq!(done["httpErrorMessage"], "SERVICE UNAVAILABLE");
    let error = &done["error"]["errors"][0];
    assert_eq!(error["code"], "ZONE_RESOURCE_POOL_EXHAUSTED");
    assert_eq!(
        error["errorDetails"][2]["errorInfo"]["reason"],
        "resource_availability"
    );
    assert!(lab.gce.instances().is_empty());
    let (status, _) = lab.get(&format!("zones/{ZONE}/instances/a")).await;
    assert_eq!(status, 404);
    let (_, done) = lab.insert("us-west1-c", &spot("us-west1-c")).await;
    assert!(done["error"].is_null(), "{done}");

    lab.gce.restock();
    for (scope, place, limit) in [
        ("zone", "in zone us-west1-b", "CPUS-per-project-zone"),
        ("region", "in region us-west1", "CPUS-per-project-region"),
        ("global", "globally", "CPUS-per-project"),
    ] {
        let code = format!("QUOTA_EXCEEDED:CPUS:{scope}");
        lab.gce.exhaust(None, None, None, &code);
        let (_, done) = lab.insert(ZONE, &least(ZONE, "q")).await;
        assert_eq!(done["httpErrorStatusCode"], 403, "{done}");
        let error = &done["error"]["errors"][0];
        assert_eq!(error["code"], "QUOTA_EXCEEDED");
        assert_eq!(
            error["message"],
            format!("Quota 'CPUS' exceeded.  Limit: 0.0 {place}.")
        );
        assert_eq!(error["errorDetails"][0]["quotaInfo"]["limitName"], limit);
        lab.gce.restock();
    }
    lab.gce.exhaust(
        Some("us-west1"),
        None,
        None,
        "quotaExceeded:GPUS_ALL_REGIONS:global",
    );
    let (status, answer) = lab.insert(ZONE, &least(ZONE, "q")).await;
    assert_eq!(
        (status, refusal(&answer)),
        (
            403,
            (
                "quotaExceeded",
                "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally."
            )
        )
    );
}

#[tokio::test]
async fn a_request_id_makes_one_instance() {
    let lab = lab().await;
    let id = "5d1c3c34-6d7a-4c0b-9c55-0f6d8a6f8b01";
    let path = format!("zones/{ZONE}/instances?requestId={id}");
    let (_, first) = lab.call("POST", &path, &least(ZONE, "a")).await;
    let (_, again) = lab.call("POST", &path, &least(ZONE, "a")).await;
    assert_eq!(first["name"], again["name"]);
    lab.wait(&first).await;
    let (_, again) = lab.call("POST", &path, &least(ZONE, "a")).await;
    assert_eq!(
        (&first["name"], &again["status"]),
        (&again["name"], &json!("DONE"))
    );
    assert_eq!(lab.gce.instances().len(), 1);
    assert_eq!(lab.gce.instances()[0].request_id.as_deref(), Some(id));
    let (status, answer) = lab.call("POST", &path, &least(ZONE, "b")).await;
    assert_eq!((status, refusal(&answer).0), (400, "invalid"));
    let (status, answer) = lab.insert(ZONE, &least(ZONE, "a")).await;
    assert_eq!(
        (status, refusal(&answer)),
        (
            409,
            (
                "alreadyExists",
                "The resource 'projects/octo-ci/zones/us-west1-b/instances/a' already exists"
            )
        )
    );
    let path = format!("zones/{ZONE}/instances?requestId=launch-1");
    let (status, _) = lab.call("POST", &path, &least(ZONE, "c")).await;
    assert_eq!(status, 400);
    // A call that was refused leaves its id free.
    lab.gce
        .exhaust(None, None, None, "quotaExceeded:CPUS:region");
    let id = "5d1c3c34-6d7a-4c0b-9c55-0f6d8a6f8b02";
    let path = format!("zones/{ZONE}/instances?requestId={id}");
    let (status, _) = lab.call("POST", &path, &least(ZONE, "d")).await;
    assert_eq!(status, 403);
    lab.gce.restock();
    let (status, _) = lab.call("POST", &path, &least(ZONE, "d")).await;
    assert_eq!(status, 200);
}
