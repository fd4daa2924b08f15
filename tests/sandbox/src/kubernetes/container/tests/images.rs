//! What the images bring and lack.

use super::{
    AGENT, BARE, Container, GITHUB, GITLAB, OTHER, TOOLS, is_root, parts, root, run, run_in,
    sandbox,
};

#[tokio::test]
async fn a_program_that_is_not_there_starts_nothing() {
    for program in [
        "no-such-program",
        "/usr/bin/no-such-program",
        "wget",
        "/usr/bin/wget",
        "systemctl",
        "/opt/x",
    ] {
        let sandbox = sandbox().await;
        let mut parts = parts(&sandbox, BARE, "");
        parts.command = vec![program.into()];
        let error = Container::start(parts, sandbox.wire.clone())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{program}");
        assert!(error.to_string().contains(program), "{error}");
    }
}

/// Prints which of these a container finds.
const LOOK: &str = "for name in curl wget git docker sudo runner-launch gitlab-runner systemctl \
    systemd-run shutdown poweroff iptables; do\n\
    command -v $name >/dev/null && printf '%s ' $name\n\
    done\n\
    id -un runner 2>/dev/null; id -un gitlab-runner 2>/dev/null; :";

#[tokio::test]
async fn images_bring_what_they_bring() {
    for (image, found) in [
        (GITHUB, "curl git docker sudo runner\n"),
        (GITLAB, "wget git gitlab-runner gitlab-runner\n"),
        (TOOLS, "wget "),
        (AGENT, "curl runner-launch "),
        (BARE, ""),
        (OTHER, "curl "),
        ("debian:12", ""),
        ("docker.io/library/ubuntu:24.04", ""),
        (
            "gitlab/gitlab-runner:latest",
            "wget git gitlab-runner gitlab-runner\n",
        ),
        ("registry.example/no-bash:1", "curl "),
    ] {
        assert_eq!(run_in(image, LOOK).await, (0, found.into()), "{image}");
    }
}

#[tokio::test]
async fn an_image_may_be_without_bash() {
    let look = "command -v bash >/dev/null";
    assert_eq!(run_in("registry.example/no-bash:1", look).await.0, 127);
    assert_eq!(run_in(OTHER, look).await.0, 0);
}

#[tokio::test]
async fn githubs_image_holds_its_runner_program_for_its_own_user() {
    let sandbox = sandbox().await;
    let script = "pwd; bin/Runner.Listener --version; ./run.sh; touch mine; docker ps; sudo id; \
                  [ -z \"$RUNNER_MANUALLY_TRAP_SIG\" ] || echo \"$HOME\"";
    let mut parts = parts(&sandbox, GITHUB, script);
    parts.user = None;
    let (_, log) = run(&sandbox, parts).await;
    let home = root(&sandbox).join("home/runner").display().to_string();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], [&home, "2.330.0"], "{log}");
    assert_eq!(lines.last(), Some(&home.as_str()), "{log}");
    if is_root() {
        assert!(log.contains("Not configured."), "{log}");
        assert!(log.contains("\"no new privileges\" flag is set"), "{log}");
    }
    assert!(log.contains("Cannot connect to the Docker daemon"), "{log}");
    assert!(root(&sandbox).join("home/runner/mine").exists());
}

#[tokio::test]
async fn an_images_tag_is_its_programs_version() {
    let (_, log) = run_in(
        "ghcr.io/actions/actions-runner:2.329.0",
        "bin/Runner.Listener --version",
    )
    .await;
    assert_eq!(log, "2.329.0\n");
    let image = "registry.gitlab.com/gitlab-org/gitlab-runner:v17.11.0";
    let (_, log) = run_in(image, "gitlab-runner --version").await;
    assert!(log.starts_with("Version:      17.11.0\n"), "{log}");
}

#[tokio::test]
async fn without_a_command_the_images_own_runs() {
    let sandbox = sandbox().await;
    let mut parts = parts(&sandbox, GITLAB, "");
    parts.command = Vec::new();
    let (code, log) = run(&sandbox, parts).await;
    // The stand-in serves a single runner only.
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("Command run not found."), "{log}");
}

#[tokio::test]
async fn containers_download_and_are_known_as_callers() {
    for (image, command) in [(TOOLS, "wget -q -O -"), (OTHER, "curl -fsS")] {
        let sandbox = sandbox().await;
        let (_, url) = sandbox.downloads.env().remove(0);
        let sums = url.replace("runner-launch-linux-{arch}", "SHA256SUMS");
        let mut parts = parts(&sandbox, image, &format!("{command} {sums}"));
        parts.user = Some(1000);
        let (code, log) = run(&sandbox, parts).await;
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("runner-launch-linux-x86_64"), "{log}");
        let call = sandbox.calls().pop().unwrap();
        assert_eq!(call.peer, crate::Caller::Instance("runner-x7k2p".into()));
    }
}

#[tokio::test]
async fn a_host_without_wget_has_its_commonest_options() {
    let sandbox = sandbox().await;
    let (_, url) = sandbox.downloads.env().remove(0);
    let url = url.replace("runner-launch-linux-{arch}", "");
    let folder = tempfile::tempdir().unwrap();
    let curl = crate::instance::disk::host_program("curl").unwrap();
    std::os::unix::fs::symlink(curl, folder.path().join("curl")).unwrap();
    let script = include_str!("../../../instance/shims/wget.sh")
        .replace("@HOST_PATH@", &folder.path().display().to_string());
    std::fs::write(folder.path().join("wget"), script).unwrap();
    for (words, code) in [
        ("-q --tries=5 --timeout=60 -O out @SHA256SUMS", 0),
        ("-nv -t 1 -T 5 --header 'X-A: b' -O./out @SHA256SUMS", 0),
        ("-qO - @SHA256SUMS | grep -q runner-launch", 0),
        ("@SHA256SUMS && mv SHA256SUMS out", 0),
        ("-q -O out @nothing", 8),
        ("-q --tries=1 -O out http://127.0.0.1:1/", 4),
        ("--no-such-option @SHA256SUMS", 2),
        ("-q", 1),
    ] {
        let words = words.replace('@', &url);
        let mut parts = parts(
            &sandbox,
            BARE,
            &format!(
                "cd $RUNNER_LAUNCH_ROOT/tmp; sh {}/wget {words}",
                folder.path().display()
            ),
        );
        parts.id = format!("runner-{code}-{}", words.len());
        let out = sandbox
            .folder()
            .join("instances")
            .join(&parts.id)
            .join("root/tmp/out");
        let (status, log) = run(&sandbox, parts).await;
        assert_eq!(status, code, "{words}: {log}");
        if code == 0 && !words.contains('|') {
            assert!(
                std::fs::read_to_string(out)
                    .unwrap()
                    .contains("runner-launch-linux")
            );
        }
    }
}

#[test]
fn registries_refuse_what_they_dont_have_and_whom_they_dont_know() {
    let missing = Container::pull("registry.example/missing:1").unwrap_err();
    assert!(
        missing.ends_with("registry.example/missing:1: not found"),
        "{missing}"
    );
    let private = Container::pull("registry.example/private:1").unwrap_err();
    assert!(private.ends_with("401 Unauthorized"), "{private}");
    let pulled = Container::pull(GITHUB).unwrap();
    assert!(
        pulled
            .id
            .starts_with("ghcr.io/actions/actions-runner@sha256:")
    );
    assert!(pulled.size > 0);
    assert_eq!(
        Container::pull("localhost:5000/x")
            .unwrap()
            .id
            .split('@')
            .next(),
        Some("localhost:5000/x")
    );
}
