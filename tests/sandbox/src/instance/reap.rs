//! Nothing that a sandbox started outlives it.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::watch;

const WATCHDOG: &str = include_str!("watchdog.sh");
/// Between two rounds of killing.
const PAUSE: Duration = Duration::from_millis(5);
/// Two seconds of trying are enough: what is left then can't be killed.
const ROUNDS: usize = 400;

/// Begins the watch over a sandbox's folder. Orphans of its trees become children of this program,
/// and a watchdog process ends everything should this program die.
pub(crate) fn adopt_orphans(sandbox: &Path) {
    // Without it (an old kernel) orphans go to the system's init, which is as good for most.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    watch::begin(sandbox, watchdog(sandbox).ok());
}

fn watchdog(sandbox: &Path) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    let script = sandbox.join("watchdog.sh");
    std::fs::write(&script, WATCHDOG)?;
    Command::new("/bin/sh")
        .arg(script)
        .arg(sandbox)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not in the terminal's foreground group: an interrupt is for the owner.
        .process_group(0)
        .spawn()
}

/// Ends every process of the sandbox, and the watch over it. Blocks until they are gone.
pub(crate) fn kill_all(sandbox: &Path) {
    watch::close(sandbox);
    kill_until_none(|| watch::members(sandbox, None));
    kill_until_none(|| watch::all_members(sandbox));
    if let Some(mut watchdog) = watch::end(sandbox) {
        // It only waits, as long as it has its standard input.
        let _ = watchdog.kill();
        let _ = watchdog.wait();
    }
}

/// Ends every process of one instance. Blocks until they are gone.
pub(crate) fn kill_members(sandbox: &Path, instance: &str) {
    kill_until_none(|| watch::members(sandbox, Some(instance)));
}

fn kill_until_none(members: impl Fn() -> Vec<watch::Member>) {
    for _ in 0..ROUNDS {
        let members = members();
        if members.is_empty() {
            return;
        }
        for member in members {
            signal(member.stat.pid, Signal::SIGKILL);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends a signal; a process that is gone is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::time::Instant;

    fn alive(pid: i32) -> bool {
        super::super::procfs::stat(pid).is_some_and(|stat| !stat.is_zombie())
    }

    fn wait_until(what: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if what() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// A process of an instance whose grandchild has left its parent, its group and its
    /// environment behind; the answer is the grandchild's pid.
    fn runaway(sandbox: &Path) -> (Child, i32) {
        let root = sandbox.join("instances/i-1/root");
        std::fs::create_dir_all(&root).unwrap();
        let mut child = Command::new("/bin/sh")
            .args([
                "-c",
                "env -i setsid /bin/sh -c 'cd /; echo $$; exec sleep 600' & sleep 600",
            ])
            .env("RUNNER_LAUNCH_ROOT", &root)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut text = String::new();
        let mut out = child.stdout.take().unwrap();
        let mut byte = [0];
        while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            text.push(char::from(byte[0]));
        }
        (child, text.parse().unwrap())
    }

    #[test]
    fn a_runaway_is_found_and_killed() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = folder.path().canonicalize().unwrap();
        adopt_orphans(&sandbox);
        let (mut child, runaway) = runaway(&sandbox);
        let seen = || {
            watch::members(&sandbox, Some("i-1"))
                .iter()
                .any(|member| member.stat.pid == runaway)
        };
        assert!(wait_until(seen));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(alive(runaway));
        kill_all(&sandbox);
        assert!(!alive(runaway));
    }

    #[test]
    fn the_watchdog_ends_everything_when_the_owner_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = folder.path().canonicalize().unwrap();
        let mut dog = watchdog(&sandbox).unwrap();
        let (mut child, runaway) = runaway(&sandbox);
        assert!(alive(runaway));
        // As when the owner dies: its end of the pipe closes.
        drop(dog.stdin.take());
        dog.wait().unwrap();
        assert!(wait_until(|| !alive(runaway)));
        assert!(!alive(child.id() as i32));
        child.wait().unwrap();
    }

    #[test]
    fn a_closed_sandbox_starts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = tokio::process::Command::new("true");
        assert!(watch::spawn(folder.path(), "i-1", &mut command).is_err());
    }
}
