//! Instances that exist: their state, their console, their end. An instance is its group.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Api, Call, Client, Failure};
use super::create::machine;
use super::operation;
use super::refusal::Meaning;
use super::tags::{self, TAG_MADE, TAG_RUNNER};
use crate::cloud::told;
use crate::cloud::{Instance, InstanceRef, InstanceState, TAG_LAUNCH, TAG_OWNER, TAG_SERVES};
use crate::error::{Error, Result};
use crate::http::Policy;

/// How long a group's machine may not be there yet: before, the network is made.
const MAKING: Duration = Duration::from_secs(120);

/// How long a deletion that was accepted is listened to: what is wrong with it shows early.
const EARLY: Duration = Duration::from_secs(5);

/// Machines that go aren't waited for politely.
/// <https://learn.microsoft.com/en-us/rest/api/resources/resource-groups/delete>
const FORCED: &str = "Microsoft.Compute/virtualMachines";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Group {
    name: String,
    location: String,
    tags: BTreeMap<String, String>,
    properties: Provisioning,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Provisioning {
    provisioning_state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    id: String,
    location: String,
    tags: BTreeMap<String, String>,
    properties: MachineProperties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MachineProperties {
    provisioning_state: String,
    time_created: Option<String>,
    priority: Option<String>,
    hardware_profile: HardwareProfile,
    storage_profile: StorageProfile,
    instance_view: Option<View>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HardwareProfile {
    vm_size: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StorageProfile {
    image_reference: Image,
    os_disk: OsDisk,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    id: Option<String>,
    shared_gallery_image_id: Option<String>,
    community_gallery_image_id: Option<String>,
    publisher: Option<String>,
    offer: Option<String>,
    sku: Option<String>,
    exact_version: Option<String>,
    version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OsDisk {
    #[serde(rename = "diskSizeGB")]
    size_gb: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    statuses: Vec<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    code: String,
    level: String,
    display_status: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    id: String,
    properties: AddressProperties,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AddressProperties {
    ip_address: Option<String>,
}

impl Image {
    fn text(self) -> String {
        let ids = [
            self.id,
            self.shared_gallery_image_id,
            self.community_gallery_image_id,
        ];
        if let Some(id) = ids.into_iter().flatten().next() {
            return id;
        }
        let version = self.exact_version.or(self.version);
        let parts = [self.publisher, self.offer, self.sku, version];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(":")
    }
}

impl View {
    /// What follows `PowerState/`.
    /// <https://learn.microsoft.com/en-us/azure/virtual-machines/states-billing>
    fn power(&self) -> Option<String> {
        let mut codes = self.statuses.iter().map(|status| &status.code);
        codes.find_map(|code| {
            let (kind, state) = code.split_once('/')?;
            kind.eq_ignore_ascii_case("PowerState")
                .then(|| state.to_ascii_lowercase())
        })
    }

    /// What Azure says is wrong.
    fn problem(&self) -> Option<String> {
        let mut wrong = self
            .statuses
            .iter()
            .filter(|status| status.level.eq_ignore_ascii_case("Error"));
        let status = wrong.next()?;
        Some(match status.message.is_empty() {
            true => status.display_status.clone(),
            false => status.message.clone(),
        })
    }
}

impl Machine {
    fn state(&self) -> InstanceState {
        let provisioning = self.properties.provisioning_state.to_ascii_lowercase();
        let view = self.properties.instance_view.as_ref();
        let power = view.and_then(View::power).unwrap_or_default();
        match (provisioning.as_str(), power.as_str()) {
            ("deleting", _) => InstanceState::Ending,
            (_, "running") => InstanceState::Running,
            // Off, it costs as much as on; deallocated, its disk does. Neither comes back by itself.
            (_, "stopping" | "stopped" | "deallocating" | "deallocated") => InstanceState::Stopped,
            ("failed" | "canceled", _) => InstanceState::Stopped,
            _ => InstanceState::Pending,
        }
    }

    /// The group's name, which is in the id.
    fn group(&self) -> Option<&str> {
        group_of(&self.id)
    }

    fn instance(self, name: &str, ip: Option<String>) -> Instance {
        let state = self.state();
        let ended = !matches!(state, InstanceState::Pending | InstanceState::Running);
        let tagged = |name: &str| tags::get(&self.tags, name).map(str::to_owned);
        let (runner, serves, made) = (tagged(TAG_RUNNER), tagged(TAG_SERVES), tagged(TAG_MADE));
        let is_ours = tags::are_ours(&self.tags);
        let properties = self.properties;
        let made = properties.time_created.or(made);
        Instance {
            reference: InstanceRef {
                id: name.to_owned(),
                region: self.location,
            },
            name: runner,
            is_ours,
            serves,
            state,
            zone: None,
            instance_type: properties.hardware_profile.vm_size,
            ip,
            spot: properties
                .priority
                .is_some_and(|priority| priority.eq_ignore_ascii_case("Spot")),
            launch_time: made.and_then(|time| time.parse().ok()),
            image: properties.storage_profile.image_reference.text(),
            disk_gb: properties.storage_profile.os_disk.size_gb,
            security_group: None,
            subnet: None,
            reason: properties
                .instance_view
                .and_then(|view| view.problem())
                .filter(|_| ended),
        }
    }
}

impl Group {
    fn is_deleting(&self) -> bool {
        let state = &self.properties.provisioning_state;
        state.eq_ignore_ascii_case("Deleting") || state.eq_ignore_ascii_case("Deprovisioning")
    }

    /// A group as long as it has no machine, or when that is gone: taken back by Azure, perhaps.
    fn instance(self, now: Timestamp) -> Instance {
        let tagged = |name: &str| tags::get(&self.tags, name).map(str::to_owned);
        let made: Option<Timestamp> = tagged(TAG_MADE).and_then(|time| time.parse().ok());
        let young = made.is_some_and(|made| now.duration_since(made).as_secs() < making());
        let state = match (self.is_deleting(), young) {
            (true, _) => InstanceState::Ending,
            (false, true) => InstanceState::Pending,
            // What is left goes on costing: the address, at least.
            (false, false) => InstanceState::Stopped,
        };
        let missing = state == InstanceState::Stopped;
        Instance {
            name: tagged(TAG_RUNNER),
            is_ours: tags::are_ours(&self.tags),
            serves: tagged(TAG_SERVES),
            state,
            zone: None,
            instance_type: String::new(),
            ip: None,
            spot: false,
            launch_time: made,
            image: String::new(),
            disk_gb: None,
            security_group: None,
            subnet: None,
            reason: missing.then(|| "its machine is gone".to_owned()),
            reference: InstanceRef {
                id: self.name,
                region: self.location,
            },
        }
    }
}

fn making() -> i64 {
    i64::try_from(MAKING.as_secs()).unwrap_or(i64::MAX)
}

/// The group that a resource is in, as its id tells.
fn group_of(id: &str) -> Option<&str> {
    let mut parts = id.split('/');
    parts.find(|part| part.eq_ignore_ascii_case("resourceGroups"))?;
    parts.next().filter(|name| !name.is_empty())
}

/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/get>
async fn get(client: &Client, name: &str) -> Result<Option<Machine>, Failure> {
    let call =
        Call::get(Api::Compute, "virtualMachines", machine(name)).query("$expand", "instanceView");
    match client.call(&call).await {
        Ok(machine) => Ok(Some(machine)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether a group's machine is known to be off, or isn't there.
pub(super) async fn is_off(client: &Client, name: &str) -> Result<bool, Failure> {
    let Some(machine) = get(client, name).await? else {
        return Ok(true);
    };
    let power = machine
        .properties
        .instance_view
        .and_then(|view| view.power());
    Ok(matches!(
        power.as_deref(),
        Some("stopped" | "deallocating" | "deallocated")
    ))
}

/// Whether a group's machine has been started.
pub(super) async fn is_running(client: &Client, name: &str) -> Result<bool, Failure> {
    let machine = get(client, name).await?;
    Ok(machine.is_some_and(|machine| machine.state() == InstanceState::Running))
}

/// Addresses in a group, or in all; nothing depends on them, and so nothing waits for them: one try.
/// <https://learn.microsoft.com/en-us/rest/api/virtualnetwork/public-ip-addresses/list>
async fn addresses(client: &Client, below: &str) -> Vec<Address> {
    let call = Call::get(
        Api::Network,
        "publicIPAddresses",
        format!("{below}providers/Microsoft.Network/publicIPAddresses"),
    )
    .within(Policy {
        tries: 1,
        ..Policy::IDEMPOTENT
    });
    match client.list(&call).await {
        Ok(addresses) => addresses,
        Err(failure) => {
            tracing::debug!("{}", failure.during("listing public addresses").chain());
            Vec::new()
        }
    }
}

pub(super) async fn inspect(client: &Client, instance: &InstanceRef) -> Result<Option<Instance>> {
    let name = instance.id.as_str();
    let below = format!("resourceGroups/{name}/");
    let doing = || format!("looking at the instance {name} in {}", instance.region);
    let (machine, addresses) = tokio::join!(get(client, name), addresses(client, &below));
    if let Some(machine) = machine.map_err(|failure| failure.during(doing()))? {
        let ip = addresses
            .into_iter()
            .find_map(|known| known.properties.ip_address);
        return Ok(Some(machine.instance(name, ip)));
    }
    let call = Call::get(
        Api::Resources,
        "resourceGroups",
        format!("resourceGroups/{name}"),
    );
    match client.call::<Group>(&call).await {
        Ok(group) => {
            let instance = group.instance(client.now());
            // Its machine isn't there yet, or no more: who has seen it knows which.
            Ok(Some(instance).filter(|known| known.state != InstanceState::Pending))
        }
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure.during(doing())),
    }
}

/// Every group of ours, as if none had a machine.
pub(super) async fn groups(client: &Client) -> Result<Vec<Instance>, Failure> {
    let call = Call::get(Api::Resources, "resourceGroups", "resourceGroups")
        .query("$filter", format!("tagName eq '{TAG_OWNER}'"));
    let found: Vec<Group> = client.list(&call).await?;
    let ours = found
        .into_iter()
        .filter(|group| tags::are_ours(&group.tags));
    Ok(ours.map(|group| group.instance(client.now())).collect())
}

/// Groups of ours in a region, or those of one launch there. The latter are looked for to be deleted:
/// what is in them doesn't matter.
pub(super) async fn list(
    client: &Client,
    region: &str,
    launch_id: Option<&str>,
) -> Result<Vec<Instance>> {
    let filter = match launch_id {
        Some(id) => format!("tagName eq '{TAG_LAUNCH}' and tagValue eq '{id}'"),
        None => format!("tagName eq '{TAG_OWNER}'"),
    };
    let groups =
        Call::get(Api::Resources, "resourceGroups", "resourceGroups").query("$filter", filter);
    let groups = async {
        let found: Vec<Group> = client.list(&groups).await?;
        let ours = found.into_iter().filter(|group| {
            group.location.eq_ignore_ascii_case(region)
                && (launch_id.is_some() || tags::are_ours(&group.tags))
        });
        Ok::<Vec<Group>, Failure>(ours.collect())
    };
    let machines = async {
        match launch_id {
            Some(_) => Ok(BTreeMap::new()),
            None => machines(client).await,
        }
    };
    let found = Box::pin(async { tokio::try_join!(groups, machines) }).await;
    let (groups, mut machines) =
        found.map_err(|failure| failure.during(format!("listing instances in {region}")))?;
    let now = client.now();
    let instances = groups.into_iter().map(|group| {
        let machine = machines.remove(&group.name.to_ascii_lowercase());
        let Some((machine, ip)) = machine.filter(|_| !group.is_deleting()) else {
            return group.instance(now);
        };
        // The group's own tags are what it was found by.
        Instance {
            is_ours: true,
            reference: InstanceRef {
                id: group.name.clone(),
                region: group.location.clone(),
            },
            ..machine.instance(&group.name, ip)
        }
    });
    Ok(instances.collect())
}

/// Every machine of the subscription by its group's name, with its state and its address.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/list-all>
async fn machines(client: &Client) -> Result<BTreeMap<String, (Machine, Option<String>)>, Failure> {
    let all = Call::get(
        Api::Compute,
        "virtualMachines",
        "providers/Microsoft.Compute/virtualMachines",
    );
    // One list has no states, and what the other has beside them isn't promised.
    let states = all.clone().query("statusOnly", "true");
    let (all, states, addresses) = tokio::join!(
        client.list::<Machine>(&all),
        client.list::<Machine>(&states),
        addresses(client, ""),
    );
    let mut found = BTreeMap::new();
    let by_group = |machine: Machine| Some((machine.group()?.to_ascii_lowercase(), machine));
    let mut states: BTreeMap<String, Machine> = states?.into_iter().filter_map(by_group).collect();
    let mut addresses: BTreeMap<String, String> = addresses
        .into_iter()
        .filter_map(|known| {
            let group = group_of(&known.id)?.to_ascii_lowercase();
            Some((group, known.properties.ip_address?))
        })
        .collect();
    for (group, mut machine) in all?.into_iter().filter_map(by_group) {
        let state = states.remove(&group);
        machine.properties.instance_view = state.and_then(|state| state.properties.instance_view);
        let ip = addresses.remove(&group);
        found.insert(group, (machine, ip));
    }
    Ok(found)
}

/// What the machine wrote on its serial port, without what terminals eat.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/retrieve-boot-diagnostics-data>
pub(super) async fn console(client: &Client, instance: &InstanceRef) -> Result<Option<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        serial_console_log_blob_uri: Option<String>,
    }
    let InstanceRef { id, region } = instance;
    let read = async {
        let call = Call::post(
            Api::Compute,
            "retrieveBootDiagnosticsData",
            format!("{}/retrieveBootDiagnosticsData", machine(id)),
        )
        .query("sasUriExpirationTimeInMinutes", "5")
        .repeatable();
        let answer: Answer = client.call(&call).await?;
        let Some(address) = answer.serial_console_log_blob_uri else {
            return Ok(None);
        };
        let reply = client.elsewhere("blob:GET serialconsole", &address).await?;
        Ok(match reply.status.is_success() {
            true => told::console(&reply.text()),
            false => None,
        })
    };
    match read.await {
        Ok(text) => Ok(text),
        Err(Failure::Refused(refusal)) => {
            tracing::debug!("reading the console of {id}: {refusal}");
            Ok(None)
        }
        Err(failure @ Failure::Broken(_)) => {
            Err(failure.during(format!("reading the console of {id} in {region}")))
        }
    }
}

/// Deletes the group with all that is in it. Idempotent: gone, or on its way, is success.
pub(super) async fn destroy(client: &Client, instance: &InstanceRef) -> Result<()> {
    let InstanceRef { id, region } = instance;
    let call = Call::delete(
        Api::Resources,
        "resourceGroups",
        format!("resourceGroups/{id}"),
    )
    .query("forceDeletionTypes", FORCED);
    let mut tries = super::settling();
    let failure = loop {
        let outcome = async {
            let operation = client.start(&call).await?;
            match operation::wait_briefly(client, operation, EARLY).await {
                // Accepted it is, whoever may look how it goes. An operation that has failed is told
                // of without a status.
                Err(Failure::Refused(refusal))
                    if refusal.status != 0 && refusal.meaning() == Meaning::Denied =>
                {
                    tracing::debug!("looking how the deletion of {id} goes: {refusal}");
                    Ok(())
                }
                ended => ended.map(drop),
            }
        };
        match outcome.await {
            Ok(()) => return Ok(()),
            Err(Failure::Refused(refusal))
                if matches!(refusal.meaning(), Meaning::Missing | Meaning::Deleting) =>
            {
                return Ok(());
            }
            Err(Failure::Refused(refusal))
                if refusal.meaning() == Meaning::Busy && tries.wait().await => {}
            Err(failure) => break failure,
        }
    };
    let error: Error = failure.during(format!("deleting the resource group {id} in {region}"));
    Err(error.hint(format!(
        "make sure that the resource group {id} in {region} goes: it costs money"
    )))
}

#[cfg(test)]
#[path = "instances_tests.rs"]
mod tests;
