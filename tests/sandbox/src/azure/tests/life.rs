//! The life of groups and machines.

use super::*;
use crate::entra::role;

#[tokio::test]
async fn a_group_with_its_machine_is_made_and_deleted_whole() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    // It takes its time to go.
    let script = "#!/bin/sh\ntrap '' TERM\necho hello from $0\nsleep 600\n";
    let body = machine_body("ci-1", script);
    let begun = lab.put_machine("ci-1", &body).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    check("compute.VirtualMachine", &begun.body, Side::Answer).unwrap();
    assert_eq!(begun.body["properties"]["provisioningState"], "Creating");
    assert!(begun.body["identity"]["principalId"].is_string());
    assert!(begun.body["properties"]["osProfile"]["customData"].is_null());
    // The same once more is the same machine.
    let again = lab.put_machine("ci-1", &body).await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(
        again.body["properties"]["vmId"],
        begun.body["properties"]["vmId"]
    );
    assert_eq!(lab.follow(&begun).await["status"], "Succeeded");
    assert_eq!(lab.follow(&again).await["status"], "Succeeded");
    let at = format!("{}?$expand=instanceView", lab.machine("CI-1"));
    let got = lab.get(&at, COMPUTE).await;
    check("compute.VirtualMachine", &got.body, Side::Answer).unwrap();
    let statuses = &got.body["properties"]["instanceView"]["statuses"];
    assert_eq!(statuses[1]["code"], "PowerState/running");
    // Its address is found by way of its interface.
    let nic = got.body["properties"]["networkProfile"]["networkInterfaces"][0]["id"].clone();
    let url = format!(
        "{}{}?api-version={NETWORK}",
        lab.azure.url(),
        nic.as_str().unwrap()
    );
    let nic = lab.at("GET", &url, &Value::Null).await;
    let address = &nic.body["properties"]["ipConfigurations"][0]["properties"]["publicIPAddress"];
    let url = format!(
        "{}{}?api-version={NETWORK}",
        lab.azure.url(),
        address["id"].as_str().unwrap()
    );
    let address = lab.at("GET", &url, &Value::Null).await;
    let view = &lab.azure.live()[0];
    assert_eq!(
        address.body["properties"]["ipAddress"].as_str(),
        view.public_ip.as_deref()
    );
    assert_eq!(view.state, "running");
    assert_eq!(
        view.rules.as_deref().unwrap(),
        ["Tcp 22 203.0.113.0/24,198.51.100.7/32"]
    );
    assert!(view.all_deleted_with_it && view.secure_boot && !view.password);
    lab.until("the script runs", |azure| {
        azure.console("ci-1").contains("hello from")
    })
    .await;
    let path = "/resourceGroups/ci-1";
    let deleted = lab.call("DELETE", path, RESOURCES, &Value::Null).await;
    assert_eq!(deleted.status, 202, "{deleted:?}");
    let got = lab.get(path, RESOURCES).await;
    assert_eq!(got.body["properties"]["provisioningState"], "Deleting");
    let body = json!({"location": "westus2"});
    for got in [
        lab.call("PUT", path, RESOURCES, &body).await,
        lab.call("PUT", &lab.guard("ci-1"), NETWORK, &guard_body("westus2"))
            .await,
    ] {
        assert_eq!((got.status, got.code()), (409, "ResourceGroupBeingDeleted"));
    }
    let location = deleted.header("location").to_owned();
    let start = Instant::now();
    loop {
        let got = lab.at("GET", &location, &Value::Null).await;
        if got.status != 202 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        lab.get(path, RESOURCES).await.code(),
        "ResourceGroupNotFound"
    );
    assert_eq!(lab.azure.live(), []);
    assert_eq!(lab.azure.leaks(), Vec::<String>::new());
}

/// What a machine does to give itself back, with the identity that Azure gave it.
const GIVE_BACK: &str = r#"#!/bin/sh
imds="$AZURE_POD_IDENTITY_AUTHORITY_HOST/metadata"
token=$(curl -s -H Metadata:true "$imds/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com/" | sed 's/.*"access_token": *"\([^"]*\)".*/\1/')
while :; do
    status=$(curl -s -o /dev/null -w '%{http_code}' -X DELETE -H "Authorization: Bearer $token" "URL")
    echo "answered $status"
    [ "$status" = 202 ] && break
    sleep 0.1
done
sleep 600
"#;

#[tokio::test]
async fn a_machine_deletes_its_own_group_once_its_role_counts() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let url = format!(
        "{}{}?api-version={RESOURCES}&forceDeletionTypes=Microsoft.Compute/virtualMachines",
        lab.azure.url(),
        lab.azure.group_id("ci-1")
    );
    let body = machine_body("ci-1", &GIVE_BACK.replace("URL", &url));
    let begun = lab.put_machine("ci-1", &body).await;
    lab.until("it has no right yet", |azure| {
        azure.console("ci-1").contains("answered 403")
    })
    .await;
    let principal = begun.body["identity"]["principalId"].clone();
    let assignment = "/resourceGroups/ci-1/providers/Microsoft.Authorization/roleAssignments/\
                      3f8a1b52-0c7d-4e8b-9f26-a95b0c4e7d31";
    let body = json!({"properties": {
        "roleDefinitionId": format!(
            "/providers/Microsoft.Authorization/roleDefinitions/{}", role::CONTRIBUTOR
        ),
        "principalId": principal,
        "principalType": "ServicePrincipal",
    }});
    let granted = Instant::now();
    let got = lab.call("PUT", assignment, AUTHORIZATION, &body).await;
    assert_eq!(got.status, 201, "{got:?}");
    check("authorization.RoleAssignment", &got.body, Side::Answer).unwrap();
    let got = lab.call("PUT", assignment, AUTHORIZATION, &body).await;
    assert_eq!(got.status, 200, "{got:?}");
    let [(held, _)] = &lab.azure.live()[0].roles[..] else {
        panic!("not one role");
    };
    assert_eq!(held, role::CONTRIBUTOR);
    lab.until("the group goes", |azure| azure.groups().is_empty())
        .await;
    let console = lab.azure.console("ci-1");
    assert!(console.contains("answered 202"), "{console}");
    assert!(granted.elapsed() >= Duration::from_millis(400), "{console}");
    let by_machine = |call: &&crate::Call| {
        call.name == "arm:DELETE resourceGroups"
            && call.peer == crate::Caller::Instance("ci-1".into())
    };
    let calls = lab.sandbox.calls();
    let statuses: Vec<_> = calls.iter().filter(by_machine).map(|c| c.status).collect();
    assert_eq!(statuses.first(), Some(&Some(403)), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&Some(202)), "{statuses:?}");
    assert_eq!(lab.azure.leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_that_switches_itself_off_is_still_paid_for() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let body = machine_body("ci-1", "#!/bin/sh\nsystemctl poweroff\nsleep 600\n");
    lab.put_machine("ci-1", &body).await;
    lab.until("it is off", |azure| azure.live()[0].state == "stopped")
        .await;
    let got = lab
        .get(
            "/providers/Microsoft.Compute/virtualMachines?statusOnly=true",
            COMPUTE,
        )
        .await;
    let listed = &got.body["value"][0];
    assert_eq!(
        listed["properties"]["instanceView"]["statuses"][1]["code"],
        "PowerState/stopped"
    );
    assert!(
        listed["id"]
            .as_str()
            .unwrap()
            .contains("/resourceGroups/CI-1/")
    );
    let leaks = lab.azure.leaks();
    assert!(
        leaks.contains(&"machine ci-1 is stopped".to_owned()),
        "{leaks:?}"
    );
    lab.azure.deallocate("ci-1");
    lab.until("it costs nothing", |azure| {
        azure.live()[0].state == "deallocated"
    })
    .await;
    let deleted = lab
        .call("DELETE", &lab.machine("ci-1"), COMPUTE, &Value::Null)
        .await;
    assert_eq!(lab.follow(&deleted).await["status"], "Succeeded");
    // What goes with it is gone, and the rest of the group is left.
    let mut left = lab.azure.groups()[0].resources.clone();
    left.sort_unstable();
    assert_eq!(left, ["networkSecurityGroups/nsg", "virtualNetworks/net"]);
}

#[tokio::test]
async fn an_evicted_machine_is_told_before_and_its_group_stays() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let script = r#"#!/bin/sh
events="$AZURE_POD_IDENTITY_AUTHORITY_HOST/metadata/scheduledevents?api-version=2020-07-01"
while :; do
    id=$(curl -s -H Metadata:true "$events" | sed -n 's/.*"EventId": *"\([^"]*\)".*/\1/p')
    [ -n "$id" ] && break
    sleep 0.3
done
curl -s -H Metadata:true -d "{\"StartRequests\":[{\"EventId\":\"$id\"}]}" "$events"
sleep 600
"#;
    let mut body = machine_body("ci-1", script);
    let properties = body["properties"].as_object_mut().unwrap();
    properties.insert("priority".into(), "Spot".into());
    properties.insert("evictionPolicy".into(), "Delete".into());
    properties.insert("billingProfile".into(), json!({"maxPrice": -1}));
    let begun = lab.put_machine("ci-1", &body).await;
    assert_eq!(lab.follow(&begun).await["status"], "Succeeded");
    let view = &lab.azure.live()[0];
    assert!(view.spot && view.deleted_when_evicted);
    assert_eq!(view.max_price, Some(-1.0));
    lab.azure.preempt("ci-1");
    lab.until("it is evicted", |azure| azure.live().is_empty())
        .await;
    assert_eq!(lab.azure.acknowledged("ci-1").len(), 1);
    assert_eq!(lab.azure.groups().len(), 1);
    assert_eq!(lab.get(&lab.machine("ci-1"), COMPUTE).await.status, 404);
}

#[tokio::test]
async fn the_serial_log_is_read_by_a_signed_address() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let body = machine_body("ci-1", "#!/bin/sh\necho printed\nsleep 600\n");
    let begun = lab.put_machine("ci-1", &body).await;
    lab.follow(&begun).await;
    lab.until("it prints", |azure| {
        azure.console("ci-1").contains("printed")
    })
    .await;
    let action = format!("{}/retrieveBootDiagnosticsData", lab.machine("ci-1"));
    let got = lab.call("POST", &action, COMPUTE, &Value::Null).await;
    assert_eq!(got.status, 200, "{got:?}");
    let model = "compute.RetrieveBootDiagnosticsDataResult";
    check(model, &got.body, Side::Answer).unwrap();
    let url = got.body["serialConsoleLogBlobUri"].as_str().unwrap();
    let log = send(url, "GET", "", "").await;
    assert!(log.body.as_str().unwrap().contains("printed"), "{log:?}");
    // A token is no business of the storage, and a signature is for one address.
    for (url, headers) in [
        (url.to_owned(), "Authorization: Bearer x\r\n"),
        (url.replace("sig=", "sig=A"), ""),
        (url.split('?').next().unwrap().to_owned(), ""),
    ] {
        let got = send(&url, "GET", headers, "").await;
        assert_eq!(got.status, 403, "{got:?}");
    }
    let secrets = lab.sandbox.secrets();
    assert!(secrets.iter().any(|secret| url.contains(secret.as_str())));
}
