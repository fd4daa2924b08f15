//! What exists: instances, volumes, networks, groups.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use super::accounts::ACCOUNT;
use super::catalogue::{REGIONS, Region};
use super::lifecycle::Order;
use super::run::Fingerprint;
use crate::clock;
use crate::instance::Machine;

/// Tags by key.
pub(crate) type Tags = BTreeMap<String, String>;

/// A new id of EC2's form.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}{}", clock::random_hex(17))
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::ShuttingDown => "shutting-down",
            Phase::Terminated => "terminated",
        }
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html>
    pub(crate) fn code(self) -> u16 {
        match self {
            Phase::Pending => 0,
            Phase::Running => 16,
            Phase::ShuttingDown => 32,
            Phase::Terminated => 48,
            Phase::Stopping => 64,
            Phase::Stopped => 80,
        }
    }

    /// Whether it will never run again.
    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Phase::ShuttingDown | Phase::Terminated)
    }
}

/// Why an instance is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
}

impl Reason {
    pub(crate) const USER: Reason = Reason {
        code: "Client.UserInitiatedShutdown",
        message: "Client.UserInitiatedShutdown: User initiated shutdown",
    };
    pub(crate) const GUEST: Reason = Reason {
        code: "Client.InstanceInitiatedShutdown",
        message: "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
    };
    pub(crate) const SPOT: Reason = Reason {
        code: "Server.SpotInstanceTermination",
        message: "Server.SpotInstanceTermination: Spot instance termination",
    };
    pub(crate) const BROKEN: Reason = Reason {
        code: "Server.InternalError",
        message: "Server.InternalError: Internal error on launch",
    };
}

/// The metadata service's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetadataOptions {
    pub(crate) tokens_required: bool,
    pub(crate) hop_limit: u32,
    pub(crate) enabled: bool,
    pub(crate) tags: bool,
}

/// The spot side of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) request: String,
    pub(crate) max_price: Option<String>,
}

/// An instance profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) id: String,
}

impl Profile {
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:instance-profile/{}", self.name)
    }
}

/// An instance, dead or alive.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) reservation: String,
    pub(crate) index: u32,
    pub(crate) region: &'static Region,
    pub(crate) zone: String,
    pub(crate) subnet: String,
    pub(crate) vpc: String,
    pub(crate) groups: Vec<String>,
    pub(crate) interface: String,
    pub(crate) interface_tags: Tags,
    pub(crate) private_ip: String,
    pub(crate) public_ip: Option<String>,
    pub(crate) image: String,
    pub(crate) instance_type: String,
    pub(crate) launched: Timestamp,
    pub(crate) visible_at: Instant,
    pub(crate) phase: Phase,
    pub(crate) reason: Option<Reason>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) tags: Tags,
    pub(crate) spot: Option<Spot>,
    pub(crate) user_data: Vec<u8>,
    pub(crate) profile: Option<Profile>,
    pub(crate) metadata: MetadataOptions,
    pub(crate) shutdown_behavior: String,
    pub(crate) client_token: Option<String>,
    /// When the announced interruption comes.
    pub(crate) interruption: Option<Timestamp>,
    /// When a rebalance was recommended.
    pub(crate) rebalance: Option<Timestamp>,
    pub(crate) orders: UnboundedSender<Order>,
    pub(crate) machine: Option<Machine>,
}

impl Instance {
    pub(crate) fn is_visible(&self) -> bool {
        Instant::now() >= self.visible_at
    }

    pub(crate) fn dns(&self) -> String {
        let address = self.private_ip.replace('.', "-");
        match self.region.name {
            "us-east-1" => format!("ip-{address}.ec2.internal"),
            region => format!("ip-{address}.{region}.compute.internal"),
        }
    }
}

/// A volume.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) instance: String,
    pub(crate) device: String,
    pub(crate) size_gb: u32,
    pub(crate) kind: String,
    pub(crate) encrypted: bool,
    pub(crate) delete_on_termination: bool,
    pub(crate) tags: Tags,
    /// Whether it still exists.
    pub(crate) exists: bool,
}

/// A virtual network.
#[derive(Debug, Clone)]
pub(crate) struct Vpc {
    pub(crate) id: String,
    pub(crate) region: &'static str,
    pub(crate) is_default: bool,
    pub(crate) cidr: String,
    pub(crate) tags: Tags,
}

/// A subnet.
#[derive(Debug, Clone)]
pub(crate) struct Subnet {
    pub(crate) id: String,
    pub(crate) vpc: String,
    pub(crate) region: &'static str,
    pub(crate) zone: String,
    pub(crate) cidr: String,
    pub(crate) is_default: bool,
    pub(crate) public_addresses: bool,
    pub(crate) tags: Tags,
    /// The last address that was given out.
    pub(crate) last_host: u8,
}

/// One direction's permission of a security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) protocol: String,
    /// `None` for all protocols.
    pub(crate) ports: Option<(i32, i32)>,
    pub(crate) peer: Peer,
    pub(crate) description: Option<String>,
    pub(crate) rule: String,
}

impl Permission {
    pub(crate) fn new(
        protocol: &str,
        ports: Option<(i32, i32)>,
        peer: Peer,
        description: Option<String>,
    ) -> Self {
        Permission {
            protocol: protocol.into(),
            ports,
            peer,
            description,
            rule: new_id("sgr-"),
        }
    }

    /// Whether it permits the same, whatever its description.
    pub(crate) fn equals(&self, other: &Permission) -> bool {
        self.protocol == other.protocol && self.ports == other.ports && self.peer == other.peer
    }
}

/// The other side of a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    V4(String),
    V6(String),
    Group(String),
}

impl Peer {
    pub(crate) fn text(&self) -> &str {
        match self {
            Peer::V4(text) | Peer::V6(text) | Peer::Group(text) => text,
        }
    }
}

/// A security group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) vpc: String,
    pub(crate) region: &'static str,
    pub(crate) ingress: Vec<Permission>,
    pub(crate) egress: Vec<Permission>,
    pub(crate) tags: Tags,
    pub(crate) visible_at: Instant,
}

impl Group {
    pub(crate) fn new(
        region: &'static str,
        vpc: &str,
        name: &str,
        description: &str,
        delay: Duration,
    ) -> Self {
        Group {
            id: new_id("sg-"),
            name: name.into(),
            description: description.into(),
            vpc: vpc.into(),
            region,
            ingress: Vec::new(),
            egress: vec![Permission::new(
                "-1",
                None,
                Peer::V4("0.0.0.0/0".into()),
                None,
            )],
            tags: Tags::new(),
            visible_at: Instant::now() + delay,
        }
    }

    pub(crate) fn is_visible(&self) -> bool {
        Instant::now() >= self.visible_at
    }
}

/// A rule that refuses capacity.
#[derive(Debug, Clone)]
pub(crate) struct Shortage {
    pub(crate) zone: Option<String>,
    pub(crate) instance_type: Option<String>,
    pub(crate) spot: Option<bool>,
    pub(crate) code: String,
}

impl Shortage {
    pub(crate) fn hits(&self, zone: &str, instance_type: &str, spot: bool) -> bool {
        self.zone.as_deref().is_none_or(|wanted| wanted == zone)
            && self
                .instance_type
                .as_deref()
                .is_none_or(|wanted| wanted == instance_type)
            && self.spot.is_none_or(|wanted| wanted == spot)
    }
}

/// A RunInstances call that had a client token.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    pub(crate) region: &'static str,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) reservation: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// In the order of their making.
    pub(crate) instances: Vec<Instance>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) vpcs: Vec<Vpc>,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) groups: Vec<Group>,
    /// By region and name.
    pub(crate) key_pairs: BTreeMap<(String, String), String>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) shortages: Vec<Shortage>,
    /// By client token.
    pub(crate) tokens: BTreeMap<String, Remembered>,
}

impl State {
    /// A default VPC with a subnet per zone in each region, and beside it a network that somebody
    /// made, without public addresses.
    pub(crate) fn new() -> Self {
        let mut state = State::default();
        for region in REGIONS {
            let zones = region.zones();
            let default = state.add_vpc(region, true, "172.31.0.0/16");
            for (number, zone) in zones.iter().enumerate() {
                let cidr = format!("172.31.{}.0/20", number * 16);
                state.add_subnet(region, &default, zone, &cidr, true);
            }
            let own = state.add_vpc(region, false, "10.20.0.0/16");
            state.add_subnet(region, &own, &zones[0], "10.20.1.0/24", false);
        }
        for name in ["dvc-s3-access", "ci-runner"] {
            state.add_profile(name);
        }
        state
    }

    pub(crate) fn add_profile(&mut self, name: &str) {
        self.profiles.push(Profile {
            name: name.into(),
            id: format!("AIPA{}", clock::random_of(clock::CAPITALS, 17)),
        });
    }

    fn add_vpc(&mut self, region: &'static Region, is_default: bool, cidr: &str) -> String {
        let id = new_id("vpc-");
        self.vpcs.push(Vpc {
            id: id.clone(),
            region: region.name,
            is_default,
            cidr: cidr.into(),
            tags: Tags::new(),
        });
        let mut group = Group::new(
            region.name,
            &id,
            "default",
            "default VPC security group",
            Duration::ZERO,
        );
        let itself = Peer::Group(group.id.clone());
        group
            .ingress
            .push(Permission::new("-1", None, itself, None));
        self.groups.push(group);
        id
    }

    fn add_subnet(
        &mut self,
        region: &'static Region,
        vpc: &str,
        zone: &str,
        cidr: &str,
        is_default: bool,
    ) {
        self.subnets.push(Subnet {
            id: new_id("subnet-"),
            vpc: vpc.into(),
            region: region.name,
            zone: zone.into(),
            cidr: cidr.into(),
            is_default,
            public_addresses: is_default,
            tags: Tags::new(),
            last_host: 9,
        });
    }

    pub(crate) fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    pub(crate) fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    /// The existing volumes of an instance.
    pub(crate) fn volumes_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Volume> {
        self.volumes
            .iter()
            .filter(move |volume| volume.instance == id && volume.exists)
    }
}
