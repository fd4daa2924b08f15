//! How a machine on Azure ends.

use std::time::Duration;

use sandbox::{Caller, FaultKind, JobScript};

use crate::world::World;

/// A runner at work on a job that would take an hour; the answer is the run and the machine.
async fn at_work(world: &World, args: &[&str]) -> (u64, String) {
    let done = world
        .launch_azure(&[&["--labels=work", "--idle-timeout=30"], args].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let name = world.azure_instance().name;
    let azure = world.sandbox.azure();
    let run = world
        .an_hour_of_work(&azure.disk(&name), || azure.console(&name))
        .await;
    (run, name)
}

/// The statuses of the deletions that machines asked for.
fn own_deletions(world: &World) -> Vec<u16> {
    let calls = world.sandbox.calls().into_iter();
    calls
        .filter(|call| call.name == "arm:DELETE resourceGroups")
        .filter(|call| matches!(call.peer, Caller::Instance(_)))
        .filter_map(|call| call.status)
        .collect()
}

/// An event whose machine would have waited a minute for whoever doesn't acknowledge it.
async fn announced(kind: &str, args: &[&str], told: &str) {
    let world = World::with(|config| config.spot_notice = Duration::from_secs(60)).await;
    let (run, name) = at_work(&world, args).await;
    let azure = world.sandbox.azure();
    azure.schedule(&name, kind);
    world.until_run_again(run).await;
    let console = azure.console(&name);
    assert!(console.contains(told), "{kind}: {console}");
    assert_eq!(azure.acknowledged(&name).len(), 1, "{}", world.report());
    // A machine that is quick to come back asks once more while its group is still there.
    let deletions = own_deletions(&world);
    let accepted = deletions.iter().all(|status| *status == 202);
    assert!(!deletions.is_empty() && accepted, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn scheduled_events_run_the_job_again_and_are_acknowledged() {
    tokio::join!(
        announced("Preempt", &["--cloud-spot"], "takes this spot machine away"),
        announced("Terminate", &[], "deletes this machine"),
        announced("Reboot", &[], "reboots this machine"),
        announced("Redeploy", &[], "moves this machine"),
    );
}

#[tokio::test]
async fn a_reboot_hours_away_ends_a_runner_between_jobs_and_a_pause_doesn_t() {
    let world = World::with(|config| config.spot_notice = Duration::from_secs(7200)).await;
    let args = ["--labels=late", "--idle-timeout=never"];
    let done = world.launch_azure(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let (azure, github) = (world.sandbox.azure(), world.sandbox.github());
    let name = world.azure_instance().name;
    azure.schedule(&name, "Freeze");
    azure.schedule(&name, "Reboot");
    world
        .until("the agent hears", || {
            azure.console(&name).contains("reboots this machine")
        })
        .await;
    let job = JobScript::Sleep(Duration::from_secs(1));
    let run = github.queue_run("octo/repo", "j", &["late"], job);
    world.until_clean().await;
    world.succeeded(run);
    // The pause is nothing that the machine is ready for.
    assert_eq!(azure.acknowledged(&name).len(), 1, "{}", world.report());
    world.finish().await;
}

async fn ends(ending: &str) {
    let world = World::new().await;
    let (run, name) = at_work(&world, &[]).await;
    let azure = world.sandbox.azure();
    match ending {
        "button" => azure.press_power_button(&name),
        "crash" => azure.reset(&name),
        "killed" => assert!(azure.kill_agent(&name)),
        // By somebody at the portal, who leaves the group.
        "deallocated" => azure.deallocate(&name),
        _ => azure.delete_machine(&name),
    }
    world.until_run_again(run).await;
    assert_eq!(own_deletions(&world), [202], "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn whatever_ends_the_machine_runs_the_job_again_and_deletes_the_group() {
    tokio::join!(ends("button"), ends("crash"), ends("killed"));
    tokio::join!(ends("deallocated"), ends("deleted"));
}

#[tokio::test]
async fn a_killed_idle_agent_leaves_no_record() {
    let world = World::new().await;
    let done = world.launch_azure(&["--idle-timeout=never"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(
        world
            .sandbox
            .azure()
            .kill_agent(&world.azure_instance().name)
    );
    world.finish().await;
}

#[tokio::test]
async fn the_machine_waits_until_its_right_to_delete_itself_counts() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    azure.set_propagation(Duration::from_secs(20));
    // And the identity isn't known at once to those who give rights.
    azure.refuse_principals(2);
    // The launcher looks for the runner only once it has given the right.
    let done = world.launch_azure(&["--idle-timeout=6"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let name = world.azure_instance().name;
    world.until_clean().await;
    let calls = world.sandbox.calls();
    let rights = calls
        .iter()
        .filter(|call| call.name == "arm:PUT roleAssignments")
        .map(|call| call.status);
    let expected = [Some(400), Some(400), Some(201)];
    assert!(rights.eq(expected), "{}", world.report());
    let deletions = own_deletions(&world);
    let [early @ .., 202] = &deletions[..] else {
        panic!("{deletions:?}: {}", world.report())
    };
    assert!(!early.is_empty() && early.iter().all(|status| *status == 403));
    let console = azure.console(&name);
    assert!(!console.contains("costs on"), "{console}");
    world.finish().await;
}

#[tokio::test]
async fn without_an_agent_the_machine_deletes_itself_all_the_same() {
    // The launcher is killed, and the agent can't be downloaded: a shell is all there is.
    let world = World::new().await;
    world
        .sandbox
        .fault("download:agent", None, FaultKind::TimeoutBefore);
    let args = ["launch", "--cloud=azure", "--timeout=8", "--idle-timeout=3"];
    let running = world.spawn(&args);
    let azure = world.sandbox.azure();
    // Not before it may delete itself: that is the launcher's to give.
    world
        .until("it has its right", || {
            azure.live().iter().any(|machine| !machine.roles.is_empty())
        })
        .await;
    running.signal(9);
    assert_eq!(world.done(running).await.code, -9);
    let name = world.azure_instance().name;
    world.until_clean().await;
    let console = azure.console(&name);
    assert!(console.contains("not ready in time"), "{}", world.report());
    assert_eq!(own_deletions(&world), [202], "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_launch_that_fails_shows_the_serial_log() {
    // A group's deletion takes its time, in which the log can be read.
    let world = World::with(|config| config.shutdown_delay = Duration::from_secs(3)).await;
    world
        .sandbox
        .fault("download:agent", None, FaultKind::Status(404));
    let done = world.launch_azure(&["--timeout=30"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr.contains("downloading the agent"),
        "{}",
        world.report()
    );
    world.finish().await;
}

/// A launch whose machine is never ready, because of what is done to it.
async fn never_ready(timeout: &str, told: &str, act: impl Fn(&World, &str)) {
    let world = World::new().await;
    world
        .sandbox
        .fault("download:agent", None, FaultKind::TimeoutBefore);
    let running = world.spawn(&["launch", "--cloud=azure", "--timeout", timeout]);
    world
        .until("the launcher has seen the machine", || {
            let looked = "arm:LIST publicIPAddresses";
            world.host_calls().iter().any(|call| call == looked)
        })
        .await;
    act(&world, &world.azure_instance().name);
    let done = world.done(running).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(done.stderr.contains(told), "{told}: {}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_machine_that_hangs_or_goes_before_it_is_ready_takes_its_group_along() {
    tokio::join!(
        never_ready("8", "not ready within 8s", |world, name| {
            world.sandbox.azure().freeze(name);
        }),
        // Without a word of the machine's own, and long before the time is over.
        never_ready("40", "ended before it was ready", |world, name| {
            world.sandbox.azure().freeze(name);
            world.sandbox.azure().delete_machine(name);
        }),
    );
}

#[tokio::test]
async fn a_launch_that_is_given_up_while_the_machine_is_made_leaves_nothing() {
    let world = World::with(|config| config.boot_delay = Duration::from_secs(120)).await;
    let running = world.spawn(&["launch", "--cloud=azure"]);
    let azure = world.sandbox.azure();
    world
        .until("a machine is made", || !azure.live().is_empty())
        .await;
    running.signal(15);
    let done = world.done(running).await;
    assert_ne!(done.code, 0, "{}", world.report());
    world.finish().await;
}
