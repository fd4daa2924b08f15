//! How an instance on Google Cloud ends.

use std::time::Duration;

use sandbox::JobScript;

use crate::world::World;

/// A runner at work on a job that would take an hour; the answer is the run and the instance.
async fn at_work(world: &World, args: &[&str]) -> (u64, String) {
    let done = world
        .launch_gcp(&[&["--labels=work", "--idle-timeout=30"], args].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let name = world.gce_instance().name;
    let gce = world.sandbox.gce();
    let run = world
        .an_hour_of_work(&gce.disk(&name), || gce.console(&name))
        .await;
    (run, name)
}

#[tokio::test]
async fn a_preemption_runs_the_job_again_within_its_notice() {
    let world = World::with(|config| config.spot_notice = Duration::from_secs(30)).await;
    let (run, name) = at_work(&world, &["--cloud-spot"]).await;
    world.sandbox.gce().preempt(&name);
    world.until_run_again(run).await;
    let console = world.sandbox.gce().console(&name);
    assert!(console.contains("takes the machine back"), "{console}");
    world.finish().await;
}

#[tokio::test]
async fn maintenance_that_ends_the_machine_ends_a_runner_between_jobs() {
    let world = World::new().await;
    let args = ["--labels=late", "--idle-timeout=never"];
    let done = world.launch_gcp(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let (gce, github) = (world.sandbox.gce(), world.sandbox.github());
    let name = world.gce_instance().name;
    gce.maintenance(&name, "MIGRATE_ON_HOST_MAINTENANCE");
    gce.maintenance(&name, "TERMINATE_ON_HOST_MAINTENANCE");
    world
        .until("the agent hears", || {
            gce.console(&name).contains("TERMINATE_ON_HOST_MAINTENANCE")
        })
        .await;
    assert!(
        !gce.console(&name).contains("MIGRATE"),
        "{}",
        world.report()
    );
    let job = JobScript::Sleep(Duration::from_secs(1));
    let run = github.queue_run("octo/repo", "j", &["late"], job);
    world.until_clean().await;
    world.succeeded(run);
    world.finish().await;
}

#[tokio::test]
async fn a_power_button_a_crash_and_a_killed_agent_run_the_job_again() {
    for ending in ["button", "crash", "killed"] {
        let world = World::new().await;
        let (run, name) = at_work(&world, &[]).await;
        let gce = world.sandbox.gce();
        match ending {
            "button" => gce.press_power_button(&name),
            "crash" => gce.reset(&name),
            _ => assert!(gce.kill_agent(&name)),
        }
        world.until_run_again(run).await;
        world.finish().await;
    }
}

#[tokio::test]
async fn without_an_agent_the_machine_deletes_itself_all_the_same() {
    // The launcher is killed, and the agent can't be downloaded: a shell is all there is.
    let world = World::new().await;
    world
        .sandbox
        .fault("download:agent", None, sandbox::FaultKind::TimeoutBefore);
    let running = world.spawn(&["launch", "--cloud=gcp", "--timeout=8", "--idle-timeout=1"]);
    world.until_running().await;
    running.signal(9);
    assert_eq!(world.done(running).await.code, -9);
    let gce = world.sandbox.gce();
    world
        .until("the instance is gone", || gce.live().is_empty())
        .await;
    let name = gce.instances().remove(0).name;
    let console = gce.console(&name);
    assert!(console.contains("not ready in time"), "{}", world.report());
    let deleted = world
        .sandbox
        .calls()
        .into_iter()
        .any(|call| call.name == "compute:instances.delete" && call.status == Some(200));
    assert!(deleted, "{}", world.report());
    world.until_clean().await;
    world.finish().await;
}

#[tokio::test]
async fn a_launch_that_fails_shows_the_serial_console() {
    let world = World::new().await;
    world
        .sandbox
        .fault("download:agent", None, sandbox::FaultKind::Status(404));
    let done = world.launch_gcp(&["--timeout=30"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr.contains("downloading the agent"),
        "{}",
        done.stderr
    );
    world.finish().await;
}

#[tokio::test]
async fn a_cloud_that_refuses_the_deletion_leaves_a_machine_that_is_off() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    let denied = sandbox::FaultKind::Denied;
    world
        .sandbox
        .fault("instance:compute:instances.delete", None, denied);
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let name = world.gce_instance().name;
    world
        .until("it is off", || {
            gce.live().iter().all(|i| i.status == "TERMINATED")
        })
        .await;
    gce.age(&name, Duration::from_secs(3600));
    let done = world
        .run(&["sweep", "--cloud=gcp", "--older-than=12h"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}
