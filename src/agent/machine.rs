//! What the machine offers to jobs.

use std::path::{Path, PathBuf};
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
/// The programs with which NVIDIA's toolkit gives a GPU to containers.
const GPU_TOOLS: [&str; 3] = [
    "nvidia-container-runtime-hook",
    "nvidia-container-runtime",
    "nvidia-container-cli",
];

/// How the client trusts a daemon that isn't at the usual place.
/// <https://docs.docker.com/reference/cli/docker/#environment-variables>
const DAEMON: [&str; 2] = ["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"];

/// Whether jobs can have containers of their own. A daemon that is just starting, on a machine that
/// has just started, is waited for.
pub(super) async fn has_docker(host: &Host, starting: bool) -> bool {
    if is_container(host) {
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

/// Whether this is a container. The kubelet tells every one of its own where the API server is.
/// <https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables>
pub(super) fn is_container(host: &Host) -> bool {
    CONTAINER_MARKS.iter().any(|mark| host.path(mark).exists())
        || host.env("KUBERNETES_SERVICE_HOST").is_some()
}

/// Whether the daemon answers; `None` where there is no client to ask it.
pub(super) async fn docker_answers(host: &Host) -> Option<bool> {
    let answer = ask_docker(host, &["version", "--format", "{{.Server.Version}}"]).await;
    Some(answer.ok()?.is_some())
}

/// What the client prints; `None` where it fails.
async fn ask_docker(host: &Host, args: &[&str]) -> std::io::Result<Option<String>> {
    let mut command = Command::new("docker");
    command
        .args(args)
        .env_clear()
        .envs(harmless_vars(host))
        .envs(
            DAEMON
                .iter()
                .filter_map(|name| Some((name, host.env(name)?))),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = command.spawn()?;
    Ok(
        match timeout(Duration::from_secs(10), child.wait_with_output()).await {
            Ok(Ok(output)) if output.status.success() => {
                Some(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            _ => None,
        },
    )
}

/// Whether Docker can give a GPU to containers, for which it needs NVIDIA's toolkit. Where the daemon
/// is elsewhere, what is installed here says nothing.
/// <https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html>
pub(super) async fn gives_gpus(host: &Host, elsewhere: bool) -> bool {
    let path = host.env("PATH").unwrap_or_default();
    let is_installed = std::env::split_paths(path)
        .any(|folder| GPU_TOOLS.iter().any(|tool| folder.join(tool).is_file()));
    if is_installed && !elsewhere {
        return true;
    }
    let runtimes = ask_docker(host, &["info", "--format", "{{json .Runtimes}}"]).await;
    matches!(runtimes, Ok(Some(runtimes)) if runtimes.contains("\"nvidia\""))
}

/// Whether the ICU libraries are there, at which .NET looks.
pub(super) fn has_icu(host: &Host) -> bool {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let usr = host.path("/usr");
    names(&usr)
        .iter()
        .filter(|name| name.starts_with("lib"))
        .map(|name| usr.join(name))
        .flat_map(|folder| {
            let below = names(&folder)
                .into_iter()
                .filter(|name| name.contains("linux"));
            let below: Vec<PathBuf> = below.map(|name| folder.join(name)).collect();
            std::iter::once(folder).chain(below)
        })
        .any(|folder| {
            names(&folder)
                .iter()
                .any(|name| name.starts_with("libicuuc.so."))
        })
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
        let bin = root.path().join("bin");
        let equipped = Host::fixed([("PATH", bin.display().to_string())]);
        assert!(!gives_gpus(&equipped, false).await);
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("nvidia-container-cli"), "").unwrap();
        assert!(gives_gpus(&equipped, false).await);
        assert!(!gives_gpus(&equipped, true).await);
        std::fs::write(root.path().join(".dockerenv"), "").unwrap();
        assert!(!has_docker(&host, true).await);
    }

    #[test]
    fn icu_is_found_wherever_distributions_have_it() {
        for library in [
            "usr/lib64/libicuuc.so.67",
            "usr/lib/x86_64-linux-gnu/libicuuc.so.74",
            "usr/lib/libicuuc.so.76",
        ] {
            let root = tempfile::tempdir().unwrap();
            let host = Host::fixed([(names::ROOT, root.path().to_str().unwrap())]);
            assert!(!has_icu(&host));
            let library = root.path().join(library);
            std::fs::create_dir_all(library.parent().unwrap()).unwrap();
            std::fs::write(root.path().join("usr/lib/libicudata.so"), "").unwrap_or_default();
            assert!(!has_icu(&host));
            std::fs::write(&library, "").unwrap();
            assert!(has_icu(&host), "{}", library.display());
        }
    }
}
