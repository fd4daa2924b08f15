//! What the user asks of Google Cloud, in Google's words, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use super::images::WantedImage;
use super::labels;
use super::places::Place;
use super::scopes::Account;
use super::sizes::{self, Machine};
use crate::cloud::asked;
use crate::spec::{Cidr, InstanceSpec, Spot};

/// The least disk, where the user doesn't say.
const DISK_GB: u32 = 35;
/// The least disk that Google makes.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/insert>
const LEAST_GB: u32 = 10;

/// Everything asked, checked as far as that can be done without asking Google.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) machines: Vec<Machine>,
    pub(super) places: Vec<Place>,
    pub(super) image: WantedImage,
    pub(super) disk_gb: u32,
    /// Whether the size of the disk is the user's.
    pub(super) disk_given: bool,
    pub(super) spot: Option<Spot>,
    /// The networks that SSH may come from; none: it isn't wanted.
    pub(super) ssh: Vec<Cidr>,
    /// The user's labels.
    pub(super) labels: BTreeMap<String, String>,
    /// The account that the user wants the instance to have.
    pub(super) account: Option<Account>,
    pub(super) warnings: Vec<String>,
}

impl Asked {
    /// Reads a specification; complaints start with their option's name.
    pub(super) fn read(spec: &InstanceSpec) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        let machines = asked::types(spec, sizes::native, &mut mistakes, &mut warnings);
        let places = asked::regions(spec, Place::read, &mut mistakes);
        let image = asked::image(spec, WantedImage::read, &mut mistakes);
        let labels = labels::read(&spec.metadata, &mut mistakes);
        let account = spec.permission_set.as_deref().map(Account::read);
        let account = account.transpose().unwrap_or_else(|complaints| {
            let complaints = complaints.into_iter();
            mistakes.extend(complaints.map(|one| format!("--cloud-permission-set: {one}")));
            None
        });
        let ssh = ssh(spec, &mut warnings);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            machines,
            places,
            image,
            disk_gb: spec.disk_gb.unwrap_or(DISK_GB).max(LEAST_GB),
            disk_given: spec.disk_gb.is_some(),
            spot: spec.spot.clone(),
            ssh,
            labels,
            account,
            warnings,
        })
    }

    /// The regions of all places.
    pub(super) fn regions(&self) -> BTreeSet<&str> {
        self.places
            .iter()
            .map(|place| place.region.as_str())
            .collect()
    }
}

/// Our network has no IPv6 addresses, so that nothing can come from such networks.
fn ssh(spec: &InstanceSpec, warnings: &mut Vec<String>) -> Vec<Cidr> {
    let Some(ssh) = &spec.ssh else {
        return Vec::new();
    };
    let (ours, others): (Vec<Cidr>, Vec<Cidr>) =
        ssh.cidrs.iter().partition(|cidr| cidr.address.is_ipv4());
    if ssh.cidrs != Cidr::anywhere() {
        for cidr in others {
            warnings.push(format!(
                "--cloud-ssh-cidr: instances on Google Cloud get IPv4 addresses alone, so nothing \
                 can come from {cidr}"
            ));
        }
    }
    ours
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::spec::{Gpu, Provider, Ssh};

    pub(in crate::cloud::gcp) fn spec() -> InstanceSpec {
        InstanceSpec::example(Provider::Gcp)
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
                spec.types = vec!["m".into(), "n1-standard-8+nvidia-tesla-t4*2".into()];
                spec.gpu = Some(Gpu::Model("t4".into()));
                spec.regions = vec!["us-west1-a".into(), "europe-west4".into(), "us-east".into()];
                spec.metadata = vec![("team".into(), "ml".into())];
                spec.permission_set = Some("ci@p.iam.gserviceaccount.com,scopes=storage-rw".into());
                spec.image = Some("debian-cloud/debian-12".into());
            }),
            [""; 0]
        );
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_option() {
        let mistakes = mistakes(|spec| {
            spec.types = vec!["m+tpu".into(), "huge".into()];
            spec.regions = vec!["mars".into()];
            spec.metadata = vec![("Team".into(), "ML".into())];
            spec.permission_set = Some("ci,scopes=all".into());
            spec.image = Some("a/b/c".into());
        });
        let expected = [
            "--cloud-gpu: `tpu`",
            "--cloud-type: `huge`",
            "--cloud-region: `mars`",
            "--cloud-image: `a/b/c`",
            "--cloud-metadata: Google's labels begin",
            "--cloud-metadata: the values",
            "--cloud-permission-set: `ci` is no service account",
            "--cloud-permission-set: `all` is neither",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.starts_with(expected), "{mistake}");
        }
    }

    #[test]
    fn disks_have_a_least_size() {
        let disk = |size| {
            let mut spec = spec();
            spec.disk_gb = size;
            Asked::read(&spec).unwrap().disk_gb
        };
        assert_eq!(disk(None), 35);
        assert_eq!(disk(Some(4)), 10);
        assert_eq!(disk(Some(100)), 100);
    }

    #[test]
    fn only_networks_that_can_reach_an_instance_are_let_in() {
        let ssh = |cidrs: Vec<Cidr>| {
            let mut spec = spec();
            spec.ssh = Some(Ssh {
                authorized_key: None,
                cidrs,
            });
            let asked = Asked::read(&spec).unwrap();
            let ssh: Vec<String> = asked.ssh.iter().map(Cidr::to_string).collect();
            (ssh, asked.warnings.len())
        };
        assert_eq!(ssh(Cidr::anywhere()), (vec!["0.0.0.0/0".to_owned()], 0));
        let given = ["192.0.2.0/24", "2001:db8::/32"].map(|text| text.parse().unwrap());
        assert_eq!(ssh(given.to_vec()), (vec!["192.0.2.0/24".to_owned()], 1));
    }
}
