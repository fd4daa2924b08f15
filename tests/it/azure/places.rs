//! Regions, sizes and images.

use serde_json::Value;

use crate::world::{Done, World};

const DRY: [&str; 2] = ["--dry-run", "--output=json"];

/// The candidates of a dry run.
async fn candidates(world: &World, args: &[&str]) -> Vec<Value> {
    let done = world.launch_azure(&[&DRY[..], args].concat()).await;
    assert_eq!(done.code, 0, "{args:?}: {}", done.stderr);
    let report: Value = serde_json::from_str(done.stdout.trim()).unwrap();
    report["candidates"].as_array().unwrap().clone()
}

/// How often the launchers made a call.
pub(super) fn count(world: &World, name: &str) -> usize {
    let calls = world.host_calls();
    calls.iter().filter(|call| *call == name).count()
}

/// How often they have asked for a machine.
pub(super) fn tries(world: &World) -> usize {
    count(world, "arm:PUT virtualMachines")
}

/// How a program ended, and what it told.
pub(super) fn has(done: &Done, code: i32, told: &[&str]) {
    assert_eq!(done.code, code, "{}{}", done.stdout, done.stderr);
    for told in told {
        assert!(done.stderr.contains(told), "{told}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_dry_run_tells_people_each_way_in_the_cloud_s_words() {
    let world = World::new().await;
    let args = ["--dry-run", "--cloud-type=m,m+t4", "--cloud-region=eu-west"];
    let done = world.launch_azure(&args).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    for told in [
        "Standard_F8s_v2 (x86_64) in westeurope, 35 GB",
        "Standard_NC4as_T4_v3 (x86_64) in westeurope, 128 GB",
        "Canonical:ubuntu-24_04-lts:server:",
    ] {
        assert!(done.stdout.contains(told), "{told} in {}", done.stdout);
    }
    for other in ["AMI", "zone", "subnet"] {
        assert!(!done.stdout.contains(other), "{other} in {}", done.stdout);
    }
    world.finish().await;
}

#[tokio::test]
async fn regions_have_aliases_and_come_in_the_user_s_order() {
    let world = World::new().await;
    for (given, expected) in [
        ("us-west", &["westus2"][..]),
        ("us-east", &["eastus"]),
        ("eu-north", &["northeurope"]),
        ("eu-west", &["westeurope"]),
        (
            "westus3,us-west,uksouth,westus2",
            &["westus3", "westus2", "uksouth"],
        ),
    ] {
        let found = candidates(&world, &["--cloud-region", given]).await;
        let regions: Vec<&str> = found.iter().filter_map(|c| c["region"].as_str()).collect();
        assert_eq!(regions, expected, "{given}");
        assert!(found.iter().all(|c| c["zone"].is_null()), "{found:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn sizes_get_the_image_of_their_architecture_and_with_their_drivers() {
    const UBUNTU: &str = "Canonical:ubuntu-24_04-lts:server:";
    const ARM: &str = "Canonical:ubuntu-24_04-lts:server-arm64:";
    const HPC: &str = "microsoft-dsvm:ubuntu-hpc:2404:";
    let world = World::new().await;
    for (wanted, size, image, arch) in [
        ("s", "Standard_B1s", UBUNTU, "x86_64"),
        ("m", "Standard_F8s_v2", UBUNTU, "x86_64"),
        ("l", "Standard_F32s_v2", UBUNTU, "x86_64"),
        ("xl", "Standard_F64s_v2", UBUNTU, "x86_64"),
        ("m+t4", "Standard_NC4as_T4_v3", HPC, "x86_64"),
        ("m+a100", "Standard_NC24ads_A100_v4", HPC, "x86_64"),
        ("xl+h100", "Standard_ND96isr_H100_v5", HPC, "x86_64"),
        ("Standard_D8ps_v5", "Standard_D8ps_v5", ARM, "aarch64"),
        ("Standard_D2ps_v6", "Standard_D2ps_v6", ARM, "aarch64"),
    ] {
        let args = ["--cloud-type", wanted, "--cloud-region=westus3"];
        let found = candidates(&world, &args).await;
        assert_eq!(found.len(), 1, "{wanted}: {found:?}");
        assert_eq!(found[0]["instanceType"], size, "{wanted}");
        assert_eq!(found[0]["arch"], arch, "{wanted}");
        let named = found[0]["image"].as_str().unwrap();
        assert!(named.starts_with(image), "{wanted}: {named}");
        assert!(!named.ends_with(":latest"), "{wanted}: {named}");
    }
    // Retired, and so refused with the name of what there is today.
    for (wanted, size) in [
        ("m+k80", "Standard_NC6"),
        ("l+k80", "Standard_NC12"),
        ("xl+k80", "Standard_NC24"),
        ("m+v100", "Standard_NC6s_v3"),
        ("l+v100", "Standard_NC12s_v3"),
        ("xl+tesla", "Standard_NC24s_v3"),
    ] {
        let done = world.launch_azure(&["--cloud-type", wanted]).await;
        has(&done, 4, &[size, "m+t4"]);
    }
    // A part of a GPU needs a driver that no image has.
    let args = ["--dry-run", "--cloud-type=Standard_NV36ads_A10_v5"];
    has(&world.launch_azure(&args).await, 0, &["GRID"]);
    assert_eq!(tries(&world), 0);
    world.finish().await;
}

#[tokio::test]
async fn images_of_the_marketplace_and_of_galleries_are_launched() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let shared = azure.group_id("ci-shared");
    let gallery = format!("{shared}/providers/Microsoft.Compute/galleries/ci_images/images/runner");
    let version = format!("{gallery}/versions/1.0.0");
    let managed = format!("{shared}/providers/Microsoft.Compute/images/runner-image");
    let community = "/communityGalleries/octo-1234/images/runner";
    let direct = "/sharedGalleries/octo-1234/images/runner";
    for (given, made, disk_gb, trusted) in [
        (
            "Debian:debian-12:12-gen2:latest",
            "Debian:debian-12:12-gen2:0.20250814.2204",
            35,
            true,
        ),
        (
            "Canonical:ubuntu-24_04-lts:server:24.04.202404230",
            "Canonical:ubuntu-24_04-lts:server:24.04.202404230",
            35,
            true,
        ),
        // Its plan has to be told, and its disk is larger than anybody says before.
        (
            "nvidia:ngc_azure_17_11:ngc-base-version-24_10_1_gen2:latest",
            "nvidia:ngc_azure_17_11:ngc-base-version-24_10_1_gen2:24.10.1",
            64,
            false,
        ),
        (&managed, &managed, 40, false),
        (&gallery, &gallery, 40, true),
        (&version, &version, 40, true),
        (community, community, 40, true),
        (direct, direct, 40, true),
    ] {
        let before = azure.instances().len();
        let done = world
            .launch_azure(&["--idle-timeout=3", "--cloud-image", given])
            .await;
        assert_eq!(done.code, 0, "{given}: {}", world.report());
        let made_of = azure.instances().remove(before);
        assert_eq!(
            (made_of.image.as_str(), made_of.disk_gb),
            (made, disk_gb),
            "{given}"
        );
        assert_eq!(made_of.trusted_launch, trusted, "{given}");
    }
    world.finish().await;
}

#[tokio::test]
async fn mistakes_are_all_told_at_once_and_nothing_is_touched() {
    let mut world = World::new().await;
    let before = world.sandbox.calls().len();
    let done = world
        .launch_azure(&[
            "--cloud-region=westeurope-1",
            "--cloud-metadata=a?b=ml",
            "--cloud-permission-set=not-an-identity",
            "--cloud-image=publisher:offer",
            "--cloud-hdd-size=5000",
            "--cloud-type=huge,Standard_",
        ])
        .await;
    let told = [
        "westeurope-1",
        "a?b",
        "not-an-identity",
        "publisher:offer",
        "--cloud-hdd-size",
        "huge",
        "Standard_",
    ];
    has(&done, 2, &told);
    assert_eq!(world.sandbox.calls().len(), before);

    // What only Azure knows is told by the look, before anything is made.
    world.sandbox.azure().allow_only(&["*"]);
    let own = world.sandbox.azure().group_id("ci-shared");
    let other = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/ci-shared";
    let identity = |group: &str| {
        let kind = "Microsoft.ManagedIdentity/userAssignedIdentities";
        format!("{group}/providers/{kind}/no-such-identity")
    };
    let image = |group: &str| format!("{group}/providers/Microsoft.Compute/images/no-such-image");
    let (own_identity, other_identity) = (identity(&own), identity(other));
    let (own_image, other_image) = (image(&own), image(other));
    for (option, value) in [
        ("--cloud-type", "Standard_Z9_v9"),
        ("--cloud-region", "nowhereeast"),
        (
            "--cloud-image",
            "Canonical:ubuntu-24_04-lts:no-such-sku:latest",
        ),
        (
            "--cloud-image",
            "Canonical:ubuntu-24_04-lts:server-arm64:latest",
        ),
        (
            "--cloud-image",
            "/communityGalleries/octo-1234/images/other",
        ),
        ("--cloud-image", &own_image),
        ("--cloud-image", &other_image),
        ("--cloud-permission-set", &own_identity),
        ("--cloud-permission-set", &other_identity),
    ] {
        let done = world.launch_azure(&[option, value]).await;
        let last = value.trim_end_matches(":latest").rsplit('/').next();
        has(&done, 2, &[last.unwrap()]);
    }
    let nobodys = "00000000-0000-0000-0000-000000000000";
    world.set("AZURE_SUBSCRIPTION_ID", Some(nobodys));
    let done = world.launch_azure(&["--dry-run"]).await;
    has(&done, 3, &[nobodys, "check AZURE_SUBSCRIPTION_ID"]);
    let changed = world.host_calls();
    assert!(
        !changed.iter().any(|call| call.starts_with("arm:PUT")),
        "{changed:?}"
    );
    world.finish().await;
}
