//! The stand-in runner program against the fake GitHub: the whole life of a runner.

mod support;

use std::time::{Duration, Instant};

use sandbox::{Event, FaultKind, GitHub, JobScript, RunView};
use support::{Runner, Running, admin, jit, sandbox, script, until};

fn shell(script: &str) -> JobScript {
    JobScript::Shell(script.into())
}

async fn completed(github: &GitHub, run: u64) -> RunView {
    until("the run ends", || {
        github.run(run).filter(|run| run.status == "completed")
    })
    .await
}

async fn in_progress(github: &GitHub, run: u64) {
    until("the job starts", || {
        github.run(run).filter(|run| run.status == "in_progress")
    })
    .await;
}

async fn online(github: &GitHub, name: &str) {
    until("the runner is online", || {
        github
            .runners()
            .into_iter()
            .find(|r| r.name == name && r.online)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_runner_takes_jobs_until_it_is_stopped() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    let configured = runner.configure(&github, "r1", &["--disableupdate"]).await;
    assert!(configured.success, "{}", configured.output);
    for line in [
        "Self-hosted runner registration",
        "√ Runner successfully added",
        "√ Settings Saved.",
    ] {
        assert!(configured.output.contains(line), "{}", configured.output);
    }
    let record = github.runners().remove(0);
    assert_eq!(
        record.labels,
        ["self-hosted", "Linux", "X64", "gpu", "fast"]
    );
    assert!(!record.online && !record.busy && !record.ephemeral);

    let note = runner.folder.join("note");
    let hook = script(
        &runner.folder,
        "started.sh",
        &format!(
            "echo \"$GITHUB_RUN_ID $GITHUB_REPOSITORY $GITHUB_JOB\" >{}",
            note.display()
        ),
    );
    let mut program = runner.run(&[
        ("ACTIONS_RUNNER_HOOK_JOB_STARTED", &hook),
        ("ACTIONS_RUNNER_INPUT_PAT", "never-seen"),
        ("SEEN", "by the job"),
    ]);
    let started = Instant::now();
    program.says("Listening for Jobs").await;
    // Some 50 ms on an idle machine.
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        program.says("Current runner version").await,
        "Current runner version: '2.330.0'"
    );
    online(&github, "r1").await;

    let good = github.queue_run(
        "octo/repo",
        "train (a, b)",
        &["GPU", "self-hosted"],
        shell("echo one; echo two >&2; pwd"),
    );
    let run = completed(&github, good).await;
    let job = &run.jobs[0];
    assert_eq!(run.conclusion.as_deref(), Some("success"), "{job:?}");
    assert_eq!(job.runner_name.as_deref(), Some("r1"));
    assert_eq!(job.output[..2], ["one", "two"]);
    assert!(
        job.output[2].ends_with("/_work/repo/repo"),
        "{:?}",
        job.output
    );
    program.says("Running job: train (a, b)").await;
    program
        .says("Job train (a, b) completed with result: Succeeded")
        .await;
    assert_eq!(
        std::fs::read_to_string(&note).unwrap(),
        format!("{good} octo/repo train\n")
    );
    for variable in [
        format!("GITHUB_RUN_ID={good}"),
        "SEEN=by the job".into(),
        "RUNNER_NAME=r1".into(),
    ] {
        assert!(job.environment.contains(&variable), "{:?}", job.environment);
    }
    let secrets = sandbox.secrets();
    for variable in &job.environment {
        assert!(!variable.contains("ACTIONS_RUNNER_INPUT"), "{variable}");
        assert!(
            !secrets.iter().any(|secret| variable.contains(secret)),
            "{variable}"
        );
    }

    let bad = github.queue_run(
        "octo/repo",
        "test",
        &["fast"],
        shell("false; echo not reached"),
    );
    let run = completed(&github, bad).await;
    assert_eq!(run.conclusion.as_deref(), Some("failure"));
    assert_eq!(run.jobs[0].output, [""; 0]);
    program.says("Job test completed with result: Failed").await;
    let unwanted = github.queue_run("octo/repo", "other", &["tpu"], shell("true"));

    program.signal("INT");
    program.ended().await;
    until("it is offline", || {
        github.runners().into_iter().find(|r| !r.online)
    })
    .await;
    assert_eq!(github.run(unwanted).unwrap().status, "queued");
    let left = sandbox.shutdown().await;
    assert_eq!(left, ["runner r1 of octo/repo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_runner_is_gone_after_its_job() {
    let (sink, mut events) = tokio::sync::mpsc::unbounded_channel();
    let mut config = sandbox::Config::new("/bin/sh");
    config.verbose_sink = Some(sink);
    let sandbox = sandbox::Sandbox::start(config).await.unwrap();
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    assert!(
        runner
            .configure(&github, "r1", &["--ephemeral"])
            .await
            .success
    );
    let first = github.queue_run("octo/repo", "one", &["gpu"], shell("echo hello"));
    let second = github.queue_run("octo/repo", "two", &["gpu"], shell("true"));
    let mut program = runner.run(&[]);
    program.says("√ Removed .credentials").await;
    program.ended().await;
    assert_eq!(
        github.run(first).unwrap().conclusion.as_deref(),
        Some("success")
    );
    assert_eq!(github.run(second).unwrap().status, "queued");
    assert_eq!(github.runners(), []);
    assert!(!runner.folder.join(".runner").exists());
    assert_eq!(sandbox.shutdown().await, [""; 0]);

    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Runner { state, .. } => seen.push(state),
            Event::Job { name, state, .. } if name == "one" => seen.push(state),
            Event::JobOutput { line, .. } => seen.push(line),
            _ => {}
        }
    }
    let expected = [
        "registered",
        "queued",
        "online",
        "busy",
        "in_progress",
        "hello",
        "completed: success",
        "removed",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_just_in_time_configuration_is_good_for_one_session() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    let config = jit(&github, "j1").await;
    let mut program = runner.run(&[("ACTIONS_RUNNER_INPUT_JITCONFIG", &config)]);
    program.says("Listening for Jobs").await;
    program.signal("TERM");
    program.ended().await;
    until("the session is over", || {
        github.runners().into_iter().find(|r| !r.online)
    })
    .await;

    let mut again = runner.run(&[("ACTIONS_RUNNER_INPUT_JITCONFIG", &config)]);
    again.says("The runner registration has been deleted").await;
    again.ended().await;

    let other = Runner::download(&github).await;
    let config = jit(&github, "j2").await;
    let run = github.queue_run(
        "octo/repo",
        "train",
        &["gpu"],
        JobScript::Sleep(Duration::from_millis(50)),
    );
    let mut program = Running::from_command(other.command("run.sh", &["--jitconfig", &config]));
    program.ended().await;
    program.says("completed with result: Succeeded").await;
    let run = github.run(run).unwrap();
    assert_eq!(run.conclusion.as_deref(), Some("success"));
    assert!(
        !run.jobs[0]
            .environment
            .iter()
            .any(|variable| variable.contains(&config))
    );
    let names: Vec<String> = github.runners().into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["j1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_ends_its_job() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    assert!(runner.configure(&github, "r1", &[]).await.success);
    let program = runner.run(&[]);
    let run = github.queue_run("octo/repo", "train", &["gpu"], shell("echo $$; sleep 600"));
    in_progress(&github, run).await;
    program.says("Running job: train").await;
    let busy = github.runners().remove(0);
    assert!(busy.busy);
    let path = format!("/repos/octo/repo/actions/runners/{}", busy.id);
    let refused = admin(&github, "DELETE", &path, "").await;
    assert_eq!(refused.status, 422);
    assert!(refused.message().contains("\"r1\" is still running a job"));
    let path = format!("/repos/octo/repo/actions/runs/{run}");
    let early = admin(&github, "POST", &format!("{path}/rerun"), "").await;
    assert_eq!(
        (early.status, early.message().as_str()),
        (403, "This workflow is already running")
    );

    let pid = until("the job prints", || {
        github.run(run)?.jobs[0].output.first().cloned()
    })
    .await;
    assert_eq!(
        admin(&github, "POST", &format!("{path}/cancel"), "")
            .await
            .status,
        202
    );
    let ended = completed(&github, run).await;
    assert_eq!(ended.conclusion.as_deref(), Some("cancelled"));
    program
        .says("Job train completed with result: Canceled")
        .await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(
        admin(&github, "POST", &format!("{path}/cancel"), "")
            .await
            .status,
        409
    );

    // The same script again, as the second attempt, on the same runner.
    assert_eq!(
        admin(&github, "POST", &format!("{path}/rerun"), "")
            .await
            .status,
        201
    );
    in_progress(&github, run).await;
    assert_eq!(github.run(run).unwrap().attempt, 2);
    assert_eq!(
        admin(&github, "POST", &format!("{path}/force-cancel"), "")
            .await
            .status,
        202
    );
    assert_eq!(github.run(run).unwrap().status, "completed");
    let all = admin(&github, "GET", &format!("{path}/jobs?filter=all"), "")
        .await
        .json();
    let latest = admin(&github, "GET", &format!("{path}/jobs"), "")
        .await
        .json();
    assert_eq!(
        (&all["total_count"], &latest["total_count"]),
        (&2.into(), &1.into())
    );
    assert_eq!(latest["jobs"][0]["run_attempt"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_runner_cancels_its_job() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    for (signal, name) in [("TERM", "r1"), ("INT", "r2")] {
        let runner = Runner::download(&github).await;
        assert!(runner.configure(&github, name, &[]).await.success);
        let mut program = runner.run(&[]);
        let run = github.queue_run("octo/repo", "train", &["gpu"], shell("sleep 600"));
        in_progress(&github, run).await;
        program.says("Running job").await;
        program.signal(signal);
        let ended = completed(&github, run).await;
        assert_eq!(ended.conclusion.as_deref(), Some("cancelled"), "{signal}");
        assert_eq!(ended.jobs[0].annotation, None, "{signal}");
        program.ended().await;
        program
            .says("Job train completed with result: Canceled")
            .await;
        if signal == "INT" {
            // As a terminal's Control-C: run.sh waits for the listener.
            program.says("Exiting runner...").await;
        }
        until("it is offline", || {
            github
                .runners()
                .into_iter()
                .find(|r| r.name == name && !r.online)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_run_sh_alone_is_passed_on_where_asked() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    assert!(runner.configure(&github, "r1", &[]).await.success);
    let mut program = runner.run(&[("RUNNER_MANUALLY_TRAP_SIG", "1")]);
    let run = github.queue_run("octo/repo", "train", &["gpu"], shell("sleep 600"));
    program.says("Running job").await;
    program.signal_leader("TERM");
    program.ended().await;
    let run = github.run(run).unwrap();
    assert_eq!(run.conclusion.as_deref(), Some("cancelled"));
    program.says("Exiting runner...").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runner_loses_its_job() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    assert!(
        runner
            .configure(&github, "r1", &["--ephemeral"])
            .await
            .success
    );
    let mut program = runner.run(&[]);
    let run = github.queue_run("octo/repo", "train", &["gpu"], shell("echo $$; sleep 600"));
    let pid = until("the job prints", || {
        github.run(run)?.jobs[0].output.first().cloned()
    })
    .await;
    program.signal("KILL");
    program.ended().await;
    let killed = Instant::now();
    let ended = completed(&github, run).await;
    assert!(
        killed.elapsed() > Duration::from_secs(1),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(ended.conclusion.as_deref(), Some("failure"));
    let annotation = ended.jobs[0].annotation.clone().unwrap();
    assert!(
        annotation.contains("lost communication with the server"),
        "{annotation}"
    );
    let left = github.runners().remove(0);
    assert!(!left.online && !left.busy);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_hook_fails_the_job() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    assert!(runner.configure(&github, "r1", &[]).await.success);
    let failing = script(&runner.folder, "hook.sh", "echo hook; exit 3\n");
    let no_script = script(&runner.folder, "hook", "exit 0\n");
    for hook in [&failing, &no_script] {
        let mut program = runner.run(&[("ACTIONS_RUNNER_HOOK_JOB_STARTED", hook)]);
        let run = github.queue_run("octo/repo", "train", &["gpu"], shell("echo job"));
        let run = completed(&github, run).await;
        assert_eq!(run.conclusion.as_deref(), Some("failure"));
        assert!(!run.jobs[0].output.contains(&"job".to_owned()));
        program.signal("TERM");
        program.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shaky_connection_is_survived() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    assert!(runner.configure(&github, "r1", &[]).await.success);
    sandbox.fault("runner:session", Some(1), FaultKind::CutAfter);
    sandbox.fault("runner:message", Some(1), FaultKind::CutAfter);
    sandbox.fault("runner:message", Some(3), FaultKind::Status(502));
    sandbox.fault("runner:job", Some(3), FaultKind::CutAfter);
    sandbox.fault("runner:job", Some(5), FaultKind::Status(500));
    let run = github.queue_run(
        "octo/repo",
        "train",
        &["gpu"],
        shell("for i in 1 2 3 4; do echo $i; sleep 0.2; done"),
    );
    let _program = runner.run(&[]);
    let run = completed(&github, run).await;
    assert_eq!(run.conclusion.as_deref(), Some("success"));
    assert_eq!(run.jobs[0].output, ["1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprivileged_user_needs_nothing_else() {
    // Any uid that nobody has.
    const UID: u32 = 64_501;
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    let config = jit(&github, "j1").await;
    let mut command = runner.command("run.sh", &[]);
    command.env_remove("RUNNER_ALLOW_RUNASROOT");
    command.env("ACTIONS_RUNNER_INPUT_JITCONFIG", &config);
    if nix::unistd::geteuid().is_root() {
        let mut folders = vec![runner.folder.clone()];
        while let Some(path) = folders.pop() {
            std::os::unix::fs::chown(&path, Some(UID), Some(UID)).unwrap();
            if path.is_dir() {
                let entries = std::fs::read_dir(path).unwrap();
                folders.extend(entries.map(|entry| entry.unwrap().path()));
            }
        }
        command.uid(UID).gid(UID);
    }
    let run = github.queue_run("octo/repo", "train", &["gpu"], shell("id -u"));
    let mut program = Running::from_command(command);
    program.ended().await;
    let run = github.run(run).unwrap();
    assert_eq!(run.conclusion.as_deref(), Some("success"));
    assert_ne!(run.jobs[0].output, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_in_an_argument_list() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let runner = Runner::download(&github).await;
    assert!(runner.configure(&github, "r1", &[]).await.success);
    let program = runner.run(&[]);
    let run = github.queue_run(
        "octo/repo",
        "train",
        &["gpu"],
        shell("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done"),
    );
    program.says("Running job").await;
    let mut curls = 0;
    while github.run(run).unwrap().status != "completed" {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
                continue;
            };
            let line = String::from_utf8_lossy(&line).into_owned();
            curls += usize::from(line.contains("/_apis/runner/"));
            assert!(
                !sandbox.secrets().iter().any(|secret| line.contains(secret)),
                "{line}"
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(curls > 0, "no call was seen");
}
