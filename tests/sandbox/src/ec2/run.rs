//! RunInstances: reading and checking what is asked for.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html>

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::accounts::ACCOUNT;
use super::catalogue::{self, InstanceType};
use super::error::{ApiError, Result};
use super::images::{self, Image};
use super::query::Node;
use super::state::{MetadataOptions, Profile, State, Tags};
use super::{Context, check_id};

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html>
const USER_DATA_LIMIT: usize = 16384;
const TAGGABLE: &[&str] = &[
    "instance",
    "volume",
    "network-interface",
    "spot-instances-request",
];

/// All parameters of a call as they came in, but for its token: two calls with the same token must
/// agree in it.
pub(crate) type Fingerprint = Node;

/// A disk to be made.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) device: String,
    pub(super) size_gb: u32,
    pub(super) kind: String,
    pub(super) encrypted: bool,
    pub(super) delete_on_termination: bool,
}

/// What is asked for, checked as far as that needs no look at what exists.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) image: &'a Image,
    pub(super) instance_type: &'static InstanceType,
    pub(super) count: (u32, u32),
    pub(super) client_token: Option<String>,
    pub(super) user_data: Vec<u8>,
    pub(super) tags: BTreeMap<String, Tags>,
    pub(super) metadata: MetadataOptions,
    pub(super) disks: Vec<Disk>,
    pub(super) shutdown_behavior: String,
    pub(super) market: Option<Market>,
    pub(super) profile: Option<ProfileName>,
    pub(super) zone: Option<String>,
    pub(super) subnet: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) group_names: Vec<String>,
    pub(super) public_address: Option<bool>,
    pub(super) key_name: Option<String>,
}

/// Spot, with the most that may be paid.
#[derive(Debug)]
pub(super) struct Market {
    pub(super) max_price: Option<String>,
}

#[derive(Debug)]
pub(super) enum ProfileName {
    Arn(String),
    Name(String),
}

impl<'a> Wanted<'a> {
    pub(super) fn read(context: &Context<'a>, params: &mut Node) -> Result<Self> {
        let image = params.required("ImageId")?;
        let image = images::find(&context.world.images, context.region.name, &image)?;
        let type_name = params.required("InstanceType")?;
        let instance_type = catalogue::instance_type(&type_name).ok_or_else(|| {
            ApiError::value(format!("Invalid value '{type_name}' for InstanceType."))
        })?;
        let count = count(params)?;
        let client_token = params
            .text("ClientToken")?
            .filter(|token| !token.is_empty());
        if client_token
            .as_ref()
            .is_some_and(|t| t.len() > 64 || !t.is_ascii())
        {
            return Err(ApiError::value(
                "Client token must be at most 64 ASCII characters",
            ));
        }
        let user_data = user_data(params)?;
        let tags = params.tag_specifications(TAGGABLE)?;
        let metadata = metadata_options(params)?;
        let disks = disks(params, image)?;
        let market = market(params, instance_type)?;
        if market.is_none() && tags.contains_key("spot-instances-request") {
            return Err(ApiError::combination(
                "The resource type 'spot-instances-request' may be tagged by spot requests only",
            ));
        }
        let shutdown_behavior = params
            .word("InstanceInitiatedShutdownBehavior", &["stop", "terminate"])?
            .unwrap_or_else(|| "stop".into());
        let profile = profile_name(params)?;
        let mut placement = params.node("Placement");
        let zone = placement.text("AvailabilityZone")?;
        placement.word("Tenancy", &["default"])?;
        placement.finish()?;
        let key_name = params.text("KeyName")?;
        params.flag("EbsOptimized")?;
        let mut monitoring = params.node("Monitoring");
        monitoring.flag("Enabled")?;
        monitoring.finish()?;

        let mut wanted = Wanted {
            image,
            instance_type,
            count,
            client_token,
            user_data,
            tags,
            metadata,
            disks,
            shutdown_behavior,
            market,
            profile,
            zone,
            subnet: params.text("SubnetId")?,
            groups: params.texts("SecurityGroupId")?,
            group_names: params.texts("SecurityGroup")?,
            public_address: None,
            key_name,
        };
        wanted.network_interface(params)?;
        params.finish()?;
        if instance_type.architecture != image.architecture {
            return Err(ApiError::value(format!(
                "The architecture '{}' of the specified instance type does not match the \
                 architecture '{}' of the specified AMI. Specify an instance type and an AMI that \
                 have matching architectures, and try again. You can use 'describe-instance-types' \
                 or 'describe-images' to discover the architecture of the instance type or AMI.",
                instance_type.architecture, image.architecture
            )));
        }
        Ok(wanted)
    }

    /// Takes the network interface, which replaces the instance's own subnet and groups.
    fn network_interface(&mut self, params: &mut Node) -> Result<()> {
        let mut interfaces = params.list("NetworkInterface")?;
        if interfaces.len() > 1 {
            return Err(ApiError::value(
                "One network interface is all that this sandbox gives",
            ));
        }
        let Some(mut interface) = interfaces.pop() else {
            return Ok(());
        };
        if !self.groups.is_empty() || !self.group_names.is_empty() {
            return Err(ApiError::combination(
                "Network interfaces and an instance-level security groups may not be specified on \
                 the same request",
            ));
        }
        if self.subnet.is_some() {
            return Err(ApiError::combination(
                "Network interfaces and an instance-level subnet ID may not be specified on the \
                 same request",
            ));
        }
        if interface.required("DeviceIndex")? != "0" {
            return Err(ApiError::value(
                "The primary network interface has the device index 0",
            ));
        }
        self.subnet = interface.text("SubnetId")?;
        self.groups = interface.texts("SecurityGroupId")?;
        self.public_address = interface.flag("AssociatePublicIpAddress")?;
        interface.flag("DeleteOnTermination")?;
        interface.text("Description")?;
        interface.finish()
    }

    /// The profile by its name or ARN.
    pub(super) fn find_profile(&self, state: &State) -> Result<Option<Profile>> {
        let (found, problem) = match &self.profile {
            None => return Ok(None),
            Some(ProfileName::Name(name)) => (
                state.profiles.iter().find(|profile| profile.name == *name),
                format!(
                    "Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM \
                     Instance Profile name"
                ),
            ),
            Some(ProfileName::Arn(arn)) => (
                state.profiles.iter().find(|profile| profile.arn() == *arn),
                format!(
                    "Value ({arn}) for parameter iamInstanceProfile.arn is invalid. Invalid IAM \
                     Instance Profile ARN"
                ),
            ),
        };
        match found {
            Some(profile) => Ok(Some(profile.clone())),
            None => Err(ApiError::value(problem)),
        }
    }

    /// `arn:…:instance/*`, as authorization failures name it.
    pub(super) fn resource(region: &str) -> String {
        format!("arn:aws:ec2:{region}:{ACCOUNT}:instance/*")
    }
}

fn count(params: &mut Node) -> Result<(u32, u32)> {
    let mut number =
        |name: &str| -> Result<u32> { params.number(name)?.ok_or_else(|| ApiError::missing(name)) };
    let (least, most) = (number("MinCount")?, number("MaxCount")?);
    if least == 0 || most < least {
        return Err(ApiError::value(
            "Invalid value for MinCount or MaxCount: MinCount must be at least 1 and not more than \
             MaxCount",
        ));
    }
    Ok((least, most))
}

fn user_data(params: &mut Node) -> Result<Vec<u8>> {
    let Some(text) = params.text("UserData")? else {
        return Ok(Vec::new());
    };
    let data = BASE64_STANDARD
        .decode(text)
        .map_err(|_| ApiError::value("Invalid BASE64 encoding of user data."))?;
    if data.len() > USER_DATA_LIMIT {
        return Err(ApiError::value(format!(
            "User data is limited to {USER_DATA_LIMIT} bytes"
        )));
    }
    Ok(data)
}

fn metadata_options(params: &mut Node) -> Result<MetadataOptions> {
    let mut node = params.node("MetadataOptions");
    let tokens = node.word("HttpTokens", &["optional", "required"])?;
    let endpoint = node.word("HttpEndpoint", &["enabled", "disabled"])?;
    let tags = node.word("InstanceMetadataTags", &["enabled", "disabled"])?;
    node.word("HttpProtocolIpv6", &["enabled", "disabled"])?;
    let hop_limit = node.number("HttpPutResponseHopLimit")?.unwrap_or(1);
    node.finish()?;
    if !(1..=64).contains(&hop_limit) {
        return Err(ApiError::value(format!(
            "Value ({hop_limit}) for parameter HttpPutResponseHopLimit is invalid. Must be between \
             1 and 64"
        )));
    }
    Ok(MetadataOptions {
        tokens_required: tokens.as_deref() == Some("required"),
        hop_limit,
        enabled: endpoint.as_deref() != Some("disabled"),
        tags: tags.as_deref() == Some("enabled"),
    })
}

fn disks(params: &mut Node, image: &Image) -> Result<Vec<Disk>> {
    let mut disks: Vec<Disk> = Vec::new();
    for mut item in params.list("BlockDeviceMapping")? {
        let device = item.required("DeviceName")?;
        let mut ebs = item.node("Ebs");
        let is_root = device == image.root_device;
        let size = ebs.number("VolumeSize")?;
        let kind = ebs
            .word(
                "VolumeType",
                &["gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"],
            )?
            .unwrap_or_else(|| "gp3".into());
        let encrypted = ebs.flag("Encrypted")?.unwrap_or(false);
        let delete_on_termination = ebs.flag("DeleteOnTermination")?.unwrap_or(is_root);
        speed(&mut ebs, &kind)?;
        ebs.finish()?;
        item.finish()?;
        if disks.iter().any(|disk| disk.device == device) {
            return Err(ApiError::client(
                "InvalidBlockDeviceMapping",
                format!("The device '{device}' is used in more than one block-device mapping"),
            ));
        }
        let size_gb = match size {
            Some(size) => size,
            None if is_root => image.size_gb,
            None => {
                return Err(ApiError::missing(
                    "The request must contain the parameter size or snapshotId",
                ));
            }
        };
        if is_root {
            image.check_size(size_gb)?;
        }
        if !(1..=16384).contains(&size_gb) {
            return Err(ApiError::value(format!(
                "Volume of {size_gb}GiB is too large for volume type {kind}; maximum is 16384GiB"
            )));
        }
        disks.push(Disk {
            device,
            size_gb,
            kind,
            encrypted,
            delete_on_termination,
        });
    }
    if !disks.iter().any(|disk| disk.device == image.root_device) {
        disks.push(Disk {
            device: image.root_device.into(),
            size_gb: image.size_gb,
            kind: "gp3".into(),
            encrypted: false,
            delete_on_termination: true,
        });
    }
    Ok(disks)
}

/// Checks IOPS and throughput against the volume type.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html>
fn speed(ebs: &mut Node, kind: &str) -> Result<()> {
    let iops = ebs.number::<u32>("Iops")?;
    let throughput = ebs.number::<u32>("Throughput")?;
    let iops_range = match kind {
        "gp3" => Some(3000..=16000),
        "io1" | "io2" => Some(100..=64000),
        _ => None,
    };
    match (iops, iops_range) {
        (Some(_), None) => {
            return Err(ApiError::combination(format!(
                "The parameter iops is not supported for {kind} volumes."
            )));
        }
        (Some(iops), Some(range)) if !range.contains(&iops) => {
            return Err(ApiError::value(format!(
                "Volume iops of {iops} is out of range for {kind} volumes"
            )));
        }
        (None, Some(_)) if kind != "gp3" => {
            return Err(ApiError::missing("iops"));
        }
        _ => {}
    }
    match throughput {
        Some(_) if kind != "gp3" => Err(ApiError::combination(format!(
            "The parameter throughput is not supported for {kind} volumes."
        ))),
        Some(throughput) if !(125..=1000).contains(&throughput) => Err(ApiError::value(format!(
            "Throughput (MiBps) of {throughput} is out of range; it must be between 125 and 1000"
        ))),
        _ => Ok(()),
    }
}

fn market(params: &mut Node, instance_type: &InstanceType) -> Result<Option<Market>> {
    let mut node = params.node("InstanceMarketOptions");
    if node.is_empty() {
        return Ok(None);
    }
    if node.word("MarketType", &["spot"])?.is_none() {
        return Err(ApiError::missing("InstanceMarketOptions.MarketType"));
    }
    let mut options = node.node("SpotOptions");
    let max_price = options.text("MaxPrice")?;
    let kind = options.word("SpotInstanceType", &["one-time", "persistent"])?;
    let behavior = options.word(
        "InstanceInterruptionBehavior",
        &["hibernate", "stop", "terminate"],
    )?;
    options.finish()?;
    node.finish()?;
    let one_time = kind.as_deref() != Some("persistent");
    if one_time && behavior.as_deref().is_some_and(|b| b != "terminate") {
        return Err(ApiError::combination(
            "Interruption behavior other than 'terminate' is not supported for one-time spot \
             requests.",
        ));
    }
    if let Some(price) = &max_price {
        match price.parse::<f64>() {
            Ok(value) if value > 0.0 && value < instance_type.spot_price => {
                return Err(ApiError::client(
                    "SpotMaxPriceTooLow",
                    format!(
                        "Your Spot request price of {price} is lower than the minimum required Spot \
                         request fulfillment price of {:.4}.",
                        instance_type.spot_price
                    ),
                ));
            }
            Ok(value) if value > 0.0 => {}
            _ => {
                return Err(ApiError::value(format!(
                    "Invalid value '{price}' for parameter maxPrice"
                )));
            }
        }
    }
    Ok(Some(Market { max_price }))
}

fn profile_name(params: &mut Node) -> Result<Option<ProfileName>> {
    let mut node = params.node("IamInstanceProfile");
    let arn = node.text("Arn")?;
    let name = node.text("Name")?;
    node.finish()?;
    match (arn, name) {
        (Some(_), Some(_)) => Err(ApiError::combination(
            "The parameter 'iamInstanceProfile.name' may not be used in combination with \
             'iamInstanceProfile.arn'",
        )),
        (Some(arn), None) => Ok(Some(ProfileName::Arn(arn))),
        (None, Some(name)) => Ok(Some(ProfileName::Name(name))),
        (None, None) => Ok(None),
    }
}

/// Refuses an id that has not EC2's form.
pub(super) fn check_network_ids(wanted: &Wanted<'_>) -> Result<()> {
    if let Some(subnet) = &wanted.subnet {
        check_id(subnet, "subnet-", "InvalidSubnetID.Malformed")?;
    }
    for group in &wanted.groups {
        check_id(group, "sg-", "InvalidGroupId.Malformed")?;
    }
    Ok(())
}
