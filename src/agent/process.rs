//! The runner program as a process: another user, a clean environment, a group of its own, and an
//! end that leaves nothing running.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, Uid, setgid, setgroups, setsid, setuid};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::layout::Layout;
use super::procfs::{descendants, members, processes};
use super::user::User;
use crate::error::{Error, Result};
use crate::forge;
use crate::host::{Host, names};

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

/// Where an instance's programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin";

/// How the names of our own settings begin, which may hold the CI's token.
const OWN: [&str; 2] = ["RUNNER_LAUNCH_", "CML_"];

/// What of a container's environment isn't meant for jobs: the user's own, which we set; the shell's
/// notes; and what makes GitHub's runner program print its trace, with jobs' words in it, among the
/// lines that we read, or handle signals as if it were the container's main process.
/// <https://github.com/actions/runner/blob/main/images/Dockerfile>
const UNFIT: [&str; 10] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT",
    "RUNNER_MANUALLY_TRAP_SIG",
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
            .envs(environment(layout, host))
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
            let hint = hint(&error, program.exists(), layout.user.is_some());
            let error = Error::other(format!("starting {}", program.display())).caused_by(error);
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
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

/// What to do about a program that can't be started.
fn hint(error: &io::Error, is_there: bool, changes_user: bool) -> Option<&'static str> {
    if error.kind() == io::ErrorKind::NotFound && is_there {
        return Some("what it runs with is missing: GitHub's runner needs Bash and glibc");
    }
    // A file that may not be executed is EACCES: this comes of the change of the user alone.
    (changes_user && error.raw_os_error() == Some(nix::libc::EPERM)).then_some(
        "becoming the jobs' user was refused: a container needs the capabilities SETGID and SETUID \
         for that, or has to run as that user from the start",
    )
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
fn environment(layout: &Layout, host: &Host) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let Some(user) = &layout.user else {
        let mut kept = harmless_vars(host);
        if Uid::effective().is_root() {
            // Whoever starts a local runner as root wants it to run as root.
            kept.push(pair("RUNNER_ALLOW_RUNASROOT", "1"));
        }
        return kept;
    };
    let mut clean = vec![
        pair("PATH", PATH),
        pair("LANG", "C.UTF-8"),
        pair("HOME", &user.home.display().to_string()),
        pair("USER", &user.name),
        pair("LOGNAME", &user.name),
        pair("SHELL", "/bin/bash"),
    ];
    if layout.inherits {
        if !host.path("/bin/bash").exists() {
            clean.push(pair("SHELL", "/bin/sh"));
        }
        // A login shell that finds no level is on the first, on whose end Debian's `.bash_logout`
        // clears the terminal: it fails without one, and with it each job of GitLab's.
        clean.push(pair("SHLVL", "1"));
        // The PATH and the language may be among them; the user isn't.
        clean.extend(image_vars(host));
        if user.uid.is_root() {
            // Only where an image has made the jobs' user so.
            clean.push(pair("RUNNER_ALLOW_RUNASROOT", "1"));
        }
    }
    clean
}

/// Where a container's jobs find programs.
pub(super) fn image_path(host: &Host) -> &str {
    host.env("PATH").unwrap_or(PATH)
}

/// Whether a container's jobs find Bash among them.
pub(super) fn has_bash(host: &Host) -> bool {
    std::env::split_paths(image_path(host)).any(|folder| folder.join("bash").is_file())
}

/// What a container's image, and the pod's template, have set for whatever runs there.
fn image_vars(host: &Host) -> Vec<(String, String)> {
    let is_kept = |name: &str| {
        !OWN.iter().any(|own| name.starts_with(own))
            && !UNFIT.contains(&name)
            && !names::is_secret(name)
    };
    host.vars()
        .filter(|(name, _)| is_kept(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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

/// How much rather than others the kernel is to pick a job.
const JOBS_SCORE: i32 = 500;

/// The service manager protects the agent from the kernel's hunt for memory; jobs aren't spared.
fn spare_no_job(pid: Pid) {
    raise_score(Path::new(&format!("/proc/{pid}/oom_score_adj")));
}

/// In a pod all have a higher score already, and a job with a lower one would be spared at the
/// agent's cost.
/// <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior>
fn raise_score(file: &Path) {
    let score = fs::read_to_string(file).unwrap_or_default();
    if score
        .trim()
        .parse()
        .is_ok_and(|score: i32| score < JOBS_SCORE)
    {
        // Only root may, and only on Linux: elsewhere nothing was protected either.
        let _ = fs::write(file, JOBS_SCORE.to_string());
    }
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

/// Kills what is left of a program that led a session, when the agent above it is gone.
pub(super) fn kill_session(leader: i32) {
    for _ in 0..3 {
        let below = members(Path::new("/proc"), leader);
        if below.is_empty() {
            return;
        }
        for pid in below {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::agent::Place;
    use crate::spec::Driver;

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
        let place = Place::Local {
            folder: "/f".into(),
        };
        let layout = Layout::new(&place, Driver::Github, &host).unwrap();
        let mut names: Vec<String> = environment(&layout, &host)
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        names.retain(|name| name != "RUNNER_ALLOW_RUNASROOT");
        assert_eq!(names, ["HOME", "LC_ALL", "PATH"]);
    }

    #[test]
    fn no_job_is_spared_at_the_agent_s_cost() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("oom_score_adj");
        for (before, after) in [("-900\n", "500"), ("0\n", "500"), ("999\n", "999\n")] {
            fs::write(&file, before).unwrap();
            raise_score(&file);
            assert_eq!(fs::read_to_string(&file).unwrap(), after);
        }
    }

    #[test]
    fn bash_is_looked_for_where_jobs_find_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("/nowhere:{}", folder.path().display());
        let host = Host::fixed([("PATH", path.as_str())]);
        assert_eq!(image_path(&host), path);
        assert!(!has_bash(&host));
        fs::write(folder.path().join("bash"), "").unwrap();
        assert!(has_bash(&host));
    }

    #[test]
    fn a_refused_change_of_the_user_is_told_apart_from_what_the_program_lacks() {
        let code = io::Error::from_raw_os_error;
        let (refused, missing) = (code(nix::libc::EPERM), code(nix::libc::ENOENT));
        assert!(hint(&refused, true, true).unwrap().contains("SETUID"));
        assert_eq!(hint(&refused, true, false), None);
        assert!(hint(&missing, true, true).unwrap().contains("glibc"));
        assert_eq!(hint(&missing, false, true), None);
        assert_eq!(hint(&code(nix::libc::EACCES), true, true), None);
    }

    #[test]
    fn a_job_in_a_pod_finds_the_image_s_environment_and_no_credential() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::fixed([
            (names::ROOT, root.path().to_str().unwrap()),
            ("PATH", "/usr/local/cuda/bin:/bin"),
            ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64"),
            ("LANG", "de_DE.UTF-8"),
            ("DOCKER_HOST", "tcp://localhost:2376"),
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/root"),
            ("SHELL", "/bin/zsh"),
            ("PWD", "/x"),
            ("SHLVL", "0"),
            ("RUNNER_LAUNCH_TOKEN", "t"),
            ("CML_TOKEN", "t"),
            ("REPO_TOKEN", "t"),
            ("AWS_SECRET_ACCESS_KEY", "t"),
            ("KUBERNETES_CONFIGURATION", "t"),
            (names::GOOGLE_CREDENTIALS, "t"),
            ("ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT", "1"),
            ("RUNNER_MANUALLY_TRAP_SIG", "1"),
        ]);
        let place = Place::Pod { user: "r".into() };
        let layout = Layout::new(&place, Driver::Github, &host).unwrap();
        let user = layout.user.clone().unwrap();
        // Later ones win, as with the process.
        let found: BTreeMap<String, String> = environment(&layout, &host).into_iter().collect();
        let wanted = [
            ("DOCKER_HOST", "tcp://localhost:2376"),
            ("HOME", user.home.to_str().unwrap()),
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("LANG", "de_DE.UTF-8"),
            ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64"),
            ("LOGNAME", user.name.as_str()),
            ("PATH", "/usr/local/cuda/bin:/bin"),
            ("SHELL", "/bin/sh"),
            ("SHLVL", "1"),
            ("USER", user.name.as_str()),
        ];
        let pairs = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(pairs.collect::<Vec<_>>(), wanted);
    }
}
