//! Instances that exist: their state, their console, their end.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Call, Client, Failure};
use super::names::{self, MARK};
use super::operation::{self, Operation, last};
use super::places::{Place, region_of};
use super::refusal::Meaning;
use crate::cloud::names::suffix;
use crate::cloud::told;
use crate::cloud::{Instance, InstanceRef, InstanceState};
use crate::error::{Error, Result};

/// What is read of an instance: all but its metadata, for they hold the user data.
const FIELDS: &str = "name,description,status,statusMessage,zone,machineType,creationTimestamp,\
                      lastStopTimestamp,scheduling(provisioningModel,preemptible),\
                      disks(boot,diskSizeGb),networkInterfaces(networkIP,accessConfigs(natIP))";

/// How long a deletion that was accepted is listened to: what is wrong with it shows early.
const EARLY: Duration = Duration::from_secs(5);

/// How much of a console is read, from its end.
const CONSOLE_BYTES: &str = "-262144";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    status: String,
    status_message: Option<String>,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    machine_type: String,
    creation_timestamp: Option<String>,
    last_stop_timestamp: Option<String>,
    #[serde(default)]
    scheduling: Scheduling,
    #[serde(default)]
    disks: Vec<Disk>,
    #[serde(default)]
    network_interfaces: Vec<Interface>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scheduling {
    provisioning_model: Option<String>,
    #[serde(default)]
    preemptible: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Disk {
    #[serde(default)]
    boot: bool,
    #[serde(default, deserialize_with = "super::number")]
    disk_size_gb: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    #[serde(rename = "networkIP")]
    network_ip: Option<String>,
    #[serde(default)]
    access_configs: Vec<AccessConfig>,
}

#[derive(Debug, Deserialize)]
struct AccessConfig {
    #[serde(rename = "natIP")]
    nat_ip: Option<String>,
}

/// <https://docs.cloud.google.com/compute/docs/instances/instance-lifecycle>
fn state(status: &str) -> InstanceState {
    match status {
        "PENDING" | "PROVISIONING" | "STAGING" => InstanceState::Pending,
        "RUNNING" | "REPAIRING" => InstanceState::Running,
        // Being deleted, or about to be stopped: which of them shows when it is over.
        "STOPPING" | "DEPROVISIONING" => InstanceState::Ending,
        _ => InstanceState::Stopped,
    }
}

impl Item {
    /// The launch that it belongs to; `None`: it isn't ours.
    pub(super) fn launch_id(&self) -> Option<&str> {
        let described = names::described(&self.name, &self.description)?;
        Some(described.launch_id)
    }

    /// Since when it has been stopped.
    fn stopped_since(&self) -> Option<Timestamp> {
        let stopped = matches!(self.status.as_str(), "TERMINATED" | "STOPPED");
        let since = self.last_stop_timestamp.as_ref().filter(|_| stopped)?;
        since.parse().ok()
    }

    pub(super) fn instance(self) -> Instance {
        let state = state(&self.status);
        let described = names::described(&self.name, &self.description);
        let zone = last(&self.zone).to_owned();
        let interface = self.network_interfaces.first();
        let public = interface.and_then(|interface| {
            interface
                .access_configs
                .iter()
                .find_map(|access| access.nat_ip.clone())
        });
        let private = interface.and_then(|interface| interface.network_ip.clone());
        let disk = self.disks.iter().find(|disk| disk.boot);
        let ended = !matches!(state, InstanceState::Pending | InstanceState::Running);
        Instance {
            name: described.as_ref().map(|known| known.name.to_owned()),
            is_ours: described.is_some(),
            serves: described.map(|known| known.serves.to_owned()),
            state,
            instance_type: last(&self.machine_type).to_owned(),
            ip: public.or(private),
            spot: self.scheduling.provisioning_model.as_deref() == Some("SPOT")
                || self.scheduling.preemptible,
            launch_time: self.creation_timestamp.and_then(|time| time.parse().ok()),
            // Only the disk knows, and disks aren't ours to look at.
            image: String::new(),
            disk_gb: disk
                .and_then(|disk| disk.disk_size_gb)
                .and_then(|size| u32::try_from(size).ok()),
            security_group: None,
            subnet: None,
            reason: self
                .status_message
                .filter(|message| ended && !message.is_empty()),
            zone: Some(zone.clone()),
            reference: InstanceRef {
                id: self.name,
                region: zone,
            },
        }
    }
}

/// The path of an instance below the project.
fn path(zone: &str, name: &str) -> String {
    format!("zones/{zone}/instances/{name}")
}

/// The zone of an instance; `None`: there is no such instance in that region.
async fn zone(client: &Client, instance: &InstanceRef) -> Result<Option<String>, Failure> {
    let InstanceRef { id, region } = instance;
    match Place::read(region) {
        Ok(Place { only: true, .. }) => Ok(Some(region.clone())),
        _ => {
            let listed = page_through(client, &format!("name = \"{id}\"")).await?;
            let zones = listed.found.iter().map(|item| last(&item.zone));
            let mut here = zones.filter(|zone| is_in(zone, region));
            Ok(here.next().map(str::to_owned))
        }
    }
}

/// Whether a zone is the one asked for, or in the region that is.
fn is_in(zone: &str, place: &str) -> bool {
    zone == place || region_of(zone) == place
}

/// One instance, where its zone is known.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/get>
pub(super) async fn get(client: &Client, zone: &str, name: &str) -> Result<Option<Item>, Failure> {
    let call = Call::get("instances.get", path(zone, name)).query("fields", FIELDS);
    match client.call(&call).await {
        Ok(item) => Ok(Some(item)),
        Err(failure) if failure.meaning() == Some(Meaning::Missing) => Ok(None),
        Err(failure) => Err(failure),
    }
}

pub(super) async fn inspect(client: &Client, instance: &InstanceRef) -> Result<Option<Instance>> {
    let found = async {
        match zone(client, instance).await? {
            Some(zone) => get(client, &zone, &instance.id).await,
            None => Ok(None),
        }
    };
    match found.await {
        Ok(item) => Ok(item.map(Item::instance)),
        Err(failure) => Err(failure.during(format!(
            "looking at the instance {} in {}",
            instance.id, instance.region
        ))),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: BTreeMap<String, Scope>,
    next_page_token: Option<String>,
    #[serde(default)]
    unreachables: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Scope {
    #[serde(default)]
    instances: Vec<Item>,
}

/// Instances, and the zones that couldn't be seen.
#[derive(Debug, Default)]
struct Listed {
    found: Vec<Item>,
    unseen: Vec<String>,
}

/// All instances that a filter lets through, in all zones: one call where a page is enough. One
/// zone's outage hides no other's instances.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/aggregatedList>
async fn page_through(client: &Client, filter: &str) -> Result<Listed, Failure> {
    let fields = format!("items/*/instances({FIELDS}),nextPageToken,unreachables");
    let all = Call::get("instances.aggregatedList", "aggregated/instances")
        .query("filter", filter)
        .query("maxResults", "500")
        .query("returnPartialSuccess", "true")
        .query("fields", fields);
    let mut listed = Listed::default();
    let mut call = all.clone();
    loop {
        let page: Page = client.call(&call).await?;
        let found = page.items.into_values().flat_map(|scope| scope.instances);
        listed.found.extend(found);
        let unseen = page.unreachables.iter();
        listed
            .unseen
            .extend(unseen.map(|zone| last(zone).to_owned()));
        match page.next_page_token.filter(|token| !token.is_empty()) {
            Some(token) => call = all.clone().query("pageToken", token),
            None => return Ok(listed),
        }
    }
}

/// Every instance of ours, or of one launch. The filters are regular expressions that must fit
/// the whole field; what they let through is checked.
async fn ours(client: &Client, launch_id: Option<&str>) -> Result<Listed, Failure> {
    let filter = match launch_id {
        Some(id) => format!("name eq \".*-{}\"", suffix(id)),
        None => format!("description eq \"{MARK}.*\""),
    };
    let mut listed = page_through(client, &filter).await?;
    listed
        .found
        .retain(|item| match (item.launch_id(), launch_id) {
            (Some(known), Some(wanted)) => known == wanted,
            (known, None) => known.is_some(),
            (None, Some(_)) => false,
        });
    Ok(listed)
}

/// Those of ours in a region or a zone. What can't be seen there is an error: it may cost money.
pub(super) async fn list(
    client: &Client,
    place: &str,
    launch_id: Option<&str>,
) -> Result<Vec<Instance>> {
    let doing = || format!("listing instances in {place}");
    let listed = ours(client, launch_id)
        .await
        .map_err(|failure| failure.during(doing()))?;
    let unseen: Vec<&str> = listed
        .unseen
        .iter()
        .map(String::as_str)
        .filter(|zone| is_in(zone, place))
        .collect();
    if !unseen.is_empty() {
        let why = format!("Compute Engine can't see into {} now", unseen.join(", "));
        return Err(Error::other(doing()).caused_by(why));
    }
    let instances = listed.found.into_iter().map(Item::instance);
    Ok(instances
        .filter(|instance| is_in(&instance.reference.region, place))
        .collect())
}

/// Those of ours that had stopped before a time, anywhere.
pub(super) async fn left_over(
    client: &Client,
    before: Timestamp,
) -> Result<Vec<InstanceRef>, Failure> {
    let listed = ours(client, None).await?;
    Ok(listed
        .found
        .into_iter()
        .filter(|item| item.stopped_since().is_some_and(|since| since < before))
        .map(|item| item.instance().reference)
        .collect())
}

/// What the instance wrote on its first serial port, without what terminals eat.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/getSerialPortOutput>
pub(super) async fn console(client: &Client, instance: &InstanceRef) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        contents: String,
    }
    let InstanceRef { id, region } = instance;
    let read = async {
        let Some(zone) = zone(client, instance).await? else {
            return Ok(None);
        };
        let call = Call::get(
            "instances.getSerialPortOutput",
            format!("{}/serialPort", path(&zone, id)),
        )
        .query("start", CONSOLE_BYTES);
        let answer: Answer = client.call(&call).await?;
        Ok(told::console(&answer.contents))
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

/// Idempotent: gone is success. `nonce` makes this deletion's request its own, for a request that
/// failed is answered with that failure for ever.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/delete>
pub(super) async fn destroy(client: &Client, instance: &InstanceRef, nonce: &str) -> Result<()> {
    let InstanceRef { id, region } = instance;
    let mut tries = super::settling();
    let mut number = 0u32;
    loop {
        let failure = match delete(client, instance, nonce, number).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        // Something else is going on with it: its creation, or a deletion that came before.
        if failure.meaning() == Some(Meaning::NotReady) && tries.wait().await {
            number += 1;
            continue;
        }
        // For that long, only its deletion keeps it busy.
        if failure.meaning() == Some(Meaning::NotReady)
            && let Ok(Some(found)) = inspect(client, instance).await
            && found.state == InstanceState::Ending
        {
            tracing::info!("{id} in {region} is being deleted already");
            return Ok(());
        }
        let error = failure.during(format!("deleting the instance {id} in {region}"));
        return Err(error.hint(format!(
            "make sure that {id} in {region} ends: it costs money"
        )));
    }
}

async fn delete(
    client: &Client,
    instance: &InstanceRef,
    nonce: &str,
    number: u32,
) -> Result<(), Failure> {
    let gone = |failure: &Failure| failure.meaning() == Some(Meaning::Missing);
    let Some(zone) = zone(client, instance).await? else {
        return Ok(());
    };
    let call = Call::delete("instances.delete", path(&zone, &instance.id)).request_id(&[
        nonce,
        "delete",
        &instance.id,
        &number.to_string(),
    ]);
    let operation: Operation = match client.call(&call).await {
        Ok(operation) => operation,
        Err(failure) if gone(&failure) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    match operation::wait_briefly(client, operation, EARLY).await {
        Ok(_) => Ok(()),
        Err(failure) if gone(&failure) => Ok(()),
        // It was accepted; that it can't be followed doesn't undo that.
        Err(Failure::Broken(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
#[path = "instances_tests.rs"]
mod tests;
