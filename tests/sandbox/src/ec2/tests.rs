use std::time::Duration;

use super::*;
use crate::Sandbox;
use crate::calls::lock;

/// A sandbox whose instances boot at once and are visible at once.
async fn sandbox() -> Sandbox {
    let mut config = Config::new("/bin/true");
    config.boot_delay = Duration::from_millis(1);
    config.shutdown_delay = Duration::from_millis(1);
    config.visibility_delay = Duration::ZERO;
    Sandbox::start(config).await.unwrap()
}

/// Calls an action as the user, in a region, without the HTTP around it.
fn call_in(ec2: &Ec2, region: &str, action: &str, parameters: &str) -> Result<String> {
    let (_, handler, kind) = ACTIONS.iter().find(|(name, _, _)| *name == action).unwrap();
    let context = Context {
        world: &ec2.world,
        region: catalogue::region(region).unwrap(),
        principal: Principal::User,
    };
    context.require(&format!("ec2:{action}"), &format!("arn:aws:ec2:::{kind}/*"))?;
    let mut params = Node::parse(parameters.as_bytes())?;
    handler(&context, &mut params).map(|xml| Xml::document(action, None, xml))
}

fn call(ec2: &Ec2, action: &str, parameters: &str) -> Result<String> {
    call_in(ec2, "us-west-2", action, parameters)
}

/// The values of an element, wherever it is.
fn values<'a>(xml: &'a str, element: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    xml.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split(&close).next())
        .collect()
}

fn image(ec2: &Ec2, pattern: &str) -> String {
    let xml = call(
        ec2,
        "DescribeImages",
        &format!("Filter.1.Name=name&Filter.1.Value.1={pattern}"),
    );
    values(&xml.unwrap(), "imageId")[0].to_owned()
}

/// RunInstances with the least that it needs, and more.
fn run(ec2: &Ec2, more: &str) -> Result<String> {
    let image = image(
        ec2,
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250115",
    );
    let least = format!("ImageId={image}&MinCount=1&MaxCount=1");
    let kind = if more.starts_with("InstanceType=") {
        ""
    } else {
        "&InstanceType=m5.2xlarge"
    };
    call(ec2, "RunInstances", &format!("{least}{kind}&{more}"))
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().code
}

#[tokio::test]
async fn a_client_token_makes_one_instance() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    let first = run(&ec2, "ClientToken=t1").unwrap();
    let again = run(&ec2, "ClientToken=t1").unwrap();
    assert_eq!(values(&first, "instanceId"), values(&again, "instanceId"));
    assert_eq!(ec2.instances().len(), 1);
    assert_eq!(
        code(run(&ec2, "ClientToken=t1&KeyName=x")),
        "IdempotentParameterMismatch"
    );
    run(&ec2, "ClientToken=t2").unwrap();
    assert_eq!(ec2.instances().len(), 2);
}

#[tokio::test]
async fn a_refused_call_leaves_its_token_free() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    ec2.exhaust(None, None, None, "InsufficientInstanceCapacity");
    let refused = run(&ec2, "ClientToken=t1").unwrap_err();
    assert_eq!(
        (refused.status, refused.code.as_str()),
        (500, "InsufficientInstanceCapacity")
    );
    lock(&ec2.world.state).shortages.clear();
    run(&ec2, "ClientToken=t1").unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    let long = "A".repeat(4 * 16385_usize.div_ceil(3));
    for (parameters, expected) in [
        ("Nonsense=1", "UnknownParameter"),
        ("MetadataOptions.HttpNonsense=1", "UnknownParameter"),
        (
            "MetadataOptions.HttpTokens=sometimes",
            "InvalidParameterValue",
        ),
        (
            "MetadataOptions.HttpPutResponseHopLimit=65",
            "InvalidParameterValue",
        ),
        (&format!("UserData={long}"), "InvalidParameterValue"),
        ("UserData=*", "InvalidParameterValue"),
        ("InstanceType=m5.unknown", "InvalidParameterValue"),
        ("InstanceType=m6g.2xlarge", "InvalidParameterValue"),
        ("InstanceType=p2.xlarge", "Unsupported"),
        ("KeyName=unknown", "InvalidKeyPair.NotFound"),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sda1&BlockDeviceMapping.1.Ebs.VolumeSize=7",
            "InvalidBlockDeviceMapping",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sda1&BlockDeviceMapping.1.Ebs.VolumeType=gp9",
            "InvalidParameterValue",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sda1&BlockDeviceMapping.1.Ebs.Iops=1",
            "InvalidParameterValue",
        ),
        (
            "InstanceMarketOptions.MarketType=spot&InstanceMarketOptions.SpotOptions.MaxPrice=0.01",
            "SpotMaxPriceTooLow",
        ),
        (
            "InstanceMarketOptions.MarketType=spot&InstanceMarketOptions.SpotOptions.MaxPrice=cheap",
            "InvalidParameterValue",
        ),
        (
            "InstanceMarketOptions.SpotOptions.MaxPrice=1",
            "MissingParameter",
        ),
        (
            "TagSpecification.1.ResourceType=spot-instances-request&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b",
            "InvalidParameterCombination",
        ),
        (
            "TagSpecification.1.ResourceType=house&TagSpecification.1.Tag.1.Key=a",
            "InvalidParameterValue",
        ),
        ("IamInstanceProfile.Name=unknown", "InvalidParameterValue"),
        (
            "IamInstanceProfile.Name=ci-runner&IamInstanceProfile.Arn=x",
            "InvalidParameterCombination",
        ),
        ("SecurityGroupId.1=sg-12345678", "InvalidGroup.NotFound"),
        ("SecurityGroupId.1=mine", "InvalidGroupId.Malformed"),
        ("SubnetId=subnet-12345678", "InvalidSubnetID.NotFound"),
        (
            "SubnetId=subnet-12345678&NetworkInterface.1.DeviceIndex=0",
            "InvalidParameterCombination",
        ),
        (
            "Placement.AvailabilityZone=us-west-2z",
            "InvalidParameterValue",
        ),
        (
            "InstanceInitiatedShutdownBehavior=explode",
            "InvalidParameterValue",
        ),
    ] {
        assert_eq!(code(run(&ec2, parameters)), expected, "{parameters}");
    }
    for (action, parameters, expected) in [
        ("RunInstances", "MinCount=1&MaxCount=1", "MissingParameter"),
        (
            "RunInstances",
            "ImageId=ami-12345678&MinCount=1&MaxCount=1",
            "InvalidAMIID.NotFound",
        ),
        (
            "RunInstances",
            "ImageId=ubuntu&MinCount=1&MaxCount=1",
            "InvalidAMIID.Malformed",
        ),
        (
            "DescribeInstances",
            "InstanceId.1=i-12345678",
            "InvalidInstanceID.NotFound",
        ),
        (
            "DescribeInstances",
            "InstanceId.1=mine",
            "InvalidInstanceID.Malformed",
        ),
        (
            "DescribeInstances",
            "Filter.1.Name=colour&Filter.1.Value.1=red",
            "InvalidParameterValue",
        ),
        ("DescribeInstances", "MaxResults=4", "InvalidParameterValue"),
        (
            "TerminateInstances",
            "InstanceId.1=i-12345678",
            "InvalidInstanceID.NotFound",
        ),
        ("TerminateInstances", "", "MissingParameter"),
        ("DescribeImages", "Owner.1=me", "InvalidUserID.Malformed"),
        (
            "DescribeInstanceTypes",
            "InstanceType.1=p2.xlarge",
            "InvalidInstanceType",
        ),
    ] {
        assert_eq!(
            code(call(&ec2, action, parameters)),
            expected,
            "{action} {parameters}"
        );
    }
    assert!(ec2.instances().is_empty());
}

#[tokio::test]
async fn a_new_instance_is_not_found_at_first() {
    let mut config = Config::new("/bin/true");
    config.visibility_delay = Duration::from_millis(200);
    let sandbox = Sandbox::start(config).await.unwrap();
    let ec2 = sandbox.ec2();
    let xml = run(&ec2, "ClientToken=t").unwrap();
    let by_id = format!("InstanceId.1={}", values(&xml, "instanceId")[0]);
    let by_token = "Filter.1.Name=client-token&Filter.1.Value.1=t";
    let ids = |xml: Result<String>| values(&xml.unwrap(), "instanceId").len();
    assert_eq!(
        code(call(&ec2, "DescribeInstances", &by_id)),
        "InvalidInstanceID.NotFound"
    );
    assert_eq!(
        code(call(&ec2, "TerminateInstances", &by_id)),
        "InvalidInstanceID.NotFound"
    );
    assert_eq!(ids(call(&ec2, "DescribeInstances", by_token)), 0);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(ids(call(&ec2, "DescribeInstances", &by_id)), 1);
    assert_eq!(ids(call(&ec2, "DescribeInstances", by_token)), 1);
    assert_eq!(
        code(call_in(&ec2, "us-east-1", "DescribeInstances", &by_id)),
        "InvalidInstanceID.NotFound"
    );
    call(&ec2, "TerminateInstances", &by_id).unwrap();
}

#[tokio::test]
async fn everything_asked_for_is_given() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    let subnet = ec2
        .subnets("us-west-2")
        .into_iter()
        .find(|s| s.zone == "us-west-2b")
        .unwrap();
    let group = call(
        &ec2,
        "CreateSecurityGroup",
        &format!("GroupName=g&GroupDescription=d&VpcId={}", subnet.vpc),
    )
    .unwrap();
    let group = values(&group, "groupId")[0].to_owned();
    let parameters = format!(
        "ClientToken=t&UserData=IyEvYmluL3RydWUK&\
         TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=n&\
         TagSpecification.2.ResourceType=volume&TagSpecification.2.Tag.1.Key=v&TagSpecification.2.Tag.1.Value=1&\
         TagSpecification.3.ResourceType=network-interface&TagSpecification.3.Tag.1.Key=e&TagSpecification.3.Tag.1.Value=2&\
         MetadataOptions.HttpTokens=required&MetadataOptions.HttpPutResponseHopLimit=2&\
         BlockDeviceMapping.1.DeviceName=/dev/sda1&BlockDeviceMapping.1.Ebs.VolumeSize=35&\
         BlockDeviceMapping.1.Ebs.VolumeType=gp3&BlockDeviceMapping.1.Ebs.Encrypted=true&\
         InstanceInitiatedShutdownBehavior=terminate&InstanceMarketOptions.MarketType=spot&\
         InstanceMarketOptions.SpotOptions.MaxPrice=0.2&InstanceMarketOptions.SpotOptions.SpotInstanceType=one-time&\
         IamInstanceProfile.Arn=arn:aws:iam::123456789012:instance-profile/dvc-s3-access&\
         NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.SubnetId={}&NetworkInterface.1.SecurityGroupId.1={group}&\
         NetworkInterface.1.AssociatePublicIpAddress=true",
        subnet.id
    );
    run(&ec2, &parameters).unwrap();
    let view = ec2.instances().remove(0);
    assert_eq!(view.name.as_deref(), Some("n"));
    assert_eq!(view.volume_tags["v"], "1");
    assert_eq!(view.interface_tags["e"], "2");
    assert!(view.imds_v2_required && view.encrypted && view.spot);
    assert_eq!(
        (view.hop_limit, view.volume_gb, view.volume_type.as_str()),
        (2, 35, "gp3")
    );
    assert_eq!(view.spot_price.as_deref(), Some("0.2"));
    assert_eq!(view.zone, "us-west-2b");
    assert_eq!(view.security_groups, [group]);
    assert_eq!(view.shutdown_behavior, "terminate");
    assert_eq!(view.user_data, b"#!/bin/true\n");
    assert!(view.profile.unwrap().ends_with("/dvc-s3-access"));
}

#[tokio::test]
async fn without_capacity_in_a_zone_the_next_is_taken() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    ec2.exhaust(
        Some("us-west-2a"),
        None,
        None,
        "InsufficientInstanceCapacity",
    );
    run(&ec2, "").unwrap();
    assert_eq!(ec2.instances()[0].zone, "us-west-2b");
    assert_eq!(
        code(run(&ec2, "Placement.AvailabilityZone=us-west-2a")),
        "InsufficientInstanceCapacity"
    );
    ec2.exhaust(None, None, Some(true), "MaxSpotInstanceCountExceeded");
    assert_eq!(
        code(run(&ec2, "InstanceMarketOptions.MarketType=spot")),
        "MaxSpotInstanceCountExceeded"
    );
    ec2.remove_default_vpc();
    assert_eq!(code(run(&ec2, "")), "VPCIdNotSpecified");
}

#[tokio::test]
async fn groups_are_unique_and_lag_behind() {
    let mut config = Config::new("/bin/true");
    config.visibility_delay = Duration::from_millis(100);
    let sandbox = Sandbox::start(config).await.unwrap();
    let ec2 = sandbox.ec2();
    let create = "GroupName=shared&GroupDescription=d";
    let xml = call(&ec2, "CreateSecurityGroup", create).unwrap();
    let id = values(&xml, "groupId")[0].to_owned();
    let by_name = "Filter.1.Name=group-name&Filter.1.Value.1=shared";
    let rule = format!(
        "GroupId={id}&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22&\
         IpPermissions.1.ToPort=22&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8"
    );
    assert_eq!(
        code(call(&ec2, "CreateSecurityGroup", create)),
        "InvalidGroup.Duplicate"
    );
    assert_eq!(
        code(call(&ec2, "AuthorizeSecurityGroupIngress", &rule)),
        "InvalidGroup.NotFound"
    );
    assert!(
        values(
            &call(&ec2, "DescribeSecurityGroups", by_name).unwrap(),
            "groupId"
        )
        .is_empty()
    );
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(
        values(
            &call(&ec2, "DescribeSecurityGroups", by_name).unwrap(),
            "groupId"
        ),
        [&id]
    );
    call(&ec2, "AuthorizeSecurityGroupIngress", &rule).unwrap();
    assert_eq!(
        code(call(&ec2, "AuthorizeSecurityGroupIngress", &rule)),
        "InvalidPermission.Duplicate"
    );
    let group = ec2
        .groups()
        .into_iter()
        .find(|group| group.id == id)
        .unwrap();
    assert_eq!(group.ingress, ["tcp 22 10.0.0.0/8"]);
    assert_eq!(group.egress, ["-1 0.0.0.0/0"]);
    let leaks = sandbox.shutdown().await;
    assert!(leaks.iter().any(|leak| leak.contains(&id)), "{leaks:?}");
}

#[tokio::test]
async fn what_the_policy_forbids_is_refused_in_code() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    ec2.allow_only(&["ec2:Describe*", "ec2:RunInstances"]);
    let tagged = "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a";
    assert!(code(run(&ec2, tagged)).contains("UnauthorizedOperation"));
    run(&ec2, "").unwrap();
    ec2.allow_only(&["ec2:DescribeImages"]);
    let refused = run(&ec2, "").unwrap_err();
    assert_eq!(
        (refused.status, refused.code.as_str()),
        (403, "UnauthorizedOperation")
    );
    let (_, encoded) = refused.message.split_once("failure message: ").unwrap();
    let decoded = ec2.world.accounts.decode_failure(encoded).unwrap();
    let decoded: serde_json::Value = serde_json::from_str(&decoded).unwrap();
    assert_eq!(decoded["allowed"], false);
    assert_eq!(decoded["context"]["action"], "ec2:RunInstances");
    let refused = call(&ec2, "DescribeInstances", "").unwrap_err();
    assert!(!refused.message.contains("Encoded"));
}

#[tokio::test]
async fn images_are_found_as_the_real_ones() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    let names = |parameters: &str| {
        let xml = call(&ec2, "DescribeImages", parameters).unwrap();
        let mut names: Vec<String> = values(&xml, "name").into_iter().map(Into::into).collect();
        names.sort();
        names
    };
    let noble =
        "Filter.1.Name=name&Filter.1.Value.1=ubuntu/images/hvm-ssd*/ubuntu-noble-24.04-*-server-*";
    let arm = "Filter.2.Name=architecture&Filter.2.Value.1=arm64";
    assert_eq!(
        names(&format!("Owner.1=099720109477&{noble}&{arm}")),
        [
            "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-20241109",
            "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-20250115",
        ]
    );
    // Without an owner, impostors and copies turn up.
    assert_eq!(names(&format!("{noble}&{arm}")).len(), 4);
    assert_eq!(names("Owner.1=self"), ["ci-golden-image-20250210"]);
    let gpu = "Filter.1.Name=name&Filter.1.Value.1=Deep Learning*Base OSS Nvidia Driver GPU AMI (Ubuntu 2?.04)*";
    assert_eq!(names(&format!("Owner.1=amazon&{gpu}&{arm}")).len(), 4);
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    for _ in 0..6 {
        run(&ec2, "").unwrap();
    }
    let first = call(&ec2, "DescribeInstances", "MaxResults=5").unwrap();
    assert_eq!(values(&first, "instanceId").len(), 5);
    let token = values(&first, "nextToken")[0]
        .replace('=', "%3D")
        .replace('+', "%2B");
    let second = call(
        &ec2,
        "DescribeInstances",
        &format!("MaxResults=5&NextToken={token}"),
    );
    let second = second.unwrap();
    assert_eq!(values(&second, "instanceId").len(), 1);
    assert!(values(&second, "nextToken").is_empty());
}

#[tokio::test]
async fn web_identity_tokens_are_checked() {
    let sandbox = sandbox().await;
    let ec2 = sandbox.ec2();
    let accounts = &ec2.world.accounts;
    let (_, good) = ec2.web_identity();
    assert_eq!(
        accounts.check_web_token(&good).unwrap(),
        "repo:octo/repo:ref:refs/heads/main"
    );
    let (_, expired) = ec2.expired_web_identity();
    assert_eq!(
        code(accounts.check_web_token(&expired)),
        "ExpiredTokenException"
    );
    let forged = good.replacen('.', ".e30", 1);
    assert_eq!(
        code(accounts.check_web_token(&forged)),
        "InvalidIdentityToken"
    );
}

/// Launches an instance; the answer is its id.
pub(crate) fn launch_for_test(ec2: &Ec2, parameters: &str) -> String {
    let xml = run(ec2, parameters).unwrap();
    values(&xml, "instanceId")[0].to_owned()
}
