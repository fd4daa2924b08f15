//! What is to be launched: validated, neutral to provider and forge, no I/O.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::secret::{Secret, exposed};

/// A whole launch, every value checked.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    /// The runner's name.
    pub name: String,
    /// The runner's labels, at least one.
    pub labels: Vec<String>,
    /// How long the runner waits for a job; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// Whether an interrupted job's run is run again.
    pub retry: bool,
    /// Whether the runner ends after one job.
    pub single: bool,
    /// Whether an existing runner will do.
    pub reuse: Reuse,
    /// Where the instance comes from; `None`: the runner runs here.
    pub instance: Option<InstanceSpec>,
    /// The forge and the access to it.
    pub forge: ForgeSpec,
    /// How long the runner may take to be ready.
    pub timeout: Duration,
    /// The local runner's folder; a default below the home folder when `None`.
    pub workdir: Option<PathBuf>,
    /// How GitLab's jobs run in containers.
    pub docker: Docker,
    /// The version of the CI's runner program; the forge's choice when `None`.
    pub runner_version: Option<String>,
    /// Whether only to say what would be made.
    pub dry_run: bool,
}

/// How jobs run in containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// The image of jobs that name none.
    pub image: String,
    /// Volumes, as `host:container`.
    pub volumes: Vec<String>,
    /// The image of GitLab's helper, where it isn't to come from GitLab's registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper_image: Option<String>,
}

/// Which existing runner makes a new one unnecessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// None.
    Never,
    /// An online one with every label, busy or not; or one of the same name.
    Any,
    /// An online one with every label that isn't busy.
    Idle,
}

/// The clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Amazon EC2.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Compute Engine.
    Gcp,
    /// Any Kubernetes cluster.
    Kubernetes,
}

impl Provider {
    /// The name as in `--cloud`.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Aws => "aws",
            Provider::Azure => "azure",
            Provider::Gcp => "gcp",
            Provider::Kubernetes => "kubernetes",
        }
    }
}

/// The forges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// github.com or GitHub Enterprise Server.
    Github,
    /// gitlab.com or a self-managed GitLab.
    Gitlab,
}

impl Driver {
    /// The name as in `--driver`.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Github => "github",
            Driver::Gitlab => "gitlab",
        }
    }
}

/// The instance wanted, in the user's words; each cloud translates them.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// Which cloud.
    pub provider: Provider,
    /// Size aliases or native types, tried in order, at least one.
    pub types: Vec<String>,
    /// The GPU model; `None` where none was named.
    pub gpu: Option<Gpu>,
    /// The disk's least size in GB; `None`: the default, or the image's if larger.
    pub disk_gb: Option<u32>,
    /// Spot (preemptible), with an optional price.
    pub spot: Option<Spot>,
    /// Region aliases, native regions or zones, tried in order, at least one.
    pub regions: Vec<String>,
    /// What the instance itself may do in the cloud.
    pub permission_set: Option<String>,
    /// Tags the user wants on everything made.
    pub metadata: Vec<(String, String)>,
    /// A shell script to run before the runner becomes available.
    pub startup_script: Option<Vec<u8>>,
    /// SSH access, where wanted.
    pub ssh: Option<Ssh>,
    /// The image; each cloud's default when `None`.
    pub image: Option<String>,
    /// Azure: whether an instance that can't delete itself will do, though it goes on costing when it
    /// is off.
    pub keep_until_stopped: bool,
    /// AWS: a security group's id or name.
    pub aws_security_group: Option<String>,
    /// AWS: a subnet's id.
    pub aws_subnet: Option<String>,
    /// The image in which the forge's runner program is at home, for clouds that run containers.
    pub runner_image: String,
    /// Kubernetes: labels that the node must have; `None`: the GPU's model, where there is one.
    pub kubernetes_node_selector: Option<Vec<(String, String)>>,
    /// Kubernetes: whether the pod may do what root on its node may do.
    pub kubernetes_privileged: bool,
    /// Kubernetes: what the user's template adds to the pod, as YAML or JSON.
    pub kubernetes_pod_template: Option<String>,
}

/// `--cloud-gpu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpu {
    /// Explicitly none.
    None,
    /// A model, as an alias (`v100`) or in the cloud's own words.
    Model(String),
}

/// Spot terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The most to pay, in USD per hour, as the user wrote it; `None`: the current price.
    pub max_price: Option<String>,
    /// Whether to take an on-demand instance where no spot capacity is left.
    pub fallback: bool,
}

/// SSH access to the instance.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The public key that may log in, in OpenSSH's one-line form.
    pub authorized_key: Option<String>,
    /// The networks that may connect.
    pub cidrs: Vec<Cidr>,
}

/// A network in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The network's address.
    pub address: IpAddr,
    /// The length of its prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// Every network.
    pub fn anywhere() -> Vec<Self> {
        [
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        ]
        .map(|address| Self { address, prefix: 0 })
        .to_vec()
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("`{text}` is not a network such as 203.0.113.0/24"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            "" => longest,
            prefix => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= longest)
                .ok_or(format!("the prefix of `{text}` must be 0 to {longest}"))?,
        };
        Ok(Self { address, prefix })
    }
}

/// The forge and the access to it. Written out, it holds the access: for the agent's own file only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForgeSpec {
    /// Which forge.
    pub driver: Driver,
    /// The API's base address, without a slash at its end.
    pub api: Url,
    /// The address that people see, and that runners register at.
    pub target_url: Url,
    /// What the runner serves.
    pub target: Target,
    /// How we prove who we are.
    pub access: Access,
    /// The GitLab job that launches: an interrupted job of its pipeline needs it run again, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<u64>,
}

/// What a runner serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A repository: its path, such as `owner/name`. At GitLab it may be a sub-group: its path
    /// doesn't tell.
    Repository(String),
    /// An organisation (GitHub) or group (GitLab).
    Organization(String),
}

impl Access {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        matches!(self, Access::None)
    }

    /// The secret in it.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Access::None => None,
            Access::Token(secret) | Access::App { key: secret, .. } => Some(secret),
        }
    }
}

impl Target {
    /// The path as in the forge's addresses.
    pub fn path(&self) -> &str {
        match self {
            Target::Repository(path) | Target::Organization(path) => path,
        }
    }
}

/// Access to a forge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// None: the agent of a runner that never has to ask the forge for anything.
    None,
    /// An access token.
    Token(#[serde(with = "exposed::always")] Secret),
    /// A GitHub App.
    App {
        /// The App's id, or its client id.
        id: String,
        /// Its private key, PEM.
        #[serde(with = "exposed::always")]
        key: Secret,
        /// Its installation; found by the target when `None`.
        installation: Option<u64>,
    },
}

#[cfg(test)]
impl InstanceSpec {
    /// What a launch without further options asks of a cloud.
    pub(crate) fn example(provider: Provider) -> Self {
        Self {
            provider,
            types: vec!["m".into()],
            gpu: None,
            disk_gb: None,
            spot: None,
            regions: vec!["us-west".into()],
            permission_set: None,
            metadata: Vec::new(),
            startup_script: None,
            ssh: None,
            image: None,
            keep_until_stopped: false,
            aws_security_group: None,
            aws_subnet: None,
            runner_image: "registry.example/runner:1".into(),
            kubernetes_node_selector: None,
            kubernetes_privileged: false,
            kubernetes_pod_template: None,
        }
    }
}

#[cfg(test)]
impl ForgeSpec {
    /// A repository's, for tests that don't care which.
    pub(crate) fn example() -> Self {
        Self {
            driver: Driver::Github,
            api: Url::parse("https://api.example.com").unwrap(),
            target_url: Url::parse("https://example.com/o/r").unwrap(),
            target: Target::Repository("o/r".into()),
            access: Access::Token(Secret::new("tokentoken")),
            launcher: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_strictly() {
        let ok = ["0.0.0.0/0", "203.0.113.7/32", "::/0"];
        for text in ok {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert_eq!(
            "10.0.0.1".parse::<Cidr>().unwrap().to_string(),
            "10.0.0.1/32"
        );
        for text in ["", "10.0.0.0/33", "10.0.0/8", "a/b", "::/129"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
