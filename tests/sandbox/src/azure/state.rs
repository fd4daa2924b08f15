//! What exists: groups and what is in them, machines, operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::catalogue::Size;
use super::error::{ApiError, Result};
use super::images::{Image, Reference};
use super::lifecycle::Order;
use super::path::Kind;
use crate::entra::{Events, Facts, ManagedIdentity, Vm};

/// Tags by name.
pub(super) type Tags = BTreeMap<String, String>;

/// How a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupPhase {
    Live,
    Deleting,
    Gone,
}

/// A resource group, there or gone.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) location: &'static str,
    pub(super) tags: Tags,
    pub(super) phase: GroupPhase,
    /// Lists don't have it before.
    pub(super) visible_at: Instant,
    /// The operation that deletes it.
    pub(super) deletion: Option<String>,
    /// It was there before anybody called.
    pub(super) foreign: bool,
    pub(super) resources: Vec<Resource>,
}

/// A resource in a group, other than a machine.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) location: String,
    pub(super) tags: Tags,
    pub(super) sku: Option<Value>,
    pub(super) properties: Value,
    /// It is `Updating` before.
    pub(super) ready_at: Instant,
}

impl Resource {
    pub(super) fn is_ready(&self) -> bool {
        Instant::now() >= self.ready_at
    }
}

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Creating,
    Running,
    /// Off, and still paid for.
    Stopped,
    Deallocated,
    Failed,
    Deleting,
    Deleted,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Phase::Creating => "creating",
            Phase::Running => "running",
            Phase::Stopped => "stopped",
            Phase::Deallocated => "deallocated",
            Phase::Failed => "failed",
            Phase::Deleting => "deleting",
            Phase::Deleted => "deleted",
        }
    }

    /// Whether it will never run again.
    pub(super) fn is_ending(self) -> bool {
        matches!(self, Phase::Deleting | Phase::Deleted)
    }
}

/// What was asked for, checked.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) size: Size,
    pub(super) image: Image,
    pub(super) reference: Reference,
    pub(super) spot: bool,
    pub(super) max_price: Option<f64>,
    /// `Delete`, rather than `Deallocate`.
    pub(super) deleted_when_evicted: bool,
    pub(super) custom_data: Vec<u8>,
    pub(super) admin: String,
    pub(super) computer_name: String,
    pub(super) public_keys: Vec<String>,
    pub(super) disk_gb: u32,
    pub(super) disk_kind: String,
    pub(super) trusted: bool,
    pub(super) secure_boot: bool,
    pub(super) encryption_at_host: bool,
    pub(super) boot_diagnostics: bool,
    pub(super) system_identity: bool,
    /// Their ids.
    pub(super) user_identities: Vec<String>,
}

/// A machine, dead or alive.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// `properties.vmId`, and what others find it by.
    pub(super) vm_id: String,
    pub(super) group: String,
    pub(super) name: String,
    /// What its folder and its calls are known by.
    pub(super) folder: String,
    pub(super) location: &'static str,
    pub(super) tags: Tags,
    /// The body that made it.
    pub(super) body: Value,
    pub(super) wanted: Wanted,
    pub(super) phase: Phase,
    /// Why it failed.
    pub(super) failure: Option<ApiError>,
    pub(super) created: Timestamp,
    pub(super) visible_at: Instant,
    pub(super) identity: Option<ManagedIdentity>,
    pub(super) user_identities: Vec<ManagedIdentity>,
    /// The names of its interfaces, its disk, and its public addresses, with whether each goes with it.
    pub(super) parts: Vec<(Kind, String, bool)>,
    pub(super) facts: watch::Sender<Facts>,
    pub(super) events: Arc<Events>,
    pub(super) orders: UnboundedSender<Order>,
    pub(super) vm: Option<Vm>,
}

impl Machine {
    pub(super) fn id(&self) -> String {
        Kind::VirtualMachine.id(&self.group, &self.name)
    }
}

/// How an operation is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    InProgress,
    Succeeded,
    Failed(ApiError),
}

/// Something that takes its time.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// Who reads about it must be allowed to there.
    pub(super) group: String,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) outcome: Outcome,
    /// It succeeds by itself then.
    pub(super) ready_at: Option<Instant>,
}

/// A rule that refuses capacity.
#[derive(Debug, Clone)]
pub(super) struct Shortage {
    pub(super) region: Option<String>,
    pub(super) size: Option<String>,
    pub(super) spot: Option<bool>,
    pub(super) code: String,
}

impl Shortage {
    fn hits(&self, region: &str, size: &str, spot: bool) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        is(&self.region, region)
            && is(&self.size, size)
            && self.spot.is_none_or(|wanted| wanted == spot)
    }
}

/// A role assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) scope: String,
    pub(super) name: String,
    pub(super) role: String,
    pub(super) principal: String,
    pub(super) principal_type: String,
}

impl Assignment {
    pub(super) fn id(&self) -> String {
        format!(
            "{}/providers/Microsoft.Authorization/roleAssignments/{}",
            self.scope, self.name
        )
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// In the order of their making.
    pub(super) groups: Vec<Group>,
    pub(super) machines: Vec<Machine>,
    pub(super) operations: BTreeMap<String, Operation>,
    pub(super) assignments: Vec<Assignment>,
    pub(super) shortages: Vec<Shortage>,
    /// Region and size that the subscription may not have.
    pub(super) restrictions: Vec<(String, String)>,
    /// Registered features: `Microsoft.Compute/EncryptionAtHost`.
    pub(super) features: BTreeSet<String>,
    /// How often `PrincipalNotFound` is answered, whatever the directory knows.
    pub(super) principals_refused: usize,
    pub(super) retry_after: Option<u64>,
    pub(super) page_size: Option<usize>,
    /// Every body that was taken, with its type.
    pub(super) bodies: Vec<(String, Value)>,
    /// Where they are written, too.
    pub(super) recording: Option<PathBuf>,
    /// How many addresses were given out.
    pub(super) addresses: u8,
}

impl State {
    /// Keeps a body that was taken.
    pub(super) fn record(&mut self, model: &str, body: Value) {
        if let Some(path) = &self.recording {
            let line = json!({"model": model, "body": body});
            let file = OpenOptions::new().create(true).append(true).open(path);
            let written = file.and_then(|mut file| writeln!(file, "{line}"));
            // Whoever asks for it must not miss any.
            written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        self.bodies.push((model.to_owned(), body));
    }

    /// A group that is there.
    pub(super) fn group(&self, name: &str) -> Result<&Group> {
        self.groups
            .iter()
            .find(|group| group.phase != GroupPhase::Gone && group.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| ApiError::no_group(name))
    }

    pub(super) fn group_mut(&mut self, name: &str) -> Result<&mut Group> {
        self.groups
            .iter_mut()
            .find(|group| group.phase != GroupPhase::Gone && group.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| ApiError::no_group(name))
    }

    /// A group into which something may be put.
    pub(super) fn open_group(&mut self, name: &str) -> Result<&mut Group> {
        let group = self.group_mut(name)?;
        match group.phase {
            GroupPhase::Live => Ok(group),
            _ => Err(ApiError::group_is_going(&group.name)),
        }
    }

    pub(super) fn resource(&self, kind: Kind, group: &str, name: &str) -> Result<&Resource> {
        let found = self.group(group)?;
        found
            .resources
            .iter()
            .find(|resource| resource.kind == kind && resource.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| ApiError::no_resource(kind, group, name))
    }

    /// A machine that is there.
    pub(super) fn machine(&self, group: &str, name: &str) -> Result<&Machine> {
        self.group(group)?;
        self.machines
            .iter()
            .find(|machine| {
                machine.phase != Phase::Deleted
                    && machine.group.eq_ignore_ascii_case(group)
                    && machine.name.eq_ignore_ascii_case(name)
            })
            .ok_or_else(|| ApiError::no_resource(Kind::VirtualMachine, group, name))
    }

    pub(super) fn machine_mut(&mut self, vm_id: &str) -> Option<&mut Machine> {
        self.machines
            .iter_mut()
            .find(|machine| machine.vm_id == vm_id)
    }

    /// The code that refuses such a machine, if one does.
    pub(super) fn shortage(&self, region: &str, size: &str, spot: bool) -> Option<String> {
        let hit = |shortage: &&Shortage| shortage.hits(region, size, spot);
        Some(self.shortages.iter().find(hit)?.code.clone())
    }

    pub(super) fn is_restricted(&self, region: &str, size: &str) -> bool {
        self.restrictions
            .iter()
            .any(|(r, s)| r == region && s.eq_ignore_ascii_case(size))
    }
}
