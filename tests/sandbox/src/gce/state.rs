//! What exists: instances, disks, networks, firewall rules, operations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::lifecycle::Order;
use super::operation::Operation;
use crate::google::{Facts, Vm};

/// Labels by key.
pub(super) type Labels = BTreeMap<String, String>;

/// What an instance is doing.
/// <https://docs.cloud.google.com/compute/docs/instances/instance-lifecycle>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Provisioning,
    Staging,
    Running,
    Stopping,
    Terminated,
    /// No more there. Google has no word for that.
    Deleted,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Phase::Provisioning => "PROVISIONING",
            Phase::Staging => "STAGING",
            Phase::Running => "RUNNING",
            Phase::Stopping => "STOPPING",
            Phase::Terminated => "TERMINATED",
            Phase::Deleted => "DELETED",
        }
    }
}

/// An instance's boot disk.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) size_gb: u32,
    pub(super) kind: String,
    pub(super) labels: Labels,
    pub(super) auto_delete: bool,
    pub(super) exists: bool,
}

/// How an instance is to be treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scheduling {
    pub(super) spot: bool,
    pub(super) automatic_restart: bool,
    /// `MIGRATE` or `TERMINATE`.
    pub(super) on_host_maintenance: String,
    /// `STOP` or `DELETE`, at its preemption.
    pub(super) termination_action: String,
    /// Whether the older word, `preemptible`, was used.
    pub(super) preemptible: bool,
}

/// An instance, dead or alive.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    /// Its number, by which it is known here: names can come again.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) zone: String,
    /// What its folder, its processes and its events are known by.
    pub(super) machine_id: String,
    pub(super) phase: Phase,
    /// What was asked for, as it came.
    pub(super) body: Value,
    pub(super) request_id: Option<String>,
    pub(super) machine_type: String,
    pub(super) architecture: &'static str,
    pub(super) accelerators: Vec<(String, u32)>,
    /// `projects/…/global/images/…`
    pub(super) image: String,
    pub(super) distribution: crate::instance::Distribution,
    pub(super) labels: Labels,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tags: Vec<String>,
    pub(super) scheduling: Scheduling,
    pub(super) service_account: Option<(String, Vec<String>)>,
    pub(super) disk: Disk,
    pub(super) network: String,
    pub(super) subnetwork: String,
    pub(super) internal_ip: String,
    pub(super) external_ip: Option<String>,
    /// `PREMIUM` or `STANDARD`.
    pub(super) network_tier: String,
    pub(super) created: Timestamp,
    pub(super) started: Option<Timestamp>,
    pub(super) stopped: Option<Timestamp>,
    pub(super) facts: watch::Sender<Facts>,
    pub(super) orders: UnboundedSender<Order>,
    pub(super) machine: Option<Vm>,
}

impl Instance {
    /// `projects/…/zones/…/instances/…`
    pub(super) fn resource(&self) -> String {
        let project = crate::google::PROJECT;
        format!(
            "projects/{project}/zones/{}/instances/{}",
            self.zone, self.name
        )
    }
}

/// A network.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) body: Value,
    pub(super) created: Timestamp,
    /// The regions whose subnetworks are there.
    pub(super) subnetworks: Vec<&'static str>,
    /// Whether its operation is done.
    pub(super) is_ready: bool,
    /// Whether it can be seen.
    pub(super) is_visible: bool,
}

/// A firewall rule.
#[derive(Debug, Clone)]
pub(super) struct Firewall {
    pub(super) name: String,
    pub(super) network: String,
    pub(super) body: Value,
    pub(super) created: Timestamp,
    pub(super) is_visible: bool,
}

/// A rule that refuses capacity.
#[derive(Debug, Clone)]
pub(super) struct Shortage {
    pub(super) zone: Option<String>,
    pub(super) machine_type: Option<String>,
    pub(super) spot: Option<bool>,
    pub(super) code: String,
}

impl Shortage {
    pub(super) fn hits(&self, zone: &str, machine_type: &str, spot: bool) -> bool {
        // A rule about a region is about each of its zones.
        let place =
            |wanted: &str| wanted == zone || zone.rsplit_once('-').is_some_and(|z| z.0 == wanted);
        self.zone.as_deref().is_none_or(place)
            && self
                .machine_type
                .as_deref()
                .is_none_or(|wanted| wanted == machine_type)
            && self.spot.is_none_or(|wanted| wanted == spot)
    }
}

/// A call that had a request id.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    /// The method, the path and the body.
    pub(super) request: (String, String, Value),
    pub(super) operation: String,
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    /// In the order of their making.
    pub(super) instances: Vec<Instance>,
    /// Zones and names of instances whose making has been asked for, and has not begun or fails.
    pub(super) reserved: BTreeSet<(String, String)>,
    pub(super) networks: Vec<Network>,
    pub(super) firewalls: Vec<Firewall>,
    pub(super) operations: Vec<Operation>,
    /// By request id.
    pub(super) requests: BTreeMap<String, Remembered>,
    pub(super) shortages: Vec<Shortage>,
    /// How long a `wait` waits.
    pub(super) wait_limit: Duration,
    /// The last number that was given to an instance or a host in a subnetwork.
    pub(super) last_host: u8,
}

impl State {
    /// What a new project has: a network called `default`.
    pub(super) fn new(wait_limit: Duration) -> Self {
        let mut state = State {
            instances: Vec::new(),
            reserved: BTreeSet::new(),
            networks: Vec::new(),
            firewalls: Vec::new(),
            operations: Vec::new(),
            requests: BTreeMap::new(),
            shortages: Vec::new(),
            wait_limit,
            last_host: 1,
        };
        state.add_network("default");
        state
    }

    /// Adds a network that is ready.
    pub(super) fn add_network(&mut self, name: &str) {
        self.networks.push(Network {
            name: name.into(),
            body: serde_json::json!({
                "name": name,
                "autoCreateSubnetworks": true,
                "routingConfig": {"routingMode": "REGIONAL"},
            }),
            created: crate::clock::now(),
            subnetworks: super::catalogue::REGIONS
                .iter()
                .map(|region| region.name)
                .collect(),
            is_ready: true,
            is_visible: true,
        });
    }

    /// The instance that has this name in a zone now.
    pub(super) fn instance(&self, zone: &str, name: &str) -> Option<&Instance> {
        self.instances.iter().rfind(|instance| {
            instance.phase != Phase::Deleted
                && instance.zone == zone
                && (instance.name == name || instance.id.to_string() == name)
        })
    }

    pub(super) fn by_id(&mut self, id: u64) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    pub(super) fn network(&self, name: &str) -> Option<&Network> {
        self.networks
            .iter()
            .find(|network| network.is_visible && network.name == name)
    }
}

/// As Google writes times: `2026-01-02T03:04:05.678-07:00`.
pub(super) fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::fixed(Offset::constant(-7)))
        .strftime("%Y-%m-%dT%H:%M:%S.%3f%:z")
        .to_string()
}
