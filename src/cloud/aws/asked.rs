//! What the user asks of AWS, in AWS's words, and what is wrong with it.

use super::images::WantedImage;
use super::sizes::{self, Place};
use crate::cloud::{TAG_LAUNCH, TAG_OWNER, TAG_SERVES, asked};
use crate::spec::{Cidr, InstanceSpec, Spot};

/// The tag that the console shows as an instance's name.
pub(super) const TAG_NAME: &str = "Name";

/// The least disk, where the user doesn't say.
const DISK_GB: u32 = 35;

/// Everything asked, checked as far as that can be done without asking AWS.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) types: Vec<String>,
    pub(super) places: Vec<Place>,
    pub(super) image: WantedImage,
    pub(super) disk_gb: u32,
    /// Whether the size of the disk is the user's.
    pub(super) disk_given: bool,
    pub(super) spot: Option<Spot>,
    pub(super) subnet: Option<String>,
    pub(super) group: WantedGroup,
    pub(super) profile: Option<String>,
    /// The user's tags.
    pub(super) tags: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// Which security group the instance gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WantedGroup {
    /// The one that all launches with the same open networks share.
    Shared {
        ssh: Vec<Cidr>,
    },
    Id(String),
    Name(String),
}

impl Asked {
    /// Reads a specification; complaints start with their option's name.
    pub(super) fn read(spec: &InstanceSpec) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        let types = asked::types(spec, sizes::native, &mut mistakes, &mut warnings);
        let places = asked::regions(spec, Place::read, &mut mistakes);
        let image = asked::image(spec, WantedImage::read, &mut mistakes);
        let tags = tags(spec, &mut mistakes, &mut warnings);
        let group = group(spec, &mut mistakes, &mut warnings);
        if let Some(subnet) = &spec.aws_subnet
            && !is_id(subnet, "subnet-")
        {
            mistakes.push(format!(
                "--cloud-aws-subnet: `{subnet}` is no subnet's id such as subnet-0123456789abcdef0"
            ));
        }
        if let Some(profile) = &spec.permission_set
            && let Err(complaint) = check_profile(profile)
        {
            mistakes.push(format!("--cloud-permission-set: {complaint}"));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            types,
            places,
            image,
            disk_gb: spec.disk_gb.unwrap_or(DISK_GB),
            disk_given: spec.disk_gb.is_some(),
            spot: spec.spot.clone(),
            subnet: spec.aws_subnet.clone(),
            group,
            profile: spec.permission_set.clone(),
            tags,
            warnings,
        })
    }

    /// The regions, each once, in order.
    pub(super) fn regions(&self) -> Vec<String> {
        let mut regions: Vec<String> = Vec::new();
        for place in &self.places {
            if !regions.contains(&place.region) {
                regions.push(place.region.clone());
            }
        }
        regions
    }

    /// The drivers that the types need, as far as their names tell.
    pub(super) fn needs(&self, driver: sizes::Driver) -> bool {
        self.types.iter().any(|name| sizes::driver(name) == driver)
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions>
fn tags(
    spec: &InstanceSpec,
    mistakes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<(String, String)> {
    const OURS: [&str; 4] = [TAG_NAME, TAG_OWNER, TAG_LAUNCH, TAG_SERVES];
    const MOST: usize = 50 - OURS.len();
    let option = "--cloud-metadata";
    let mut tags = Vec::new();
    for (key, value) in &spec.metadata {
        let before = mistakes.len();
        if key.chars().count() > 128 {
            mistakes.push(format!(
                "{option}: the key `{key}` is longer than 128 characters"
            ));
        }
        if value.chars().count() > 256 {
            mistakes.push(format!(
                "{option}: the value of `{key}` is longer than 256 characters"
            ));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            mistakes.push(format!(
                "{option}: AWS keeps keys that begin with `aws:` to itself: `{key}`"
            ));
        }
        if [TAG_OWNER, TAG_LAUNCH, TAG_SERVES].contains(&key.as_str()) {
            mistakes.push(format!("{option}: the key `{key}` is this program's own"));
        }
        if key == TAG_NAME {
            warnings.push(format!(
                "{option}: the tag `{key}` holds the runner's name; use --name to set it"
            ));
        } else if before == mistakes.len() {
            tags.push((key.clone(), value.clone()));
        }
    }
    if tags.len() > MOST {
        mistakes.push(format!(
            "{option}: AWS takes at most {MOST} tags of yours, not {}",
            tags.len()
        ));
    }
    tags
}

fn group(
    spec: &InstanceSpec,
    mistakes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> WantedGroup {
    let option = "--cloud-aws-security-group";
    let ssh = || {
        spec.ssh
            .as_ref()
            .map(|ssh| ssh.cidrs.clone())
            .unwrap_or_default()
    };
    let Some(given) = &spec.aws_security_group else {
        return WantedGroup::Shared { ssh: ssh() };
    };
    if !ssh().is_empty() {
        warnings.push(format!(
            "{option}: {given} is used as it is; SSH works if it lets port 22 in"
        ));
    }
    if is_id(given, "sg-") {
        return WantedGroup::Id(given.clone());
    }
    if given.starts_with("sg-") {
        mistakes.push(format!(
            "{option}: `{given}` is no security group's id such as sg-0123456789abcdef0"
        ));
    } else if given.is_empty() || given.chars().count() > 255 {
        mistakes.push(format!("{option}: a group's name has 1 to 255 characters"));
    }
    WantedGroup::Name(given.clone())
}

/// Old ids have 8 hexadecimal digits, new ones 17.
pub(super) fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        (8..=17).contains(&digits.len())
            && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    })
}

/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
fn check_profile(text: &str) -> Result<(), String> {
    let name = if text.starts_with("arn:") {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let profile = match parts.as_slice() {
            ["arn", partition, "iam", "", account, rest]
                if partition.starts_with("aws") && is_account(account) =>
            {
                *rest
            }
            _ => return Err(format!("`{text}` is no ARN of an instance profile")),
        };
        match profile.strip_prefix("instance-profile/") {
            Some(path) => path.rsplit('/').next().unwrap_or(path),
            None if profile.starts_with("role/") => {
                return Err(format!(
                    "`{text}` is a role; an instance takes an instance profile, whose ARN has \
                     instance-profile/ in that place"
                ));
            }
            None => return Err(format!("`{text}` is no ARN of an instance profile")),
        }
    } else {
        text
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) {
        return Err(format!(
            "`{text}` is neither an instance profile's ARN nor its name"
        ));
    }
    Ok(())
}

/// Real accounts have 12 digits; documentation and private clouds have others.
fn is_account(text: &str) -> bool {
    !text.is_empty() && text.len() <= 12 && text.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::spec::{Gpu, Provider, Ssh};

    pub(in crate::cloud::aws) fn spec() -> InstanceSpec {
        InstanceSpec::example(Provider::Aws)
    }

    fn mistakes(change: impl FnOnce(&mut InstanceSpec)) -> Vec<String> {
        let mut spec = spec();
        change(&mut spec);
        Asked::read(&spec).err().unwrap_or_default()
    }

    #[test]
    fn what_is_right_is_taken() {
        let long = |length| "x".repeat(length);
        assert_eq!(mistakes(|_| ()), [""; 0]);
        assert_eq!(
            mistakes(|spec| {
                spec.types = vec!["m".into(), "g5.xlarge".into()];
                spec.gpu = Some(Gpu::Model("a10g".into()));
                spec.regions = vec!["us-east-1a".into(), "eu-central-1".into()];
                spec.metadata = vec![(long(128), long(256)), ("a".into(), String::new())];
                spec.aws_subnet = Some("subnet-0123456789abcdef0".into());
                spec.aws_security_group = Some("sg-12345678".into());
                spec.permission_set =
                    Some("arn:aws:iam::1234567890:instance-profile/dvc-s3-access".into());
                spec.image = Some("ami-0123456789abcdef0".into());
            }),
            [""; 0]
        );
        for profile in [
            "name",
            "arn:aws-cn:iam::123456789012:instance-profile/a/b/c",
        ] {
            assert_eq!(
                mistakes(|spec| spec.permission_set = Some(profile.into())),
                [""; 0]
            );
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_option() {
        let mistakes = mistakes(|spec| {
            spec.types = vec!["m+tpu".into(), "m5".into()];
            spec.regions = vec!["mars".into()];
            spec.metadata = vec![
                ("x".repeat(129), String::new()),
                ("v".into(), "x".repeat(257)),
                ("AWS:x".into(), String::new()),
                (TAG_OWNER.into(), String::new()),
            ];
            spec.aws_subnet = Some("10.0.0.0/24".into());
            spec.aws_security_group = Some("sg-XYZ".into());
            spec.permission_set = Some("arn:aws:iam::123456789012:role/r".into());
            spec.image = Some("ami-xyz".into());
        });
        let expected = [
            "--cloud-gpu: `tpu`",
            "--cloud-type: `m5`",
            "--cloud-region: `mars`",
            "--cloud-image: `ami-xyz`",
            "--cloud-metadata: the key `xxx",
            "--cloud-metadata: the value of `v`",
            "--cloud-metadata: AWS keeps",
            "--cloud-metadata: the key `runner-launch`",
            "--cloud-aws-security-group: `sg-XYZ`",
            "--cloud-aws-subnet: `10.0.0.0/24`",
            "--cloud-permission-set: `arn:aws:iam::123456789012:role/r` is a role",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.starts_with(expected), "{mistake}");
        }
    }

    #[test]
    fn there_are_only_so_many_tags() {
        let tags = |count: usize| {
            (0..count)
                .map(|n| (format!("k{n}"), String::new()))
                .collect()
        };
        assert_eq!(mistakes(|spec| spec.metadata = tags(46)), [""; 0]);
        assert_eq!(mistakes(|spec| spec.metadata = tags(47)).len(), 1);
    }

    #[test]
    fn what_has_no_effect_is_a_warning() {
        let mut spec = spec();
        spec.metadata = vec![("Name".into(), "mine".into()), ("team".into(), "ml".into())];
        spec.aws_security_group = Some("corp".into());
        spec.ssh = Some(Ssh {
            authorized_key: None,
            cidrs: Cidr::anywhere(),
        });
        let asked = Asked::read(&spec).unwrap();
        assert_eq!(asked.tags, [("team".to_owned(), "ml".to_owned())]);
        assert_eq!(asked.group, WantedGroup::Name("corp".into()));
        assert_eq!(asked.warnings.len(), 2, "{:?}", asked.warnings);
    }
}
