//! Virtual machines: what callers do with them.
//! <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines>

use std::time::Instant;

use serde_json::{Value, json};

use super::answer;
use super::error::{self, ApiError, Result};
use super::groups::tags;
use super::lifecycle::Order;
use super::path::{Kind, group_id, subscription_id};
use super::state::{Machine, Outcome, Phase, Tags, Wanted};
use super::{Call, catalogue, no_location, schema};
use crate::calls::lock;
use crate::server::Response;

const WRITE: &str = "Microsoft.Compute/virtualMachines/write";
/// What can't be changed of a machine.
const FIXED: &[(&str, &str)] = &[
    ("/location", "location"),
    ("/zones", "zones"),
    ("/plan", "plan"),
    ("/properties/osProfile/customData", "customData"),
    ("/properties/osProfile", "osProfile"),
    (
        "/properties/storageProfile/imageReference",
        "imageReference",
    ),
    ("/properties/storageProfile/osDisk", "osDisk"),
    ("/properties/networkProfile", "networkProfile"),
    ("/properties/priority", "priority"),
];
/// Codes that come in the answer; others end the operation.
const AT_ONCE: &[&str] = &[
    "AzureSpotIsNotSupportedForThisVMSize",
    "OperationNotAllowed",
    "QuotaExceeded",
    "SkuNotAvailable",
    "SpotPriceGreaterThanProvidedMaxPrice",
];

impl Call<'_> {
    pub(super) fn put_machine(&self, group: &str, name: &str) -> Result<Response> {
        let id = Kind::VirtualMachine.id(group, name);
        self.require(WRITE, &id)?;
        lock(&self.world.state).open_group(group)?;
        let body = schema::body("compute.VirtualMachine", self.body)?;
        check_name(name)?;
        let text = body["location"].as_str().unwrap_or_default();
        let location = catalogue::region(text)
            .ok_or_else(|| no_location("Microsoft.Compute/virtualMachines", text))?;
        let tags = tags(&body)?;
        let known = lock(&self.world.state).machine(group, name).ok().cloned();
        if let Some(known) = &known {
            check_changes(known, &body)?;
            if matches!(known.phase, Phase::Deleting) {
                return Err(ApiError::by_status(409));
            }
        }
        let wanted = self.wanted(&id, location, &body)?;
        let interfaces = self.interfaces(&id, location, &body)?;
        self.linked(&id, group, &wanted, &interfaces)?;
        if let Some(known) = known.filter(|known| known.phase != Phase::Failed) {
            return Ok(self.update(&known, &wanted, tags, body));
        }
        let (state_code, restricted) = {
            let state = lock(&self.world.state);
            let size = wanted.size.name;
            (
                state.shortage(location, size, wanted.spot),
                state.is_restricted(location, size),
            )
        };
        if restricted {
            return Err(ApiError::no_size(wanted.size.name, location));
        }
        let failure = state_code.map(|code| refusal(&code, &wanted, location));
        match failure {
            Some(error) if AT_ONCE.contains(&error.code.as_str()) => Err(error),
            failure => self.create(
                group, name, location, tags, body, wanted, interfaces, failure,
            ),
        }
    }

    /// The same machine again: its tags, its identities and its size may change; only tags do here.
    fn update(&self, known: &Machine, wanted: &Wanted, tags: Tags, body: Value) -> Response {
        let operation = self.world.begin(&known.group, None);
        let mut answer = Value::Null;
        let mut state = lock(&self.world.state);
        state.record("VirtualMachine", body);
        if let Some(machine) = state.machine_mut(&known.vm_id) {
            machine.tags = tags;
            machine.wanted.boot_diagnostics = wanted.boot_diagnostics;
            answer = answer::machine(machine, false);
        }
        drop(state);
        match known.phase {
            Phase::Creating => {
                // It ends with the machine's creation.
                let order = Order::Tell(operation.clone());
                let _ = known.orders.send(order);
            }
            _ => self.world.finish(&operation, Outcome::Succeeded),
        }
        let mut response = error::document(200, &answer);
        self.follow(
            &mut response,
            "Microsoft.Compute",
            known.location,
            &operation,
        );
        response
    }

    pub(super) fn get_machine(&self, group: &str, name: &str, rest: &[String]) -> Result<Response> {
        let action = match rest {
            [] => "Microsoft.Compute/virtualMachines/read",
            _ => "Microsoft.Compute/virtualMachines/instanceView/read",
        };
        self.require(action, &Kind::VirtualMachine.id(group, name))?;
        let state = lock(&self.world.state);
        let machine = state.machine(group, name)?;
        match rest {
            [] => {
                let view = match self.query.get("$expand").map(String::as_str) {
                    None => false,
                    Some(expand) if expand.eq_ignore_ascii_case("instanceView") => true,
                    Some(other) => {
                        return Err(ApiError::parameter(
                            "$expand",
                            format!("The value '{other}' of parameter '$expand' is invalid."),
                        ));
                    }
                };
                Ok(error::document(200, &answer::machine(machine, view)))
            }
            [word] if word.eq_ignore_ascii_case("instanceView") => {
                Ok(error::document(200, &answer::instance_view(machine)))
            }
            _ => Err(ApiError::by_status(404)),
        }
    }

    /// Machines of a group or of the subscription.
    pub(super) fn list_machines(&self, group: Option<&str>) -> Result<Response> {
        let scope = group.map_or_else(subscription_id, group_id);
        self.require("Microsoft.Compute/virtualMachines/read", &scope)?;
        let statuses = self
            .query
            .get("statusOnly")
            .is_some_and(|only| only.eq_ignore_ascii_case("true"));
        let state = lock(&self.world.state);
        if let Some(group) = group {
            state.group(group)?;
        }
        let all: Vec<Value> = state
            .machines
            .iter()
            .filter(|machine| {
                machine.phase != Phase::Deleted
                    && Instant::now() >= machine.visible_at
                    && group.is_none_or(|group| machine.group.eq_ignore_ascii_case(group))
            })
            .map(|machine| match statuses {
                true => answer::status(machine),
                false => {
                    let mut shown = answer::machine(machine, false);
                    shown["id"] = answer::listed_id(machine).into();
                    shown
                }
            })
            .collect();
        let size = state.page_size;
        drop(state);
        self.page(all, size)
    }

    pub(super) fn delete_machine(&self, group: &str, name: &str) -> Result<Response> {
        self.require(
            "Microsoft.Compute/virtualMachines/delete",
            &Kind::VirtualMachine.id(group, name),
        )?;
        let forced = self
            .query
            .get("forceDeletion")
            .is_some_and(|forced| forced.eq_ignore_ascii_case("true"));
        let known = {
            let state = lock(&self.world.state);
            state.group(group)?;
            state.machine(group, name).ok().cloned()
        };
        let Some(machine) = known else {
            return Ok(error::empty(204));
        };
        let operation = self.world.begin(group, None);
        let _ = machine.orders.send(Order::Tell(operation.clone()));
        self.world.order(&machine.vm_id, Order::Delete { forced });
        let mut response = error::empty(202);
        self.follow(
            &mut response,
            "Microsoft.Compute",
            machine.location,
            &operation,
        );
        Ok(response)
    }

    /// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/retrieve-boot-diagnostics-data>
    pub(super) fn post_machine(&self, group: &str, name: &str, action: &str) -> Result<Response> {
        if !action.eq_ignore_ascii_case("retrieveBootDiagnosticsData") {
            return Err(ApiError::bad(
                "BadRequest",
                format!("The sandbox does not model the action '{action}'."),
            ));
        }
        let id = Kind::VirtualMachine.id(group, name);
        self.require(
            "Microsoft.Compute/virtualMachines/retrieveBootDiagnosticsData/action",
            &id,
        )?;
        let state = lock(&self.world.state);
        let machine = state.machine(group, name)?;
        if !machine.wanted.boot_diagnostics {
            return Err(ApiError::new(
                409,
                "OperationNotAllowed",
                format!("Boot diagnostics is not enabled for the VM '{name}'."),
            ));
        }
        if machine.vm.is_none() {
            return Err(ApiError::new(
                409,
                "OperationNotAllowed",
                format!("The VM '{name}' has no boot diagnostics data yet."),
            ));
        }
        let at = |what: &str| {
            self.world
                .blobs
                .address(&machine.vm_id, &machine.name, what)
        };
        let body = json!({
            "consoleScreenshotBlobUri": at("screenshot.bmp"),
            "serialConsoleLogBlobUri": at("serialconsole.log"),
        });
        Ok(error::document(200, &body))
    }
}

/// Refuses what can't be changed of a machine.
/// <https://github.com/Azure/azure-sdk-for-java/issues/1976>
fn check_changes(known: &Machine, body: &Value) -> Result<()> {
    for (pointer, name) in FIXED {
        if known.body.pointer(pointer) != body.pointer(pointer) {
            return Err(ApiError::new(
                409,
                "PropertyChangeNotAllowed",
                format!("Changing property '{name}' is not allowed."),
            )
            .target(*name));
        }
    }
    Ok(())
}

/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/resource-name-rules#microsoftcompute>
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    match !name.is_empty()
        && name.len() <= 64
        && name.chars().all(fine)
        && !name.ends_with(['-', '.'])
    {
        true => Ok(()),
        false => Err(ApiError::parameter(
            "vmName",
            format!("The virtual machine name '{name}' is invalid."),
        )),
    }
}

/// What a rule's code says.
fn refusal(code: &str, wanted: &Wanted, location: &str) -> ApiError {
    let size = wanted.size;
    match code {
        "SkuNotAvailable" => ApiError::no_size(size.name, location),
        "OperationNotAllowed" | "QuotaExceeded" => {
            let quota = if wanted.spot {
                "LowPriorityCores"
            } else {
                size.family.name
            };
            ApiError::quota(code, quota, location, size.cpus)
        }
        "AzureSpotIsNotSupportedForThisVMSize" => ApiError::bad(
            code,
            format!(
                "Azure Spot Virtual Machine is not supported for this VM size {}.",
                size.name
            ),
        ),
        _ => ApiError::allocation(code, size.name),
    }
}
