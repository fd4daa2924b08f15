//! What a program needs of memory at most.

use std::io;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::program;

/// The most memory, in MB, of a program that is run to its end; `None` where the system doesn't let
/// programs be watched. What the system counts for ended children would be no less than this
/// program's own memory: a child is a copy of its parent at first.
pub(crate) async fn peak(
    binary: &Path,
    args: &[impl AsRef<std::ffi::OsStr>],
    env: Vec<(String, String)>,
) -> io::Result<Option<f64>> {
    let mut command = program::command(binary, env);
    command.args(args);
    let mut command = command.into_std();
    command.stdout(Stdio::null());
    // The watcher of a process is one thread, not a program.
    let watch = move || watch(command.spawn()?);
    tokio::task::spawn_blocking(watch)
        .await
        .map_err(io::Error::other)?
}

/// Waits for a child's end, and just before it looks what the child has needed.
fn watch(child: Child) -> io::Result<Option<f64>> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let options = Options::PTRACE_O_TRACEEXIT | Options::PTRACE_O_EXITKILL;
    let mut peak = None;
    if ptrace::seize(pid, options).is_ok() {
        loop {
            let signal = match waitpid(pid, None) {
                Ok(WaitStatus::PtraceEvent(_, _, event)) => {
                    if event == ptrace::Event::PTRACE_EVENT_EXIT as i32 {
                        peak = peak_so_far(pid.as_raw());
                        // The rest is the end as without a watcher.
                        ptrace::detach(pid, None)?;
                        break;
                    }
                    None
                }
                Ok(WaitStatus::Stopped(_, signal)) => Some(signal),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => {
                    return Err(io::Error::other("the watched program ended unseen"));
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            ptrace::cont(pid, signal)?;
        }
    }
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(peak),
        false => Err(io::Error::other(format!(
            "the program ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))),
    }
}

/// The most memory, in MB, that a live process has had so far.
pub(crate) fn peak_so_far(pid: i32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The peak of a shell that runs this script.
    async fn of(script: &str) -> io::Result<Option<f64>> {
        peak(Path::new("/bin/sh"), &["-c", script], Vec::new()).await
    }

    #[tokio::test]
    async fn the_peak_is_the_programs_own() {
        let small = of("sleep 0.05; exit 0").await.unwrap();
        let large = of("sleep 0.05; a=$(head -c 20000000 /dev/zero | tr '\\0' x); exit 0");
        let large = large.await.unwrap();
        // Where watching isn't allowed there is nothing to compare.
        if let (Some(small), Some(large)) = (small, large) {
            assert!(small < 10.0, "{small} MB");
            assert!(large > 20.0, "{large} MB");
        }
    }

    #[tokio::test]
    async fn a_program_that_fails_is_an_error() {
        let error = of("sleep 0.05; echo broken >&2; exit 3").await.unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }

    #[test]
    fn the_memory_of_a_live_process_is_known() {
        let own = peak_so_far(std::process::id().cast_signed()).unwrap();
        assert!((0.5..1000.0).contains(&own), "{own} MB");
        assert_eq!(peak_so_far(i32::MAX), None);
    }
}
