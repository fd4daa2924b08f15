//! `instances.insert`: reading and checking what is asked for.
//! <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/insert>

use std::collections::BTreeMap;

use serde_json::Value;

use super::catalogue::{self, MachineType};
use super::error::{ApiError, Result};
use super::images::{self, Image};
use super::page::{flag, number, text};
use super::state::{Disk, Labels, Scheduling};
use super::{Context, link, names, networks};
use crate::google::{Identity, PROJECT};

/// What would have to be modelled, and isn't.
const ABSENT: &[&str] = &[
    "confidentialInstanceConfig",
    "deletionProtection",
    "hostname",
    "instanceEncryptionKey",
    "networkPerformanceConfig",
    "params",
    "reservationAffinity",
    "resourcePolicies",
    "sourceMachineImage",
    "workloadIdentityConfig",
];
const ABSENT_SCHEDULING: &[&str] = &[
    "gracefulShutdown",
    "localSsdRecoveryTimeout",
    "maxRunDuration",
    "nodeAffinities",
    "onInstanceStopAction",
    "preemptionNoticeDuration",
    "skipGuestOsShutdown",
    "terminationTime",
];
const ABSENT_DISK: &[&str] = &["diskEncryptionKey", "source", "forceAttach"];
const DISK_TYPES: &[&str] = &[
    "hyperdisk-balanced",
    "hyperdisk-extreme",
    "pd-balanced",
    "pd-extreme",
    "pd-ssd",
    "pd-standard",
];

/// What is asked for, checked as far as that needs no look at what exists.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) zone: String,
    pub(super) machine_type: MachineType,
    pub(super) accelerators: Vec<(String, u32)>,
    pub(super) image: &'static Image,
    pub(super) disk: Disk,
    pub(super) labels: Labels,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tags: Vec<String>,
    pub(super) scheduling: Scheduling,
    pub(super) service_account: Option<(String, Vec<String>)>,
    pub(super) network: String,
    pub(super) has_external_ip: bool,
    pub(super) network_tier: String,
}

/// Whether a disk type exists.
pub(super) fn is_disk_type(name: &str) -> bool {
    DISK_TYPES.contains(&name)
}

fn absent(value: &Value, names: &[&str], path: &str) -> Result<()> {
    for name in names {
        let given = &value[*name];
        let harmless = given.is_null() || flag(given) == Some(false);
        if !harmless {
            let field = format!("{path}.{name}");
            let why = "That is not part of this sandbox.";
            return Err(ApiError::invalid(&field, &given.to_string(), why));
        }
    }
    Ok(())
}

impl Wanted {
    pub(super) fn read(context: &Context<'_>) -> Result<Self> {
        let body = &context.body;
        let zone = context.path("zone").to_owned();
        let name = text(body, "name").to_owned();
        names::check("resource.name", &name)?;
        absent(body, ABSENT, "resource")?;
        if text(body, "description").len() > 2048 {
            let size = text(body, "description").len();
            return Err(names::too_large("resource.description", 2048, size));
        }
        let machine_type = machine_type(body, &zone)?;
        let accelerators = accelerators(body, &zone, &machine_type)?;
        let (image, disk) = disk(context, body, &zone, &name, &machine_type)?;
        let has_gpu = machine_type.gpus.is_some() || !accelerators.is_empty();
        let scheduling = scheduling(&body["scheduling"], has_gpu)?;
        let (network, has_external_ip, network_tier) = interface(body, &zone)?;
        let mut tags = Vec::new();
        for (index, tag) in list(&body["tags"]["items"]).enumerate() {
            let tag = tag.as_str().unwrap_or_default();
            names::check(&format!("resource.tags.items[{index}]"), tag)?;
            tags.push(tag.to_owned());
        }
        Ok(Wanted {
            labels: names::labels("resource.labels", &body["labels"])?,
            metadata: names::metadata(&body["metadata"])?,
            service_account: service_account(&body["serviceAccounts"])?,
            name,
            zone,
            machine_type,
            accelerators,
            image,
            disk,
            tags,
            scheduling,
            network,
            has_external_ip,
            network_tier,
        })
    }

    /// Asks for every permission that the parts of the request need, as the page on creating an
    /// instance lists them.
    /// <https://docs.cloud.google.com/compute/docs/instances/create-start-instance#permissions>
    pub(super) fn require(&self, context: &Context<'_>) -> Result<()> {
        let place = format!("projects/{PROJECT}/zones/{}", self.zone);
        let instance = format!("{place}/instances/{}", self.name);
        let disk = format!("{place}/disks/{}", self.disk.name);
        let region = self.zone.rsplit_once('-').map_or("", |(region, _)| region);
        let subnetwork = networks::subnetwork_path(region, &self.network);
        context.require("compute.instances.create", &instance)?;
        context.require("compute.disks.create", &disk)?;
        if !self.disk.labels.is_empty() {
            context.require("compute.disks.setLabels", &disk)?;
        }
        context.require("compute.subnetworks.use", &subnetwork)?;
        if self.has_external_ip {
            context.require("compute.subnetworks.useExternalIp", &subnetwork)?;
        }
        for (permission, needed) in [
            ("compute.instances.setMetadata", !self.metadata.is_empty()),
            ("compute.instances.setTags", !self.tags.is_empty()),
            ("compute.instances.setLabels", !self.labels.is_empty()),
            (
                "compute.instances.setServiceAccount",
                self.service_account.is_some(),
            ),
        ] {
            if needed {
                context.require(permission, &instance)?;
            }
        }
        Ok(())
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The last word of a URL like `zones/us-west1-b/machineTypes/e2-medium`.
fn zonal<'a>(field: &str, url: &'a str, zone: &str, kind: &str) -> Result<&'a str> {
    match link::words(url, PROJECT).as_deref() {
        Some(["zones", named, found, name]) if *found == kind && *named == zone => Ok(name),
        Some(["zones", named, found, _]) if *found == kind => Err(ApiError::invalid(
            field,
            url,
            &format!("The zone '{named}' is not the instance's zone '{zone}'."),
        )),
        _ => Err(ApiError::invalid(field, url, "The URL is malformed.")),
    }
}

fn machine_type(body: &Value, zone: &str) -> Result<MachineType> {
    let field = "resource.machineType";
    let url = text(body, "machineType");
    if url.is_empty() {
        return Err(ApiError::missing(field));
    }
    let name = zonal(field, url, zone, "machineTypes")?;
    catalogue::machine_type(zone, name).ok_or_else(|| {
        let why = format!("Machine type with name '{name}' does not exist in zone '{zone}'.");
        ApiError::invalid(field, url, &why)
    })
}

/// <https://docs.cloud.google.com/compute/docs/gpus/create-gpu-vm-general-purpose>
fn accelerators(
    body: &Value,
    zone: &str,
    machine_type: &MachineType,
) -> Result<Vec<(String, u32)>> {
    let mut accelerators = Vec::new();
    for (index, item) in list(&body["guestAccelerators"]).enumerate() {
        let at = format!("resource.guestAccelerators[{index}]");
        let url = text(item, "acceleratorType");
        let field = format!("{at}.acceleratorType");
        let name = zonal(&field, url, zone, "acceleratorTypes")?;
        let count = number(&item["acceleratorCount"]).unwrap_or(0);
        if count == 0 {
            return Err(ApiError::missing(&format!("{at}.acceleratorCount")));
        }
        if !catalogue::has_accelerator(zone, name) {
            return Err(ApiError::not_found(&format!(
                "projects/{PROJECT}/zones/{zone}/acceleratorTypes/{name}"
            )));
        }
        if index > 0 || !catalogue::takes_accelerator(machine_type, name, count) {
            return Err(ApiError::bad(format!(
                "[{name}, {}] features are not compatible for creating instance.",
                machine_type.name
            )));
        }
        accelerators.push((name.to_owned(), count));
    }
    Ok(accelerators)
}

fn disk(
    context: &Context<'_>,
    body: &Value,
    zone: &str,
    name: &str,
    machine_type: &MachineType,
) -> Result<(&'static Image, Disk)> {
    let disks: Vec<&Value> = list(&body["disks"]).collect();
    let [disk] = disks.as_slice() else {
        return Err(match disks.as_slice() {
            [] => ApiError::missing("resource.disks"),
            _ => ApiError::bad("One disk is all that this sandbox gives."),
        });
    };
    let at = "resource.disks[0]";
    absent(disk, ABSENT_DISK, at)?;
    if flag(&disk["boot"]) != Some(true) {
        let why = "Boot disk must be the first disk attached to the instance.";
        return Err(ApiError::invalid(&format!("{at}.boot"), "false", why));
    }
    if text(disk, "type") == "SCRATCH" {
        let why = "A boot disk is persistent.";
        return Err(ApiError::invalid(&format!("{at}.type"), "SCRATCH", why));
    }
    let at = format!("{at}.initializeParams");
    let parameters = &disk["initializeParams"];
    absent(
        parameters,
        &["sourceSnapshot", "storagePool", "replicaZones"],
        &at,
    )?;
    let field = format!("{at}.sourceImage");
    if text(parameters, "sourceImage").is_empty() {
        return Err(ApiError::missing(&field));
    }
    let image = images::source(context, &field, text(parameters, "sourceImage"))?;
    let kind = match text(parameters, "diskType") {
        "" => "pd-standard",
        url => {
            let field = format!("{at}.diskType");
            let kind = zonal(&field, url, zone, "diskTypes")?;
            if !is_disk_type(kind) {
                let why = "The referenced diskType resource cannot be found.";
                return Err(ApiError::invalid(&field, url, why));
            }
            kind
        }
    };
    if !machine_type.disks.contains(&kind) {
        return Err(ApiError::bad(format!(
            "{kind} disk type cannot be used by {} machine type.",
            machine_type.name
        )));
    }
    if image.architecture != machine_type.architecture {
        return Err(ApiError::bad(format!(
            "Invalid resource usage: 'Requested boot disk architecture ({}) is not compatible with \
             machine type architecture ({}).'.",
            image.architecture, machine_type.architecture
        )));
    }
    let size_gb = match (&disk["diskSizeGb"], &parameters["diskSizeGb"]) {
        (Value::Null, Value::Null) => image.size_gb,
        (Value::Null, size) | (size, _) => number(size).unwrap_or(0),
    };
    let field = format!("{at}.diskSizeGb");
    if size_gb < image.size_gb {
        let why = format!(
            "Requested disk size cannot be smaller than the image size ({} GB)",
            image.size_gb
        );
        return Err(ApiError::invalid(&field, &size_gb.to_string(), &why));
    }
    if size_gb > 65536 {
        let why = "Disk size: must be at most 65536 GB.";
        return Err(ApiError::invalid(&field, &size_gb.to_string(), why));
    }
    let disk_name = match text(parameters, "diskName") {
        "" => name,
        named => named,
    };
    names::check(&format!("{at}.diskName"), disk_name)?;
    let device = match text(disk, "deviceName") {
        "" => "persistent-disk-0",
        named => named,
    };
    let disk = Disk {
        name: disk_name.into(),
        device: device.into(),
        size_gb,
        kind: kind.into(),
        labels: names::labels(&format!("{at}.labels"), &parameters["labels"])?,
        // A disk stays unless this is said.
        auto_delete: flag(&disk["autoDelete"]).unwrap_or(false),
        exists: true,
    };
    Ok((image, disk))
}

/// <https://docs.cloud.google.com/compute/docs/instances/create-use-spot>,
/// <https://docs.cloud.google.com/compute/docs/instances/host-maintenance-overview>
fn scheduling(value: &Value, has_gpu: bool) -> Result<Scheduling> {
    absent(value, ABSENT_SCHEDULING, "resource.scheduling")?;
    let preemptible = flag(&value["preemptible"]).unwrap_or(false);
    let model = text(value, "provisioningModel");
    let spot = match (model, preemptible) {
        ("SPOT", _) | ("", true) => true,
        ("" | "STANDARD", false) => false,
        ("STANDARD", true) => {
            let why = "A preemptible instance can't have the standard provisioning model.";
            let field = "resource.scheduling.provisioningModel";
            return Err(ApiError::invalid(field, model, why));
        }
        _ => {
            let field = "resource.scheduling.provisioningModel";
            let why = "That is not part of this sandbox.";
            return Err(ApiError::invalid(field, model, why));
        }
    };
    let conflict = |what: &str| {
        let why = format!("Scheduling must have preemptible be false when {what}");
        ApiError::invalid("resource.scheduling", &value.to_string(), &why)
    };
    let automatic_restart = flag(&value["automaticRestart"]);
    if spot && automatic_restart == Some(true) {
        return Err(conflict("AutomaticRestart is true."));
    }
    let on_host_maintenance = match text(value, "onHostMaintenance") {
        "" if spot => "TERMINATE",
        "" => "MIGRATE",
        word => word,
    };
    if spot && on_host_maintenance != "TERMINATE" {
        return Err(conflict("OnHostMaintenance isn't TERMINATE."));
    }
    if has_gpu && on_host_maintenance != "TERMINATE" {
        return Err(ApiError::bad(
            "Instances with guest accelerators do not support live migration.",
        ));
    }
    let action = match text(value, "instanceTerminationAction") {
        "INSTANCE_TERMINATION_ACTION_UNSPECIFIED" => "",
        action => action,
    };
    if !spot && !action.is_empty() {
        return Err(ApiError::bad(
            "You cannot specify a termination action for a VM instance that has the standard \
             provisioning model (default). To use instance termination action, the VM instance \
             must use the Spot provisioning model.",
        ));
    }
    Ok(Scheduling {
        spot,
        automatic_restart: automatic_restart.unwrap_or(!spot),
        on_host_maintenance: on_host_maintenance.into(),
        termination_action: if action.is_empty() { "STOP" } else { action }.into(),
        preemptible,
    })
}

/// The network, whether there is an external address, and its tier.
fn interface(body: &Value, zone: &str) -> Result<(String, bool, String)> {
    let interfaces: Vec<&Value> = list(&body["networkInterfaces"]).collect();
    let [interface] = interfaces.as_slice() else {
        return Err(match interfaces.as_slice() {
            [] => ApiError::bad("At least one network interface is required."),
            _ => ApiError::bad("One network interface is all that this sandbox gives."),
        });
    };
    let at = "resource.networkInterfaces[0]";
    let absent_here = [
        "networkIP",
        "aliasIpRanges",
        "ipv6AccessConfigs",
        "networkAttachment",
    ];
    absent(interface, &absent_here, at)?;
    let mut network = None;
    if let Some(url) = interface["network"].as_str() {
        network = Some(networks::network_name(&format!("{at}.network"), url)?.to_owned());
    }
    if let Some(url) = interface["subnetwork"].as_str() {
        let field = format!("{at}.subnetwork");
        let region = zone.rsplit_once('-').map_or("", |(region, _)| region);
        match link::words(url, PROJECT).as_deref() {
            // An automatic subnetwork has its network's name.
            Some(["regions", named, "subnetworks", name]) if *named == region => {
                if network.as_deref().is_some_and(|network| network != *name) {
                    let why = "The subnetwork is not in the network.";
                    return Err(ApiError::invalid(&field, url, why));
                }
                network = Some((*name).to_owned());
            }
            _ => return Err(ApiError::invalid(&field, url, "The URL is malformed.")),
        }
    }
    let configs: Vec<&Value> = list(&interface["accessConfigs"]).collect();
    if configs.len() > 1 {
        let field = format!("{at}.accessConfigs");
        return Err(ApiError::invalid(&field, "", "At most one access config."));
    }
    let mut tier = "PREMIUM";
    for config in &configs {
        absent(config, &["natIP", "setPublicPtr", "securityPolicy"], at)?;
        match text(config, "networkTier") {
            "" => {}
            known @ ("PREMIUM" | "STANDARD") => tier = known,
            other => {
                let field = format!("{at}.accessConfigs[0].networkTier");
                let why = "Only a network of its kind has that tier.";
                return Err(ApiError::invalid(&field, other, why));
            }
        }
        if !["", "ONE_TO_ONE_NAT"].contains(&text(config, "type")) {
            let field = format!("{at}.accessConfigs[0].type");
            let why = "Must be ONE_TO_ONE_NAT.";
            return Err(ApiError::invalid(&field, text(config, "type"), why));
        }
    }
    let network = network.unwrap_or_else(|| "default".into());
    Ok((network, !configs.is_empty(), tier.into()))
}

/// <https://docs.cloud.google.com/compute/docs/access/service-accounts>
fn service_account(value: &Value) -> Result<Option<(String, Vec<String>)>> {
    let accounts: Vec<&Value> = list(value).collect();
    let account = match accounts.as_slice() {
        [] => return Ok(None),
        [account] => account,
        _ => {
            let why = "At most one service account per instance.";
            let field = "resource.serviceAccounts";
            return Err(ApiError::invalid(field, &accounts.len().to_string(), why));
        }
    };
    let at = "resource.serviceAccounts[0]";
    let email = match text(account, "email") {
        "" => return Err(ApiError::missing(&format!("{at}.email"))),
        "default" => Identity::default_account(),
        email => email.to_owned(),
    };
    if !email.contains('@') {
        let why = "Must be a service account's address.";
        return Err(ApiError::invalid(&format!("{at}.email"), &email, why));
    }
    let mut scopes = Vec::new();
    for (index, scope) in list(&account["scopes"]).enumerate() {
        let scope = scope.as_str().unwrap_or_default();
        // gcloud's short names are gcloud's.
        if !scope.starts_with("https://") {
            let field = format!("{at}.scopes[{index}]");
            return Err(ApiError::invalid(&field, scope, "The scope is invalid."));
        }
        scopes.push(scope.to_owned());
    }
    if scopes.is_empty() {
        return Err(ApiError::missing(&format!("{at}.scopes")));
    }
    Ok(Some((email, scopes)))
}
