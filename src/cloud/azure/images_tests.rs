use super::*;

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
