//! Whole containers: a pod's words in, a log and an exit code out.

mod images;
mod rights;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Capabilities, Container, MountedFile, Parts};
use crate::calls::Event;
use crate::{Config, Sandbox, instance};

const GITHUB: &str = "ghcr.io/actions/actions-runner:latest";
const GITLAB: &str = "registry.gitlab.com/gitlab-org/gitlab-runner:latest";
const TOOLS: &str = "registry.example/tools:1";
const AGENT: &str = "registry.example/agent:1";
const BARE: &str = "registry.example/bare:1";
const OTHER: &str = "registry.example/curl:1";

async fn sandbox() -> Sandbox {
    Sandbox::start(Config::new("/bin/true")).await.unwrap()
}

/// A container that executes this script.
fn parts(sandbox: &Sandbox, image: &str, script: &str) -> Parts {
    Parts {
        sandbox: sandbox.folder().to_owned(),
        id: "runner-x7k2p".into(),
        image: image.into(),
        command: ["/bin/sh", "-c", script].map(Into::into).into(),
        env: Vec::new(),
        files: Vec::new(),
        folders: Vec::new(),
        user: Some(0),
        non_root: false,
        no_new_privileges: true,
        privileged: false,
        capabilities: Capabilities::default(),
        agent: "/bin/true".into(),
    }
}

async fn start(sandbox: &Sandbox, parts: Parts) -> Container {
    Container::start(parts, sandbox.wire.clone()).await.unwrap()
}

/// Runs a container to its end; the answer is its exit code and its log.
async fn run(sandbox: &Sandbox, parts: Parts) -> (i32, String) {
    let container = start(sandbox, parts).await;
    (container.exited().await, container.log())
}

/// The same with nothing but an image and a script, in a sandbox of its own.
async fn run_in(image: &str, script: &str) -> (i32, String) {
    let sandbox = sandbox().await;
    run(&sandbox, parts(&sandbox, image, script)).await
}

async fn until(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if what() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn root(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder().join("instances/runner-x7k2p/root")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Whether the sandbox may choose its containers' users.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn secret(mode: u32, group: Option<u32>) -> MountedFile {
    MountedFile {
        path: "/etc/runner-launch/bootstrap".into(),
        content: b"echo \"booting $0\"\n".to_vec(),
        mode,
        group,
    }
}

#[tokio::test]
async fn a_command_runs_and_both_its_outputs_are_logged_whole() {
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let mut config = Config::new("/bin/true");
    config.verbose_sink = Some(sender);
    let sandbox = Sandbox::start(config).await.unwrap();
    let script = "seq 1 30000; echo oops >&2; (echo from a child); printf unfinished; exit 7";
    let (code, log) = run(&sandbox, parts(&sandbox, OTHER, script)).await;
    assert_eq!(code, 7);
    let numbers: String = (1..=30000).map(|number| format!("{number}\n")).collect();
    assert_eq!(log, format!("{numbers}oops\nfrom a child\nunfinished"));
    let mut lines = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Console { id, line } = event {
            assert_eq!(id, "runner-x7k2p");
            lines.push(line);
        }
    }
    assert_eq!(lines.last().unwrap(), "from a child");
    assert_eq!(lines.len(), 30002);
    let lists = sandbox.argument_lists();
    let list = format!("/bin/sh -c {script}");
    assert!(lists.iter().any(|l| l.ends_with(&list[7..])), "{lists:?}");
}

#[tokio::test]
async fn exit_codes_tell_the_signal() {
    assert_eq!(run_in(OTHER, "exit 0").await.0, 0);
    assert_eq!(run_in(OTHER, "kill -9 $$").await.0, 137);
    assert_eq!(run_in(OTHER, "kill -15 $$").await.0, 143);
}

#[tokio::test]
async fn every_caller_learns_the_exit_code() {
    let sandbox = sandbox().await;
    let container = start(&sandbox, parts(&sandbox, OTHER, "sleep 0.2; exit 3")).await;
    assert_eq!(tokio::join!(container.exited(), container.exited()), (3, 3));
    assert_eq!(container.exited().await, 3);
    // It is too late, and hits nobody.
    container.terminate();
    container.kill().await;
    assert_eq!(container.exited().await, 3);
}

#[tokio::test]
async fn the_environment_holds_nothing_of_the_hosts() {
    let sandbox = sandbox().await;
    let mut parts = parts(&sandbox, OTHER, "env | sort; pwd");
    parts.env = vec![("GREETING".into(), "hello world".into())];
    let (_, log) = run(&sandbox, parts).await;
    let root = root(&sandbox).display().to_string();
    let mut expected = vec![
        "GREETING=hello world".to_owned(),
        format!("HOME={root}/root"),
        "HOSTNAME=runner-x7k2p".into(),
        "KUBERNETES_SERVICE_HOST=10.96.0.1".into(),
        "KUBERNETES_SERVICE_PORT=443".into(),
        "KUBERNETES_SERVICE_PORT_HTTPS=443".into(),
        format!("RUNNER_LAUNCH_ROOT={root}"),
    ];
    expected.push(root);
    let lines: Vec<&str> = log
        .lines()
        // The shell itself sets PWD.
        .filter(|line| {
            !line.starts_with("PATH=") && !line.starts_with("PWD=") && !line.starts_with("_=")
        })
        .filter(|line| !line.starts_with("SHLVL="))
        .collect();
    assert_eq!(lines, expected, "{log}");
    let path = log
        .lines()
        .find_map(|line| line.strip_prefix("PATH="))
        .unwrap();
    let folder = sandbox.folder().display().to_string();
    assert!(path.starts_with(&format!("{folder}/instances/runner-x7k2p/bin:")));
    assert!(
        path.split(':').all(|part| part.starts_with(&folder)),
        "{path}"
    );
}

#[tokio::test]
async fn a_sigterm_reaches_the_main_process_alone() {
    let sandbox = sandbox().await;
    let script = "trap 'echo main told; kill -0 $child && echo child lives; exit 5' TERM\n\
                  /bin/sh -c 'trap \"echo child told\" TERM; echo up; sleep 600 & wait' &\n\
                  child=$!\n\
                  wait";
    let container = start(&sandbox, parts(&sandbox, OTHER, script)).await;
    assert!(until(|| container.log().contains("up")).await);
    container.terminate();
    assert_eq!(container.exited().await, 5);
    assert_eq!(container.log(), "up\nmain told\nchild lives\n");
    assert!(instance::processes(sandbox.folder(), "runner-x7k2p").is_empty());
}

#[tokio::test]
async fn force_ends_everything_at_once() {
    let sandbox = sandbox().await;
    let script = "trap '' TERM; setsid sleep 600 & env -i setsid /bin/sh -c 'cd /; exec sleep 600' &\n\
                  echo up; while :; do sleep 1; done";
    let container = start(&sandbox, parts(&sandbox, OTHER, script)).await;
    assert!(until(|| container.log().contains("up")).await);
    container.terminate();
    let members = || instance::processes(sandbox.folder(), "runner-x7k2p");
    assert!(until(|| members().len() >= 3).await);
    container.kill().await;
    assert_eq!(container.exited().await, 137);
    assert!(members().is_empty());
}

#[tokio::test]
async fn orphans_end_with_the_main_process() {
    let sandbox = sandbox().await;
    let script = "(setsid sleep 600 &)\n\
                  (env -i setsid /bin/sh -c 'cd /; echo $$; exec sleep 600' &)\n\
                  sleep 0.3";
    let (code, log) = run(&sandbox, parts(&sandbox, OTHER, script)).await;
    assert_eq!(code, 0);
    let orphan: i32 = log.trim().parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{orphan}/stat"));
    // It may not be buried yet.
    assert!(
        stat.as_ref().is_ok_and(|stat| stat.contains(") Z ")) || stat.is_err(),
        "{stat:?}"
    );
    assert!(instance::processes(sandbox.folder(), "runner-x7k2p").is_empty());
}

#[tokio::test]
async fn dropping_the_sandbox_ends_containers() {
    let sandbox = sandbox().await;
    let container = start(&sandbox, parts(&sandbox, OTHER, "echo $$; sleep 600")).await;
    assert!(until(|| container.log().ends_with('\n')).await);
    let process = PathBuf::from("/proc").join(container.log().trim());
    assert!(process.exists());
    drop(sandbox);
    assert_eq!(container.exited().await, 137);
    assert!(!process.exists());
}

#[tokio::test]
async fn mounts_are_below_the_root_and_so_are_arguments() {
    let sandbox = sandbox().await;
    let mut parts = parts(&sandbox, OTHER, "");
    parts.command = ["/bin/sh", "/etc/runner-launch/bootstrap"]
        .map(Into::into)
        .into();
    parts.files = vec![secret(0o400, None)];
    parts.folders = vec!["/var/lib/runner-launch".into()];
    let (code, log) = run(&sandbox, parts).await;
    let root = root(&sandbox);
    let file = root.join("etc/runner-launch/bootstrap");
    assert_eq!((code, log), (0, format!("booting {}\n", file.display())));
    assert_eq!(mode(&file), 0o400);
    if is_root() {
        assert_eq!(mode(file.parent().unwrap()), 0o555);
    }
    assert_eq!(mode(&root.join("var/lib/runner-launch")), 0o777);
}

#[test]
fn arguments_elsewhere_stay_as_they_are() {
    let mut parts = Parts {
        sandbox: PathBuf::new(),
        id: String::new(),
        image: OTHER.into(),
        command: Vec::new(),
        env: Vec::new(),
        files: vec![secret(0o400, None)],
        folders: vec!["/var/lib/runner-launch".into()],
        user: None,
        non_root: false,
        no_new_privileges: false,
        privileged: false,
        capabilities: Capabilities::default(),
        agent: PathBuf::new(),
    };
    let words = [
        "/etc/runner-launch",
        "/etc/runner-launch-2/x",
        "/var/lib/runner-launch/a b",
        "--file=/etc/runner-launch/x",
        "/etc/passwd",
        "",
    ];
    let rewrite = |parts: &Parts| {
        super::mounts::rewrite(words.map(Into::into).into(), Path::new("/r"), parts)
    };
    let mut expected = words.map(str::to_owned);
    expected[0] = "/r/etc/runner-launch".into();
    expected[2] = "/r/var/lib/runner-launch/a b".into();
    assert_eq!(rewrite(&parts), expected);
    parts.files.clear();
    parts.folders.clear();
    assert_eq!(rewrite(&parts), words);
}
