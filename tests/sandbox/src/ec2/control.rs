//! What a test sees of EC2, and what it can do to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lifecycle::Order;
use super::state::{Instance, Permission, Phase, Shortage, State};
use super::{Accounts, Ec2, instances};
use crate::calls::lock;
use crate::clock;
use crate::instance::{self, Process, watch};

/// How long the end of all instances may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// An instance as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// `pending`, `running`, `shutting-down`, `terminated`, `stopping` or `stopped`.
    pub state: String,
    /// Its type.
    pub instance_type: String,
    /// Its zone.
    pub zone: String,
    /// Its region.
    pub region: String,
    /// Its image's id.
    pub image: String,
    /// Its image's name.
    pub image_name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its root volume's tags.
    pub volume_tags: BTreeMap<String, String>,
    /// Its network interface's tags.
    pub interface_tags: BTreeMap<String, String>,
    /// Whether it is spot.
    pub spot: bool,
    /// The most that may be paid for it, as it was asked for.
    pub spot_price: Option<String>,
    /// Its user data, as it was sent, decoded from Base64.
    pub user_data: Vec<u8>,
    /// Its security groups' ids.
    pub security_groups: Vec<String>,
    /// Its subnet's id.
    pub subnet: Option<String>,
    /// Its instance profile's ARN.
    pub profile: Option<String>,
    /// Whether its metadata service takes version 2 only.
    pub imds_v2_required: bool,
    /// The metadata service's hop limit.
    pub hop_limit: u32,
    /// Whether its root volume is encrypted.
    pub encrypted: bool,
    /// Its root volume's size.
    pub volume_gb: u32,
    /// Its root volume's type.
    pub volume_type: String,
    /// `stop` or `terminate`.
    pub shutdown_behavior: String,
    /// Its public address, while it has one.
    pub public_ip: Option<String>,
    /// The client token of the call that made it.
    pub client_token: Option<String>,
    /// The code of why it is ending or has ended.
    pub reason: Option<String>,
}

/// A security group as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its network's id.
    pub vpc: String,
    /// Its region.
    pub region: String,
    /// What may come in: `tcp 22 0.0.0.0/0`.
    pub ingress: Vec<String>,
    /// What may go out, in the same form.
    pub egress: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetView {
    /// Its id.
    pub id: String,
    /// Its network's id.
    pub vpc: String,
    /// Its zone.
    pub zone: String,
    /// Whether it is its zone's default one.
    pub default: bool,
}

impl Ec2 {
    /// Every instance there ever was, in the order of their making.
    pub fn instances(&self) -> Vec<InstanceView> {
        let state = lock(&self.world.state);
        state
            .instances
            .iter()
            .map(|instance| self.view(&state, instance))
            .collect()
    }

    /// Those that are not terminated.
    pub fn live(&self) -> Vec<InstanceView> {
        let mut instances = self.instances();
        instances.retain(|instance| instance.state != Phase::Terminated.name());
        instances
    }

    fn view(&self, state: &State, instance: &Instance) -> InstanceView {
        let image = self
            .world
            .images
            .iter()
            .find(|image| image.id == instance.image);
        let root = state.volumes.iter().find(|volume| {
            volume.instance == instance.id
                && image.is_some_and(|image| image.root_device == volume.device)
        });
        InstanceView {
            id: instance.id.clone(),
            name: instance.tags.get("Name").cloned(),
            state: instance.phase.name().into(),
            instance_type: instance.instance_type.clone(),
            zone: instance.zone.clone(),
            region: instance.region.name.into(),
            image: instance.image.clone(),
            image_name: image.map(|image| image.name.clone()).unwrap_or_default(),
            tags: instance.tags.clone(),
            volume_tags: root.map(|volume| volume.tags.clone()).unwrap_or_default(),
            interface_tags: instance.interface_tags.clone(),
            spot: instance.spot.is_some(),
            spot_price: instance
                .spot
                .as_ref()
                .and_then(|spot| spot.max_price.clone()),
            user_data: instance.user_data.clone(),
            security_groups: instance.groups.clone(),
            subnet: Some(instance.subnet.clone()),
            profile: instance.profile.as_ref().map(|profile| profile.arn()),
            imds_v2_required: instance.metadata.tokens_required,
            hop_limit: instance.metadata.hop_limit,
            encrypted: root.is_some_and(|volume| volume.encrypted),
            volume_gb: root.map_or(0, |volume| volume.size_gb),
            volume_type: root.map(|volume| volume.kind.clone()).unwrap_or_default(),
            shutdown_behavior: instance.shutdown_behavior.clone(),
            public_ip: instances::address(instance),
            client_token: instance.client_token.clone(),
            reason: instance.reason.map(|reason| reason.code.into()),
        }
    }

    /// Every security group, the networks' default ones too.
    pub fn groups(&self) -> Vec<GroupView> {
        let rules = |permissions: &[Permission]| permissions.iter().map(rule).collect();
        lock(&self.world.state)
            .groups
            .iter()
            .map(|group| GroupView {
                id: group.id.clone(),
                name: group.name.clone(),
                vpc: group.vpc.clone(),
                region: group.region.into(),
                ingress: rules(&group.ingress),
                egress: rules(&group.egress),
                tags: group.tags.clone(),
            })
            .collect()
    }

    /// The subnets of a region: the default network's, and one of a network without public
    /// addresses.
    pub fn subnets(&self, region: &str) -> Vec<SubnetView> {
        lock(&self.world.state)
            .subnets
            .iter()
            .filter(|subnet| subnet.region == region)
            .map(|subnet| SubnetView {
                id: subnet.id.clone(),
                vpc: subnet.vpc.clone(),
                zone: subnet.zone.clone(),
                default: subnet.is_default,
            })
            .collect()
    }

    /// Refuses such RunInstances calls from now on with this code
    /// (`InsufficientInstanceCapacity`, `VcpuLimitExceeded`, …); `None` stands for any.
    pub fn exhaust(
        &self,
        zone: Option<&str>,
        instance_type: Option<&str>,
        spot: Option<bool>,
        code: &str,
    ) {
        lock(&self.world.state).shortages.push(Shortage {
            zone: zone.map(Into::into),
            instance_type: instance_type.map(Into::into),
            spot,
            code: code.into(),
        });
    }

    /// Replaces the callers' policy: these actions (`ec2:RunInstances`, `ec2:Describe*`) and no
    /// others are allowed.
    pub fn allow_only(&self, actions: &[&str]) {
        self.world.accounts.allow_only(actions);
    }

    /// Adds an instance profile; `dvc-s3-access` and `ci-runner` are there from the beginning.
    pub fn add_profile(&self, name: &str) {
        lock(&self.world.state).add_profile(name);
    }

    /// Takes a spot instance back, after the notice.
    pub fn interrupt(&self, id: &str) {
        self.order(id, Order::Interrupt);
    }

    /// Recommends a rebalance to a spot instance.
    pub fn rebalance(&self, id: &str) {
        self.world
            .with_instance(id, |instance| instance.rebalance = Some(clock::now()));
    }

    /// Presses the power button.
    pub fn press_power_button(&self, id: &str) {
        self.order(id, Order::PowerButton);
    }

    fn order(&self, id: &str, order: Order) {
        self.world.with_instance(id, |instance| {
            // An instance that has ended takes no orders.
            let _ = instance.orders.send(order);
        });
    }

    /// SIGKILL to the agent's main process; says whether there was one.
    pub fn kill_agent(&self, id: &str) -> bool {
        let machine = self
            .world
            .with_instance(id, |instance| instance.machine.clone());
        machine.flatten().is_some_and(|machine| machine.kill_main())
    }

    /// Hangs an instance: nothing on it runs any more, and it answers nobody.
    pub fn freeze(&self, id: &str) {
        for process in self.processes(id) {
            // One that has just ended needs no stopping.
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGSTOP);
        }
    }

    /// Makes an instance this much older.
    pub fn age(&self, id: &str, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.world
            .with_instance(id, |instance| instance.launched -= by);
    }

    /// Takes an instance's tags away, so that it is anybody's.
    pub fn untag(&self, id: &str) {
        self.world
            .with_instance(id, |instance| instance.tags.clear());
    }

    /// Crashes an instance, which then boots again.
    pub fn reset(&self, id: &str) {
        let machine = self
            .world
            .with_instance(id, |instance| instance.machine.clone());
        if let Some(machine) = machine.flatten() {
            tokio::spawn(async move { machine.reset().await });
        }
    }

    /// Everything that an instance printed so far.
    pub fn console(&self, id: &str) -> String {
        let machine = self
            .world
            .with_instance(id, |instance| instance.machine.clone());
        machine
            .flatten()
            .map(|machine| machine.console_text())
            .unwrap_or_default()
    }

    /// The live processes of an instance.
    pub fn processes(&self, id: &str) -> Vec<Process> {
        instance::processes(&self.world.folder, id)
    }

    /// The folder that stands for an instance's disk.
    pub fn disk(&self, id: &str) -> PathBuf {
        self.world
            .folder
            .join(watch::INSTANCES)
            .join(id)
            .join("root")
    }

    /// Takes the default networks away, in all regions.
    pub fn remove_default_vpc(&self) {
        let mut state = lock(&self.world.state);
        let gone: Vec<String> = state
            .vpcs
            .iter()
            .filter(|vpc| vpc.is_default)
            .map(|vpc| vpc.id.clone())
            .collect();
        state.vpcs.retain(|vpc| !vpc.is_default);
        state.subnets.retain(|subnet| !gone.contains(&subnet.vpc));
        state.groups.retain(|group| !gone.contains(&group.vpc));
    }

    /// The access key and secret that the environment gives.
    pub fn static_keys(&self) -> (String, String) {
        self.world.accounts.user()
    }

    /// Access key, secret and session token of a new session that lasts so long; one of no length
    /// is over.
    pub fn session_keys(&self, lifetime: Duration) -> (String, String, String) {
        let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
        let principal = super::Principal::Launcher {
            session: "sandbox".into(),
        };
        let session = self.world.accounts.session(principal, lifetime);
        (session.access_key, session.secret, session.token)
    }

    /// A role's ARN, and a token that STS takes for it.
    pub fn web_identity(&self) -> (String, String) {
        let token = self.world.accounts.web_token(SignedDuration::from_mins(10));
        (Accounts::role_arn(), token)
    }

    /// The same with a token that has expired.
    pub fn expired_web_identity(&self) -> (String, String) {
        let token = self
            .world
            .accounts
            .web_token(SignedDuration::from_mins(-10));
        (Accounts::role_arn(), token)
    }

    /// The variables that name the endpoints, without the keys.
    pub fn endpoints(&self) -> Vec<(String, String)> {
        let [ec2, sts] = &*self.servers;
        vec![
            ("AWS_ENDPOINT_URL_EC2".into(), ec2.url()),
            ("AWS_ENDPOINT_URL_STS".into(), sts.url()),
        ]
    }

    /// What would cost money, or live on, if this were real.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut ended = Vec::new();
        {
            let state = lock(&self.world.state);
            for instance in &state.instances {
                if instance.phase == Phase::Terminated {
                    ended.push(instance.id.clone());
                } else {
                    leaks.push(format!(
                        "instance {} is {}",
                        instance.id,
                        instance.phase.name()
                    ));
                }
            }
            for volume in state.volumes.iter().filter(|volume| volume.exists) {
                if ended.contains(&volume.instance) {
                    leaks.push(format!(
                        "volume {} of {} is left",
                        volume.id, volume.instance
                    ));
                }
            }
            for group in &state.groups {
                if group.name != "default" && !group.tags.contains_key("runner-launch") {
                    leaks.push(format!(
                        "security group {} ({}) is left",
                        group.id, group.name
                    ));
                }
            }
            for (region, name) in state.key_pairs.keys() {
                leaks.push(format!("key pair {name} in {region} is left"));
            }
        }
        for id in &ended {
            for process in self.processes(id) {
                let words = process.argv.join(" ");
                leaks.push(format!("process {} of {id} lives: {words}", process.pid));
            }
        }
        for process in instance::strays(&self.world.folder) {
            let words = process.argv.join(" ");
            leaks.push(format!("process {} lives: {words}", process.pid));
        }
        leaks
    }

    /// Ends all instances without a shutdown.
    pub(crate) async fn stop_all(&self) {
        for instance in &lock(&self.world.state).instances {
            // One that has ended takes no orders.
            let _ = instance.orders.send(Order::Destroy);
        }
        let all_ended = async {
            while !self.live().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(STOP_LIMIT, all_ended).await;
    }
}

fn rule(permission: &Permission) -> String {
    let peer = permission.peer.text();
    let protocol = &permission.protocol;
    match permission.ports {
        None => format!("{protocol} {peer}"),
        Some((from, to)) if from == to => format!("{protocol} {from} {peer}"),
        Some((from, to)) => format!("{protocol} {from}-{to} {peer}"),
    }
}
