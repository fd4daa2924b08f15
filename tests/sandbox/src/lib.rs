//! Loopback fakes of the clouds and forges that runner-launch talks to, for tests and for people.
//!
//! They keep state, refuse what the real services refuse, answer in their formats, add latency and
//! inject faults on request. An instance is a local process tree in a temporary folder which
//! executes the real user data.

mod azure;
mod calls;
mod clock;
mod downloads;
mod ec2;
mod entra;
mod fault;
mod gce;
mod github;
mod gitlab;
mod google;
mod imds;
mod instance;
mod jwt;
mod kubernetes;
mod oidc;
mod runner_program;
mod server;
mod sigv4;
mod sts;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedSender;

pub use crate::azure::*;
pub use crate::calls::{Call, Caller, Event};
pub use crate::downloads::*;
pub use crate::ec2::*;
pub use crate::entra::FederatedToken;
pub use crate::fault::{FaultKind, Hold};
pub use crate::gce::*;
pub use crate::github::*;
pub use crate::gitlab::*;
pub use crate::instance::Process;
pub use crate::kubernetes::*;

use crate::calls::{Wire, lock};
use crate::entra::Entra;
use crate::google::Google;
use crate::imds::{ContainerCredentials, HostMetadata};
use crate::oidc::Issuer;

/// How a sandbox behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The program that instances download as the agent.
    pub agent_binary: PathBuf,
    /// What every call over the (imagined) network takes.
    pub latency: Duration,
    /// From RunInstances to `running`, from instances.insert to `RUNNING`, from a virtual machine's
    /// PUT to its end.
    pub boot_delay: Duration,
    /// How long a new network of Google Cloud takes until instances can be made in it.
    pub network_delay: Duration,
    /// How long a new instance or group is not found yet.
    pub visibility_delay: Duration,
    /// How long a new role assignment of Azure's doesn't count yet.
    pub role_delay: Duration,
    /// From the call that ends an instance to its end, besides what its processes need.
    pub shutdown_delay: Duration,
    /// The time between a spot interruption notice (a preemption notice) and the interruption.
    pub spot_notice: Duration,
    /// Whether the image brings Docker and git.
    pub docker_installed: bool,
    /// Whether the temporary folder stays.
    pub keep: bool,
    /// The folder where all bodies of requests are written that Azure has taken, with their types.
    pub bodies: Option<PathBuf>,
    /// Where events go as they happen.
    pub verbose_sink: Option<UnboundedSender<Event>>,
}

impl Config {
    /// No latency, instant boot, 150 ms until a new instance is found.
    #[expect(
        clippy::disallowed_methods,
        reason = "the variables of the sandbox itself, for a person who debugs a test and for checks \
                  of what the tests have sent"
    )]
    pub fn new(agent_binary: impl Into<PathBuf>) -> Self {
        Config {
            agent_binary: agent_binary.into(),
            latency: Duration::ZERO,
            boot_delay: Duration::from_millis(50),
            network_delay: Duration::from_millis(50),
            visibility_delay: Duration::from_millis(150),
            role_delay: Duration::from_millis(300),
            shutdown_delay: Duration::from_millis(50),
            spot_notice: Duration::from_secs(2),
            docker_installed: true,
            keep: std::env::var_os("SANDBOX_KEEP").is_some(),
            bodies: std::env::var_os("SANDBOX_BODIES").map(PathBuf::from),
            verbose_sink: None,
        }
    }
}

/// All fakes, running. Dropping it ends every instance's processes.
#[derive(Debug)]
pub struct Sandbox {
    wire: Arc<Wire>,
    ec2: Ec2,
    google: Google,
    gce: Gce,
    azure: Azure,
    kubernetes: Kubernetes,
    github: GitHub,
    gitlab: GitLab,
    downloads: Downloads,
    metadata: HostMetadata,
    container: ContainerCredentials,
    root: Root,
}

/// The temporary folder; removed last, when no process writes into it any more.
#[derive(Debug)]
struct Root {
    folder: Option<TempDir>,
    path: PathBuf,
    keep: bool,
}

impl Root {
    fn new(keep: bool) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandbox-").tempdir()?;
        // Instances' unprivileged users must get through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let path = folder.path().canonicalize()?;
        std::fs::create_dir_all(path.join("home"))?;
        Ok(Root {
            folder: Some(folder),
            path,
            keep,
        })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        instance::reap::kill_all(&self.path);
        if let Some(folder) = self.folder.take()
            && self.keep
        {
            let _ = folder.keep();
        }
    }
}

impl Sandbox {
    /// Starts everything.
    ///
    /// # Errors
    /// When a port or a folder can't be had.
    pub async fn start(config: Config) -> io::Result<Sandbox> {
        let wire = Arc::new(Wire::new(config.latency, config.verbose_sink.clone()));
        let root = Root::new(config.keep)?;
        instance::reap::adopt_orphans(&root.path);
        let downloads = Downloads::start(wire.clone(), &config).await?;
        let github = GitHub::start(wire.clone(), &config, &downloads).await?;
        let gitlab = GitLab::start(wire.clone()).await?;
        let ec2 = Ec2::start(wire.clone(), &config, &root.path).await?;
        let home = root.path.join("home");
        let issuer = Issuer::start(wire.clone()).await?;
        let google = Google::start(wire.clone(), &home, issuer.clone()).await?;
        let gce = Gce::start(wire.clone(), &config, &root.path, google.identity()).await?;
        let entra = Entra::start(wire.clone(), &config, &home, issuer).await?;
        let azure = Azure::start(wire.clone(), &config, &root.path, entra).await?;
        let kubernetes = Kubernetes::start(wire.clone(), &config, &root.path, &home).await?;
        let metadata = HostMetadata::start(wire.clone(), ec2.accounts()).await?;
        let container = ContainerCredentials::start(wire.clone(), ec2.accounts()).await?;
        Ok(Sandbox {
            wire,
            ec2,
            google,
            gce,
            azure,
            kubernetes,
            github,
            gitlab,
            downloads,
            metadata,
            container,
            root,
        })
    }

    /// The environment that points the real program at the fakes, with GitHub as the forge.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_with(self.github.env())
    }

    /// The same with GitLab as the forge.
    pub fn gitlab_env(&self) -> Vec<(String, String)> {
        let mut forge = self.gitlab.env();
        forge.extend(self.downloads.gitlab_env());
        self.env_with(forge)
    }

    fn env_with(&self, forge: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut env = self.ec2.env();
        env.push((
            "AWS_EC2_METADATA_SERVICE_ENDPOINT".into(),
            self.metadata.url(),
        ));
        env.extend(self.gce.env());
        env.push((
            "GOOGLE_APPLICATION_CREDENTIALS_DATA".into(),
            self.google.identity().service_account_key(),
        ));
        env.push(("GCE_METADATA_HOST".into(), self.google.metadata().host()));
        env.extend(self.azure.env());
        env.extend(self.kubernetes.env());
        env.extend(forge);
        env.extend(self.downloads.env());
        env.push(("HOME".into(), self.home().display().to_string()));
        env
    }

    /// The folder given as `HOME`.
    pub fn home(&self) -> PathBuf {
        self.root.path.join("home")
    }

    /// The folder with everything in it: `home`, and one folder per instance.
    pub fn folder(&self) -> &Path {
        &self.root.path
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.wire.calls()
    }

    /// Makes calls go wrong: the `nth` (1-based, counted from now; `None`: each) whose name is
    /// `call`. `*` in `call` stands for anything; `host:` or `instance:` before it narrows it to
    /// such callers.
    pub fn fault(&self, call: &str, nth: Option<usize>, kind: FaultKind) {
        lock(&self.wire.rules).fault(call, nth, kind);
    }

    /// Takes back all faults and holds.
    pub fn clear_faults(&self) {
        lock(&self.wire.rules).clear();
    }

    /// Holds back the answer to the `nth` such call: it is done, but the caller doesn't know.
    pub fn hold(&self, call: &str, nth: usize) -> Hold {
        lock(&self.wire.rules).hold(call, nth, false)
    }

    /// Holds back the `nth` such call before it is done.
    pub fn hold_before(&self, call: &str, nth: usize) -> Hold {
        lock(&self.wire.rules).hold(call, nth, true)
    }

    /// What every call takes from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.wire.set_latency(latency);
    }

    /// EC2's state.
    pub fn ec2(&self) -> Ec2 {
        self.ec2.clone()
    }

    /// Compute Engine's state, and Google's accounts.
    pub fn gce(&self) -> Gce {
        self.gce.clone()
    }

    /// Azure's state, and the tenant's.
    pub fn azure(&self) -> Azure {
        self.azure.clone()
    }

    /// The cluster's state, and its users.
    pub fn kubernetes(&self) -> Kubernetes {
        self.kubernetes.clone()
    }

    /// GitHub's state.
    pub fn github(&self) -> GitHub {
        self.github.clone()
    }

    /// GitLab's state.
    pub fn gitlab(&self) -> GitLab {
        self.gitlab.clone()
    }

    /// Where GitLab's runner program is downloaded from: below it lie `VERSION/binaries/…` and
    /// `VERSION/release.sha256`, as at <https://docs.gitlab.com/runner/install/bleeding-edge/>.
    pub fn gitlab_runner_downloads(&self) -> String {
        self.downloads.gitlab_runners()
    }

    /// Every secret configured or handed out so far.
    pub fn secrets(&self) -> Vec<String> {
        self.wire.secrets()
    }

    /// Every argument list seen so far of the processes of the sandbox's trees: the instances', and
    /// those that were started with the sandbox's environment. Its words are joined by spaces.
    pub fn argument_lists(&self) -> Vec<String> {
        instance::watch::argument_lists(&self.root.path)
    }

    /// Makes the host an EC2 instance with a role, as its metadata service tells it; the answer is
    /// the role's name. Without it the service answers 404.
    pub fn enable_host_metadata(&self) -> String {
        self.metadata.enable()
    }

    /// The environment of a container with a task role, instead of a key pair.
    pub fn container_credentials(&self) -> Vec<(String, String)> {
        self.container.env()
    }

    /// Ends every instance's processes and everything else, and tells what had been left: instances
    /// not terminated or deleted, Jobs, pods and Secrets, volumes, groups other than shared ones, runner records, live
    /// processes.
    pub async fn shutdown(self) -> Vec<String> {
        let mut leaks = self.ec2.leaks();
        leaks.extend(self.gce.leaks());
        leaks.extend(self.azure.leaks());
        leaks.extend(self.kubernetes.leaks());
        leaks.extend(self.github.leaks());
        leaks.extend(self.gitlab.leaks());
        tokio::join!(
            self.ec2.stop_all(),
            self.gce.stop_all(),
            self.azure.stop_all(),
            self.kubernetes.stop_all()
        );
        leaks
    }
}
