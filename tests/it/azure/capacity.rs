//! Where there is no room: other sizes, other regions, other markets; and quotas.

use super::places::{count, has, tries};
use crate::world::World;

/// Where the machines were made that ran, in order.
fn ran(world: &World) -> Vec<(String, String)> {
    let all = world.sandbox.azure().instances();
    let ran = all.into_iter().filter(|machine| machine.failure.is_none());
    ran.map(|machine| (machine.size, machine.region)).collect()
}

/// A launch where the first size isn't to be had, and then one where the first region has nothing.
/// What is refused at once leaves its group for the next size; what fails later goes with it.
async fn without_room(code: &str, later: bool) {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    azure.exhaust(Some("westus2"), Some("Standard_F8s_v2"), None, code);
    let args = [
        "--cloud-type=m,Standard_D8s_v5",
        "--cloud-region=us-west,us-east",
        "--idle-timeout=3",
    ];
    let done = world.launch_azure(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let groups = || count(&world, "arm:PUT resourceGroups");
    assert_eq!(ran(&world), [("Standard_D8s_v5".into(), "westus2".into())]);
    // The groups that were given up go by the launcher's hand, and no other ones.
    let given_up = || count(&world, "arm:DELETE resourceGroups");
    let expected = if later { (2, 1) } else { (1, 0) };
    assert_eq!((groups(), given_up()), expected, "{code}");
    assert_eq!(tries(&world), 2, "{code}");
    world.until_clean().await;

    azure.exhaust(Some("westus2"), None, None, code);
    let done = world.launch_azure(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(
        ran(&world)[1],
        ("Standard_F8s_v2".into(), "eastus".into()),
        "{code}"
    );
    let expected = if later { (5, 3) } else { (3, 1) };
    assert_eq!((groups(), given_up()), expected, "{code}");
    assert_eq!(tries(&world), 5, "{code}");
    world.finish().await;
}

#[tokio::test]
async fn no_room_leads_to_the_next_size_and_then_to_the_next_region() {
    tokio::join!(
        without_room("SkuNotAvailable", false),
        without_room("AllocationFailed", true),
        without_room("ZonalAllocationFailed", true),
        without_room("OverconstrainedAllocationRequest", true),
    );
}

#[tokio::test]
async fn a_size_that_the_subscription_may_not_have_is_not_tried() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    azure.restrict("westus2", "Standard_F8s_v2");
    let done = world.launch_azure(&[]).await;
    has(&done, 4, &["Standard_F8s_v2", "westus2", "--cloud-region"]);
    assert_eq!(tries(&world), 0);
    let args = ["--cloud-region=us-west,us-east", "--idle-timeout=3"];
    let done = world.launch_azure(&args).await;
    has(&done, 0, &["left out", "westus2"]);
    assert_eq!(ran(&world), [("Standard_F8s_v2".into(), "eastus".into())]);
    assert_eq!(tries(&world), 1);
    world.finish().await;
}

#[tokio::test]
async fn without_spot_machines_on_demand_is_taken_where_that_is_allowed() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    azure.exhaust(None, None, Some(true), "AllocationFailed");
    let done = world.launch_azure(&["--cloud-spot", "--single"]).await;
    has(&done, 4, &["AllocationFailed", "--cloud-spot-fallback"]);
    world.until_clean().await;
    let fallback = ["--cloud-spot", "--cloud-spot-fallback", "--idle-timeout=3"];
    let done = world.launch_azure(&fallback).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let spot = |world: &World| world.sandbox.azure().instances().pop().unwrap().spot;
    assert!(!spot(&world), "{}", world.report());

    // The market's price, and the quota that spot machines have in common.
    azure.replenish();
    let cheap = ["--cloud-spot", "--cloud-spot-price=0.001"];
    let done = world.launch_azure(&cheap).await;
    let told = "SpotPriceGreaterThanProvidedMaxPrice";
    has(&done, 4, &[told, "raise --cloud-spot-price"]);
    world.until_clean().await;
    azure.exhaust(None, None, Some(true), "OperationNotAllowed");
    let before = tries(&world);
    let several = "--cloud-type=m,Standard_D8s_v5";
    let done = world
        .launch_azure(&[&fallback[..], &[several]].concat())
        .await;
    has(&done, 0, &["LowPriorityCores"]);
    assert_eq!(tries(&world), before + 2, "{}", world.report());
    assert!(!spot(&world), "{}", world.report());
    world.finish().await;
}

/// A launch where the quota of the first family is used up.
async fn without_quota(code: &str) {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    azure.exhaust(Some("westus2"), None, None, code);
    let done = world.launch_azure(&["--cloud-type=m,l,xl"]).await;
    has(&done, 4, &["standardFSv2Family", "myQuotas"]);
    // The family's quota is the same for all of its sizes.
    assert_eq!(tries(&world), 1, "{}", world.report());
    world.until_clean().await;
    // Another family, and another region, have their own.
    azure.replenish();
    for size in ["Standard_F8s_v2", "Standard_D8s_v5"] {
        azure.exhaust(Some("westus2"), Some(size), None, code);
    }
    let args = [
        "--cloud-type=m,l,Standard_D8s_v5",
        "--cloud-region=us-west,us-east",
        "--idle-timeout=3",
    ];
    let done = world.launch_azure(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(ran(&world), [("Standard_F8s_v2".into(), "eastus".into())]);
    assert_eq!(tries(&world), 4, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_quota_is_exit_code_4_with_its_name_and_where_it_is_raised() {
    // The older code, and the one of late.
    tokio::join!(
        without_quota("OperationNotAllowed"),
        without_quota("QuotaExceeded")
    );
}
