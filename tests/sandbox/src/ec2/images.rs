//! Machine images: the catalogue, and DescribeImages.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::accounts::ACCOUNT;
use super::catalogue::{REGIONS, Region};
use super::error::{ApiError, Result};
use super::query::Node;
use super::state::Tags;
use super::xml::Xml;
use super::{Context, check_id};
use crate::clock;
use crate::instance::Distribution;
use crate::sigv4::hex;

const CANONICAL: &str = "099720109477";
const AMAZON: &str = "137112412989";
const DEEP_LEARNING: &str = "898082745236";
const DEBIAN: &str = "136693071363";
const MARKETPLACE: &str = "679593333241";
/// Somebody who publishes images under others' names.
const IMPOSTOR: &str = "666666666666";

/// An image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) region: &'static str,
    pub(crate) name: String,
    owner: &'static str,
    alias: Option<&'static str>,
    created: Timestamp,
    pub(crate) architecture: &'static str,
    pub(crate) root_device: &'static str,
    pub(crate) size_gb: u32,
    pub(crate) distribution: Distribution,
    public: bool,
    /// Still there for those who know its id.
    deprecated: bool,
}

/// One line of the catalogue: many versions of many architectures.
struct Series {
    owner: &'static str,
    alias: Option<&'static str>,
    /// `{arch}` and `{date}` are replaced.
    name: &'static str,
    /// How the series calls the architectures: (x86_64's, arm64's).
    architectures: (&'static str, &'static str),
    dates: &'static [&'static str],
    size_gb: u32,
    root_device: &'static str,
    distribution: Distribution,
}

const SDA: &str = "/dev/sda1";
const XVDA: &str = "/dev/xvda";
const JAMMY: Distribution = Distribution::Ubuntu("22.04");
const NOBLE: Distribution = Distribution::Ubuntu("24.04");
const UBUNTU: (&str, &str) = ("amd64", "arm64");
const ANY: (&str, &str) = ("", "");

const fn canonical(
    name: &'static str,
    dates: &'static [&'static str],
    distribution: Distribution,
) -> Series {
    Series {
        owner: CANONICAL,
        alias: Some("amazon"),
        name,
        architectures: UBUNTU,
        dates,
        size_gb: 8,
        root_device: SDA,
        distribution,
    }
}

const fn deep_learning(
    name: &'static str,
    architectures: (&'static str, &'static str),
    dates: &'static [&'static str],
    size_gb: u32,
    distribution: Distribution,
) -> Series {
    Series {
        owner: DEEP_LEARNING,
        alias: Some("amazon"),
        name,
        architectures,
        dates,
        size_gb,
        root_device: SDA,
        distribution,
    }
}

/// The names follow their publishers' real patterns. Beside what a launch wants there is what only
/// looks like it: testing, minimal and Pro images, a short-lived release, marketplace copies.
const SERIES: &[Series] = &[
    canonical(
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-{date}",
        &["20240423", "20250115", "20241109"],
        NOBLE,
    ),
    canonical(
        "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-{arch}-server-{date}",
        &["20250112", "20230919", "20240927"],
        JAMMY,
    ),
    canonical(
        "ubuntu/images/hvm-ssd-gp3/ubuntu-oracular-24.10-{arch}-server-{date}",
        &["20250205"],
        Distribution::Ubuntu("24.10"),
    ),
    canonical(
        "ubuntu/images-testing/hvm-ssd-gp3/ubuntu-noble-daily-{arch}-server-{date}",
        &["20250301"],
        NOBLE,
    ),
    canonical(
        "ubuntu-minimal/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-minimal-{date}",
        &["20250210"],
        NOBLE,
    ),
    canonical(
        "ubuntu-pro-server/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-pro-server-{date}",
        &["20250220"],
        NOBLE,
    ),
    Series {
        owner: MARKETPLACE,
        alias: Some("aws-marketplace"),
        name: "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-{date}-5c83bc53-1fd6-4f52-8f5a-2f5d4f3d6d5e",
        architectures: UBUNTU,
        dates: &["20250225"],
        size_gb: 8,
        root_device: SDA,
        distribution: NOBLE,
    },
    Series {
        owner: IMPOSTOR,
        alias: None,
        name: "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-{date}",
        architectures: UBUNTU,
        dates: &["20250909"],
        size_gb: 8,
        root_device: SDA,
        distribution: NOBLE,
    },
    deep_learning(
        "Deep Learning {arch}Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) {date}",
        ("", "ARM64 "),
        &["20250117", "20250301"],
        50,
        NOBLE,
    ),
    deep_learning(
        "Deep Learning {arch}Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) {date}",
        ("", "ARM64 "),
        &["20250224", "20241115", "20250117"],
        35,
        JAMMY,
    ),
    deep_learning(
        "Deep Learning {arch}Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023) {date}",
        ("", "ARM64 "),
        &["20250305"],
        40,
        Distribution::Amazon,
    ),
    deep_learning(
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.5.1 (Ubuntu 22.04) {date}",
        ("", ""),
        &["20250302"],
        45,
        JAMMY,
    ),
    deep_learning(
        "Deep Learning Base Neuron AMI (Ubuntu 22.04) {date}",
        ("", ""),
        &["20250303"],
        45,
        JAMMY,
    ),
    Series {
        owner: DEBIAN,
        alias: None,
        name: "debian-12-{arch}-{date}-1961",
        architectures: UBUNTU,
        dates: &["20250115", "20241201"],
        size_gb: 8,
        root_device: XVDA,
        distribution: Distribution::Debian,
    },
    Series {
        owner: AMAZON,
        alias: Some("amazon"),
        name: "al2023-ami-2023.6.{date}.0-kernel-6.1-{arch}",
        architectures: ("x86_64", "arm64"),
        dates: &["20250107", "20241212"],
        size_gb: 8,
        root_device: XVDA,
        distribution: Distribution::Amazon,
    },
    Series {
        owner: ACCOUNT,
        alias: None,
        name: "ci-golden-image-{date}",
        architectures: ANY,
        dates: &["20250210"],
        size_gb: 20,
        root_device: SDA,
        distribution: NOBLE,
    },
];

/// Every image of every region.
pub(crate) fn catalogue() -> Vec<Image> {
    let mut images: Vec<Image> = REGIONS.iter().flat_map(images_of).collect();
    // In an order that says nothing, as the real service's.
    images.sort_by(|a, b| a.id.cmp(&b.id));
    images
}

fn images_of(region: &'static Region) -> Vec<Image> {
    let mut images = Vec::new();
    for series in SERIES {
        let (x86, arm) = series.architectures;
        for (architecture, called) in [("x86_64", x86), ("arm64", arm)] {
            let both = series.name.contains("{arch}");
            if architecture == "arm64" && !both {
                continue;
            }
            for (age, date) in newest_first(series.dates).into_iter().enumerate() {
                let name = series
                    .name
                    .replace("{arch}", called)
                    .replace("{date}", date);
                let digest = Sha256::digest(format!("{}/{}/{name}", region.name, series.owner));
                images.push(Image {
                    id: format!("ami-{}", &hex(&digest)[..17]),
                    region: region.name,
                    name,
                    owner: series.owner,
                    alias: series.alias,
                    created: created(date),
                    architecture,
                    root_device: series.root_device,
                    size_gb: series.size_gb,
                    distribution: series.distribution,
                    public: series.owner != ACCOUNT,
                    deprecated: age >= 2,
                });
            }
        }
    }
    images
}

fn newest_first(dates: &[&'static str]) -> Vec<&'static str> {
    let mut dates = dates.to_vec();
    dates.sort_unstable_by(|a, b| b.cmp(a));
    dates
}

/// The morning after the date in the name.
fn created(date: &str) -> Timestamp {
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    format!("{year}-{month}-{day}T06:21:19Z")
        .parse()
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

const FILTERS: &[&str] = &[
    "architecture",
    "creation-date",
    "description",
    "ena-support",
    "hypervisor",
    "image-id",
    "image-type",
    "is-public",
    "name",
    "owner-alias",
    "owner-id",
    "root-device-name",
    "root-device-type",
    "state",
    "virtualization-type",
];

impl Image {
    fn owned_by(&self, owner: &str) -> bool {
        match owner {
            "self" => self.owner == ACCOUNT,
            "amazon" | "aws-marketplace" => self.alias == Some(owner),
            id => self.owner == id,
        }
    }

    fn property(&self, filter: &str) -> Vec<String> {
        let value = match filter {
            "architecture" => self.architecture.to_owned(),
            "creation-date" => clock::millis(self.created),
            "description" => self.description(),
            "ena-support" => "true".into(),
            "hypervisor" => "xen".into(),
            "image-id" => self.id.clone(),
            "image-type" => "machine".into(),
            "is-public" => self.public.to_string(),
            "name" => self.name.clone(),
            "owner-alias" => return self.alias.map(Into::into).into_iter().collect(),
            "owner-id" => self.owner.into(),
            "root-device-name" => self.root_device.into(),
            "root-device-type" => "ebs".into(),
            "state" => "available".into(),
            "virtualization-type" => "hvm".into(),
            _ => return Vec::new(),
        };
        vec![value]
    }

    fn description(&self) -> String {
        match self.owner {
            CANONICAL => format!("Canonical, Ubuntu, {}", self.architecture),
            _ => self.name.clone(),
        }
    }

    fn snapshot(&self) -> String {
        self.id.replacen("ami-", "snap-", 1)
    }

    fn write(&self, xml: &mut Xml) {
        xml.text("imageId", &self.id);
        xml.text(
            "imageLocation",
            format!("{}/{}", self.alias.unwrap_or(self.owner), self.name),
        );
        xml.text("imageState", "available");
        xml.text("imageOwnerId", self.owner);
        xml.text("creationDate", clock::millis(self.created));
        xml.text("isPublic", self.public);
        xml.text("architecture", self.architecture);
        xml.text("imageType", "machine");
        xml.maybe("imageOwnerAlias", self.alias);
        xml.text("name", &self.name);
        xml.text("description", self.description());
        xml.text("rootDeviceType", "ebs");
        xml.text("rootDeviceName", self.root_device);
        xml.node("blockDeviceMapping", |set| {
            set.node("item", |item| {
                item.text("deviceName", self.root_device);
                item.node("ebs", |ebs| {
                    ebs.text("snapshotId", self.snapshot());
                    ebs.text("volumeSize", self.size_gb);
                    ebs.text("deleteOnTermination", true);
                    ebs.text("volumeType", "gp3");
                    ebs.text("encrypted", false);
                });
            });
            if self.owner == CANONICAL {
                set.node("item", |item| {
                    item.text("deviceName", "/dev/sdb");
                    item.text("virtualName", "ephemeral0");
                });
            }
        });
        xml.text("virtualizationType", "hvm");
        xml.text("hypervisor", "xen");
        xml.text("enaSupport", true);
        xml.text("platformDetails", "Linux/UNIX");
        xml.text("usageOperation", "RunInstances");
        xml.text(
            "bootMode",
            if self.architecture == "arm64" {
                "uefi"
            } else {
                "uefi-preferred"
            },
        );
    }

    /// What is wrong with a root volume of this size.
    pub(crate) fn check_size(&self, size_gb: u32) -> Result<()> {
        if size_gb < self.size_gb {
            return Err(ApiError::client(
                "InvalidBlockDeviceMapping",
                format!(
                    "Volume of size {size_gb}GB is smaller than snapshot '{}', expect size>= {}GB",
                    self.snapshot(),
                    self.size_gb
                ),
            ));
        }
        Ok(())
    }
}

/// Finds an image that the account may use.
pub(crate) fn find<'a>(images: &'a [Image], region: &str, id: &str) -> Result<&'a Image> {
    check_id(id, "ami-", "InvalidAMIID.Malformed")?;
    images
        .iter()
        .find(|image| image.region == region && image.id == id)
        .ok_or_else(|| {
            ApiError::client(
                "InvalidAMIID.NotFound",
                format!("The image id '[{id}]' does not exist"),
            )
        })
}

pub(crate) fn describe_images(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let ids = params.texts("ImageId")?;
    let owners = params.texts("Owner")?;
    let executable_by = params.texts("ExecutableBy")?;
    let filters = params.filters(FILTERS)?;
    let deprecated = params.flag("IncludeDeprecated")?.unwrap_or(false);
    params.flag("IncludeDisabled")?;
    let page = params.page(1, 1000)?;
    params.finish()?;
    if page.is_given() && !ids.is_empty() {
        return Err(ApiError::combination(
            "The parameter imageIdSet cannot be used with the parameter maxResults",
        ));
    }
    for owner in &owners {
        let is_alias = matches!(owner.as_str(), "self" | "amazon" | "aws-marketplace");
        let is_account = owner.len() == 12 && owner.bytes().all(|b| b.is_ascii_digit());
        if !is_alias && !is_account {
            return Err(ApiError::client(
                "InvalidUserID.Malformed",
                format!("Invalid user id: \"{owner}\""),
            ));
        }
    }
    let images = &context.world.images;
    for id in &ids {
        find(images, context.region.name, id)?;
    }
    let found: Vec<&Image> = images
        .iter()
        .filter(|image| {
            image.region == context.region.name
                && (ids.is_empty() || ids.contains(&image.id))
                // Whoever names an image's id gets it, deprecated or not.
                && (deprecated || !ids.is_empty() || !image.deprecated || image.owner == ACCOUNT)
                && (owners.is_empty() || owners.iter().any(|owner| image.owned_by(owner)))
                && (executable_by.is_empty()
                    || executable_by.iter().any(|who| match who.as_str() {
                        "all" => image.public,
                        _ => !image.public,
                    }))
                && filters.pass(&Tags::new(), |filter| image.property(filter))
        })
        .collect();
    let (found, token) = page.cut(found);
    let mut xml = Xml::piece();
    xml.set("imagesSet", found, |xml, image| image.write(xml));
    xml.maybe("nextToken", token);
    Ok(xml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_unique_per_owner_and_region() {
        let images = catalogue();
        let mut ids: Vec<_> = images
            .iter()
            .map(|image| (image.region, &image.id))
            .collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(
            images
                .iter()
                .all(|image| image.created > Timestamp::UNIX_EPOCH)
        );
    }
}
