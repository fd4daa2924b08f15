//! Zones, types, capacity and quotas.

use crate::world::{Done, World};

/// The candidates of a dry run.
fn candidates(done: &Done) -> Vec<serde_json::Value> {
    assert_eq!(done.code, 0, "{}", done.stderr);
    let report: serde_json::Value = serde_json::from_str(done.stdout.trim()).unwrap();
    report["candidates"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_dry_run_tells_people_each_way_in_the_cloud_s_words() {
    let world = World::new().await;
    let done = world
        .launch_gcp(&[
            "--dry-run",
            "--cloud-type=m+t4",
            "--cloud-region=us-central1-a",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let told = "n1-standard-4+nvidia-tesla-t4*1 (x86_64) in us-central1-a, 35 GB";
    assert!(done.stdout.contains(told), "{}", done.stdout);
    assert!(
        done.stdout.contains("network runner-launch") && !done.stdout.contains("security group"),
        "{}",
        done.stdout
    );
    world.finish().await;
}

const DRY: [&str; 2] = ["--dry-run", "--output=json"];

#[tokio::test]
async fn an_alias_begins_with_its_zone_and_a_region_takes_all_of_its_own() {
    let world = World::new().await;
    for (region, first, several) in [
        ("us-west", Some("us-west1-b"), true),
        ("eu-north", Some("europe-north1-a"), true),
        ("us-central1", None, true),
        ("us-central1-c", Some("us-central1-c"), false),
    ] {
        let done = world
            .launch_gcp(&[&DRY[..], &["--cloud-region", region]].concat())
            .await;
        let found = candidates(&done);
        if let Some(first) = first {
            assert_eq!(found[0]["zone"], first, "{region}");
        }
        assert_eq!(found.len() > 1, several, "{region}: {found:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn types_get_the_image_of_their_architecture_and_with_their_drivers() {
    let world = World::new().await;
    for (wanted, region, machine, image, arch) in [
        ("m", "us-west", "e2-custom-8-32768", "ubuntu", "x86_64"),
        ("s", "us-west", "g1-small", "ubuntu", "x86_64"),
        (
            "t2a-standard-2",
            "us-central1",
            "t2a-standard-2",
            "arm64",
            "aarch64",
        ),
        (
            "c4a-standard-4",
            "us-central1",
            "c4a-standard-4",
            "arm64",
            "aarch64",
        ),
        ("m+t4", "us-central1", "n1-standard-4", "nvidia", "x86_64"),
        ("m+l4", "us-central1", "g2-standard-8", "nvidia", "x86_64"),
        ("m+a100", "us-central1", "a2-highgpu-1g", "nvidia", "x86_64"),
    ] {
        let done = world
            .launch_gcp(
                &[
                    &DRY[..],
                    &["--cloud-type", wanted, "--cloud-region", region],
                ]
                .concat(),
            )
            .await;
        let first = &candidates(&done)[0];
        assert!(
            first["instanceType"].as_str().unwrap().starts_with(machine),
            "{wanted}: {first}"
        );
        assert_eq!(first["arch"], arch, "{wanted}");
        let named = format!("{}{}", first["image"], first["imageName"]);
        assert!(named.contains(image), "{wanted}: {first}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_stockout_leads_to_the_next_zone_type_and_region() {
    let world = World::new().await;
    let gce = world.sandbox.gce();
    gce.exhaust(
        Some("us-west1-b"),
        None,
        None,
        "ZONE_RESOURCE_POOL_EXHAUSTED",
    );
    let done = world.launch_gcp(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = gce.instances();
    let made = made
        .iter()
        .find(|i| i.status != "DELETED" || !i.zone.ends_with("-b"));
    let zone = &made.expect("it was made elsewhere").zone;
    assert!(
        zone.starts_with("us-west1-") && zone != "us-west1-b",
        "{zone}"
    );
    world.until_clean().await;

    // Spot is nowhere: on demand where that is allowed.
    gce.exhaust(
        None,
        None,
        Some(true),
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    );
    let done = world.launch_gcp(&["--cloud-spot", "--single"]).await;
    assert_eq!(done.code, 4, "{}", world.report());
    assert!(
        done.stderr.contains("ZONE_RESOURCE_POOL_EXHAUSTED"),
        "{}",
        done.stderr
    );
    assert!(world.is_clean(), "{}", world.report());
    let done = world
        .launch_gcp(&["--cloud-spot", "--cloud-spot-fallback", "--idle-timeout=1"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_quota_is_exit_code_4_with_its_name() {
    let world = World::new().await;
    world
        .sandbox
        .gce()
        .exhaust(None, None, None, "QUOTA_EXCEEDED:GPUS_ALL_REGIONS:global");
    let done = world
        .launch_gcp(&[
            "--single",
            "--cloud-type=m+t4",
            "--cloud-region=us-central1",
        ])
        .await;
    assert_eq!(done.code, 4, "{}", world.report());
    assert!(done.stderr.contains("GPUS_ALL_REGIONS"), "{}", done.stderr);
    assert!(done.stderr.contains("quota"), "{}", done.stderr);
    // The project's quota is the same in every zone.
    let inserts = world.host_calls();
    let inserts = inserts
        .iter()
        .filter(|call| *call == "compute:instances.insert");
    assert_eq!(inserts.count(), 1, "{}", world.report());
    assert!(world.is_clean(), "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn mistakes_are_all_told_at_once_and_nothing_is_touched() {
    let world = World::new().await;
    let before = world.sandbox.calls().len();
    let done = world
        .launch_gcp(&[
            "--cloud-region=nowhere!",
            "--cloud-metadata=Team=ML",
            "--cloud-permission-set=not-an-account,scopes=unknown-scope",
            "--cloud-spot",
            "--cloud-spot-price=0.1",
            "--cloud-type=n1-standard-4+nvidia-tesla-t4*none",
        ])
        .await;
    assert_eq!(done.code, 2, "{}", done.stderr);
    for told in [
        "nowhere!",
        "Team",
        "not-an-account",
        "unknown-scope",
        "--cloud-spot-price",
        "nvidia-tesla-t4*none",
    ] {
        assert!(done.stderr.contains(told), "{told}: {}", done.stderr);
    }
    assert_eq!(world.sandbox.calls().len(), before);

    // What only Google knows is told by the look, before anything is made.
    for (option, value) in [
        ("--cloud-type", "n9-mega-4"),
        ("--cloud-region", "us-west1-z"),
        ("--cloud-image", "no-such-project/no-such-family"),
    ] {
        let done = world.launch_gcp(&[option, value]).await;
        assert_ne!(done.code, 0, "{option} {value}");
        let last = value.rsplit('/').next().unwrap();
        assert!(done.stderr.contains(last), "{value}: {}", done.stderr);
    }
    let changed = world.host_calls();
    assert!(
        !changed.iter().any(|call| call.ends_with(".insert")),
        "{changed:?}"
    );
    world.finish().await;
}
