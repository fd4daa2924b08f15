//! The instance's init: what systemd does on a real machine, as far as the user data, the agent and
//! a shutdown need it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::commands::Reply;
use super::unit::Unit;
use super::{Machine, console, reap};
use crate::calls::lock;

/// What a service is given to end in at most, whatever its unit file says: a test doesn't wait
/// longer.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// What ExecStopPost is given.
const STOP_POST_LIMIT: Duration = Duration::from_secs(20);
/// What everything else is given between SIGTERM and SIGKILL at shutdown.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A service that was started.
#[derive(Debug)]
struct Service {
    /// Its main process, until that ends.
    main: Option<i32>,
    stop: watch::Sender<bool>,
    done: watch::Receiver<bool>,
}

/// What runs on the instance, by unit name.
#[derive(Debug, Default)]
pub(super) struct Units {
    services: BTreeMap<String, Service>,
    pub(super) timers: BTreeMap<String, AbortHandle>,
    /// The tasks that see services to their ends.
    attendants: Vec<AbortHandle>,
    /// The user data's process, until it ends.
    user_data: Option<i32>,
    /// The task that runs the startup script.
    startup_script: Option<AbortHandle>,
    shutting_down: AtomicBool,
}

impl Units {
    /// Forgets everything that ran, without a word to it.
    pub(super) fn crash(&mut self) {
        for attendant in self.attendants.drain(..) {
            attendant.abort();
        }
        for timer in std::mem::take(&mut self.timers).into_values() {
            timer.abort();
        }
        self.services.clear();
        self.user_data = None;
        self.leave_startup_script();
    }

    /// Remembers who runs the startup script.
    pub(super) fn startup_script(&mut self, runner: AbortHandle) {
        self.startup_script = Some(runner);
    }

    /// Ends the one who runs the startup script, but not the script itself, which nobody listens to
    /// from then on.
    pub(super) fn leave_startup_script(&mut self) {
        if let Some(runner) = self.startup_script.take() {
            runner.abort();
        }
    }
}

impl Machine {
    fn unit_file(&self, unit: &str) -> std::path::PathBuf {
        self.root().join("etc/systemd/system").join(unit)
    }

    /// Whether there is such a unit; Docker's comes with Docker.
    pub(super) fn has_unit(&self, unit: &str) -> bool {
        self.unit_file(unit).is_file() || self.is_docker(unit)
    }

    fn is_docker(&self, unit: &str) -> bool {
        matches!(
            unit,
            "docker.service" | "docker.socket" | "containerd.service"
        ) && self.folder.join("bin/docker").exists()
    }

    pub(super) fn is_active(&self, unit: &str) -> bool {
        let units = lock(&self.units);
        let timer = units
            .timers
            .get(unit)
            .is_some_and(|timer| !timer.is_finished());
        let service = units
            .services
            .get(unit)
            .is_some_and(|service| !*service.done.borrow());
        timer || service || self.is_docker(unit)
    }

    pub(super) fn start(&self, unit: &str) -> Reply {
        if self.is_docker(unit) || self.is_active(unit) {
            return (0, String::new());
        }
        let Ok(text) = std::fs::read_to_string(self.unit_file(unit)) else {
            return (5, format!("Failed to start {unit}: Unit {unit} not found."));
        };
        match Unit::parse(&text) {
            Ok(file) => self.launch(unit, file),
            Err(error) => (
                1,
                format!("Failed to start {unit}: Unit {unit} has a bad unit file setting: {error}"),
            ),
        }
    }

    pub(super) async fn stop(&self, unit: &str) -> Reply {
        let done = {
            let mut units = lock(&self.units);
            if let Some(timer) = units.timers.remove(unit) {
                timer.abort();
                return (0, String::new());
            }
            units.services.get(unit).map(|service| {
                service.stop.send_replace(true);
                service.done.clone()
            })
        };
        match done {
            Some(mut done) => {
                // The sender sends before it goes, so an error means done, too.
                let _ = done.wait_for(|done| *done).await;
                (0, String::new())
            }
            None if self.has_unit(unit) => (0, String::new()),
            None => (5, format!("Failed to stop {unit}: Unit {unit} not loaded.")),
        }
    }

    /// Starts a service's main process and a task that sees it to its end.
    pub(super) fn launch(&self, name: &str, unit: Unit) -> Reply {
        let mut units = lock(&self.units);
        if units.shutting_down.load(Ordering::SeqCst) {
            return (
                1,
                format!(
                    "Failed to start {name}: Transaction is destructive, a shutdown is under way."
                ),
            );
        }
        let (child, main) = match self.spawn(&unit.exec_start, &unit.environment) {
            Ok(started) => started,
            Err(error) => {
                let program = unit.exec_start.first().cloned().unwrap_or_default();
                self.console.say(&format!(
                    "systemd[1]: {name}: Failed to execute {program}: {error}"
                ));
                return (
                    1,
                    format!("Job for {name} failed. See \"journalctl -xe\" for details."),
                );
            }
        };
        let (stop, stop_seen) = watch::channel(false);
        let (done_sender, done) = watch::channel(false);
        let service = Service {
            main: Some(main),
            stop,
            done,
        };
        units.services.insert(name.into(), service);
        self.console.say(&format!("systemd[1]: Started {name}."));
        let machine = self.clone();
        let name = name.to_owned();
        let attendant = tokio::spawn(async move {
            machine.attend(&name, &unit, child, main, stop_seen).await;
            done_sender.send_replace(true);
        });
        units.attendants.push(attendant.abort_handle());
        (0, String::new())
    }

    /// Sees a service to its end: stops it when asked to, cleans up after it, runs its
    /// ExecStopPost.
    async fn attend(
        &self,
        name: &str,
        unit: &Unit,
        mut child: Child,
        main: i32,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut timed_out = false;
        // The record of the service keeps the sender, so there is an answer or none is needed.
        let asked = async move { stop.wait_for(|stop| *stop).await.is_ok() };
        let status = tokio::select! {
            status = child.wait() => status,
            _ = asked => {
                if unit.mixed {
                    reap::signal(main, Signal::SIGTERM);
                } else {
                    self.signal_group(main, Signal::SIGTERM);
                }
                let limit = unit.stop_timeout.unwrap_or(STOP_LIMIT).min(STOP_LIMIT);
                match tokio::time::timeout(limit, child.wait()).await {
                    Ok(status) => status,
                    Err(_) => {
                        timed_out = true;
                        self.console.say(&format!(
                            "systemd[1]: {name}: State 'stop-sigterm' timed out. Killing."
                        ));
                        reap::signal(main, Signal::SIGKILL);
                        child.wait().await
                    }
                }
            }
        };
        let status = status.unwrap_or_default();
        if let Some(service) = lock(&self.units).services.get_mut(name) {
            service.main = None;
        }
        // What the main process leaves behind in the control group goes with it.
        self.kill_group(main).await;
        let (result, code, number) = outcome(status, timed_out);
        if result == "success" {
            self.console
                .say(&format!("systemd[1]: {name}: Deactivated successfully."));
        } else {
            self.console.say(&format!(
                "systemd[1]: {name}: Main process exited, code={code}, status={number}; failed with result '{result}'."
            ));
        }
        let mut environment = unit.environment.clone();
        for (name, value) in [
            ("SERVICE_RESULT", result.to_owned()),
            ("EXIT_CODE", code.to_owned()),
            ("EXIT_STATUS", number),
        ] {
            environment.push((name.into(), value));
        }
        for command in &unit.exec_stop_post {
            let succeeded = self
                .run_to_end(&command.words, &environment, STOP_POST_LIMIT)
                .await;
            if !succeeded && !command.may_fail {
                self.console
                    .say(&format!("systemd[1]: {name}: Control process failed."));
                break;
            }
        }
    }

    /// Runs a command to its end and kills its group when it takes too long.
    pub(super) async fn run_to_end(
        &self,
        words: &[String],
        environment: &[(String, String)],
        limit: Duration,
    ) -> bool {
        let Ok((mut child, pid)) = self.spawn(words, environment) else {
            return false;
        };
        let status = tokio::time::timeout(limit, child.wait()).await;
        self.kill_group(pid).await;
        matches!(status, Ok(Ok(status)) if status.success())
    }

    /// Starts a process of the instance as the leader of its own group; the answer is with its id.
    fn spawn(
        &self,
        words: &[String],
        environment: &[(String, String)],
    ) -> io::Result<(Child, i32)> {
        let output = || console::output(&self.console_path());
        self.spawn_with(words, environment, [output()?, output()?], &[])
    }

    /// The same with another place for its output and errors, and without some variables.
    pub(super) fn spawn_with(
        &self,
        words: &[String],
        environment: &[(String, String)],
        [output, errors]: [Stdio; 2],
        without: &[&str],
    ) -> io::Result<(Child, i32)> {
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| io::Error::other("no command"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .envs(environment.iter().map(|(n, v)| (n, v)))
            .current_dir(self.root())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        for name in without {
            command.env_remove(name);
        }
        super::watch::spawn(&self.sandbox, &self.id, &mut command)
    }

    /// Runs the user data as a child of the init.
    pub(super) async fn run_user_data(self, words: Vec<String>) {
        let child = {
            let mut units = lock(&self.units);
            if units.shutting_down.load(Ordering::SeqCst) {
                return;
            }
            match self.spawn(&words, &[]) {
                Ok((child, pid)) => {
                    units.user_data = Some(pid);
                    Some(child)
                }
                Err(error) => {
                    self.console.say(&format!(
                        "cloud-init: Failed running the user data: {error}"
                    ));
                    None
                }
            }
        };
        if let Some(mut child) = child {
            let status = child.wait().await.unwrap_or_default();
            lock(&self.units).user_data = None;
            if !status.success() {
                self.console.say(&format!(
                    "cloud-init: Failed running the user data ({status})"
                ));
            }
        }
        self.console.say("cloud-init: finished");
    }

    /// A clean shutdown, as by `systemctl poweroff` or the power button; ends when the machine is
    /// off. Asked for twice, it is done once.
    pub(crate) async fn shut_down(&self) {
        let (services, user_data, first) = {
            let mut units = lock(&self.units);
            units.leave_startup_script();
            for timer in units.timers.values() {
                timer.abort();
            }
            let services: Vec<_> = units
                .services
                .values()
                .map(|service| {
                    service.stop.send_replace(true);
                    service.done.clone()
                })
                .collect();
            let first = !units.shutting_down.swap(true, Ordering::SeqCst);
            (services, units.user_data, first)
        };
        if first {
            self.console.say("systemd[1]: Shutting down.");
            if let Some(pid) = user_data {
                self.signal_group(pid, Signal::SIGTERM);
            }
            for mut done in services {
                let _ = done.wait_for(|done| *done).await;
            }
            self.last_words().await;
            self.pull_plug().await;
        } else {
            self.off().await;
        }
    }

    /// Lets nothing start any more.
    pub(super) fn forbid_starts(&self) {
        let units = lock(&self.units);
        units.shutting_down.store(true, Ordering::SeqCst);
        for timer in units.timers.values() {
            timer.abort();
        }
    }

    /// SIGTERM to whatever still runs, and a moment for it to end.
    async fn last_words(&self) {
        for process in self.members().await {
            reap::signal(process.stat.pid, Signal::SIGTERM);
        }
        let ended = async {
            while !self.members().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
    }

    /// SIGKILL to a service's main process.
    pub(crate) fn kill_main(&self) -> bool {
        let units = lock(&self.units);
        let main = units
            .services
            .iter()
            .filter(|(name, _)| name.starts_with("runner-launch."))
            .find_map(|(_, service)| service.main);
        if let Some(pid) = main {
            reap::signal(pid, Signal::SIGKILL);
        }
        main.is_some()
    }

    fn signal_group(&self, leader: i32, signal: Signal) {
        // A group that is gone is fine.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(leader), signal);
    }

    /// Kills what a control group would hold: all descendants of the leader, orphans too.
    async fn kill_group(&self, leader: i32) {
        for _ in 0..200 {
            let mut members = self.members().await;
            members.retain(|member| member.leader == Some(leader));
            if members.is_empty() {
                return;
            }
            for member in members {
                reap::signal(member.stat.pid, Signal::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// SERVICE_RESULT, EXIT_CODE and EXIT_STATUS.
fn outcome(status: ExitStatus, timed_out: bool) -> (&'static str, &'static str, String) {
    if let Some(code) = status.code() {
        let result = if timed_out {
            "timeout"
        } else if code == 0 {
            "success"
        } else {
            "exit-code"
        };
        return (result, "exited", code.to_string());
    }
    let signal = status
        .signal()
        .and_then(|number| Signal::try_from(number).ok())
        .map_or("UNKNOWN", |signal| signal.as_str())
        .trim_start_matches("SIG");
    let result = if timed_out {
        "timeout"
    } else if status.core_dumped() {
        "core-dump"
    } else if matches!(signal, "TERM" | "INT" | "HUP" | "PIPE") {
        "success"
    } else {
        "signal"
    };
    let code = if status.core_dumped() {
        "dumped"
    } else {
        "killed"
    };
    (result, code, signal.into())
}
