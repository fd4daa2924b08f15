use serde_json::json;

use super::*;
use crate::cloud::azure::scripted::{Answer, Server, TOKEN, token};

fn market(text: &str) -> Market {
    match WantedImage::read(text) {
        Ok(WantedImage::Market(market)) => market,
        other => panic!("{other:?}"),
    }
}

fn id(text: &str) -> ImageId {
    match WantedImage::read(text) {
        Ok(WantedImage::Id(id)) => id,
        other => panic!("{other:?}"),
    }
}

const GALLERY: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/own/images/ci";

#[test]
fn images_are_read() {
    assert_eq!(
        market("Debian:debian-12:12-gen2:latest").to_string(),
        "Debian:debian-12:12-gen2:latest"
    );
    let managed = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/ci";
    let cases = [
        (managed.to_owned(), IdKind::Managed),
        (managed.to_uppercase(), IdKind::Managed),
        (GALLERY.to_owned(), IdKind::Gallery),
        (format!("{GALLERY}/versions/1.2.3"), IdKind::Gallery),
        (
            "/sharedGalleries/u/images/ci/versions/latest".into(),
            IdKind::Shared,
        ),
        (
            "/communityGalleries/c-1/images/ci".into(),
            IdKind::Community,
        ),
        (
            "/CommunityGalleries/c/Images/ci/Versions/1.0.0".into(),
            IdKind::Community,
        ),
    ];
    for (text, kind) in cases {
        assert_eq!(id(&text).kind, kind, "{text}");
    }
    for text in [
        "",
        "ubuntu",
        "a:b:c",
        "a:b:c:",
        "a:b c:d:e",
        "/",
        "/subscriptions/s",
        "/communityGalleries/c/images",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/own/images/../x",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/images/ci",
    ] {
        let complaint = WantedImage::read(text).unwrap_err();
        assert!(complaint.starts_with("--cloud-image: "), "{complaint}");
    }
}

#[test]
fn our_choice_follows_the_machine() {
    use Arch::{Aarch64, X86_64};
    let cases = [
        (
            X86_64,
            Driver::None,
            true,
            "Canonical:ubuntu-24_04-lts:server:latest",
            30,
            true,
        ),
        (
            X86_64,
            Driver::None,
            false,
            "Canonical:ubuntu-24_04-lts:server-gen1:latest",
            30,
            false,
        ),
        (
            X86_64,
            Driver::Grid,
            true,
            "Canonical:ubuntu-24_04-lts:server:latest",
            30,
            true,
        ),
        (
            X86_64,
            Driver::Cuda,
            true,
            "microsoft-dsvm:ubuntu-hpc:2404:latest",
            64,
            false,
        ),
        (
            X86_64,
            Driver::Old,
            true,
            "microsoft-dsvm:ubuntu-hpc:2404-v100:latest",
            64,
            false,
        ),
        (
            Aarch64,
            Driver::None,
            true,
            "Canonical:ubuntu-24_04-lts:server-arm64:latest",
            30,
            false,
        ),
    ];
    for (arch, driver, second, text, disk, trusted) in cases {
        let market = Market::default(arch, driver, second);
        assert_eq!(market.to_string(), text);
        let known = market.known();
        assert_eq!(known.arch, Some(arch), "{text}");
        assert_eq!(known.second_generation, Some(second), "{text}");
        assert_eq!(
            (known.disk_gb, known.trusted),
            (Some(disk), trusted),
            "{text}"
        );
    }
    let known = market("Debian:debian-12:12-gen2:latest").known();
    assert_eq!((known.arch, known.disk_gb), (None, None));
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

#[test]
fn references_have_the_field_that_their_kind_has() {
    let json = |reference: Reference| serde_json::to_string(&reference).unwrap();
    assert_eq!(
        json(Reference::market(&market("a:b:c:1"))),
        r#"{"publisher":"a","offer":"b","sku":"c","version":"1"}"#
    );
    assert_eq!(
        json(Reference::id(&id(GALLERY))),
        format!(r#"{{"id":"{GALLERY}"}}"#)
    );
    let community = "/communityGalleries/c/images/ci";
    let reference = Reference::id(&id(community));
    assert_eq!(reference.to_string(), community);
    assert_eq!(
        json(reference),
        format!(r#"{{"communityGalleryImageId":"{community}"}}"#)
    );
    let shared = "/sharedGalleries/c/images/ci";
    assert_eq!(
        json(Reference::id(&id(shared))),
        format!(r#"{{"sharedGalleryImageId":"{shared}"}}"#)
    );
}
