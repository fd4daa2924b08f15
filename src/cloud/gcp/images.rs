//! Images: which ones are asked for, and what is known of them.

use serde::Deserialize;

use super::client::{Call, Client, Failure};
use super::refusal::Meaning;
use super::sizes::Driver;
use crate::cloud::Arch;

/// Ubuntu's images, by Canonical.
/// <https://docs.cloud.google.com/compute/docs/images/os-details#ubuntu_lts>
const UBUNTU: &str = "ubuntu-os-cloud";
/// Ubuntu with an NVIDIA driver whose kernel modules are the open ones.
/// <https://docs.cloud.google.com/compute/docs/images/os-details#ubuntu_accelerator>
const UBUNTU_WITH_DRIVER: &str = "ubuntu-os-accelerator-images";
/// Deep Learning VM images, whose kernel modules are the proprietary ones. Version 580 of the
/// driver is the last one for GPUs that came before Turing.
/// <https://docs.cloud.google.com/deep-learning-vm/docs/images>
const DEEP_LEARNING: &str = "deeplearning-platform-release";

/// An image, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ImageName {
    /// `None`: the launch's own.
    project: Option<String>,
    /// Whether the name is a family's, which stands for its newest image.
    is_family: bool,
    name: String,
}

/// `--cloud-image`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum WantedImage {
    /// Ours, by machine.
    #[default]
    Default,
    Named(ImageName),
}

impl WantedImage {
    /// Reads `project/family`, an image's name in the launch's own project, or a path as Google
    /// writes it: `projects/PROJECT/global/images/NAME`, or `…/family/FAMILY`, whole or from
    /// `global/` on.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let complaint = || {
            format!(
                "--cloud-image: `{text}` is neither project/family nor an image's path such as \
                 projects/my-project/global/images/my-image"
            )
        };
        let path = match text.split_once("://") {
            None => text,
            // The host differs: www.googleapis.com, compute.googleapis.com, a private one.
            Some(_) => text
                .find("/projects/")
                .map(|at| &text[at + 1..])
                .ok_or_else(complaint)?,
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (project, is_family, name) = match parts.as_slice() {
            [name] => (None, false, *name),
            ["projects", project, "global", "images", name] => (Some(*project), false, *name),
            ["projects", project, "global", "images", "family", name] => {
                (Some(*project), true, *name)
            }
            ["global", "images", name] => (None, false, *name),
            ["global", "images", "family", name] => (None, true, *name),
            [project, family] => (Some(*project), true, *family),
            _ => return Err(complaint()),
        };
        // A name may be a number, the image's id; a project may be `domain.com:project`.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good_name = (1..=63).contains(&name.len()) && name.chars().all(plain);
        let good_project = project.is_none_or(|project| {
            !project.is_empty() && project.chars().all(|c| plain(c) || c == ':' || c == '.')
        });
        if !(good_name && good_project) {
            return Err(complaint());
        }
        Ok(Self::Named(ImageName {
            project: project.map(str::to_owned),
            is_family,
            name: name.to_owned(),
        }))
    }

    /// The images that will do for a machine, the best one first.
    pub(super) fn names(&self, arch: Arch, driver: Driver) -> Vec<ImageName> {
        let family = |project: &str, name: &str| ImageName {
            project: Some(project.to_owned()),
            is_family: true,
            name: name.to_owned(),
        };
        let arch = match arch {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        };
        let plain = family(UBUNTU, &format!("ubuntu-2404-lts-{arch}"));
        match (self, driver) {
            (WantedImage::Named(name), _) => vec![name.clone()],
            (WantedImage::Default, Driver::None) => vec![plain],
            (WantedImage::Default, Driver::Open) => {
                let with_driver = format!("ubuntu-accelerator-2404-{arch}-with-nvidia-580");
                vec![family(UBUNTU_WITH_DRIVER, &with_driver), plain]
            }
            (WantedImage::Default, Driver::Proprietary) => {
                let with_driver = "common-cu129-ubuntu-2204-nvidia-580";
                vec![family(DEEP_LEARNING, with_driver), plain]
            }
        }
    }
}

impl ImageName {
    /// The path below `/compute/v1/`, or below the launch's own project.
    pub(super) fn path(&self) -> String {
        let family = if self.is_family { "family/" } else { "" };
        let below = format!("global/images/{family}{}", self.name);
        match &self.project {
            Some(project) => format!("projects/{project}/{below}"),
            None => below,
        }
    }

    /// Whether it brings an NVIDIA driver, as far as that is known.
    pub(super) fn has_driver(&self) -> bool {
        self.project.as_deref() != Some(UBUNTU)
    }

    fn call(&self) -> Call {
        let what = match self.is_family {
            true => "images.getFromFamily",
            false => "images.get",
        };
        let call = Call::get(what, self.path())
            .query("fields", "selfLink,name,architecture,diskSizeGb,status");
        match self.project {
            Some(_) => call.elsewhere(),
            None => call,
        }
    }
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The path to make a disk from.
    pub(super) source: String,
    pub(super) name: Option<String>,
    pub(super) arch: Option<Arch>,
    /// The least size of a disk made from it.
    pub(super) disk_gb: u32,
}

/// What came of asking for an image.
#[derive(Debug)]
pub(super) enum Found {
    Image(Image),
    /// There is none of that name.
    Missing,
    /// It may not be looked at, but perhaps used.
    Hidden,
    Failed(Failure),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    self_link: Option<String>,
    name: Option<String>,
    architecture: Option<String>,
    #[serde(default, deserialize_with = "super::number")]
    disk_size_gb: Option<u64>,
}

impl Answer {
    fn image(self, asked: &ImageName) -> Image {
        let link = self.self_link.as_deref();
        let source = link
            .and_then(|link| Some(link[link.find("/projects/")? + 1..].to_owned()))
            .unwrap_or_else(|| asked.path());
        Image {
            source,
            name: self.name,
            arch: super::arch(self.architecture.as_deref()),
            disk_gb: self
                .disk_size_gb
                .and_then(|size| u32::try_from(size).ok())
                .unwrap_or_default(),
        }
    }
}

/// Looks for an image.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/images/getFromFamily>
pub(super) async fn find(client: &Client, name: &ImageName) -> Found {
    match client.call::<Answer>(&name.call()).await {
        Ok(answer) => Found::Image(answer.image(name)),
        Err(failure) => match failure.meaning() {
            Some(Meaning::Missing) => Found::Missing,
            Some(Meaning::Denied) => Found::Hidden,
            _ => Found::Failed(failure),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_in_every_form_of_googles() {
        let cases = [
            (
                "debian-cloud/debian-12",
                "projects/debian-cloud/global/images/family/debian-12",
            ),
            ("my-image", "global/images/my-image"),
            ("global/images/family/mine", "global/images/family/mine"),
            (
                "projects/example.com:p/global/images/my-image",
                "projects/example.com:p/global/images/my-image",
            ),
            (
                "https://www.googleapis.com/compute/v1/projects/p/global/images/family/f",
                "projects/p/global/images/family/f",
            ),
        ];
        for (text, path) in cases {
            let WantedImage::Named(name) = WantedImage::read(text).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(name.path(), path, "{text}");
        }
        for text in [
            "",
            "/",
            "a/b/c",
            "Debian-Cloud/debian-12",
            "projects/p/zones/z/images/i",
            "https://example.com/image",
            "p/ubuntu 22",
            "ami-0123:x",
        ] {
            let complaint = WantedImage::read(text).unwrap_err();
            assert!(complaint.starts_with("--cloud-image: "), "{complaint}");
        }
    }

    #[test]
    fn the_default_follows_architecture_and_gpu() {
        let names = |arch, driver| -> Vec<String> {
            let names = WantedImage::Default.names(arch, driver);
            names.iter().map(ImageName::path).collect()
        };
        let ubuntu = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64";
        assert_eq!(names(Arch::X86_64, Driver::None), [ubuntu]);
        assert_eq!(
            names(Arch::Aarch64, Driver::None),
            ["projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64"]
        );
        assert_eq!(
            names(Arch::X86_64, Driver::Open),
            [
                "projects/ubuntu-os-accelerator-images/global/images/family/\
                 ubuntu-accelerator-2404-amd64-with-nvidia-580",
                ubuntu
            ]
        );
        assert_eq!(
            names(Arch::X86_64, Driver::Proprietary),
            [
                "projects/deeplearning-platform-release/global/images/family/\
                 common-cu129-ubuntu-2204-nvidia-580",
                ubuntu
            ]
        );
        let with_driver = WantedImage::Default.names(Arch::X86_64, Driver::Open);
        assert!(with_driver[0].has_driver() && !with_driver[1].has_driver());
    }

    /// The form of the API's reference, with an Ubuntu image's values.
    #[test]
    fn a_published_answer_is_read() {
        let asked = WantedImage::Default.names(Arch::Aarch64, Driver::None);
        let answer: Answer = serde_json::from_str(
            r#"{"kind":"compute#image","name":"ubuntu-2404-noble-arm64-v20260101",
                "selfLink":"https://www.googleapis.com/compute/v1/projects/ubuntu-os-cloud/global/images/ubuntu-2404-noble-arm64-v20260101",
                "status":"READY","diskSizeGb":"10","architecture":"ARM64"}"#,
        )
        .unwrap();
        assert_eq!(
            answer.image(&asked[0]),
            Image {
                source: "projects/ubuntu-os-cloud/global/images/ubuntu-2404-noble-arm64-v20260101"
                    .into(),
                name: Some("ubuntu-2404-noble-arm64-v20260101".into()),
                arch: Some(Arch::Aarch64),
                disk_gb: 10,
            }
        );
        let bare: Answer = serde_json::from_str("{}").unwrap();
        assert_eq!(bare.image(&asked[0]).source, asked[0].path());
    }
}
