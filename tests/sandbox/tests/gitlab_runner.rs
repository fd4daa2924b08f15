//! The stand-in for gitlab-runner against the fake GitLab: the whole life of a runner.

mod support;

use sandbox::{FaultKind, GitLab, JobScript};
use support::gitlab::{Program, completed, line, new_runner, owner, parsed, running};
use support::{Running, end, sandbox, until};

fn shell(script: &str) -> JobScript {
    JobScript::Shell(script.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_takes_jobs_until_it_is_stopped() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (id, token) = new_runner(&gitlab, "r1", "gpu,fast").await;
    let program = Program::download(&sandbox, "v18.5.0").await;
    program.configure(
        &gitlab,
        &token,
        "  executor = \"shell\"\n  environment = [\"MORE=a b\"]\n",
    );
    assert_eq!(gitlab.runners()[0].status, "never_contacted");

    let mut runner = program.run(&["--wait-timeout=600"]);
    runner.says("Starting runner for").await;
    until("it is online", || {
        gitlab.runners().into_iter().find(|runner| runner.online)
    })
    .await;
    let record = gitlab.runners().remove(0);
    assert_eq!((record.id, record.status.as_str()), (id, "online"));
    assert_eq!(record.version.as_deref(), Some("18.5.0"));
    assert_eq!(record.executor.as_deref(), Some("shell"));

    let good = gitlab.queue_pipeline(
        "octo/repo",
        "train",
        &["gpu"],
        shell("echo one; echo two >&2; pwd"),
    );
    let pipeline = completed(&gitlab, good).await;
    let job = &pipeline.jobs[0];
    assert_eq!(pipeline.status, "success", "{job:?}");
    assert_eq!(job.runner_name.as_deref(), Some("r1"));
    let output = job.output.join("\n");
    for line in ["one", "two", "/octo/repo", "Using Shell", "Job succeeded"] {
        assert!(output.contains(line), "{output}");
    }
    for variable in [
        format!("CI_PIPELINE_ID={good}"),
        "CI_RUNNER_DESCRIPTION=r1".into(),
        "CI_RUNNER_TAGS=[\"gpu\",\"fast\"]".into(),
        "MORE=a b".into(),
    ] {
        assert!(job.environment.contains(&variable), "{:?}", job.environment);
    }
    let secrets = sandbox.secrets();
    for variable in &job.environment {
        let known = secrets.iter().find(|secret| variable.contains(*secret));
        assert_eq!(known, None, "{variable}");
    }
    runner.says("Submitting job to coordinator...ok").await;
    let received = line(&runner, "Checking for jobs... received");
    assert_eq!(received["job"], job.id);
    let ended = line(&runner, "Job succeeded");
    assert!(ended["duration_s"].is_f64(), "{ended}");
    assert_eq!(ended["level"], "info");

    let bad = gitlab.queue_pipeline("octo/repo", "test", &[], shell("false; echo not reached"));
    let pipeline = completed(&gitlab, bad).await;
    assert_eq!(pipeline.status, "failed");
    assert_eq!(
        pipeline.jobs[0].failure_reason.as_deref(),
        Some("script_failure")
    );
    runner.says("Failed to process build").await;
    let ended = line(&runner, "Job failed: exit status 1");
    assert_eq!(ended["level"], "warning");
    let unwanted = gitlab.queue_pipeline("octo/repo", "other", &["tpu"], shell("true"));

    runner.signal("INT");
    assert_eq!(runner.ended().await, Some(0));
    assert_eq!(
        line(&runner, "Requested exit")["msg"],
        "Requested exit: interrupt"
    );
    assert_eq!(gitlab.pipeline(unwanted).unwrap().status, "pending");
    // GitLab doesn't notice that it is gone.
    assert!(gitlab.runners()[0].online);
    gitlab.forget_contacts();
    assert_eq!(gitlab.runners()[0].status, "offline");
    for line in sandbox.argument_lists() {
        assert!(!line.contains(&token), "{line}");
    }
    let left = sandbox.shutdown().await;
    assert_eq!(left, ["runner r1 of octo/repo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_jobs_or_a_long_wait_ends_it() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    program.configure(&gitlab, &token, "  executor = \"shell\"\n");
    for _ in 0..2 {
        gitlab.queue_pipeline("octo/repo", "train", &["a"], shell("true"));
    }
    let mut runner = program.run(&["--max-builds", "1"]);
    assert_eq!(runner.ended().await, Some(0));
    line(
        &runner,
        "This runner has processed its build limit, so now exiting",
    );
    let done = |status| {
        let pipelines = gitlab.pipelines();
        pipelines.iter().filter(|p| p.status == status).count()
    };
    assert_eq!((done("success"), done("pending")), (1, 1));

    let mut runner = program.run(&["--wait-timeout", "1"]);
    assert_eq!(runner.ended().await, Some(0));
    line(
        &runner,
        "This runner has not received a job in 1 seconds, so now exiting",
    );
    assert_eq!(done("success"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_end_it_gently_or_at_once() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    program.configure(&gitlab, &token, "  executor = \"shell\"\n");

    // SIGQUIT lets the job go on.
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["a"], shell("sleep 1; echo done"));
    let mut runner = program.run(&[]);
    running(&gitlab, pipeline).await;
    runner.signal("QUIT");
    assert_eq!(runner.ended().await, Some(0));
    line(&runner, "Requested quit, waiting for builds to finish");
    assert_eq!(gitlab.pipeline(pipeline).unwrap().status, "success");

    // SIGTERM, to its process alone, ends it.
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["a"], shell("sleep 60"));
    let mut runner = program.run(&[]);
    running(&gitlab, pipeline).await;
    runner.signal_leader("TERM");
    assert_eq!(runner.ended().await, Some(0));
    let ended = line(&runner, "Job failed (system failure): aborted: terminated");
    assert_eq!(ended["level"], "error");
    let job = gitlab.pipeline(pipeline).unwrap().jobs.remove(0);
    assert_eq!(job.status, "failed");
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));

    // A second signal doesn't wait for anything.
    let stubborn =
        shell("trap '' TERM; echo here; while [ -d \"$CI_PROJECT_DIR\" ]; do sleep 0.1; done");
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["a"], stubborn);
    let mut runner = program.run(&[]);
    until("the job runs", || {
        let job = gitlab.pipeline(pipeline)?.jobs.remove(0);
        job.output.iter().any(|line| line == "here").then_some(())
    })
    .await;
    runner.signal_leader("INT");
    runner.says("Requested exit: interrupt").await;
    runner.signal_leader("TERM");
    assert_eq!(runner.ended().await, Some(1));
    line(&runner, "forced exit: terminated");
    assert_eq!(gitlab.pipeline(pipeline).unwrap().status, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_and_is_run_again() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    program.configure(&gitlab, &token, "  executor = \"shell\"\n");
    let script = shell("[ \"$AGAIN\" ] || sleep 60");
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["a"], script);
    let runner = program.run(&[]);
    running(&gitlab, pipeline).await;
    let path = format!("/projects/octo%2Frepo/pipelines/{pipeline}");
    let cancelled = owner(&gitlab, "POST", &format!("{path}/cancel"), "").await;
    assert_eq!(cancelled.status, 200);
    assert_eq!(cancelled.json()["status"], "canceling");
    assert_eq!(completed(&gitlab, pipeline).await.status, "canceled");
    runner.says("Job failed: canceled").await;

    let again = owner(&gitlab, "POST", &format!("{path}/retry"), "").await;
    assert_eq!(again.status, 201);
    running(&gitlab, pipeline).await;
    let jobs = gitlab.pipeline(pipeline).unwrap().jobs;
    assert_eq!((jobs.len(), jobs[1].attempt), (2, 2));
    assert_ne!(jobs[0].id, jobs[1].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_docker_executor_sees_nothing_of_the_machine() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    program.configure(
        &gitlab,
        &token,
        "  executor = \"docker\"\n  [runners.docker]\n    image = \"ubuntu:24.04\"\n    \
         volumes = [\"/data:/data\", \"/cache\"]\n    gpus = \"all\"\n",
    );
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["a"], shell("env"));
    let run = |docker: &'static str| {
        let bin = program.folder.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let path = support::script(&bin, "docker", docker);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
        let mut command = program.command(&[
            "--log-format=json",
            "run-single",
            "-c",
            "config.toml",
            "-r",
            "r",
            "--max-builds=1",
        ]);
        command
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("OF_THE_MACHINE", "yes");
        support::Running::from_command(command)
    };
    let mut runner = run("#!/bin/sh\nexit 1\n");
    runner.ended().await;
    line(&runner, "Cannot connect to the Docker daemon");
    let job = gitlab.pipeline(pipeline).unwrap().jobs.remove(0);
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));

    owner(
        &gitlab,
        "POST",
        &format!("/projects/octo%2Frepo/pipelines/{pipeline}/retry"),
        "",
    )
    .await;
    let mut runner = run("#!/bin/sh\nexit 0\n");
    runner.ended().await;
    let job = gitlab.pipeline(pipeline).unwrap().jobs.remove(1);
    assert_eq!(job.status, "success", "{job:?}");
    let container = job.container.unwrap();
    assert_eq!(container.image, "ubuntu:24.04");
    assert_eq!(container.volumes, ["/data:/data", "/cache"]);
    assert_eq!(container.gpus.as_deref(), Some("all"));
    assert!(!container.privileged);
    let output = job.output.join("\n");
    assert!(
        output.contains("Using Docker executor with image ubuntu:24.04"),
        "{output}"
    );
    assert!(output.contains("CI_JOB_NAME=train"), "{output}");
    assert!(!output.contains("OF_THE_MACHINE"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_executor_passes_its_environment_on() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &[], shell("true"));
    let mut command = program.command(&["run-single", "--max-builds=1"]);
    command.envs([
        ("CI_SERVER_URL", gitlab.url().as_str()),
        ("CI_SERVER_TOKEN", &token),
        ("RUNNER_EXECUTOR", "shell"),
    ]);
    let ended = end(command).await;
    assert!(ended.success, "{}", ended.output);
    let job = gitlab.pipeline(pipeline).unwrap().jobs.remove(0);
    let leaked = format!("CI_SERVER_TOKEN={token}");
    assert!(job.environment.contains(&leaked), "{:?}", job.environment);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_deleted_does_not_end() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (id, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    program.configure(&gitlab, &token, "  executor = \"shell\"\n");
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &[], shell("sleep 1"));
    let mut runner = program.run(&[]);
    running(&gitlab, pipeline).await;
    let deleted = owner(&gitlab, "DELETE", &format!("/runners/{id}"), "").await;
    assert_eq!(deleted.status, 204);
    // Its job isn't disturbed.
    assert_eq!(completed(&gitlab, pipeline).await.status, "success");
    runner.says("Checking for jobs... forbidden").await;
    runner.says("Runner is not healthy!").await;
    runner.signal("TERM");
    assert_eq!(runner.ended().await, Some(0));
    assert_eq!(sandbox.shutdown().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_job_survives_a_bad_network() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    program.configure(&gitlab, &token, "  executor = \"shell\"\n");
    sandbox.fault("runner:PATCH *", Some(1), FaultKind::CutBefore);
    sandbox.fault("runner:PATCH *", Some(2), FaultKind::CutAfter);
    sandbox.fault("runner:PUT *", Some(2), FaultKind::Status(500));
    sandbox.fault("runner:POST /jobs/request", Some(1), FaultKind::Status(503));
    let script = shell("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.1; done");
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &[], script);
    let mut runner = program.run(&["--max-builds=1"]);
    let pipeline = completed(&gitlab, pipeline).await;
    assert_eq!(runner.ended().await, Some(0));
    assert_eq!(pipeline.status, "success");
    let lines: Vec<&String> = pipeline.jobs[0]
        .output
        .iter()
        .filter(|line| line.starts_with("line "))
        .collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    line(&runner, "Checking for jobs... failed");
}

#[tokio::test]
async fn wrong_options_and_configurations_are_refused() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let program = Program::download(&sandbox, "latest").await;
    let old = Program::download(&sandbox, "v15.11.0").await;
    let refused = async |program: &Program, args: &[&str], words: &str| {
        let ended = end(program.command(args)).await;
        assert!(!ended.success, "{args:?}");
        assert!(ended.output.contains(words), "{args:?}: {}", ended.output);
    };
    let url = gitlab.url();
    let given = ["--url", &url, "--token", "glrt-abcdefghijk", "--executor"];
    refused(
        &program,
        &["run-single", "--wat=1"],
        "flag provided but not defined: -wat",
    )
    .await;
    refused(
        &program,
        &["run-single", "--log-format=json"],
        "not defined: -log-format",
    )
    .await;
    refused(
        &program,
        &["run-single", "--max-builds", "x"],
        "invalid value",
    )
    .await;
    refused(&program, &["run-single"], "Missing URL").await;
    refused(&program, &["run-single", "-u", &url], "Missing Token").await;
    refused(
        &program,
        &["run-single", "-u", &url, "-t", "x"],
        "Missing Executor",
    )
    .await;
    let ssh = [&["run-single"], &given[..], &["ssh"]].concat();
    refused(&program, &ssh, "Unknown executor: ssh").await;
    refused(&program, &["register"], "Command register not found").await;
    let configured = ["run-single", "--config=config.toml", "--runner=r"];
    refused(&old, &configured, "flag provided but not defined: -config").await;
    refused(&program, &configured, "no such file or directory").await;
    program.configure(&gitlab, "t", "  executer = \"shell\"\n");
    refused(&program, &configured, "not known: executer in [runners]").await;
    program.configure(&gitlab, "t", "  executor = shell\n");
    refused(&program, &configured, "no value: shell").await;
    program.configure(&gitlab, "t", "");
    refused(
        &program,
        &["run-single", "-c", "config.toml", "-r", "s"],
        "could not find",
    )
    .await;

    program.configure(
        &gitlab,
        "glrt-t3_wrongwrongwrong",
        "  executor = \"shell\"\n",
    );
    let runner = program.run(&[]);
    runner.says("Checking for jobs... forbidden").await;
    assert_eq!(
        parsed(&runner)[1]["msg"],
        format!("Starting runner for {url} with token wrongwron ...")
    );
}

/// The result of a job: its whole log, and why it failed.
async fn outcome(gitlab: &GitLab, script: &str) -> (String, Option<String>) {
    let pipeline = gitlab.queue_pipeline("octo/repo", "train", &["a"], shell(script));
    let job = completed(gitlab, pipeline).await.jobs.remove(0);
    (job.output.join("\n"), job.failure_reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_in_a_login_shell() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    let more = "  executor = \"shell\"\n  environment = [\"FROM=the configuration's\"]\n";
    program.configure(&gitlab, &token, more);
    let home = sandbox.home();
    std::fs::write(
        home.join(".profile"),
        "FROM=profile HELD=here\nexport HELD\n",
    )
    .unwrap();
    let logout = "echo \"left level $SHLVL\"\n\
                  if [ \"$SHLVL\" = 1 ]; then [ -x /bin/false ] && /bin/false; fi\n";
    // What fails there fails the shell, and so the first of them.
    std::fs::write(home.join(".bash_logout"), logout).unwrap();
    let runner = program.run(&["--max-builds", "1"]);
    let (log, reason) = outcome(&gitlab, "echo not reached").await;
    assert!(log.contains("left level 1"), "{log}");
    assert!(
        log.contains("Job failed (system failure): prepare environment: exit status 1. Check"),
        "{log}"
    );
    assert_eq!(reason.as_deref(), Some("runner_system_failure"));
    drop(runner);

    // Started from a shell, it is not the outermost one.
    let arguments = ["run-single", "--config", "config.toml", "--runner", "r"];
    let mut command = program.command(&arguments);
    command.env("SHLVL", "1");
    let _runner = Running::from_command(command);
    let script = "echo \"$0 at $SHLVL: $FROM, $HELD, it's $(cat | wc -c)\"; false | true";
    let (log, reason) = outcome(&gitlab, script).await;
    let line = "bash at 2: the configuration's, here, it's 0";
    assert!(log.contains(line), "{log}");
    assert_eq!(reason.as_deref(), Some("script_failure"), "{log}");
    let (log, reason) = outcome(&gitlab, "exit 7").await;
    assert!(log.contains("Job failed: exit status 7"), "{log}");
    assert_eq!(reason.as_deref(), Some("script_failure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_is_asked_for_unless_another_shell_is_named() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let program = Program::download(&sandbox, "latest").await;
    let path = program.folder.path().join("bin");
    std::fs::create_dir(&path).unwrap();
    for entry in std::fs::read_dir("/usr/bin").unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "bash" {
            std::os::unix::fs::symlink(entry.path(), path.join(entry.file_name())).unwrap();
        }
    }
    let run = || {
        let arguments = ["run-single", "--config", "config.toml", "--runner", "r"];
        let mut command = program.command(&arguments);
        command.env("PATH", &path);
        Running::from_command(command)
    };
    program.configure(&gitlab, &token, "  executor = \"shell\"\n");
    let runner = run();
    let (log, reason) = outcome(&gitlab, "true").await;
    assert!(
        log.contains("exec: \"bash\": executable file not found in $PATH"),
        "{log}"
    );
    assert_eq!(reason.as_deref(), Some("runner_system_failure"));
    drop(runner);
    let more = "  executor = \"shell\"\n  shell = \"sh\"\n";
    program.configure(&gitlab, &token, more);
    let _runner = run();
    let (log, reason) = outcome(&gitlab, "echo \"in $0\"").await;
    assert!(log.contains("in sh"), "{log}");
    assert_eq!(reason, None, "{log}");
}
