//! What can't be deleted at once: on Azure, a machine that is off costs as much as one that runs.

use std::time::Duration;

use sandbox::FaultKind;

use crate::world::World;

#[tokio::test]
async fn a_machine_that_may_not_delete_itself_yet_stays_on_and_goes_on_asking() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let call = "instance:arm:DELETE resourceGroups";
    world.sandbox.fault(call, None, FaultKind::Denied);
    let done = world.launch_azure(&["--idle-timeout=3"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let name = world.azure_instance().name;
    world
        .until("the agent has given up", || {
            azure
                .console(&name)
                .contains("it stays on, and goes on asking")
        })
        .await;
    let asked = || {
        let calls = world.sandbox.calls().into_iter();
        let asked = calls.filter(|call| call.name == "arm:DELETE resourceGroups");
        asked.count()
    };
    let before = asked();
    assert!(before > 2, "{}", world.report());
    world.until("it asks on", || asked() > before).await;
    assert_eq!(world.azure_instance().state, "running");
    world.sandbox.clear_faults();
    // Nobody else deletes it.
    world.until_clean().await;
    let by_launcher = world.host_calls();
    let deleted = by_launcher
        .iter()
        .any(|call| call == "arm:DELETE resourceGroups");
    assert!(!deleted, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn the_deadline_doesn_t_end_a_machine_that_goes_on_asking() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let call = "instance:arm:DELETE resourceGroups";
    world.sandbox.fault(call, None, FaultKind::Denied);
    world
        .sandbox
        .fault("download:runner", None, FaultKind::Status(404));
    let running = world.spawn(&["launch", "--cloud=azure", "--timeout=40"]);
    world.until_running().await;
    running.signal(9);
    world.done(running).await;
    let name = world.azure_instance().name;
    let says = |text: &str| azure.console(&name).contains(text);
    world
        .until("it goes on asking", || says("and goes on asking"))
        .await;
    // The timer is stopped, or finds that somebody is asking.
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(
        world.azure_instance().state,
        "running",
        "{}",
        world.report()
    );
    world.sandbox.clear_faults();
    world.finish().await;
}

#[tokio::test]
async fn the_next_launch_deletes_what_could_not_delete_itself() {
    let mut world = World::new().await;
    let azure = world.sandbox.azure();
    azure.deny("Microsoft.Authorization/roleAssignments/write");
    world.set("AZURE_CLIENT_SECRET", None);
    let token = azure.federated_token(sandbox::FederatedToken::Good);
    world.set("AZURE_FEDERATED_TOKEN", Some(&token));
    let args = ["--idle-timeout=3", "--cloud-keep-until-stopped"];
    let done = world.launch_azure(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let left = world.azure_instance().name;
    let is = |state: &str| {
        azure
            .live()
            .iter()
            .any(|i| i.name == left && i.state == state)
    };
    world.until("it is off", || is("stopped")).await;
    let again = ["--idle-timeout=never", "--cloud-keep-until-stopped"];

    // One that has just ended may be about to be deleted by whom it belongs to.
    let done = world
        .launch_azure(&[&again[..], &["--name=one"]].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(is("stopped"), "{}", world.report());

    azure.age(&left, Duration::from_secs(660));
    let done = world
        .launch_azure(&[&again[..], &["--name=two"]].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(done.stderr.contains(&left), "{}", done.stderr);
    world
        .until("it is gone", || azure.live().iter().all(|i| i.name != left))
        .await;
    for name in ["one", "two"] {
        let done = world.run(&["stop", "--cloud=azure", name]).await;
        assert_eq!(done.code, 0, "{}", world.report());
    }
    world.finish().await;
}

#[tokio::test]
async fn a_cloud_that_refuses_the_deletion_leaves_a_machine_that_can_be_swept() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let refused = FaultKind::Status(400);
    world
        .sandbox
        .fault("instance:arm:DELETE resourceGroups", None, refused);
    let done = world.launch_azure(&["--idle-timeout=3"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let name = world.azure_instance().name;
    let asks_on = "it stays on, and goes on asking";
    world
        .until("the agent has given up", || {
            azure.console(&name).contains(asks_on)
        })
        .await;
    azure.age(&name, Duration::from_secs(13 * 3600));
    let done = world
        .run(&["sweep", "--cloud=azure", "--older-than=12h"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}
