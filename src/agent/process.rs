//! The runner program as a process: another user, a clean environment, a group of its own, and an
//! end that leaves nothing running.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, Uid, setgid, setgroups, setsid, setuid};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::layout::{Layout, User};
use crate::error::{Error, Result};
use crate::forge;
use crate::host::Host;

/// What a local runner's jobs keep of the environment; everything else, and with it every
/// credential, stays outside.
const KEPT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TERM",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A running program with its lines of output.
pub(super) struct Process {
    child: Child,
    group: Pid,
    /// Lines of both outputs, in the order they came.
    pub(super) lines: mpsc::Receiver<String>,
}

impl Process {
    /// Starts one of the runner program's commands.
    pub(super) fn start(
        command: &forge::Command,
        layout: &Layout,
        hook: Option<&str>,
        host: &Host,
    ) -> Result<Self> {
        let program = layout.program.join(&command.program);
        let mut child = Command::new(&program);
        child
            .args(&command.args)
            .current_dir(&layout.program)
            .env_clear()
            .envs(environment(layout.user.as_ref(), host))
            .envs(
                command
                    .env
                    .iter()
                    .map(|(name, value)| (name, value.expose())),
            )
            .envs(hook.map(|name| (name, layout.hook.as_os_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        become_user(&mut child, layout.user.clone());
        let mut child = child.spawn().map_err(|error| {
            Error::other(format!("starting {}", program.display())).caused_by(error)
        })?;
        let group = Pid::from_raw(child.id().map_or(i32::MAX, u32::cast_signed));
        if layout.user.is_some() {
            spare_no_job(group);
        }
        let (sender, lines) = mpsc::channel(256);
        if let Some(output) = child.stdout.take() {
            read_lines(output, sender.clone());
        }
        if let Some(output) = child.stderr.take() {
            read_lines(output, sender);
        }
        Ok(Self {
            child,
            group,
            lines,
        })
    }

    /// The program's own id, which is also its group's.
    pub(super) fn id(&self) -> Pid {
        self.group
    }

    /// Waits for the program's own end.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .await
            .map_err(|error| Error::other("waiting for the runner program").caused_by(error))
    }

    /// Asks the program to end, as Control-C would.
    pub(super) fn interrupt(&self) {
        // An error means that nobody is left to ask.
        let _ = killpg(self.group, Signal::SIGINT);
    }

    /// Ends the program, by force once `grace` is over, and with it whatever it started.
    pub(super) async fn end(&mut self, grace: Duration) {
        self.interrupt();
        if timeout(grace, self.ended()).await.is_err() {
            tracing::warn!("the runner program didn't end within {grace:?}; killing it");
        }
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = timeout(Duration::from_secs(5), self.ended()).await;
        kill_descendants();
    }
}

/// Waits for a command's end, within `limit`; its output goes to the log.
pub(super) async fn complete(process: &mut Process, limit: Duration) -> Result<()> {
    let mut last = Vec::new();
    let run = async {
        loop {
            tokio::select! {
                Some(line) = process.lines.recv() => {
                    tracing::debug!("{line}");
                    last.push(line);
                }
                status = process.child.wait() => {
                    while let Some(line) = process.lines.recv().await {
                        last.push(line);
                    }
                    return status;
                }
            }
        }
    };
    let outcome = timeout(limit, run).await;
    let said = || {
        let tail: Vec<&str> = last
            .iter()
            .rev()
            .take(5)
            .rev()
            .map(|line| line.trim())
            .collect();
        tail.join(" / ")
    };
    match outcome {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Error::other(format!(
            "configuring the runner program ended with {status}: {}",
            said()
        ))),
        Ok(Err(error)) => Err(Error::other("configuring the runner program").caused_by(error)),
        Err(_) => Err(Error::other(format!(
            "configuring the runner program took over {limit:?}"
        ))),
    }
}

/// What the runner program, and so every job, finds in its environment.
fn environment(user: Option<&User>, host: &Host) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    if let Some(user) = user {
        return vec![
            pair(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin",
            ),
            pair("HOME", &user.home.display().to_string()),
            pair("USER", &user.name),
            pair("LOGNAME", &user.name),
            pair("SHELL", "/bin/bash"),
            pair("LANG", "C.UTF-8"),
        ];
    }
    let mut kept = harmless_vars(host);
    if Uid::effective().is_root() {
        // Whoever starts a local runner as root wants it to run as root.
        kept.push(pair("RUNNER_ALLOW_RUNASROOT", "1"));
    }
    kept
}

/// Our own environment without what is secret in it.
pub(super) fn harmless_vars(host: &Host) -> Vec<(String, String)> {
    host.vars()
        .filter(|(name, _)| KEPT.contains(name) || name.starts_with("LC_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A session of its own, so that the group can be signalled as one, and the user with all groups.
fn become_user(command: &mut Command, user: Option<User>) {
    let change = move || {
        setsid()?;
        if let Some(user) = &user
            && Uid::effective().is_root()
        {
            setgroups(&user.groups)?;
            setgid(user.gid)?;
            setuid(user.uid)?;
        }
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "the standard library can't set supplementary groups"
    )]
    // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(change);
    }
}

/// The service manager protects the agent from the kernel's hunt for memory; jobs aren't spared.
fn spare_no_job(pid: Pid) {
    // Only root may, and only on Linux: elsewhere nothing was protected either.
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
}

fn read_lines(output: impl AsyncRead + Unpin + Send + 'static, sender: mpsc::Sender<String>) {
    tokio::spawn(async move {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while let Ok(1..) = output.read_until(b'\n', &mut line).await {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).await.is_err() {
                return;
            }
        }
    });
}

/// Takes over processes whose parents die, so that none is lost sight of.
pub(super) fn adopt_orphans() {
    // Without it, a job's stray process may outlive a local runner: not worth failing for.
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Buries the dead among the processes that were taken over: a runner may live for weeks. The
/// program's own end, which may have come by now, is waited for elsewhere.
pub(super) fn reap_orphans(program: Pid) {
    for (pid, parent, state) in processes(Path::new("/proc")) {
        if parent == Pid::this().as_raw() && state == "Z" && pid != program.as_raw() {
            let _ = nix::sys::wait::waitpid(
                Pid::from_raw(pid),
                Some(nix::sys::wait::WaitPidFlag::WNOHANG),
            );
        }
    }
}

/// Kills every process below this one: jobs may have left their group.
pub(super) fn kill_descendants() {
    for _ in 0..3 {
        let below = descendants(Path::new("/proc"), Pid::this());
        if below.is_empty() {
            return;
        }
        for pid in below {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every process: its id, its parent's, and its state's letter.
/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
fn processes(proc: &Path) -> Vec<(i32, i32, String)> {
    let read = |entry: fs::DirEntry| -> Option<(i32, i32, String)> {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name, in parentheses, may hold anything; the state and the parent follow it.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.to_owned();
        Some((pid, fields.next()?.parse().ok()?, state))
    };
    fs::read_dir(proc)
        .map(|entries| entries.flatten().filter_map(read).collect())
        .unwrap_or_default()
}

fn descendants(proc: &Path, root: Pid) -> Vec<Pid> {
    let all = processes(proc);
    let mut found = BTreeSet::from([root.as_raw()]);
    loop {
        let before = found.len();
        for (pid, parent, _) in &all {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    found.remove(&root.as_raw());
    found.into_iter().map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_keeps_no_credential() {
        let host = Host::fixed([
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("LC_ALL", "C"),
            ("REPO_TOKEN", "t"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("CML_TOKEN", "t"),
            ("RUNNER_LAUNCH_TOKEN", "t"),
            ("ACTIONS_RUNTIME_TOKEN", "t"),
        ]);
        let mut names: Vec<String> = environment(None, &host)
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        names.retain(|name| name != "RUNNER_ALLOW_RUNASROOT");
        assert_eq!(names, ["HOME", "LC_ALL", "PATH"]);
    }

    #[test]
    fn grandchildren_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, parent) in [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1)] {
            let process = folder.path().join(pid.to_string());
            fs::create_dir(&process).unwrap();
            fs::write(
                process.join("stat"),
                format!("{pid} (a ) b) S {parent} 1 1"),
            )
            .unwrap();
        }
        let found = descendants(folder.path(), Pid::from_raw(10));
        assert_eq!(found, [11, 12].map(Pid::from_raw));
    }
}
