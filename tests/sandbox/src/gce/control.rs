//! What a test sees of Compute Engine, and what it can do to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lifecycle::Order;
use super::state::{Instance, Phase, Shortage, State};
use super::{Gce, instances};
use crate::calls::lock;
use crate::google::Vm;
use crate::instance::{self, Process, watch};

/// How long the end of all instances may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Names of what a launcher shares among its launches begin so.
const SHARED: &str = "runner-launch";

/// An instance as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GceInstanceView {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// Its zone.
    pub zone: String,
    /// `PROVISIONING`, `STAGING`, `RUNNING`, `STOPPING` or `TERMINATED`; `DELETED` when it is gone.
    pub status: String,
    /// Its machine type's name.
    pub machine_type: String,
    /// Its GPUs: names and counts, also of those that its machine type carries.
    pub accelerators: Vec<(String, u32)>,
    /// `X86_64` or `ARM64`.
    pub architecture: String,
    /// Its image: `projects/…/global/images/…`.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its boot disk's labels.
    pub disk_labels: BTreeMap<String, String>,
    /// Its description.
    pub description: String,
    /// Its metadata, the startup script among it.
    pub metadata: BTreeMap<String, String>,
    /// The metadata `startup-script`, or nothing.
    pub startup_script: String,
    /// Its network tags.
    pub tags: Vec<String>,
    /// Whether it is spot.
    pub spot: bool,
    /// What its preemption does: `STOP` or `DELETE`.
    pub termination_action: String,
    /// The attached service account's address and scopes.
    pub service_account: Option<(String, Vec<String>)>,
    /// Its boot disk's size.
    pub disk_gb: u32,
    /// Its boot disk's type.
    pub disk_type: String,
    /// Whether its boot disk goes with it.
    pub auto_delete: bool,
    /// Whether its boot disk exists.
    pub disk_exists: bool,
    /// Its network's name.
    pub network: String,
    /// `PREMIUM` or `STANDARD`.
    pub network_tier: String,
    /// `MIGRATE` or `TERMINATE`.
    pub on_host_maintenance: String,
    /// Whether it boots again after a crash.
    pub automatic_restart: bool,
    /// Its external address, while it has one.
    pub external_ip: Option<String>,
    /// The request id of the call that made it.
    pub request_id: Option<String>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its name.
    pub name: String,
    /// Whether each region has a subnetwork of its own accord.
    pub auto_create_subnetworks: bool,
    /// `REGIONAL` or `GLOBAL`.
    pub routing_mode: String,
    /// Whether its making is over.
    pub ready: bool,
}

/// A firewall rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallView {
    /// Its name.
    pub name: String,
    /// Its network's name.
    pub network: String,
    /// What it allows: `tcp:22`.
    pub allowed: Vec<String>,
    /// From where.
    pub source_ranges: Vec<String>,
    /// The tags of the instances that it is about.
    pub target_tags: Vec<String>,
}

impl Gce {
    /// Every instance there ever was, in the order of their making. One whose making came to
    /// nothing never was.
    pub fn instances(&self) -> Vec<GceInstanceView> {
        lock(&self.world.state).instances.iter().map(view).collect()
    }

    /// Those that are not gone; the stopped ones are there.
    pub fn live(&self) -> Vec<GceInstanceView> {
        let mut instances = self.instances();
        instances.retain(|instance| instance.status != Phase::Deleted.name());
        instances
    }

    /// Every network.
    pub fn networks(&self) -> Vec<NetworkView> {
        let state = lock(&self.world.state);
        state
            .networks
            .iter()
            .map(|network| NetworkView {
                name: network.name.clone(),
                auto_create_subnetworks: network.body["autoCreateSubnetworks"] == true,
                routing_mode: network.body["routingConfig"]["routingMode"]
                    .as_str()
                    .unwrap_or("REGIONAL")
                    .into(),
                ready: network.is_ready,
            })
            .collect()
    }

    /// Every firewall rule.
    pub fn firewalls(&self) -> Vec<FirewallView> {
        let words = |value: &serde_json::Value| -> Vec<String> {
            let items = value.as_array().into_iter().flatten();
            items
                .filter_map(|item| Some(item.as_str()?.to_owned()))
                .collect()
        };
        let state = lock(&self.world.state);
        state
            .firewalls
            .iter()
            .map(|firewall| FirewallView {
                name: firewall.name.clone(),
                network: firewall.network.clone(),
                allowed: firewall.body["allowed"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|rule| {
                        let protocol = rule["IPProtocol"].as_str().unwrap_or_default();
                        let ports = words(&rule["ports"]).join(",");
                        match ports.as_str() {
                            "" => protocol.to_owned(),
                            ports => format!("{protocol}:{ports}"),
                        }
                    })
                    .collect(),
                source_ranges: words(&firewall.body["sourceRanges"]),
                target_tags: words(&firewall.body["targetTags"]),
            })
            .collect()
    }

    /// Lets such `instances.insert` calls come to nothing from now on; `None` stands for any, and
    /// for `zone` a region will do. `code` is the code of the error in the operation
    /// (`ZONE_RESOURCE_POOL_EXHAUSTED`, `ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS`, …), or
    /// `QUOTA_EXCEEDED:METRIC:SCOPE` with `zone`, `region` or `global` as the scope. With
    /// `quotaExceeded:METRIC:SCOPE` the call itself is refused.
    pub fn exhaust(
        &self,
        zone: Option<&str>,
        machine_type: Option<&str>,
        spot: Option<bool>,
        code: &str,
    ) {
        lock(&self.world.state).shortages.push(Shortage {
            zone: zone.map(Into::into),
            machine_type: machine_type.map(Into::into),
            spot,
            code: code.into(),
        });
    }

    /// Takes back all of [`Gce::exhaust`].
    pub fn restock(&self) {
        lock(&self.world.state).shortages.clear();
    }

    /// Takes a spot instance back: after the notice it is shut down, and then stopped or deleted as
    /// its scheduling says.
    pub fn preempt(&self, name: &str) {
        self.order(name, Order::Preempt);
    }

    /// Plans a maintenance of the host: `TERMINATE_ON_HOST_MAINTENANCE` or
    /// `MIGRATE_ON_HOST_MAINTENANCE`; `NONE` is the end of it.
    pub fn maintenance(&self, name: &str, event: &str) {
        let event = (event != "NONE").then(|| event.to_owned());
        self.with(name, |instance| {
            instance
                .facts
                .send_modify(|facts| facts.maintenance = event);
        });
    }

    /// Presses the power button.
    pub fn press_power_button(&self, name: &str) {
        self.order(name, Order::PowerButton);
    }

    /// As somebody's `instances.stop` does it.
    pub fn stop(&self, name: &str) {
        self.order(name, Order::PowerButton);
    }

    /// Crashes an instance, which then boots again.
    pub fn reset(&self, name: &str) {
        self.order(name, Order::Reset);
    }

    /// Crashes an instance, which boots again if its scheduling says so, and else is stopped.
    pub fn crash(&self, name: &str) {
        self.order(name, Order::Crash);
    }

    /// Does something with the newest instance of a name.
    fn with<T>(&self, name: &str, f: impl FnOnce(&mut Instance) -> T) -> Option<T> {
        let mut state = lock(&self.world.state);
        let found = state.instances.iter_mut().rfind(|i| i.name == name);
        found.map(f)
    }

    fn order(&self, name: &str, order: Order) {
        self.with(name, |instance| {
            // An instance that has ended takes no orders.
            let _ = instance.orders.send(order);
        });
    }

    fn machine(&self, name: &str) -> Option<Vm> {
        self.with(name, |instance| instance.machine.clone())
            .flatten()
    }

    fn machine_id(&self, name: &str) -> String {
        self.with(name, |instance| instance.machine_id.clone())
            .unwrap_or_else(|| name.to_owned())
    }

    /// SIGKILL to the agent's main process; says whether there was one.
    pub fn kill_agent(&self, name: &str) -> bool {
        self.machine(name)
            .is_some_and(|machine| machine.kill_main())
    }

    /// Hangs an instance: nothing on it runs any more, and it answers nobody.
    pub fn freeze(&self, name: &str) {
        for process in self.processes(name) {
            // One that has just ended needs no stopping.
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGSTOP);
        }
    }

    /// Makes an instance, its starts and its stops this much older.
    pub fn age(&self, name: &str, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.with(name, |instance| {
            instance.created -= by;
            for time in [&mut instance.started, &mut instance.stopped] {
                *time = time.map(|time| time - by);
            }
        });
    }

    /// Takes an instance's description and labels away, so that it is anybody's.
    pub fn unmark(&self, name: &str) {
        self.with(name, |instance| {
            instance.labels.clear();
            instance.body["description"] = serde_json::Value::Null;
        });
    }

    /// Everything that an instance printed so far.
    pub fn console(&self, name: &str) -> String {
        self.machine(name)
            .map(|machine| machine.console_text())
            .unwrap_or_default()
    }

    /// The live processes of an instance.
    pub fn processes(&self, name: &str) -> Vec<Process> {
        instance::processes(&self.world.folder, &self.machine_id(name))
    }

    /// The folder that stands for an instance's disk.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.world
            .folder
            .join(watch::INSTANCES)
            .join(self.machine_id(name))
            .join("root")
    }

    /// Adds a network that is ready, as an earlier launch leaves it.
    pub fn add_network(&self, name: &str) {
        lock(&self.world.state).add_network(name);
    }

    /// Takes a network away.
    pub fn remove_network(&self, name: &str) {
        let mut state = lock(&self.world.state);
        state.networks.retain(|network| network.name != name);
        state.firewalls.retain(|firewall| firewall.network != name);
    }

    /// How long a `wait` waits from now on; two minutes before that.
    pub fn set_wait_limit(&self, limit: Duration) {
        lock(&self.world.state).wait_limit = limit;
    }

    /// What would cost money, or live on, if this were real.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut ended = Vec::new();
        {
            let state = lock(&self.world.state);
            for instance in &state.instances {
                if instance.phase == Phase::Deleted {
                    ended.push(instance.machine_id.clone());
                    if instance.disk.exists {
                        leaks.push(format!(
                            "disk {} of {} is left",
                            instance.disk.name, instance.name
                        ));
                    }
                } else {
                    let status = instance.phase.name();
                    leaks.push(format!("instance {} is {status}", instance.name));
                }
            }
            for (zone, name) in &state.reserved {
                leaks.push(format!("instance {name} is about to be made in {zone}"));
            }
            leaks.extend(shared_leaks(&state));
        }
        for id in &ended {
            for process in instance::processes(&self.world.folder, id) {
                let words = process.argv.join(" ");
                leaks.push(format!("process {} of {id} lives: {words}", process.pid));
            }
        }
        leaks
    }

    /// Ends all instances without a shutdown.
    pub(crate) async fn stop_all(&self) {
        let all_ended = async {
            loop {
                {
                    let state = lock(&self.world.state);
                    let live = |instance: &&Instance| instance.phase != Phase::Deleted;
                    for instance in state.instances.iter().filter(live) {
                        // One that has just ended takes no orders.
                        let _ = instance.orders.send(Order::Destroy);
                    }
                    if state.reserved.is_empty() && !state.instances.iter().any(|i| live(&i)) {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(STOP_LIMIT, all_ended).await;
    }
}

/// Networks and rules that are not shared among launches.
fn shared_leaks(state: &State) -> Vec<String> {
    let mut leaks = Vec::new();
    for network in &state.networks {
        if network.name != "default" && !network.name.starts_with(SHARED) {
            leaks.push(format!("network {} is left", network.name));
        }
    }
    for firewall in &state.firewalls {
        if !firewall.name.starts_with(SHARED) {
            leaks.push(format!("firewall rule {} is left", firewall.name));
        }
    }
    leaks
}

fn view(instance: &Instance) -> GceInstanceView {
    let description = instance.body["description"].as_str().unwrap_or_default();
    GceInstanceView {
        name: instance.name.clone(),
        id: instance.id,
        zone: instance.zone.clone(),
        status: instance.phase.name().into(),
        machine_type: instance.machine_type.clone(),
        accelerators: instance.accelerators.clone(),
        architecture: instance.architecture.into(),
        image: instance.image.clone(),
        labels: instance.labels.clone(),
        disk_labels: instance.disk.labels.clone(),
        description: description.into(),
        metadata: instance.metadata.clone(),
        startup_script: instance
            .metadata
            .get("startup-script")
            .cloned()
            .unwrap_or_default(),
        tags: instance.tags.clone(),
        spot: instance.scheduling.spot,
        termination_action: instance.scheduling.termination_action.clone(),
        service_account: instance.service_account.clone(),
        disk_gb: instance.disk.size_gb,
        disk_type: instance.disk.kind.clone(),
        auto_delete: instance.disk.auto_delete,
        disk_exists: instance.disk.exists,
        network: instance.network.clone(),
        network_tier: instance.network_tier.clone(),
        on_host_maintenance: instance.scheduling.on_host_maintenance.clone(),
        automatic_restart: instance.scheduling.automatic_restart,
        external_ip: instances::address(instance).map(Into::into),
        request_id: instance.request_id.clone(),
    }
}
