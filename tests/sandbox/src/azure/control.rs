//! What a test sees of Azure, and what it can do to it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Azure;
use super::lifecycle::Order;
use super::path::{Kind, group_id};
use super::state::{Group, GroupPhase, Machine, Phase, Shortage, State, Tags};
use super::view::{AzureGroupView, AzureInstanceView, resources, view};
use super::{catalogue, images};
use crate::calls::lock;
use crate::instance::{self, Process, watch};

/// How long the end of all machines may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What is there before anybody calls: somebody else's group.
pub(super) fn initial() -> State {
    let tags = [("team".to_owned(), "data".to_owned())];
    State {
        groups: vec![Group {
            name: images::SHARED.into(),
            location: "westus2",
            tags: tags.into(),
            phase: GroupPhase::Live,
            visible_at: Instant::now(),
            deletion: None,
            foreign: true,
            resources: Vec::new(),
        }],
        ..State::default()
    }
}

impl Azure {
    /// Every machine there ever was, in the order of their making.
    pub fn instances(&self) -> Vec<AzureInstanceView> {
        let state = lock(&self.world.state);
        state
            .machines
            .iter()
            .map(|machine| view(&state, machine))
            .collect()
    }

    /// Those that are not deleted.
    pub fn live(&self) -> Vec<AzureInstanceView> {
        let mut instances = self.instances();
        instances.retain(|instance| instance.state != Phase::Deleted.name());
        instances
    }

    /// Every group that is there, but for the one that was there before.
    pub fn groups(&self) -> Vec<AzureGroupView> {
        let state = lock(&self.world.state);
        state
            .groups
            .iter()
            .filter(|group| group.phase != GroupPhase::Gone && !group.foreign)
            .map(|group| AzureGroupView {
                name: group.name.clone(),
                region: group.location.into(),
                tags: group.tags.clone(),
                deleting: group.phase == GroupPhase::Deleting,
                resources: resources(&state, group),
            })
            .collect()
    }

    /// Refuses such machines from now on with this code; `None` stands for any. `SkuNotAvailable`,
    /// `OperationNotAllowed` and `QuotaExceeded` (quotas), `SpotPriceGreaterThanProvidedMaxPrice` and
    /// `AzureSpotIsNotSupportedForThisVMSize` come at once, others (`AllocationFailed`,
    /// `ZonalAllocationFailed`, `OverconstrainedAllocationRequest`, …) end the operation.
    pub fn exhaust(
        &self,
        region: Option<&str>,
        size: Option<&str>,
        spot: Option<bool>,
        code: &str,
    ) {
        lock(&self.world.state).shortages.push(Shortage {
            region: region.map(Into::into),
            size: size.map(Into::into),
            spot,
            code: code.into(),
        });
    }

    /// There is room for everything again.
    pub fn replenish(&self) {
        lock(&self.world.state).shortages.clear();
    }

    /// Keeps a size of a region from the subscription: its SKU says so.
    pub fn restrict(&self, region: &str, size: &str) {
        let restriction = (region.to_owned(), size.to_owned());
        lock(&self.world.state).restrictions.push(restriction);
    }

    /// Registers a feature: `Microsoft.Compute/EncryptionAtHost`.
    pub fn register_feature(&self, name: &str) {
        lock(&self.world.state).features.insert(name.into());
    }

    /// How long new role assignments don't count.
    pub fn set_propagation(&self, delay: Duration) {
        self.world.directory.rights.set_propagation(delay);
    }

    /// Answers `PrincipalNotFound` to so many role assignments, whatever they say.
    pub fn refuse_principals(&self, times: usize) {
        lock(&self.world.state).principals_refused = times;
    }

    /// What `Retry-After` says of operations; one second unless it is set.
    pub fn set_retry_after(&self, seconds: u64) {
        lock(&self.world.state).retry_after = Some(seconds);
    }

    /// How many groups, machines or addresses a list has before it goes on elsewhere.
    pub fn set_page_size(&self, size: usize) {
        lock(&self.world.state).page_size = Some(size);
    }

    /// Adds a user-assigned identity to the group that was there before; the answer is its id.
    /// `roles`: role's id (the last part) and scope.
    pub fn add_identity(&self, name: &str, roles: &[(&str, &str)]) -> String {
        let id = Kind::UserAssignedIdentity.id(images::SHARED, name);
        let directory = &self.world.directory;
        let identity = directory.add_identity(&id);
        for (role, scope) in roles {
            let assignment = format!("{scope}/{role}/{name}");
            directory
                .rights
                .grant(&assignment, scope, role, &identity.object);
        }
        id
    }

    /// The id of a group of this name.
    pub fn group_id(&self, name: &str) -> String {
        group_id(name)
    }

    /// Puts a group there that the launcher didn't make, with these tags.
    pub fn add_group(&self, name: &str, region: &str, tags: &[(&str, &str)]) {
        let tags: Tags = tags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        lock(&self.world.state).groups.push(Group {
            name: name.into(),
            location: catalogue::region(region).unwrap_or("westus2"),
            tags,
            phase: GroupPhase::Live,
            visible_at: Instant::now(),
            deletion: None,
            foreign: false,
            resources: Vec::new(),
        });
    }

    /// Takes such a group away again.
    pub fn remove_group(&self, name: &str) {
        let groups = &mut lock(&self.world.state).groups;
        groups.retain(|group| group.name != name || !group.resources.is_empty());
    }

    /// Evicts a spot machine, after the notice.
    pub fn preempt(&self, name: &str) {
        self.schedule(name, "Preempt");
    }

    /// Announces a scheduled event (`Preempt`, `Terminate`, `Reboot`, `Redeploy`, `Freeze`), which
    /// comes when it is approved, or after the notice.
    pub fn schedule(&self, name: &str, kind: &str) {
        self.order(name, Order::Announce(kind.into()));
    }

    /// The ids of the scheduled events that a machine approved.
    pub fn acknowledged(&self, name: &str) -> Vec<String> {
        self.with(name, |machine| machine.events.all_approved())
            .unwrap_or_default()
    }

    /// Presses the power button: the machine shuts down, and is still paid for.
    pub fn press_power_button(&self, name: &str) {
        self.order(name, Order::Stop);
    }

    /// The same by somebody at the portal, who doesn't deallocate it.
    pub fn stop(&self, name: &str) {
        self.order(name, Order::Stop);
    }

    /// Somebody deallocates it.
    pub fn deallocate(&self, name: &str) {
        self.order(name, Order::Deallocate);
    }

    /// Somebody deletes the machine, and leaves its group.
    pub fn delete_machine(&self, name: &str) {
        self.order(name, Order::Delete { forced: false });
    }

    fn order(&self, name: &str, order: Order) {
        if let Some(id) = self.with(name, |machine| machine.vm_id.clone()) {
            self.world.order(&id, order);
        }
    }

    /// The newest machine of this name.
    fn with<T>(&self, name: &str, f: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        lock(&self.world.state)
            .machines
            .iter_mut()
            .rfind(|machine| machine.name == name)
            .map(f)
    }

    /// SIGKILL to the agent's main process; says whether there was one.
    pub fn kill_agent(&self, name: &str) -> bool {
        let vm = self.with(name, |machine| machine.vm.clone()).flatten();
        vm.is_some_and(|vm| vm.kill_main())
    }

    /// Hangs a machine: nothing on it runs any more, and it answers nobody.
    pub fn freeze(&self, name: &str) {
        for process in self.processes(name) {
            // One that has just ended needs no stopping.
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGSTOP);
        }
    }

    /// Makes a machine this much older, and whatever time its maker has noted on its group.
    pub fn age(&self, name: &str, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        let group = self.with(name, |machine| {
            machine.created -= by;
            machine.group.clone()
        });
        let mut state = lock(&self.world.state);
        let Some(Ok(group)) = group.map(|name| state.group_mut(&name)) else {
            return;
        };
        for value in group.tags.values_mut() {
            if let Ok(time) = value.parse::<Timestamp>() {
                *value = (time - by).to_string();
            }
        }
    }

    /// Takes a group's tags away, so that it is anybody's.
    pub fn untag(&self, group: &str) {
        if let Ok(group) = lock(&self.world.state).group_mut(group) {
            group.tags.clear();
        }
    }

    /// Crashes a machine, which then boots again.
    pub fn reset(&self, name: &str) {
        if let Some(vm) = self.with(name, |machine| machine.vm.clone()).flatten() {
            tokio::spawn(async move { vm.reset().await });
        }
    }

    /// Everything that a machine printed so far.
    pub fn console(&self, name: &str) -> String {
        let vm = self.with(name, |machine| machine.vm.clone()).flatten();
        vm.map(|vm| vm.console_text()).unwrap_or_default()
    }

    fn folder(&self, name: &str) -> String {
        self.with(name, |machine| machine.folder.clone())
            .unwrap_or_else(|| name.to_owned())
    }

    /// The live processes of a machine.
    pub fn processes(&self, name: &str) -> Vec<Process> {
        instance::processes(&self.world.folder, &self.folder(name))
    }

    /// The folder that stands for a machine's disk.
    pub fn disk(&self, name: &str) -> PathBuf {
        let folder = self.folder(name);
        self.world
            .folder
            .join(watch::INSTANCES)
            .join(folder)
            .join("root")
    }

    /// Every body that was taken, with its type (`VirtualMachine`), for other checks.
    pub fn bodies(&self) -> Vec<(String, Value)> {
        lock(&self.world.state).bodies.clone()
    }

    /// What would cost money, or live on, if this were real.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut ended = Vec::new();
        {
            let state = lock(&self.world.state);
            for machine in &state.machines {
                match machine.phase {
                    Phase::Deleted => ended.push((machine.name.clone(), machine.folder.clone())),
                    phase => {
                        leaks.push(format!("machine {} is {}", machine.name, phase.name()));
                    }
                }
            }
            for group in &state.groups {
                if group.phase != GroupPhase::Gone && !group.foreign {
                    let inside = resources(&state, group).join(", ");
                    leaks.push(format!("group {} is left with [{inside}]", group.name));
                }
            }
            for assignment in &state.assignments {
                leaks.push(format!("role assignment {} is left", assignment.id()));
            }
        }
        for (name, folder) in &ended {
            for process in instance::processes(&self.world.folder, folder) {
                let words = process.argv.join(" ");
                leaks.push(format!("process {} of {name} lives: {words}", process.pid));
            }
        }
        leaks
    }

    /// Ends all machines without a shutdown.
    pub(crate) async fn stop_all(&self) {
        for machine in &lock(&self.world.state).machines {
            // One that has ended takes no orders.
            let _ = machine.orders.send(Order::Destroy);
        }
        let all_ended = async {
            while !self.live().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(STOP_LIMIT, all_ended).await;
    }
}
