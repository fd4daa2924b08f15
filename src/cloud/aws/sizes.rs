//! Sizes and regions, and what the name of an instance type tells.

use crate::cloud::Arch;
use crate::cloud::sizes::{Sizes, without_effect};
use crate::spec::Gpu;

const SIZES: Sizes<&str> = Sizes {
    cloud: "AWS",
    others: "a type such as m5.2xlarge",
    known: &[
        ("s", "", "t2.micro"),
        ("m", "", "m5.2xlarge"),
        ("l", "", "m5.8xlarge"),
        ("xl", "", "m5.16xlarge"),
        ("m", "t4", "g4dn.xlarge"),
        ("m", "k80", "p2.xlarge"),
        ("l", "k80", "p2.8xlarge"),
        ("xl", "k80", "p2.16xlarge"),
        ("m", "v100", "p3.2xlarge"),
        ("l", "v100", "p3.8xlarge"),
        ("xl", "v100", "p3.16xlarge"),
        ("m", "a10g", "g5.xlarge"),
        ("l", "a10g", "g5.12xlarge"),
        ("m", "l4", "g6.xlarge"),
        ("xl", "a100", "p4d.24xlarge"),
        ("xl", "h100", "p5.48xlarge"),
    ],
};

const REGIONS: &[(&str, &str)] = &[
    ("us-east", "us-east-1"),
    ("us-west", "us-west-1"),
    ("eu-north", "eu-north-1"),
    ("eu-west", "eu-west-1"),
];

/// Where an instance may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The native region.
    pub(super) region: String,
    /// The only zone allowed; every zone when `None`.
    pub(super) zone: Option<String>,
}

impl Place {
    /// Reads an alias, a region, or a zone.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-regions-availability-zones.html>
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let complaint = || {
            let aliases: Vec<&str> = REGIONS.iter().map(|(alias, _)| *alias).collect();
            format!(
                "--cloud-region: `{text}` is neither one of {} nor a region such as eu-central-1 \
                 nor a zone such as eu-central-1b",
                aliases.join(", ")
            )
        };
        if let Some((_, region)) = REGIONS.iter().find(|(alias, _)| *alias == text) {
            return Ok(Self {
                region: (*region).to_owned(),
                zone: None,
            });
        }
        // A region's name ends with its first number; what follows names a zone in it.
        let start = text
            .find(|c: char| c.is_ascii_digit())
            .ok_or_else(complaint)?;
        let length = text[start..]
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len() - start);
        let (region, rest) = text.split_at(start + length);
        let words: Vec<&str> = region.split('-').collect();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good_region = words.len() >= 3
            && words[..words.len() - 1]
                .iter()
                .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()))
            && words[words.len() - 1].chars().all(|c| c.is_ascii_digit());
        let good_zone = rest.is_empty()
            || (rest.ends_with(|c: char| c.is_ascii_alphanumeric())
                && rest.chars().all(|c| plain(c) || c == '-'));
        if !(good_region && good_zone) {
            return Err(complaint());
        }
        Ok(Self {
            region: region.to_owned(),
            zone: (!rest.is_empty()).then(|| text.to_owned()),
        })
    }
}

/// The native type for a size or a native type, and a note about it where one is due. Complaints
/// start with the option's name.
pub(super) fn native(text: &str, gpu: Option<&Gpu>) -> Result<(String, Option<String>), String> {
    if text.contains('.') {
        return native_as_given(text, gpu);
    }
    SIZES.native(text, gpu)
}

fn native_as_given(text: &str, gpu: Option<&Gpu>) -> Result<(String, Option<String>), String> {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    let well_formed = text.split_once('.').is_some_and(|(family, size)| {
        plain(family) && plain(size) && family.starts_with(|c: char| c.is_ascii_lowercase())
    });
    if !well_formed {
        return Err(format!(
            "--cloud-type: `{text}` is no type such as m5.2xlarge"
        ));
    }
    let note = without_effect(&format!("the type {text}"), gpu, gpu_model(text));
    Ok((text.to_owned(), note))
}

fn family(instance_type: &str) -> &str {
    instance_type.split('.').next().unwrap_or(instance_type)
}

/// The letters that a family's name begins with, and what follows its number.
fn class_and_features(instance_type: &str) -> (&str, &str) {
    let family = family(instance_type);
    let digits = |c: char| c.is_ascii_digit();
    let class_end = family.find(digits).unwrap_or(family.len());
    let (class, rest) = family.split_at(class_end);
    (class, rest.trim_start_matches(digits))
}

/// The architecture that a type's name tells: Graviton families carry a `g` after their number.
/// <https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>
pub(super) fn arch(instance_type: &str) -> Arch {
    let (_, features) = class_and_features(instance_type);
    if features.contains('g') || family(instance_type) == "a1" {
        Arch::Aarch64
    } else {
        Arch::X86_64
    }
}

/// Which NVIDIA driver a type needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// None: it has no NVIDIA GPU.
    None,
    /// The open kernel modules, for Turing and newer.
    Open,
    /// The proprietary ones, for older GPUs.
    Proprietary,
}

/// The driver that a type's name tells.
/// <https://docs.aws.amazon.com/dlami/latest/devguide/gpu.html>
pub(super) fn driver(instance_type: &str) -> Driver {
    let (class, _) = class_and_features(instance_type);
    match (class, family(instance_type)) {
        (_, "g4ad") => Driver::None,
        (_, "g2" | "g3" | "g3s" | "p2" | "p3" | "p3dn") => Driver::Proprietary,
        ("g" | "gr" | "p", _) => Driver::Open,
        _ => Driver::None,
    }
}

/// The GPU that a type's family carries, where it has a size alias.
fn gpu_model(instance_type: &str) -> Option<&'static str> {
    let known = SIZES
        .known
        .iter()
        .find(|(_, model, native)| !model.is_empty() && family(native) == family(instance_type));
    match known {
        Some((_, model, _)) => Some(model),
        None if driver(instance_type) == Driver::None => None,
        None => Some("another GPU"),
    }
}

/// For a type that AWS is taking away, what to take today.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-types.html>
pub(super) fn successor(instance_type: &str) -> Option<&'static str> {
    match family(instance_type) {
        "p2" => {
            Some("AWS has retired its K80 types: take g4dn.xlarge (m+t4) or g5.xlarge (m+a10g)")
        }
        "p3" | "p3dn" => Some(
            "AWS is retiring its V100 types: take g5.xlarge (m+a10g), g6.xlarge (m+l4) or \
             p4d.24xlarge (xl+a100)",
        ),
        "g2" | "g3" | "g3s" => {
            Some("AWS is retiring this type: take g4dn.xlarge (m+t4) or g5.xlarge (m+a10g)")
        }
        _ => None,
    }
}

/// The name, in Service Quotas, of the quota that a type counts against.
/// <https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html>
pub(super) fn quota(instance_type: &str, spot: bool) -> String {
    let (class, _) = class_and_features(instance_type);
    let group = match class {
        "g" | "gr" | "vt" => "G and VT",
        "p" if !spot => "P",
        "p" if family(instance_type).starts_with("p5") => "P5",
        "p" => "P4, P3 and P2",
        "f" => "F",
        "x" => "X",
        "inf" => "Inf",
        "trn" => "Trn",
        "dl" => "DL",
        "hpc" => "HPC",
        class if class.starts_with("u-") || class == "u" => "High Memory",
        _ => "Standard (A, C, D, H, I, M, R, T, Z)",
    };
    if spot {
        format!("All {group} Spot Instance Requests")
    } else {
        format!("Running On-Demand {group} instances")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> (String, Option<String>) {
        let place = Place::read(text).unwrap();
        (place.region, place.zone)
    }

    #[test]
    fn regions_zones_and_aliases_are_told_apart() {
        let cases = [
            ("us-west", "us-west-1", false),
            ("eu-north", "eu-north-1", false),
            ("eu-central-1", "eu-central-1", false),
            ("us-gov-west-1", "us-gov-west-1", false),
            ("ap-southeast-12", "ap-southeast-12", false),
            ("us-east-1a", "us-east-1", true),
            ("us-west-2-lax-1a", "us-west-2", true),
            ("us-east-1-wl1-bos-wlz-1", "us-east-1", true),
        ];
        for (text, region, is_zone) in cases {
            let zone = is_zone.then(|| text.to_owned());
            assert_eq!(place(text), (region.to_owned(), zone), "{text}");
        }
        for text in [
            "",
            "here",
            "us",
            "us-1",
            "-a-1",
            "us-east-1A",
            "us-east-1-",
            "us-east-1 ",
        ] {
            let complaint = Place::read(text).unwrap_err();
            assert!(complaint.starts_with("--cloud-region: "), "{complaint}");
        }
    }

    #[test]
    fn every_size_has_its_type() {
        let gpu = |model: &str| Gpu::Model(model.to_owned());
        let cases = [
            ("s", None, "t2.micro"),
            ("m", None, "m5.2xlarge"),
            ("l", Some(Gpu::None), "m5.8xlarge"),
            ("xl", None, "m5.16xlarge"),
            ("m", Some(gpu("t4")), "g4dn.xlarge"),
            ("m+t4", None, "g4dn.xlarge"),
            ("m", Some(gpu("k80")), "p2.xlarge"),
            ("l+k80", Some(gpu("k80")), "p2.8xlarge"),
            ("xl+k80", None, "p2.16xlarge"),
            ("m+v100", None, "p3.2xlarge"),
            ("l+v100", None, "p3.8xlarge"),
            ("xl", Some(gpu("v100")), "p3.16xlarge"),
            ("m+a10g", None, "g5.xlarge"),
            ("l+a10g", None, "g5.12xlarge"),
            ("m+l4", None, "g6.xlarge"),
            ("xl+a100", None, "p4d.24xlarge"),
            ("xl+h100", None, "p5.48xlarge"),
            ("c7g.large", None, "c7g.large"),
            ("u-6tb1.112xlarge", None, "u-6tb1.112xlarge"),
            ("g5.xlarge", Some(gpu("a10g")), "g5.xlarge"),
        ];
        for (text, gpu, expected) in cases {
            let (native, note) = native(text, gpu.as_ref()).unwrap();
            assert_eq!((native.as_str(), note), (expected, None), "{text}");
        }
    }

    #[test]
    fn tesla_is_v100_with_a_warning() {
        let (tesla, note) = native("m", Some(&Gpu::Model("tesla".into()))).unwrap();
        assert_eq!(tesla, "p3.2xlarge");
        assert!(note.unwrap().contains("deprecated"));
        let (both, _) = native("m+v100", Some(&Gpu::Model("tesla".into()))).unwrap();
        assert_eq!(both, "p3.2xlarge");
    }

    #[test]
    fn wrong_sizes_are_explained() {
        let model = |model: &str| Some(Gpu::Model(model.to_owned()));
        let cases = [
            ("huge", None, "--cloud-type: `huge` is neither"),
            (
                "s+t4",
                None,
                "--cloud-type: there is no size s+t4 on AWS; with that GPU there is m+t4",
            ),
            (
                "m",
                model("tpu"),
                "--cloud-gpu: `tpu` is no GPU of size m on AWS: there is t4, k80",
            ),
            ("s", model("tpu"), "--cloud-gpu: the size s has no GPU"),
            (
                "m+t4",
                model("v100"),
                "--cloud-gpu: v100 contradicts --cloud-type=m+t4",
            ),
            ("m+t4", Some(Gpu::None), "--cloud-gpu: nogpu contradicts"),
            ("M5.Large", None, "--cloud-type: `M5.Large` is no type"),
            (".large", None, "--cloud-type"),
            ("m5.", None, "--cloud-type"),
        ];
        for (text, gpu, expected) in cases {
            let complaint = native(text, gpu.as_ref()).unwrap_err();
            assert!(complaint.starts_with(expected), "{complaint}");
        }
    }

    #[test]
    fn a_gpu_beside_a_native_type_is_only_noted() {
        let note = |text, gpu: Gpu| native(text, Some(&gpu)).unwrap().1;
        assert!(
            note("t2.micro", Gpu::Model("t4".into()))
                .unwrap()
                .contains("has no GPU")
        );
        assert!(note("p3.2xlarge", Gpu::None).unwrap().contains("has v100"));
        assert_eq!(note("p3.2xlarge", Gpu::Model("tesla".into())), None);
    }

    #[test]
    fn names_tell_architecture_and_driver() {
        let arm = [
            "a1.large",
            "t4g.micro",
            "m6g.large",
            "c7gn.large",
            "x2gd.large",
            "im4gn.large",
            "is4gen.large",
            "g5g.xlarge",
            "r8gd.large",
            "p6e-gb200.36xlarge",
        ];
        for name in arm {
            assert_eq!(arch(name), Arch::Aarch64, "{name}");
        }
        let intel = [
            "t2.micro",
            "m5.2xlarge",
            "g4dn.xlarge",
            "g5.xlarge",
            "gr6.4xlarge",
            "p6-b200.48xlarge",
            "m8i-flex.large",
            "u-6tb1.metal",
            "inf2.xlarge",
        ];
        for name in intel {
            assert_eq!(arch(name), Arch::X86_64, "{name}");
        }
        let drivers = [
            ("g4dn.xlarge", Driver::Open),
            ("gr6.4xlarge", Driver::Open),
            ("g5g.xlarge", Driver::Open),
            ("p5.48xlarge", Driver::Open),
            ("p3.2xlarge", Driver::Proprietary),
            ("g4ad.xlarge", Driver::None),
            ("m5.large", Driver::None),
        ];
        for (name, expected) in drivers {
            assert_eq!(driver(name), expected, "{name}");
        }
    }

    #[test]
    fn quotas_are_named_as_in_service_quotas() {
        let cases = [
            (
                "m5.large",
                false,
                "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
            ),
            (
                "m5.large",
                true,
                "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
            ),
            ("g5.xlarge", false, "Running On-Demand G and VT instances"),
            (
                "p3.2xlarge",
                true,
                "All P4, P3 and P2 Spot Instance Requests",
            ),
            ("p5.48xlarge", false, "Running On-Demand P instances"),
        ];
        for (name, spot, expected) in cases {
            assert_eq!(quota(name, spot), expected);
        }
    }

    #[test]
    fn retired_types_name_a_current_one() {
        assert!(successor("p2.xlarge").unwrap().contains("g4dn.xlarge"));
        assert!(successor("p3.2xlarge").unwrap().contains("g5.xlarge"));
        assert_eq!(successor("g5.xlarge"), None);
    }
}
