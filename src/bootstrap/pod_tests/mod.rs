//! The pod's script under every shell that is here.

mod image;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tests::config;
use super::*;
use image::{AGENT, BARE_WGET, CURL, Pod, WGET, under_every_shell};

fn terminate(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn a_runner_lives_and_the_pod_has_succeeded() {
    under_every_shell(|pod, shell| {
        let startup = r#"echo "startup $HOME" >>"$RUNNER_LAUNCH_ROOT/calls""#;
        let outcome = pod.run(Some(startup));
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        let mut calls: Vec<&str> = outcome.calls.lines().collect();
        // Side by side, so in any order.
        calls[1..3].sort_unstable();
        let startup = format!("startup {}", pod.path("root").display());
        assert!(calls[0].starts_with("curl "), "{shell}: {calls:?}");
        assert_eq!(
            calls[1..],
            ["prepare", &startup, "run", "release"],
            "{shell}"
        );
        let mode = |file: &str| fs::metadata(pod.path(file)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("var/lib/runner-launch"), 0o755);
        assert_eq!(mode("var/lib/runner-launch/agent.json"), 0o600);
        assert!(!pod.path("var/lib/runner-launch/startup").exists());
        let config = pod.read("var/lib/runner-launch/agent.json");
        assert!(config.contains(r#""name":"n""#), "{config}");
        // A timer that is left would signal whoever has the script's number by then.
        let ended = Instant::now();
        while !pod.processes().is_empty() {
            assert!(ended.elapsed() < Duration::from_secs(5), "{shell}");
            sleep(Duration::from_millis(10));
        }
        // Nothing is said of what is there.
        assert!(!outcome.log.contains("warning"), "{shell}: {}", outcome.log);
    });
}

#[test]
fn a_signal_reaches_the_agent_whose_end_is_awaited() {
    let agent = r#"#!/bin/sh
[ "$2" = run ] || exit 0
trap 'echo TERM >>"$RUNNER_LAUNCH_ROOT/calls"; stop=yes' TERM
trap 'echo INT >>"$RUNNER_LAUNCH_ROOT/calls"' INT
touch "$RUNNER_LAUNCH_ROOT/running"
while [ -z "${stop:-}" ]; do sleep 0.1; done
sleep 0.5
echo ended >>"$RUNNER_LAUNCH_ROOT/calls"
"#;
    under_every_shell(|pod, shell| {
        pod.write("served", agent);
        let child = pod.start(agent, None, 60);
        pod.until("running");
        terminate(&child, Signal::SIGTERM);
        sleep(Duration::from_millis(250));
        terminate(&child, Signal::SIGTERM);
        let outcome = pod.end(child);
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        assert!(
            outcome.calls.contains("TERM\n"),
            "{shell}: {}",
            outcome.calls
        );
        assert!(
            outcome.calls.ends_with("ended\n"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn a_signal_before_the_agent_ends_everything_at_once() {
    under_every_shell(|pod, shell| {
        let startup = r#"touch "$RUNNER_LAUNCH_ROOT/starting"; exec sleep 30"#;
        let child = pod.start(AGENT, Some(startup), 60);
        pod.until("starting");
        let told = Instant::now();
        terminate(&child, Signal::SIGTERM);
        let outcome = pod.end(child);
        assert!(told.elapsed() < Duration::from_secs(15), "{shell}");
        assert_eq!(outcome.code, Some(143), "{shell}: {}", outcome.log);
        assert!(
            !outcome.calls.contains("run\n"),
            "{shell}: {}",
            outcome.calls
        );
        // The launcher may be gone, and its record with it.
        assert!(
            outcome.calls.contains("release\n"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn an_agent_that_is_killed_is_cleaned_up_after() {
    let agent = "#!/bin/sh\necho \"$2\" >>\"$RUNNER_LAUNCH_ROOT/calls\"\n[ \"$2\" != run ] || kill -KILL $$\n";
    under_every_shell(|pod, shell| {
        pod.write("served", agent);
        let outcome = pod.end(pod.start(agent, None, 60));
        assert_eq!(outcome.code, Some(137), "{shell}: {}", outcome.log);
        assert!(
            outcome.calls.ends_with("run\nrelease\n"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn a_runner_that_never_gets_ready_is_given_up() {
    // The agent may end as it likes then: it was too late.
    let agent = r#"#!/bin/sh
[ "$2" = run ] || exit 0
trap 'echo TERM >>"$RUNNER_LAUNCH_ROOT/calls"; exit 0' TERM
while :; do sleep 0.1; done
"#;
    under_every_shell(|pod, shell| {
        pod.write("served", agent);
        let outcome = pod.end(pod.start(agent, None, 5));
        assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
        let said = "error: the runner wasn't ready after 5 s";
        assert!(outcome.log.contains(said), "{shell}: {}", outcome.log);
        assert!(
            outcome.calls.contains("TERM\n"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn a_startup_script_that_hangs_is_given_up() {
    under_every_shell(|pod, shell| {
        let outcome = pod.end(pod.start(AGENT, Some("exec sleep 30"), 5));
        assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
        assert!(
            !outcome.calls.contains("run\n") && outcome.calls.contains("release\n"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn a_ready_runner_is_not_given_up() {
    // It ends well after the deadline, and the timer's number may be another's then.
    let agent = format!("{AGENT}[ \"$2\" != run ] || sleep 7\n");
    under_every_shell(|pod, shell| {
        pod.write("served", &agent);
        let outcome = pod.end(pod.start(&agent, None, 5));
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        assert_eq!(
            outcome.calls.lines().last(),
            Some("release"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn the_image_s_agent_is_taken_if_it_is_the_right_one() {
    under_every_shell(|pod, shell| {
        pod.program("runner-launch", AGENT);
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        assert_eq!(outcome.calls, "prepare\nrun\nrelease\n", "{shell}");
    });
    under_every_shell(|pod, shell| {
        pod.program(
            "runner-launch",
            "#!/bin/sh\necho wrong >>\"$RUNNER_LAUNCH_ROOT/calls\"\n",
        );
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        assert!(
            outcome.calls.starts_with("curl "),
            "{shell}: {}",
            outcome.calls
        );
        assert!(
            !outcome.calls.contains("wrong"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn another_agent_is_refused() {
    under_every_shell(|pod, shell| {
        pod.write(
            "served",
            "#!/bin/sh\necho wrong >>\"$RUNNER_LAUNCH_ROOT/calls\"\n",
        );
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
        let said =
            "error: the agent at https://example.com/agent is not the launcher's own version";
        assert!(outcome.log.contains(said), "{shell}: {}", outcome.log);
        assert!(
            !outcome.calls.contains("wrong"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn busybox_s_wget_is_enough_and_nothing_at_all_is_told() {
    for wget in [WGET, BARE_WGET] {
        under_every_shell(|pod, shell| {
            pod.without("curl");
            pod.without("git");
            pod.program("wget", wget);
            let outcome = pod.run(None);
            assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
            assert_eq!(outcome.calls, "wget\nprepare\nrun\nrelease\n", "{shell}");
            assert!(
                outcome.log.contains("warning: the image has no git"),
                "{shell}: {}",
                outcome.log
            );
        });
    }
    under_every_shell(|pod, shell| {
        pod.without("curl");
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
        let said =
            "error: neither curl nor wget is here to download the agent: put it into the image";
        assert!(outcome.log.contains(said), "{shell}: {}", outcome.log);
    });
}

#[test]
fn a_network_that_comes_late_is_waited_for_and_a_refusal_is_not() {
    under_every_shell(|pod, shell| {
        let late = "[ -e \"$RUNNER_LAUNCH_ROOT/tried\" ] || { touch \"$RUNNER_LAUNCH_ROOT/tried\"; exit 6; }\n";
        pod.program(
            "curl",
            &CURL.replacen("#!/bin/sh\n", &format!("#!/bin/sh\n{late}"), 1),
        );
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
    });
    under_every_shell(|pod, shell| {
        pod.program(
            "curl",
            "#!/bin/sh\necho curl >>\"$RUNNER_LAUNCH_ROOT/calls\"\nexit 22\n",
        );
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
        assert_eq!(outcome.calls, "curl\n", "{shell}");
        assert!(
            outcome.log.contains("error: downloading the agent from"),
            "{shell}: {}",
            outcome.log
        );
    });
}

#[test]
fn the_jobs_user_is_made_with_whatever_there_is() {
    let ends_with = |pod: &Pod, end: &str, shell: &str| {
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        let passwd = pod.read("etc/passwd");
        assert!(passwd.ends_with(end), "{shell}: {passwd}");
        outcome
    };
    // Nothing at all: number 1001 is another's, and the last line has no end.
    under_every_shell(|pod, shell| {
        fs::remove_dir(pod.path("home/runner")).unwrap();
        pod.write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nbuild:x:1001:50::/:/bin/sh",
        );
        pod.write("etc/group", "root:x:0:\nbuild:x:1002:");
        let made = ":/bin/sh\nrunner:x:1003:1003::/home/runner:".to_owned();
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        let passwd = pod.read("etc/passwd");
        assert!(passwd.contains(&made), "{shell}: {passwd}");
        assert_eq!(
            pod.read("etc/group"),
            "root:x:0:\nbuild:x:1002:\nrunner:x:1003:\n"
        );
        assert!(pod.path("home/runner").is_dir());
        assert!(
            outcome.calls.contains("chown 1003:1003\n"),
            "{shell}: {}",
            outcome.calls
        );
        assert!(!pod.path("etc/sudoers.d").exists());
    });
    under_every_shell(|pod, shell| {
        pod.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        pod.program(
            "useradd",
            "#!/bin/sh\n[ \"$1 $2 $3 $4 $6\" = '--create-home --skel /dev/null --shell runner' ] || exit 2\necho 'runner:useradd' >>\"$RUNNER_LAUNCH_ROOT/etc/passwd\"\n",
        );
        ends_with(pod, "/bin/sh\nrunner:useradd\n", shell);
    });
    under_every_shell(|pod, shell| {
        pod.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        pod.program("useradd", "#!/bin/sh\nexit 1\n");
        pod.program(
            "adduser",
            "#!/bin/sh\n[ \"$1 $2 $4\" = '-D -s runner' ] || exit 1\necho 'runner:adduser' >>\"$RUNNER_LAUNCH_ROOT/etc/passwd\"\n",
        );
        ends_with(pod, "/bin/sh\nrunner:adduser\n", shell);
    });
    // A list that can't be changed costs a warning.
    under_every_shell(|pod, shell| {
        fs::remove_file(pod.path("etc/passwd")).unwrap();
        fs::remove_file(pod.path("etc/group")).unwrap();
        fs::create_dir(pod.path("etc/group")).unwrap();
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        assert!(
            outcome.log.contains("the jobs' user has no name"),
            "{shell}: {}",
            outcome.log
        );
    });
}

#[test]
fn without_root_nothing_is_made_and_the_risk_is_told() {
    under_every_shell(|pod, shell| {
        pod.program("id", "#!/bin/sh\necho 1001\n");
        pod.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        let outcome = pod.run(Some(r#"[ "$HOME" = "$RUNNER_LAUNCH_ROOT/root" ]"#));
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        assert_eq!(pod.read("etc/passwd"), "root:x:0:0::/root:/bin/sh\n");
        assert!(
            outcome.log.contains("warning: not root here"),
            "{shell}: {}",
            outcome.log
        );
    });
}

#[test]
fn a_startup_script_that_fails_is_told_with_its_code() {
    under_every_shell(|pod, shell| {
        let outcome = pod.run(Some("#!/bin/sh\nexit 7\n"));
        assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
        let said = "error: the startup script failed with exit code 7";
        assert!(outcome.log.contains(said), "{shell}: {}", outcome.log);
        assert!(
            !outcome.calls.contains("run\n") && outcome.calls.contains("release\n"),
            "{shell}: {}",
            outcome.calls
        );
    });
}

#[test]
fn a_tool_that_is_missing_is_told_before_anything_is_made() {
    for tool in ["id", "tail", "uname"] {
        under_every_shell(|pod, shell| {
            // BusyBox's shell may have it built in.
            if shell.contains("busybox") {
                return;
            }
            pod.without(tool);
            let outcome = pod.run(None);
            assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
            let said = format!("error: the image has no {tool}\n");
            assert!(outcome.log.contains(&said), "{shell}: {}", outcome.log);
            assert_eq!(outcome.calls, "", "{shell}");
        });
    }
}

#[test]
fn a_registration_that_jobs_could_read_is_refused_unless_they_run_as_the_agent() {
    for mode in [0o440, 0o404] {
        under_every_shell(|pod, shell| {
            pod.mode = mode;
            let outcome = pod.run(None);
            assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
            assert!(outcome.log.contains("fsGroup"), "{shell}: {}", outcome.log);
            assert_eq!(outcome.calls, "", "{shell}");
            pod.program("id", "#!/bin/sh\necho 1001\n");
            let outcome = pod.run(None);
            assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.log);
        });
    }
}

#[test]
fn a_container_that_is_started_again_ends() {
    under_every_shell(|pod, shell| {
        assert_eq!(pod.run(None).code, Some(0), "{shell}");
        fs::remove_file(pod.path("calls")).unwrap();
        let outcome = pod.run(None);
        assert_eq!(outcome.code, Some(1), "{shell}: {}", outcome.log);
        assert_eq!(outcome.calls, "release\n", "{shell}");
    });
}

#[test]
fn a_script_that_is_too_long_for_a_pod_is_refused() {
    let long = vec![b'x'; 4096];
    let agents = BTreeMap::new();
    let config = AgentConfig {
        place: Place::Pod {
            user: "runner".into(),
        },
        ..config()
    };
    let bootstrap = Bootstrap {
        name: "n",
        deadline: Duration::from_secs(1),
        agents: &agents,
        config: &config,
        startup_script: Some(&long),
        ssh_key: None,
        farewell: "",
        closed: ClosedMetadata::Paths(&[]),
    };
    // Compressed it would be short enough, but nothing there could read it.
    let error = bootstrap.user_data(12_000).unwrap_err();
    assert!(error.chain().contains("takes 12000"), "{}", error.chain());
    assert_eq!(error.kind(), crate::error::Kind::Usage);
    let script = bootstrap.script().unwrap();
    assert!(!script.contains("sudoers") && !script.contains("poweroff"));
}
