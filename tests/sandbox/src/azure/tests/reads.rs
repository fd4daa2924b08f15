//! What is only read, and how calls are made.

use super::*;

#[tokio::test]
async fn calls_are_checked_before_anything_is_done() {
    let lab = lab().await;
    let sub = path::subscription_id();
    let url = |path: &str| format!("{}{path}", lab.azure.url());
    let group = format!("{sub}/resourceGroups/ci-1");
    let json = "Content-Type: application/json\r\n";
    let token = format!("Authorization: Bearer {}\r\n", lab.token);
    let good = format!("{token}{json}");
    let body = r#"{"location":"westus2"}"#;
    for (path, headers, status, code) in [
        (
            format!("{group}?api-version={RESOURCES}"),
            json.to_owned(),
            401,
            "AuthenticationFailed",
        ),
        (
            format!("{group}?api-version={RESOURCES}"),
            format!("{json}Authorization: Bearer x\r\n"),
            401,
            "InvalidAuthenticationToken",
        ),
        (
            group.clone(),
            good.clone(),
            400,
            "MissingApiVersionParameter",
        ),
        (
            format!("{group}?api-version=2099-01-01"),
            good.clone(),
            400,
            "InvalidApiVersionParameter",
        ),
        (
            format!("{group}?api-version={RESOURCES}"),
            token.clone(),
            415,
            "UnsupportedMediaType",
        ),
        (
            format!("/subscriptions/x/resourceGroups/a?api-version={RESOURCES}"),
            good.clone(),
            404,
            "SubscriptionNotFound",
        ),
        (
            format!("{group}/providers/Microsoft.Web/sites/a?api-version=1"),
            good.clone(),
            404,
            "InvalidResourceType",
        ),
        (
            format!("{group}/providers/Microsoft.Compute/virtualMachines/a?api-version=2020-01-01"),
            good.clone(),
            400,
            "NoRegisteredProviderFound",
        ),
        (
            format!(
                "{group}/providers/Microsoft.Network/publicIPAddresses/a?api-version={NETWORK}"
            ),
            good.clone(),
            405,
            "MethodNotAllowed",
        ),
        (
            format!("{group}?api-version={RESOURCES}"),
            good.clone(),
            201,
            "",
        ),
    ] {
        let got = send(&url(&path), "PUT", &headers, body).await;
        assert_eq!((got.status, got.code()), (status, code), "{path}: {got:?}");
        assert!(!got.header("x-ms-request-id").is_empty());
        assert_eq!(got.header("www-authenticate").is_empty(), status != 401);
    }
}

#[tokio::test]
async fn groups_have_rules_and_are_listed_by_tag() {
    let lab = lab().await;
    let put = |name: &str, body: Value| {
        let path = format!("/resourcegroups/{name}");
        let lab = &lab;
        async move { lab.call("PUT", &path, RESOURCES, &body).await }
    };
    let here = || json!({"location": "West US 2"});
    let many: BTreeMap<String, String> = (0..51).map(|n| (n.to_string(), String::new())).collect();
    for (name, body, status, code) in [
        ("a.", here(), 400, "InvalidResourceGroup"),
        ("a b", here(), 400, "InvalidResourceGroup"),
        (
            "a",
            json!({"location": "nowhere"}),
            400,
            "LocationNotAvailableForResourceGroup",
        ),
        (
            "a",
            json!({"location": "westus2", "tags": {"a<b": "c"}}),
            400,
            "InvalidTagNameCharacters",
        ),
        (
            "a",
            json!({"location": "westus2", "tags": {"a": "c".repeat(257)}}),
            400,
            "InvalidTagValueLength",
        ),
        (
            "a",
            json!({"location": "westus2", "tags": many}),
            400,
            "InvalidTagsCount",
        ),
        (
            "a",
            json!({"location": "westus2", "name": "b"}),
            400,
            "InvalidRequestContent",
        ),
        ("a", here(), 201, ""),
        (
            "A",
            json!({"location": "westus2", "tags": {"runner-launch": "1", "x": "it's"}}),
            200,
            "",
        ),
        (
            "a",
            json!({"location": "eastus"}),
            409,
            "InvalidResourceGroupLocation",
        ),
    ] {
        let got = put(&name.replace(' ', "%20"), body).await;
        assert_eq!((got.status, got.code()), (status, code), "{name}: {got:?}");
    }
    for n in 0..4 {
        put(
            &format!("b-{n}"),
            json!({"location": "westus2", "tags": {"runner-launch": "2"}}),
        )
        .await;
    }
    lab.azure.set_page_size(2);
    let mut names = Vec::new();
    let mut got = lab
        .get(
            "/resourcegroups?$filter=tagName eq 'runner-launch'",
            RESOURCES,
        )
        .await;
    loop {
        for group in got.body["value"].as_array().unwrap() {
            names.push(group["name"].as_str().unwrap().to_owned());
        }
        let Some(next) = got.body["nextLink"].as_str() else {
            break;
        };
        got = lab.at("GET", next, &Value::Null).await;
    }
    assert_eq!(names, ["a", "b-0", "b-1", "b-2", "b-3"]);
    for (filter, count) in [
        ("tagName eq 'x' and tagValue eq 'it''s'", 1),
        ("tagName eq 'runner-launch' and tagValue eq '3'", 0),
        ("tagName eq 'team'", 1),
    ] {
        let got = lab
            .get(&format!("/resourcegroups?$filter={filter}"), RESOURCES)
            .await;
        assert_eq!(
            got.body["value"].as_array().unwrap().len(),
            count,
            "{filter}"
        );
    }
    let got = lab
        .get("/resourcegroups?$filter=name eq 'a'", RESOURCES)
        .await;
    assert_eq!(got.code(), "InvalidFilterInQueryString");
}

#[tokio::test]
async fn sizes_images_features_and_identities_are_read() {
    let lab = lab().await;
    lab.azure.restrict("westus2", "Standard_D2s_v5");
    let skus = "/providers/Microsoft.Compute/skus?$filter=location eq 'westus2'";
    let got = lab.get(skus, "2021-07-01").await;
    let all = got.body["value"].as_array().unwrap();
    for sku in all {
        check("compute.ResourceSku", sku, Side::Answer).unwrap();
    }
    let find = |name: &str| all.iter().find(|sku| sku["name"] == name).unwrap();
    let capability = |name: &str, capability: &str| {
        let list = find(name)["capabilities"].as_array().unwrap();
        let found = list.iter().find(|known| known["name"] == capability);
        found.map(|known| known["value"].as_str().unwrap().to_owned())
    };
    let arm = capability("Standard_D2ps_v5", "CpuArchitectureType");
    assert_eq!(arm.as_deref(), Some("Arm64"));
    assert_eq!(capability("Standard_F8s_v2", "TrustedLaunchDisabled"), None);
    let reason = &find("Standard_D2s_v5")["restrictions"][0]["reasonCode"];
    assert_eq!(reason, "NotAvailableForSubscription");

    let versions = "/providers/Microsoft.Compute/locations/westus2/publishers/Canonical/\
                    artifacttypes/vmimage/offers/ubuntu-24_04-lts/skus/server/versions";
    let query = "$top=1&$orderby=name desc&$expand=properties";
    let got = lab.get(&format!("{versions}?{query}"), COMPUTE).await;
    let [newest] = &got.body.as_array().unwrap()[..] else {
        panic!("not one: {got:?}");
    };
    check("compute.VirtualMachineImage", newest, Side::Answer).unwrap();
    assert_eq!(newest["name"], "24.04.202511100");
    assert_eq!(newest["properties"]["hyperVGeneration"], "V2");
    let got = lab
        .get(&versions.replace("/skus/server", "/skus/nope"), COMPUTE)
        .await;
    assert_eq!((got.status, got.code()), (404, "NotFound"));
    let got = lab.get(&format!("{versions}/latest"), COMPUTE).await;
    assert_eq!(got.status, 404);
    let got = lab
        .get(&format!("{versions}/24.04.202511100"), COMPUTE)
        .await;
    assert_eq!(got.body["properties"]["architecture"], "x64");

    let feature = "/providers/Microsoft.Features/providers/Microsoft.Compute/features/\
                   EncryptionAtHost";
    let got = lab.get(feature, "2021-07-01").await;
    assert_eq!(got.body["properties"]["state"], "NotRegistered");

    let id = lab.azure.add_identity("runner", &[]);
    let below = id.strip_prefix(&path::subscription_id()).unwrap();
    let got = lab.get(below, "2023-01-31").await;
    assert!(got.body["properties"]["clientId"].is_string(), "{got:?}");
    let got = lab
        .get(&below.replace("/runner", "/nobody"), "2023-01-31")
        .await;
    assert_eq!((got.status, got.code()), (404, "ResourceNotFound"));

    let gallery = "/resourceGroups/ci-shared/providers/Microsoft.Compute/galleries/ci_images/images/\
                   runner/versions/1.0.0";
    let got = lab.get(gallery, "2024-03-03").await;
    assert_eq!(
        got.body["properties"]["storageProfile"]["osDiskImage"]["sizeInGB"],
        40
    );
    assert_eq!(
        lab.get(gallery, COMPUTE).await.code(),
        "NoRegisteredProviderFound"
    );

    // Galleries that are open to others: to look at them is a permission of its own.
    let open = |image: &str| {
        let gallery = "communityGalleries/octo-1234/images";
        format!("/providers/Microsoft.Compute/locations/westus2/{gallery}/{image}")
    };
    let look = "Microsoft.Compute/locations/communityGalleries/images/read";
    lab.azure.deny(look);
    let got = lab.get(&open("runner"), "2023-07-03").await;
    assert_eq!(got.code(), "AuthorizationFailed");
    lab.azure.allow_only(&[look]);
    let got = lab.get(&open("runner"), "2023-07-03").await;
    assert_eq!(got.body["properties"]["architecture"], "x64", "{got:?}");
    let got = lab.get(&open("other"), "2023-07-03").await;
    assert_eq!((got.status, got.code()), (404, "GalleryImageNotFound"));
}

#[tokio::test]
async fn resources_are_listed_by_group_and_by_subscription() {
    let lab = lab().await;
    for group in ["a", "b"] {
        lab.prepare(group, "westus2").await;
    }
    lab.azure.set_page_size(1);
    let kind = "/providers/Microsoft.Network/networkSecurityGroups";
    let first = lab.get(kind, NETWORK).await;
    let next = first.body["nextLink"].as_str().unwrap();
    let second = lab.at("GET", next, &Value::Null).await;
    for (got, group) in [
        (
            lab.get(&format!("/resourceGroups/b{kind}"), NETWORK).await,
            "b",
        ),
        (first, "a"),
        (second, "b"),
    ] {
        let all = got.body["value"].as_array().unwrap();
        let id = all[0]["id"].as_str().unwrap();
        assert_eq!(all.len(), 1, "{got:?}");
        assert!(id.contains(&format!("/resourceGroups/{group}/")), "{id}");
    }
}
