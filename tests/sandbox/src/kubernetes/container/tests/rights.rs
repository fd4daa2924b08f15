//! Who a container's processes are, and what they may do.

use super::{
    Capabilities, Container, GITHUB, OTHER, TOOLS, is_root, mode, parts, root, run, run_in,
    sandbox, secret,
};

/// What a user other than root can do: everything here is told by the log.
const POWERS: &str = "[ $(id -u) -ne 0 ] && echo not root\n\
    cat $RUNNER_LAUNCH_ROOT/etc/runner-launch/bootstrap\n\
    echo x 2>/dev/null >$RUNNER_LAUNCH_ROOT/etc/runner-launch/bootstrap || echo read only\n\
    echo x 2>/dev/null >$RUNNER_LAUNCH_ROOT/etc/runner-launch/new || echo nothing new\n\
    echo x >$RUNNER_LAUNCH_ROOT/var/lib/runner-launch/x && echo a place to write\n\
    useradd runner || echo no user\n\
    echo to the console >/dev/stderr\n";

#[tokio::test]
async fn another_user_than_root_has_no_rights() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox().await;
    let mut parts = parts(&sandbox, OTHER, POWERS);
    parts.user = Some(1000);
    parts.non_root = true;
    parts.files = vec![secret(0o400, None)];
    parts.folders = vec!["/var/lib/runner-launch".into()];
    let (code, log) = run(&sandbox, parts).await;
    assert_eq!(code, 0, "{log}");
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.starts_with("useradd: "))
        .collect();
    assert!(lines[1].ends_with("Permission denied"), "{log}");
    assert_eq!(
        (lines[0], &lines[2..]),
        (
            "not root",
            &[
                "read only",
                "nothing new",
                "a place to write",
                "no user",
                "to the console"
            ][..]
        )
    );
    let passwd = std::fs::read_to_string(root(&sandbox).join("etc/passwd")).unwrap();
    assert!(!passwd.contains("runner:"), "{passwd}");
}

#[tokio::test]
async fn the_pods_group_may_read_secrets() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox().await;
    let mut parts = parts(&sandbox, OTHER, POWERS);
    parts.user = Some(1000);
    parts.files = vec![secret(0o400, Some(64499))];
    parts.folders = vec!["/var/lib/runner-launch".into()];
    let (_, log) = run(&sandbox, parts).await;
    assert!(
        log.starts_with("not root\necho \"booting $0\"\nread only\nnothing new\n"),
        "{log}"
    );
    assert_eq!(
        mode(&root(&sandbox).join("etc/runner-launch/bootstrap")),
        0o440
    );
}

#[tokio::test]
async fn whoever_must_not_be_root_is_refused_as_root() {
    let sandbox = sandbox().await;
    for (image, user, said) in [
        (
            OTHER,
            Some(0),
            "container's runAsUser breaks non-root policy",
        ),
        (
            OTHER,
            None,
            "container has runAsNonRoot and image will run as root",
        ),
        (
            GITHUB,
            None,
            "image has non-numeric user (runner), cannot verify",
        ),
    ] {
        let mut parts = parts(&sandbox, image, "true");
        parts.user = user;
        parts.non_root = true;
        let error = Container::start(parts, sandbox.wire.clone())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn root_adds_users_and_gives_them_files() {
    let script = "useradd --create-home --shell /bin/bash runner && id -u runner\n\
                  touch $RUNNER_LAUNCH_ROOT/tmp/x && chown runner: $RUNNER_LAUNCH_ROOT/tmp/x\n\
                  getent passwd runner | cut -d: -f6";
    let (code, log) = run_in(TOOLS, script).await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        (code, lines.len(), lines[1]),
        (0, 2, "/home/runner"),
        "{log}"
    );
    assert!(lines[0].parse::<u32>().is_ok());
}

#[tokio::test]
async fn privileged_containers_see_devices() {
    for privileged in [false, true] {
        let sandbox = sandbox().await;
        let mut parts = parts(&sandbox, OTHER, "[ -e $RUNNER_LAUNCH_ROOT/dev/fuse ]");
        parts.privileged = privileged;
        assert_eq!(run(&sandbox, parts).await.0, i32::from(!privileged));
    }
}

#[tokio::test]
async fn root_has_the_capabilities_that_its_container_has() {
    if !is_root() {
        return;
    }
    let six = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "KILL",
        "SETGID",
        "SETUID",
    ];
    let six = Capabilities::of(six.into_iter(), ["ALL"].into_iter()).unwrap();
    let none = Capabilities::of([].into_iter(), ["ALL"].into_iter()).unwrap();
    let usual = Capabilities::default();
    for (capabilities, user, effective, bounding) in [
        (six, 0, 0xeb_u64, 0xeb_u64),
        (six, 1000, 0, 0xeb),
        (none, 0, 0, 0),
        (usual, 0, 0xa804_25fb, 0xa804_25fb),
        (usual, 1000, 0, 0xa804_25fb),
    ] {
        let sandbox = sandbox().await;
        let mut parts = parts(&sandbox, OTHER, "grep ^Cap /proc/self/status");
        parts.user = Some(user);
        parts.capabilities = capabilities;
        let (_, log) = run(&sandbox, parts).await;
        let sets = [0, effective, effective, bounding, 0];
        let names = ["Inh", "Prm", "Eff", "Bnd", "Amb"];
        let lines = names.iter().zip(sets);
        let expected: String = lines
            .map(|(name, set)| format!("Cap{name}:\t{set:016x}\n"))
            .collect();
        assert_eq!(log, expected);
    }
    // One that drops all can't even become another user.
    let sandbox = sandbox().await;
    let script = "setpriv --reuid 1000 --clear-groups true";
    let mut parts = parts(&sandbox, OTHER, script);
    parts.capabilities = none;
    let (code, log) = run(&sandbox, parts).await;
    assert_ne!(code, 0, "{log}");
    assert!(log.contains("Operation not permitted"), "{log}");
}

#[tokio::test]
async fn new_users_get_what_the_skeleton_has() {
    let files = "ls -A $RUNNER_LAUNCH_ROOT/home/runner";
    for (options, expected) in [("", ".bash_logout\n"), ("--skel /dev/null", "")] {
        let script = format!("useradd --create-home {options} runner && {files}");
        assert_eq!(run_in(OTHER, &script).await, (0, expected.into()));
    }
    let script = "for SHLVL in 1 2; do\n\
                  (. $RUNNER_LAUNCH_ROOT/etc/skel/.bash_logout) 2>/dev/null; echo $?\n\
                  done";
    assert_eq!(run_in(OTHER, script).await, (0, "1\n0\n".into()));
}

#[tokio::test]
async fn debians_profile_resets_the_search_path() {
    let script = "PATH=/more:$PATH; . $RUNNER_LAUNCH_ROOT/etc/profile; echo ${PATH%%:*}";
    for (image, keeps) in [(OTHER, false), (GITHUB, true)] {
        let (code, log) = run_in(image, script).await;
        assert_eq!((code, log.trim() == "/more"), (0, keeps), "{image}: {log}");
    }
}
