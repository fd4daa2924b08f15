//! The agent on an instance: interruptions, retries, and the machine given back.

use std::time::Duration;

use sandbox::JobScript;

use crate::world::World;

/// A runner at work on a job that would take an hour; the answer is the run and the instance.
async fn at_work(world: &World, args: &[&str]) -> (u64, String) {
    let done = world
        .launch(&[&["--labels=work", "--idle-timeout=30"], args].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let id = world.instance().id;
    let ec2 = world.sandbox.ec2();
    let run = world
        .an_hour_of_work(&ec2.disk(&id), || ec2.console(&id))
        .await;
    (run, id)
}

#[tokio::test]
async fn a_spot_interruption_runs_the_job_again_elsewhere() {
    let world = World::with(|config| config.spot_notice = Duration::from_secs(40)).await;
    let (run, id) = at_work(&world, &["--cloud-spot"]).await;
    world.sandbox.ec2().interrupt(&id);
    world.until_run_again(run).await;
    assert!(
        world
            .sandbox
            .ec2()
            .console(&id)
            .contains("takes the machine back"),
        "{}",
        world.report()
    );

    // The next launch takes the job of the second attempt.
    let done = world.launch(&["--labels=work", "--single"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let github = world.sandbox.github();
    world
        .until("the job runs", || {
            github
                .run(run)
                .unwrap()
                .jobs
                .iter()
                .any(|job| job.status == "in_progress")
        })
        .await;
    let id = world.instance().id;
    world.sandbox.ec2().press_power_button(&id);
    world.until_clean().await;
    world.finish().await;
}

#[tokio::test]
async fn the_power_button_and_a_termination_run_the_job_again() {
    let world = World::new().await;
    let (run, id) = at_work(&world, &[]).await;
    world.sandbox.ec2().press_power_button(&id);
    world.until_run_again(run).await;
    world.finish().await;
}

#[tokio::test]
async fn a_killed_agent_s_job_is_run_again_and_the_machine_given_back() {
    let world = World::new().await;
    let (run, id) = at_work(&world, &[]).await;
    world.sandbox.ec2().kill_agent(&id);
    world.until_run_again(run).await;
    assert!(
        world
            .sandbox
            .ec2()
            .console(&id)
            .contains("cleaning up after it"),
        "{}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn a_killed_idle_agent_leaves_no_record() {
    let world = World::new().await;
    let done = world.launch(&["--idle-timeout=never"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let id = world.instance().id;
    world.sandbox.ec2().kill_agent(&id);
    world.until_clean().await;
    world.finish().await;
}

#[tokio::test]
async fn a_machine_that_crashes_and_comes_back_ends() {
    let world = World::new().await;
    let (run, id) = at_work(&world, &[]).await;
    world.sandbox.ec2().reset(&id);
    world.until_run_again(run).await;
    world.finish().await;
}

#[tokio::test]
async fn no_retry_runs_nothing_again() {
    let world = World::new().await;
    let (run, id) = at_work(&world, &["--no-retry"]).await;
    world.sandbox.ec2().press_power_button(&id);
    world.until_clean().await;
    let run = world.sandbox.github().run(run).unwrap();
    assert_eq!(
        (run.attempt, run.status.as_str()),
        (1, "completed"),
        "{}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn a_busy_answer_of_the_forge_cancels_the_idle_end() {
    let world = World::new().await;
    // The forge gives the runner a job of which the program doesn't hear yet.
    let hold = world.sandbox.hold("runner:message", 1);
    let done = world.launch(&["--labels=busy", "--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let github = world.sandbox.github();
    let job = JobScript::Sleep(Duration::ZERO);
    let run = github.queue_run("octo/repo", "late", &["busy"], job);
    let id = world.instance().id;
    world
        .until("the forge says no", || {
            let console = world.sandbox.ec2().console(&id);
            console.contains("the forge says that a job runs")
        })
        .await;
    hold.release();
    world.until_completed(run).await;
    world.succeeded(run);
    world.finish().await;
}

#[tokio::test]
async fn a_rebalance_recommendation_ends_a_runner_between_jobs() {
    let world = World::new().await;
    let done = world
        .launch(&["--labels=spot", "--cloud-spot", "--idle-timeout=never"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let github = world.sandbox.github();
    let id = world.instance().id;
    world.sandbox.ec2().rebalance(&id);
    world
        .until("the agent hears", || {
            world
                .sandbox
                .ec2()
                .console(&id)
                .contains("rebalance recommendation")
        })
        .await;
    // The job that it was launched for may still come.
    let run = github.queue_run(
        "octo/repo",
        "j",
        &["spot"],
        JobScript::Sleep(Duration::from_secs(1)),
    );
    world.until_clean().await;
    world.succeeded(run);
    world.finish().await;
}

#[tokio::test]
async fn jobs_run_unprivileged_with_docker_and_without_credentials() {
    let world = World::new().await;
    let done = world.launch(&["--labels=plain", "--single"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let id = world.instance().id;
    let root = world
        .sandbox
        .folder()
        .join("instances")
        .join(&id)
        .join("root");
    let config = root.join("etc/runner-launch/agent.json");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&config).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "only its owner may read it");
    let script = format!(
        "id -u; cat {} 2>&1 || true; docker --version",
        config.display()
    );
    let run =
        world
            .sandbox
            .github()
            .queue_run("octo/repo", "j", &["plain"], JobScript::Shell(script));
    world.until_clean().await;
    let job = &world.sandbox.github().run(run).unwrap().jobs[0];
    let names: Vec<&str> = job
        .environment
        .iter()
        .filter_map(|line| line.split('=').next())
        .collect();
    for name in [
        "REPO_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "ACTIONS_RUNNER_INPUT_JITCONFIG",
        "ACTIONS_RUNNER_INPUT_TOKEN",
    ] {
        assert!(!names.contains(&name), "{names:?}");
    }
    assert!(
        job.environment
            .iter()
            .any(|line| line.starts_with("HOME=") && line.ends_with("/home/runner"))
    );
    if nix_is_root() {
        assert_ne!(job.output[0], "0", "{:?}", job.output);
        assert!(
            job.output
                .iter()
                .any(|line| line.contains("Permission denied")),
            "{:?}",
            job.output
        );
    }
    world.finish().await;
}

fn nix_is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

#[tokio::test]
async fn docker_and_git_are_installed_only_where_missing() {
    let world = World::with(|config| config.docker_installed = false).await;
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let bare = world.sandbox.ec2().instances()[0].id.clone();
    assert!(
        world.sandbox.ec2().console(&bare).contains("installing"),
        "{}",
        world.report()
    );
    world.finish().await;

    let world = World::new().await;
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let full = world.sandbox.ec2().instances()[0].id.clone();
    assert!(
        !world.sandbox.ec2().console(&full).contains("installing"),
        "{}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn a_runner_program_that_is_not_the_forge_s_never_runs() {
    let mut world = World::new().await;
    // A mirror with something else in it.
    let agent = world
        .sandbox
        .env()
        .into_iter()
        .find(|(name, _)| name == "RUNNER_LAUNCH_AGENT_URL")
        .unwrap()
        .1;
    world.set(
        "RUNNER_LAUNCH_RUNNER_URL",
        Some(&agent.replace("{arch}", "x86_64")),
    );
    let done = world.launch(&["--timeout=15"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr.contains("unpacking") || done.stderr.contains("SHA-256"),
        "{}",
        done.stderr
    );
    world.finish().await;
}
