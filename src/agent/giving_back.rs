//! The end of the machine.

use std::process::{Command, Stdio};

use tokio::time::{Instant, timeout_at};

use crate::cloud::{self, GiveBack};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::Http;

/// The bootstrap's program that gives the machine back without an agent.
const PROGRAM: &str = "/var/lib/runner-launch/give-back";

/// Tells that program's caller that another one of it is at work already.
const MARK: &str = "/var/lib/runner-launch/giving-back";

/// Has the cloud delete the machine, and turns it off. A machine that costs as much when it is off
/// stays on instead, if the cloud can't be brought to it at once, and goes on asking: a role may take
/// long to count, and an outage to pass.
pub(super) async fn give_back(how: &GiveBack, host: &Host, deadline: Instant) -> Result<()> {
    if !ask(how, host, deadline).await && how.costs_when_off() {
        if go_on_asking(host) {
            tracing::warn!(
                "turned off, this machine would cost as much: it stays on, and goes on asking to be \
                 deleted"
            );
            return Ok(());
        }
        // No service manager lets anything outlive this program: what time is left is all there is.
        while Instant::now() < deadline && !ask(how, host, deadline).await {}
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

/// Starts the bootstrap's program in a unit of its own, which nothing hurries.
fn go_on_asking(host: &Host) -> bool {
    let (program, mark) = (host.path(PROGRAM), host.path(MARK));
    if !program.exists() || std::fs::write(&mark, "").is_err() {
        return false;
    }
    let started = Command::new("systemd-run")
        .args(["--quiet", "--collect", "--unit=runner-launch-give-back"])
        .args(["/bin/sh".as_ref(), program.as_os_str(), "patient".as_ref()])
        .stdin(Stdio::null())
        .status();
    let started = started.is_ok_and(|status| status.success());
    if !started {
        // Else the machine would stay on for nothing.
        let _ = std::fs::remove_file(&mark);
    }
    started
}

/// Turns the machine off, whether or not it is being deleted: a machine that is off costs the least.
fn power_off(host: &Host) -> Result<()> {
    for (program, args) in [
        ("systemctl", &["poweroff"][..]),
        ("shutdown", &["-P", "now"]),
        ("poweroff", &["-f"]),
    ] {
        let done = std::process::Command::new(program).args(args).status();
        if done.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    // <https://docs.kernel.org/admin-guide/sysrq.html>
    std::fs::write(host.path("/proc/sysrq-trigger"), "o")
        .map_err(|error| Error::other("turning the machine off").caused_by(error))
}
