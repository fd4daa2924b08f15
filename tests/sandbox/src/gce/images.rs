//! Images: `images.get` and `images.getFromFamily`.
//! <https://docs.cloud.google.com/compute/docs/images/os-details>

use serde_json::{Value, json};

use super::error::{ApiError, Result};
use super::{Context, link};
use crate::google::PROJECT;
use crate::instance::Distribution;

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) project: &'static str,
    pub(super) name: &'static str,
    family: &'static str,
    /// `X86_64` or `ARM64`.
    pub(super) architecture: &'static str,
    pub(super) size_gb: u32,
    pub(super) distribution: Distribution,
    deprecated: bool,
}

const CANONICAL: &str = "ubuntu-os-cloud";
const ACCELERATED: &str = "ubuntu-os-accelerator-images";
const DEEP_LEARNING: &str = "deeplearning-platform-release";
const DEBIAN: &str = "debian-cloud";
const JAMMY: Distribution = Distribution::Ubuntu("22.04");
const NOBLE: Distribution = Distribution::Ubuntu("24.04");
const X86: &str = "X86_64";
const ARM: &str = "ARM64";

const fn image(
    project: &'static str,
    family: &'static str,
    name: &'static str,
    architecture: &'static str,
    size_gb: u32,
    distribution: Distribution,
) -> Image {
    Image {
        project,
        name,
        family,
        architecture,
        size_gb,
        distribution,
        deprecated: false,
    }
}

/// The newest of a family comes last.
#[rustfmt::skip]
pub(super) const IMAGES: &[Image] = &[
    Image { deprecated: true, ..image(CANONICAL, "ubuntu-2404-lts-amd64", "ubuntu-2404-noble-amd64-v20260801", X86, 10, NOBLE) },
    image(CANONICAL, "ubuntu-2404-lts-amd64", "ubuntu-2404-noble-amd64-v20261016", X86, 10, NOBLE),
    image(CANONICAL, "ubuntu-2404-lts-arm64", "ubuntu-2404-noble-arm64-v20261016", ARM, 10, NOBLE),
    image(CANONICAL, "ubuntu-minimal-2404-lts-amd64", "ubuntu-minimal-2404-noble-amd64-v20261016", X86, 10, NOBLE),
    image(CANONICAL, "ubuntu-minimal-2404-lts-arm64", "ubuntu-minimal-2404-noble-arm64-v20261016", ARM, 10, NOBLE),
    image(CANONICAL, "ubuntu-2204-lts", "ubuntu-2204-jammy-v20261014", X86, 10, JAMMY),
    image(CANONICAL, "ubuntu-2204-lts-arm64", "ubuntu-2204-jammy-arm64-v20261014", ARM, 10, JAMMY),
    image(ACCELERATED, "ubuntu-accelerator-2404-amd64-with-nvidia-570", "ubuntu-accelerator-2404-amd64-with-nvidia-570-v20260912", X86, 20, NOBLE),
    image(ACCELERATED, "ubuntu-accelerator-2404-amd64-with-nvidia-580", "ubuntu-accelerator-2404-amd64-with-nvidia-580-v20261009", X86, 20, NOBLE),
    image(ACCELERATED, "ubuntu-accelerator-2204-amd64-with-nvidia-580", "ubuntu-accelerator-2204-amd64-with-nvidia-580-v20261009", X86, 20, JAMMY),
    image(ACCELERATED, "ubuntu-accelerator-2404-arm64-with-nvidia-580", "ubuntu-accelerator-2404-arm64-with-nvidia-580-v20261009", ARM, 20, NOBLE),
    image(DEEP_LEARNING, "common-cu128-ubuntu-2204-nvidia-570", "common-cu128-ubuntu-2204-nvidia-570-v20260930", X86, 50, JAMMY),
    image(DEBIAN, "debian-12", "debian-12-bookworm-v20261013", X86, 10, Distribution::Debian),
    image(PROJECT, "ci-images", "ci-image-7", X86, 40, NOBLE),
];

impl Image {
    /// `projects/…/global/images/…`.
    pub(super) fn resource(&self) -> String {
        format!("projects/{}/global/images/{}", self.project, self.name)
    }

    fn is_private(&self) -> bool {
        self.project == PROJECT
    }
}

/// The image that a `sourceImage` means: by its name, or the newest of a family.
///
/// # Errors
/// As an insert says it.
pub(super) fn source(context: &Context<'_>, field: &str, text: &str) -> Result<&'static Image> {
    let malformed = || {
        ApiError::invalid(
            field,
            text,
            "The URL is malformed. Must be a valid image URL or partial URL.",
        )
    };
    let path = link::path(text).ok_or_else(malformed)?;
    let words: Vec<&str> = path.split('/').collect();
    let (project, name, is_family) = match words.as_slice() {
        ["projects", project, "global", "images", "family", family] => (*project, *family, true),
        ["projects", project, "global", "images", name] => (*project, *name, false),
        ["global", "images", "family", family] => (PROJECT, *family, true),
        ["global", "images", name] => (PROJECT, *name, false),
        _ => return Err(malformed()),
    };
    let found = if is_family {
        newest(project, name)
    } else {
        IMAGES
            .iter()
            .find(|image| image.project == project && image.name == name)
    };
    let image = found.ok_or_else(|| {
        ApiError::invalid(
            field,
            text,
            "The referenced image resource cannot be found.",
        )
    })?;
    if image.is_private() {
        context.require("compute.images.useReadOnly", &image.resource())?;
    }
    Ok(image)
}

fn newest(project: &str, family: &str) -> Option<&'static Image> {
    IMAGES
        .iter()
        .rfind(|image| image.project == project && image.family == family && !image.deprecated)
}

pub(super) fn get(context: &Context<'_>) -> Result<Value> {
    let (project, name) = (context.path("project"), context.path("image"));
    let resource = format!("projects/{project}/global/images/{name}");
    find(context, &resource, |image| {
        image.project == project && image.name == name
    })
}

pub(super) fn get_from_family(context: &Context<'_>) -> Result<Value> {
    let (project, family) = (context.path("project"), context.path("family"));
    let resource = format!("projects/{project}/global/images/family/{family}");
    let newest = newest(project, family).map(|image| image.name);
    find(context, &resource, |image| {
        image.project == project && Some(image.name) == newest
    })
}

/// Public images may be seen by everybody; of the others, whoever may not see them doesn't hear
/// whether they are there.
fn find(
    context: &Context<'_>,
    resource: &str,
    is_wanted: impl Fn(&Image) -> bool,
) -> Result<Value> {
    if context.path("project") == PROJECT {
        let permission = match context.method() {
            "images.getFromFamily" => "compute.images.getFromFamily",
            _ => "compute.images.get",
        };
        context.require(permission, resource)?;
    }
    let image = IMAGES
        .iter()
        .rfind(|image| is_wanted(image))
        .ok_or_else(|| ApiError::not_found(resource))?;
    let mut json = json!({
        "kind": "compute#image",
        "id": link::id(&image.resource()),
        "creationTimestamp": "2026-10-16T01:02:03.000-07:00",
        "name": image.name,
        "description": format!("{} image", image.family),
        "sourceType": "RAW",
        "rawDisk": {"source": "", "containerType": "TAR"},
        "status": "READY",
        "archiveSizeBytes": "1234567890",
        "diskSizeGb": image.size_gb.to_string(),
        "family": image.family,
        "architecture": image.architecture,
        "selfLink": context.world.link(&image.resource()),
        "labelFingerprint": "42WmSpB8rSM=",
        "guestOsFeatures": [
            {"type": "VIRTIO_SCSI_MULTIQUEUE"},
            {"type": "UEFI_COMPATIBLE"},
            {"type": "GVNIC"},
        ],
        "storageLocations": ["us"],
    });
    if image.deprecated {
        json["deprecated"] = json!({"state": "DEPRECATED"});
    }
    Ok(json)
}
