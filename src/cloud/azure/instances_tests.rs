use serde_json::json;

use super::*;
use crate::cloud::azure::scripted::{Answer, SUBSCRIPTION, Seen, Server, TOKEN, token};
use crate::host::Host;

const GROUP: &str = "cml-x-0a1b2c3d4e5f";

fn read(provisioning: &str, power: Option<&str>) -> Machine {
    let power = power.map(|state| json!({"code": format!("PowerState/{state}"), "level": "Info"}));
    let statuses: Vec<serde_json::Value> = power.into_iter().collect();
    serde_json::from_value(json!({
        "id": format!("/subscriptions/s/resourceGroups/{GROUP}/providers/Microsoft.Compute/virtualMachines/{GROUP}"),
        "location": "westus2",
        "tags": {"runner-launch": "1", "runner-launch-id": "l", "runner-launch-name": "cml-x",
                 "Runner-Launch-Serves": "https://github.com/o/r"},
        "properties": {
            "provisioningState": provisioning,
            "timeCreated": "2026-01-01T00:00:00.1234567+00:00",
            "priority": "Spot",
            "hardwareProfile": {"vmSize": "Standard_F8s_v2"},
            "storageProfile": {
                "imageReference": {"publisher": "Canonical", "offer": "ubuntu-24_04-lts",
                    "sku": "server", "version": "latest", "exactVersion": "24.04.1"},
                "osDisk": {"diskSizeGB": 35, "osType": "Linux"}},
            "instanceView": {"statuses": statuses}
        }
    }))
    .unwrap()
}

#[test]
fn states_are_told() {
    use InstanceState::{Ending, Pending, Running, Stopped};
    let cases = [
        ("Creating", None, Pending),
        ("Creating", Some("starting"), Pending),
        ("Creating", Some("running"), Running),
        ("Succeeded", Some("running"), Running),
        ("Updating", Some("running"), Running),
        ("Succeeded", Some("stopped"), Stopped),
        ("Succeeded", Some("deallocated"), Stopped),
        ("Succeeded", Some("deallocating"), Stopped),
        ("Failed", None, Stopped),
        ("Deleting", Some("running"), Ending),
    ];
    for (provisioning, power, expected) in cases {
        assert_eq!(
            read(provisioning, power).state(),
            expected,
            "{provisioning} {power:?}"
        );
    }
}

#[test]
fn a_machine_is_read() {
    let machine = read("Succeeded", Some("running"));
    assert_eq!(machine.group(), Some(GROUP));
    let instance = machine.instance(GROUP, Some("192.0.2.1".into()));
    assert!(instance.is_ours && instance.spot);
    assert_eq!(instance.name.as_deref(), Some("cml-x"));
    assert_eq!(instance.serves.as_deref(), Some("https://github.com/o/r"));
    assert_eq!(instance.image, "Canonical:ubuntu-24_04-lts:server:24.04.1");
    assert_eq!(instance.disk_gb, Some(35));
    assert_eq!(instance.launch_time.unwrap().as_second(), 1_767_225_600);
}

#[test]
fn a_group_without_a_machine_is_on_its_way_up_or_left_over() {
    let read = |state: &str| -> Group {
        serde_json::from_value(json!({
            "name": GROUP, "location": "westus2",
            "tags": {"runner-launch": "1", "runner-launch-id": "l",
                     "runner-launch-time": "2026-01-01T00:00:00Z"},
            "properties": {"provisioningState": state}}))
        .unwrap()
    };
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let (soon, later) = (at("2026-01-01T00:01:00Z"), at("2026-01-01T00:03:00Z"));
    assert_eq!(
        read("Succeeded").instance(soon).state,
        InstanceState::Pending
    );
    let left = read("Succeeded").instance(later);
    assert_eq!(left.state, InstanceState::Stopped);
    assert_eq!(left.launch_time, Some(at("2026-01-01T00:00:00Z")));
    assert!(left.is_ours && left.reason.is_some());
    assert_eq!(read("Deleting").instance(soon).state, InstanceState::Ending);
}

async fn client(
    script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
) -> (Server, Client) {
    let server = Server::start(move |seen, before| match seen.line.as_str() {
        TOKEN => token("t"),
        _ => script(seen, before),
    })
    .await;
    let (host, http) = server.signed_in();
    (server, Client::new(host, http))
}

fn reference() -> InstanceRef {
    InstanceRef {
        id: GROUP.into(),
        region: "westus2".into(),
    }
}

#[tokio::test]
async fn gone_and_going_are_success() {
    for (status, code) in [
        (404, "ResourceGroupNotFound"),
        (409, "ResourceGroupBeingDeleted"),
    ] {
        let (_server, client) = client(move |_, _| Answer::refusal(status, code, "")).await;
        destroy(&client, &reference()).await.unwrap();
    }
    let (_server, client) = client(|_, _| Answer::refusal(409, "ScopeLocked", "a lock")).await;
    let error = destroy(&client, &reference()).await.unwrap_err();
    assert!(
        error
            .hints()
            .iter()
            .any(|hint| hint.contains("costs money"))
    );
}

#[tokio::test]
async fn a_deletion_that_fails_early_is_heard_of() {
    let (_server, client) = client(|seen, _| match seen.line.starts_with("DELETE ") {
        true => Answer::new(202, "")
            .header("Azure-AsyncOperation", seen.url("operations/x"))
            .header("Retry-After", "0"),
        false => Answer::json(&json!({"status": "Failed", "error": {
            "code": "ScopeLocked", "message": "a lock"}})),
    })
    .await;
    let error = destroy(&client, &reference()).await.unwrap_err();
    assert!(error.chain().contains("ScopeLocked"), "{}", error.chain());
}

#[tokio::test]
async fn a_deletion_that_nobody_may_look_at_was_accepted() {
    let (server, client) = client(|seen, _| match seen.line.starts_with("DELETE ") {
        true => Answer::new(202, "")
            .header("Location", seen.url("operationresults/x"))
            .header("Retry-After", "0"),
        false => Answer::refusal(403, "AuthorizationFailed", "no"),
    })
    .await;
    destroy(&client, &reference()).await.unwrap();
    assert_eq!(server.all("GET /operationresults/x").len(), 1);
    let (_server, client) =
        self::client(|_, _| Answer::refusal(403, "AuthorizationFailed", "no")).await;
    destroy(&client, &reference()).await.unwrap_err();
}

#[tokio::test]
async fn lists_put_groups_machines_and_addresses_together() {
    let (server, client) = client(|seen, _| {
        let id = |group: &str, kind: &str| {
            format!("/subscriptions/s/resourceGroups/{group}/providers/{kind}/x")
        };
        let tags = json!({"runner-launch": "1", "runner-launch-id": "l"});
        let group = |name: &str, region: &str| {
            json!({"name": name, "location": region, "tags": tags,
                   "properties": {"provisioningState": "Succeeded"}})
        };
        let line = seen.line.as_str();
        Answer::json(&if line.ends_with("/resourceGroups") {
            json!({"value": [group("a", "westus2"), group("b", "westus2"), group("c", "eastus"),
                {"name": "d", "location": "westus2", "tags": {"runner-launch": "mine"}},
                {"name": "e", "location": null, "tags": null, "properties": null}]})
        } else if line.ends_with("/publicIPAddresses") {
            json!({"value": [{"id": id("A", "Microsoft.Network/publicIPAddresses"),
                              "properties": {"ipAddress": "192.0.2.1"}}]})
        } else if seen.param("statusOnly").is_some() {
            json!({"value": [{"id": id("A", "Microsoft.Compute/virtualMachines"),
                "properties": {"instanceView": {"statuses": [{"code": "PowerState/running"}]}}}]})
        } else {
            json!({"value": [{"id": id("A", "Microsoft.Compute/virtualMachines"),
                "location": "westus2", "tags": tags,
                "properties": {"provisioningState": "Succeeded",
                    "hardwareProfile": {"vmSize": "Standard_F8s_v2"}}},
                {"id": id("E", "Microsoft.Compute/virtualMachines"), "tags": null,
                 "properties": {"hardwareProfile": null, "storageProfile": {"osDisk": null}}}]})
        })
    })
    .await;
    let found = list(&client, "westus2", None).await.unwrap();
    let seen: Vec<(&str, InstanceState, Option<&str>)> = found
        .iter()
        .map(|known| {
            (
                known.reference.id.as_str(),
                known.state,
                known.ip.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("a", InstanceState::Running, Some("192.0.2.1")),
            ("b", InstanceState::Stopped, None),
        ]
    );
    let before = server.order().len();
    // To be deleted, nothing needs to be known of what is inside.
    assert_eq!(list(&client, "westus2", Some("l")).await.unwrap().len(), 3);
    let asked = &server.seen()[before..];
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].param("$filter").as_deref(),
        Some("tagName eq 'runner-launch-id' and tagValue eq 'l'")
    );
    assert_eq!(
        asked[0].line,
        format!("GET /subscriptions/{SUBSCRIPTION}/resourceGroups")
    );
}

#[tokio::test]
async fn the_console_is_read_without_a_token() {
    let (server, client) = client(|seen, _| match seen.line.starts_with("POST ") {
        true => Answer::json(&json!({"serialConsoleLogBlobUri": seen.url("log?sig=secret")})),
        false => Answer::new(200, "hello\r\n"),
    })
    .await;
    let text = console(&client, &reference()).await.unwrap();
    assert_eq!(text.as_deref(), Some("hello"));
    let read = server.all("GET /log");
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].header("authorization"), None);
    assert_eq!(read[0].param("sig").as_deref(), Some("secret"));
}

#[tokio::test]
async fn a_machine_that_is_gone_leaves_its_group_to_be_seen() {
    let now = Host::fixed::<&str, &str>([]).now().to_string();
    for (made, expected) in [
        ("2020-01-01T00:00:00Z", Some(InstanceState::Stopped)),
        // It may only be about to be there.
        (now.as_str(), None),
    ] {
        let group = json!({"name": GROUP, "location": "westus2",
            "tags": {"runner-launch": "1", "runner-launch-id": "l", "runner-launch-time": made},
            "properties": {"provisioningState": "Succeeded"}});
        let (_server, client) =
            client(
                move |seen, _| match seen.line.ends_with(&format!("/resourceGroups/{GROUP}")) {
                    true => Answer::json(&group),
                    false => Answer::refusal(404, "ResourceNotFound", ""),
                },
            )
            .await;
        let seen = inspect(&client, &reference()).await.unwrap();
        assert_eq!(seen.map(|seen| seen.state), expected, "{made}");
    }
}
