use std::collections::BTreeMap;

use super::*;
use crate::cloud::gcp::asked::tests::spec;
use crate::host::Host;
use crate::http::Http;
use crate::spec::{InstanceSpec, Spot};

fn asked(change: impl FnOnce(&mut InstanceSpec)) -> Asked {
    let mut spec = spec();
    change(&mut spec);
    Asked::read(&spec).unwrap()
}

fn image(arch: Arch, disk_gb: u32) -> Found {
    Found::Image(Image {
        source: format!("projects/p/global/images/{}", arch.uname()),
        name: Some(arch.uname().to_owned()),
        arch: Some(arch),
        disk_gb,
    })
}

/// All is well: three zones a region, every image, a service account.
fn facts(asked: &Asked) -> Facts {
    let zones = asked.regions().into_iter().map(|region| {
        let zones = ["a", "b", "c"].map(|letter| format!("{region}-{letter}"));
        (region.to_owned(), zones.to_vec())
    });
    let images = Arch::ALL.into_iter().flat_map(|arch| {
        [Driver::None, Driver::Open, Driver::Proprietary]
            .into_iter()
            .flat_map(move |driver| asked.image.names(arch, driver))
            .map(move |name| (name, image(arch, 10)))
    });
    Facts {
        // A name may stand for both: the first one stays.
        images: images.rev().collect(),
        zones: Some(zones.collect()),
        account: Some("ci@p.iam.gserviceaccount.com".into()),
        ..Facts::default()
    }
}

fn plan_of(asked: Asked, facts: Facts) -> Result<GcpPlan> {
    let host = Host::fixed::<&str, &str>([]);
    let http = Http::new(&host)?;
    GcpPlan::new(Arc::new(Client::new(host, http)), asked, facts)
}

fn plan(change: impl FnOnce(&mut InstanceSpec)) -> GcpPlan {
    let asked = asked(change);
    let facts = facts(&asked);
    plan_of(asked, facts).unwrap()
}

fn ways(plan: &GcpPlan) -> Vec<String> {
    assert_eq!(plan.ways.len(), plan.candidates.len());
    plan.candidates
        .iter()
        .zip(&plan.ways)
        .map(|(candidate, way)| {
            assert_eq!(candidate.zone.as_ref(), Some(&way.zone));
            let spot = if candidate.spot { " spot" } else { "" };
            format!("{} {}{spot}", way.machine, way.zone)
        })
        .collect()
}

#[test]
fn an_aliass_zone_comes_first_and_a_named_zone_alone() {
    let zones = |region: &str| -> Vec<String> {
        let plan = plan(|spec| spec.regions = vec![region.into()]);
        plan.ways.into_iter().map(|way| way.zone).collect()
    };
    assert_eq!(zones("us-west"), ["us-west1-b", "us-west1-a", "us-west1-c"]);
    assert_eq!(
        zones("us-west1"),
        ["us-west1-a", "us-west1-b", "us-west1-c"]
    );
    assert_eq!(zones("us-west1-c"), ["us-west1-c"]);
}

#[test]
fn spot_comes_before_on_demand_and_nothing_twice() {
    let plan = plan(|spec| {
        spec.types = vec!["m".into(), "n2-standard-8".into()];
        spec.regions = vec![
            "us-west1-a".into(),
            "us-west1-b".into(),
            "us-west1-a".into(),
        ];
        spec.spot = Some(Spot {
            max_price: None,
            fallback: true,
        });
    });
    let m = "e2-custom-8-32768";
    let n = "n2-standard-8";
    assert_eq!(
        ways(&plan),
        [
            format!("{m} us-west1-a spot"),
            format!("{n} us-west1-a spot"),
            format!("{m} us-west1-b spot"),
            format!("{n} us-west1-b spot"),
            format!("{m} us-west1-a"),
            format!("{n} us-west1-a"),
            format!("{m} us-west1-b"),
            format!("{n} us-west1-b"),
        ]
    );
}

#[test]
fn zones_without_the_type_are_left_out() {
    let asked = asked(|spec| spec.types = vec!["c4a-standard-4".into()]);
    let mut facts = facts(&asked);
    for (zone, found) in [
        ("us-west1-a", TypeFound::Offered(Some(Arch::Aarch64))),
        ("us-west1-b", TypeFound::Absent),
        ("us-west1-c", TypeFound::Hidden),
    ] {
        facts
            .types
            .insert((zone.to_owned(), "c4a-standard-4".to_owned()), found);
    }
    let plan = plan_of(asked, facts).unwrap();
    assert_eq!(
        ways(&plan),
        ["c4a-standard-4 us-west1-a", "c4a-standard-4 us-west1-c"]
    );
    assert!(
        plan.candidates
            .iter()
            .all(|known| known.arch == Arch::Aarch64)
    );
    assert_eq!(plan.candidates[0].image, "projects/p/global/images/aarch64");
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("machineTypes.get")),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn a_type_that_is_nowhere_is_explained() {
    let asked = asked(|spec| spec.types = vec!["n1-standard-4+k80".into()]);
    let mut facts = facts(&asked);
    for zone in ["a", "b", "c"] {
        let key = (format!("us-west1-{zone}"), "n1-standard-4".to_owned());
        facts.types.insert(key, TypeFound::Absent);
    }
    let error = plan_of(asked, facts).unwrap_err();
    assert_eq!(error.kind(), Kind::Capacity);
    assert_eq!(
        error.chain(),
        "Google doesn't offer n1-standard-4 in any zone of us-west1"
    );
    assert!(error.hints()[0].contains("retired"), "{:?}", error.hints());
}

#[test]
fn without_the_list_of_zones_the_aliass_zone_is_left() {
    let denied = |region: &str| {
        let asked = asked(|spec| spec.regions = vec![region.into()]);
        let facts = Facts {
            zones: None,
            ..facts(&asked)
        };
        plan_of(asked, facts)
    };
    let plan = denied("us-west").unwrap();
    assert_eq!(ways(&plan), ["e2-custom-8-32768 us-west1-b"]);
    assert!(plan.warnings[0].contains("compute.zones.list"));
    let error = denied("us-west1").unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hints()[0].contains("us-west1-a"));
}

#[test]
fn a_region_that_isnt_is_the_users_slip() {
    let asked = asked(|spec| spec.regions = vec!["mars-west1".into()]);
    let mut facts = facts(&asked);
    facts.zones = Some(BTreeMap::new());
    let error = plan_of(asked, facts).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(
        error.chain(),
        "--cloud-region: there is no region mars-west1"
    );
}

#[test]
fn the_disk_is_as_large_as_its_image() {
    let asked = asked(|spec| spec.disk_gb = Some(20));
    let mut facts = facts(&asked);
    for found in facts.images.values_mut() {
        *found = image(Arch::X86_64, 50);
    }
    let plan = plan_of(asked, facts).unwrap();
    assert_eq!(plan.candidates[0].disk_gb, 50);
    assert!(plan.warnings[0].starts_with("--cloud-hdd-size: "));
}

#[test]
fn gpus_get_an_image_with_their_driver_where_there_is_one() {
    let gpu = asked(|spec| spec.types = vec!["m+t4".into()]);
    let found = plan_of(gpu.clone(), facts(&gpu)).unwrap();
    assert_eq!(found.warnings, [""; 0]);
    let mut without = facts(&gpu);
    let names = gpu.image.names(Arch::X86_64, Driver::Open);
    without.images.insert(names[0].clone(), Found::Missing);
    let plan = plan_of(gpu, without).unwrap();
    assert!(
        plan.warnings[0].contains("no image with the NVIDIA driver"),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn an_image_may_be_hidden_but_must_exist_and_fit() {
    let with = |found: Found| {
        let asked = asked(|spec| spec.image = Some("my-image".into()));
        let mut facts = facts(&asked);
        let name = asked.image.names(Arch::X86_64, Driver::None).remove(0);
        facts.images.insert(name, found);
        plan_of(asked, facts)
    };
    let plan = with(Found::Hidden).unwrap();
    assert_eq!(plan.candidates[0].image, "global/images/my-image");
    assert_eq!(plan.candidates[0].disk_gb, 35);
    let missing = with(Found::Missing).unwrap_err();
    assert_eq!(missing.chain(), "there is no image global/images/my-image");
    let other = with(image(Arch::Aarch64, 10)).unwrap_err();
    assert!(
        other.chain().contains("isn't for x86_64"),
        "{}",
        other.chain()
    );
}

#[test]
fn the_instance_is_the_users_account_or_the_launchers_or_nobody() {
    let identity = |set: Option<&str>, launchers: Option<&str>| {
        let asked = asked(|spec| spec.permission_set = set.map(str::to_owned));
        let facts = Facts {
            account: launchers.map(str::to_owned),
            ..facts(&asked)
        };
        let plan = plan_of(asked, facts).unwrap();
        let email = plan.identity.account().map(|account| account.email.clone());
        (email, plan.identity.can_delete(), plan.warnings.len())
    };
    let users = "u@p.iam.gserviceaccount.com";
    let own = "l@p.iam.gserviceaccount.com";
    let email = |text: &str| Some(text.to_owned());
    assert_eq!(identity(None, Some(own)), (email(own), true, 0));
    assert_eq!(identity(Some(users), Some(own)), (email(users), true, 0));
    let storage = format!("{users},scopes=storage-rw");
    assert_eq!(
        identity(Some(&storage), Some(own)),
        (email(users), false, 1)
    );
    assert_eq!(identity(None, None), (None, false, 1));
}
