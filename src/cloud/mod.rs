//! The seam to the clouds. Forges are unknown here.

mod asked;
pub mod aws;
pub mod azure;
pub mod gcp;
pub mod kubernetes;
mod names;
#[cfg(test)]
mod scripted;
mod sizes;
mod told;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::Result;
use crate::host::Host;
use crate::http::Http;
use crate::spec::{InstanceSpec, Provider};

/// The tag by which everything this program makes is known.
pub const TAG_OWNER: &str = "runner-launch";
/// The tag that holds one launch's [`Order::launch_id`].
pub const TAG_LAUNCH: &str = "runner-launch-id";
/// The tag that holds the address of what the runner serves.
pub const TAG_SERVES: &str = "runner-launch-serves";

/// A processor architecture, in the words of `uname -m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Aarch64,
}

impl Arch {
    /// Both.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The name that `uname -m` prints.
    pub fn uname(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// This program's own.
    pub fn own() -> Self {
        if cfg!(target_arch = "aarch64") {
            Arch::Aarch64
        } else {
            Arch::X86_64
        }
    }
}

/// One way to get the instance: what would be asked of the cloud. Shown by `--dry-run`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The native region.
    pub region: String,
    /// The native zone, where one is fixed.
    pub zone: Option<String>,
    /// The native type.
    pub instance_type: String,
    /// Its architecture.
    pub arch: Arch,
    /// The image's id.
    pub image: String,
    /// The image's name, where known.
    pub image_name: Option<String>,
    /// The disk's size in GB.
    pub disk_gb: u32,
    /// Whether the capacity is spot.
    pub spot: bool,
    /// The subnet or network.
    pub network: Option<String>,
    /// The security group, or the tag of its firewall rule; on AWS, `None`: to be made.
    pub security_group: Option<String>,
}

/// What to make, beside what the plan knows.
#[derive(Debug, Clone)]
pub struct Order {
    /// The runner's name, and the instance's.
    pub name: String,
    /// The address of the repository or organisation that the runner serves.
    pub serves: String,
    /// Random, unique to this launch: the base of idempotency keys, and a tag.
    pub launch_id: String,
    /// The user data, plain.
    pub user_data: Vec<u8>,
    /// How long the launch may take, for clouds that can end by themselves what isn't ready by then.
    pub timeout: Duration,
    /// Set when the launch is being given up: no further try may begin.
    pub stop: StopFlag,
}

#[cfg(test)]
impl Order {
    /// A launch's, for tests that don't care which.
    pub(crate) fn example() -> Self {
        Self {
            name: "cml-x".into(),
            serves: "https://github.com/org/repo".into(),
            launch_id: "0a1b2c3d4e5f6g7h8i9j".into(),
            user_data: b"#!/bin/sh\n".to_vec(),
            timeout: Duration::from_secs(600),
            stop: StopFlag::default(),
        }
    }
}

/// Says to a running creation that the launch is being given up.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<std::sync::atomic::AtomicBool>);

impl StopFlag {
    /// Raises the flag.
    pub fn raise(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// What identifies an instance to its cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRef {
    /// The cloud's id.
    pub id: String,
    /// The native region.
    pub region: String,
}

/// An instance as its cloud describes it.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its identity.
    pub reference: InstanceRef,
    /// The name we gave it.
    pub name: Option<String>,
    /// Whether it carries this program's tags.
    pub is_ours: bool,
    /// The address of what its runner serves, where this call knows.
    pub serves: Option<String>,
    /// What it is doing.
    pub state: InstanceState,
    /// Its zone.
    pub zone: Option<String>,
    /// Its native type.
    pub instance_type: String,
    /// Its public address, or its private one where it has no other.
    pub ip: Option<String>,
    /// Whether it is spot.
    pub spot: bool,
    /// When it was launched.
    pub launch_time: Option<Timestamp>,
    /// The image's id.
    pub image: String,
    /// Its disk in GB, where this call knows.
    pub disk_gb: Option<u32>,
    /// The security group, where this call knows.
    pub security_group: Option<String>,
    /// The subnet, where this call knows.
    pub subnet: Option<String>,
    /// Why the cloud ended it, in the cloud's words.
    pub reason: Option<String>,
}

impl Instance {
    /// Whether it is on its way out, or out.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, InstanceState::Ending | InstanceState::Gone)
    }
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// On its way up.
    Pending,
    /// Up.
    Running,
    /// On its way down: it costs nothing any more, and nothing brings it back.
    Ending,
    /// Stopped, but still there.
    Stopped,
    /// No more.
    Gone,
}

impl InstanceState {
    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::Ending => "ending",
            InstanceState::Stopped => "stopped",
            InstanceState::Gone => "gone",
        }
    }
}

/// A cloud.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// Reads, all at once, what a launch depends on. Changes nothing.
    async fn look(&self, spec: &InstanceSpec) -> Result<Arc<dyn Plan>>;

    /// An instance's present state; `None` while (or once) the cloud doesn't know it.
    async fn inspect(&self, instance: &InstanceRef) -> Result<Option<Instance>>;

    /// What the instance wrote on its console, as far back as the cloud keeps it; `None` where there is none, or it may
    /// not be read.
    async fn console(&self, instance: &InstanceRef) -> Result<Option<String>>;

    /// Destroys an instance and all that came with it. Idempotent: gone is success.
    async fn destroy(&self, instance: &InstanceRef) -> Result<()>;

    /// Waits until there may be news of the instance, but no longer than `at_most`. A cloud that
    /// tells of changes by itself is listened to.
    async fn news(&self, _instance: &InstanceRef, at_most: Duration) {
        tokio::time::sleep(at_most).await;
    }

    /// The runner is ready for jobs: takes back what would end an instance that isn't. Idempotent.
    async fn settle(&self, _instance: &InstanceRef) -> Result<()> {
        Ok(())
    }

    /// Instances that this program made, by tag, in any state but gone: those of one launch, or
    /// all.
    async fn list(&self, region: &str, launch_id: Option<&str>) -> Result<Vec<Instance>>;
}

/// What a look found: everything needed to create.
#[async_trait]
pub trait Plan: Send + Sync {
    /// The ways to try, in order; never empty.
    fn candidates(&self) -> &[Candidate];

    /// Notes for the user: deprecated names, tolerated refusals.
    fn warnings(&self) -> &[String];

    /// The native regions in which [`Plan::create`] may have made something.
    fn regions(&self) -> Vec<String>;

    /// The most bytes of user data that the cloud takes.
    fn user_data_limit(&self) -> usize;

    /// What the instance must know of its cloud.
    fn machine(&self) -> MachineSide;

    /// Makes one instance, trying the candidates in order. Idempotent by the order's id: the same
    /// order never makes two.
    async fn create(&self, order: &Order) -> Result<Instance>;
}

/// A cloud as its instances see it.
#[derive(Debug, Clone)]
pub struct MachineSide {
    /// What is made for the runner to live in.
    pub setting: Setting,
    /// How the agent hears of its machine's end.
    pub notices: Option<NoticeSource>,
    /// How the agent ends its machine.
    pub give_back: GiveBack,
    /// The same as a POSIX shell script, for when there is no agent to do it; empty where powering
    /// off is enough.
    pub farewell: String,
    /// What of the metadata service is closed to jobs.
    pub closed: ClosedMetadata,
}

/// What a cloud makes for a runner to live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// A machine of its own, with a service manager.
    Machine,
    /// A pod, whose main process is the bootstrap script.
    Pod,
}

/// What of the metadata service at 169.254.169.254 only root may read: the user data holds secrets,
/// and so may the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedMetadata {
    /// Requests that contain one of these words, each of shell-safe characters.
    Paths(&'static [&'static str]),
    /// All of it.
    All,
}

impl ClosedMetadata {
    /// The bootstrap script's form of it: words, or `*`.
    pub fn words(self) -> String {
        match self {
            ClosedMetadata::Paths(paths) => paths.join(" "),
            ClosedMetadata::All => "*".to_owned(),
        }
    }
}

/// What ends an instance's bill; part of the agent's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GiveBack {
    /// A machine that is off is deleted by its cloud.
    #[default]
    PowerOff,
    /// Resource Manager deletes the machine with its group.
    Azure(Box<azure::give_back::Own>),
    /// Compute Engine deletes a machine that asks for it, and only stops one that is off.
    Gcp {
        /// Where Compute Engine is.
        api: Url,
    },
    /// A pod ends with its main process: nobody is to be asked, and nothing to be turned off.
    Pod,
}

impl GiveBack {
    /// Whether a machine that is off costs as much as one that is on, and there is a way to have it
    /// deleted.
    pub fn costs_when_off(&self) -> bool {
        match self {
            GiveBack::PowerOff | GiveBack::Gcp { .. } | GiveBack::Pod => false,
            GiveBack::Azure(own) => own.who != azure::give_back::Who::Nobody,
        }
    }
}

/// Asks the cloud to delete this very machine. `false`: there is nobody to ask, or the machine may
/// not; powering it off is all that is left to do.
pub async fn give_back(how: &GiveBack, host: &Host, http: &Http) -> Result<bool> {
    match how {
        GiveBack::PowerOff => Ok(false),
        GiveBack::Pod => Ok(true),
        GiveBack::Azure(own) => azure::give_back::delete_itself(own, host, http).await,
        GiveBack::Gcp { api } => gcp::give_back::delete_itself(api, host, http).await,
    }
}

/// How an instance's agent hears of its machine's end; part of the agent's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeSource {
    /// EC2's instance metadata.
    Aws,
    /// Azure's scheduled events.
    Azure,
    /// Compute Engine's metadata server.
    Gcp,
    /// The kubelet, which sends a SIGTERM to a pod's main process before it ends the pod.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow>
    Pod,
}

/// An announcement by the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The machine will be taken away this soon.
    Interruption {
        /// What the cloud said.
        detail: String,
    },
    /// The machine is likelier to be taken away than others, or will be, but not yet.
    Rebalance {
        /// What the cloud said.
        detail: String,
    },
}

/// Waits for the cloud's next announcement, for ever if need be.
pub async fn next_notice(
    source: NoticeSource,
    host: &Host,
    http: &Http,
    rebalance_seen: bool,
) -> Notice {
    match source {
        NoticeSource::Aws => aws::metadata::next_notice(host, http, rebalance_seen).await,
        NoticeSource::Azure => azure::metadata::next_notice(host, http, rebalance_seen).await,
        NoticeSource::Gcp => gcp::metadata::next_notice(host, http, rebalance_seen).await,
        // It comes as a signal.
        NoticeSource::Pod => std::future::pending().await,
    }
}

/// How often notices are looked for. AWS asks for five seconds.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
pub const NOTICE_INTERVAL: Duration = Duration::from_secs(5);

/// The cloud of a provider.
pub fn open(provider: Provider, host: &Host, http: &Http) -> Arc<dyn Cloud> {
    let (host, http) = (host.clone(), http.clone());
    match provider {
        Provider::Aws => Arc::new(aws::Aws::new(host, http)),
        Provider::Azure => Arc::new(azure::Azure::new(host, http)),
        Provider::Gcp => Arc::new(gcp::Gcp::new(host, http)),
        Provider::Kubernetes => Arc::new(kubernetes::Kubernetes::new(host, http)),
    }
}

/// The native region that a region, a zone or an alias stands for; or what is wrong with it.
pub fn region(provider: Provider, text: &str) -> Result<String, String> {
    match provider {
        Provider::Aws => aws::region(text),
        Provider::Azure => azure::region(text),
        Provider::Gcp => gcp::region(text),
        Provider::Kubernetes => Ok(kubernetes::region(text)),
    }
}

/// How instances are found that are somewhere else than was looked.
pub fn elsewhere(provider: Provider) -> &'static str {
    match provider {
        Provider::Aws | Provider::Azure | Provider::Gcp => "with the region in --cloud-region",
        Provider::Kubernetes => "with its own cluster and namespace in the kubeconfig",
    }
}

/// Whether a text has the form of an instance's id there.
pub fn is_id(provider: Provider, text: &str) -> bool {
    match provider {
        Provider::Aws => aws::is_id(text),
        Provider::Azure => azure::is_id(text),
        Provider::Gcp => gcp::is_id(text),
        Provider::Kubernetes => kubernetes::is_id(text),
    }
}

/// Whether an instance's id there may be its runner's name.
pub fn has_runners_names(provider: Provider) -> bool {
    provider == Provider::Kubernetes
}

/// What is wrong with a specification, as far as that can be told without asking the cloud; each
/// with its option's name.
pub fn mistakes(spec: &InstanceSpec) -> Vec<String> {
    match spec.provider {
        Provider::Aws => aws::mistakes(spec),
        Provider::Azure => azure::mistakes(spec),
        Provider::Gcp => gcp::mistakes(spec),
        Provider::Kubernetes => kubernetes::mistakes(spec),
    }
}
