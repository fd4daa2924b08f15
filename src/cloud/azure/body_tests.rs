use super::*;
use serde_json::{Value, json};

const IDENTITY: &str = "/subscriptions/s/resourceGroups/ci/providers/Microsoft.ManagedIdentity/userAssignedIdentities/jobs";

fn reference() -> Reference {
    super::super::images::Market::default(
        crate::cloud::Arch::X86_64,
        super::super::sizes::Driver::None,
        true,
    )
    .known()
    .reference
}

fn body(change: impl FnOnce(&mut Wanted<'_>)) -> Value {
    let tags = BTreeMap::from([("runner-launch-id".to_owned(), "abc".to_owned())]);
    let image = reference();
    let mut wanted = Wanted {
        name: "cml-x-0a1b2c3d4e5f",
        location: "westus2",
        size: "Standard_F8s_v2",
        image: &image,
        plan: None,
        disk_gb: 35,
        premium: true,
        accelerated: true,
        trust: Trust::Full,
        encryption: true,
        spot: None,
        own_identity: true,
        identities: &[],
        tags: &tags,
        user_data: b"#!/bin/sh\n",
        ssh_key: "ssh-ed25519 AAAA",
        security_group: "/nsg".into(),
        subnet: "/subnet".into(),
    };
    change(&mut wanted);
    serde_json::to_value(wanted.body()).unwrap()
}

#[test]
fn a_request_says_everything_that_is_promised() {
    assert_eq!(
        body(|_| ()),
        json!({
            "location": "westus2",
            "tags": {"runner-launch-id": "abc"},
            "identity": {"type": "SystemAssigned"},
            "properties": {
                "hardwareProfile": {"vmSize": "Standard_F8s_v2"},
                "storageProfile": {
                    "imageReference": {
                        "publisher": "Canonical", "offer": "ubuntu-24_04-lts",
                        "sku": "server", "version": "latest"
                    },
                    "osDisk": {
                        "createOption": "FromImage", "deleteOption": "Delete",
                        "diskSizeGB": 35, "caching": "ReadWrite",
                        "managedDisk": {"storageAccountType": "Premium_LRS"}
                    }
                },
                "osProfile": {
                    "computerName": "cml-x-0a1b2c3d4e5f",
                    "adminUsername": "ubuntu",
                    "customData": "IyEvYmluL3NoCg==",
                    "linuxConfiguration": {
                        "disablePasswordAuthentication": true,
                        "ssh": {"publicKeys": [{
                            "path": "/home/ubuntu/.ssh/authorized_keys",
                            "keyData": "ssh-ed25519 AAAA"
                        }]}
                    }
                },
                "networkProfile": {
                    "networkApiVersion": "2020-11-01",
                    "networkInterfaceConfigurations": [{
                        "name": "runner",
                        "properties": {
                            "primary": true, "deleteOption": "Delete",
                            "enableAcceleratedNetworking": true,
                            "networkSecurityGroup": {"id": "/nsg"},
                            "ipConfigurations": [{
                                "name": "runner",
                                "properties": {
                                    "primary": true,
                                    "subnet": {"id": "/subnet"},
                                    "publicIPAddressConfiguration": {
                                        "name": "runner",
                                        "sku": {"name": "Standard"},
                                        "properties": {
                                            "deleteOption": "Delete",
                                            "publicIPAllocationMethod": "Static"
                                        }
                                    }
                                }
                            }]
                        }
                    }]
                },
                "diagnosticsProfile": {"bootDiagnostics": {"enabled": true}},
                "securityProfile": {
                    "securityType": "TrustedLaunch",
                    "uefiSettings": {"secureBootEnabled": true, "vTpmEnabled": true},
                    "encryptionAtHost": true
                }
            }
        })
    );
}

#[test]
fn spot_machines_are_deleted_when_they_are_taken() {
    let properties = body(|wanted| wanted.spot = Some(-1.0))["properties"].clone();
    assert_eq!(properties["priority"], "Spot");
    assert_eq!(properties["evictionPolicy"], "Delete");
    assert_eq!(properties["billingProfile"], json!({"maxPrice": -1.0}));
    let properties = body(|wanted| wanted.spot = Some(0.25))["properties"].clone();
    assert_eq!(properties["billingProfile"]["maxPrice"], 0.25);
}

#[test]
fn what_size_and_image_dont_allow_is_left_out() {
    let identities = [IDENTITY.to_owned()];
    let plain = body(|wanted| {
        wanted.premium = false;
        wanted.accelerated = false;
        wanted.trust = Trust::No;
        wanted.encryption = false;
        wanted.own_identity = false;
    });
    assert_eq!(plain.get("identity"), None);
    let properties = &plain["properties"];
    assert_eq!(properties.get("securityProfile"), None);
    assert_eq!(
        properties["storageProfile"]["osDisk"]["managedDisk"]["storageAccountType"],
        "StandardSSD_LRS"
    );
    let interface = &properties["networkProfile"]["networkInterfaceConfigurations"][0];
    assert_eq!(
        interface["properties"].get("enableAcceleratedNetworking"),
        None
    );
    let unsigned = body(|wanted| {
        wanted.trust = Trust::Unsigned;
        wanted.encryption = false;
    });
    assert_eq!(
        unsigned["properties"]["securityProfile"],
        json!({"securityType": "TrustedLaunch",
               "uefiSettings": {"secureBootEnabled": false, "vTpmEnabled": true}})
    );
    let kinds = [
        (true, "SystemAssigned, UserAssigned"),
        (false, "UserAssigned"),
    ];
    for (own, kind) in kinds {
        let identity = identity(own, &identities);
        assert_eq!(
            serde_json::to_value(identity).unwrap(),
            json!({"type": kind, "userAssignedIdentities": {IDENTITY: {}}})
        );
    }
}

#[test]
fn a_purchase_plan_is_named_where_the_image_has_one() {
    let plan = PurchasePlan {
        name: "n".into(),
        product: "o".into(),
        publisher: "p".into(),
    };
    let image = reference();
    let wanted = Wanted {
        name: "n",
        location: "l",
        size: "s",
        image: &image,
        plan: Some(&plan),
        disk_gb: 1,
        premium: false,
        accelerated: false,
        trust: Trust::No,
        encryption: false,
        spot: None,
        own_identity: false,
        identities: &[],
        tags: &BTreeMap::new(),
        user_data: b"secret",
        ssh_key: "k",
        security_group: String::new(),
        subnet: String::new(),
    };
    let body = wanted.body();
    let shown = format!("{body:?}");
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
    let json = serde_json::to_value(body).unwrap();
    assert_eq!(
        json["plan"],
        json!({"name": "n", "product": "o", "publisher": "p"})
    );
}
