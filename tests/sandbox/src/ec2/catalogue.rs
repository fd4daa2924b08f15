//! What EC2 offers: regions, zones and instance types. Prices and zones are near reality, but
//! made up.

/// A region and the letters of its zones.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: &'static str,
    zones: &'static str,
}

/// The regions that the account has.
pub(crate) const REGIONS: &[Region] = &[
    Region {
        name: "us-east-1",
        zones: "abe",
    },
    Region {
        name: "us-west-1",
        zones: "ac",
    },
    Region {
        name: "us-west-2",
        zones: "abc",
    },
    Region {
        name: "eu-west-1",
        zones: "abc",
    },
    Region {
        name: "eu-north-1",
        zones: "abc",
    },
];

impl Region {
    pub(crate) fn zones(&self) -> Vec<String> {
        self.zones
            .chars()
            .map(|letter| format!("{}{letter}", self.name))
            .collect()
    }
}

/// A graphics card.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) name: &'static str,
    pub(crate) manufacturer: &'static str,
    pub(crate) count: u32,
    pub(crate) memory_mib: u32,
}

/// An instance type.
#[derive(Debug)]
pub(crate) struct InstanceType {
    pub(crate) name: &'static str,
    pub(crate) architecture: &'static str,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) gpu: Option<Gpu>,
    pub(crate) hypervisor: &'static str,
    /// USD per hour on the spot market.
    pub(crate) spot_price: f64,
    /// Regions with the letters of the zones that have it.
    offered: &'static str,
}

impl InstanceType {
    pub(crate) fn is_offered(&self, zone: &str) -> bool {
        self.offered.split_whitespace().any(|place| {
            let letters = place.trim_start_matches(|c: char| c != '1' && c != '2');
            let (region, letters) = place.split_at(place.len() - letters.len() + 1);
            zone.strip_prefix(region)
                .is_some_and(|letter| letter.len() == 1 && letters.contains(letter))
        })
    }

    pub(crate) fn is_offered_in_region(&self, region: &Region) -> bool {
        region.zones().iter().any(|zone| self.is_offered(zone))
    }
}

/// Everywhere but in us-east-1e, which gets nothing new.
const EVERYWHERE: &str = "us-east-1ab us-west-1ac us-west-2abc eu-west-1abc eu-north-1abc";

const fn cpu(
    name: &'static str,
    architecture: &'static str,
    vcpus: u32,
    gib: u32,
    spot_price: f64,
    offered: &'static str,
) -> InstanceType {
    InstanceType {
        name,
        architecture,
        vcpus,
        memory_mib: gib * 1024,
        gpu: None,
        hypervisor: "nitro",
        spot_price,
        offered,
    }
}

const fn gpu(
    machine: InstanceType,
    name: &'static str,
    manufacturer: &'static str,
    count: u32,
    memory_gib: u32,
) -> InstanceType {
    InstanceType {
        gpu: Some(Gpu {
            name,
            manufacturer,
            count,
            memory_mib: memory_gib * 1024,
        }),
        ..machine
    }
}

const fn xen(machine: InstanceType) -> InstanceType {
    InstanceType {
        hypervisor: "xen",
        ..machine
    }
}

const X86: &str = "x86_64";
const ARM: &str = "arm64";
const NVIDIA: &str = "NVIDIA";
const G5: &str = "us-east-1ab us-west-2abc eu-west-1abc eu-north-1ab";
const P3: &str = "us-east-1ab us-west-2ab eu-west-1ab";
/// The P2 family is retired: known, but offered nowhere.
const NOWHERE: &str = "";

/// The instance types, in no particular order.
pub(crate) const TYPES: &[InstanceType] = &[
    xen(cpu(
        "t2.micro",
        X86,
        1,
        1,
        0.0035,
        "us-east-1abe us-west-1ac us-west-2abc eu-west-1abc",
    )),
    cpu("t3.micro", X86, 2, 1, 0.0031, EVERYWHERE),
    cpu("t3.medium", X86, 2, 4, 0.0125, EVERYWHERE),
    cpu("t4g.small", ARM, 2, 2, 0.0050, EVERYWHERE),
    cpu("m5.large", X86, 2, 8, 0.0288, EVERYWHERE),
    cpu("m5.2xlarge", X86, 8, 32, 0.1150, EVERYWHERE),
    cpu("m5.8xlarge", X86, 32, 128, 0.4610, EVERYWHERE),
    cpu("m5.16xlarge", X86, 64, 256, 0.9220, EVERYWHERE),
    cpu("m6g.2xlarge", ARM, 8, 32, 0.0924, EVERYWHERE),
    cpu("m7g.2xlarge", ARM, 8, 32, 0.0979, EVERYWHERE),
    cpu("m7i.2xlarge", X86, 8, 32, 0.1210, EVERYWHERE),
    cpu("c5.large", X86, 2, 4, 0.0255, EVERYWHERE),
    cpu("c7g.large", ARM, 2, 4, 0.0217, EVERYWHERE),
    gpu(
        cpu(
            "g4dn.xlarge",
            X86,
            4,
            16,
            0.1578,
            "us-east-1ab us-west-1ac us-west-2abc eu-west-1abc eu-north-1ab",
        ),
        "T4",
        NVIDIA,
        1,
        16,
    ),
    gpu(
        cpu(
            "g4ad.xlarge",
            X86,
            4,
            16,
            0.1136,
            "us-east-1ab us-west-2abc eu-west-1abc",
        ),
        "Radeon Pro V520",
        "AMD",
        1,
        8,
    ),
    gpu(
        cpu("g5.xlarge", X86, 4, 16, 0.4021, G5),
        "A10G",
        NVIDIA,
        1,
        24,
    ),
    gpu(
        cpu("g5.12xlarge", X86, 48, 192, 2.2690, G5),
        "A10G",
        NVIDIA,
        4,
        24,
    ),
    gpu(
        cpu(
            "g6.xlarge",
            X86,
            4,
            16,
            0.3219,
            "us-east-1ab us-west-2abc eu-north-1ab",
        ),
        "L4",
        NVIDIA,
        1,
        24,
    ),
    gpu(
        cpu("g5g.xlarge", ARM, 4, 8, 0.1680, "us-east-1ab us-west-2ab"),
        "T4g",
        NVIDIA,
        1,
        16,
    ),
    gpu(
        xen(cpu("p2.xlarge", X86, 4, 61, 0.2700, NOWHERE)),
        "K80",
        NVIDIA,
        1,
        12,
    ),
    gpu(
        xen(cpu("p2.8xlarge", X86, 32, 488, 2.1600, NOWHERE)),
        "K80",
        NVIDIA,
        8,
        12,
    ),
    gpu(
        xen(cpu("p2.16xlarge", X86, 64, 732, 4.3200, NOWHERE)),
        "K80",
        NVIDIA,
        16,
        12,
    ),
    gpu(
        xen(cpu("p3.2xlarge", X86, 8, 61, 0.9180, P3)),
        "V100",
        NVIDIA,
        1,
        16,
    ),
    gpu(
        xen(cpu("p3.8xlarge", X86, 32, 244, 3.6720, P3)),
        "V100",
        NVIDIA,
        4,
        16,
    ),
    gpu(
        xen(cpu("p3.16xlarge", X86, 64, 488, 7.3440, P3)),
        "V100",
        NVIDIA,
        8,
        16,
    ),
    gpu(
        cpu(
            "p4d.24xlarge",
            X86,
            96,
            1152,
            9.8320,
            "us-east-1b us-west-2ab",
        ),
        "A100",
        NVIDIA,
        8,
        40,
    ),
    gpu(
        cpu(
            "p5.48xlarge",
            X86,
            192,
            2048,
            29.4960,
            "us-east-1b us-west-2a",
        ),
        "H100",
        NVIDIA,
        8,
        80,
    ),
];

/// A type by name.
pub(crate) fn instance_type(name: &str) -> Option<&'static InstanceType> {
    TYPES.iter().find(|candidate| candidate.name == name)
}

/// A region by name.
pub(crate) fn region(name: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|candidate| candidate.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_where_they_are_offered() {
        let offered = |name: &str, zone: &str| instance_type(name).unwrap().is_offered(zone);
        assert!(offered("m5.2xlarge", "us-west-1a"));
        assert!(offered("m5.2xlarge", "us-west-1c"));
        assert!(!offered("m5.2xlarge", "us-west-1b"));
        assert!(!offered("m5.2xlarge", "us-east-1e"));
        assert!(offered("t2.micro", "us-east-1e"));
        assert!(!offered("t2.micro", "eu-north-1a"));
        assert!(!offered("p2.xlarge", "us-east-1a"));
        assert!(!offered("g6.xlarge", "us-west-1a"));
        for region in REGIONS {
            assert!(
                instance_type("m5.2xlarge")
                    .unwrap()
                    .is_offered_in_region(region)
            );
            assert!(
                !instance_type("p2.xlarge")
                    .unwrap()
                    .is_offered_in_region(region)
            );
        }
    }
}
