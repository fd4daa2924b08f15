//! The end of the machine.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::DEAD_MAN;
use super::machine::is_container;
use crate::cloud::{self, GiveBack};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::Http;

/// The bootstrap's program that gives the machine back without an agent.
const PROGRAM: &str = "/var/lib/runner-launch/give-back";

/// Tells that program's caller, and a bootstrap that is still at work, that another one of it is asking
/// for the machine's deletion already. It is gone after a reboot.
const MARK: &str = "/run/runner-launch-giving-back";

/// The unit in which it asks.
const UNIT: &str = "runner-launch-give-back.service";

/// Between questions, where nothing outlives this program.
const PAUSE: Duration = Duration::from_secs(5);

/// Has the cloud delete the machine, and turns it off. A machine that costs as much when it is off
/// stays on instead, if the cloud can't be brought to it at once, and goes on asking: a role may take
/// long to count, and an outage to pass.
/// Without a configuration that can be read, nobody is to be asked.
pub(super) async fn give_back(
    how: Option<&GiveBack>,
    host: &Host,
    deadline: Instant,
) -> Result<()> {
    if !is_ours(how, host) {
        return Ok(());
    }
    let how = &how.cloned().unwrap_or_default();
    tracing::info!("giving the machine back");
    if !ask(how, host, deadline).await && how.costs_when_off() {
        if go_on_asking(host) {
            tracing::warn!(
                "turned off, this machine would cost as much: it stays on, and goes on asking to be \
                 deleted"
            );
            return Ok(());
        }
        // No service manager lets anything outlive this program: what time is left is all there is.
        while Instant::now() + PAUSE < deadline {
            sleep(PAUSE).await;
            if ask(how, host, deadline).await {
                break;
            }
        }
    }
    power_off(host)
}

/// Asks the cloud; says whether it deletes the machine.
async fn ask(how: &GiveBack, host: &Host, deadline: Instant) -> bool {
    let deletion = async { cloud::give_back(how, host, &Http::new(host)?).await };
    match timeout_at(deadline, deletion).await {
        Ok(Ok(true)) => {
            tracing::info!("the cloud deletes this machine");
            return true;
        }
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::error!("{}", error.chain()),
        Err(_) => tracing::error!("the cloud didn't answer in time to delete this machine"),
    }
    false
}

/// Starts the bootstrap's program in a unit of its own, which nothing hurries; one is enough. Nothing
/// else is to happen on the machine any more.
fn go_on_asking(host: &Host) -> bool {
    let (program, mark) = (host.path(PROGRAM), host.path(MARK));
    if !program.exists() || std::fs::write(&mark, "").is_err() {
        return false;
    }
    let is_asking = || does("systemctl", &["is-active", "--quiet", UNIT]);
    let started = is_asking()
        || does(
            "systemd-run",
            &[
                "--quiet".as_ref(),
                "--collect".as_ref(),
                format!("--unit={UNIT}").as_ref(),
                "--property=Restart=on-failure".as_ref(),
                "--property=RestartSec=30".as_ref(),
                "--property=OOMScoreAdjust=-900".as_ref(),
                "/bin/sh".as_ref(),
                program.as_os_str(),
                "patient".as_ref(),
            ],
        )
        || is_asking();
    if started {
        for unit in [DEAD_MAN, "runner-launch.service"] {
            // What isn't there needs no stopping.
            let _ = does("systemctl", &["stop", "--no-block", unit]);
        }
    } else {
        // Else the machine would stay on for nothing.
        let _ = std::fs::remove_file(&mark);
    }
    started
}

fn does(program: &str, args: &[impl AsRef<OsStr>]) -> bool {
    let done = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

/// Turns the machine off, whether or not it is being deleted: a machine that is off costs the least.
fn power_off(host: &Host) -> Result<()> {
    for (program, args) in [
        ("systemctl", &["poweroff"][..]),
        ("shutdown", &["-P", "now"]),
        ("poweroff", &["-f"]),
    ] {
        let done = Command::new(program).args(args).status();
        if done.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    // <https://docs.kernel.org/admin-guide/sysrq.html>
    std::fs::write(host.path("/proc/sysrq-trigger"), "o")
        .map_err(|error| Error::other("turning the machine off").caused_by(error))
}

/// A pod is nothing to turn off. Without a configuration that can be read this may be one, and what
/// can be turned off from a container is somebody else's; but a machine, whose disk may look like a
/// container's, must not stay on for that where the configuration says what it is.
fn is_ours(how: Option<&GiveBack>, host: &Host) -> bool {
    match how {
        Some(how) => *how != GiveBack::Pod,
        None => !is_container(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::names;

    #[test]
    fn a_container_is_never_turned_off() {
        let folder = tempfile::tempdir().unwrap();
        let root = (names::ROOT, folder.path().to_str().unwrap());
        let machine = Host::fixed([root]);
        assert!(is_ours(Some(&GiveBack::PowerOff), &machine));
        assert!(is_ours(None, &machine));
        assert!(!is_ours(Some(&GiveBack::Pod), &machine));
        // A configuration that can't be read says nothing of where this is.
        let pod = Host::fixed([root, ("KUBERNETES_SERVICE_HOST", "10.0.0.1")]);
        assert!(!is_ours(None, &pod));
        // One that can be read knows better than a disk that was made from a container's.
        std::fs::write(folder.path().join(".dockerenv"), "").unwrap();
        assert!(!is_ours(None, &machine));
        assert!(is_ours(Some(&GiveBack::PowerOff), &machine));
    }
}
