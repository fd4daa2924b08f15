//! Regions, zones, machine types and GPUs.
//!
//! <https://docs.cloud.google.com/compute/docs/regions-zones>,
//! <https://docs.cloud.google.com/compute/docs/machine-resource>,
//! <https://docs.cloud.google.com/compute/docs/gpus>. A part of what there is, with what tells the
//! parts from each other: architectures, disks, GPUs, and zones that don't have everything.

/// A region and the last letters of its zones.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) name: &'static str,
    zones: &'static str,
    /// The third part of the automatic subnetwork's range, which is in 10.128.0.0/9.
    /// <https://docs.cloud.google.com/vpc/docs/subnets#ip-ranges>
    pub(super) subnet: &'static str,
}

pub(super) const REGIONS: &[Region] = &[
    region("asia-east1", "abc", "10.140.0.0/20"),
    region("europe-north1", "abc", "10.166.0.0/20"),
    region("europe-west1", "bcd", "10.132.0.0/20"),
    region("europe-west4", "abc", "10.164.0.0/20"),
    region("us-central1", "abcf", "10.128.0.0/20"),
    region("us-east1", "bcd", "10.142.0.0/20"),
    region("us-west1", "abc", "10.138.0.0/20"),
    region("us-west2", "abc", "10.168.0.0/20"),
];

const fn region(name: &'static str, zones: &'static str, subnet: &'static str) -> Region {
    Region {
        name,
        zones,
        subnet,
    }
}

impl Region {
    pub(super) fn zones(&self) -> impl Iterator<Item = String> {
        let name = self.name;
        self.zones.chars().map(move |zone| format!("{name}-{zone}"))
    }
}

/// Every zone.
pub(super) fn zones() -> impl Iterator<Item = String> {
    REGIONS.iter().flat_map(Region::zones)
}

/// A zone's region.
pub(super) fn region_of(zone: &str) -> Option<&'static Region> {
    REGIONS
        .iter()
        .find(|region| region.zones().any(|known| known == zone))
}

/// A machine type in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MachineType {
    pub(super) name: String,
    pub(super) series: &'static str,
    pub(super) cpus: u32,
    pub(super) memory_mb: u32,
    /// `X86_64` or `ARM64`.
    pub(super) architecture: &'static str,
    pub(super) disks: &'static [&'static str],
    pub(super) shared_cpu: bool,
    /// The GPUs that it carries.
    pub(super) gpus: Option<(&'static str, u32)>,
}

struct Series {
    name: &'static str,
    architecture: &'static str,
    disks: &'static [&'static str],
    /// Shapes and their memory for each CPU, in MB.
    shapes: &'static [(&'static str, u32)],
    cpus: &'static [u32],
    /// The least and the most memory for each CPU of a custom type, in MB; with `-ext` there is no
    /// such most.
    custom: Option<(u32, u32)>,
    /// Words that a zone must begin with; none: everywhere.
    zones: &'static [&'static str],
}

/// <https://docs.cloud.google.com/compute/docs/disks/hd-types/hyperdisk-balanced> and the pages of
/// the machine series say which disks each takes.
const PERSISTENT: &[&str] = &["pd-standard", "pd-balanced", "pd-ssd", "pd-extreme"];
const BOTH: &[&str] = &["pd-balanced", "pd-ssd", "hyperdisk-balanced"];
const HYPERDISK: &[&str] = &["hyperdisk-balanced", "hyperdisk-extreme"];
const SHAPES: &[(&str, u32)] = &[("standard", 4096), ("highmem", 8192), ("highcpu", 1024)];
const NEW_SHAPES: &[(&str, u32)] = &[("standard", 4096), ("highmem", 8192), ("highcpu", 2048)];
const X86: &str = "X86_64";
const ARM: &str = "ARM64";

const SERIES: &[Series] = &[
    Series {
        name: "e2",
        architecture: X86,
        disks: PERSISTENT,
        shapes: SHAPES,
        cpus: &[2, 4, 8, 16, 32],
        custom: Some((512, 8192)),
        zones: &[],
    },
    Series {
        name: "n1",
        architecture: X86,
        disks: PERSISTENT,
        shapes: &[("standard", 3840), ("highmem", 6656), ("highcpu", 922)],
        cpus: &[1, 2, 4, 8, 16, 32, 64, 96],
        custom: Some((922, 6656)),
        zones: &[],
    },
    Series {
        name: "n2",
        architecture: X86,
        disks: PERSISTENT,
        shapes: SHAPES,
        cpus: &[2, 4, 8, 16, 32, 48, 64, 80, 96, 128],
        custom: Some((512, 8192)),
        zones: &[],
    },
    Series {
        name: "n2d",
        architecture: X86,
        disks: PERSISTENT,
        shapes: SHAPES,
        cpus: &[2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224],
        custom: Some((512, 8192)),
        zones: &[],
    },
    Series {
        name: "n4",
        architecture: X86,
        disks: HYPERDISK,
        shapes: NEW_SHAPES,
        cpus: &[2, 4, 8, 16, 32, 48, 64, 80],
        custom: Some((2048, 8192)),
        zones: &["us-central1", "us-east1", "us-west1", "europe-west"],
    },
    Series {
        name: "c3",
        architecture: X86,
        disks: BOTH,
        shapes: NEW_SHAPES,
        cpus: &[4, 8, 22, 44, 88, 176],
        custom: None,
        zones: &["us-central1", "us-east1", "us-west1", "europe-west"],
    },
    Series {
        name: "c4",
        architecture: X86,
        disks: HYPERDISK,
        shapes: NEW_SHAPES,
        cpus: &[2, 4, 8, 16, 24, 32, 48, 96, 144, 192],
        custom: None,
        zones: &["us-central1", "us-east1", "us-west1", "europe-west"],
    },
    Series {
        name: "c4a",
        architecture: ARM,
        disks: HYPERDISK,
        shapes: NEW_SHAPES,
        cpus: &[1, 2, 4, 8, 16, 32, 48, 64, 72],
        custom: None,
        zones: &["us-central1", "us-east1", "us-west1", "europe-west"],
    },
    Series {
        name: "n4a",
        architecture: ARM,
        disks: HYPERDISK,
        shapes: NEW_SHAPES,
        cpus: &[1, 2, 4, 8, 16, 32, 48, 64],
        custom: Some((2048, 8192)),
        zones: &["us-central1", "europe-west4"],
    },
    Series {
        name: "t2a",
        architecture: ARM,
        disks: PERSISTENT,
        shapes: &[("standard", 4096)],
        cpus: &[1, 2, 4, 8, 16, 32, 48],
        custom: None,
        zones: &[
            "us-central1-a",
            "us-central1-b",
            "us-central1-f",
            "europe-west4",
        ],
    },
    Series {
        name: "t2d",
        architecture: X86,
        disks: PERSISTENT,
        shapes: &[("standard", 4096)],
        cpus: &[1, 2, 4, 8, 16, 32, 48, 60],
        custom: None,
        zones: &[],
    },
];

/// Types that no rule makes: name, series, CPUs, memory, disks, GPUs, zones.
type Single = (
    &'static str,
    &'static str,
    u32,
    u32,
    &'static [&'static str],
    Option<(&'static str, u32)>,
    &'static [&'static str],
);

const L4: &str = "nvidia-l4";
const A100: &str = "nvidia-tesla-a100";
const H100: &str = "nvidia-h100-80gb";
const H100_MEGA: &str = "nvidia-h100-mega-80gb";
const B200: &str = "nvidia-b200";
const SSD: &[&str] = &["pd-balanced", "pd-ssd"];
const L4_ZONES: &[&str] = &[
    "asia-east1",
    "europe-west1-b",
    "europe-west1-c",
    "europe-west4",
    "us-central1-a",
    "us-central1-b",
    "us-central1-c",
    "us-east1",
    "us-west1",
];
const A100_ZONES: &[&str] = &[
    "europe-west4-a",
    "europe-west4-b",
    "us-central1",
    "us-east1-b",
    "us-west1-b",
];
const H100_ZONES: &[&str] = &[
    "europe-west4-b",
    "us-central1-a",
    "us-central1-c",
    "us-west1-a",
    "us-west1-b",
];

#[rustfmt::skip]
const SINGLES: &[Single] = &[
    ("e2-micro", "e2", 2, 1024, PERSISTENT, None, &[]),
    ("e2-small", "e2", 2, 2048, PERSISTENT, None, &[]),
    ("e2-medium", "e2", 2, 4096, PERSISTENT, None, &[]),
    ("f1-micro", "n1", 1, 614, PERSISTENT, None, &[]),
    ("g1-small", "n1", 1, 1740, PERSISTENT, None, &[]),
    ("g2-standard-4", "g2", 4, 16384, SSD, Some((L4, 1)), L4_ZONES),
    ("g2-standard-8", "g2", 8, 32768, SSD, Some((L4, 1)), L4_ZONES),
    ("g2-standard-12", "g2", 12, 49152, SSD, Some((L4, 1)), L4_ZONES),
    ("g2-standard-16", "g2", 16, 65536, SSD, Some((L4, 1)), L4_ZONES),
    ("g2-standard-24", "g2", 24, 98304, SSD, Some((L4, 2)), L4_ZONES),
    ("g2-standard-32", "g2", 32, 131_072, SSD, Some((L4, 1)), L4_ZONES),
    ("g2-standard-48", "g2", 48, 196_608, SSD, Some((L4, 4)), L4_ZONES),
    ("g2-standard-96", "g2", 96, 393_216, SSD, Some((L4, 8)), L4_ZONES),
    ("a2-highgpu-1g", "a2", 12, 87040, PERSISTENT, Some((A100, 1)), A100_ZONES),
    ("a2-highgpu-2g", "a2", 24, 174_080, PERSISTENT, Some((A100, 2)), A100_ZONES),
    ("a2-highgpu-4g", "a2", 48, 348_160, PERSISTENT, Some((A100, 4)), A100_ZONES),
    ("a2-highgpu-8g", "a2", 96, 696_320, PERSISTENT, Some((A100, 8)), A100_ZONES),
    ("a3-highgpu-1g", "a3", 26, 239_616, BOTH, Some((H100, 1)), H100_ZONES),
    ("a3-highgpu-8g", "a3", 208, 1_916_928, BOTH, Some((H100, 8)), H100_ZONES),
    ("a3-megagpu-8g", "a3", 208, 1_916_928, BOTH, Some((H100_MEGA, 8)), H100_ZONES),
    ("a4-highgpu-8g", "a4", 224, 4_063_232, HYPERDISK, Some((B200, 8)), &["us-central1-b"]),
];

fn is_offered(zones: &[&str], zone: &str) -> bool {
    zones.is_empty() || zones.iter().any(|start| zone.starts_with(start))
}

/// Every predefined type of a zone.
pub(super) fn machine_types(zone: &str) -> Vec<MachineType> {
    let mut types: Vec<MachineType> = SINGLES
        .iter()
        .filter(|single| is_offered(single.6, zone))
        .map(
            |(name, series, cpus, memory_mb, disks, gpus, _)| MachineType {
                name: (*name).into(),
                series,
                cpus: *cpus,
                memory_mb: *memory_mb,
                architecture: X86,
                disks,
                shared_cpu: ["e2-m", "e2-s", "f1-", "g1-"]
                    .iter()
                    .any(|start| name.starts_with(start) && !name.contains("-standard-")),
                gpus: *gpus,
            },
        )
        .collect();
    for series in SERIES.iter().filter(|s| is_offered(s.zones, zone)) {
        for (shape, memory) in series.shapes {
            for cpus in series.cpus {
                types.push(MachineType {
                    name: format!("{}-{shape}-{cpus}", series.name),
                    series: series.name,
                    cpus: *cpus,
                    memory_mb: cpus * memory,
                    architecture: series.architecture,
                    disks: series.disks,
                    shared_cpu: false,
                    gpus: None,
                });
            }
        }
    }
    types.sort_by(|a, b| a.name.cmp(&b.name));
    types
}

/// A type of a zone by its name, custom ones among them.
pub(super) fn machine_type(zone: &str, name: &str) -> Option<MachineType> {
    let known = machine_types(zone).into_iter().find(|t| t.name == name);
    known.or_else(|| custom(zone, name))
}

/// `e2-custom-8-32768`, `custom-64-212992-ext`.
/// <https://docs.cloud.google.com/compute/docs/instances/creating-instance-with-custom-machine-type>
fn custom(zone: &str, name: &str) -> Option<MachineType> {
    let (series, numbers) = match name.split_once("custom-")? {
        ("", numbers) => ("n1", numbers),
        (series, numbers) => (series.strip_suffix('-')?, numbers),
    };
    let series = SERIES.iter().find(|known| known.name == series)?;
    let (least, most) = series.custom?;
    let (numbers, extended) = match numbers.strip_suffix("-ext") {
        Some(numbers) => (numbers, true),
        None => (numbers, false),
    };
    let (cpus, memory) = numbers.split_once('-')?;
    let (cpus, memory): (u32, u32) = (cpus.parse().ok()?, memory.parse().ok()?);
    let in_range = series.cpus.last().is_some_and(|last| cpus <= *last)
        && (cpus == 1 || (cpus > 0 && cpus % 2 == 0));
    let fits = memory % 256 == 0 && memory >= cpus * least && (extended || memory <= cpus * most);
    if !in_range || !fits || (extended && series.name == "e2") || !is_offered(series.zones, zone) {
        return None;
    }
    Some(MachineType {
        name: name.into(),
        series: series.name,
        cpus,
        memory_mb: memory,
        architecture: series.architecture,
        disks: series.disks,
        shared_cpu: false,
        gpus: None,
    })
}

/// A GPU that can be attached to an N1 machine: its name, the counts, the most CPUs for each, and
/// where it is.
/// <https://docs.cloud.google.com/compute/docs/gpus#n1-gpus>
type Accelerator = (&'static str, &'static [(u32, u32)], &'static [&'static str]);

const ACCELERATORS: &[Accelerator] = &[
    (
        "nvidia-tesla-p4",
        &[(1, 24), (2, 48), (4, 96)],
        &["us-central1-a", "us-central1-c", "us-west2"],
    ),
    (
        "nvidia-tesla-p100",
        &[(1, 16), (2, 32), (4, 96)],
        &[
            "europe-west1-b",
            "europe-west4-a",
            "us-central1-c",
            "us-central1-f",
            "us-east1",
            "us-west1-a",
            "us-west1-b",
        ],
    ),
    (
        "nvidia-tesla-t4",
        &[(1, 48), (2, 48), (4, 96)],
        &[
            "asia-east1",
            "europe-west1",
            "europe-west4",
            "us-central1",
            "us-east1",
            "us-west1-a",
            "us-west1-b",
            "us-west2",
        ],
    ),
    (
        "nvidia-tesla-v100",
        &[(1, 12), (2, 24), (4, 48), (8, 96)],
        &[
            "asia-east1-c",
            "europe-west4",
            "us-central1",
            "us-east1-c",
            "us-west1-a",
            "us-west1-b",
        ],
    ),
];

/// What there is of GPUs beside N1's.
const CARRIED: &[(&str, &[&str])] = &[
    (L4, L4_ZONES),
    (A100, A100_ZONES),
    (H100, H100_ZONES),
    (H100_MEGA, H100_ZONES),
    (B200, &["us-central1-b"]),
];

/// Whether a zone has such a GPU in any form.
pub(super) fn has_accelerator(zone: &str, name: &str) -> bool {
    let attached = ACCELERATORS
        .iter()
        .any(|(known, _, zones)| *known == name && is_offered(zones, zone));
    let carried = CARRIED
        .iter()
        .any(|(known, zones)| *known == name && is_offered(zones, zone));
    attached || carried
}

/// Whether so many such GPUs go with a machine type.
pub(super) fn takes_accelerator(machine_type: &MachineType, name: &str, count: u32) -> bool {
    if let Some(carried) = machine_type.gpus {
        return carried == (name, count);
    }
    machine_type.series == "n1"
        && !machine_type.shared_cpu
        && ACCELERATORS
            .iter()
            .filter(|(known, ..)| *known == name)
            .flat_map(|(_, counts, _)| *counts)
            .any(|(known, most)| *known == count && machine_type.cpus <= *most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_types_are_known_where_they_are() {
        for (zone, name, expected) in [
            ("us-west1-b", "g1-small", Some((1, 1740))),
            ("us-west1-b", "e2-custom-8-32768", Some((8, 32768))),
            ("us-west1-b", "e2-custom-32-131072", Some((32, 131_072))),
            ("us-west1-b", "n2-custom-64-262144", Some((64, 262_144))),
            ("us-west1-b", "custom-8-53248", Some((8, 53248))),
            ("us-west1-b", "custom-64-212992-ext", Some((64, 212_992))),
            ("us-west1-b", "custom-8-65536-ext", Some((8, 65536))),
            ("us-west1-b", "custom-8-65536", None),
            ("us-west1-b", "e2-custom-8-65537", None),
            ("us-west1-b", "e2-custom-64-131072", None),
            ("us-west1-b", "c4-custom-8-32768", None),
            ("us-west1-b", "t2a-standard-4", None),
            ("us-central1-a", "t2a-standard-4", Some((4, 16384))),
            ("us-west1-b", "a2-highgpu-1g", Some((12, 87040))),
            ("us-west1-c", "a2-highgpu-1g", None),
            ("us-west1-b", "m7-nonsense", None),
        ] {
            let found = machine_type(zone, name).map(|t| (t.cpus, t.memory_mb));
            assert_eq!(found, expected, "{name} in {zone}");
        }
    }

    #[test]
    fn gpus_go_with_what_takes_them() {
        let takes = |name: &str, gpu: &str, count| {
            takes_accelerator(&machine_type("us-central1-c", name).unwrap(), gpu, count)
        };
        assert!(takes("n1-standard-4", "nvidia-tesla-t4", 1));
        assert!(takes("custom-8-65536-ext", "nvidia-tesla-v100", 1));
        assert!(!takes("n1-standard-16", "nvidia-tesla-v100", 1));
        assert!(!takes("n1-standard-4", "nvidia-tesla-t4", 3));
        assert!(!takes("e2-standard-4", "nvidia-tesla-t4", 1));
        assert!(!takes("g1-small", "nvidia-tesla-t4", 1));
        assert!(takes("g2-standard-4", "nvidia-l4", 1));
        assert!(!takes("g2-standard-4", "nvidia-tesla-t4", 1));
        assert!(has_accelerator("us-central1-c", "nvidia-l4"));
        assert!(!has_accelerator("us-central1-c", "nvidia-tesla-k80"));
    }
}
