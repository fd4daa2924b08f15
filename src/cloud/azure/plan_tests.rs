use super::*;
use crate::cloud::azure::asked::tests::{IDENTITY, spec};
use crate::cloud::azure::credentials::Application;
use crate::secret::Secret;
use crate::spec::{InstanceSpec, Spot};

fn asked(change: impl FnOnce(&mut InstanceSpec)) -> Asked {
    let mut spec = spec();
    change(&mut spec);
    Asked::read(&spec).unwrap()
}

fn size(name: &str) -> Size {
    Size {
        premium: true,
        accelerated: true,
        trusted: true,
        encryption: true,
        ..Size::guess(name)
    }
}

fn looked(regions: &[(&str, &[Size])], images: &[Found]) -> Looked {
    let facts = |sizes: &[Size]| {
        let markets = images.iter().filter_map(|found| match found {
            Found::Image(image) | Found::Unread(image) => Some(image),
            Found::Missing => None,
        });
        let markets = markets.map(|image| {
            let WantedImage::Market(market) =
                WantedImage::read(&image.reference.to_string()).unwrap()
            else {
                panic!("{}", image.reference)
            };
            (market, Found::Image(image.clone()))
        });
        Facts {
            sizes: Some(sizes.to_vec()),
            images: markets.collect(),
            image: None,
        }
    };
    Looked {
        regions: regions
            .iter()
            .map(|(region, sizes)| ((*region).to_owned(), Ok(facts(sizes))))
            .collect(),
        may_assign: Some(true),
        identities: Vec::new(),
        encryption: true,
        left_over: Vec::new(),
    }
}

fn ubuntu() -> Found {
    Found::Image(Market::default(Arch::X86_64, Driver::None, true).known())
}

fn secret() -> ClientSecret {
    ClientSecret {
        application: Application {
            authority: "https://login.microsoftonline.com/".parse().unwrap(),
            tenant: "t".into(),
            client: "c".into(),
        },
        secret: Secret::new("s3cr3t"),
    }
}

#[test]
fn the_best_way_to_be_given_back_is_taken() {
    let identity = |client: Option<&str>| Identity {
        id: IDENTITY.into(),
        client: client.map(str::to_owned),
    };
    let decide = |may_assign, identities: Vec<Identity>, secret, keep| {
        let looked = Looked {
            may_assign,
            identities,
            ..looked(&[], &[])
        };
        who(
            &asked(|spec| spec.keep_until_stopped = keep),
            &looked,
            secret,
        )
    };
    let (best, warning) =
        decide(Some(true), vec![identity(Some("i"))], Some(secret()), true).unwrap();
    assert!(matches!(best, Who::System) && warning.is_none());

    let (named, warning) = decide(
        Some(false),
        vec![identity(None), identity(Some("i"))],
        Some(secret()),
        false,
    )
    .unwrap();
    assert!(matches!(named, Who::Identity { client } if client == "i"));
    let warning = warning.unwrap();
    assert!(warning.contains(IDENTITY) && warning.contains(USED_BY_JOBS));
    assert!(warning.contains("roleAssignments/write"), "{warning}");

    let (last, warning) = decide(None, Vec::new(), Some(secret()), false).unwrap();
    assert!(matches!(last, Who::Secret { .. }));
    let warning = warning.unwrap();
    let at = |words: &str| warning.find(words).unwrap();
    assert!(at("roleAssignments/write") < at("--cloud-permission-set"));
    assert!(at("--cloud-permission-set") < at(USED_BY_JOBS));
    assert!(warning.contains("jobs that use sudo"), "{warning}");
    assert!(!warning.contains("s3cr3t"));

    // Who says that it may stay wants no secret to travel for it.
    let (none, warning) = decide(Some(false), Vec::new(), Some(secret()), true).unwrap();
    assert!(matches!(none, Who::Nobody));
    assert!(warning.unwrap().contains("goes on costing"));

    let error = decide(Some(false), vec![identity(None)], None, false).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let hints = error.hints().join("\n");
    assert!(hints.contains("--cloud-keep-until-stopped"), "{hints}");
}

#[test]
fn jobs_see_the_metadata_service_only_with_an_identity_of_theirs() {
    let own = || Own {
        arm: "https://management.azure.com/".parse().unwrap(),
        who: Who::System,
    };
    let closed = machine(own(), false).unwrap();
    assert_eq!(closed.closed, ClosedMetadata::All);
    assert!(!closed.farewell.is_empty());
    let open = machine(own(), true).unwrap();
    assert_eq!(open.closed.words(), "");
}

#[test]
fn ways_go_by_market_then_region_then_size() {
    let asked = asked(|spec| {
        spec.types = vec!["m".into(), "l".into()];
        spec.regions = vec!["us-west".into(), "eu-west".into()];
        spec.spot = Some(Spot {
            max_price: None,
            fallback: true,
        });
    });
    let mut small = size("Standard_F8s_v2");
    small.spot = false;
    let both = [small, size("Standard_F32s_v2")];
    let looked = looked(&[("westus2", &both), ("westeurope", &both)], &[ubuntu()]);
    let mut warnings = Vec::new();
    let (choices, problems) = choices(&asked, looked, &mut warnings);
    assert!(problems.is_empty() && warnings.is_empty(), "{warnings:?}");
    let (candidates, ways) = candidates(&asked, &choices);
    let order: Vec<String> = candidates
        .iter()
        .map(|known| format!("{} {} {}", known.spot, known.region, known.instance_type))
        .collect();
    assert_eq!(
        order,
        [
            "true westus2 Standard_F32s_v2",
            "true westeurope Standard_F32s_v2",
            "false westus2 Standard_F8s_v2",
            "false westus2 Standard_F32s_v2",
            "false westeurope Standard_F8s_v2",
            "false westeurope Standard_F32s_v2",
        ]
    );
    assert_eq!(ways.len(), candidates.len());
    assert_eq!(ways[0].trust, Trust::Full);
    assert!(ways[0].encryption && ways[0].premium);
}

#[test]
fn what_the_subscription_hasnt_switched_on_isnt_asked_for() {
    let asked = asked(|_| ());
    let mut looked = looked(&[("westus2", &[size("Standard_F8s_v2")])], &[ubuntu()]);
    looked.encryption = false;
    let (choices, _) = choices(&asked, looked, &mut Vec::new());
    let (_, ways) = candidates(&asked, &choices);
    assert!(!ways[0].encryption);
}

fn problem(change: impl FnOnce(&mut InstanceSpec), sizes: &[Size], images: &[Found]) -> Error {
    let asked = asked(change);
    let looked = looked(&[("westus2", sizes)], images);
    let (choices, problems) = choices(&asked, looked, &mut Vec::new());
    assert!(choices.is_empty());
    crate::cloud::told::nothing_fits(problems)
}

#[test]
fn what_doesnt_fit_is_told() {
    let arm = Found::Image(Market::default(Arch::Aarch64, Driver::None, true).known());
    let arm_image = |spec: &mut InstanceSpec| {
        spec.image = Some("Canonical:ubuntu-24_04-lts:server-arm64:latest".into());
    };
    let gone = |spec: &mut InstanceSpec| spec.image = Some("a:b:c:1".into());
    let retired = |spec: &mut InstanceSpec| spec.types = vec!["m+v100".into()];
    let mut forbidden = size("Standard_F8s_v2");
    forbidden.allowed = false;
    let mut old = size("Standard_F8s_v2");
    old.second_generation = false;
    let server = |spec: &mut InstanceSpec| {
        spec.image = Some("Canonical:ubuntu-24_04-lts:server:latest".into());
    };
    let f8 = || vec![size("Standard_F8s_v2")];
    let cases: Vec<(Error, Kind, &str)> = vec![
        (
            problem(|_| (), &[], &[ubuntu()]),
            Kind::Usage,
            "doesn't offer Standard_F8s_v2 in westus2",
        ),
        (
            problem(retired, &[], &[]),
            Kind::Capacity,
            "doesn't offer Standard_NC6s_v3",
        ),
        (
            problem(|_| (), &[forbidden], &[ubuntu()]),
            Kind::Capacity,
            "to this subscription",
        ),
        (
            problem(arm_image, &f8(), &[arm]),
            Kind::Usage,
            "is for aarch64",
        ),
        (
            problem(gone, &f8(), &[]),
            Kind::Usage,
            "--cloud-image: there is no a:b:c:1 in westus2",
        ),
        (
            problem(server, &[old], &[ubuntu()]),
            Kind::Usage,
            "Hyper-V generations",
        ),
    ];
    for (error, kind, text) in cases {
        assert_eq!(error.kind(), kind, "{}", error.chain());
        assert!(error.chain().contains(text), "{}", error.chain());
        assert!(!error.hints().is_empty(), "{}", error.chain());
    }
}

#[test]
fn gpus_without_an_image_of_drivers_get_a_warning() {
    let asked = asked(|spec| spec.types = vec!["m+t4".into(), "Standard_NV36ads_A10_v5".into()]);
    let sizes = [
        size("Standard_NC4as_T4_v3"),
        size("Standard_NV36ads_A10_v5"),
    ];
    let hpc = Market::default(Arch::X86_64, Driver::Cuda, true);
    let mut looked = looked(&[("westus2", &sizes)], &[ubuntu()]);
    for facts in looked.regions.values_mut() {
        facts
            .as_mut()
            .unwrap()
            .images
            .insert(hpc.clone(), Found::Missing);
    }
    let mut warnings = Vec::new();
    let (choices, problems) = choices(&asked, looked, &mut warnings);
    assert!(problems.is_empty());
    assert_eq!(choices.len(), 2);
    assert!(
        warnings.iter().any(|text| text.contains("without drivers")),
        "{warnings:?}"
    );
    assert!(
        warnings.iter().any(|text| text.contains("GRID")),
        "{warnings:?}"
    );
    assert_eq!(
        choices[0].image.reference.to_string(),
        "Canonical:ubuntu-24_04-lts:server:latest"
    );
}

#[test]
fn a_default_image_with_drivers_does_without_secure_boot() {
    let asked = asked(|spec| spec.types = vec!["m+t4".into()]);
    let mut image = Market::default(Arch::X86_64, Driver::Cuda, true).known();
    image.trusted = true;
    let looked = looked(
        &[("westus2", &[size("Standard_NC4as_T4_v3")])],
        &[Found::Image(image)],
    );
    let (choices, _) = choices(&asked, looked, &mut Vec::new());
    let (candidates, ways) = candidates(&asked, &choices);
    assert_eq!(ways[0].trust, Trust::Unsigned);
    assert_eq!(candidates[0].disk_gb, 128);
}
