//! `list`, `stop` and `sweep` on Kubernetes.

use std::time::Duration;

use serde_json::Value;

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

async fn add(world: &World, name: &str, args: &[&str]) {
    let stays = ["--idle-timeout=never", "--labels=stays", "--name", name];
    let done = world.launch_kubernetes(&[&stays, args].concat()).await;
    assert_eq!(done.code, 0, "{}", world.report());
}

/// What `list` tells: ids, states, and what the runners do.
async fn listed(world: &World) -> Vec<(String, String, String)> {
    let done = world
        .run(&["list", "--cloud=kubernetes", "--output=json"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let rows: Vec<Value> = serde_json::from_str(&done.stdout).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| (text(row, "id"), text(row, "state"), text(row, "runner")))
        .collect()
}

#[tokio::test]
async fn what_was_launched_is_listed_stopped_and_swept() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    add(&world, "one", &[]).await;
    add(&world, "two", &[]).await;
    add(&world, "Three_Three", &[]).await;
    let ids: Vec<String> = kubernetes.jobs().into_iter().map(|job| job.name).collect();
    let running = |id: &String| (id.clone(), "running".to_owned(), "idle".to_owned());
    let mut expected: Vec<_> = ids.iter().map(running).collect();
    expected.sort();
    let mut found = listed(&world).await;
    found.sort();
    assert_eq!(found, expected);
    let done = world.run(&["list", "--cloud=kubernetes"]).await;
    for part in ["one", "running", "idle", "runners", "/octo/repo"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }

    // By the runner's name, by the Job's; said again, and what never was.
    for target in ["Three_Three", "one", "one", "never-was"] {
        let done = world
            .run(&["stop", "--cloud=kubernetes", "--name", target])
            .await;
        assert_eq!(done.code, 0, "{target}: {}", world.report());
    }
    assert_eq!(listed(&world).await.len(), 1);
    // It is gone when `stop` says so.
    assert_eq!(kubernetes.live().len(), 1, "{}", world.report());

    // A runner that waits for jobs is no leftover; one whose machine has died is.
    kubernetes.age("two", 13 * HOUR);
    let sweep = ["sweep", "--cloud=kubernetes", "--older-than=12h"];
    let done = world.run(&sweep).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(listed(&world).await.len(), 1, "{}", world.report());
    let done = world
        .run(&[&sweep[..], &["--all", "--dry-run"]].concat())
        .await;
    assert!(done.stdout.contains("two"), "{}", done.stdout);
    assert_eq!(listed(&world).await.len(), 1, "{}", world.report());
    let done = world.run(&[&sweep[..], &["--all"]].concat()).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(listed(&world).await, []);
    world.finish().await;
}

#[tokio::test]
async fn what_somebody_else_made_is_left_alone() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    add(&world, "one", &[]).await;
    kubernetes.unmark("one");
    assert_eq!(listed(&world).await, []);
    let done = world
        .run(&["stop", "--cloud=kubernetes", "--instance-id=one"])
        .await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert!(kubernetes.jobs()[0].exists, "{}", world.report());
    let kubectl = kubernetes.delete_pod(&world.pod().name);
    assert!(kubectl);
    world.until_clean().await;
    world.finish().await;
}

#[tokio::test]
async fn a_pod_on_a_lost_node_is_told() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    add(&world, "one", &[]).await;
    let pod = world.pod().name;
    kubernetes.lose_node(&pod);
    let stopping = world.spawn(&["stop", "--cloud=kubernetes", "one"]);
    world
        .until("the pod is being deleted", || world.pod().terminating)
        .await;
    kubernetes.forget_node(&pod);
    let done = world.done(stopping).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn what_is_stopped_has_no_pod_left_even_where_its_job_goes_first() {
    let world = World::with(|config| config.shutdown_delay = Duration::from_secs(2)).await;
    let kubernetes = world.sandbox.kubernetes();
    add(&world, "one", &[]).await;
    kubernetes.overlook_dependents();
    // It has just started, and denies what it will allow: here, once the Job is gone.
    for nth in 3..=5 {
        let denied = sandbox::FaultKind::Denied;
        world.sandbox.fault("host:list pods", Some(nth), denied);
    }
    let done = world
        .run(&["stop", "--cloud=kubernetes", "--name=one"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(kubernetes.live().is_empty(), "{}", world.report());
    world.finish().await;
}
