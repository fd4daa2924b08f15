use super::*;

const ZONE: &str = "us-west1-b";

#[tokio::test]
async fn everything_asked_for_is_given() {
    let lab = lab().await;
    let mut body = least(ZONE, "cml-1-abc");
    for (path, value) in [
        (
            "machineType",
            json!(
                "https://www.googleapis.com/compute/v1/projects/octo-ci/zones/us-west1-b/machineTypes/n1-standard-4"
            ),
        ),
        (
            "description",
            json!("runner-launch abc: cml-1 for https://github.com/o/r"),
        ),
        ("labels", json!({"runner-launch": "0-3-0"})),
        ("disks.0.initializeParams.labels", json!({"team": "ml"})),
        ("disks.0.initializeParams.diskSizeGb", json!("35")),
        (
            "disks.0.initializeParams.diskType",
            json!("zones/us-west1-b/diskTypes/pd-balanced"),
        ),
        ("tags", json!({"items": ["runner-launch-ssh"]})),
        (
            "metadata",
            json!({"items": [{"key": "block-project-ssh-keys", "value": "TRUE"}]}),
        ),
        (
            "networkInterfaces.0.accessConfigs",
            json!([{"type": "ONE_TO_ONE_NAT", "networkTier": "STANDARD"}]),
        ),
        (
            "serviceAccounts",
            json!([{
                "email": "ci-runner@octo-ci.iam.gserviceaccount.com",
                "scopes": ["https://www.googleapis.com/auth/compute"],
            }]),
        ),
        (
            "guestAccelerators",
            json!([{
                "acceleratorType": "zones/us-west1-b/acceleratorTypes/nvidia-tesla-t4",
                "acceleratorCount": 1,
            }]),
        ),
        (
            "scheduling",
            json!({
                "provisioningModel": "SPOT",
                "instanceTerminationAction": "DELETE",
                "automaticRestart": false,
                "onHostMaintenance": "TERMINATE",
            }),
        ),
    ] {
        body = with(body, path, value);
    }
    lab.gce.allow("compute.disks.setLabels");
    let (status, done) = lab.insert(ZONE, &body).await;
    assert_eq!((status, &done["progress"]), (200, &json!(100)), "{done}");
    assert!(done["error"].is_null() && done["operationType"] == "insert");
    let view = lab.gce.instances().remove(0);
    assert_eq!(
        (view.name.as_str(), view.zone.as_str(), view.status.as_str()),
        ("cml-1-abc", ZONE, "RUNNING")
    );
    assert_eq!(view.machine_type, "n1-standard-4");
    assert_eq!(view.accelerators, [("nvidia-tesla-t4".to_owned(), 1)]);
    assert_eq!(view.labels["runner-launch"], "0-3-0");
    assert_eq!(view.disk_labels["team"], "ml");
    assert_eq!((view.disk_gb, view.disk_type.as_str()), (35, "pd-balanced"));
    assert!(view.spot && view.auto_delete && !view.automatic_restart);
    assert_eq!(view.on_host_maintenance, "TERMINATE");
    assert_eq!(view.tags, ["runner-launch-ssh"]);
    assert_eq!(view.metadata["block-project-ssh-keys"], "TRUE");
    assert!(
        view.image.contains("ubuntu-2404-noble-amd64"),
        "{}",
        view.image
    );
    let (email, scopes) = view.service_account.unwrap();
    assert_eq!(email, lab.gce.runner_account());
    assert_eq!(scopes, ["https://www.googleapis.com/auth/compute"]);
    let address = view.external_ip.unwrap();
    let (_, instance) = lab.get("zones/us-west1-b/instances/cml-1-abc").await;
    assert_eq!(
        instance["networkInterfaces"][0]["accessConfigs"][0]["natIP"],
        address.as_str()
    );
    assert_eq!(instance["status"], "RUNNING");
    assert_eq!(instance["disks"][0]["diskSizeGb"], "35");
    assert_eq!(
        instance["scheduling"]["instanceTerminationAction"],
        "DELETE"
    );
    assert!(lab.sandbox.shutdown().await.len() == 1);
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let lab = lab().await;
    let machine = |name: &str| json!(format!("zones/{ZONE}/machineTypes/{name}"));
    let t4 = json!([{
        "acceleratorType": format!("zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4"),
        "acceleratorCount": 1,
    }]);
    let items = |text: String| json!({"items": [{"key": "startup-script", "value": text}]});
    let long = "x".repeat(256 * 1024 + 1);
    let image = |path: &str| json!(format!("projects/{path}"));
    let source = "disks.0.initializeParams.sourceImage";
    let kind = "disks.0.initializeParams.diskType";
    let disk = |name: &str| json!(format!("zones/{ZONE}/diskTypes/{name}"));
    let badly = |changes: &[(&str, Value)]| {
        changes
            .iter()
            .fold(least(ZONE, "a"), |body, (path, value)| {
                with(body, path, value.clone())
            })
    };
    for (changes, reason, words) in [
        // As a whole.
        (
            vec![("name", json!(null))],
            "required",
            "Required field 'resource.name' not",
        ),
        (
            vec![("name", json!("Upper"))],
            "invalid",
            "'resource.name': 'Upper'. Must be a match",
        ),
        (
            vec![("colour", json!("red"))],
            "badRequest",
            "Unknown name \"colour\" at 'resource'",
        ),
        (
            vec![("disks.0.initializeParams.size", json!(1))],
            "badRequest",
            "Unknown name \"size\" at 'resource.disks[0].initializeParams'",
        ),
        (
            vec![("name", json!(7))],
            "badRequest",
            "Invalid value at 'resource.name' (TYPE_STRING), 7",
        ),
        (
            vec![("canIpForward", json!("maybe"))],
            "badRequest",
            "(TYPE_BOOL), \"maybe\"",
        ),
        (
            vec![("disks.0.initializeParams.diskSizeGb", json!("big"))],
            "badRequest",
            "(TYPE_INT64), \"big\"",
        ),
        (
            vec![("status", json!("RUNNING"))],
            "invalid",
            "The field is output only.",
        ),
        (
            vec![("labels", json!({"Upper": "x"}))],
            "invalid",
            "Label key 'Upper' violates",
        ),
        (
            vec![("labels", json!({"k": "0.3"}))],
            "invalid",
            "Label value '0.3' violates",
        ),
        (
            vec![("tags", json!({"items": ["A"]}))],
            "invalid",
            "resource.tags.items[0]",
        ),
        (
            vec![("metadata", items(long))],
            "badRequest",
            "'resource.metadata.items[0].value' is too large: maximum size 262144 character(s)",
        ),
        (
            vec![("deletionProtection", json!(true))],
            "invalid",
            "not part of this sandbox",
        ),
        // Machine types and GPUs.
        (
            vec![("machineType", machine("m7-nonsense"))],
            "invalid",
            "Machine type with name 'm7-nonsense' does not exist in zone 'us-west1-b'.",
        ),
        (
            vec![("machineType", json!("e2-medium"))],
            "invalid",
            "The URL is malformed.",
        ),
        (
            vec![
                ("guestAccelerators", t4.clone()),
                ("scheduling", json!({"onHostMaintenance": "TERMINATE"})),
            ],
            "badRequest",
            "[nvidia-tesla-t4, e2-standard-2] features are not compatible for creating instance.",
        ),
        (
            vec![
                ("machineType", machine("n1-standard-4")),
                ("guestAccelerators", t4),
            ],
            "badRequest",
            "Instances with guest accelerators do not support live migration.",
        ),
        (
            vec![("machineType", machine("g2-standard-4"))],
            "badRequest",
            "pd-standard disk type cannot be used by g2-standard-4 machine type.",
        ),
        (
            vec![
                ("machineType", machine("g2-standard-4")),
                (kind, disk("pd-balanced")),
            ],
            "badRequest",
            "Instances with guest accelerators do not support live migration.",
        ),
        // The disk.
        (vec![("disks", json!([]))], "required", "resource.disks"),
        (
            vec![("disks.0.initializeParams.diskSizeGb", json!(9))],
            "invalid",
            "Requested disk size cannot be smaller than the image size (10 GB)",
        ),
        (
            vec![
                ("machineType", machine("c4-standard-2")),
                (kind, disk("pd-balanced")),
            ],
            "badRequest",
            "pd-balanced disk type cannot be used by c4-standard-2 machine type.",
        ),
        (
            vec![(kind, disk("hyperdisk-balanced"))],
            "badRequest",
            "hyperdisk-balanced disk type cannot be used by e2-standard-2 machine type.",
        ),
        (
            vec![
                ("machineType", machine("c4a-standard-2")),
                (kind, disk("hyperdisk-balanced")),
            ],
            "badRequest",
            "Requested boot disk architecture (X86_64) is not compatible with machine type \
             architecture (ARM64).",
        ),
        (
            vec![(
                source,
                image("ubuntu-os-cloud/global/images/family/ubuntu-2604-nothing"),
            )],
            "invalid",
            "The referenced image resource cannot be found.",
        ),
        (
            vec![(source, image("octo-ci/global/images/ci-image-7"))],
            "forbidden",
            "Required 'compute.images.useReadOnly' permission for \
             'projects/octo-ci/global/images/ci-image-7'",
        ),
        // Its treatment.
        (
            vec![(
                "scheduling",
                json!({"provisioningModel": "SPOT", "automaticRestart": true}),
            )],
            "invalid",
            "Scheduling must have preemptible be false when AutomaticRestart is true.",
        ),
        (
            vec![(
                "scheduling",
                json!({"provisioningModel": "SPOT", "onHostMaintenance": "MIGRATE"}),
            )],
            "invalid",
            "Scheduling must have preemptible be false when OnHostMaintenance isn't TERMINATE.",
        ),
        (
            vec![("scheduling", json!({"instanceTerminationAction": "DELETE"}))],
            "badRequest",
            "You cannot specify a termination action",
        ),
        (
            vec![("scheduling", json!({"provisioningModel": "CHEAP"}))],
            "invalid",
            "'resource.scheduling.provisioningModel': 'CHEAP'. Must be one of",
        ),
        // Its network and its account.
        (
            vec![("networkInterfaces.0.network", json!("global/networks/none"))],
            "invalid",
            "The referenced network resource cannot be found.",
        ),
        (
            vec![(
                "serviceAccounts",
                json!([{"email": "ci-runner@octo-ci.iam.gserviceaccount.com", "scopes": ["compute-rw"]}]),
            )],
            "invalid",
            "The scope is invalid.",
        ),
    ] {
        let body = badly(&changes);
        let (status, answer) = lab.insert(ZONE, &body).await;
        let (found, message) = refusal(&answer);
        let expected = if reason == "forbidden" { 403 } else { 400 };
        assert_eq!((status, found), (expected, reason), "{answer}");
        assert!(message.contains(words), "{message}\nhas not: {words}");
    }
    let (status, answer) = lab.insert("us-west1", &least(ZONE, "a")).await;
    assert_eq!(status, 400);
    assert_eq!(
        refusal(&answer).1,
        "Invalid value for field 'zone': 'us-west1'. Unknown zone."
    );
    let k80 = with(
        with(least(ZONE, "a"), "machineType", machine("custom-8-53248")),
        "guestAccelerators",
        json!([{"acceleratorType": format!("zones/{ZONE}/acceleratorTypes/nvidia-tesla-k80"), "acceleratorCount": 1}]),
    );
    let (status, answer) = lab.insert(ZONE, &k80).await;
    assert_eq!((status, refusal(&answer).0), (404, "notFound"));
    assert!(lab.gce.instances().is_empty());
}

#[tokio::test]
async fn hardware_goes_with_what_it_takes() {
    let lab = lab().await;
    let cases = [
        (
            "us-central1-a",
            "c4a-standard-2",
            "hyperdisk-balanced",
            "ubuntu-2404-lts-arm64",
        ),
        (
            "us-central1-a",
            "t2a-standard-4",
            "pd-balanced",
            "ubuntu-2204-lts-arm64",
        ),
        (
            "us-central1-a",
            "n4-standard-2",
            "hyperdisk-balanced",
            "ubuntu-2204-lts",
        ),
        (
            "us-central1-a",
            "g2-standard-8",
            "pd-balanced",
            "ubuntu-2404-lts-amd64",
        ),
        (
            "us-west1-b",
            "n2-custom-64-262144",
            "pd-balanced",
            "ubuntu-2404-lts-amd64",
        ),
    ];
    for (zone, machine_type, disk, family) in cases {
        let mut body = least(zone, machine_type);
        body["machineType"] = json!(format!("zones/{zone}/machineTypes/{machine_type}"));
        body["disks"][0]["initializeParams"] = json!({
            "sourceImage": format!("projects/ubuntu-os-cloud/global/images/family/{family}"),
            "diskType": format!("zones/{zone}/diskTypes/{disk}"),
        });
        body["scheduling"] = json!({"onHostMaintenance": "TERMINATE"});
        let (status, done) = lab.insert(zone, &body).await;
        assert_eq!((status, &done["error"]), (200, &Value::Null), "{done}");
    }
    let architectures: Vec<String> = lab
        .gce
        .live()
        .into_iter()
        .map(|instance| instance.architecture)
        .collect();
    assert_eq!(
        architectures,
        ["ARM64", "ARM64", "X86_64", "X86_64", "X86_64"]
    );
    let carried = &lab.gce.live()[3].accelerators;
    assert_eq!(carried, &[("nvidia-l4".to_owned(), 1)]);
}

#[tokio::test]
async fn each_part_wants_its_permission() {
    let full = {
        let mut body = least(ZONE, "a");
        body["labels"] = json!({"k": "v"});
        body["tags"] = json!({"items": ["t"]});
        body["metadata"] = json!({"items": [{"key": "k", "value": "v"}]});
        body["networkInterfaces"][0]["accessConfigs"] = json!([{"type": "ONE_TO_ONE_NAT"}]);
        body["serviceAccounts"] = json!([{
            "email": "ci-runner@octo-ci.iam.gserviceaccount.com",
            "scopes": ["https://www.googleapis.com/auth/compute"],
        }]);
        body
    };
    let instance = "projects/octo-ci/zones/us-west1-b/instances/a";
    let disk = "projects/octo-ci/zones/us-west1-b/disks/a";
    let subnetwork = "projects/octo-ci/regions/us-west1/subnetworks/default";
    for (permission, resource) in [
        ("compute.instances.create", instance),
        ("compute.disks.create", disk),
        ("compute.subnetworks.use", subnetwork),
        ("compute.subnetworks.useExternalIp", subnetwork),
        ("compute.instances.setMetadata", instance),
        ("compute.instances.setTags", instance),
        ("compute.instances.setLabels", instance),
        ("compute.instances.setServiceAccount", instance),
    ] {
        let lab = lab().await;
        lab.gce.deny(permission);
        let (status, answer) = lab.insert(ZONE, &full).await;
        let words = format!("Required '{permission}' permission for '{resource}'");
        assert_eq!(
            (status, refusal(&answer)),
            (403, ("forbidden", words.as_str()))
        );
    }
    let lab = lab().await;
    let labelled = with(
        full,
        "disks.0.initializeParams.labels",
        json!({"team": "ml"}),
    );
    let (status, answer) = lab.insert(ZONE, &labelled).await;
    assert_eq!(status, 403);
    assert!(refusal(&answer).1.contains("compute.disks.setLabels"));
}
