//! The commands that an instance's processes give to its init: `systemctl`, `systemd-run`, and those
//! that switch the machine off.

use super::unit::{Unit, duration};
use super::{Machine, console};
use crate::calls::lock;

/// The answer to a command: exit code and text.
pub(super) type Reply = (i32, String);

impl Machine {
    /// Answers the commands that come in through the doorbell FIFO.
    pub(super) async fn serve_init(self, doorbell: tokio::net::unix::pipe::Receiver) {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let mut lines = BufReader::new(doorbell).lines();
        while let Ok(Some(call)) = lines.next_line().await {
            if call.is_empty() || !call.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            let file = self.folder.join("init").join(&call);
            let Ok(words) = std::fs::read(&file) else {
                continue;
            };
            let words: Vec<String> = words
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            let words = words[..words.len().saturating_sub(1)].to_vec();
            let machine = self.clone();
            tokio::spawn(async move {
                let (status, text) = machine.command(&words).await;
                console::answer(&file.with_extension("reply"), &format!("{status} {text}"));
            });
        }
    }

    async fn command(&self, words: &[String]) -> Reply {
        let Some((tool, arguments)) = words.split_first() else {
            return (1, "no command".into());
        };
        match tool.as_str() {
            "systemctl" => self.systemctl(arguments).await,
            "systemd-run" => self.systemd_run(arguments),
            "shutdown" if arguments.iter().any(|word| word == "-c") => (0, String::new()),
            "shutdown" | "poweroff" | "halt" => self.power_command(arguments),
            _ => (1, format!("{tool} isn't known here")),
        }
    }

    /// `poweroff`, with or without `-f`.
    fn power_command(&self, arguments: &[String]) -> Reply {
        if arguments.iter().any(|word| word == "-r") {
            return (1, "restarting isn't known here".into());
        }
        let machine = self.clone();
        if arguments
            .iter()
            .any(|word| word == "-f" || word == "--force" || word == "-ff")
        {
            tokio::spawn(async move { machine.pull_plug().await });
        } else {
            tokio::spawn(async move { machine.shut_down().await });
        }
        (0, String::new())
    }

    async fn systemctl(&self, arguments: &[String]) -> Reply {
        let now = arguments.iter().any(|word| word == "--now");
        let quiet = arguments
            .iter()
            .any(|word| word == "-q" || word == "--quiet");
        let mut words = arguments.iter().filter(|word| !word.starts_with('-'));
        let Some(verb) = words.next() else {
            return (1, "systemctl: a command is missing".into());
        };
        let units: Vec<String> = words.map(|name| full_name(name)).collect();
        let mut reply = (0, String::new());
        match verb.as_str() {
            "daemon-reload" | "reset-failed" => {}
            "poweroff" | "halt" => return self.power_command(arguments),
            "is-system-running" => reply.1 = "running".into(),
            "start" | "stop" | "restart" | "enable" | "disable" | "is-active"
                if units.is_empty() =>
            {
                return (1, "Too few arguments.".into());
            }
            "start" => {
                for unit in &units {
                    keep_worst(&mut reply, self.start(unit));
                }
            }
            "stop" if arguments.iter().any(|word| word == "--no-block") => {
                let machine = self.clone();
                tokio::spawn(async move {
                    for unit in &units {
                        machine.stop(unit).await;
                    }
                });
                return reply;
            }
            "stop" => {
                for unit in &units {
                    keep_worst(&mut reply, self.stop(unit).await);
                }
            }
            "restart" => {
                for unit in &units {
                    self.stop(unit).await;
                    keep_worst(&mut reply, self.start(unit));
                }
            }
            "enable" | "disable" => {
                for unit in &units {
                    if !self.has_unit(unit) {
                        keep_worst(
                            &mut reply,
                            (
                                1,
                                format!("Failed to {verb} unit: Unit file {unit} does not exist."),
                            ),
                        );
                    } else if now && verb == "enable" {
                        keep_worst(&mut reply, self.start(unit));
                    } else if now {
                        keep_worst(&mut reply, self.stop(unit).await);
                    }
                }
            }
            "is-active" => {
                let active = units.iter().any(|unit| self.is_active(unit));
                let text = if active { "active" } else { "inactive" };
                reply = (if active { 0 } else { 3 }, text.into());
            }
            _ => return (1, format!("Unknown command verb '{verb}' in this sandbox.")),
        }
        if quiet && matches!(reply.0, 0 | 3) {
            reply.1.clear();
        }
        reply
    }

    /// `systemd-run --unit=NAME [--on-active=SPAN] COMMAND…`
    fn systemd_run(&self, arguments: &[String]) -> Reply {
        let mut name = None;
        let mut delay = None;
        let mut words = arguments.iter();
        let mut command: Vec<String> = Vec::new();
        while let Some(word) = words.next() {
            if let Some(value) = word.strip_prefix("--unit=") {
                name = Some(value.to_owned());
            } else if let Some(value) = word.strip_prefix("--on-active=") {
                match duration(value) {
                    Some(span) => delay = Some(span),
                    None => return (1, format!("Failed to parse timer value: {value}")),
                }
            } else if let Some(property) = word.strip_prefix("--property=") {
                let known = ["Restart", "RestartSec", "OOMScoreAdjust"];
                let name = property.split('=').next().unwrap_or_default();
                if !known.contains(&name) {
                    return (1, format!("Unknown assignment: {property}"));
                }
            } else if !word.starts_with('-') {
                command.push(word.clone());
                command.extend(words.by_ref().cloned());
            } else if !matches!(word.as_str(), "--quiet" | "-q" | "--collect" | "-G" | "--") {
                return (
                    1,
                    format!("systemd-run: unrecognized option '{word}' in this sandbox"),
                );
            }
        }
        if command.is_empty() {
            return (1, "Command line to execute required.".into());
        }
        let name = name.unwrap_or_else(|| format!("run-r{}", crate::clock::random_hex(32)));
        let name = name.trim_end_matches(".service").to_owned();
        let unit = Unit {
            exec_start: command,
            ..Unit::default()
        };
        let service = format!("{name}.service");
        let Some(delay) = delay else {
            if self.is_active(&service) {
                return (
                    1,
                    format!(
                        "Failed to start transient service unit: Unit {service} was already loaded or has a fragment file."
                    ),
                );
            }
            return self.launch(&service, unit);
        };
        let timer = format!("{name}.timer");
        let mut units = lock(&self.units);
        if units
            .timers
            .get(&timer)
            .is_some_and(|timer| !timer.is_finished())
        {
            return (
                1,
                format!(
                    "Failed to start transient timer unit: Unit {timer} was already loaded or has a fragment file."
                ),
            );
        }
        let machine = self.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            machine.launch(&service, unit);
        });
        units.timers.insert(timer, task.abort_handle());
        (0, String::new())
    }
}

/// A unit's whole name.
fn full_name(name: &str) -> String {
    if name.contains('.') {
        name.into()
    } else {
        format!("{name}.service")
    }
}

/// Keeps the first failure of several.
fn keep_worst(reply: &mut Reply, new: Reply) {
    if reply.0 == 0 {
        *reply = new;
    }
}
