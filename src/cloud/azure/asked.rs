//! What the user asks of Azure, in Azure's words, and what is wrong with it.

use std::collections::BTreeMap;

use super::images::{Image, WantedImage};
use super::{sizes, tags};
use crate::cloud::asked;
use crate::spec::{Cidr, InstanceSpec, Spot};

/// The least disk, where the user doesn't say.
const DISK_GB: u32 = 35;
/// The largest disk that a system starts from.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/managed-disks-overview#os-disk>
const LARGEST_GB: u32 = 4095;

/// The kind of resource that `--cloud-permission-set` names.
const IDENTITIES: [&str; 3] = [
    "providers",
    "Microsoft.ManagedIdentity",
    "userAssignedIdentities",
];

/// Everything asked, checked as far as that can be done without asking Azure.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) types: Vec<String>,
    pub(super) regions: Vec<String>,
    pub(super) image: WantedImage,
    /// The size of the disk, where it is the user's.
    pub(super) disk_given: Option<u32>,
    pub(super) spot: Option<Spot>,
    /// The networks that SSH may come from; none: it isn't wanted.
    pub(super) ssh: Vec<Cidr>,
    /// The public key that may log in.
    pub(super) ssh_key: Option<String>,
    /// The ids of the identities that the instance gets.
    pub(super) identities: Vec<String>,
    /// The user's tags.
    pub(super) tags: BTreeMap<String, String>,
    /// Whether an instance that can't delete itself will do.
    pub(super) keep_until_stopped: bool,
    pub(super) warnings: Vec<String>,
}

impl Asked {
    /// Reads a specification; complaints start with their option's name.
    pub(super) fn read(spec: &InstanceSpec) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        let types = asked::types(spec, sizes::native, &mut mistakes, &mut warnings);
        let regions = asked::regions(spec, sizes::region, &mut mistakes);
        let image = asked::image(spec, WantedImage::read, &mut mistakes);
        let tags = tags::read(&spec.metadata, &mut mistakes);
        let identities = identities(spec, &mut mistakes);
        if spec.disk_gb.is_some_and(|size| size > LARGEST_GB) {
            mistakes.push(format!(
                "--cloud-hdd-size: Azure's systems start from disks of at most {LARGEST_GB} GB"
            ));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let ssh = spec.ssh.as_ref();
        Ok(Self {
            types,
            regions,
            image,
            disk_given: spec.disk_gb,
            spot: spec.spot.clone(),
            ssh: ssh.map(|ssh| ssh.cidrs.clone()).unwrap_or_default(),
            ssh_key: ssh.and_then(|ssh| ssh.authorized_key.clone()),
            identities,
            tags,
            keep_until_stopped: spec.keep_until_stopped,
            warnings,
        })
    }

    /// How large the disk is to be: never smaller than the image.
    pub(super) fn disk_gb(&self, image: &Image) -> u32 {
        let usual = image.usual_gb.unwrap_or(DISK_GB);
        let wanted = self.disk_given.unwrap_or(usual);
        wanted.max(image.disk_gb.unwrap_or(0))
    }
}

/// Resource ids, separated by commas.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/managed-identities>
fn identities(spec: &InstanceSpec, mistakes: &mut Vec<String>) -> Vec<String> {
    let Some(text) = &spec.permission_set else {
        return Vec::new();
    };
    let mut identities: Vec<String> = Vec::new();
    for id in text.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        if !is_identity(id) {
            mistakes.push(format!(
                "--cloud-permission-set: `{id}` is no identity's id such as /subscriptions/…\
                 /resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/…"
            ));
        }
        if !identities
            .iter()
            .any(|known| known.eq_ignore_ascii_case(id))
        {
            identities.push(id.to_owned());
        }
    }
    if identities.is_empty() {
        mistakes.push("--cloud-permission-set: the list is empty".to_owned());
    }
    identities
}

fn is_identity(id: &str) -> bool {
    let parts: Vec<&str> = id.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || "-_.()".contains(c))
    };
    match parts.as_slice() {
        [
            "",
            subscriptions,
            subscription,
            groups,
            group,
            rest @ ..,
            name,
        ] => {
            subscriptions.eq_ignore_ascii_case("subscriptions")
                && groups.eq_ignore_ascii_case("resourceGroups")
                && rest.len() == IDENTITIES.len()
                && rest
                    .iter()
                    .zip(IDENTITIES)
                    .all(|(part, known)| part.eq_ignore_ascii_case(known))
                && [subscription, group, name].into_iter().all(plain)
        }
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cloud::Arch;
    use crate::cloud::azure::images::Market;
    use crate::cloud::azure::sizes::Driver;
    use crate::spec::{Gpu, Provider, Ssh};

    pub(in crate::cloud::azure) const IDENTITY: &str = "/subscriptions/s/resourceGroups/ci/providers/Microsoft.ManagedIdentity/userAssignedIdentities/jobs";

    pub(in crate::cloud::azure) fn spec() -> InstanceSpec {
        InstanceSpec::example(Provider::Azure)
    }

    fn mistakes(change: impl FnOnce(&mut InstanceSpec)) -> Vec<String> {
        let mut spec = spec();
        change(&mut spec);
        Asked::read(&spec).err().unwrap_or_default()
    }

    #[test]
    fn what_is_right_is_taken() {
        assert_eq!(mistakes(|_| ()), [""; 0]);
        assert_eq!(
            mistakes(|spec| {
                spec.types = vec!["m".into(), "Standard_D8ps_v5".into(), "m".into()];
                spec.regions = vec!["eu-west".into(), "swedencentral".into()];
                spec.metadata = vec![("team".into(), "ml".into())];
                spec.permission_set = Some(format!("{IDENTITY}, {}", IDENTITY.to_lowercase()));
                spec.image = Some("Debian:debian-12:12-gen2:latest".into());
                spec.ssh = Some(Ssh {
                    authorized_key: None,
                    cidrs: Cidr::anywhere(),
                });
            }),
            [""; 0]
        );
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_option() {
        let mistakes = mistakes(|spec| {
            spec.types = vec!["m+x".into(), "huge".into()];
            spec.gpu = Some(Gpu::Model("t4".into()));
            spec.regions = vec!["mars".into()];
            spec.metadata = vec![("a?b".into(), "x".into())];
            spec.permission_set = Some("jobs".into());
            spec.image = Some("a:b".into());
            spec.disk_gb = Some(5000);
        });
        let expected = [
            "--cloud-gpu: t4 contradicts --cloud-type=m+x",
            "--cloud-gpu: `t4` is no GPU",
            "--cloud-region: `mars`",
            "--cloud-image: `a:b`",
            "--cloud-metadata: the names",
            "--cloud-permission-set: `jobs` is no identity's id",
            "--cloud-hdd-size: Azure's systems",
        ];
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(
                mistake.starts_with(expected) || mistake.starts_with("--cloud-type: `huge`"),
                "{mistake}"
            );
        }
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    }

    #[test]
    fn disks_are_never_smaller_than_their_image() {
        let disk = |given, driver| {
            let mut spec = spec();
            spec.disk_gb = given;
            let image = Market::default(Arch::X86_64, driver, true).known();
            Asked::read(&spec).unwrap().disk_gb(&image)
        };
        assert_eq!(disk(None, Driver::None), 35);
        assert_eq!(disk(Some(10), Driver::None), 30);
        assert_eq!(disk(None, Driver::Cuda), 128);
        assert_eq!(disk(Some(10), Driver::Cuda), 64);
        assert_eq!(disk(Some(100), Driver::Cuda), 100);
    }

    #[test]
    fn ids_of_identities_are_known() {
        for id in [IDENTITY.to_owned(), IDENTITY.to_lowercase()] {
            assert!(is_identity(&id), "{id}");
        }
        for id in [
            "",
            "jobs",
            "/subscriptions/s",
            &IDENTITY[1..],
            &format!("{IDENTITY}/x"),
        ] {
            assert!(!is_identity(id), "{id}");
        }
    }
}
