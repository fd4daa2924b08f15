use serde_json::json;

use super::super::WantedImage;
use super::*;
use crate::cloud::azure::scripted::{Answer, Server, TOKEN, token};

fn market(text: &str) -> Market {
    match WantedImage::read(text) {
        Ok(WantedImage::Market(market)) => market,
        other => panic!("{other:?}"),
    }
}

fn told(json: &str) -> Properties {
    let whole: Whole = serde_json::from_str(json).unwrap();
    whole.properties
}

#[test]
fn what_azure_tells_is_added_to_what_is_known() {
    // The API reference's example, with the values that Ubuntu's images have.
    let properties = told(
        r#"{"properties":{
              "plan":{"publisher":"p","name":"n","product":"o"},
              "osDiskImage":{"operatingSystem":"Linux"},
              "dataDiskImages":[],
              "automaticOSUpgradeProperties":{"automaticOSUpgradeSupported":true},
              "hyperVGeneration":"V2",
              "features":[{"name":"SecurityType","value":"TrustedLaunchAndConfidentialVmSupported"},
                          {"name":"IsAcceleratedNetworkSupported","value":"True"}],
              "architecture":"Arm64"},
            "location":"westus","name":"24.04.202609040","id":"/x"}"#,
    );
    assert!(properties.is_whole());
    let image = properties.add_to(market("a:b:c:latest").known());
    assert_eq!(image.arch, Some(Arch::Aarch64));
    assert_eq!(image.second_generation, Some(true));
    assert!(image.trusted && image.signed);
    assert_eq!(image.plan.unwrap().product, "o");

    let managed = told(
        r#"{"properties":{"hyperVGeneration":"V1","storageProfile":{"osDisk":{
             "osType":"Linux","osState":"Generalized","diskSizeGB":80}}}}"#,
    );
    assert!(!managed.is_whole());
    let image = managed.add_to(market("a:b:c:latest").known());
    assert_eq!(
        (image.second_generation, image.disk_gb),
        (Some(false), Some(80))
    );

    let gallery = told(
        r#"{"properties":{"hyperVGeneration":"V2","architecture":"x64",
             "features":[{"name":"SecurityType","value":"ConfidentialVM"}],
             "purchasePlan":{"name":"n","publisher":"p","product":"o"}}}"#,
    );
    let image = gallery.add_to(market("a:b:c:latest").known());
    assert!(!image.trusted && image.plan.is_some());
}

#[tokio::test]
async fn the_newest_version_is_azure_s_to_say_and_tells_what_it_is_like() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        TOKEN => token("t"),
        line if line.ends_with("/versions") && seen.param("$top").is_some() => {
            Answer::json(&json!([{"name": "8.9.2024010109", "properties":
                {"hyperVGeneration": "V1", "architecture": "x64", "features": []}}]))
        }
        line if line.ends_with("/versions") => Answer::json(&json!([
            {"name": "8.10.2024021519"}, {"name": "8.2.2021040911"}, {"name": "8.9.2024010109"}
        ])),
        line if line.ends_with("/versions/8.10.2024021519") => {
            Answer::json(&json!({"properties": {"hyperVGeneration": "V2", "architecture": "x64"}}))
        }
        _ => Answer::refusal(404, "NotFound", ""),
    })
    .await;
    let (host, http) = server.signed_in();
    let client = Client::new(host, http);
    let look = async |text: &str| {
        look_in_market(&client, "westus2", &market(text))
            .await
            .unwrap()
    };
    let Found::Image(image) = look("RedHat:RHEL:8-lvm-gen2:latest").await else {
        panic!("no image");
    };
    assert_eq!(image.second_generation, Some(true));
    assert_eq!(image.told(), "RedHat:RHEL:8-lvm-gen2:8.10.2024021519");
    assert_eq!(image.reference.to_string(), "RedHat:RHEL:8-lvm-gen2:latest");
    let Found::Image(image) = look("RedHat:RHEL:8-lvm-gen2:8.10.2024021519").await else {
        panic!("no image");
    };
    assert_eq!(image.told(), image.reference.to_string());
    assert_eq!(look("RedHat:RHEL:8-lvm-gen2:1").await, Found::Missing);
}
