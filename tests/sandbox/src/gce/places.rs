//! Zones, machine types and disk types.
//! <https://docs.cloud.google.com/compute/docs/regions-zones>

use serde_json::{Value, json};

use super::catalogue::{self, MachineType};
use super::error::{ApiError, Result};
use super::page::List;
use super::{Context, World, insert, link};
use crate::google::PROJECT;

const LONG_AGO: &str = "1969-12-31T16:00:00.000-08:00";

fn zone_json(world: &World, zone: &str) -> Value {
    let path = format!("projects/{PROJECT}/zones/{zone}");
    let region = zone.rsplit_once('-').map_or(zone, |(region, _)| region);
    json!({
        "kind": "compute#zone",
        "id": link::id(&path),
        "creationTimestamp": LONG_AGO,
        "name": zone,
        "description": zone,
        "status": "UP",
        "region": world.link(&format!("projects/{PROJECT}/regions/{region}")),
        "selfLink": world.link(&path),
        "availableCpuPlatforms": ["Intel Broadwell", "Intel Skylake"],
        "supportsPzs": true,
    })
}

pub(super) fn get_zone(context: &Context<'_>) -> Result<Value> {
    let zone = context.path("zone");
    context.require(
        "compute.zones.get",
        &format!("projects/{PROJECT}/zones/{zone}"),
    )?;
    Ok(zone_json(context.world, zone))
}

pub(super) fn list_zones(context: &Context<'_>) -> Result<Value> {
    context.require("compute.zones.list", &format!("projects/{PROJECT}"))?;
    let list = List::read(context, "Zone")?;
    let items = catalogue::zones()
        .map(|zone| zone_json(context.world, &zone))
        .collect();
    let path = format!("projects/{PROJECT}/zones");
    Ok(list.answer(context, "compute#zoneList", &path, items))
}

fn type_json(world: &World, zone: &str, machine_type: &MachineType) -> Value {
    let path = format!(
        "projects/{PROJECT}/zones/{zone}/machineTypes/{}",
        machine_type.name
    );
    let mut json = json!({
        "kind": "compute#machineType",
        "id": link::id(&path),
        "creationTimestamp": LONG_AGO,
        "name": machine_type.name,
        "description": format!(
            "{} vCPUs, {} MB RAM",
            machine_type.cpus, machine_type.memory_mb
        ),
        "guestCpus": machine_type.cpus,
        "memoryMb": machine_type.memory_mb,
        "imageSpaceGb": 0,
        "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168",
        "zone": zone,
        "selfLink": world.link(&path),
        "isSharedCpu": machine_type.shared_cpu,
        "architecture": machine_type.architecture,
    });
    if let Some((name, count)) = machine_type.gpus {
        json["accelerators"] = json!([{
            "guestAcceleratorType": name,
            "guestAcceleratorCount": count,
        }]);
    }
    json
}

pub(super) fn get_machine_type(context: &Context<'_>) -> Result<Value> {
    let (zone, name) = (context.path("zone"), context.path("machineType"));
    let path = format!("projects/{PROJECT}/zones/{zone}/machineTypes/{name}");
    context.require("compute.machineTypes.get", &path)?;
    catalogue::machine_type(zone, name)
        .map(|machine_type| type_json(context.world, zone, &machine_type))
        .ok_or_else(|| ApiError::not_found(&path))
}

pub(super) fn list_machine_types(context: &Context<'_>) -> Result<Value> {
    context.require("compute.machineTypes.list", &format!("projects/{PROJECT}"))?;
    let list = List::read(context, "MachineType")?;
    let zone = context.path("zone");
    let items = catalogue::machine_types(zone)
        .iter()
        .map(|machine_type| type_json(context.world, zone, machine_type))
        .collect();
    let path = format!("projects/{PROJECT}/zones/{zone}/machineTypes");
    Ok(list.answer(context, "compute#machineTypeList", &path, items))
}

pub(super) fn get_disk_type(context: &Context<'_>) -> Result<Value> {
    let (zone, name) = (context.path("zone"), context.path("diskType"));
    let path = format!("projects/{PROJECT}/zones/{zone}/diskTypes/{name}");
    context.require("compute.diskTypes.get", &path)?;
    if !insert::is_disk_type(name) {
        return Err(ApiError::not_found(&path));
    }
    Ok(json!({
        "kind": "compute#diskType",
        "id": link::id(&path),
        "creationTimestamp": LONG_AGO,
        "name": name,
        "description": name,
        "validDiskSize": "10GB-65536GB",
        "zone": context.world.link(&format!("projects/{PROJECT}/zones/{zone}")),
        "selfLink": context.world.link(&path),
        "defaultDiskSizeGb": "100",
    }))
}
