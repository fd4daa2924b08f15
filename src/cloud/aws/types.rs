//! What EC2 tells of instance types, and where it offers them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::client::Query;
use super::sizes::{self, Driver};
use super::xml::Set;
use crate::cloud::Arch;

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html>
///
/// By filter: one unknown type named outright would refuse the whole call.
pub(super) fn types_query(types: &[String]) -> Query {
    Query::ec2("DescribeInstanceTypes").filter("instance-type", types.iter().map(String::as_str))
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypeOfferings.html>
pub(super) fn offerings_query(types: &[String]) -> Query {
    Query::ec2("DescribeInstanceTypeOfferings")
        .set("LocationType", "availability-zone")
        .filter("instance-type", types.iter().map(String::as_str))
}

#[derive(Debug, Deserialize)]
pub(super) struct TypesAnswer {
    #[serde(rename = "instanceTypeSet", default)]
    types: Set<TypeItem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeItem {
    instance_type: String,
    processor_info: Option<ProcessorInfo>,
    gpu_info: Option<GpuInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProcessorInfo {
    #[serde(default)]
    supported_architectures: Set<String>,
}

#[derive(Debug, Deserialize)]
struct GpuInfo {
    #[serde(default)]
    gpus: Set<GpuItem>,
}

#[derive(Debug, Deserialize)]
struct GpuItem {
    manufacturer: Option<String>,
}

/// An instance type, as EC2 tells or as its name does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeInfo {
    pub(super) name: String,
    pub(super) arch: Arch,
    pub(super) driver: Driver,
}

impl TypeInfo {
    /// What the name alone tells.
    pub(super) fn guess(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arch: sizes::arch(name),
            driver: sizes::driver(name),
        }
    }
}

impl TypesAnswer {
    pub(super) fn types(self) -> Vec<TypeInfo> {
        self.types.items.into_iter().map(TypeItem::info).collect()
    }
}

impl TypeItem {
    fn info(self) -> TypeInfo {
        let guess = TypeInfo::guess(&self.instance_type);
        let supported = self
            .processor_info
            .map(|info| info.supported_architectures.items);
        let supports = |name: &str| supported.iter().flatten().any(|known| known == name);
        let nvidia = self
            .gpu_info
            .iter()
            .flat_map(|info| &info.gpus.items)
            .any(|gpu| gpu.manufacturer.as_deref() == Some("NVIDIA"));
        TypeInfo {
            arch: match (supports("x86_64"), supports("arm64")) {
                (true, _) => Arch::X86_64,
                (false, true) => Arch::Aarch64,
                (false, false) => guess.arch,
            },
            driver: match (nvidia, guess.driver) {
                (false, _) => Driver::None,
                (true, Driver::Proprietary) => Driver::Proprietary,
                (true, _) => Driver::Open,
            },
            name: guess.name,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct OfferingsAnswer {
    #[serde(rename = "instanceTypeOfferingSet", default)]
    offerings: Set<Offering>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offering {
    instance_type: String,
    location: String,
}

impl OfferingsAnswer {
    /// Pairs of type and zone.
    pub(super) fn offerings(self) -> BTreeSet<(String, String)> {
        let offerings = self.offerings.items.into_iter();
        offerings
            .map(|offering| (offering.instance_type, offering.location))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_answers_are_read() {
        let answer: TypesAnswer = quick_xml::de::from_str(
            r#"<DescribeInstanceTypesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
                 <requestId>f9a2</requestId>
                 <instanceTypeSet>
                   <item>
                     <currentGeneration>true</currentGeneration>
                     <gpuInfo>
                       <gpus><item><count>1</count><manufacturer>NVIDIA</manufacturer><name>T4</name>
                         <memoryInfo><sizeInMiB>16384</sizeInMiB></memoryInfo></item></gpus>
                       <totalGpuMemoryInMiB>16384</totalGpuMemoryInMiB>
                     </gpuInfo>
                     <instanceType>g4dn.xlarge</instanceType>
                     <processorInfo>
                       <supportedArchitectures><item>x86_64</item></supportedArchitectures>
                       <sustainedClockSpeedInGhz>2.5</sustainedClockSpeedInGhz>
                     </processorInfo>
                   </item>
                   <item>
                     <instanceType>t4g.micro</instanceType>
                     <processorInfo>
                       <supportedArchitectures><item>arm64</item></supportedArchitectures>
                     </processorInfo>
                   </item>
                   <item>
                     <instanceType>t2.micro</instanceType>
                     <processorInfo>
                       <supportedArchitectures><item>i386</item><item>x86_64</item></supportedArchitectures>
                     </processorInfo>
                   </item>
                 </instanceTypeSet>
               </DescribeInstanceTypesResponse>"#,
        )
        .unwrap();
        let types: Vec<_> = answer
            .types()
            .into_iter()
            .map(|info| (info.name, info.arch, info.driver))
            .collect();
        assert_eq!(
            types,
            [
                ("g4dn.xlarge".to_owned(), Arch::X86_64, Driver::Open),
                ("t4g.micro".to_owned(), Arch::Aarch64, Driver::None),
                ("t2.micro".to_owned(), Arch::X86_64, Driver::None),
            ]
        );
        let answer: OfferingsAnswer = quick_xml::de::from_str(
            r#"<DescribeInstanceTypeOfferingsResponse>
                 <instanceTypeOfferingSet>
                   <item><instanceType>t2.micro</instanceType><location>us-west-1a</location>
                     <locationType>availability-zone</locationType></item>
                 </instanceTypeOfferingSet>
               </DescribeInstanceTypeOfferingsResponse>"#,
        )
        .unwrap();
        assert!(
            answer
                .offerings()
                .contains(&("t2.micro".to_owned(), "us-west-1a".to_owned()))
        );
    }
}
