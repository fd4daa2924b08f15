//! `list`, `stop` and `sweep` on Google Cloud.

use std::time::Duration;

use crate::world::World;

/// Launches a runner that stays, in a zone.
async fn add(world: &World, name: &str, zone: &str) -> String {
    let done = world
        .launch_gcp(&[
            "--idle-timeout=never",
            "--labels=stays",
            "--name",
            name,
            "--cloud-region",
            zone,
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let live = world.sandbox.gce().live();
    let named = live.iter().find(|i| i.name.starts_with(name));
    named.expect("it lives").name.clone()
}

#[tokio::test]
async fn what_was_launched_is_listed_stopped_and_swept() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    let one = add(&world, "one", "us-west1-a").await;
    let two = add(&world, "two", "us-west1-b").await;
    let far = add(&world, "far", "europe-west1-d").await;

    let done = world.run(&["list", "--cloud=gcp", "--output=json"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    for (name, there) in [(&one, true), (&two, true), (&far, false)] {
        assert_eq!(
            done.stdout.contains(name.as_str()),
            there,
            "{}",
            done.stdout
        );
    }
    assert!(done.stdout.contains("idle"), "{}", done.stdout);

    // By the runner's name, by the instance's; said again, and elsewhere.
    for target in ["one", two.as_str(), two.as_str(), "never-was"] {
        let done = world.run(&["stop", "--cloud=gcp", target]).await;
        assert_eq!(done.code, 0, "{target}: {}", world.report());
    }
    let runners = world.sandbox.github().runners();
    assert_eq!(runners.len(), 1, "{runners:?}");

    gce.age(&far, Duration::from_secs(13 * 3600));
    let sweep = |more: &'static [&'static str]| {
        let base = ["sweep", "--cloud=gcp", "--older-than=12h"];
        [&base[..], &["--cloud-region=eu-west"], more].concat()
    };
    let done = world.run(&sweep(&[])).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(gce.live().iter().any(|i| i.name == far), "its runner waits");
    gce.freeze(&far);
    world
        .until("the forge misses it", || {
            world.sandbox.github().runners().iter().all(|r| !r.online)
        })
        .await;
    let done = world.run(&sweep(&["--dry-run"])).await;
    assert!(done.stdout.contains(&far), "{}", world.report());
    let done = world.run(&sweep(&[])).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    let name = add(&world, "mine", "us-west1-b").await;
    gce.unmark(&name);
    gce.age(&name, Duration::from_secs(13 * 3600));
    let done = world.run(&["list", "--cloud=gcp", "--output=json"]).await;
    assert!(!done.stdout.contains(&name), "{}", done.stdout);
    let done = world
        .run(&["sweep", "--cloud=gcp", "--older-than=12h", "--all"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let done = world.run(&["stop", "--cloud=gcp", &name]).await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert_eq!(gce.live().len(), 1, "{}", world.report());
    assert!(gce.kill_agent(&name));
    world.finish().await;
}
