//! What is refused of machines and networks, and what capacity does.

use super::*;

#[tokio::test]
async fn bodies_are_refused_as_compute_does() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let body = || machine_body("ci-1", "");
    let storage = "/properties/storageProfile";
    let sku = "/properties/storageProfile/imageReference/sku";
    let size = "/properties/hardwareProfile/vmSize";
    let key = "/properties/osProfile/linuxConfiguration/ssh/publicKeys/0";
    let ip = "/properties/networkProfile/networkInterfaceConfigurations/0/properties/\
              ipConfigurations/0/properties";
    let plain = with(body(), "/properties/securityProfile", Value::Null);
    let spot = with(body(), "/properties/priority", "Spot".into());
    for (body, status, code) in [
        (
            with(body(), "/properties/vmSize", "x".into()),
            400,
            "BadRequest",
        ),
        (
            with(body(), "/location", "atlantis".into()),
            400,
            "LocationNotAvailableForResourceType",
        ),
        (
            with(body(), size, "Standard_Nope".into()),
            400,
            "InvalidParameter",
        ),
        // Retired.
        (
            with(body(), size, "Standard_NC6".into()),
            400,
            "InvalidParameter",
        ),
        (
            with(body(), size, "Standard_D2ps_v5".into()),
            400,
            "BadRequest",
        ),
        (with(body(), sku, "server-arm64".into()), 400, "BadRequest"),
        (
            with(plain.clone(), size, "Standard_D1_v2".into()),
            400,
            "BadRequest",
        ),
        (
            with(body(), sku, "nope".into()),
            404,
            "PlatformImageNotFound",
        ),
        (
            with(
                body(),
                &format!("{storage}/imageReference/version"),
                "1".into(),
            ),
            404,
            "PlatformImageNotFound",
        ),
        (
            with(body(), &format!("{storage}/osDisk/diskSizeGB"), 20.into()),
            409,
            "OperationNotAllowed",
        ),
        (
            with(
                body(),
                &format!("{storage}/osDisk/managedDisk/storageAccountType"),
                "UltraSSD_LRS".into(),
            ),
            400,
            "InvalidParameter",
        ),
        (with(body(), storage, Value::Null), 400, "InvalidParameter"),
        (
            with(
                body(),
                "/properties/osProfile/customData",
                "not base64".into(),
            ),
            400,
            "InvalidParameter",
        ),
        (
            with(
                body(),
                "/properties/osProfile/customData",
                "A".repeat(87384).into(),
            ),
            400,
            "InvalidParameter",
        ),
        (
            with(body(), "/properties/osProfile/computerName", "a_b".into()),
            400,
            "InvalidParameter",
        ),
        (
            with(body(), "/properties/osProfile/adminUsername", "root".into()),
            400,
            "InvalidParameter",
        ),
        (
            with(body(), &format!("{key}/keyData"), "ssh-rsa AAAA".into()),
            400,
            "InvalidParameter",
        ),
        (
            with(
                body(),
                &format!("{key}/path"),
                "/root/.ssh/authorized_keys".into(),
            ),
            400,
            "InvalidParameter",
        ),
        (
            with(
                body(),
                "/properties/securityProfile/encryptionAtHost",
                true.into(),
            ),
            400,
            "InvalidParameter",
        ),
        (with(body(), sku, "server-gen1".into()), 400, "BadRequest"),
        (
            with(body(), "/plan", json!({"name": "x"})),
            400,
            "VMMarketplaceInvalidInput",
        ),
        (
            with(body(), "/properties/evictionPolicy", "Delete".into()),
            400,
            "EvictionPolicyCanBeSetOnlyOnAzureSpotVirtualMachines",
        ),
        (
            with(
                spot.clone(),
                "/properties/billingProfile",
                json!({"maxPrice": 0}),
            ),
            400,
            "MaxPriceValueInvalid",
        ),
        (
            with(
                spot.clone(),
                "/properties/billingProfile",
                json!({"maxPrice": 0.01}),
            ),
            409,
            "SpotPriceGreaterThanProvidedMaxPrice",
        ),
        (
            with(spot, size, "Standard_B1s".into()),
            400,
            "AzureSpotIsNotSupportedForThisVMSize",
        ),
        (
            with(body(), "/identity", json!({"type": "UserAssigned"})),
            400,
            "InvalidParameter",
        ),
        (
            with(
                body(),
                "/identity",
                json!({"type": "UserAssigned", "userAssignedIdentities": {
                    path::Kind::UserAssignedIdentity.id("ci-shared", "nobody"): {},
                }}),
            ),
            400,
            "FailedIdentityOperation",
        ),
        (
            with(
                body(),
                "/properties/networkProfile/networkApiVersion",
                Value::Null,
            ),
            400,
            "InvalidParameter",
        ),
        (
            with(
                body(),
                &format!("{ip}/subnet/id"),
                "/subscriptions/x".into(),
            ),
            400,
            "InvalidResourceReference",
        ),
        (
            with(
                body(),
                &format!("{ip}/publicIPAddressConfiguration/sku"),
                json!({"name": "Basic"}),
            ),
            400,
            "IPv4BasicSkuPublicIpCountLimitReached",
        ),
        (
            with(body(), "/properties/userData", "eA==".into()),
            400,
            "InvalidParameter",
        ),
    ] {
        let got = lab.refused("ci-1", &body).await;
        assert_eq!(got, (status, code.into()), "{body}");
    }
    let (status, code) = lab.refused("ci-2", &body()).await;
    assert_eq!((status, code.as_str()), (404, "ResourceGroupNotFound"));
    assert_eq!(lab.azure.instances(), []);
    lab.azure
        .register_feature("Microsoft.Compute/EncryptionAtHost");
    let encrypted = with(
        body(),
        "/properties/securityProfile/encryptionAtHost",
        true.into(),
    );
    let begun = lab.put_machine("ci-1", &encrypted).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    assert!(lab.azure.live()[0].encryption_at_host);
    lab.follow(&begun).await;
    // What is there can't be made another.
    let changed = with(encrypted, "/properties/osProfile/customData", "eA==".into());
    let got = lab.put_machine("ci-1", &changed).await;
    assert_eq!((got.status, got.code()), (409, "PropertyChangeNotAllowed"));
    assert_eq!(
        got.message(),
        "Changing property 'customData' is not allowed."
    );
}

#[tokio::test]
async fn other_images_and_sizes_are_taken() {
    let lab = lab().await;
    let reference = "/properties/storageProfile/imageReference";
    let plain = |group: &str| {
        with(
            machine_body(group, ""),
            "/properties/securityProfile",
            Value::Null,
        )
    };
    let gallery = path::Kind::Gallery.id("ci-shared", "ci_images");
    let marketplace = |publisher: &str, offer: &str, sku: &str| json!({"publisher": publisher, "offer": offer, "sku": sku, "version": "latest"});
    for (index, (size, image)) in [
        ("Standard_D2ps_v5", marketplace("Canonical", "ubuntu-24_04-lts", "server-arm64")),
        ("Standard_NC4as_T4_v3", marketplace("microsoft-dsvm", "ubuntu-hpc", "2204")),
        ("Standard_B1s", marketplace("Canonical", "ubuntu-24_04-lts", "server-gen1")),
        ("Standard_F8s_v2", json!({"id": format!("{gallery}/images/runner/versions/1.0.0")})),
        ("Standard_F8s_v2", json!({"id": path::Kind::Image.id("ci-shared", "runner-image")})),
        ("Standard_F8s_v2", json!({"communityGalleryImageId": "/CommunityGalleries/octo/Images/runner/Versions/latest"})),
    ]
    .into_iter()
    .enumerate()
    {
        let group = format!("ci-{index}");
        lab.prepare(&group, "westus2").await;
        let body = with(plain(&group), "/properties/hardwareProfile/vmSize", size.into());
        let body = with(body, reference, image);
        let body = with(body, "/properties/storageProfile/osDisk/diskSizeGB", Value::Null);
        let got = lab.put_machine(&group, &body).await;
        assert_eq!(got.status, 201, "{got:?}");
    }
    let images: Vec<String> = lab.azure.instances().into_iter().map(|i| i.image).collect();
    assert_eq!(
        images[0],
        "Canonical:ubuntu-24_04-lts:server-arm64:24.04.202511100"
    );
    lab.azure.stop_all().await;
}

#[tokio::test]
async fn networks_are_refused_as_network_does() {
    let lab = lab_with(|config| config.boot_delay = Duration::from_secs(2)).await;
    let body = json!({"location": "westus2"});
    lab.call("PUT", "/resourceGroups/ci-1", RESOURCES, &body)
        .await;
    let guard = lab.guard("ci-1");
    let rule = "/properties/securityRules/0/properties";
    let good = || guard_body("westus2");
    for (body, code) in [
        (
            with(good(), &format!("{rule}/priority"), 4097.into()),
            "SecurityRuleInvalidPriority",
        ),
        (
            with(good(), &format!("{rule}/access"), Value::Null),
            "SecurityRuleParameterMissing",
        ),
        (
            with(good(), &format!("{rule}/access"), "Maybe".into()),
            "InvalidRequestFormat",
        ),
        (
            with(
                good(),
                &format!("{rule}/destinationPortRange"),
                "70000".into(),
            ),
            "SecurityRuleInvalidPortRange",
        ),
        (
            with(
                good(),
                &format!("{rule}/sourceAddressPrefixes"),
                json!(["203.0.113.1/24"]),
            ),
            "SecurityRuleInvalidAddressPrefix",
        ),
        (
            with(
                good(),
                &format!("{rule}/sourceAddressPrefixes"),
                json!(["0.0.0.0/0", "::/0"]),
            ),
            "SecurityRuleInvalidAddressPrefix",
        ),
        (
            with(good(), &format!("{rule}/sourceAddressPrefix"), "*".into()),
            "SecurityRuleParameterMissing",
        ),
        (
            with(good(), "/properties/rules", json!([])),
            "InvalidRequestFormat",
        ),
    ] {
        let got = lab.call("PUT", &guard, NETWORK, &body).await;
        assert_eq!((got.status, got.code()), (400, code), "{body}");
    }
    let network = lab.network("ci-1");
    let subnet = "/properties/subnets/0/properties/addressPrefix";
    let space = "/properties/addressSpace/addressPrefixes";
    let good = || network_body("westus2");
    for (body, code) in [
        (
            with(good(), subnet, "10.1.0.0/24".into()),
            "NetcfgInvalidSubnet",
        ),
        (
            with(good(), space, json!([])),
            "VnetAddressSpaceNotSpecified",
        ),
        (
            with(good(), space, json!(["10.0.0.0"])),
            "InvalidAddressPrefixFormat",
        ),
    ] {
        let got = lab.call("PUT", &network, NETWORK, &body).await;
        assert_eq!((got.status, got.code()), (400, code), "{body}");
    }
    // While it is being made it takes nothing, and nothing refers to it.
    let begun = lab.call("PUT", &network, NETWORK, &good()).await;
    let again = lab.call("PUT", &network, NETWORK, &good()).await;
    assert_eq!(
        (again.status, again.code()),
        (429, "AnotherOperationInProgress")
    );
    let (status, code) = lab.refused("ci-1", &machine_body("ci-1", "")).await;
    assert_eq!((status, code.as_str()), (400, "InvalidResourceReference"));
    let body = with(
        machine_body("ci-1", ""),
        "/properties/networkProfile/networkInterfaceConfigurations/0/properties/\
         networkSecurityGroup",
        Value::Null,
    );
    let (status, code) = lab.refused("ci-1", &body).await;
    assert_eq!(
        (status, code.as_str()),
        (400, "ReferencedResourceNotProvisioned")
    );
    lab.follow(&begun).await;
    let elsewhere = lab
        .call("PUT", &network, NETWORK, &network_body("eastus"))
        .await;
    assert_eq!(elsewhere.code(), "InvalidResourceLocation");
}

#[tokio::test]
async fn no_room_is_said_at_once_or_in_the_end() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let body = machine_body("ci-1", "");
    for (code, words) in [
        (
            "SkuNotAvailable",
            "Standard_F8s_v2' is currently not available in location 'westus2'",
        ),
        (
            "OperationNotAllowed",
            "exceeding approved standardFSv2Family Cores quota",
        ),
        ("QuotaExceeded", "Location: westus2"),
    ] {
        lab.azure
            .exhaust(Some("westus2"), Some("Standard_F8s_v2"), None, code);
        let got = lab.put_machine("ci-1", &body).await;
        assert_eq!((got.status, got.code()), (409, code));
        assert!(got.message().contains(words), "{got:?}");
        lab.azure.replenish();
    }
    assert_eq!(lab.azure.instances(), []);
    lab.azure
        .exhaust(None, None, Some(false), "AllocationFailed");
    let begun = lab.put_machine("ci-1", &body).await;
    assert_eq!(begun.status, 201);
    let ended = lab.follow(&begun).await;
    assert_eq!(ended["status"], "Failed");
    assert_eq!(ended["error"]["code"], "AllocationFailed");
    let got = lab.get(&lab.machine("ci-1"), COMPUTE).await;
    assert_eq!(got.body["properties"]["provisioningState"], "Failed");
    assert_eq!(
        lab.azure.live()[0].failure.as_deref(),
        Some("AllocationFailed")
    );
    // Another size is another disk and another network: the failed one has to go first.
    let script = machine_body("ci-1", "#!/bin/sh\nsleep 600\n");
    assert_eq!(
        lab.put_machine("ci-1", &script).await.code(),
        "PropertyChangeNotAllowed"
    );
    lab.azure.replenish();
    let deleted = lab
        .call("DELETE", &lab.machine("ci-1"), COMPUTE, &Value::Null)
        .await;
    assert_eq!(lab.follow(&deleted).await["status"], "Succeeded");
    let begun = lab.put_machine("ci-1", &script).await;
    assert_eq!(lab.follow(&begun).await["status"], "Succeeded");
    assert_eq!(lab.azure.live().len(), 1);
    assert_eq!(lab.azure.groups()[0].resources.len(), 6);
    let again = lab
        .call("DELETE", &lab.machine("ci-9"), COMPUTE, &Value::Null)
        .await;
    assert_eq!(again.code(), "ResourceGroupNotFound");
    lab.azure.restrict("westus2", "Standard_D2s_v5");
    lab.prepare("ci-2", "westus2").await;
    let body = machine_body("ci-2", "");
    let body = with(
        body,
        "/properties/hardwareProfile/vmSize",
        "Standard_D2s_v5".into(),
    );
    assert_eq!(
        lab.put_machine("ci-2", &body).await.code(),
        "SkuNotAvailable"
    );
}

#[tokio::test]
async fn a_failed_machine_is_made_anew_by_the_same_body() {
    let lab = lab().await;
    lab.prepare("ci-1", "westus2").await;
    let body = machine_body("ci-1", "#!/bin/sh\nsleep 600\n");
    lab.azure.exhaust(None, None, None, "ZonalAllocationFailed");
    let begun = lab.put_machine("ci-1", &body).await;
    assert_eq!(lab.follow(&begun).await["status"], "Failed");
    lab.azure.replenish();
    let begun = lab.put_machine("ci-1", &body).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    assert_eq!(lab.follow(&begun).await["status"], "Succeeded");
    assert_eq!(lab.azure.live().len(), 1);
    assert_eq!(lab.azure.groups()[0].resources.len(), 6);
    let own = lab.azure.live()[0].system_identity;
    let known = lab
        .azure
        .entra()
        .directory()
        .identity(&path::Kind::VirtualMachine.id("ci-1", "ci-1"));
    assert!(own && known.is_some());
}
