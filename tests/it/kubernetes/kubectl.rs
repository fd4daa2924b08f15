//! What the program makes is Kubernetes' own: kubectl sees it, and deletes it.

use tokio::process::Command;

use crate::world::{Done, World};

/// Runs kubectl; `None`: it isn't installed.
async fn kubectl(world: &World, args: &[&str]) -> Option<Done> {
    let path = std::env::var_os("PATH")?;
    let installed = std::env::split_paths(&path).any(|folder| folder.join("kubectl").is_file());
    if !installed {
        return None;
    }
    let mut command = Command::new("kubectl");
    command.args(args);
    Some(world.done(world.spawn_command(command)).await)
}

#[tokio::test]
async fn kubectl_lists_and_deletes_what_was_launched() {
    let world = World::new().await;
    let args = ["--name=one", "--idle-timeout=never"];
    let done = world.launch_kubernetes(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let ours = "app.kubernetes.io/managed-by=runner-launch";
    let Some(listed) = kubectl(
        &world,
        &["get", "jobs,pods,secrets", "-l", ours, "-o", "name"],
    )
    .await
    else {
        world.run(&["stop", "--cloud=kubernetes", "one"]).await;
        return world.finish().await;
    };
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let pod = world.pod().name;
    for name in [
        "job.batch/one".to_owned(),
        format!("pod/{pod}"),
        "secret/one-".into(),
    ] {
        assert!(listed.stdout.contains(&name), "{name}: {}", listed.stdout);
    }
    let log = kubectl(&world, &["logs", &pod]).await.unwrap();
    assert!(
        log.stdout.contains("is ready for jobs"),
        "{} {}",
        log.stdout,
        log.stderr
    );
    let deleted = kubectl(&world, &["delete", "job", "one", "--cascade=foreground"])
        .await
        .unwrap();
    assert_eq!(deleted.code, 0, "{}", deleted.stderr);
    world.until_clean().await;
    // Deleting it was an interruption of an idle runner: its record is gone, too.
    assert!(world.sandbox.github().runners().is_empty());
    world.finish().await;
}
