//! Promise 5: the fewest round trips.

use std::time::{Duration, Instant};

use sandbox::{Call, Caller};

use crate::world::World;

/// How many of these calls had to wait for another of them: calls that overlap are one wave.
pub(crate) fn waves(calls: &[Call]) -> usize {
    let mut calls: Vec<(Instant, Instant)> = calls
        .iter()
        .map(|call| (call.started, call.finished.unwrap_or(call.started)))
        .collect();
    calls.sort_unstable();
    let (mut waves, mut end) = (0, None);
    for (started, finished) in calls {
        if end.is_none_or(|end| started >= end) {
            waves += 1;
            end = Some(finished);
        }
    }
    waves
}

#[tokio::test]
async fn a_warm_launch_makes_two_serial_trips_to_the_cloud_and_two_to_the_forge() {
    let world = World::with(|config| config.latency = Duration::from_millis(100)).await;
    // The first launch makes the shared group.
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    let before = world.sandbox.calls().len();
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = &world.sandbox.calls()[before..];
    let last = calls
        .iter()
        .position(|call| call.name == "ec2:RunInstances")
        .unwrap();
    let of = |service: &str| -> Vec<Call> {
        calls[..=last]
            .iter()
            .filter(|call| call.service == service && call.peer == Caller::Host)
            .cloned()
            .collect()
    };
    assert_eq!(waves(&of("ec2")), 2, "{}", world.report());
    assert_eq!(waves(&of("github")), 2, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn look_waits_for_the_slowest_answer_only() {
    let world = World::with(|config| config.latency = Duration::from_millis(300)).await;
    let done = world
        .launch(&["--dry-run", "--cloud-region=us-west,us-east,eu-west"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(waves(&world.sandbox.calls()), 1, "{}", world.report());
    world.finish().await;
}
