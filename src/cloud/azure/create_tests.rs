use serde_json::{Value, json};

use super::*;
use crate::cloud::Cloud;
use crate::cloud::azure::Azure;
use crate::cloud::azure::asked::tests::spec;
use crate::cloud::azure::scripted::{Answer, SUBSCRIPTION, Seen, Server, TOKEN, token};
use crate::error::Kind;
use crate::spec::{InstanceSpec, Spot};

const GROUP: &str = "cml-x-0a1b2c3d4e5f";
const SECOND_GROUP: &str = "cml-x-2-0a1b2c3d4e5f";
const PRINCIPAL: &str = "00000000-0000-0000-0000-00000000000a";

fn size(name: &str) -> Value {
    let capabilities = [
        ("HyperVGenerations", "V1,V2"),
        ("CpuArchitectureType", "x64"),
        ("LowPriorityCapable", "True"),
        ("PremiumIO", "True"),
        ("EncryptionAtHostSupported", "True"),
        ("AcceleratedNetworkingEnabled", "True"),
    ];
    let capabilities = capabilities.map(|(name, value)| json!({"name": name, "value": value}));
    json!({"resourceType": "virtualMachines", "name": name, "capabilities": capabilities,
           "restrictions": []})
}

/// Resource Manager on a good day.
fn usual(seen: &Seen) -> Answer {
    if seen.line == TOKEN {
        return token("t");
    }
    let below = format!("/subscriptions/{SUBSCRIPTION}/");
    let (method, path) = seen.line.split_once(' ').unwrap();
    let path = path.strip_prefix(&below).unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let done = json!({"properties": {"provisioningState": "Succeeded"}});
    match (method, parts.as_slice()) {
        ("GET", [.., "skus"]) => Answer::json(&json!({"value": [
            size("Standard_F8s_v2"), size("Standard_F32s_v2"), size("Standard_D8s_v5")
        ]})),
        ("GET", [.., "versions"]) => Answer::json(&json!([
            {"name": "24.04.202609040", "location": "westus2", "id": "/x", "properties": {
                "hyperVGeneration": "V2", "architecture": "x64",
                "features": [{"name": "SecurityType", "value": "TrustedLaunchSupported"}]}}
        ])),
        ("GET", [.., "permissions"]) => {
            Answer::json(&json!({"value": [{"actions": ["*"], "notActions": []}]}))
        }
        ("GET", [.., "EncryptionAtHost"]) => {
            Answer::json(&json!({"properties": {"state": "Registered"}}))
        }
        ("GET", ["resourceGroups"]) => Answer::json(&json!({"value": []})),
        ("PUT", ["resourceGroups", _]) => Answer::json(&done).status(201),
        ("PUT", [.., "Microsoft.Network", _, _]) => Answer::json(&done).status(201),
        ("PUT", [.., "roleAssignments", _]) => Answer::json(&json!({"id": "/x"})).status(201),
        ("PUT", [.., "virtualMachines", _]) => Answer::json(&json!({
            "identity": {"type": "SystemAssigned", "principalId": PRINCIPAL},
            "properties": {"provisioningState": "Creating"}
        }))
        .status(201)
        .header("Azure-AsyncOperation", seen.url("operations/ok"))
        .header("Retry-After", "0"),
        ("DELETE", [.., "virtualMachines", _] | ["resourceGroups", _]) => Answer::new(202, "")
            .header("Location", seen.url("operations/gone"))
            .header("Retry-After", "0"),
        ("GET", ["", "operations", "ok"]) => Answer::json(&json!({"status": "Succeeded"})),
        ("GET", ["", "operations", "gone"]) => Answer::new(200, ""),
        _ => Answer::refusal(404, "NotFound", path),
    }
}

/// Resource Manager as it is but for some answers.
async fn world(special: impl Fn(&Seen, usize) -> Option<Answer> + Send + Sync + 'static) -> Server {
    Server::start(move |seen, before| special(seen, before).unwrap_or_else(|| usual(seen))).await
}

async fn plan(server: &Server, change: impl FnOnce(&mut InstanceSpec)) -> Result<Arc<dyn Plan>> {
    let (host, http) = server.signed_in();
    let mut spec = spec();
    change(&mut spec);
    Azure::new(host, http).look(&spec).await
}

/// What was changed, in order: method, and the kind and name of the thing.
fn changes(server: &Server) -> Vec<String> {
    let lines = server.order().into_iter();
    let changes = lines.filter(|line| !line.starts_with("GET ") && line != TOKEN);
    changes
        .map(|line| {
            let (method, path) = line.split_once(' ').unwrap();
            let parts: Vec<&str> = path.rsplit('/').collect();
            match parts[1] {
                "roleAssignments" => format!("{method} {}", parts[1]),
                kind => format!("{method} {kind} {}", parts[0]),
            }
        })
        .collect()
}

fn is_machine(seen: &Seen) -> bool {
    seen.line.starts_with("PUT ") && seen.line.contains("/virtualMachines/")
}

fn machines(server: &Server) -> Vec<Value> {
    let all = server.seen().into_iter();
    all.filter(is_machine).map(|seen| seen.json()).collect()
}

#[tokio::test]
async fn a_launch_makes_a_group_its_network_a_machine_and_its_right() {
    let server = world(|_, _| None).await;
    let plan = plan(&server, |spec| {
        spec.metadata = vec![("team".into(), "ml".into())]
    })
    .await
    .unwrap();
    assert_eq!(plan.warnings(), [""; 0]);
    assert_eq!(
        plan.candidates()[0].image,
        "Canonical:ubuntu-24_04-lts:server:24.04.202609040"
    );
    let before = server.order().len();
    let instance = plan.create(&Order::example()).await.unwrap();
    assert_eq!(instance.reference.id, GROUP);
    assert_eq!(instance.reference.region, "westus2");
    assert_eq!((instance.disk_gb, instance.spot), (Some(35), false));
    let mut changes = changes(&server);
    // The network's two parts go out side by side.
    changes[1..3].sort();
    assert_eq!(
        changes,
        [
            format!("PUT resourceGroups {GROUP}"),
            "PUT networkSecurityGroups runner".into(),
            "PUT virtualNetworks runner".into(),
            format!("PUT virtualMachines {GROUP}"),
            "PUT roleAssignments".into(),
        ]
    );
    let group = &server.seen()[before];
    assert_eq!(group.param("api-version").as_deref(), Some("2021-04-01"));
    let tags = &group.json()["tags"];
    assert_eq!(tags["team"], "ml");
    assert_eq!(tags["runner-launch-id"], "0a1b2c3d4e5f6g7h8i9j");
    assert_eq!(tags["runner-launch-name"], "cml-x");
    let machine = &machines(&server)[0];
    assert_eq!(machine["identity"]["type"], "SystemAssigned");
    assert_eq!(&machine["tags"], tags);
    let properties = &machine["properties"];
    assert_eq!(properties["securityProfile"]["encryptionAtHost"], true);
    assert_eq!(
        properties["securityProfile"]["uefiSettings"]["secureBootEnabled"],
        true
    );
    assert_eq!(
        properties["storageProfile"]["imageReference"]["version"],
        "latest"
    );
    let interfaces = &properties["networkProfile"]["networkInterfaceConfigurations"];
    let network =
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network");
    assert_eq!(
        interfaces[0]["properties"]["networkSecurityGroup"]["id"],
        format!("{network}/networkSecurityGroups/runner")
    );
    let key = &properties["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"];
    assert!(key.as_str().unwrap().starts_with("ssh-ed25519 "));
    let last = server
        .seen()
        .into_iter()
        .find(|seen| seen.line.contains("/roleAssignments/"));
    assert_eq!(
        last.unwrap().json(),
        json!({"properties": {
            "roleDefinitionId": format!(
                "/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/\
                 b24988ac-6180-42a0-ab88-20f7382dd24c"
            ),
            "principalId": PRINCIPAL,
            "principalType": "ServicePrincipal",
        }})
    );
    // The same order makes nothing twice.
    let count = server.order().len();
    assert_eq!(
        plan.create(&Order::example()).await.unwrap().reference,
        instance.reference
    );
    assert_eq!(server.order().len(), count);
}

#[tokio::test]
async fn another_region_gets_another_group_and_the_first_one_goes() {
    let server = world(|seen, _| {
        (is_machine(seen) && seen.json()["location"] == "westus2")
            .then(|| Answer::refusal(409, "SkuNotAvailable", "not here"))
    })
    .await;
    let plan = plan(&server, |spec| {
        spec.regions = vec!["us-west".into(), "eu-west".into()]
    })
    .await
    .unwrap();
    let instance = plan.create(&Order::example()).await.unwrap();
    assert_eq!(instance.reference.id, "cml-x-2-0a1b2c3d4e5f");
    assert_eq!(instance.reference.region, "westeurope");
    let deleted = format!("DELETE /subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}");
    let deletions = server.all(&deleted);
    assert_eq!(deletions.len(), 1);
    assert_eq!(
        deletions[0].param("forceDeletionTypes").as_deref(),
        Some("Microsoft.Compute/virtualMachines")
    );
}

#[tokio::test]
async fn a_machine_that_failed_goes_with_its_group() {
    let server = world(|seen, _| {
        if is_machine(seen)
            && seen.json()["properties"]["hardwareProfile"]["vmSize"] == "Standard_F8s_v2"
        {
            let pending = json!({"properties": {"provisioningState": "Creating"},
                                 "identity": {"principalId": PRINCIPAL}});
            return Some(
                Answer::json(&pending)
                    .status(201)
                    .header("Azure-AsyncOperation", seen.url("operations/full"))
                    .header("Retry-After", "0"),
            );
        }
        seen.line.ends_with("/operations/full").then(|| {
            Answer::json(&json!({"status": "Failed", "error": {
                "code": "AllocationFailed", "message": "no capacity"}}))
        })
    })
    .await;
    let plan = plan(&server, |spec| {
        spec.types = vec!["m".into(), "Standard_D8s_v5".into()];
    })
    .await
    .unwrap();
    let instance = plan.create(&Order::example()).await.unwrap();
    assert_eq!(instance.instance_type, "Standard_D8s_v5");
    // Its parts keep their names for minutes: the next one gets a group of its own.
    assert_eq!(instance.reference.id, SECOND_GROUP);
    let changes = changes(&server);
    for change in [
        format!("PUT virtualMachines {GROUP}"),
        format!("DELETE resourceGroups {GROUP}"),
        format!("PUT virtualMachines {SECOND_GROUP}"),
    ] {
        assert!(changes.contains(&change), "{change}: {changes:?}");
    }
}

#[tokio::test]
async fn when_all_is_refused_nothing_stays_and_everything_is_told() {
    let quota = "Operation could not be completed as it results in exceeding approved \
                 standardFSv2Family Cores quota. Additional details - Deployment Model: Resource \
                 Manager, Location: westus2, Current Limit: 10, Current Usage: 8, Additional \
                 Required: 8, (Minimum) New Limit Required: 16.";
    let server = world(move |seen, _| {
        let spot = seen.json()["properties"]["priority"] == "Spot";
        is_machine(seen).then(|| match spot {
            true => Answer::refusal(409, "SkuNotAvailable", "no spot"),
            false => Answer::refusal(409, "OperationNotAllowed", quota),
        })
    })
    .await;
    let plan = plan(&server, |spec| {
        spec.types = vec!["m".into(), "l".into()];
        spec.spot = Some(Spot {
            max_price: Some("0.25".into()),
            fallback: true,
        });
    })
    .await
    .unwrap();
    assert_eq!(plan.candidates().len(), 4);
    let error = plan.create(&Order::example()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Capacity);
    assert!(error.is_refusal());
    let text = error.chain();
    // Sizes of one family share a quota: the second is no way any more.
    assert!(text.contains("3 ways"), "{text}");
    assert!(text.contains("Standard_F8s_v2 (spot) in westus2"), "{text}");
    let hints = error.hints().join("\n");
    assert!(hints.contains("standardFSv2Family"), "{hints}");
    let prices: Vec<Value> = machines(&server)
        .iter()
        .map(|machine| machine["properties"]["billingProfile"]["maxPrice"].clone())
        .collect();
    assert_eq!(prices, [json!(0.25), json!(0.25), Value::Null]);
    assert!(changes(&server).contains(&format!("DELETE resourceGroups {GROUP}")));
}

#[tokio::test]
async fn a_launch_that_is_given_up_takes_its_group_along() {
    // A machine that is never done.
    let server = world(|seen, _| {
        seen.line
            .ends_with("/operations/ok")
            .then(|| Answer::json(&json!({"status": "InProgress"})).header("Retry-After", "1"))
    })
    .await;
    let plan = plan(&server, |_| ()).await.unwrap();
    let order = Order::example();
    let stop = order.stop.clone();
    let creation = tokio::spawn(async move { plan.create(&order).await });
    while machines(&server).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.raise();
    let error = creation.await.unwrap().unwrap_err();
    assert!(error.is_refusal(), "{}", error.chain());
    assert!(error.chain().contains("given up"), "{}", error.chain());
    assert!(changes(&server).contains(&format!("DELETE resourceGroups {GROUP}")));
}

#[tokio::test]
async fn a_right_that_is_refused_ends_the_launch() {
    let server = world(|seen, _| {
        seen.line.contains("/roleAssignments/").then(|| {
            let message = "The client 'x' with object id 'y' does not have authorization to perform \
                           action 'Microsoft.Authorization/roleAssignments/write' over scope '/z'.";
            Answer::refusal(403, "AuthorizationFailed", message)
        })
    })
    .await;
    let plan = plan(&server, |_| ()).await.unwrap();
    let error = plan.create(&Order::example()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.is_refusal());
    let hints = error.hints();
    let condition = hints.iter().find(|hint| hint.contains("condition"));
    assert!(condition.unwrap().contains("jobs can use it"), "{hints:?}");
    assert!(changes(&server).contains(&format!("DELETE resourceGroups {GROUP}")));
}

#[tokio::test]
async fn a_new_identity_is_waited_for() {
    let server = world(|seen, before| {
        (seen.line.contains("/roleAssignments/") && before < 2)
            .then(|| Answer::refusal(400, "PrincipalNotFound", "Principal does not exist"))
    })
    .await;
    let plan = plan(&server, |_| ()).await.unwrap();
    plan.create(&Order::example()).await.unwrap();
    let tries = changes(&server)
        .iter()
        .filter(|change| change.contains("roleAssignments"))
        .count();
    assert_eq!(tries, 3);
}

#[tokio::test]
async fn a_disk_grows_to_what_its_image_needs() {
    let server = world(|seen, before| {
        (is_machine(seen) && before == 0).then(|| {
            let message = "The specified disk size 35 GB is smaller than the size of the \
                           corresponding disk in the VM image: 64 GB. This is not allowed. Please \
                           choose equal or greater size or do not specify an explicit size.";
            Answer::refusal(409, "OperationNotAllowed", message)
        })
    })
    .await;
    let plan = plan(&server, |spec| {
        spec.image = Some("RedHat:RHEL:9-lvm-gen2:latest".into())
    })
    .await
    .unwrap();
    let instance = plan.create(&Order::example()).await.unwrap();
    assert_eq!(instance.disk_gb, Some(64));
    let disk =
        |machine: &Value| machine["properties"]["storageProfile"]["osDisk"]["diskSizeGB"].clone();
    let disks: Vec<Value> = machines(&server).iter().map(disk).collect();
    assert_eq!(disks, [json!(35), json!(64)]);
}

#[tokio::test]
async fn an_unanswered_group_is_nobodys_certainty() {
    // Who is asked to come later may have come before.
    for (status, code) in [(500, "InternalServerError"), (429, "TooManyRequests")] {
        let server = world(move |seen, _| {
            let group = format!("PUT /subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}");
            (seen.line == group).then(|| Answer::refusal(status, code, "oops"))
        })
        .await;
        let plan = plan(&server, |_| ()).await.unwrap();
        tokio::time::pause();
        let error = plan.create(&Order::example()).await.unwrap_err();
        tokio::time::resume();
        assert!(!error.is_refusal(), "{status}: {}", error.chain());
        assert!(changes(&server).contains(&format!("DELETE resourceGroups {GROUP}")));
    }
}
