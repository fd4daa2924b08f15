//! How machines are answered.

use serde_json::{Value, json};

use super::images::Reference;
use super::path::Kind;
use super::state::{Machine, Phase};
use crate::clock;
use crate::entra::TENANT;

fn provisioning(machine: &Machine) -> &'static str {
    match machine.phase {
        Phase::Creating => "Creating",
        Phase::Failed => "Failed",
        Phase::Deleting | Phase::Deleted => "Deleting",
        Phase::Running | Phase::Stopped | Phase::Deallocated => "Succeeded",
    }
}

/// A machine as GET answers it: without its custom data, its password and the interfaces that it was
/// asked for by.
pub(super) fn machine(machine: &Machine, view: bool) -> Value {
    let asked = &machine.body["properties"];
    let mut properties = json!({
        "vmId": machine.vm_id,
        "provisioningState": provisioning(machine),
        "timeCreated": clock::millis(machine.created),
    });
    for name in [
        "hardwareProfile",
        "priority",
        "evictionPolicy",
        "billingProfile",
        "securityProfile",
        "diagnosticsProfile",
        "scheduledEventsProfile",
        "extensionsTimeBudget",
    ] {
        if !asked[name].is_null() {
            properties[name] = asked[name].clone();
        }
    }
    let mut os = asked["osProfile"].clone();
    if let Some(os) = os.as_object_mut() {
        os.remove("customData");
        os.remove("adminPassword");
        os.insert("secrets".into(), json!([]));
        os.insert("allowExtensionOperations".into(), true.into());
    }
    properties["osProfile"] = os;
    properties["storageProfile"] = storage(machine);
    let interfaces: Vec<Value> = machine
        .parts
        .iter()
        .filter(|(kind, ..)| *kind == Kind::NetworkInterface)
        .map(|(kind, name, deleted)| {
            json!({
                "id": kind.id(&machine.group, name),
                "properties": {
                    "primary": true,
                    "deleteOption": if *deleted { "Delete" } else { "Detach" },
                },
            })
        })
        .collect();
    properties["networkProfile"] = json!({"networkInterfaces": interfaces});
    if view {
        properties["instanceView"] = instance_view(machine);
    }
    let mut shown = json!({
        "id": machine.id(),
        "name": machine.name,
        "type": "Microsoft.Compute/virtualMachines",
        "location": machine.location,
        "tags": machine.tags,
        "properties": properties,
    });
    if !machine.body["plan"].is_null() {
        shown["plan"] = machine.body["plan"].clone();
    }
    if machine.identity.is_some() || !machine.user_identities.is_empty() {
        shown["identity"] = identity(machine);
    }
    shown
}

fn identity(machine: &Machine) -> Value {
    let mut identity = json!({"type": machine.body["identity"]["type"]});
    if let Some(own) = &machine.identity {
        identity["principalId"] = own.object.as_str().into();
        identity["tenantId"] = TENANT.into();
    }
    if !machine.user_identities.is_empty() {
        let others = machine.user_identities.iter().map(|other| {
            let value = json!({"principalId": other.object, "clientId": other.client});
            (other.resource.clone(), value)
        });
        identity["userAssignedIdentities"] = Value::Object(others.collect());
    }
    identity
}

fn storage(machine: &Machine) -> Value {
    let wanted = &machine.wanted;
    let asked = &machine.body["properties"]["storageProfile"];
    let disk = machine
        .parts
        .iter()
        .find(|(kind, ..)| *kind == Kind::Disk)
        .map(|(_, name, _)| name.as_str())
        .unwrap_or_default();
    let mut reference = asked["imageReference"].clone();
    if let Reference::Marketplace([.., version]) = &wanted.reference {
        reference["exactVersion"] = version.as_str().into();
    }
    let mut os_disk = asked["osDisk"].clone();
    os_disk["name"] = disk.into();
    os_disk["osType"] = "Linux".into();
    os_disk["diskSizeGB"] = wanted.disk_gb.into();
    os_disk["managedDisk"] = json!({
        "id": Kind::Disk.id(&machine.group, disk),
        "storageAccountType": wanted.disk_kind,
    });
    json!({"imageReference": reference, "osDisk": os_disk, "dataDisks": []})
}

/// <https://learn.microsoft.com/en-us/azure/virtual-machines/states-billing>
fn statuses(machine: &Machine) -> Value {
    let status =
        |code: &str, shown: &str| json!({"code": code, "level": "Info", "displayStatus": shown});
    let mut provisioning = match machine.phase {
        Phase::Creating => status("ProvisioningState/creating", "Creating"),
        Phase::Deleting | Phase::Deleted => status("ProvisioningState/deleting", "Deleting"),
        Phase::Failed => status("ProvisioningState/failed", "Provisioning failed"),
        _ => status("ProvisioningState/succeeded", "Provisioning succeeded"),
    };
    if let Some(failure) = &machine.failure {
        provisioning["code"] = format!("ProvisioningState/failed/{}", failure.code).into();
        provisioning["level"] = "Error".into();
        provisioning["message"] = failure.message.as_str().into();
    }
    provisioning["time"] = clock::millis(machine.created).into();
    let power = match machine.phase {
        Phase::Creating if machine.vm.is_some() => Some(("starting", "VM starting")),
        Phase::Running => Some(("running", "VM running")),
        Phase::Stopped => Some(("stopped", "VM stopped")),
        Phase::Deallocated => Some(("deallocated", "VM deallocated")),
        Phase::Deleting => Some(("stopping", "VM stopping")),
        _ => None,
    };
    let mut all = vec![provisioning];
    if let Some((code, shown)) = power {
        all.push(status(&format!("PowerState/{code}"), shown));
    }
    all.into()
}

pub(super) fn instance_view(machine: &Machine) -> Value {
    let generation = match machine.wanted.image.second_generation {
        true => "V2",
        false => "V1",
    };
    json!({
        "computerName": machine.wanted.computer_name,
        "osName": "ubuntu",
        "hyperVGeneration": generation,
        "statuses": statuses(machine),
    })
}

/// The id in lists has the group's name in capitals.
/// <https://github.com/Azure/azure-sdk-for-net/issues/12241>
pub(super) fn listed_id(machine: &Machine) -> String {
    Kind::VirtualMachine.id(&machine.group.to_uppercase(), &machine.name)
}

/// What `statusOnly` leaves of a machine.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/list-all>
pub(super) fn status(machine: &Machine) -> Value {
    json!({
        "id": listed_id(machine),
        "name": machine.name,
        "type": "Microsoft.Compute/virtualMachines",
        "location": machine.location,
        "properties": {
            "vmId": machine.vm_id,
            "provisioningState": provisioning(machine),
            "instanceView": {"statuses": statuses(machine)},
        },
    })
}
