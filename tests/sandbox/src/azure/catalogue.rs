//! Regions and sizes.
//!
//! <https://learn.microsoft.com/en-us/azure/reliability/regions-list>,
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/sizes/overview>. Only some of either.

/// Names, and how they are shown.
pub(super) const REGIONS: &[(&str, &str)] = &[
    ("eastus", "East US"),
    ("eastus2", "East US 2"),
    ("germanywestcentral", "Germany West Central"),
    ("northeurope", "North Europe"),
    ("southcentralus", "South Central US"),
    ("swedencentral", "Sweden Central"),
    ("uksouth", "UK South"),
    ("westeurope", "West Europe"),
    ("westus2", "West US 2"),
    ("westus3", "West US 3"),
];

/// A region by its name, or by how it is shown.
pub(super) fn region(text: &str) -> Option<&'static str> {
    let name = text.replace(' ', "").to_lowercase();
    Some(REGIONS.iter().find(|(known, _)| *known == name)?.0)
}

/// What a family of sizes has in common.
#[derive(Debug)]
pub(super) struct Family {
    /// The name that quotas have.
    pub(super) name: &'static str,
    /// Memory for each CPU, in GiB.
    memory: f64,
    pub(super) arm: bool,
    /// `HyperVGenerations`.
    pub(super) generations: &'static str,
    pub(super) premium: bool,
    pub(super) encryption: bool,
    pub(super) trusted: bool,
    pub(super) spot: bool,
    pub(super) accelerated: bool,
    /// Where it is offered; none: everywhere.
    regions: &'static [&'static str],
    /// Name, CPUs, GPUs, and the memory where it isn't that of the rule.
    sizes: &'static [(&'static str, u32, u32, Option<f64>)],
}

const PLAIN: Family = Family {
    name: "",
    memory: 4.0,
    arm: false,
    generations: "V1,V2",
    premium: true,
    encryption: true,
    trusted: true,
    spot: true,
    accelerated: true,
    regions: &[],
    sizes: &[],
};
const ARM: Family = Family {
    arm: true,
    generations: "V2",
    trusted: false,
    ..PLAIN
};
const GPU_REGIONS: &[&str] = &[
    "eastus",
    "northeurope",
    "southcentralus",
    "swedencentral",
    "westeurope",
    "westus2",
    "westus3",
];

#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    Family {
        name: "standardBSFamily", spot: false, accelerated: false, sizes: &[
            ("Standard_B1ls", 1, 0, Some(0.5)), ("Standard_B1s", 1, 0, Some(1.0)),
            ("Standard_B1ms", 1, 0, Some(2.0)), ("Standard_B2s", 2, 0, Some(4.0)),
            ("Standard_B2ms", 2, 0, Some(8.0)),
        ], ..PLAIN
    },
    Family {
        name: "standardBsv2Family", spot: false, sizes: &[
            ("Standard_B2s_v2", 2, 0, None), ("Standard_B4s_v2", 4, 0, None), ("Standard_B8s_v2", 8, 0, None),
        ], ..PLAIN
    },
    Family {
        name: "standardFSv2Family", memory: 2.0, sizes: &[
            ("Standard_F2s_v2", 2, 0, None), ("Standard_F4s_v2", 4, 0, None), ("Standard_F8s_v2", 8, 0, None),
            ("Standard_F16s_v2", 16, 0, None), ("Standard_F32s_v2", 32, 0, None),
            ("Standard_F64s_v2", 64, 0, None), ("Standard_F72s_v2", 72, 0, None),
        ], ..PLAIN
    },
    Family {
        name: "standardDSv2Family", memory: 3.5, sizes: &[
            ("Standard_DS1_v2", 1, 0, None), ("Standard_DS2_v2", 2, 0, None), ("Standard_DS3_v2", 4, 0, None),
        ], ..PLAIN
    },
    // Without premium disks, and of the first generation alone.
    Family {
        name: "standardDv2Family", memory: 3.5, premium: false, encryption: false, trusted: false,
        generations: "V1", sizes: &[
            ("Standard_D1_v2", 1, 0, None), ("Standard_D2_v2", 2, 0, None),
        ], ..PLAIN
    },
    Family {
        name: "standardDSv5Family", sizes: &[
            ("Standard_D2s_v5", 2, 0, None), ("Standard_D4s_v5", 4, 0, None), ("Standard_D8s_v5", 8, 0, None),
            ("Standard_D16s_v5", 16, 0, None), ("Standard_D32s_v5", 32, 0, None),
            ("Standard_D64s_v5", 64, 0, None),
        ], ..PLAIN
    },
    Family {
        name: "standardDADSv5Family", sizes: &[
            ("Standard_D2ads_v5", 2, 0, None), ("Standard_D4ads_v5", 4, 0, None),
            ("Standard_D8ads_v5", 8, 0, None),
        ], ..PLAIN
    },
    Family {
        name: "StandardDadsv6Family", generations: "V2", regions: &["eastus", "eastus2", "westeurope", "westus2", "westus3"],
        sizes: &[("Standard_D2ads_v6", 2, 0, None), ("Standard_D8ads_v6", 8, 0, None)], ..PLAIN
    },
    Family {
        name: "standardDPSv5Family", sizes: &[
            ("Standard_D2ps_v5", 2, 0, None), ("Standard_D4ps_v5", 4, 0, None), ("Standard_D8ps_v5", 8, 0, None),
            ("Standard_D16ps_v5", 16, 0, None), ("Standard_D32ps_v5", 32, 0, None),
        ], ..ARM
    },
    Family {
        name: "StandardDpsv6Family", regions: &["eastus", "eastus2", "northeurope", "westeurope", "westus2", "westus3"],
        sizes: &[
            ("Standard_D2ps_v6", 2, 0, None), ("Standard_D4ps_v6", 4, 0, None), ("Standard_D8ps_v6", 8, 0, None),
        ], ..ARM
    },
    Family {
        name: "Standard NCASv3_T4 Family", memory: 7.0, regions: GPU_REGIONS, sizes: &[
            ("Standard_NC4as_T4_v3", 4, 1, None), ("Standard_NC8as_T4_v3", 8, 1, None),
            ("Standard_NC16as_T4_v3", 16, 1, Some(110.0)), ("Standard_NC64as_T4_v3", 64, 4, Some(440.0)),
        ], ..PLAIN
    },
    Family {
        name: "StandardNCADSA100v4Family", memory: 220.0 / 24.0, generations: "V2", regions: GPU_REGIONS, sizes: &[
            ("Standard_NC24ads_A100_v4", 24, 1, None), ("Standard_NC48ads_A100_v4", 48, 2, None),
            ("Standard_NC96ads_A100_v4", 96, 4, None),
        ], ..PLAIN
    },
    Family {
        name: "standardNDSH100v5Family", memory: 1900.0 / 96.0, generations: "V2", trusted: false,
        regions: &["eastus", "southcentralus", "swedencentral", "westeurope", "westus3"],
        sizes: &[("Standard_ND96isr_H100_v5", 96, 8, None)], ..PLAIN
    },
    Family {
        name: "StandardNVADSA10v5Family", memory: 55.0 / 6.0, regions: GPU_REGIONS, sizes: &[
            ("Standard_NV6ads_A10_v5", 6, 1, None), ("Standard_NV36ads_A10_v5", 36, 1, None),
        ], ..PLAIN
    },
];

/// A size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) name: &'static str,
    pub(super) cpus: u32,
    pub(super) gpus: u32,
    pub(super) memory: f64,
    pub(super) family: &'static Family,
}

/// The sizes that a region has.
pub(super) fn sizes(region: &str) -> impl Iterator<Item = Size> {
    FAMILIES
        .iter()
        .filter(move |family| family.regions.is_empty() || family.regions.contains(&region))
        .flat_map(|family| {
            family
                .sizes
                .iter()
                .map(move |(name, cpus, gpus, memory)| Size {
                    name,
                    cpus: *cpus,
                    gpus: *gpus,
                    memory: memory.unwrap_or(family.memory * f64::from(*cpus)),
                    family,
                })
        })
}

/// A size of a region, whatever the case of its name.
pub(super) fn size(region: &str, name: &str) -> Option<Size> {
    sizes(region).find(|size| size.name.eq_ignore_ascii_case(name))
}

impl Size {
    /// What `capabilities` of its SKU say.
    /// <https://learn.microsoft.com/en-us/rest/api/compute/resource-skus/list>
    pub(super) fn capabilities(&self) -> Vec<(&'static str, String)> {
        let truth = |is: bool| if is { "True" } else { "False" }.to_owned();
        let family = self.family;
        let mut all = vec![
            ("MaxResourceVolumeMB", "0".to_owned()),
            ("OSVhdSizeMB", "1047552".to_owned()),
            ("vCPUs", self.cpus.to_string()),
            (
                "MemoryPreservingMaintenanceSupported",
                truth(self.gpus == 0),
            ),
            ("HyperVGenerations", family.generations.to_owned()),
            ("MemoryGB", self.memory.to_string()),
            ("MaxDataDiskCount", "4".to_owned()),
            (
                "CpuArchitectureType",
                if family.arm { "Arm64" } else { "x64" }.to_owned(),
            ),
            ("LowPriorityCapable", truth(family.spot)),
            ("PremiumIO", truth(family.premium)),
            ("VMDeploymentTypes", "IaaS".to_owned()),
            ("vCPUsAvailable", self.cpus.to_string()),
            ("EphemeralOSDiskSupported", truth(false)),
            ("EncryptionAtHostSupported", truth(family.encryption)),
            ("AcceleratedNetworkingEnabled", truth(family.accelerated)),
            ("RdmaEnabled", truth(false)),
            ("MaxNetworkInterfaces", "2".to_owned()),
        ];
        if self.gpus > 0 {
            all.push(("GPUs", self.gpus.to_string()));
        }
        // It is there for those alone that would have it by their generation and haven't.
        if !family.trusted {
            all.push(("TrustedLaunchDisabled", truth(true)));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_and_sizes_are_found_in_any_form() {
        assert_eq!(region("West US 2"), Some("westus2"));
        assert_eq!(region("westus2"), Some("westus2"));
        assert_eq!(region("us-west"), None);
        for (region, name, expected) in [
            ("westus2", "standard_f8s_v2", Some((8, 16.0))),
            ("westus2", "Standard_B1s", Some((1, 1.0))),
            ("westus2", "Standard_NC4as_T4_v3", Some((4, 28.0))),
            ("uksouth", "Standard_NC4as_T4_v3", None),
            // Retired.
            ("westus2", "Standard_NC6", None),
        ] {
            let found = size(region, name).map(|size| (size.cpus, size.memory));
            assert_eq!(found, expected, "{name} in {region}");
        }
    }
}
