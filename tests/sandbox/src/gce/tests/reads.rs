use super::*;
use crate::fault::FaultKind;

#[test]
fn the_description_is_whole() {
    let all = description();
    for name in ["Instance", "Network", "Firewall", "Operation"] {
        assert!(all.schema(name).is_some(), "{name}");
    }
    let route = all.route("POST", "projects/p/zones/z/instances").unwrap();
    assert_eq!(route.name, "instances.insert");
    assert_eq!(route.path["zone"], "z");
    assert!(all.method("instances.insert").unwrap().request.is_some());
    assert!(all.route("PUT", "projects/p/zones/z/instances").is_none());
    assert!(all.route("POST", "projects/p/zones//instances").is_none());
}

#[tokio::test]
async fn strangers_are_not_let_in() {
    let lab = lab().await;
    let path = "projects/octo-ci/zones";
    let (status, answer) = lab.send("GET", path, "", "ya29.nobody").await;
    assert_eq!((status, refusal(&answer).0), (401, "authError"));
    assert_eq!(answer["error"]["status"], "UNAUTHENTICATED");
    let scopes = |scopes: &[&str]| {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        lab.gce
            .identity
            .account_token(crate::google::LAUNCHER, &scopes)
            .value
    };
    let storage = scopes(&["https://www.googleapis.com/auth/devstorage.read_write"]);
    let (status, answer) = lab.send("GET", path, "", &storage).await;
    assert_eq!(
        (status, refusal(&answer).0),
        (403, "insufficientPermissions")
    );
    assert_eq!(
        answer["error"]["details"][0]["reason"],
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    );
    let reader = scopes(&[COMPUTE_READ_ONLY]);
    assert_eq!(lab.send("GET", path, "", &reader).await.0, 200);
    let delete = "projects/octo-ci/zones/us-west1-b/instances/a";
    assert_eq!(lab.send("DELETE", delete, "", &reader).await.0, 403);
    let compute = scopes(&[crate::google::COMPUTE]);
    assert_eq!(lab.send("DELETE", delete, "", &compute).await.0, 404);
}

#[tokio::test]
async fn what_is_not_described_is_refused() {
    let lab = lab().await;
    for (path, status, words) in [
        (
            "zones?colour=red",
            400,
            "Unknown name \"colour\": Cannot bind query parameter.",
        ),
        ("zones?maxResults=501", 400, "Must be between 0 and 500."),
        ("zones?maxResults=many", 400, "(TYPE_UINT32)"),
        (
            "zones?filter=colour%20=%20red",
            400,
            "Invalid list filter expression.",
        ),
        (
            "zones?fields=items/colour",
            400,
            "Invalid field selection colour",
        ),
        ("zones?pageToken=nonsense", 400, "Invalid page token."),
        ("zones?alt=xml", 400, "Must be one of"),
        (
            "zones?filter=name=a&filter=name=b",
            400,
            "Duplicate query parameter",
        ),
        (
            "aggregated/instances?returnPartialSuccess=maybe",
            400,
            "(TYPE_BOOL)",
        ),
        (
            "zones/mars-1-a",
            400,
            "Invalid value for field 'zone': 'mars-1-a'. Unknown zone.",
        ),
        ("nothing", 404, "was not found on this server"),
        (
            "zones/us-west1-b/instances/a",
            404,
            "The resource 'projects/octo-ci/zones/us-west1-b/instances/a' was not found",
        ),
        (
            "zones/us-west1-b/machineTypes/x9",
            404,
            "machineTypes/x9' was not found",
        ),
        (
            "zones/us-west1-b/diskTypes/floppy",
            404,
            "diskTypes/floppy' was not found",
        ),
        (
            "global/operations/operation-1",
            404,
            "global/operations/operation-1' was not found",
        ),
        (
            "global/firewalls/f",
            403,
            "Required 'compute.firewalls.get' permission for 'projects/octo-ci/global/firewalls/f'",
        ),
        (
            "global/images/ci-image-7",
            403,
            "Required 'compute.images.get' permission",
        ),
    ] {
        let (found, answer) = lab.get(path).await;
        assert_eq!(found, status, "{path} {answer}");
        assert!(refusal(&answer).1.contains(words), "{path} {answer}");
    }
    let (status, _) = lab.call_in("elsewhere", "GET", "zones", &Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn zones_and_machine_types_are_told() {
    let lab = lab().await;
    let region = "https://www.googleapis.com/compute/v1/projects/octo-ci/regions/us-west1";
    let (_, answer) = lab
        .get(&format!(
            "zones?filter=region%20=%20%22{region}%22&fields=items(name,status),nextPageToken"
        ))
        .await;
    assert_eq!(
        answer,
        json!({"items": [
            {"name": "us-west1-a", "status": "UP"},
            {"name": "us-west1-b", "status": "UP"},
            {"name": "us-west1-c", "status": "UP"},
        ]})
    );
    let (_, answer) = lab.get("zones?filter=name%20eq%20us-west1-.*").await;
    assert_eq!(answer["items"].as_array().unwrap().len(), 3);
    let (_, answer) = lab.get("zones?filter=name%20=%20none").await;
    assert!(answer["items"].is_null());
    let (_, answer) = lab
        .get("zones/us-central1-a/machineTypes/c4a-standard-8")
        .await;
    assert_eq!(answer["architecture"], "ARM64");
    let (_, answer) = lab.get("zones/us-west1-b/machineTypes/a2-highgpu-1g").await;
    assert_eq!(answer["accelerators"][0]["guestAcceleratorCount"], 1);
    assert_eq!(answer["guestCpus"], 12);
    assert_eq!(lab.get("zones/us-west1-c").await.0, 200);
    assert_eq!(
        lab.get("zones/us-west1-c/diskTypes/pd-balanced").await.0,
        200
    );
    assert_eq!(lab.get("zones/us-west1-c/machineTypes").await.0, 403);
}

#[tokio::test]
async fn images_are_found_by_name_and_by_family() {
    let lab = lab().await;
    for (project, path, name, architecture) in [
        (
            "ubuntu-os-cloud",
            "family/ubuntu-2404-lts-amd64",
            "ubuntu-2404-noble-amd64-v20261016",
            "X86_64",
        ),
        (
            "ubuntu-os-cloud",
            "family/ubuntu-2404-lts-arm64",
            "ubuntu-2404-noble-arm64-v20261016",
            "ARM64",
        ),
        (
            "ubuntu-os-cloud",
            "ubuntu-2404-noble-amd64-v20260801",
            "ubuntu-2404-noble-amd64-v20260801",
            "X86_64",
        ),
        (
            "ubuntu-os-accelerator-images",
            "family/ubuntu-accelerator-2404-amd64-with-nvidia-580",
            "ubuntu-accelerator-2404-amd64-with-nvidia-580-v20261009",
            "X86_64",
        ),
    ] {
        let path = format!("global/images/{path}");
        let (status, image) = lab.call_in(project, "GET", &path, &Value::Null).await;
        assert_eq!(status, 200, "{image}");
        assert_eq!(
            (&image["name"], &image["architecture"]),
            (&json!(name), &json!(architecture))
        );
    }
    let (status, answer) = lab
        .call_in(
            "ubuntu-os-cloud",
            "GET",
            "global/images/family/none",
            &Value::Null,
        )
        .await;
    assert_eq!((status, refusal(&answer).0), (404, "notFound"));
    // Nothing of the caller's own project is needed for these.
    lab.gce.allow_only(&[]);
    let path = "global/images/family/ubuntu-2204-lts";
    let (status, _) = lab
        .call_in("ubuntu-os-cloud", "GET", path, &Value::Null)
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn instances_are_listed_over_all_zones() {
    let lab = lab().await;
    for (zone, name) in [
        ("us-west1-a", "a"),
        ("us-west1-b", "b"),
        ("us-east1-c", "c"),
    ] {
        let body = with(
            least(zone, name),
            "description",
            json!(format!("mine {name}")),
        );
        lab.insert(zone, &body).await;
    }
    let (_, answer) = lab.get("aggregated/instances").await;
    assert_eq!(
        answer["items"]["zones/us-west1-b"]["instances"][0]["name"],
        "b"
    );
    assert_eq!(
        answer["items"]["zones/us-west1-c"]["warning"]["code"],
        "NO_RESULTS_ON_PAGE"
    );
    let names = |answer: &Value| -> Vec<String> {
        let zones = answer["items"].as_object().unwrap().values();
        let instances =
            zones.flat_map(|zone| zone["instances"].as_array().cloned().unwrap_or_default());
        let mut names: Vec<String> = instances
            .map(|instance| instance["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let (_, answer) = lab
        .get("aggregated/instances?filter=description:%22mine%22%20AND%20name%20!=%20c&returnPartialSuccess=true")
        .await;
    assert_eq!(names(&answer), ["a", "b"]);
    let (mut seen, mut path) = (Vec::new(), "aggregated/instances?maxResults=2".to_owned());
    loop {
        let (_, answer) = lab.get(&path).await;
        seen.push(names(&answer));
        match answer["nextPageToken"].as_str() {
            Some(token) => path = format!("aggregated/instances?maxResults=2&pageToken={token}"),
            None => break,
        }
    }
    assert_eq!(seen, [vec!["a", "b"], vec!["c"]]);
    let (_, answer) = lab
        .get("aggregated/instances?fields=items/*/instances(name,status),nextPageToken")
        .await;
    assert_eq!(
        answer["items"]["zones/us-west1-a"],
        json!({"instances": [{"name": "a", "status": "RUNNING"}]})
    );
    assert_eq!(answer["items"]["zones/us-west1-c"], json!({}));
    let (_, answer) = lab.get("zones/us-east1-c/instances").await;
    assert_eq!(answer["items"][0]["name"], "c");
    lab.gce.unmark("a");
    let (_, answer) = lab
        .get("aggregated/instances?filter=description:mine")
        .await;
    assert_eq!(names(&answer), ["b", "c"]);
    lab.gce.deny("compute.instances.list");
    let (status, answer) = lab.get("aggregated/instances").await;
    assert_eq!(status, 403);
    assert_eq!(
        refusal(&answer).1,
        "Required 'compute.instances.list' permission for 'projects/octo-ci'"
    );
}

#[tokio::test]
async fn a_network_is_usable_when_it_is_made() {
    let mut config = Config::new("/bin/true");
    config.visibility_delay = Duration::from_millis(50);
    config.network_delay = Duration::from_secs(2);
    let lab = lab_with(config).await;
    let body = json!({
        "name": "runner-launch",
        "autoCreateSubnetworks": true,
        "routingConfig": {"routingMode": "REGIONAL"},
    });
    assert_eq!(lab.get("global/networks/runner-launch").await.0, 404);
    let (status, operation) = lab.call("POST", "global/networks", &body).await;
    assert_eq!(status, 200);
    let (status, answer) = lab.call("POST", "global/networks", &body).await;
    assert_eq!((status, refusal(&answer).0), (409, "alreadyExists"));
    let network = lab.until_found("global/networks/runner-launch").await;
    assert!(
        network["subnetworks"].as_array().unwrap().len() < 8,
        "{network}"
    );
    let inside = with(
        least("us-west1-b", "a"),
        "networkInterfaces.0.network",
        json!("global/networks/runner-launch"),
    );
    let (status, answer) = lab.insert("us-west1-b", &inside).await;
    assert_eq!(
        (status, refusal(&answer)),
        (
            400,
            (
                "resourceNotReady",
                "The resource 'projects/octo-ci/global/networks/runner-launch' is not ready"
            )
        )
    );
    let rule = json!({
        "name": "runner-launch-ssh",
        "network": "projects/octo-ci/global/networks/runner-launch",
        "direction": "INGRESS",
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
        "sourceRanges": ["0.0.0.0/0"],
        "targetTags": ["runner-launch-ssh"],
    });
    let (status, _) = lab.call("POST", "global/firewalls", &rule).await;
    assert_eq!(status, 400);
    lab.wait(&operation).await;
    let (_, network) = lab.get("global/networks/runner-launch").await;
    assert_eq!(network["subnetworks"].as_array().unwrap().len(), 8);
    assert!(lab.gce.networks()[1].ready);

    let (_, operation) = lab.call("POST", "global/firewalls", &rule).await;
    lab.wait(&operation).await;
    let (status, _) = lab.call("POST", "global/firewalls", &rule).await;
    assert_eq!(status, 409);
    let view = lab.gce.firewalls().remove(0);
    assert_eq!(view.allowed, ["tcp:22"]);
    assert_eq!(view.source_ranges, ["0.0.0.0/0"]);
    assert_eq!(view.target_tags, ["runner-launch-ssh"]);
    for (field, value) in [
        ("allowed", json!([])),
        (
            "allowed",
            json!([{"IPProtocol": "tcp", "ports": ["22-21"]}]),
        ),
        ("allowed", json!([{"IPProtocol": "ssh"}])),
        ("sourceRanges", json!(["0.0.0.0/33"])),
        ("sourceRanges", json!(["0.0.0.0/0", "::/0"])),
        ("targetTags", json!(["UPPER"])),
        ("direction", json!("UP")),
        ("name", json!("no name")),
    ] {
        let (status, answer) = lab
            .call(
                "POST",
                "global/firewalls",
                &with(rule.clone(), field, value),
            )
            .await;
        assert_eq!(status, 400, "{field} {answer}");
    }
    let (status, done) = lab.insert("us-west1-b", &inside).await;
    assert_eq!((status, &done["error"]), (200, &Value::Null));
    let (_, operation) = lab
        .call("DELETE", "global/firewalls/runner-launch-ssh", &Value::Null)
        .await;
    lab.wait(&operation).await;
    assert!(lab.gce.firewalls().is_empty());
    lab.gce.deny("compute.networks.updatePolicy");
    let (status, _) = lab.call("POST", "global/firewalls", &rule).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn faults_are_in_the_services_words() {
    let lab = lab().await;
    for (kind, status, reason) in [
        (FaultKind::Denied, 403, "forbidden"),
        (FaultKind::Throttled, 403, "rateLimitExceeded"),
        (FaultKind::Status(503), 503, "backendError"),
        (FaultKind::Status(401), 401, "authError"),
    ] {
        lab.sandbox
            .fault("compute:zones.list", Some(1), kind.clone());
        let (found, answer) = lab.get("zones").await;
        assert_eq!((found, refusal(&answer).0), (status, reason));
        lab.sandbox.clear_faults();
    }
    lab.sandbox
        .fault("compute:instances.insert", Some(1), FaultKind::Capacity);
    for (name, code) in [("a", "ZONE_RESOURCE_POOL_EXHAUSTED"), ("b", "")] {
        let (status, done) = lab.insert("us-west1-b", &least("us-west1-b", name)).await;
        assert_eq!(status, 200);
        let found = done["error"]["errors"][0]["code"].as_str();
        assert_eq!(found.unwrap_or_default(), code, "{done}");
    }
    let calls = lab.sandbox.calls();
    let call = calls.iter().find(|c| c.service == "compute").unwrap();
    assert_eq!(
        (call.name.as_str(), call.code.as_deref()),
        ("compute:zones.list", Some("forbidden"))
    );
}
