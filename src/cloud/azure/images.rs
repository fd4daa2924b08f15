//! Images: which ones are asked for, and what is known of them.

mod look;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(super) use self::look::{look_at_id, look_in_market};
use super::sizes::Driver;
use crate::cloud::Arch;

/// An image of the marketplace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Market {
    pub(super) publisher: String,
    pub(super) offer: String,
    pub(super) sku: String,
    /// A version, or [`LATEST`].
    pub(super) version: String,
}

/// The version that stands for the newest one.
pub(super) const LATEST: &str = "latest";

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Market {
            publisher,
            offer,
            sku,
            version,
        } = self;
        write!(f, "{publisher}:{offer}:{sku}:{version}")
    }
}

/// Ubuntu 24.04 LTS: for x86, for x86 of the first generation, and for Arm.
/// <https://documentation.ubuntu.com/azure/azure-how-to/instances/find-ubuntu-images/>
const UBUNTU: [&str; 3] = ["Canonical", "ubuntu-24_04-lts", "server"];
const UBUNTU_GEN1: [&str; 3] = ["Canonical", "ubuntu-24_04-lts", "server-gen1"];
const UBUNTU_ARM: [&str; 3] = ["Canonical", "ubuntu-24_04-lts", "server-arm64"];
/// Microsoft's Ubuntu 24.04 LTS with NVIDIA's drivers; and the one whose drivers still know Volta.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/azure-hpc-vm-images>
/// <https://github.com/Azure/azhpc-images>
const HPC: [&str; 3] = ["microsoft-dsvm", "ubuntu-hpc", "2404"];
const HPC_OLD: [&str; 3] = ["microsoft-dsvm", "ubuntu-hpc", "2404-v100"];

/// Ubuntu's images have 30 GB.
const UBUNTU_GB: u32 = 30;
/// Microsoft's have 64, of which the drivers and their tools leave a few: twice that is for jobs.
const HPC_GB: u32 = 64;
const HPC_USUAL_GB: u32 = 128;

impl Market {
    fn newest([publisher, offer, sku]: [&str; 3]) -> Self {
        Self {
            publisher: publisher.to_owned(),
            offer: offer.to_owned(),
            sku: sku.to_owned(),
            version: LATEST.to_owned(),
        }
    }

    /// Our choice for machines of a kind.
    pub(super) fn default(arch: Arch, driver: Driver, second_generation: bool) -> Self {
        Self::newest(match (arch, driver) {
            (Arch::Aarch64, _) => UBUNTU_ARM,
            (Arch::X86_64, Driver::Cuda) => HPC,
            (Arch::X86_64, Driver::Old) => HPC_OLD,
            (Arch::X86_64, _) if second_generation => UBUNTU,
            (Arch::X86_64, _) => UBUNTU_GEN1,
        })
    }

    fn is(&self, [publisher, offer, sku]: [&str; 3]) -> bool {
        self.publisher.eq_ignore_ascii_case(publisher)
            && self.offer.eq_ignore_ascii_case(offer)
            && self.sku.eq_ignore_ascii_case(sku)
    }

    /// Whether it brings NVIDIA's drivers, which nobody signed for Secure Boot.
    fn has_drivers(&self) -> bool {
        self.is(HPC) || self.is(HPC_OLD)
    }

    /// What is known of our own choices without asking.
    pub(super) fn known(&self) -> Image {
        let ubuntu = [UBUNTU, UBUNTU_GEN1, UBUNTU_ARM];
        let arch = if self.is(UBUNTU_ARM) {
            Some(Arch::Aarch64)
        } else if self.has_drivers() || self.is(UBUNTU) || self.is(UBUNTU_GEN1) {
            Some(Arch::X86_64)
        } else {
            None
        };
        Image {
            reference: Reference::market(self),
            exact: None,
            name: None,
            arch,
            second_generation: arch.map(|_| !self.is(UBUNTU_GEN1)),
            disk_gb: if ubuntu.iter().any(|known| self.is(*known)) {
                Some(UBUNTU_GB)
            } else {
                self.has_drivers().then_some(HPC_GB)
            },
            usual_gb: self.has_drivers().then_some(HPC_USUAL_GB),
            trusted: self.is(UBUNTU),
            signed: !self.has_drivers(),
            plan: None,
        }
    }
}

/// Which image the user wants.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum WantedImage {
    /// Our choice.
    #[default]
    Default,
    Market(Market),
    /// An id, as its kind of gallery writes it.
    Id(ImageId),
}

/// An image that isn't the marketplace's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageId {
    kind: IdKind,
    text: String,
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdKind {
    /// `/subscriptions/…/images/…`
    Managed,
    /// `/subscriptions/…/galleries/…/images/…[/versions/…]`
    Gallery,
    /// `/sharedGalleries/…/images/…[/versions/…]`
    Shared,
    /// `/communityGalleries/…/images/…[/versions/…]`
    Community,
}

impl WantedImage {
    /// Reads `--cloud-image`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let complaint = || {
            format!(
                "--cloud-image: `{text}` is neither PUBLISHER:OFFER:SKU:VERSION (the version may \
                 be `latest`) nor the id of an image or of one in a gallery: /subscriptions/…, \
                 /sharedGalleries/… or /communityGalleries/…"
            )
        };
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.()".contains(c))
        };
        if let Some(id) = text.strip_prefix('/') {
            let kind = id.split('/').all(plain).then(|| kind(id)).flatten();
            let kind = kind.ok_or_else(complaint)?;
            return Ok(WantedImage::Id(ImageId {
                kind,
                text: text.to_owned(),
            }));
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [publisher, offer, sku, version] if parts.iter().all(|part| plain(part)) => {
                Ok(WantedImage::Market(Market {
                    publisher: (*publisher).to_owned(),
                    offer: (*offer).to_owned(),
                    sku: (*sku).to_owned(),
                    version: (*version).to_owned(),
                }))
            }
            _ => Err(complaint()),
        }
    }
}

fn kind(id: &str) -> Option<IdKind> {
    let parts: Vec<String> = id.split('/').map(str::to_ascii_lowercase).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let compute = "microsoft.compute";
    Some(match parts.as_slice() {
        [
            "subscriptions",
            _,
            "resourcegroups",
            _,
            "providers",
            known,
            "images",
            _,
        ] if *known == compute => IdKind::Managed,
        [
            "subscriptions",
            _,
            "resourcegroups",
            _,
            "providers",
            known,
            "galleries",
            _,
            "images",
            _,
            rest @ ..,
        ] if *known == compute && is_version(rest) => IdKind::Gallery,
        ["sharedgalleries", _, "images", _, rest @ ..] if is_version(rest) => IdKind::Shared,
        ["communitygalleries", _, "images", _, rest @ ..] if is_version(rest) => IdKind::Community,
        _ => return None,
    })
}

fn is_version(parts: &[&str]) -> bool {
    matches!(parts, [] | ["versions", _])
}

/// How a machine's body names its image.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/create-or-update#imagereference>
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_gallery_image_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    community_gallery_image_id: Option<String>,
}

impl Reference {
    fn market(market: &Market) -> Self {
        Self {
            publisher: Some(market.publisher.clone()),
            offer: Some(market.offer.clone()),
            sku: Some(market.sku.clone()),
            version: Some(market.version.clone()),
            ..Self::default()
        }
    }

    fn id(id: &ImageId) -> Self {
        let text = Some(id.text.clone());
        match id.kind {
            IdKind::Managed | IdKind::Gallery => Self {
                id: text,
                ..Self::default()
            },
            IdKind::Shared => Self {
                shared_gallery_image_id: text,
                ..Self::default()
            },
            IdKind::Community => Self {
                community_gallery_image_id: text,
                ..Self::default()
            },
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = [
            &self.id,
            &self.shared_gallery_image_id,
            &self.community_gallery_image_id,
        ];
        if let Some(id) = ids.into_iter().flatten().next() {
            return f.write_str(id);
        }
        let parts = [&self.publisher, &self.offer, &self.sku, &self.version];
        let parts: Vec<&str> = parts.into_iter().filter_map(Option::as_deref).collect();
        f.write_str(&parts.join(":"))
    }
}

/// What somebody else's image costs, or at least is sold under.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/cli-ps-findimage#check-the-purchase-plan-information>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PurchasePlan {
    pub(super) name: String,
    pub(super) product: String,
    pub(super) publisher: String,
}

/// An image, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) reference: Reference,
    /// What the newest version is now, where that is asked for.
    pub(super) exact: Option<Market>,
    pub(super) name: Option<String>,
    pub(super) arch: Option<Arch>,
    pub(super) second_generation: Option<bool>,
    /// Its own size, the least that a disk can have.
    pub(super) disk_gb: Option<u32>,
    /// The size that leaves room, for who doesn't say one.
    pub(super) usual_gb: Option<u32>,
    /// Whether it can have Trusted Launch.
    pub(super) trusted: bool,
    /// Whether everything that it loads into its kernel is signed.
    pub(super) signed: bool,
    pub(super) plan: Option<PurchasePlan>,
}

impl Image {
    /// What the user is told.
    pub(super) fn told(&self) -> String {
        match &self.exact {
            Some(exact) => exact.to_string(),
            None => self.reference.to_string(),
        }
    }
}

/// What looking for an image brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Image(Image),
    /// There is none.
    Missing,
    /// It may not be looked at: what is known without that.
    Unread(Image),
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
