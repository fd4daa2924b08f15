use std::collections::BTreeSet;

use super::*;
use crate::cloud::Arch;
use crate::cloud::aws::asked::tests::spec;
use crate::cloud::aws::images::tests::{NOBLE, image};
use crate::host::Host;
use crate::http::Http;
use crate::spec::{InstanceSpec, Spot};

fn subnet(zone: &str) -> Subnet {
    Subnet {
        id: format!("subnet-{zone}"),
        vpc: "vpc-1".into(),
        zone: zone.into(),
    }
}

fn facts(zones: &[&str], types: &[&str]) -> Facts {
    let mut offerings = BTreeSet::new();
    for name in types {
        for zone in zones {
            offerings.insert(((*name).to_owned(), (*zone).to_owned()));
        }
    }
    Facts {
        images: vec![image(
            "ami-1",
            NOBLE,
            Arch::X86_64,
            "2025-01-01T00:00:00.000Z",
        )],
        types: Some(types.iter().map(|name| TypeInfo::guess(name)).collect()),
        offerings: Some(offerings),
        subnets: zones.iter().map(|zone| subnet(zone)).collect(),
        vpc: Some("vpc-1".into()),
        groups: Vec::new(),
    }
}

fn plan(
    change: impl FnOnce(&mut InstanceSpec),
    facts: Vec<(&str, Result<Facts>)>,
) -> Result<AwsPlan> {
    let host = Host::fixed::<&str, &str>([]);
    let client = Client::new(host.clone(), Http::new(&host).unwrap());
    let mut spec = spec();
    change(&mut spec);
    let looked = facts
        .into_iter()
        .map(|(region, facts)| (region.to_owned(), facts))
        .collect();
    AwsPlan::new(Arc::new(client), Asked::read(&spec).unwrap(), looked)
}

fn shown(plan: &AwsPlan) -> Vec<String> {
    let shown = |candidate: &Candidate| {
        let market = if candidate.spot { " spot" } else { "" };
        format!(
            "{} {}{market}",
            candidate.zone.as_ref().unwrap(),
            candidate.instance_type
        )
    };
    plan.candidates.iter().map(shown).collect()
}

#[test]
fn regions_come_before_types_and_types_before_zones_and_spot_before_demand() {
    let both = &["m5.large", "c5.large"];
    let plan = plan(
        |spec| {
            spec.regions = vec!["us-west-2".into(), "us-east-1b".into()];
            spec.types = both.map(str::to_owned).to_vec();
            spec.spot = Some(Spot {
                max_price: None,
                fallback: true,
            });
        },
        vec![
            ("us-east-1", Ok(facts(&["us-east-1a", "us-east-1b"], both))),
            ("us-west-2", Ok(facts(&["us-west-2b", "us-west-2a"], both))),
        ],
    )
    .unwrap();
    assert_eq!(
        shown(&plan),
        [
            "us-west-2a m5.large spot",
            "us-west-2b m5.large spot",
            "us-west-2a c5.large spot",
            "us-west-2b c5.large spot",
            "us-east-1b m5.large spot",
            "us-east-1b c5.large spot",
            "us-west-2a m5.large",
            "us-west-2b m5.large",
            "us-west-2a c5.large",
            "us-west-2b c5.large",
            "us-east-1b m5.large",
            "us-east-1b c5.large",
        ]
    );
    assert_eq!(plan.ways.len(), plan.candidates.len());
    assert_eq!(plan.warnings, [""; 0]);
}

#[test]
fn a_zone_named_twice_is_tried_once() {
    let plan = plan(
        |spec| spec.regions = vec!["us-west-1c".into(), "us-west-1".into()],
        vec![(
            "us-west-1",
            Ok(facts(&["us-west-1a", "us-west-1c"], &["m5.2xlarge"])),
        )],
    )
    .unwrap();
    assert_eq!(
        shown(&plan),
        ["us-west-1c m5.2xlarge", "us-west-1a m5.2xlarge"]
    );
}

#[test]
fn refusals_that_are_tolerated_are_warnings() {
    let mut few = facts(&["us-west-1a"], &[]);
    few.types = None;
    few.offerings = None;
    let plan = plan(|_| (), vec![("us-west-1", Ok(few))]).unwrap();
    assert_eq!(shown(&plan), ["us-west-1a m5.2xlarge"]);
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
}

#[test]
fn the_disk_is_the_largest_of_three() {
    let disk = |disk_gb: Option<u32>, image_gb: u32| {
        let mut facts = facts(&["us-west-1a"], &["m5.2xlarge"]);
        facts.images[0].root_gb = image_gb;
        let plan = plan(
            |spec| spec.disk_gb = disk_gb,
            vec![("us-west-1", Ok(facts))],
        )
        .unwrap();
        (plan.candidates[0].disk_gb, plan.warnings.len())
    };
    assert_eq!(disk(None, 8), (35, 0));
    assert_eq!(disk(None, 60), (60, 0));
    assert_eq!(disk(Some(20), 8), (20, 0));
    assert_eq!(disk(Some(20), 60), (60, 1));
    assert_eq!(disk(Some(100), 60), (100, 0));
}

#[test]
fn a_region_that_fails_is_left_out_with_a_warning() {
    let plan = plan(
        |spec| spec.regions = vec!["eu-west-1".into(), "us-west-1".into()],
        vec![
            ("eu-west-1", Err(Error::other("no"))),
            ("us-west-1", Ok(facts(&["us-west-1a"], &["m5.2xlarge"]))),
        ],
    )
    .unwrap();
    assert_eq!(shown(&plan), ["us-west-1a m5.2xlarge"]);
    assert_eq!(plan.warnings, ["left out: no"]);
}

#[test]
fn nothing_to_try_is_an_error_that_says_why() {
    let zones = &["us-west-1a"];
    let typo = plan(|_| (), vec![("us-west-1", Ok(facts(zones, &["c5.large"])))]).unwrap_err();
    assert_eq!(typo.kind(), Kind::Usage);
    assert_eq!(
        typo.to_string(),
        "EC2 doesn't offer m5.2xlarge in us-west-1"
    );

    let retired = plan(
        |spec| spec.types = vec!["m+k80".into()],
        vec![("us-west-1", Ok(facts(zones, &["c5.large"])))],
    )
    .unwrap_err();
    assert_eq!(retired.kind(), Kind::Capacity);
    assert!(
        retired.hints()[0].contains("g4dn.xlarge"),
        "{:?}",
        retired.hints()
    );

    let mut bare = facts(&[], &["m5.2xlarge"]);
    bare.vpc = None;
    let no_vpc = plan(|_| (), vec![("us-west-1", Ok(bare))]).unwrap_err();
    assert_eq!(no_vpc.to_string(), "us-west-1 has no default VPC");
    assert!(no_vpc.hints()[0].contains("--cloud-aws-subnet"));

    let mut no_image = facts(zones, &["m5.2xlarge"]);
    no_image.images.clear();
    let no_image = plan(|_| (), vec![("us-west-1", Ok(no_image))]).unwrap_err();
    assert!(no_image.to_string().contains("Ubuntu 24.04"), "{no_image}");
}

#[test]
fn a_subnet_of_the_users_decides_network_and_zone() {
    let looked = || {
        let mut facts = facts(&["us-west-1a"], &["m5.2xlarge"]);
        facts.vpc = None;
        vec![("us-west-1", Ok(facts))]
    };
    let with = |region: &'static str| {
        plan(
            move |spec| {
                spec.aws_subnet = Some("subnet-0123456789abcdef0".into());
                spec.regions = vec![region.into()];
            },
            looked(),
        )
    };
    let plan = with("us-west-1").unwrap();
    assert_eq!(shown(&plan), ["us-west-1a m5.2xlarge"]);
    assert!(!plan.ways[0].public_ip);
    let elsewhere = with("us-west-1c").unwrap_err();
    assert!(
        elsewhere.to_string().contains("isn't in us-west-1c"),
        "{elsewhere}"
    );
}
