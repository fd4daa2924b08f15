//! Clusters that have no room, and pods that can't be made or can't start.

use std::time::Duration;

use crate::world::World;

#[tokio::test]
async fn a_quota_and_a_policy_are_told_at_once_and_leave_nothing() {
    for (message, code, words) in [
        (
            "exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4",
            4,
            "exceeded quota",
        ),
        (
            "violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
            3,
            "violates PodSecurity",
        ),
    ] {
        let world = World::new().await;
        let kubernetes = world.sandbox.kubernetes();
        match code {
            4 => kubernetes.quota(message),
            _ => kubernetes.admission(message),
        }
        let done = world.launch_kubernetes(&["--name=one"]).await;
        assert_eq!(done.code, code, "{}", world.report());
        assert!(done.stderr.contains(words), "{}", done.stderr);
        assert!(world.is_clean(), "{}", world.report());
        world.finish().await;
    }
}

#[tokio::test]
async fn a_size_that_no_node_has_room_for_makes_way_for_the_next() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    let args = ["--cloud-type=m+t4,m", "--idle-timeout=1", "--timeout=120"];
    let done = world.launch_kubernetes(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let types: Vec<String> = kubernetes
        .jobs()
        .iter()
        .map(|job| job.annotations["runner-launch-type"].clone())
        .collect();
    assert_eq!(types, ["m+t4", "m"], "{}", world.report());
    assert!(done.stderr.contains("FailedScheduling"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_pod_without_a_node_tells_why_at_the_deadline() {
    let world = World::new().await;
    world
        .sandbox
        .kubernetes()
        .shortage("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.");
    let done = world.launch_kubernetes(&["--timeout=4"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr
            .contains("FailedScheduling: 0/3 nodes are available"),
        "{}",
        done.stderr
    );
    assert!(world.is_clean(), "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told_by_its_name() {
    for (image, words) in [
        ("registry.example/missing:1", "not found"),
        ("registry.example/private:1", "failed to authorize"),
    ] {
        let world = World::new().await;
        let image = format!("--cloud-image={image}");
        let done = world.launch_kubernetes(&["--timeout=6", &image]).await;
        assert_eq!(done.code, 5, "{}", world.report());
        assert!(done.stderr.contains(words), "{}", done.stderr);
        assert!(world.is_clean(), "{}", world.report());
        world.finish().await;
    }
}

#[tokio::test]
async fn a_contradiction_in_the_pod_ends_the_launch_at_once() {
    let world = World::new().await;
    let template = "--cloud-kubernetes-pod-template=spec: {securityContext: {runAsNonRoot: true}}";
    let started = std::time::Instant::now();
    let done = world.launch_kubernetes(&["--timeout=60", template]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(
        done.stderr.contains("CreateContainerConfigError"),
        "{}",
        done.stderr
    );
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "{:?}",
        started.elapsed()
    );
    world.finish().await;
}

#[tokio::test]
async fn what_the_server_finds_wrong_is_told_with_its_causes() {
    let world = World::new().await;
    let template = "--cloud-kubernetes-pod-template=
        spec:
          volumes: [{name: Not_A_Name, emptyDir: {}}]
    ";
    let done = world.launch_kubernetes(&[template]).await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert!(
        done.stderr.contains("spec.template.spec.volumes"),
        "{}",
        done.stderr
    );
    assert!(
        world.sandbox.kubernetes().jobs().is_empty(),
        "{}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_and_left_alone() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    let stays = ["--name=one", "--idle-timeout=never"];
    let done = world.launch_kubernetes(&stays).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let uid = kubernetes.jobs().remove(0).uid;
    // The organisation's runner may have the name at the forge, but not in the namespace.
    let done = world
        .launch_kubernetes(&["--name=one", "--repo=octo"])
        .await;
    assert_ne!(done.code, 0, "{}", world.report());
    assert!(done.stderr.contains("already exists"), "{}", done.stderr);
    let jobs = kubernetes.jobs();
    assert_eq!(jobs.len(), 1, "{}", world.report());
    assert!(jobs[0].exists && jobs[0].uid == uid, "{}", world.report());
    let done = world.run(&["stop", "--cloud=kubernetes", "one"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}
