//! Containers of pods as local processes: a folder that stands for the root file system, and a
//! process tree in it. What is missing compared to an instance of a cloud is what containers lack:
//! no init, no cloud-init, no metadata service.

mod base;
mod capabilities;
mod identity;
mod images;
mod mounts;
mod root;

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinHandle;

pub(crate) use self::capabilities::Capabilities;
use self::identity::Identity;
use self::images::Image;
pub(crate) use self::images::Pulled;
use crate::calls::Wire;
use crate::instance::console::{self, Console};
use crate::instance::{reap, watch};

/// The API server's address within the cluster, as kubeadm gives it out.
const SERVICE: [(&str, &str); 3] = [
    ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ("KUBERNETES_SERVICE_PORT", "443"),
    ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
];

/// What a container is made from.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The sandbox's folder.
    pub(crate) sandbox: PathBuf,
    /// The pod's name: also that of its folder, and of the caller its processes are.
    pub(crate) id: String,
    /// As in the pod.
    pub(crate) image: String,
    /// `command` and `args`; empty: the image's own.
    pub(crate) command: Vec<String>,
    /// `env`, resolved.
    pub(crate) env: Vec<(String, String)>,
    /// The files of mounted Secrets.
    pub(crate) files: Vec<MountedFile>,
    /// Where an emptyDir is mounted.
    pub(crate) folders: Vec<PathBuf>,
    /// The effective `runAsUser`; `None`: the image's user.
    pub(crate) user: Option<u32>,
    /// `runAsNonRoot`.
    pub(crate) non_root: bool,
    /// The opposite of `allowPrivilegeEscalation`.
    pub(crate) no_new_privileges: bool,
    /// Whether the host's devices are there.
    pub(crate) privileged: bool,
    /// What its processes can have of root's powers at most, where the sandbox has them itself.
    pub(crate) capabilities: Capabilities,
    /// The real program, which some image holds.
    pub(crate) agent: PathBuf,
}

/// A file of a mounted Secret.
#[derive(Debug)]
pub(crate) struct MountedFile {
    /// Where, in the container.
    pub(crate) path: PathBuf,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    /// The pod's `fsGroup`.
    pub(crate) group: Option<u32>,
}

/// A container that runs, or ran.
#[derive(Debug, Clone)]
pub(crate) struct Container(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    id: String,
    sandbox: PathBuf,
    log: Arc<Console>,
    /// What the image wants for its end.
    stop: Signal,
    /// That the main process is to get that signal. It is sent by whoever waits for the process, so
    /// that it never goes to another one with the same id.
    terminate: Notify,
    exit: channel::Sender<Option<i32>>,
}

impl Deref for Container {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Container {
    /// What the registry has under this reference, or the text of the kubelet's event, whose reason
    /// is `ErrImagePull`.
    pub(crate) fn pull(image: &str) -> Result<Pulled, String> {
        images::pull(image)
    }

    /// Makes the root file system and starts the main process.
    ///
    /// An error of the kind `InvalidInput` is the kubelet's `CreateContainerConfigError`; any other
    /// is the runtime's, which could make the container but not start it.
    pub(crate) async fn start(parts: Parts, wire: Arc<Wire>) -> io::Result<Container> {
        let image = Image::of(&parts.image);
        let identity = Identity::of(&parts, &image)?;
        if let Some((uid, _)) = identity.job_user {
            watch::user(&parts.sandbox, &parts.id, uid);
        }
        let stop = image.stop;
        let folder = parts.sandbox.join(watch::INSTANCES).join(&parts.id);
        let (sandbox, id) = (parts.sandbox.clone(), parts.id.clone());
        let log = Arc::new(Console::new(&id, wire));
        let fifo = folder.join("log");
        let owner = identity.ids();
        let command = tokio::task::spawn_blocking(move || {
            root::make(&folder, &parts, &image, &identity)?;
            command(&folder, &parts, &image, &identity)
        });
        let mut command = command.await??;
        let (reader, rest) = log.open(&fifo)?;
        let started = spawn(&mut command, &sandbox, &id, &fifo, owner);
        let (child, _) = started.inspect_err(|_| reader.abort())?;
        let container = Container(Arc::new(Inner {
            id,
            sandbox,
            log,
            stop,
            terminate: Notify::new(),
            exit: channel::Sender::new(None),
        }));
        tokio::spawn(container.clone().attend(child, reader, rest));
        Ok(container)
    }

    /// The exit code, once nothing of the container runs any more and its log is complete.
    pub(crate) async fn exited(&self) -> i32 {
        let mut exit = self.exit.subscribe();
        // The sender lives as long as the container.
        let code = exit.wait_for(Option::is_some).await;
        code.ok().and_then(|code| *code).unwrap_or(UNKNOWN)
    }

    /// Everything that its processes have printed so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Asks the main process, and no other, to end.
    pub(crate) fn terminate(&self) {
        self.terminate.notify_one();
    }

    /// Ends all of it by force; it has exited then.
    pub(crate) async fn kill(&self) {
        self.kill_members().await;
        self.exited().await;
    }

    async fn kill_members(&self) {
        watch::close_instance(&self.sandbox, &self.id);
        let container = self.clone();
        let kill = move || reap::kill_members(&container.sandbox, &container.id);
        // Only a runtime that is going away could fail this.
        let _ = tokio::task::spawn_blocking(kill).await;
    }

    /// Sees the main process to its end, and all others with it.
    async fn attend(self, mut child: Child, reader: JoinHandle<()>, rest: File) {
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = self.terminate.notified() => {
                    if let Some(pid) = child.id() {
                        reap::signal(pid.cast_signed(), self.stop);
                    }
                }
            }
        };
        self.kill_members().await;
        reader.abort();
        // It must have put down what it has read before the rest is put down.
        let _ = reader.await;
        self.log.drain(&rest);
        let code = status.map_or(UNKNOWN, exit_code);
        self.exit.send_replace(Some(code));
    }
}

/// What the kubelet tells of a container whose exit code it doesn't know.
const UNKNOWN: i32 = 137;

/// As runtimes and shells tell it.
fn exit_code(status: ExitStatus) -> i32 {
    let signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(signal).unwrap_or(UNKNOWN)
}

/// The main process's command, without its outputs.
fn command(
    folder: &Path,
    parts: &Parts,
    image: &Image,
    identity: &Identity,
) -> io::Result<Command> {
    let root = folder.join("root");
    let words = match parts.command.is_empty() {
        true => image.command.iter().map(|word| (*word).into()).collect(),
        false => parts.command.clone(),
    };
    let words = mounts::rewrite(words, &root, parts);
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command specified"))?;
    let path = root::search_path(&parts.sandbox, folder, image);
    let found = root::find(program, image, &root, &path).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            match program.contains('/') {
                true => format!("exec: \"{program}\": stat {program}: no such file or directory"),
                false => format!("exec: \"{program}\": executable file not found in $PATH"),
            },
        )
    })?;
    let mut command = Command::new(found);
    command
        .arg0(program)
        .args(arguments)
        .env_clear()
        .env("HOSTNAME", &parts.id)
        .env("HOME", below(&root, identity.home(image)))
        .envs(SERVICE)
        .envs(image.env.iter().copied())
        .envs(parts.env.iter().map(|(name, value)| (name, value)))
        .env("PATH", path)
        .env("RUNNER_LAUNCH_ROOT", &root)
        .current_dir(below(&root, image.folder))
        .stdin(Stdio::null())
        .process_group(0);
    identity.put_on(&mut command, parts);
    Ok(command)
}

/// Starts the main process with both outputs in the log.
fn spawn(
    command: &mut Command,
    sandbox: &Path,
    id: &str,
    fifo: &Path,
    owner: Option<(u32, u32)>,
) -> io::Result<(Child, i32)> {
    if let Some((uid, gid)) = owner {
        // So that the processes can open their own outputs anew, as /dev/stderr say.
        std::os::unix::fs::chown(fifo, Some(uid), Some(gid))?;
    }
    command
        .stdout(console::output(fifo)?)
        .stderr(console::output(fifo)?);
    watch::spawn(sandbox, id, command)
}

/// Where a path of the container is on the host.
fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    // Collected: joining an empty path would leave a slash at the end.
    root.join(path.strip_prefix("/").unwrap_or(path))
        .components()
        .collect()
}

#[cfg(test)]
mod tests;
