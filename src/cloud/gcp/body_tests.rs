use serde_json::{Value, json};

use super::*;
use crate::cloud::gcp::sizes;

fn wanted<'a>(machine: &'a Machine, account: Option<&'a Account>) -> Wanted<'a> {
    Wanted {
        name: "cml-x-abcdefghijkl",
        description: "runner-launch abc: cml-x for https://example.com/o/r".into(),
        zone: "us-west1-b",
        machine,
        image: "projects/p/global/images/i",
        disk_gb: 35,
        spot: false,
        labels: Some(BTreeMap::from([("team".into(), "ml".into())])),
        subnetwork: None,
        tag: None,
        account,
        user_data: "#!/bin/sh\n",
        standard_tier: true,
    }
}

fn machine(text: &str) -> Machine {
    sizes::native(text, None).unwrap().0
}

#[test]
fn a_request_says_everything_that_is_promised() {
    let machine = machine("m");
    let body = serde_json::to_value(wanted(&machine, None).body()).unwrap();
    let expected = json!({
        "name": "cml-x-abcdefghijkl",
        "description": "runner-launch abc: cml-x for https://example.com/o/r",
        "machineType": "zones/us-west1-b/machineTypes/e2-custom-8-32768",
        "disks": [{
            "boot": true,
            "autoDelete": true,
            "initializeParams": {
                "sourceImage": "projects/p/global/images/i",
                "diskType": "zones/us-west1-b/diskTypes/pd-balanced",
                "diskSizeGb": "35",
            },
        }],
        "networkInterfaces": [{
            "network": "global/networks/runner-launch",
            "accessConfigs": [{
                "name": "External NAT",
                "type": "ONE_TO_ONE_NAT",
                "networkTier": "STANDARD",
            }],
        }],
        "metadata": {"items": [
            {"key": "startup-script", "value": "#!/bin/sh\n"},
            {"key": "block-project-ssh-keys", "value": "TRUE"},
        ]},
        "scheduling": {
            "provisioningModel": "STANDARD",
            "automaticRestart": true,
        },
        "labels": {"team": "ml"},
    });
    assert_eq!(body, expected);
}

#[test]
fn spot_gpus_accounts_and_tags_are_added() {
    let account = Account::read("a@p.iam.gserviceaccount.com,scopes=compute-rw").unwrap();
    let t4 = machine("m+t4");
    let body = Wanted {
        spot: true,
        tag: Some("runner-launch-ssh"),
        standard_tier: false,
        labels: None,
        ..wanted(&t4, Some(&account))
    };
    let body = serde_json::to_value(body.body()).unwrap();
    let cases = [
        (
            "/scheduling",
            json!({
                "provisioningModel": "SPOT",
                "automaticRestart": false,
                "onHostMaintenance": "TERMINATE",
                "instanceTerminationAction": "DELETE",
            }),
        ),
        (
            "/guestAccelerators",
            json!([{
                "acceleratorType": "zones/us-west1-b/acceleratorTypes/nvidia-tesla-t4",
                "acceleratorCount": 1,
            }]),
        ),
        (
            "/serviceAccounts",
            json!([{
                "email": "a@p.iam.gserviceaccount.com",
                "scopes": ["https://www.googleapis.com/auth/compute"],
            }]),
        ),
        ("/tags", json!({"items": ["runner-launch-ssh"]})),
        (
            "/networkInterfaces/0/accessConfigs/0/networkTier",
            json!("PREMIUM"),
        ),
    ];
    for (path, expected) in cases {
        assert_eq!(body.pointer(path), Some(&expected), "{path}");
    }
    assert_eq!(body.get("labels"), None);
    assert_eq!(body.pointer("/disks/0/initializeParams/labels"), None);
}

#[test]
fn gpus_end_with_their_host_and_are_never_added_to_machines_that_carry_them() {
    for (text, maintenance, added) in [
        ("m+t4", Some("TERMINATE"), true),
        ("m+l4", Some("TERMINATE"), false),
        ("c3-standard-192-metal", Some("TERMINATE"), false),
        ("c4-standard-4", None, false),
    ] {
        let machine = machine(text);
        let body = serde_json::to_value(wanted(&machine, None).body()).unwrap();
        assert_eq!(
            body.pointer("/scheduling/onHostMaintenance")
                .and_then(Value::as_str),
            maintenance,
            "{text}"
        );
        assert_eq!(body.get("guestAccelerators").is_some(), added, "{text}");
    }
}
