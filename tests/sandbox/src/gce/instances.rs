//! Instances, once they are there: `get`, `list`, `aggregatedList`, `delete` and the serial port.
//! <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances>

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::error::{ApiError, Result};
use super::lifecycle::Order;
use super::operation;
use super::page::List;
use super::state::{Instance, Phase, State, time};
use super::{Context, World, catalogue, link};
use crate::calls::lock;
use crate::google::PROJECT;

/// How much of a serial port's output is kept.
/// <https://docs.cloud.google.com/compute/docs/troubleshooting/viewing-serial-port-output>
const CONSOLE_LIMIT: usize = 1024 * 1024;

fn path(context: &Context<'_>) -> String {
    let (zone, name) = (context.path("zone"), context.path("instance"));
    format!("projects/{PROJECT}/zones/{zone}/instances/{name}")
}

fn find<'a>(context: &Context<'_>, state: &'a State) -> Result<&'a Instance> {
    state
        .instance(context.path("zone"), context.path("instance"))
        .ok_or_else(|| ApiError::not_found(&path(context)))
}

pub(super) fn get(context: &Context<'_>) -> Result<Value> {
    context.require("compute.instances.get", &path(context))?;
    let state = lock(&context.world.state);
    Ok(json(context.world, find(context, &state)?))
}

/// Those that are there.
fn all(context: &Context<'_>) -> Vec<Value> {
    let state = lock(&context.world.state);
    state
        .instances
        .iter()
        .filter(|instance| instance.phase != Phase::Deleted)
        .map(|instance| json(context.world, instance))
        .collect()
}

pub(super) fn list(context: &Context<'_>) -> Result<Value> {
    context.require("compute.instances.list", &format!("projects/{PROJECT}"))?;
    let list = List::read(context, "Instance")?;
    let zone = format!("projects/{PROJECT}/zones/{}", context.path("zone"));
    let zone_link = context.world.link(&zone);
    let mut items = all(context);
    items.retain(|instance| instance["zone"] == zone_link.as_str());
    Ok(list.answer(
        context,
        "compute#instanceList",
        &format!("{zone}/instances"),
        items,
    ))
}

/// Every zone is in the answer, those without instances with a warning.
pub(super) fn aggregated_list(context: &Context<'_>) -> Result<Value> {
    context.require("compute.instances.list", &format!("projects/{PROJECT}"))?;
    let list = List::read(context, "Instance")?;
    let (items, token) = list.cut(all(context), |item| item);
    let mut scopes = serde_json::Map::new();
    for zone in catalogue::zones() {
        let link = context
            .world
            .link(&format!("projects/{PROJECT}/zones/{zone}"));
        let here: Vec<&Value> = items
            .iter()
            .filter(|i| i["zone"] == link.as_str())
            .collect();
        let scope = format!("zones/{zone}");
        let value = if here.is_empty() {
            json!({"warning": {
                "code": "NO_RESULTS_ON_PAGE",
                "message": format!("There are no results for scope '{scope}' on this page."),
                "data": [{"key": "scope", "value": scope}],
            }})
        } else {
            json!({"instances": here})
        };
        scopes.insert(scope, value);
    }
    let path = format!("projects/{PROJECT}/aggregated/instances");
    let mut answer = json!({
        "kind": "compute#instanceAggregatedList",
        "id": path,
        "items": scopes,
        "selfLink": context.world.link(&path),
    });
    if let Some(token) = token {
        answer["nextPageToken"] = token.into();
    }
    Ok(answer)
}

pub(super) fn delete(context: &Context<'_>) -> Result<Value> {
    let path = path(context);
    context.require("compute.instances.delete", &path)?;
    let world = context.world;
    let mut state = lock(&world.state);
    if let Some(operation) = operation::earlier(context, &state)? {
        return Ok(operation);
    }
    let (id, orders) = {
        let instance = find(context, &state)?;
        (instance.id, instance.orders.clone())
    };
    let operation = operation::begin(context, &mut state, "delete", &path, &id.to_string());
    if orders.send(Order::Delete(operation.name.clone())).is_err() {
        return Err(ApiError::not_found(&path));
    }
    Ok(operation.json(world))
}

pub(super) fn get_serial_port_output(context: &Context<'_>) -> Result<Value> {
    let path = path(context);
    context.require("compute.instances.getSerialPortOutput", &path)?;
    let port = context.parameter("port").unwrap_or("1");
    let start = context.parameter("start").unwrap_or("0");
    let start: i64 = start.parse().unwrap_or(0);
    let text = {
        let state = lock(&context.world.state);
        let instance = find(context, &state)?;
        let machine = instance
            .machine
            .as_ref()
            .filter(|_| instance.phase < Phase::Terminated)
            .ok_or_else(|| ApiError::not_ready(&path))?;
        match port {
            "1" => machine.console_text(),
            _ => String::new(),
        }
    };
    let bytes = text.as_bytes();
    let oldest = bytes.len().saturating_sub(CONSOLE_LIMIT);
    let first = if start < 0 {
        bytes
            .len()
            .saturating_sub(usize::try_from(-start).unwrap_or(usize::MAX))
    } else {
        usize::try_from(start).unwrap_or(usize::MAX)
    };
    let first = first.clamp(oldest, bytes.len());
    Ok(json!({
        "kind": "compute#serialPortOutput",
        "selfLink": context.world.link(&format!("{path}/serialPort")),
        "contents": String::from_utf8_lossy(&bytes[first..]),
        "start": first.to_string(),
        "next": bytes.len().to_string(),
    }))
}

/// An instance's answer, as `instances.get` gives it.
pub(super) fn json(world: &World, instance: &Instance) -> Value {
    let zone = format!("projects/{PROJECT}/zones/{}", instance.zone);
    let path = instance.resource();
    let url = |path: &str| world.link(path);
    let scheduling = &instance.scheduling;
    let mut schedule = json!({
        "onHostMaintenance": scheduling.on_host_maintenance,
        "automaticRestart": scheduling.automatic_restart,
        "preemptible": scheduling.spot,
        "provisioningModel": if scheduling.spot { "SPOT" } else { "STANDARD" },
    });
    if scheduling.spot && !scheduling.preemptible {
        schedule["instanceTerminationAction"] = scheduling.termination_action.as_str().into();
    }
    let mut metadata = json!({
        "kind": "compute#metadata",
        "fingerprint": fingerprint(&json!(instance.metadata)),
    });
    if !instance.metadata.is_empty() {
        metadata["items"] = instance
            .metadata
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
    }
    let mut interface = json!({
        "kind": "compute#networkInterface",
        "name": "nic0",
        "fingerprint": fingerprint(&json!(instance.id)),
        "network": url(&format!("projects/{PROJECT}/global/networks/{}", instance.network)),
        "subnetwork": url(&instance.subnetwork),
        "networkIP": instance.internal_ip,
        "stackType": "IPV4_ONLY",
    });
    if instance.body["networkInterfaces"][0]["accessConfigs"].is_array() {
        let mut access = json!({
            "kind": "compute#accessConfig",
            "type": "ONE_TO_ONE_NAT",
            "name": "external-nat",
            "networkTier": instance.network_tier,
        });
        // One that is not running has no address, unless it is reserved.
        if let Some(address) = address(instance) {
            access["natIP"] = address.into();
        }
        interface["accessConfigs"] = json!([access]);
    }
    let mut json = json!({
        "kind": "compute#instance",
        "id": instance.id.to_string(),
        "name": instance.name,
        "creationTimestamp": time(instance.created),
        "zone": url(&zone),
        "selfLink": url(&path),
        "status": instance.phase.name(),
        "machineType": url(&format!("{zone}/machineTypes/{}", instance.machine_type)),
        "cpuPlatform": if instance.phase < Phase::Running {
            "Unknown CPU Platform"
        } else if instance.architecture == "ARM64" {
            "Google Axion"
        } else {
            "Intel Broadwell"
        },
        "scheduling": schedule,
        "metadata": metadata,
        "networkInterfaces": [interface],
        "disks": [{
            "kind": "compute#attachedDisk",
            "type": "PERSISTENT",
            "mode": "READ_WRITE",
            "source": url(&format!("{zone}/disks/{}", instance.disk.name)),
            "deviceName": instance.disk.device,
            "index": 0,
            "boot": true,
            "autoDelete": instance.disk.auto_delete,
            "interface": "SCSI",
            "diskSizeGb": instance.disk.size_gb.to_string(),
            "architecture": instance.architecture,
        }],
        "canIpForward": false,
        "startRestricted": false,
        "deletionProtection": false,
        "labelFingerprint": fingerprint(&json!(instance.labels)),
        "fingerprint": fingerprint(&instance.body),
    });
    let mut tags = json!({"fingerprint": fingerprint(&json!(instance.tags))});
    if !instance.tags.is_empty() {
        tags["items"] = json!(instance.tags);
    }
    json["tags"] = tags;
    if let Some(description) = instance.body["description"].as_str() {
        json["description"] = description.into();
    }
    if !instance.labels.is_empty() {
        json["labels"] = json!(instance.labels);
    }
    if let Some((email, scopes)) = &instance.service_account {
        json["serviceAccounts"] = json!([{"email": email, "scopes": scopes}]);
    }
    if !instance.accelerators.is_empty() {
        json["guestAccelerators"] = instance
            .accelerators
            .iter()
            .map(|(name, count)| {
                json!({
                    "acceleratorType": url(&format!("{zone}/acceleratorTypes/{name}")),
                    "acceleratorCount": count,
                })
            })
            .collect();
    }
    for (name, value) in [
        ("lastStartTimestamp", instance.started),
        ("lastStopTimestamp", instance.stopped),
    ] {
        if let Some(value) = value {
            json[name] = time(value).into();
        }
    }
    json
}

/// The external address, while there is one.
pub(super) fn address(instance: &Instance) -> Option<&str> {
    let has_one = instance.phase < Phase::Terminated && instance.phase > Phase::Provisioning;
    instance.external_ip.as_deref().filter(|_| has_one)
}

fn fingerprint(value: &Value) -> String {
    let number: u64 = link::id(&value.to_string()).parse().unwrap_or_default();
    BASE64_STANDARD.encode(number.to_be_bytes())
}
