//! The launch watches, and gets over what happens to watches.

use std::time::Duration;

use sandbox::FaultKind;

use crate::world::World;

#[tokio::test]
async fn nothing_is_asked_twice_while_it_is_watched() {
    let world = World::new().await;
    world.sandbox.kubernetes().slow_pull(Duration::from_secs(3));
    let done = world.launch_kubernetes(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = world.host_calls();
    let count = |name: &str| calls.iter().filter(|call| *call == name).count();
    for (name, most) in [
        ("get jobs", 0),
        ("list jobs", 1),
        ("watch jobs", 1),
        ("list pods", 1),
        ("watch pods", 1),
        ("list events", 2),
        ("watch events", 2),
    ] {
        assert!(count(name) <= most, "{name}: {calls:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn watches_that_break_off_or_are_too_old_begin_again() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    kubernetes.slow_pull(Duration::from_secs(4));
    let running = world.spawn(&["launch", "--cloud=kubernetes", "--idle-timeout=1"]);
    world
        .until("there is a pod", || !kubernetes.live().is_empty())
        .await;
    kubernetes.close_watches();
    tokio::time::sleep(Duration::from_millis(400)).await;
    kubernetes.bookmark_now();
    kubernetes.compaction();
    kubernetes.close_watches();
    kubernetes.expire_watch_after(Duration::from_millis(700));
    let done = world.done(running).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_server_that_has_just_started_and_denies_everything_is_waited_for() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    kubernetes.slow_pull(Duration::from_secs(15));
    for nth in 1..=2 {
        let call = "host:patch jobs";
        world.sandbox.fault(call, Some(nth), FaultKind::Denied);
    }
    let running = world.spawn(&["launch", "--cloud=kubernetes", "--idle-timeout=8"]);
    world
        .until("there is a pod", || !kubernetes.live().is_empty())
        .await;
    for resource in ["jobs", "pods", "events"] {
        // More rounds of asking than a service may refuse for good.
        for (verb, times) in [("list", 2), ("watch", 2), ("get", 8)] {
            for nth in 1..=times {
                let call = format!("host:{verb} {resource}");
                world.sandbox.fault(&call, Some(nth), FaultKind::Denied);
            }
        }
    }
    kubernetes.close_watches();
    let done = world.done(running).await;
    assert_eq!(done.code, 0, "{}", world.report());
    // Told by an event that came late.
    assert!(done.stderr.contains("Pulled: "), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_cluster_that_allows_no_watch_of_events_is_enough() {
    let world = World::new().await;
    for call in ["host:watch events", "host:list events", "host:get pods/log"] {
        world.sandbox.fault(call, None, FaultKind::Denied);
    }
    let done = world.launch_kubernetes(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}
