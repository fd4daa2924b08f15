//! Sizes and regions, and what the name of a virtual machine's size tells.

use crate::cloud::Arch;
use crate::cloud::sizes::{Sizes, without_effect};
use crate::spec::Gpu;

const SIZES: Sizes<&str> = Sizes {
    cloud: "Azure",
    others: "one of Azure's such as Standard_F8s_v2",
    known: &[
        ("s", "", "Standard_B1s"),
        ("m", "", "Standard_F8s_v2"),
        ("l", "", "Standard_F32s_v2"),
        ("xl", "", "Standard_F64s_v2"),
        ("m", "t4", "Standard_NC4as_T4_v3"),
        ("m", "k80", "Standard_NC6"),
        ("l", "k80", "Standard_NC12"),
        ("xl", "k80", "Standard_NC24"),
        ("m", "v100", "Standard_NC6s_v3"),
        ("l", "v100", "Standard_NC12s_v3"),
        ("xl", "v100", "Standard_NC24s_v3"),
        ("m", "a100", "Standard_NC24ads_A100_v4"),
        ("xl", "h100", "Standard_ND96isr_H100_v5"),
    ],
};

const REGIONS: &[(&str, &str)] = &[
    ("us-east", "eastus"),
    ("us-west", "westus2"),
    ("eu-north", "northeurope"),
    ("eu-west", "westeurope"),
];

/// Reads an alias or a region's name, as `az account list-locations` shows it.
pub(super) fn region(text: &str) -> Result<String, String> {
    if let Some((_, region)) = REGIONS.iter().find(|(alias, _)| *alias == text) {
        return Ok((*region).to_owned());
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let named = text.starts_with(|c: char| c.is_ascii_lowercase());
    // Every region has at least two words in its name.
    if named && text.len() >= 6 && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    let aliases: Vec<&str> = REGIONS.iter().map(|(alias, _)| *alias).collect();
    Err(format!(
        "--cloud-region: `{text}` is neither one of {} nor a region of Azure's such as westeurope \
         (without a zone)",
        aliases.join(", ")
    ))
}

/// Azure's size for a size of ours or of Azure's, and a note about it where one is due. Complaints
/// start with the option's name.
pub(super) fn native(text: &str, gpu: Option<&Gpu>) -> Result<(String, Option<String>), String> {
    if text.contains('_') {
        return native_as_given(text, gpu);
    }
    SIZES.native(text, gpu)
}

fn native_as_given(text: &str, gpu: Option<&Gpu>) -> Result<(String, Option<String>), String> {
    if Name::read(text).is_none() {
        return Err(format!(
            "--cloud-type: `{text}` is no size of Azure's such as Standard_F8s_v2"
        ));
    }
    let note = without_effect(text, gpu, gpu_model(text));
    Ok((text.to_owned(), note))
}

/// The parts of a size's name: `Standard_NC24ads_A100_v4`.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/vm-naming-conventions>
struct Name<'a> {
    /// `NC`: the family, and what it is within it.
    family: &'a str,
    /// `ads`: one letter for each feature.
    features: &'a str,
    /// `A100`: what stands between, mostly an accelerator.
    accelerator: &'a str,
    /// `v4`; empty for a first one.
    version: &'a str,
}

impl<'a> Name<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (tier, rest) = text.split_once('_')?;
        if !(tier.eq_ignore_ascii_case("Standard") || tier.eq_ignore_ascii_case("Basic")) {
            return None;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !rest.chars().all(plain) {
            return None;
        }
        let (first, mut accelerator) = rest.split_once('_').unwrap_or((rest, ""));
        let is_version = |word: &str| {
            let digits = word.strip_prefix(['v', 'V']).unwrap_or_default();
            !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
        };
        let mut version = "";
        let last = accelerator.rsplit('_').next().unwrap_or_default();
        if is_version(last) {
            version = last;
            accelerator = accelerator
                .strip_suffix(last)
                .unwrap_or_default()
                .trim_end_matches('_');
        }
        let start = first.find(|c: char| c.is_ascii_digit())?;
        let (family, rest) = first.split_at(start);
        // The number of processors, and of how many may be used: 8-2.
        let features = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        (!family.is_empty()).then_some(Self {
            family,
            features,
            accelerator,
            version,
        })
    }
}

/// The architecture that a size's name tells: `p` among the features is Arm, and so is the
/// processor beside a GB200.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/vm-naming-conventions>
pub(super) fn arch(size: &str) -> Arch {
    match Name::read(size) {
        Some(name) if name.features.contains('p') || name.accelerator.contains("GB") => {
            Arch::Aarch64
        }
        _ => Arch::X86_64,
    }
}

/// Which NVIDIA driver a size needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// None: it has no NVIDIA GPU.
    None,
    /// A current one.
    Cuda,
    /// One that still knows GPUs before Turing.
    Old,
    /// NVIDIA's for parts of GPUs, which no image of the marketplace has.
    Grid,
}

/// The driver that a size's name tells.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/sizes/overview#gpu-accelerated>
/// <https://github.com/Azure/azhpc-extensions/blob/master/NvidiaGPU/Nvidia-GPU-Linux-Resources.json>
pub(super) fn driver(size: &str) -> Driver {
    let Some(name) = Name::read(size) else {
        return Driver::None;
    };
    let family = name.family.to_ascii_uppercase();
    match (family.as_str(), name.accelerator) {
        (_, amd) if amd.starts_with("MI") || amd.starts_with('V') => Driver::None,
        ("NC" | "ND", "") => Driver::Old,
        ("NC" | "NCC" | "ND", _) => Driver::Cuda,
        ("NV", "A10") => Driver::Grid,
        // Before, NV was NVIDIA's up to version 3; the fourth is AMD's.
        ("NV", "") if name.version != "v4" => Driver::Grid,
        _ => Driver::None,
    }
}

/// What sizes of one series, and of one quota, have in common.
pub(super) fn series(size: &str) -> Option<[String; 4]> {
    let name = Name::read(size)?;
    let parts = [name.family, name.features, name.accelerator, name.version];
    Some(parts.map(str::to_ascii_uppercase))
}

/// The GPU that a size carries, where it has an alias.
fn gpu_model(size: &str) -> Option<&'static str> {
    if driver(size) == Driver::None {
        return None;
    }
    let known = SIZES
        .known
        .iter()
        .find(|(_, model, native)| !model.is_empty() && series(native) == series(size));
    Some(known.map_or("another GPU", |(_, model, _)| model))
}

/// For a size that Azure has taken away, what to take today.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/ncv3-nc6s-nc12s-nc24s-retirement>
pub(super) fn successor(size: &str) -> Option<&'static str> {
    let name = Name::read(size)?;
    let family = name.family.to_ascii_uppercase();
    match (family.as_str(), name.accelerator) {
        ("NC" | "ND", "") => Some(
            "Azure has retired its K80, P100, P40 and V100 sizes: take Standard_NC4as_T4_v3 \
             (m+t4) or Standard_NC24ads_A100_v4 (m+a100)",
        ),
        ("NV", "") => Some(
            "Azure is retiring this size: take Standard_NC4as_T4_v3 (m+t4), or \
             Standard_NV36ads_A10_v5 with an image that has its GRID driver",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read() {
        for (text, expected) in [
            ("us-west", "westus2"),
            ("us-east", "eastus"),
            ("eu-north", "northeurope"),
            ("eu-west", "westeurope"),
            ("swedencentral", "swedencentral"),
            ("usgovvirginia", "usgovvirginia"),
            ("westus3", "westus3"),
        ] {
            assert_eq!(region(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "us",
            "mars",
            "West US",
            "westEurope",
            "us-west-1",
            "westeurope-1",
        ] {
            let complaint = region(text).unwrap_err();
            assert!(complaint.starts_with("--cloud-region: "), "{complaint}");
        }
    }

    fn model(text: &str) -> Gpu {
        Gpu::Model(text.to_owned())
    }

    #[test]
    fn every_size_has_its_type() {
        let cases: [(&str, Option<Gpu>, &str); 9] = [
            ("s", None, "Standard_B1s"),
            ("m", None, "Standard_F8s_v2"),
            ("xl", Some(Gpu::None), "Standard_F64s_v2"),
            ("m+t4", None, "Standard_NC4as_T4_v3"),
            ("m", Some(model("t4")), "Standard_NC4as_T4_v3"),
            ("l", Some(model("tesla")), "Standard_NC12s_v3"),
            ("xl+k80", Some(model("k80")), "Standard_NC24"),
            ("m+a100", None, "Standard_NC24ads_A100_v4"),
            ("Standard_D4ps_v5", None, "Standard_D4ps_v5"),
        ];
        for (text, gpu, expected) in cases {
            let (native, _) = native(text, gpu.as_ref()).unwrap();
            assert_eq!(native, expected, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_advice() {
        let cases = [
            ("huge", None, "--cloud-type: `huge`"),
            (
                "m+",
                Some(model("x")),
                "--cloud-gpu: `x` is no GPU of size m",
            ),
            ("s", Some(model("x")), "--cloud-gpu: the size s has no GPU"),
            ("s+t4", None, "--cloud-type: there is no size s+t4"),
            ("m+t4", Some(Gpu::None), "--cloud-gpu: nogpu contradicts"),
            ("m+t4", Some(model("k80")), "--cloud-gpu: k80 contradicts"),
            ("Standard_", None, "--cloud-type: `Standard_` is no size"),
            ("Std_F8s", None, "--cloud-type: `Std_F8s` is no size"),
            ("Standard_F8s v2", None, "--cloud-type: `Standard_F8s v2`"),
        ];
        for (text, gpu, expected) in cases {
            let complaint = native(text, gpu.as_ref()).unwrap_err();
            assert!(complaint.starts_with(expected), "{complaint}");
        }
    }

    #[test]
    fn notes_say_what_has_no_effect() {
        let note = |text: &str, gpu| native(text, Some(&gpu)).unwrap().1.unwrap_or_default();
        assert!(note("m", model("tesla")).contains("deprecated"));
        assert!(note("Standard_F8s_v2", model("t4")).contains("which has no GPU"));
        assert!(note("Standard_NC64as_T4_v3", Gpu::None).contains("which has t4"));
        assert_eq!(note("Standard_NC64as_T4_v3", model("t4")), "");
        assert!(note("Standard_NV36ads_A10_v5", model("t4")).contains("another GPU"));
    }

    #[test]
    fn names_tell_architecture_and_driver() {
        use Arch::{Aarch64, X86_64};
        let cases = [
            ("Standard_B1s", X86_64, Driver::None),
            ("Standard_F8s_v2", X86_64, Driver::None),
            ("Standard_D4ps_v5", Aarch64, Driver::None),
            ("Standard_E4pds_v6", Aarch64, Driver::None),
            ("Standard_B4pls_v2", Aarch64, Driver::None),
            ("Standard_E8-2s_v5", X86_64, Driver::None),
            ("Standard_DS11-1_v2", X86_64, Driver::None),
            ("Standard_M128-64ms", X86_64, Driver::None),
            ("Standard_NC6", X86_64, Driver::Old),
            ("Standard_NC24rs_v3", X86_64, Driver::Old),
            ("Standard_ND40rs_v2", X86_64, Driver::Old),
            ("Standard_NC4as_T4_v3", X86_64, Driver::Cuda),
            ("Standard_NC24ads_A100_v4", X86_64, Driver::Cuda),
            ("Standard_ND96isr_H100_v5", X86_64, Driver::Cuda),
            ("Standard_ND128isr_NDR_GB200_v6", Aarch64, Driver::Cuda),
            ("Standard_ND96isr_MI300X_v5", X86_64, Driver::None),
            ("Standard_NV36ads_A10_v5", X86_64, Driver::Grid),
            ("Standard_NV12s_v3", X86_64, Driver::Grid),
            ("Standard_NV4as_v4", X86_64, Driver::None),
            ("Standard_NG8ads_V620_v1", X86_64, Driver::None),
            ("Standard_NP10s", X86_64, Driver::None),
        ];
        for (size, expected_arch, expected_driver) in cases {
            assert_eq!(arch(size), expected_arch, "{size}");
            assert_eq!(driver(size), expected_driver, "{size}");
        }
    }

    #[test]
    fn retired_sizes_have_successors() {
        for size in ["Standard_NC6", "Standard_NC6s_v3", "Standard_NV12s_v3"] {
            assert!(successor(size).is_some(), "{size}");
        }
        for size in ["Standard_F8s_v2", "Standard_NC4as_T4_v3", "m"] {
            assert!(successor(size).is_none(), "{size}");
        }
    }
}
