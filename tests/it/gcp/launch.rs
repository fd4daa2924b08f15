//! A launch on Google Cloud, from the command to the instance's end.

use std::time::{Duration, Instant};

use sandbox::{Call, Caller, JobScript};

use crate::round_trips::waves;
use crate::world::World;

#[tokio::test]
async fn a_single_runner_takes_its_job_and_deletes_its_machine() {
    let mut world = World::new().await;
    let (output, _) = world.in_github_actions();
    let done = world
        .launch_gcp(&["--labels=gpu", "--single", "--name=one"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.gce_instance();
    let text = std::fs::read_to_string(output).unwrap();
    for line in [
        format!("instance-id={}", instance.name),
        format!("instance-ip={}", instance.external_ip.clone().unwrap()),
        "instance-type=e2-custom-8-32768".into(),
        "cloud=gcp".into(),
        "region=us-west1-b".into(),
        "name=one".into(),
        "spot=false".into(),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
    assert!(instance.name.starts_with("one-"), "{}", instance.name);
    assert!(done.stdout.contains("\"instanceIp\":\""), "{}", done.stdout);

    let github = world.sandbox.github();
    let job = JobScript::Shell("echo hello from the job".into());
    let run = github.queue_run("octo/repo", "train", &["gpu"], job);
    world.until_clean().await;
    world.succeeded(run);
    // Nobody else has deleted it.
    let deletions: Vec<Caller> = world
        .sandbox
        .calls()
        .into_iter()
        .filter(|call| call.name == "compute:instances.delete")
        .map(|call| call.peer)
        .collect();
    assert_eq!(
        deletions,
        [Caller::Instance(instance.name)],
        "{}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn the_instance_is_made_as_promised() {
    let world = World::new().await;
    let done = world
        .launch_gcp(&[
            "--name=Made_Here",
            "--cloud-region=europe-west1",
            "--cloud-type=n1-standard-4+nvidia-tesla-t4*2",
            "--cloud-spot",
            "--cloud-hdd-size=120",
            "--cloud-metadata=team=ml",
            "--idle-timeout=1",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = world.sandbox.gce().instances().remove(0);
    assert!(made.name.starts_with("made-here-"), "{}", made.name);
    assert!(made.zone.starts_with("europe-west1-"), "{}", made.zone);
    assert_eq!(made.machine_type, "n1-standard-4");
    assert_eq!(made.accelerators, [("nvidia-tesla-t4".to_owned(), 2)]);
    assert!(made.spot && made.auto_delete);
    assert_eq!(made.on_host_maintenance, "TERMINATE");
    assert_eq!(
        (made.disk_type.as_str(), made.disk_gb),
        ("pd-balanced", 120)
    );
    assert_eq!(made.labels["team"], "ml");
    assert!(made.labels.contains_key("runner-launch"));
    assert!(made.image.contains("nvidia"), "{}", made.image);
    assert!(made.tags.is_empty(), "{:?}", made.tags);
    assert_eq!(made.metadata["block-project-ssh-keys"], "TRUE");
    assert!(
        made.description.contains("Made_Here") && made.description.contains("octo/repo"),
        "{}",
        made.description
    );
    let (account, scopes) = made.service_account.unwrap();
    assert!(account.contains("iam.gserviceaccount.com"), "{account}");
    assert_eq!(scopes, ["https://www.googleapis.com/auth/compute"]);
    world.finish().await;
}

#[tokio::test]
async fn a_warm_launch_makes_two_serial_trips_to_the_cloud() {
    let world = World::with(|config| config.latency = Duration::from_millis(100)).await;
    // The first launch makes the network.
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    let before = world.sandbox.calls().len();
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = &world.sandbox.calls()[before..];
    let insert = calls
        .iter()
        .position(|call| call.name == "compute:instances.insert")
        .unwrap();
    let (inserted, of_host): (Instant, Vec<Call>) = (
        calls[insert].started,
        calls
            .iter()
            .filter(|call| call.peer == Caller::Host && call.service != "github")
            .cloned()
            .collect(),
    );
    let until: Vec<Call> = of_host
        .into_iter()
        .filter(|call| call.started <= inserted && call.service != "download")
        .collect();
    assert_eq!(waves(&until), 2, "{}", world.report());
    assert!(
        until.iter().all(|call| call.service == "compute"),
        "no token has to be fetched: {}",
        world.report()
    );
    world.finish().await;
}

#[tokio::test]
async fn two_first_launches_at_once_share_one_network() {
    let world = World::new().await;
    let args = |name| ["launch", "--cloud=gcp", "--idle-timeout=1", "--name", name];
    let (one, two) = (world.spawn(&args("one")), world.spawn(&args("two")));
    let (one, two) = (world.done(one).await, world.done(two).await);
    assert_eq!((one.code, two.code), (0, 0), "{}", world.report());
    assert_eq!(world.sandbox.gce().instances().len(), 2);
    let networks = world.sandbox.gce().networks();
    let ours = networks
        .iter()
        .filter(|known| known.name == "runner-launch");
    assert_eq!(ours.count(), 1, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_gitlab_runner_lives_there_too() {
    let world = World::gitlab().await;
    let done = world
        .launch_gcp(&["--driver=gitlab", "--labels=gl", "--idle-timeout=1"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}
