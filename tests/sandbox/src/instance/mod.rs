//! Instances as local processes: a folder that stands for the disk, a process tree that executes
//! the real user data, and scripts in place of the programs that would touch the host.

mod commands;
pub(crate) mod console;
pub(crate) mod disk;
mod init;
mod procfs;
pub(crate) mod reap;
mod reset;
mod startup;
mod unit;
pub(crate) mod watch;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::unix::pipe;
use tokio::task::AbortHandle;

use self::console::Console;
pub(crate) use self::disk::{Distribution, install_shims};
use self::init::Units;
use crate::calls::{Caller, Wire, lock};
use crate::google::Facts;

/// The first of the user ids that jobs run under when the sandbox itself is root.
const FIRST_USER: u32 = 64500;
/// How many of them there are.
const USERS: u32 = 1000;

/// A live process of an instance.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id on the host.
    pub pid: i32,
    /// Its arguments.
    pub argv: Vec<String>,
    /// Its environment, `NAME=value`.
    pub environ: Vec<String>,
}

/// Who is at the other end of a loopback connection.
pub(crate) fn caller(peer: SocketAddr) -> Caller {
    match watch::instance_behind(peer) {
        Some(instance) => Caller::Instance(instance.to_string()),
        None => Caller::Host,
    }
}

/// The live processes of one instance.
pub(crate) fn processes(sandbox: &Path, instance: &str) -> Vec<Process> {
    describe(watch::members(sandbox, Some(instance)))
}

/// The live processes that were started for the sandbox, but on none of its instances.
pub(crate) fn strays(sandbox: &Path) -> Vec<Process> {
    let mut members = watch::members(sandbox, None);
    members.retain(|member| member.instance.is_none());
    describe(members)
}

fn describe(members: Vec<watch::Member>) -> Vec<Process> {
    members
        .into_iter()
        .map(|member| Process {
            pid: member.stat.pid,
            argv: procfs::argv(member.stat.pid),
            environ: procfs::strings(&procfs::environ(member.stat.pid)),
        })
        .collect()
}

/// What a machine is made from.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The sandbox's folder.
    pub(crate) sandbox: PathBuf,
    /// The instance's id.
    pub(crate) id: String,
    /// What the image holds.
    pub(crate) distribution: Distribution,
    /// Whether the image brings Docker and git.
    pub(crate) docker_installed: bool,
    /// Whose machine it is.
    pub(crate) cloud: Cloud,
}

/// What differs between the clouds' machines.
#[derive(Debug)]
pub(crate) enum Cloud {
    /// cloud-init runs the user data, at the first boot.
    Amazon {
        /// As given to RunInstances, decoded from Base64.
        user_data: Vec<u8>,
        /// The metadata service's URL.
        metadata: String,
    },
    /// The guest agent runs the startup script, at every boot.
    Google {
        /// What the metadata server tells, the script among it.
        facts: tokio::sync::watch::Receiver<Facts>,
        /// The metadata server's host and port.
        metadata: String,
    },
    /// cloud-init runs the custom data, at the first boot.
    Azure {
        /// As given in `osProfile`, decoded from Base64.
        custom_data: Vec<u8>,
        /// The metadata service's URL.
        metadata: String,
    },
}

impl Cloud {
    /// What cloud-init is given to run; `None`: there is no cloud-init.
    fn user_data(&self) -> Option<&[u8]> {
        match self {
            Cloud::Amazon { user_data, .. } => Some(user_data),
            Cloud::Google { .. } => None,
            Cloud::Azure { custom_data, .. } => Some(custom_data),
        }
    }

    /// The variable that leads to the metadata service.
    fn variable(&self) -> (&'static str, String) {
        match self {
            Cloud::Amazon { metadata, .. } => {
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.clone())
            }
            Cloud::Google { metadata, .. } => ("GCE_METADATA_HOST", metadata.clone()),
            // The name that Microsoft's own libraries read.
            Cloud::Azure { metadata, .. } => {
                ("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata.clone())
            }
        }
    }
}

/// A machine that is on, or was.
#[derive(Debug, Clone)]
pub(crate) struct Machine(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    id: String,
    sandbox: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    console: Arc<Console>,
    console_rest: File,
    units: Mutex<Units>,
    cloud: Cloud,
    /// Whether it is off.
    off: tokio::sync::watch::Sender<bool>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Deref for Machine {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Machine {
    /// Makes the disk and starts the machine; its user data runs from now on.
    pub(crate) async fn boot(parts: Parts, wire: Arc<Wire>) -> io::Result<Machine> {
        let folder = parts.sandbox.join(watch::INSTANCES).join(&parts.id);
        let user = job_user();
        if let Some((uid, _)) = user {
            watch::user(&parts.sandbox, &parts.id, uid);
        }
        let (parts, folder, script) = tokio::task::spawn_blocking(move || {
            let script = disk::make(&folder, &parts, user)?;
            Ok::<_, io::Error>((parts, folder, script))
        })
        .await??;
        let root = folder.join("root");
        let console = Arc::new(Console::new(&parts.id, wire));
        let (reader, console_rest) = console.open(&root.join("dev/console"))?;
        let reader = reader.abort_handle();
        let doorbell = pipe::OpenOptions::new()
            .read_write(true)
            .open_receiver(folder.join("init/doorbell"))?;
        let path = disk::search_path(&parts.sandbox, &folder, parts.docker_installed);
        let environment = [
            ("RUNNER_LAUNCH_ROOT", root.display().to_string()),
            parts.cloud.variable(),
            ("HOME", root.join("root").display().to_string()),
            ("PATH", path),
        ];
        let machine = Machine(Arc::new(Inner {
            id: parts.id.clone(),
            sandbox: parts.sandbox,
            folder,
            environment: environment
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
            console,
            console_rest,
            units: Mutex::default(),
            cloud: parts.cloud,
            off: tokio::sync::watch::Sender::new(false),
            tasks: Mutex::default(),
        }));
        let init = tokio::spawn(machine.clone().serve_init(doorbell)).abort_handle();
        lock(&machine.tasks).extend([reader, init]);
        machine.console.say(&format!(
            "{} {} tty1",
            parts.distribution.pretty_name(),
            parts.id
        ));
        match (script, machine.cloud.user_data()) {
            (_, None) => machine.begin_startup_script(),
            (Some(words), _) => {
                machine.console.say("cloud-init: running the user data");
                tokio::spawn(machine.clone().run_user_data(words));
            }
            (None, Some([])) => {}
            (None, Some(_)) => machine.console.say(
                "cloud-init: WARNING: Unhandled non-multipart (text/x-not-multipart) userdata",
            ),
        }
        Ok(machine)
    }

    /// Ends when the machine is off.
    pub(crate) async fn off(&self) {
        // The sender lives as long as the machine.
        let _ = self.off.subscribe().wait_for(|off| *off).await;
    }

    /// Everything printed so far.
    pub(crate) fn console_text(&self) -> String {
        self.console.text()
    }

    /// Ends every process at once.
    pub(crate) async fn pull_plug(&self) {
        self.forbid_starts();
        lock(&self.units).leave_startup_script();
        watch::close_instance(&self.sandbox, &self.id);
        let machine = self.clone();
        let kill = move || reap::kill_members(&machine.sandbox, &machine.id);
        // Only a runtime that is going away could fail this.
        let _ = tokio::task::spawn_blocking(kill).await;
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        self.console.drain(&self.console_rest);
        self.off.send_replace(true);
    }

    async fn members(&self) -> Vec<watch::Member> {
        let machine = self.clone();
        tokio::task::spawn_blocking(move || watch::members(&machine.sandbox, Some(&machine.id)))
            .await
            .unwrap_or_default()
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn console_path(&self) -> PathBuf {
        self.root().join("dev/console")
    }
}

/// A user id and group id for jobs; `None` when the sandbox has no right to any but its own.
pub(crate) fn job_user() -> Option<(u32, u32)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    // Several programs run sandboxes at the same time; they begin at different places.
    let offset = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 37;
    let id = FIRST_USER + offset % USERS;
    Some((id, id))
}

#[cfg(test)]
mod tests;
