//! What was launched before: stopped, listed, swept.

use sandbox::{FaultKind, JobScript};
use std::time::Duration;

use crate::world::{SOON, World};

const HOUR: Duration = Duration::from_secs(3600);

/// A world with a runner that would stay for ever; the runner's name is `stays`.
async fn with_runner(args: &[&str]) -> (World, String) {
    let world = World::new().await;
    let id = add(&world, "stays", args).await;
    (world, id)
}

/// Launches a runner that stays.
async fn add(world: &World, name: &str, args: &[&str]) -> String {
    let stays = ["--idle-timeout=never", "--labels=stays", "--name", name];
    let done = world.launch(&[&stays, args].concat()).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let live = world.sandbox.ec2().live();
    let named = live.iter().find(|i| i.name.as_deref() == Some(name));
    named.expect("it lives").id.clone()
}

fn states(world: &World) -> Vec<String> {
    let instances = world.sandbox.ec2().instances();
    instances
        .into_iter()
        .map(|instance| instance.state)
        .collect()
}

#[tokio::test]
async fn stop_by_name_ends_the_instance_and_its_record_and_may_be_said_again() {
    let (world, id) = with_runner(&[]).await;
    let done = world.run(&["stop", "--cloud=aws", "stays"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(done.stderr.contains(&id), "{}", done.stderr);
    assert!(world.is_clean() || states(&world) == ["shutting-down"]);
    assert!(world.sandbox.github().runners().is_empty());
    world.until_clean().await;
    for target in ["stays", id.as_str(), "i-0123456789abcdef0", "never-was"] {
        let again = world.run(&["stop", "--cloud=aws", target]).await;
        assert_eq!(again.code, 0, "{target}: {}", world.report());
    }
    // Another runner got the name meanwhile: the old instance's id doesn't mean it.
    let new = add(&world, "stays", &[]).await;
    let again = world.run(&["stop", "--cloud=aws", &id]).await;
    assert_eq!(again.code, 0, "{}", world.report());
    assert_eq!(world.sandbox.github().runners().len(), 1);
    assert_eq!(world.instance().id, new);
    let done = world.run(&["stop", "--cloud=aws", "stays"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn stop_takes_ids_and_names_from_options_and_the_environment() {
    let (mut world, id) = with_runner(&[]).await;
    let other = add(&world, "other", &[]).await;
    world.set("RUNNER_LAUNCH_CLOUD", Some("aws"));
    world.set("RUNNER_LAUNCH_INSTANCE_ID", Some(&id));
    // What is named more strongly stands alone.
    let done = world.run(&["stop", "--name=never-was"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(world.sandbox.github().runners().len(), 2);
    let done = world.run(&["stop"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let runners = world.sandbox.github().runners();
    let names: Vec<&str> = runners.iter().map(|runner| runner.name.as_str()).collect();
    assert_eq!(names, ["other"]);
    world.set("RUNNER_LAUNCH_INSTANCE_ID", None);
    // In another region nothing has the id: that is well, too, and stops nothing.
    let elsewhere = ["stop", "--instance-id", &other, "--cloud-region=eu-west"];
    let done = world.run(&elsewhere).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(done.stderr.contains("--cloud-region"), "{}", done.stderr);
    let elsewhere = ["stop", "--name=other", "--cloud-region=eu-west"];
    let done = world.run(&elsewhere).await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert!(done.stderr.contains("is online, but"), "{}", done.stderr);
    assert_eq!(world.sandbox.github().runners().len(), 1);
    let done = world.run(&["stop", "--name=other"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn stop_ends_an_instance_that_hangs_in_the_middle_of_a_job() {
    let (world, id) = with_runner(&[]).await;
    let github = world.sandbox.github();
    let job = JobScript::Sleep(Duration::from_secs(600));
    let run = github.queue_run("octo/repo", "nap", &["stays"], job);
    world
        .until("the job runs", || {
            github.runners().iter().any(|runner| runner.busy)
        })
        .await;
    world.sandbox.ec2().freeze(&id);
    let done = world.run(&["stop", "--cloud=aws", &id]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_ne!(github.run(run).unwrap().status, "queued");
    world.finish().await;
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let (world, id) = with_runner(&[]).await;
    world.sandbox.ec2().untag(&id);
    let done = world.run(&["stop", "--cloud=aws", "other", &id]).await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert!(
        done.stderr.contains("was not launched by"),
        "{}",
        done.stderr
    );
    world.sandbox.ec2().age(&id, 3 * HOUR);
    let sweep = ["sweep", "--cloud=aws", "--older-than=1h", "--all"];
    let done = world.run(&sweep).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(states(&world), ["running"]);
    world.sandbox.ec2().press_power_button(&id);
    world.finish().await;
}

#[tokio::test]
async fn a_runner_of_the_same_name_elsewhere_is_not_meant() {
    let (world, id) = with_runner(&[]).await;
    let elsewhere = ["stop", "--cloud=aws", "--repo=octo", "stays"];
    let done = world.run(&elsewhere).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(states(&world), ["running"], "{}", done.stderr);
    assert_eq!(world.sandbox.github().runners().len(), 1);
    world.sandbox.ec2().age(&id, 3 * HOUR);
    let sweep = ["sweep", "--cloud=aws", "--older-than=2h", "--repo=octo"];
    let done = world.run(&sweep).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stderr.contains("is kept: it serves"),
        "{}",
        done.stderr
    );
    assert_eq!(states(&world), ["running"], "{}", done.stderr);
    // Paths are the same in any case.
    let done = world
        .run(&["stop", "--cloud=aws", "--repo=OCTO/Repo", "stays"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn mistakes_are_all_told_and_nothing_is_asked() {
    let mut world = World::new().await;
    world.set("REPO_TOKEN", None);
    let done = world
        .run(&[
            "stop",
            "--cloud=aws",
            "--older-than=1h",
            "--cloud-region=nowhere!",
            "a b",
        ])
        .await;
    assert_eq!(done.code, 2);
    for part in ["--older-than", "nowhere!", "`a b`", "--token"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let done = world.run(&["stop"]).await;
    for part in ["--cloud:", "stop what?"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    for (older_than, complaint) in [
        (None, "--older-than: say"),
        (Some("--older-than=24"), "of what?"),
        (Some("--older-than=1min"), "shorter than"),
    ] {
        let mut sweep = vec!["sweep", "--cloud=aws"];
        sweep.extend(older_than);
        let done = world.run(&sweep).await;
        assert_eq!(done.code, 2);
        assert!(done.stderr.contains(complaint), "{}", done.stderr);
        // Without a token nobody knows which runners are at work.
        assert!(done.stderr.contains("--token"), "{}", done.stderr);
    }
    world.set("RUNNER_LAUNCH_INPUT_DRY_RUN", Some("true"));
    let done = world.run(&["stop", "--cloud=aws", "--name=x"]).await;
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("the input dry-run"), "{}", done.stderr);
    world.set("RUNNER_LAUNCH_INPUT_DRY_RUN", None);
    let done = world.run(&["list", "--cloud=aws", "--labels=x"]).await;
    assert_eq!(done.code, 2);
    assert!(
        done.stderr.contains("`list` has no such option"),
        "{}",
        done.stderr
    );
    assert!(world.host_calls().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn list_tells_people_and_programs() {
    let (mut world, id) = with_runner(&["--cloud-spot"]).await;
    let done = world.run(&["list", "--cloud=aws", "--output=json"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let rows: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["id"], id.as_str());
    assert_eq!(rows[0]["name"], "stays");
    assert_eq!(rows[0]["state"], "running");
    assert_eq!(rows[0]["runner"], "idle");
    assert_eq!(rows[0]["region"], "us-west-1");
    assert_eq!(rows[0]["spot"], true);
    assert!(rows[0]["ageSeconds"].as_i64().unwrap() < 300);
    assert!(rows[0]["serves"].as_str().unwrap().ends_with("/octo/repo"));

    world.set("REPO_TOKEN", None);
    let regions = "--cloud-region=eu-west,us-west,us-west-1a";
    let done = world.run(&["list", "--cloud=aws", regions]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", done.stdout);
    assert!(lines[0].starts_with("INSTANCE"));
    for part in [
        id.as_str(),
        "stays",
        "running",
        "unknown",
        "m5.2xlarge spot",
    ] {
        assert!(lines[1].contains(part), "{part}: {}", done.stdout);
    }
    world.sandbox.ec2().press_power_button(&id);
    world.until_clean().await;
    let done = world.run(&["list", "--cloud=aws", "--output=json"]).await;
    assert_eq!(done.stdout.trim(), "[]");
    world.finish().await;
}

#[tokio::test]
async fn sweep_takes_what_is_old_and_hangs_and_keeps_what_works() {
    let (world, hung) = with_runner(&[]).await;
    let works = add(&world, "works", &[]).await;
    world.sandbox.ec2().freeze(&hung);
    let github = world.sandbox.github();
    world
        .until("the runner is offline", || {
            let runners = github.runners();
            runners
                .iter()
                .any(|runner| runner.name == "stays" && !runner.online)
        })
        .await;
    for id in [&hung, &works] {
        world.sandbox.ec2().age(id, 3 * HOUR);
    }
    let sweep = ["sweep", "--cloud=aws", "--output=json"];
    let swept = |stdout: &str| {
        let rows: serde_json::Value = serde_json::from_str(stdout).unwrap();
        let rows = rows.as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect::<Vec<String>>()
    };

    let young = world
        .run(&[&sweep[..], &["--older-than=4h"]].concat())
        .await;
    assert_eq!(young.code, 0, "{}", world.report());
    assert!(swept(&young.stdout).is_empty());
    let dry = world
        .run(&[&sweep[..], &["--older-than=2h", "--dry-run"]].concat())
        .await;
    assert_eq!(swept(&dry.stdout), [hung.as_str()]);
    assert_eq!(states(&world), ["running", "running"]);

    let done = world
        .run(&[&sweep[..], &["--older-than=2h"]].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(swept(&done.stdout), [hung]);
    assert!(done.stderr.contains(&works), "{}", done.stderr);
    let runners = github.runners();
    let names: Vec<&str> = runners.iter().map(|runner| runner.name.as_str()).collect();
    assert_eq!(names, ["works"]);
    world.run(&["stop", "--cloud=aws", "works"]).await;
    world.finish().await;
}

#[tokio::test]
async fn sweep_of_all_goes_by_age_alone() {
    let (mut world, id) = with_runner(&[]).await;
    let young = add(&world, "young", &[]).await;
    world.sandbox.ec2().age(&id, 3 * HOUR);
    world.set("REPO_TOKEN", None);
    let sweep = ["sweep", "--cloud=aws", "--older-than=2h", "--all"];
    let done = world.run(&sweep).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(done.stdout.contains(&id), "{}", done.stdout);
    assert!(!done.stdout.contains(&young), "{}", done.stdout);
    world.sandbox.ec2().press_power_button(&young);
    world.finish().await;
}

#[tokio::test]
async fn a_region_that_does_not_answer_hides_no_other() {
    let (world, id) = with_runner(&[]).await;
    world
        .sandbox
        .fault("host:ec2:DescribeInstances", Some(1), FaultKind::Denied);
    let regions = "--cloud-region=eu-west,us-west";
    let done = world.run(&["list", "--cloud=aws", regions]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert_eq!(
        done.stdout.contains(&id),
        !done.stderr.contains("us-west-1:"),
        "{}",
        done.stderr
    );
    world.run(&["stop", "--cloud=aws", &id]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_stop_that_is_interrupted_says_so_and_a_second_one_ends_it() {
    let (world, _) = with_runner(&[]).await;
    let stop = ["stop", "--cloud=aws", "stays"];
    // The server's trouble passes.
    let trouble = FaultKind::Status(503);
    let record = "host:github:DELETE /repos/{owner}/{repo}/actions/runners/{runner_id}";
    world
        .sandbox
        .fault("host:ec2:TerminateInstances", Some(1), trouble.clone());
    world.sandbox.fault(record, Some(1), trouble);
    let mut hold = world.sandbox.hold_before("host:ec2:TerminateInstances", 2);
    let running = world.spawn(&stop);
    assert!(hold.arrived(SOON).await, "{}", world.report());
    running.signal(15);
    let done = world.done(running).await;
    hold.release();
    assert_eq!(done.code, 143, "{}", world.report());
    assert!(
        done.stderr.contains("give the same command again"),
        "{}",
        done.stderr
    );
    let done = world.run(&stop).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_missing_permission_is_exit_code_3_and_named() {
    let (world, id) = with_runner(&[]).await;
    world.sandbox.ec2().allow_only(&["ec2:DescribeInstances"]);
    let done = world.run(&["stop", "--cloud=aws", &id]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(
        done.stderr.contains("ec2:TerminateInstances"),
        "{}",
        done.stderr
    );
    // The record of a runner whose instance lives on stays, too.
    assert_eq!(world.sandbox.github().runners().len(), 1);
    world.sandbox.ec2().press_power_button(&id);
    world.finish().await;
}
