//! What the machine offers to jobs.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::process::harmless_vars;
use crate::host::Host;

/// Files that tell a container from a machine.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Where the driver of an NVIDIA GPU shows itself.
const GPU_MARKS: [&str; 2] = ["/dev/nvidiactl", "/proc/driver/nvidia/version"];

/// Whether jobs can have containers of their own. A daemon that is just starting, on a machine that
/// has just started, is waited for.
pub(super) async fn has_docker(host: &Host, starting: bool) -> bool {
    let in_container = CONTAINER_MARKS.iter().any(|mark| host.path(mark).exists())
        || host.env("KUBERNETES_SERVICE_HOST").is_some();
    if in_container {
        return false;
    }
    let tries = if starting { 10 } else { 1 };
    for left in (0..tries).rev() {
        match docker_answers(host).await {
            Some(true) => return true,
            Some(false) if left > 0 => sleep(Duration::from_secs(1)).await,
            Some(false) | None => break,
        }
    }
    false
}

/// Whether the daemon answers; `None` where there is no client to ask it.
async fn docker_answers(host: &Host) -> Option<bool> {
    let mut command = Command::new("docker");
    command
        .args(["version", "--format", "{{.Server.Version}}"])
        .env_clear()
        .envs(harmless_vars(host))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().ok()?;
    match timeout(Duration::from_secs(10), child.wait()).await {
        Ok(Ok(status)) => Some(status.success()),
        Ok(Err(_)) | Err(_) => Some(false),
    }
}

/// Whether there is an NVIDIA GPU with its driver.
pub(super) fn has_gpu(host: &Host) -> bool {
    GPU_MARKS.iter().any(|mark| host.path(mark).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::names;

    #[tokio::test]
    async fn a_container_offers_no_docker_and_a_gpu_is_seen_by_its_driver() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().display().to_string();
        let host = Host::fixed([(names::ROOT, path.as_str()), ("PATH", "/usr/bin:/bin")]);
        assert!(!has_gpu(&host));
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/nvidiactl"), "").unwrap();
        assert!(has_gpu(&host));
        std::fs::write(root.path().join(".dockerenv"), "").unwrap();
        assert!(!has_docker(&host, true).await);
    }
}
