//! Which image the instance boots.

use serde::Deserialize;

use super::asked::{Asked, is_id};
use super::client::Query;
use super::sizes::Driver;
use super::xml::{Set, filled};
use crate::cloud::Arch;

/// Canonical's account. <https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/>
const CANONICAL: &str = "099720109477";
/// Debian's account. <https://wiki.debian.org/Cloud/AmazonEC2Image>
const DEBIAN: &str = "136693071363";

const UBUNTU: &str = "ubuntu/images/hvm-ssd*/ubuntu-noble-24.04-*-server-*";

/// Amazon's images with the NVIDIA driver and container toolkit, for both architectures, the
/// preferred Ubuntu first.
/// <https://docs.aws.amazon.com/dlami/latest/devguide/appendix-ami-release-notes.html>
const OPEN_DRIVER: [&str; 2] = [
    "Deep Learning*Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)*",
    "Deep Learning*Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04)*",
];
const PROPRIETARY_DRIVER: [&str; 1] =
    ["Deep Learning Base Proprietary Nvidia Driver GPU AMI (Ubuntu 2*"];

/// `--cloud-image`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum WantedImage {
    /// Ours, by type.
    #[default]
    Default,
    Id(String),
    /// The newest of this name, from these owners.
    Name {
        name: String,
        owners: Vec<String>,
    },
}

impl WantedImage {
    /// An id; a name; or `OWNER:NAME`. A bare name is only looked for where not everybody can put
    /// an image of that name: in the own account, and with Amazon, Canonical and Debian.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if is_id(text, "ami-") {
            return Ok(Self::Id(text.to_owned()));
        }
        if text.starts_with("ami-") {
            return Err(format!(
                "--cloud-image: `{text}` is no image's id such as ami-0123456789abcdef0"
            ));
        }
        // No image's name holds a colon.
        let (owners, name) = match text.split_once(':') {
            None => (
                ["self", "amazon", CANONICAL, DEBIAN]
                    .map(str::to_owned)
                    .to_vec(),
                text,
            ),
            Some((owner, name)) => {
                let alias = matches!(owner, "self" | "amazon" | "aws-marketplace");
                let account = owner.len() == 12 && owner.chars().all(|c| c.is_ascii_digit());
                if !(alias || account) {
                    return Err(format!(
                        "--cloud-image: `{owner}` is no owner: an account's 12 digits, self, \
                         amazon or aws-marketplace"
                    ));
                }
                (vec![owner.to_owned()], name)
            }
        };
        if !(3..=128).contains(&name.chars().count()) {
            return Err(format!(
                "--cloud-image: `{name}` is no name of 3 to 128 characters"
            ));
        }
        Ok(Self::Name {
            name: name.to_owned(),
            owners,
        })
    }
}

/// An image, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) arch: Arch,
    /// ISO 8601 with a fixed width, so that text order is time order.
    created: String,
    pub(super) root_device: String,
    /// The least size of its root volume.
    pub(super) root_gb: u32,
}

/// One call for every image that this launch may need, whatever the architecture turns out to be.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html>
pub(super) fn query(asked: &Asked) -> Query {
    let query = Query::ec2("DescribeImages");
    let query = match &asked.image {
        WantedImage::Id(id) => return query.list("ImageId", [id.as_str()]),
        WantedImage::Name { name, owners } => query
            .list("Owner", owners.iter().map(String::as_str))
            .filter("name", [name.as_str()]),
        WantedImage::Default => {
            let mut names = vec![UBUNTU];
            let mut owners = vec![CANONICAL];
            if asked.needs(Driver::Open) {
                names.extend(OPEN_DRIVER);
            }
            if asked.needs(Driver::Proprietary) {
                names.extend(PROPRIETARY_DRIVER);
            }
            if names.len() > 1 {
                owners.push("amazon");
            }
            // AWS deprecates images that old GPUs still need.
            let query = match asked.needs(Driver::Proprietary) {
                true => query.set("IncludeDeprecated", "true"),
                false => query,
            };
            query.list("Owner", owners).filter("name", names)
        }
    };
    query
        .filter("state", ["available"])
        .filter("root-device-type", ["ebs"])
        .filter("architecture", ["x86_64", "arm64"])
}

#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(rename = "imagesSet", default)]
    images: Set<Item>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    image_id: String,
    name: Option<String>,
    architecture: Option<String>,
    creation_date: Option<String>,
    root_device_name: Option<String>,
    #[serde(default)]
    block_device_mapping: Set<Mapping>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    device_name: Option<String>,
    ebs: Option<Ebs>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ebs {
    volume_size: Option<u32>,
}

impl Answer {
    pub(super) fn images(self) -> Vec<Image> {
        self.images
            .items
            .into_iter()
            .filter_map(Item::image)
            .collect()
    }
}

impl Item {
    fn image(self) -> Option<Image> {
        let root_device = filled(self.root_device_name)?;
        let root = self
            .block_device_mapping
            .items
            .iter()
            .find(|mapping| mapping.device_name.as_ref() == Some(&root_device));
        let root_gb = root
            .and_then(|mapping| mapping.ebs.as_ref()?.volume_size)
            .unwrap_or_default();
        Some(Image {
            id: self.image_id,
            name: filled(self.name),
            arch: match self.architecture.as_deref() {
                Some("x86_64") => Arch::X86_64,
                Some("arm64") => Arch::Aarch64,
                _ => return None,
            },
            created: self.creation_date.unwrap_or_default(),
            root_device,
            root_gb,
        })
    }
}

/// The image for a type, and a warning where it isn't quite what the type needs. `Err` says what
/// is missing.
pub(super) fn choose<'a>(
    images: &'a [Image],
    wanted: &WantedImage,
    arch: Arch,
    driver: Driver,
) -> Result<(&'a Image, Option<&'static str>), String> {
    let fitting = |pattern: Option<&str>| {
        images
            .iter()
            .filter(|image| image.arch == arch)
            .filter(|image| pattern.is_none_or(|pattern| matches(pattern, image)))
            .max_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)))
    };
    let architecture = arch.uname();
    match wanted {
        WantedImage::Id(id) => fitting(None).map(|image| (image, None)).ok_or(format!(
            "the image {id} isn't for the architecture {architecture}"
        )),
        WantedImage::Name { name, .. } => fitting(None).map(|image| (image, None)).ok_or(format!(
            "there is no image named `{name}` for the architecture {architecture}"
        )),
        WantedImage::Default => {
            let with_driver: &[&str] = match driver {
                Driver::None => &[],
                Driver::Open => &OPEN_DRIVER,
                Driver::Proprietary => &PROPRIETARY_DRIVER,
            };
            let found = with_driver
                .iter()
                .find_map(|pattern| fitting(Some(pattern)));
            let warning = (driver != Driver::None).then_some(
                "no image of Amazon's with the NVIDIA driver was found, so Ubuntu's is taken, \
                 which has none; --cloud-image names another",
            );
            match found {
                Some(image) => Ok((image, None)),
                None => fitting(Some(UBUNTU))
                    .map(|image| (image, warning))
                    .ok_or(format!(
                        "there is no image of Ubuntu 24.04 for {architecture}"
                    )),
            }
        }
    }
}

/// Whether an image's name fits a pattern of ours, in which only `*` is special.
fn matches(pattern: &str, image: &Image) -> bool {
    let Some(name) = &image.name else {
        return false;
    };
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    pattern.ends_with('*') || rest.is_empty()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cloud::aws) fn image(id: &str, name: &str, arch: Arch, created: &str) -> Image {
        Image {
            id: id.to_owned(),
            name: Some(name.to_owned()),
            arch,
            created: created.to_owned(),
            root_device: "/dev/sda1".to_owned(),
            root_gb: 8,
        }
    }

    pub(in crate::cloud::aws) const NOBLE: &str =
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250610";
    const NOBLE_ARM: &str = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-20250610";

    /// The form of the API reference's example, with an Ubuntu image's values.
    #[test]
    fn a_published_answer_is_read() {
        let xml = format!(
            r#"<DescribeImagesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
               <requestId>59dbff89-35bd-4eac-99ed-be587EXAMPLE</requestId>
               <imagesSet>
                 <item>
                   <imageId>ami-1a2b3c4d</imageId>
                   <imageLocation>099720109477/{NOBLE}</imageLocation>
                   <imageState>available</imageState>
                   <imageOwnerId>099720109477</imageOwnerId>
                   <isPublic>true</isPublic>
                   <architecture>x86_64</architecture>
                   <imageType>machine</imageType>
                   <name>{NOBLE}</name>
                   <description/>
                   <creationDate>2025-06-10T08:00:00.000Z</creationDate>
                   <rootDeviceType>ebs</rootDeviceType>
                   <rootDeviceName>/dev/sda1</rootDeviceName>
                   <blockDeviceMapping>
                     <item>
                       <deviceName>/dev/sda1</deviceName>
                       <ebs>
                         <snapshotId>snap-1234567890abcdef0</snapshotId>
                         <volumeSize>8</volumeSize>
                         <deleteOnTermination>true</deleteOnTermination>
                         <volumeType>gp3</volumeType>
                         <encrypted>false</encrypted>
                       </ebs>
                     </item>
                     <item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>
                   </blockDeviceMapping>
                   <virtualizationType>hvm</virtualizationType>
                   <tagSet/>
                   <hypervisor>xen</hypervisor>
                 </item>
               </imagesSet>
             </DescribeImagesResponse>"#
        );
        let answer: Answer = quick_xml::de::from_str(&xml).unwrap();
        let expected = image(
            "ami-1a2b3c4d",
            NOBLE,
            Arch::X86_64,
            "2025-06-10T08:00:00.000Z",
        );
        assert_eq!(answer.images(), [expected]);
        let none: Answer = quick_xml::de::from_str("<R><imagesSet/></R>").unwrap();
        assert_eq!(none.images(), []);
    }

    #[test]
    fn images_are_named_by_id_name_or_owner_and_name() {
        let read = |text| WantedImage::read(text).unwrap();
        assert_eq!(read("ami-12345678"), WantedImage::Id("ami-12345678".into()));
        let WantedImage::Name { owners, .. } = read("ml-runner-*") else {
            panic!()
        };
        assert_eq!(owners, ["self", "amazon", CANONICAL, DEBIAN]);
        assert_eq!(
            read("123456789012:golden"),
            WantedImage::Name {
                name: "golden".into(),
                owners: vec!["123456789012".into()]
            }
        );
        for text in ["ami-1", "ab", "me:image", "123:image", ""] {
            let complaint = WantedImage::read(text).unwrap_err();
            assert!(complaint.starts_with("--cloud-image: "), "{complaint}");
        }
    }

    #[test]
    fn the_newest_fitting_image_is_chosen() {
        let dlami = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20250601";
        let dlami_22 = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20250901";
        let dlami_arm =
            "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20250601";
        let old_driver =
            "Deep Learning Base Proprietary Nvidia Driver GPU AMI (Ubuntu 20.04) 20240101";
        let images = [
            image("ami-old", NOBLE, Arch::X86_64, "2024-01-01T00:00:00.000Z"),
            image("ami-new", NOBLE, Arch::X86_64, "2025-01-01T00:00:00.000Z"),
            image(
                "ami-arm",
                NOBLE_ARM,
                Arch::Aarch64,
                "2025-02-01T00:00:00.000Z",
            ),
            image("ami-gpu", dlami, Arch::X86_64, "2025-06-01T00:00:00.000Z"),
            image(
                "ami-gpu22",
                dlami_22,
                Arch::X86_64,
                "2025-09-01T00:00:00.000Z",
            ),
            image(
                "ami-gpu-arm",
                dlami_arm,
                Arch::Aarch64,
                "2025-06-01T00:00:00.000Z",
            ),
            image(
                "ami-v100",
                old_driver,
                Arch::X86_64,
                "2024-01-01T00:00:00.000Z",
            ),
        ];
        let chosen = |arch, driver| {
            let (image, warning) = choose(&images, &WantedImage::Default, arch, driver).unwrap();
            assert_eq!(warning, None);
            image.id.as_str()
        };
        assert_eq!(chosen(Arch::X86_64, Driver::None), "ami-new");
        assert_eq!(chosen(Arch::Aarch64, Driver::None), "ami-arm");
        assert_eq!(chosen(Arch::X86_64, Driver::Open), "ami-gpu");
        assert_eq!(chosen(Arch::Aarch64, Driver::Open), "ami-gpu-arm");
        assert_eq!(chosen(Arch::X86_64, Driver::Proprietary), "ami-v100");
        let (image, warning) = choose(
            &images[..2],
            &WantedImage::Default,
            Arch::X86_64,
            Driver::Open,
        )
        .unwrap();
        assert_eq!(image.id, "ami-new");
        assert!(warning.is_some());
        let none = choose(
            &images[..2],
            &WantedImage::Default,
            Arch::Aarch64,
            Driver::None,
        );
        assert!(none.unwrap_err().contains("aarch64"));
    }

    #[test]
    fn only_gpu_types_ask_for_gpu_images() {
        let query_for = |name: &str| {
            let mut spec = crate::cloud::aws::asked::tests::spec();
            spec.types = vec![name.to_owned()];
            query(&Asked::read(&spec).unwrap())
        };
        assert_eq!(query_for("m").get("Owner.2"), None);
        assert_eq!(query_for("m+t4").get("Owner.2"), Some("amazon"));
        assert_eq!(
            query_for("m+t4").get("Filter.1.Value.2"),
            Some(OPEN_DRIVER[0])
        );
    }
}
