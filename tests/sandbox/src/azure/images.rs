//! Images: the marketplace's, and those of a gallery and a group of somebody else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalogue;
use super::error::{ApiError, Result};
use super::path::{Kind, subscription_id};
use crate::instance::Distribution;

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) second_generation: bool,
    pub(super) arm: bool,
    pub(super) trusted: bool,
    pub(super) disk_gb: u32,
    pub(super) windows: bool,
    pub(super) distribution: Distribution,
    /// Name, product and publisher of the plan that it is bought by.
    pub(super) plan: Option<[&'static str; 3]>,
}

const UBUNTU: Image = Image {
    second_generation: true,
    arm: false,
    trusted: true,
    disk_gb: 30,
    windows: false,
    distribution: Distribution::Ubuntu("24.04"),
    plan: None,
};
const JAMMY: Image = Image {
    distribution: Distribution::Ubuntu("22.04"),
    ..UBUNTU
};
const DEBIAN: Image = Image {
    distribution: Distribution::Debian,
    ..UBUNTU
};

/// Publisher, offer, SKU, versions (the newest last) and the rest.
type Offer = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    Image,
);

/// Canonical's are listed at <https://documentation.ubuntu.com/azure/azure-how-to/instances/find-ubuntu-images/>,
/// Microsoft's with drivers at <https://learn.microsoft.com/en-us/azure/virtual-machines/azure-hpc-vm-images>.
const NOBLE: &[&str] = &["24.04.202404230", "24.04.202502210", "24.04.202511100"];
#[rustfmt::skip]
const OFFERS: &[Offer] = &[
    ("Canonical", "ubuntu-24_04-lts", "server", NOBLE, UBUNTU),
    ("Canonical", "ubuntu-24_04-lts", "server-gen1", NOBLE, Image { second_generation: false, trusted: false, ..UBUNTU }),
    ("Canonical", "ubuntu-24_04-lts", "server-arm64", NOBLE, Image { arm: true, trusted: false, ..UBUNTU }),
    ("Canonical", "ubuntu-24_04-lts", "minimal", NOBLE, UBUNTU),
    ("Canonical", "ubuntu-24_04-lts", "minimal-arm64", NOBLE, Image { arm: true, trusted: false, ..UBUNTU }),
    ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2", &["22.04.202409120", "22.04.202511060"], JAMMY),
    ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts", &["22.04.202511060"], Image { second_generation: false, trusted: false, ..JAMMY }),
    ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-arm64", &["22.04.202511060"], Image { arm: true, trusted: false, ..JAMMY }),
    ("Debian", "debian-12", "12-gen2", &["0.20250814.2204"], DEBIAN),
    ("Debian", "debian-12", "12-arm64", &["0.20250814.2204"], Image { arm: true, trusted: false, ..DEBIAN }),
    ("microsoft-dsvm", "ubuntu-hpc", "2204", &["22.04.2024120301", "22.04.2025081901"], Image { disk_gb: 64, ..JAMMY }),
    ("microsoft-dsvm", "ubuntu-hpc", "2404", &["24.04.2025081901"], Image { disk_gb: 64, ..UBUNTU }),
    ("nvidia", "ngc_azure_17_11", "ngc-base-version-24_10_1_gen2", &["24.10.1"], Image {
        disk_gb: 64, trusted: false,
        plan: Some(["ngc-base-version-24_10_1_gen2", "ngc_azure_17_11", "nvidia"]), ..JAMMY
    }),
    ("MicrosoftWindowsServer", "WindowsServer", "2022-datacenter-g2", &["20348.4405.251112"], Image { windows: true, disk_gb: 127, ..UBUNTU }),
];

/// The group, which isn't ours, with the gallery, the images and the identities that are there from
/// the beginning.
pub(super) const SHARED: &str = "ci-shared";
const GALLERY: &str = "ci_images";
const OWN: Image = Image {
    disk_gb: 40,
    ..UBUNTU
};

fn offer([_, publisher, offer, sku]: &[String; 4]) -> Option<&'static Offer> {
    OFFERS.iter().find(|(p, o, s, ..)| {
        p.eq_ignore_ascii_case(publisher)
            && o.eq_ignore_ascii_case(offer)
            && s.eq_ignore_ascii_case(sku)
    })
}

fn no_artifact() -> ApiError {
    ApiError::new(404, "NotFound", "Artifact: VMImage was not found.")
}

/// A version's document; with `properties` where these are asked for.
fn version(names: &[String; 4], offer: &Offer, version: &str, expanded: bool) -> Value {
    let [location, ..] = names;
    let (publisher, offer_name, sku, _, image) = offer;
    let mut document = json!({
        "location": location,
        "name": version,
        "id": format!(
            "{}/Providers/Microsoft.Compute/Locations/{location}/Publishers/{publisher}/\
             ArtifactTypes/VMImage/Offers/{offer_name}/Skus/{sku}/Versions/{version}",
            subscription_id().replace("/subscriptions", "/Subscriptions")
        ),
    });
    if !expanded {
        return document;
    }
    let mut features = vec![
        json!({"name": "IsAcceleratedNetworkSupported", "value": "True"}),
        json!({"name": "DiskControllerTypes", "value": "SCSI, NVMe"}),
    ];
    if image.trusted {
        features.insert(
            0,
            json!({"name": "SecurityType", "value": "TrustedLaunchSupported"}),
        );
    }
    document["properties"] = json!({
        "hyperVGeneration": if image.second_generation { "V2" } else { "V1" },
        "architecture": if image.arm { "Arm64" } else { "x64" },
        "osDiskImage": {"operatingSystem": if image.windows { "Windows" } else { "Linux" }},
        "dataDiskImages": [],
        "automaticOSUpgradeProperties": {"automaticOSUpgradeSupported": false},
        "features": features,
        "disallowed": {"vmDiskType": "Unmanaged"},
        "imageDeprecationStatus": {"imageState": "Active"},
    });
    if let Some([name, product, publisher]) = image.plan {
        let plan = json!({"name": name, "product": product, "publisher": publisher});
        document["properties"]["plan"] = plan;
    }
    document
}

/// The versions of an image, oldest first unless the request says otherwise.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machine-images/list>
pub(super) fn versions(names: &[String; 4], query: &BTreeMap<String, String>) -> Result<Value> {
    known_location(&names[0])?;
    let offer = offer(names).ok_or_else(no_artifact)?;
    let mut all: Vec<&str> = offer.3.to_vec();
    match query.get("$orderby").map(String::as_str) {
        None | Some("name" | "name asc") => {}
        Some("name desc") => all.reverse(),
        Some(other) => {
            let message = format!("The value '{other}' of parameter '$orderby' is invalid.");
            return Err(ApiError::parameter("$orderby", message));
        }
    }
    if let Some(top) = query.get("$top") {
        let top: usize = top.parse().map_err(|_| {
            ApiError::parameter(
                "$top",
                format!("The value '{top}' of parameter '$top' is invalid."),
            )
        })?;
        all.truncate(top);
    }
    let expanded = query
        .get("$expand")
        .is_some_and(|expand| expand == "properties");
    Ok(all
        .into_iter()
        .map(|name| version(names, offer, name, expanded))
        .collect())
}

/// One version. `latest` isn't one.
pub(super) fn one_version(names: &[String; 4], name: &str) -> Result<Value> {
    known_location(&names[0])?;
    let offer = offer(names)
        .filter(|offer| offer.3.contains(&name))
        .ok_or_else(no_artifact)?;
    Ok(version(names, offer, name, true))
}

fn known_location(location: &str) -> Result<()> {
    match catalogue::region(location) {
        Some(_) => Ok(()),
        None => Err(super::no_location("locations/publishers", location)),
    }
}

/// What a gallery says of the image that there is.
fn described() -> Value {
    json!({
        "osType": "Linux",
        "osState": "Generalized",
        "hyperVGeneration": "V2",
        "architecture": "x64",
        "features": [{"name": "SecurityType", "value": "TrustedLaunchSupported"}],
        "identifier": {"publisher": "octo", "offer": "ci", "sku": "runner"},
        "provisioningState": "Succeeded",
    })
}

/// An image of a gallery that is open to others; all have the same one.
pub(super) fn open([location, _, gallery, image]: &[String; 4], kind: &str) -> Result<Value> {
    known_location(location)?;
    let id = format!("/{kind}/{gallery}/images/{image}");
    if !image.eq_ignore_ascii_case("runner") {
        return Err(no_gallery_image(&id));
    }
    let mut properties = described();
    // Others' images are read where they are, and are never being made.
    if let Some(fields) = properties.as_object_mut() {
        fields.remove("provisioningState");
    }
    Ok(json!({
        "name": "runner", "location": location, "identifier": {"uniqueId": id},
        "properties": properties,
    }))
}

/// A resource that stands for an image: a managed one, one of the gallery, or a version of that.
pub(super) fn resource(kind: Kind, group: &str, name: &str, rest: &[String]) -> Option<Value> {
    if !group.eq_ignore_ascii_case(SHARED) {
        return None;
    }
    let id = kind.id(SHARED, name);
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let described = described();
    let (id, kind, properties) = match (kind, name, &rest[..]) {
        (Kind::Image, "runner-image", []) => (
            id,
            "Microsoft.Compute/images",
            json!({
                "hyperVGeneration": "V2",
                "provisioningState": "Succeeded",
                "storageProfile": {"osDisk": {
                    "osType": "Linux", "osState": "Generalized", "diskSizeGB": OWN.disk_gb,
                }},
            }),
        ),
        (Kind::Gallery, GALLERY, ["images", "runner"]) => (
            format!("{id}/images/runner"),
            "Microsoft.Compute/galleries/images",
            described,
        ),
        (
            Kind::Gallery,
            GALLERY,
            [
                "images",
                "runner",
                "versions",
                version @ ("1.0.0" | "1.1.0"),
            ],
        ) => (
            format!("{id}/images/runner/versions/{version}"),
            "Microsoft.Compute/galleries/images/versions",
            json!({
                "provisioningState": "Succeeded",
                "storageProfile": {"osDiskImage": {"sizeInGB": OWN.disk_gb, "hostCaching": "ReadWrite"}},
            }),
        ),
        _ => return None,
    };
    let name = id.rsplit('/').next().unwrap_or_default().to_owned();
    Some(json!({
        "id": id, "name": name, "type": kind, "location": "westus2", "properties": properties,
    }))
}

/// An action, and the id of the image that it is done to.
pub(super) type Linked = (&'static str, String);

/// The image that a machine's `imageReference` names: what it is, how it is shown, and what the
/// caller must be allowed to do to what.
pub(super) fn referenced(
    location: &str,
    reference: &Value,
) -> Result<(Image, Reference, Option<Linked>)> {
    let text = |name: &str| reference[name].as_str().map(str::to_owned);
    if let Some(id) = text("id") {
        let (image, action) = own_image(&id)?;
        return Ok((image, Reference::Id(id.clone()), Some((action, id))));
    }
    // <https://learn.microsoft.com/en-us/azure/virtual-machines/share-gallery-community>
    if let Some(id) = text("communityGalleryImageId").or_else(|| text("sharedGalleryImageId")) {
        let known = id.to_lowercase().contains("/images/runner");
        return match known {
            true => Ok((OWN, Reference::Id(id), None)),
            false => Err(no_gallery_image(&id)),
        };
    }
    let missing = |name: &str| {
        ApiError::parameter(
            &format!("imageReference.{name}"),
            format!("Required parameter 'imageReference.{name}' is missing (null)."),
        )
    };
    let part = |name: &str| text(name).ok_or_else(|| missing(name));
    let names = [
        location.to_owned(),
        part("publisher")?,
        part("offer")?,
        part("sku")?,
    ];
    let wanted = part("version")?;
    let not_found = || {
        let [_, publisher, offer, sku] = &names;
        ApiError::new(
            404,
            "PlatformImageNotFound",
            format!(
                "The platform image '{publisher}:{offer}:{sku}:{wanted}' is not available. Verify \
                 that all fields in the storage profile are correct. For more details about storage \
                 profile information, please refer to https://aka.ms/storageprofile"
            ),
        )
        .target("imageReference")
    };
    let offer = offer(&names).ok_or_else(not_found)?;
    let version = match wanted.as_str() {
        "latest" => offer.3.last().copied(),
        name => offer.3.iter().copied().find(|known| *known == name),
    };
    let version = version.ok_or_else(not_found)?;
    let [_, publisher, offer_name, sku] = names;
    let reference = Reference::Marketplace([publisher, offer_name, sku, version.to_owned()]);
    Ok((offer.4.clone(), reference, None))
}

/// How an image was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// Publisher, offer, SKU and the version that it came to.
    Marketplace([String; 4]),
    Id(String),
}

impl Reference {
    /// `publisher:offer:sku:version`, or the id.
    pub(super) fn text(&self) -> String {
        match self {
            Reference::Marketplace(names) => names.join(":"),
            Reference::Id(id) => id.clone(),
        }
    }
}

fn no_gallery_image(id: &str) -> ApiError {
    ApiError::new(
        404,
        "GalleryImageNotFound",
        format!("The gallery image {id} is not available. Verify that the ID is correct."),
    )
    .target("imageReference")
}

fn own_image(id: &str) -> Result<(Image, &'static str)> {
    let (group, kind, name, rest) = super::path::resource(id)
        .filter(|(_, kind, ..)| matches!(kind, Kind::Image | Kind::Gallery))
        .ok_or_else(|| {
            ApiError::parameter(
                "imageReference.id",
                format!("The value '{id}' of parameter 'imageReference.id' is invalid."),
            )
        })?;
    let action = match (kind, rest.len()) {
        (Kind::Image, _) => "Microsoft.Compute/images/read",
        (_, 0..=2) => "Microsoft.Compute/galleries/images/read",
        _ => "Microsoft.Compute/galleries/images/versions/read",
    };
    match resource(kind, &group, &name, &rest) {
        Some(_) => Ok((OWN, action)),
        None if kind == Kind::Image => Err(ApiError::no_resource(kind, &group, &name)),
        None => Err(no_gallery_image(id)),
    }
}
