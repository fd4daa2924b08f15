//! DescribeInstanceTypes and DescribeInstanceTypeOfferings.

use super::Context;
use super::catalogue::{InstanceType, TYPES};
use super::error::{ApiError, Result};
use super::query::Node;
use super::state::Tags;
use super::xml::Xml;

pub(super) fn describe_instance_types(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let names = params.texts("InstanceType")?;
    let filters = params.filters(&[
        "current-generation",
        "hypervisor",
        "instance-type",
        "processor-info.supported-architecture",
        "supported-usage-class",
        "vcpu-info.default-vcpus",
    ])?;
    let page = params.page(5, 100)?;
    params.finish()?;
    if page.is_given() && !names.is_empty() {
        return Err(ApiError::combination(
            "The parameter instanceTypes cannot be used with the parameter maxResults",
        ));
    }
    // A type that the region doesn't have (any more) doesn't exist there.
    let here: Vec<&InstanceType> = TYPES
        .iter()
        .filter(|kind| kind.is_offered_in_region(context.region))
        .collect();
    let unknown: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !here.iter().any(|kind| kind.name == *name))
        .collect();
    if !unknown.is_empty() {
        return Err(ApiError::client(
            "InvalidInstanceType",
            format!(
                "The following supplied instance types do not exist: [{}]",
                unknown.join(", ")
            ),
        ));
    }
    let found: Vec<&InstanceType> = here
        .into_iter()
        .filter(|kind| names.is_empty() || names.iter().any(|name| name == kind.name))
        .filter(|kind| {
            filters.pass(&Tags::new(), |filter| match filter {
                "current-generation" => vec![is_current(kind).to_string()],
                "hypervisor" => vec![kind.hypervisor.into()],
                "instance-type" => vec![kind.name.into()],
                "processor-info.supported-architecture" => vec![kind.architecture.into()],
                "supported-usage-class" => vec!["on-demand".into(), "spot".into()],
                "vcpu-info.default-vcpus" => vec![kind.vcpus.to_string()],
                _ => Vec::new(),
            })
        })
        .collect();
    let (found, token) = page.cut(found);
    let mut xml = Xml::piece();
    xml.set("instanceTypeSet", found, write_type);
    xml.maybe("nextToken", token);
    Ok(xml)
}

fn is_current(kind: &InstanceType) -> bool {
    !kind.name.starts_with("p2.")
}

fn write_type(xml: &mut Xml, kind: &InstanceType) {
    xml.text("instanceType", kind.name);
    xml.text("currentGeneration", is_current(kind));
    xml.text("freeTierEligible", kind.name.ends_with(".micro"));
    xml.text("bareMetal", false);
    xml.text("hypervisor", kind.hypervisor);
    xml.words("supportedUsageClasses", ["on-demand", "spot"]);
    xml.words("supportedRootDeviceTypes", ["ebs"]);
    xml.words("supportedVirtualizationTypes", ["hvm"]);
    xml.node("processorInfo", |xml| {
        let mut architectures = vec![kind.architecture];
        // The old micro types run 32-bit systems, too.
        if kind.name == "t2.micro" {
            architectures.insert(0, "i386");
        }
        xml.words("supportedArchitectures", architectures);
        xml.text("sustainedClockSpeedInGhz", "2.5");
        let arm = kind.architecture == "arm64";
        xml.text("manufacturer", if arm { "AWS" } else { "Intel" });
    });
    xml.node("vCpuInfo", |xml| {
        xml.text("defaultVCpus", kind.vcpus);
        xml.text("defaultCores", kind.vcpus.div_ceil(2));
        xml.text("defaultThreadsPerCore", kind.vcpus.min(2));
    });
    xml.node("memoryInfo", |xml| xml.text("sizeInMiB", kind.memory_mib));
    xml.text("instanceStorageSupported", false);
    if let Some(gpu) = &kind.gpu {
        xml.node("gpuInfo", |xml| {
            xml.set("gpus", [gpu], |xml, gpu| {
                xml.text("name", gpu.name);
                xml.text("manufacturer", gpu.manufacturer);
                xml.text("count", gpu.count);
                xml.node("memoryInfo", |xml| xml.text("sizeInMiB", gpu.memory_mib));
            });
            xml.text("totalGpuMemoryInMiB", gpu.memory_mib * gpu.count);
        });
    }
    xml.text("burstablePerformanceSupported", kind.name.starts_with('t'));
    xml.text("autoRecoverySupported", true);
}

pub(super) fn describe_instance_type_offerings(
    context: &Context<'_>,
    params: &mut Node,
) -> Result<Xml> {
    let by_zone = match params
        .word(
            "LocationType",
            &["region", "availability-zone", "availability-zone-id"],
        )?
        .as_deref()
    {
        None | Some("region") => false,
        Some("availability-zone") => true,
        Some(_) => {
            return Err(ApiError::value(
                "Offerings by availability-zone-id are not part of this sandbox",
            ));
        }
    };
    let filters = params.filters(&["instance-type", "location"])?;
    let page = params.page(5, 1000)?;
    params.finish()?;
    let locations = if by_zone {
        context.region.zones()
    } else {
        vec![context.region.name.to_owned()]
    };
    let mut found = Vec::new();
    for kind in TYPES {
        for location in &locations {
            let offered = if by_zone {
                kind.is_offered(location)
            } else {
                kind.is_offered_in_region(context.region)
            };
            let wanted = filters.pass(&Tags::new(), |filter| match filter {
                "instance-type" => vec![kind.name.into()],
                "location" => vec![location.clone()],
                _ => Vec::new(),
            });
            if offered && wanted {
                found.push((kind.name, location.clone()));
            }
        }
    }
    let (found, token) = page.cut(found);
    let mut xml = Xml::piece();
    xml.set("instanceTypeOfferingSet", found, |xml, (name, location)| {
        xml.text("instanceType", name);
        xml.text(
            "locationType",
            if by_zone {
                "availability-zone"
            } else {
                "region"
            },
        );
        xml.text("location", location);
    });
    xml.maybe("nextToken", token);
    Ok(xml)
}
