//! Images: which ones are asked for, and what is known of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::client::{Api, Call, Client, Failure};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WantedImage {
    /// Our choice.
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

/// What a list of versions has of each.
#[derive(Debug, Deserialize)]
struct Version {
    name: String,
    #[serde(default)]
    properties: Option<Properties>,
}

/// A version in the order of its numbers: as text, 8.9 comes after 8.10.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split('.');
    parts.map(|part| part.parse().unwrap_or_default()).collect()
}

/// What the kinds of images have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    architecture: Option<String>,
    hyper_v_generation: Option<String>,
    features: Option<Vec<Feature>>,
    plan: Option<PurchasePlan>,
    purchase_plan: Option<PurchasePlan>,
    storage_profile: Option<Storage>,
}

#[derive(Debug, Deserialize)]
struct Feature {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    os_disk: Option<OsDisk>,
}

#[derive(Debug, Deserialize)]
struct OsDisk {
    #[serde(rename = "diskSizeGB")]
    size_gb: Option<u32>,
}

impl Properties {
    /// Lists don't always show everything.
    fn is_whole(&self) -> bool {
        self.hyper_v_generation.is_some() && self.features.is_some()
    }

    /// Adds what is told to what is known.
    fn add_to(self, image: Image) -> Image {
        let arch = match self.architecture.as_deref() {
            Some(text) if text.eq_ignore_ascii_case("Arm64") => Some(Arch::Aarch64),
            Some(text) if text.eq_ignore_ascii_case("x64") => Some(Arch::X86_64),
            _ => image.arch,
        };
        let generation = self.hyper_v_generation;
        let trusted = self.features.as_ref().map(|features| {
            features.iter().any(|feature| {
                feature.name.eq_ignore_ascii_case("SecurityType")
                    && feature
                        .value
                        .to_ascii_lowercase()
                        .starts_with("trustedlaunch")
            })
        });
        let disk = self.storage_profile.and_then(|storage| storage.os_disk);
        Image {
            arch,
            second_generation: generation
                .map(|text| text.eq_ignore_ascii_case("V2"))
                .or(image.second_generation),
            disk_gb: disk.and_then(|disk| disk.size_gb).or(image.disk_gb),
            trusted: trusted.unwrap_or(image.trusted),
            plan: self.plan.or(self.purchase_plan).or(image.plan),
            ..image
        }
    }
}

/// Looks for an image of the marketplace in a region. Which version is the newest is Azure's to say when
/// the machine is made; here it is only to know what images of the kind are like.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machine-images/list>
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machine-images/get>
pub(super) async fn look_in_market(
    client: &Client,
    region: &str,
    wanted: &Market,
) -> Result<Found, Failure> {
    let path = format!(
        "providers/Microsoft.Compute/locations/{region}/publishers/{}/artifacttypes/vmimage\
         /offers/{}/skus/{}/versions",
        wanted.publisher, wanted.offer, wanted.sku
    );
    let mut exact = None;
    let mut properties = Properties::default();
    if wanted.version == LATEST {
        // Azure sorts them as text. So all are asked for, by their names alone, and side by side the one
        // with everything that most likely is the newest.
        let all = Call::get(Api::Compute, "images", &path);
        let last = all
            .clone()
            .query("$top", "1")
            .query("$orderby", "name desc")
            .query("$expand", "properties");
        let both = Box::pin(async {
            tokio::try_join!(
                read::<Vec<Version>>(client, &all),
                read::<Vec<Version>>(client, &last)
            )
        });
        let (all, last) = match both.await? {
            (Some(Answer::Told(all)), Some(Answer::Told(last))) => (all, last),
            (None, _) | (_, None) => return Ok(Found::Missing),
            _ => return Ok(Found::Unread(wanted.known())),
        };
        let names = all.into_iter().map(|version| version.name);
        let Some(version) = names.max_by_key(|name| numbers(name)) else {
            return Ok(Found::Missing);
        };
        let last = last.into_iter().find(|last| last.name == version);
        properties = last.and_then(|last| last.properties).unwrap_or_default();
        exact = Some(Market {
            version,
            ..wanted.clone()
        });
    }
    if !properties.is_whole() {
        let version = &exact.as_ref().unwrap_or(wanted).version;
        let call = Call::get(Api::Compute, "images", format!("{path}/{version}"));
        match read::<Whole>(client, &call).await? {
            Some(Answer::Told(whole)) => properties = whole.properties,
            Some(Answer::Denied) => return Ok(Found::Unread(properties.add_to(wanted.known()))),
            None => return Ok(Found::Missing),
        }
    }
    let name = Some(wanted.to_string());
    let image = properties.add_to(wanted.known());
    Ok(Found::Image(Image {
        exact,
        name,
        ..image
    }))
}

/// Looks at an image that has an id.
/// <https://learn.microsoft.com/en-us/rest/api/compute/images/get>
/// <https://learn.microsoft.com/en-us/rest/api/compute/gallery-images/get>
/// <https://learn.microsoft.com/en-us/rest/api/compute/shared-gallery-images/get>
/// <https://learn.microsoft.com/en-us/rest/api/compute/community-gallery-images/get>
pub(super) async fn look_at_id(
    client: &Client,
    region: &str,
    id: &ImageId,
) -> Result<Found, Failure> {
    // Versions tell less than what they are versions of.
    let lower = id.text.to_ascii_lowercase();
    let end = lower.find("/versions/").unwrap_or(id.text.len());
    let definition = &id.text[..end];
    let (api, path) = match id.kind {
        IdKind::Managed => (Api::Compute, definition.to_owned()),
        IdKind::Gallery => (Api::Galleries, definition.to_owned()),
        IdKind::Shared | IdKind::Community => (
            Api::Galleries,
            format!("providers/Microsoft.Compute/locations/{region}{definition}"),
        ),
    };
    let known = Image {
        reference: Reference::id(id),
        exact: None,
        name: None,
        // Others than galleries' can't be for Arm.
        arch: (id.kind == IdKind::Managed).then_some(Arch::X86_64),
        second_generation: None,
        disk_gb: None,
        usual_gb: None,
        trusted: false,
        signed: true,
        plan: None,
    };
    let call = Call::get(api, "images", path);
    let looked = match read::<Whole>(client, &call).await {
        // The image's own, which needn't be the launch's.
        Err(failure) if failure.is_without_subscription() => None,
        looked => looked?,
    };
    Ok(match looked {
        Some(Answer::Told(whole)) => Found::Image(whole.properties.add_to(known)),
        Some(Answer::Denied) => Found::Unread(known),
        None => Found::Missing,
    })
}

#[derive(Debug, Deserialize)]
struct Whole {
    #[serde(default)]
    properties: Properties,
}

enum Answer<T> {
    Told(T),
    Denied,
}

/// `None`: there is nothing.
async fn read<T: serde::de::DeserializeOwned>(
    client: &Client,
    call: &Call,
) -> Result<Option<Answer<T>>, Failure> {
    match client.call(call).await {
        Ok(answer) => Ok(Some(Answer::Told(answer))),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) if super::look::is_tolerated(&failure) => Ok(Some(Answer::Denied)),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
