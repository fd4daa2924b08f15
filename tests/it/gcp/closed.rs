//! No port, no key, no more permission than the list, and jobs that can't be the machine.

use sandbox::JobScript;
use std::time::Duration;

use crate::world::World;

/// What the specification lists, and what is tolerated beside it.
fn listed() -> Vec<&'static str> {
    include_str!("../../data/permissions-gcp.txt")
        .lines()
        .collect()
}

#[tokio::test]
async fn only_the_specification_s_permissions_are_needed() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    gce.allow_only(&listed());
    let done = world
        .launch_gcp(&[
            "--idle-timeout=1",
            "--cloud-spot",
            "--cloud-ssh-cidr=10.0.0.0/8",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    // Labels want one more permission: the launch goes on without, and says so.
    let warned = done.stderr.matches("compute.instances.setLabels").count();
    assert_eq!(warned, 1, "{}", done.stderr);
    assert!(gce.instances()[0].labels.is_empty());
    world.until_clean().await;

    // Unlabelled ones are found all the same.
    let done = world
        .launch_gcp(&["--idle-timeout=never", "--name=plain", "--labels=plain"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let done = world.run(&["list", "--cloud=gcp", "--output=json"]).await;
    assert!(done.stdout.contains("plain"), "{}", done.stdout);
    let done = world.run(&["stop", "--cloud=gcp", "plain"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;

    // A failing launch asks for the console, and is refused, and says what it knows all the same.
    world
        .sandbox
        .fault("download:agent", None, sandbox::FaultKind::Status(404));
    let done = world.launch_gcp(&["--timeout=10"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(done.stderr.contains("no output"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn the_readme_s_role_is_enough() {
    let readme = include_str!("../../../README.md");
    let (_, role) = readme.split_once("includedPermissions:").unwrap();
    let (role, _) = role.split_once("```").unwrap();
    let mut permissions: Vec<&str> = role
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let listed = listed();
    for permission in &permissions {
        let tolerated = ["setLabels", "getSerialPortOutput"];
        let known = tolerated.iter().any(|name| permission.ends_with(name));
        assert!(known || listed.contains(permission), "{permission}");
    }
    // Granted on the account itself, by the line below the role.
    permissions.push("iam.serviceAccounts.actAs");
    let world = World::new().await;
    let gce = world.sandbox.gce();
    gce.allow_only(&permissions);
    let done = world
        .launch_gcp(&[
            "--idle-timeout=1",
            "--cloud-ssh-cidr=10.0.0.0/8",
            "--cloud-metadata=team=ml",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
    assert_eq!(gce.instances()[0].labels["team"], "ml");
    world.finish().await;
}

#[tokio::test]
async fn no_port_is_open_unless_ssh_is_asked_for() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(gce.firewalls().is_empty(), "{:?}", gce.firewalls());
    world.until_clean().await;
    for _ in 0..2 {
        let done = world
            .launch_gcp(&["--idle-timeout=1", "--cloud-ssh-cidr=203.0.113.0/24"])
            .await;
        assert_eq!(done.code, 0, "{}", world.report());
        world.until_clean().await;
    }
    let rules = gce.firewalls();
    assert_eq!(rules.len(), 1, "one for all: {rules:?}");
    assert_eq!(rules[0].source_ranges, ["203.0.113.0/24"]);
    assert_eq!(rules[0].allowed, ["tcp:22"]);
    let made = gce.instances();
    assert!(made[0].tags.is_empty(), "{:?}", made[0].tags);
    assert_eq!(made[1].tags, rules[0].target_tags);
    world.finish().await;
}

#[tokio::test]
async fn no_key_reaches_the_instance_and_jobs_get_no_token_of_it() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    let key: serde_json::Value = serde_json::from_str(&gce.service_account_key()).unwrap();
    let pem = key["private_key"].as_str().unwrap().to_owned();
    let line = pem.lines().nth(1).unwrap().to_owned();
    let done = world.launch_gcp(&["--labels=one", "--single"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = world.gce_instance();
    let root = gce.disk(&made.name);
    let config = std::fs::read_to_string(root.join("etc/runner-launch/agent.json")).unwrap();
    for text in [&made.startup_script, &config] {
        assert!(!text.contains(&line));
    }
    // The whole metadata service is closed to jobs, for its token deletes machines.
    let rules = std::fs::read_to_string(root.join("../firewall")).unwrap();
    assert!(
        rules.lines().all(|rule| !rule.contains("--string")) && rules.contains("--uid-owner 0"),
        "{rules}"
    );
    let job = JobScript::Sleep(Duration::ZERO);
    world
        .sandbox
        .github()
        .queue_run("octo/repo", "j", &["one"], job);
    world.until_clean().await;

    // An account of the user's is there for jobs: only what holds the user data is closed.
    let done = world
        .launch_gcp(&[
            "--idle-timeout=1",
            &format!(
                "--cloud-permission-set={},scopes=storage-rw,compute-rw",
                gce.runner_account()
            ),
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = gce.instances().remove(1);
    let (account, scopes) = made.service_account.unwrap();
    assert_eq!(account, gce.runner_account());
    assert_eq!(
        scopes,
        [
            "https://www.googleapis.com/auth/devstorage.read_write",
            "https://www.googleapis.com/auth/compute"
        ]
    );
    world.finish().await;
}

#[tokio::test]
async fn an_account_that_may_not_be_attached_is_told_once_and_left_out() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    gce.refuse_act_as();
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(
        done.stderr.matches("iam.serviceAccounts.actAs").count(),
        1,
        "{}",
        done.stderr
    );
    let made = gce.instances().pop().unwrap();
    assert!(made.service_account.is_none());
    world
        .until("it has stopped", || {
            gce.live().iter().all(|i| i.status == "TERMINATED")
        })
        .await;
    // The next launch deletes it.
    gce.age(&made.name, Duration::from_secs(3600));
    let done = world
        .launch_gcp(&["--idle-timeout=never", "--name=next"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world
        .until("the stopped one is gone", || {
            gce.live().iter().all(|i| i.name != made.name)
        })
        .await;
    let done = world.run(&["stop", "--cloud=gcp", "next"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;

    // One that the user has named is not left out.
    let wanted = format!(
        "--cloud-permission-set={},scopes=storage-rw",
        gce.runner_account()
    );
    let done = world.launch_gcp(&["--single", &wanted]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains("actAs"), "{}", done.stderr);
    world.finish().await;
}
