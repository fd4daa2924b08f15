//! A runner right here.

use std::time::Duration;

use sandbox::JobScript;

use crate::world::World;

#[tokio::test]
async fn a_local_runner_takes_jobs_idles_out_and_leaves_nothing() {
    let mut world = World::new().await;
    let (output, _) = world.in_github_actions();
    let running = world.spawn(&["launch", "--labels=here", "--idle-timeout=2", "--name=here"]);
    let github = world.sandbox.github();
    world
        .until("it is online", || {
            github.runners().iter().any(|runner| runner.online)
        })
        .await;
    let run = github.queue_run(
        "octo/repo",
        "j",
        &["here"],
        JobScript::Shell("pwd; env".into()),
    );
    let done = world.done(running).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let job = &github.run(run).unwrap().jobs[0];
    assert_eq!(
        job.conclusion.as_deref(),
        Some("success"),
        "{}",
        world.report()
    );
    assert!(
        job.output[0].contains("/.runner-launch/here/"),
        "{:?}",
        job.output
    );
    for status in ["ready", "job_started", "job_ended", "terminated"] {
        assert!(
            done.stdout.contains(&format!("\"status\":\"{status}\"")),
            "{status}: {}",
            done.stdout
        );
    }
    assert!(!world.sandbox.home().join(".runner-launch").exists());
    let text = std::fs::read_to_string(output).unwrap();
    assert!(
        text.contains("name=here\n") && text.contains("cloud=\n"),
        "{text}"
    );
    assert!(github.runners().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn every_ending_signal_unregisters_and_runs_the_job_again() {
    for (number, single) in [(15, false), (2, true), (3, false)] {
        let world = World::new().await;
        let single = if single { "--single" } else { "--single=false" };
        let running = world.spawn(&["launch", "--labels=here", single]);
        let github = world.sandbox.github();
        world
            .until("it is online", || {
                github.runners().iter().any(|runner| runner.online)
            })
            .await;
        let job = JobScript::Shell("sleep 3600 & sleep 3600".into());
        let run = github.queue_run("octo/repo", "j", &["here"], job);
        world
            .until("the job runs", || {
                github.run(run).unwrap().jobs[0].status == "in_progress"
            })
            .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        running.signal(number);
        let done = world.done(running).await;
        assert_eq!(done.code, 128 + number, "{}", world.report());
        assert_eq!(github.run(run).unwrap().attempt, 2, "{}", world.report());
        assert!(github.runners().is_empty());
        assert!(!world.sandbox.home().join(".runner-launch").exists());
        world.finish().await;
    }
}

#[tokio::test]
async fn the_machine_s_power_button_ends_a_local_runner() {
    use tokio::io::AsyncWriteExt;
    let mut world = World::new().await;
    let root = world.folder().join("root");
    std::fs::create_dir_all(root.join("run")).unwrap();
    let acpid = tokio::net::UnixListener::bind(root.join("run/acpid.socket")).unwrap();
    world.set("RUNNER_LAUNCH_ROOT", root.to_str());
    let running = world.spawn(&["launch", "--labels=here"]);
    let (mut button, _) = acpid.accept().await.unwrap();
    let github = world.sandbox.github();
    world
        .until("it is online", || {
            github.runners().iter().any(|runner| runner.online)
        })
        .await;
    button
        .write_all(
            b"ac_adapter ACPI0003:00 00000080 00000001\nbutton/power PBTN 00000080 00000000\n",
        )
        .await
        .unwrap();
    let done = world.done(running).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(done.stdout.contains("power button"), "{}", done.stdout);
    world.finish().await;
}

#[tokio::test]
async fn somebody_s_own_folder_is_left_as_it_was() {
    let world = World::new().await;
    let folder = world.folder().join("data");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("precious"), "mine").unwrap();
    let path = folder.to_str().unwrap();
    let done = world
        .run(&["launch", "--idle-timeout=1", "--path", path, "--name=guest"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["precious"]);
    // A folder that didn't exist is gone again.
    let deep = world.folder().join("a/b/c");
    let done = world
        .run(&[
            "launch",
            "--idle-timeout=1",
            "--workdir",
            deep.to_str().unwrap(),
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(!world.folder().join("a").exists());
    world.finish().await;
}

#[tokio::test]
async fn a_runner_program_that_can_t_start_is_exit_code_5() {
    let world = World::new().await;
    world
        .sandbox
        .fault("runner:session", None, sandbox::FaultKind::Status(500));
    let done = world.run(&["launch", "--timeout=5"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    world.finish().await;
}
