//! A launch on Azure, from the command to the machine's end.

use std::time::{Duration, Instant};

use sandbox::{AzureInstanceView, Call, Caller, JobScript};

use crate::round_trips::waves;
use crate::world::World;

const KEY: &str = include_str!("../../data/debug-key.pem");
/// How the public half of it ends.
const PUBLIC: &str = "onH5NGiqL1QNGzpRcbnVbnqsDetcJXE7xjkXRb";

#[tokio::test]
async fn a_single_runner_takes_its_job_and_deletes_its_machine() {
    let mut world = World::new().await;
    let (output, _) = world.in_github_actions();
    let done = world
        .launch_azure(&["--labels=gpu", "--single", "--name=one"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.azure_instance();
    let text = std::fs::read_to_string(output).unwrap();
    for line in [
        format!("instance-id={}", instance.group),
        format!("instance-ip={}", instance.public_ip.clone().unwrap()),
        "instance-type=Standard_F8s_v2".into(),
        "cloud=azure".into(),
        "region=westus2".into(),
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
    // Nobody else has deleted anything.
    let deletions: Vec<Call> = world
        .sandbox
        .calls()
        .into_iter()
        .filter(|call| call.name.starts_with("arm:DELETE") && call.status == Some(202))
        .collect();
    assert_eq!(deletions.len(), 1, "{}", world.report());
    assert_eq!(deletions[0].name, "arm:DELETE resourceGroups");
    assert_eq!(deletions[0].peer, Caller::Instance(instance.name));
    world.finish().await;
}

/// What a launch with these arguments makes; it is gone at the end.
async fn made(world: &World, args: &[&str]) -> AzureInstanceView {
    let done = world
        .launch_azure(&[&["--idle-timeout=never", "--name=Made_Here"], args].concat())
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = world.azure_instance();
    world.sandbox.azure().press_power_button(&made.name);
    world.until_clean().await;
    made
}

#[tokio::test]
async fn the_instance_is_made_as_promised() {
    let world = World::new().await;
    let encryption = "Microsoft.Compute/EncryptionAtHost";
    world.sandbox.azure().register_feature(encryption);
    let args = [
        "--cloud-region=eu-west",
        "--cloud-type=l",
        "--cloud-spot",
        "--cloud-spot-price=0.5",
        "--cloud-hdd-size=120",
        "--cloud-metadata=team=ml",
        "--cloud-ssh-private",
        KEY,
    ];
    let it = made(&world, &args).await;
    assert!(it.name.starts_with("made-here-"), "{}", it.name);
    assert_eq!(it.name, it.group);
    assert_eq!(
        (it.region.as_str(), it.size.as_str()),
        ("westeurope", "Standard_F32s_v2")
    );
    let image = "Canonical:ubuntu-24_04-lts:server:";
    assert!(it.image.starts_with(image), "{}", it.image);
    assert!(it.spot && it.deleted_when_evicted);
    assert_eq!(it.max_price, Some(0.5));
    assert_eq!((it.disk_kind.as_str(), it.disk_gb), ("Premium_LRS", 120));
    assert!(it.all_deleted_with_it && it.public_ip.is_some() && it.boot_diagnostics);
    for tags in [&it.tags, &it.group_tags] {
        assert_eq!(tags["team"], "ml");
        assert_eq!(tags["runner-launch-name"], "Made_Here");
        assert!(tags.contains_key("runner-launch"), "{tags:?}");
    }
    assert_eq!((it.admin.as_str(), it.password), ("ubuntu", false));
    assert_eq!(it.ssh_keys.len(), 1);
    let key = &it.ssh_keys[0];
    assert!(
        key.starts_with("ssh-rsa ") && key.ends_with(PUBLIC),
        "{key}"
    );
    assert!(it.trusted_launch && it.secure_boot && it.encryption_at_host);
    // Contributor of its own group, and nothing elsewhere.
    assert!(it.system_identity && it.user_identities.is_empty());
    let contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c";
    let group = world.sandbox.azure().group_id(&it.group);
    assert_eq!(it.roles, [(contributor.to_owned(), group)]);
    world.finish().await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_the_current_price_and_a_key_that_nobody_keeps() {
    let world = World::new().await;
    let spot = made(&world, &["--cloud-spot", "--cloud-region=swedencentral"]).await;
    assert_eq!(spot.region, "swedencentral");
    assert_eq!((spot.max_price, spot.disk_gb), (Some(-1.0), 35));
    assert!(
        !spot.encryption_at_host,
        "the subscription hasn't switched it on"
    );
    // A size of the first generation, without better disks.
    let old = made(&world, &["--cloud-type=Standard_D2_v2"]).await;
    assert!(!old.spot && old.max_price.is_none());
    assert!(!old.trusted_launch && !old.secure_boot);
    assert_eq!(old.disk_kind, "StandardSSD_LRS");
    assert!(old.image.contains(":server-gen1:"), "{}", old.image);
    let keys = [&spot.ssh_keys, &old.ssh_keys];
    for keys in keys {
        assert!(keys[0].starts_with("ssh-ed25519 "), "{keys:?}");
    }
    assert_ne!(keys[0], keys[1]);
    world.finish().await;
}

#[tokio::test]
async fn a_launch_makes_five_serial_trips_after_its_token() {
    let world = World::with(|config| config.latency = Duration::from_millis(100)).await;
    let done = world.launch_azure(&["--idle-timeout=3"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let mut calls = world.sandbox.calls();
    calls.retain(|call| call.peer == Caller::Host);
    let position = |name: &str| {
        let found = calls.iter().position(|call| call.name == name);
        found.unwrap_or_else(|| panic!("no {name}: {}", world.report()))
    };
    let machine = position("arm:PUT virtualMachines");
    let of = |service: &str| -> Vec<Call> {
        let until = calls[..=machine].iter();
        until
            .filter(|call| call.service == service)
            .cloned()
            .collect()
    };
    assert_eq!(of("entra").len(), 1, "{}", world.report());
    // The look; the group; the security group beside the network; whether these two are there; the
    // machine.
    assert_eq!(waves(&of("arm")), 5, "{}", world.report());
    let network = ["networkSecurityGroups", "virtualNetworks"]
        .map(|kind| calls[position(&format!("arm:PUT {kind}"))].clone());
    assert_eq!(waves(&network), 1, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn two_launches_at_once_share_nothing() {
    let world = World::new().await;
    let args = |name| {
        let stays = "--idle-timeout=never";
        ["launch", "--cloud=azure", stays, "--name", name]
    };
    let (one, two) = (world.spawn(&args("one")), world.spawn(&args("two")));
    let (one, two) = (world.done(one).await, world.done(two).await);
    assert_eq!((one.code, two.code), (0, 0), "{}", world.report());
    let azure = world.sandbox.azure();
    // One goes with everything of its own, and the other stays whole.
    let [first, second] = &azure.live()[..] else {
        panic!("{}", world.report())
    };
    let group = |name: &str| azure.groups().into_iter().find(|group| group.name == name);
    let whole = group(&second.group).unwrap();
    azure.press_power_button(&first.name);
    world
        .until("the first is gone", || group(&first.group).is_none())
        .await;
    assert_eq!(group(&second.group).unwrap(), whole);
    assert_eq!(world.azure_instance().state, "running");
    azure.press_power_button(&second.name);
    world.finish().await;
}

#[tokio::test]
async fn the_service_says_how_long_to_wait_between_looks() {
    let world = World::with(|config| config.boot_delay = Duration::from_secs(4)).await;
    world.sandbox.azure().set_retry_after(3);
    let done = world.launch_azure(&["--idle-timeout=3"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = world.sandbox.calls();
    let mut asked: Vec<Instant> = Vec::new();
    for call in &calls {
        match (call.name.as_str(), call.peer == Caller::Host) {
            ("arm:PUT virtualMachines", true) => asked = vec![call.started],
            ("arm:GET operations", true) if !asked.is_empty() => asked.push(call.started),
            _ => {}
        }
    }
    assert!(asked.len() > 1, "{}", world.report());
    for pair in asked.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_secs(3), "{pause:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_gitlab_runner_lives_there_too() {
    let world = World::gitlab().await;
    let done = world
        .launch_azure(&["--driver=gitlab", "--labels=gl", "--idle-timeout=3"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}
