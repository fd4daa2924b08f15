//! VPCs, subnets, security groups and key pairs.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::accounts::ACCOUNT;
use super::error::{ApiError, Result};
use super::query::Node;
use super::state::{Group, Peer, Permission, State, Subnet, Vpc};
use super::xml::Xml;
use super::{Context, check_id};
use crate::calls::lock;
use crate::sigv4::hex;

pub(super) fn find_subnet<'a>(state: &'a State, region: &str, id: &str) -> Result<&'a Subnet> {
    check_id(id, "subnet-", "InvalidSubnetID.Malformed")?;
    state
        .subnets
        .iter()
        .find(|subnet| subnet.id == id && subnet.region == region)
        .ok_or_else(|| {
            ApiError::client(
                "InvalidSubnetID.NotFound",
                format!("The subnet ID '{id}' does not exist"),
            )
        })
}

fn find_vpc<'a>(state: &'a State, region: &str, id: &str) -> Result<&'a Vpc> {
    check_id(id, "vpc-", "InvalidVpcID.Malformed")?;
    state
        .vpcs
        .iter()
        .find(|vpc| vpc.id == id && vpc.region == region)
        .ok_or_else(|| {
            ApiError::client(
                "InvalidVpcID.NotFound",
                format!("The vpc ID '{id}' does not exist"),
            )
        })
}

fn default_vpc<'a>(state: &'a State, region: &str) -> Result<&'a Vpc> {
    state
        .vpcs
        .iter()
        .find(|vpc| vpc.region == region && vpc.is_default)
        .ok_or_else(|| ApiError::client("VPCIdNotSpecified", "No default VPC for this user"))
}

fn no_group(id: &str) -> ApiError {
    ApiError::client(
        "InvalidGroup.NotFound",
        format!("The security group '{id}' does not exist"),
    )
}

/// A group by id; one that isn't visible yet is as unknown as one that never was.
pub(super) fn find_group<'a>(state: &'a State, region: &str, id: &str) -> Result<&'a Group> {
    check_id(id, "sg-", "InvalidGroupId.Malformed")?;
    state
        .groups
        .iter()
        .find(|group| group.id == id && group.region == region && group.is_visible())
        .ok_or_else(|| no_group(id))
}

pub(super) fn group_by_name<'a>(
    state: &'a State,
    region: &str,
    vpc: &str,
    name: &str,
) -> Result<&'a Group> {
    state
        .groups
        .iter()
        .find(|group| {
            group.region == region && group.vpc == vpc && group.name == name && group.is_visible()
        })
        .ok_or_else(|| {
            ApiError::client(
                "InvalidGroup.NotFound",
                format!("The security group '{name}' does not exist in VPC '{vpc}'"),
            )
        })
}

pub(super) fn describe_vpcs(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let ids = params.texts("VpcId")?;
    let filters = params.filters(&[
        "cidr",
        "is-default",
        "isDefault",
        "owner-id",
        "state",
        "vpc-id",
    ])?;
    let page = params.page(5, 1000)?;
    params.finish()?;
    let state = lock(&context.world.state);
    for id in &ids {
        find_vpc(&state, context.region.name, id)?;
    }
    let found: Vec<&Vpc> = state
        .vpcs
        .iter()
        .filter(|vpc| {
            vpc.region == context.region.name && (ids.is_empty() || ids.contains(&vpc.id))
        })
        .filter(|vpc| {
            filters.pass(&vpc.tags, |filter| match filter {
                "cidr" => vec![vpc.cidr.clone()],
                "is-default" | "isDefault" => vec![vpc.is_default.to_string()],
                "owner-id" => vec![ACCOUNT.into()],
                "state" => vec!["available".into()],
                "vpc-id" => vec![vpc.id.clone()],
                _ => Vec::new(),
            })
        })
        .collect();
    let (found, token) = page.cut(found);
    let mut xml = Xml::piece();
    xml.set("vpcSet", found, |xml, vpc| {
        xml.text("vpcId", &vpc.id);
        xml.text("ownerId", ACCOUNT);
        xml.text("state", "available");
        xml.text("cidrBlock", &vpc.cidr);
        xml.text("instanceTenancy", "default");
        xml.text("isDefault", vpc.is_default);
        xml.tags(&vpc.tags);
    });
    xml.maybe("nextToken", token);
    Ok(xml)
}

pub(super) fn describe_subnets(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let ids = params.texts("SubnetId")?;
    let filters = params.filters(&[
        "availability-zone",
        "availabilityZone",
        "default-for-az",
        "defaultForAz",
        "map-public-ip-on-launch",
        "owner-id",
        "state",
        "subnet-id",
        "vpc-id",
    ])?;
    let page = params.page(5, 1000)?;
    params.finish()?;
    let state = lock(&context.world.state);
    for id in &ids {
        find_subnet(&state, context.region.name, id)?;
    }
    let found: Vec<&Subnet> = state
        .subnets
        .iter()
        .filter(|s| s.region == context.region.name && (ids.is_empty() || ids.contains(&s.id)))
        .filter(|subnet| {
            filters.pass(&subnet.tags, |filter| match filter {
                "availability-zone" | "availabilityZone" => vec![subnet.zone.clone()],
                "default-for-az" | "defaultForAz" => vec![subnet.is_default.to_string()],
                "map-public-ip-on-launch" => vec![subnet.public_addresses.to_string()],
                "owner-id" => vec![ACCOUNT.into()],
                "state" => vec!["available".into()],
                "subnet-id" => vec![subnet.id.clone()],
                "vpc-id" => vec![subnet.vpc.clone()],
                _ => Vec::new(),
            })
        })
        .collect();
    let (found, token) = page.cut(found);
    let mut xml = Xml::piece();
    xml.set("subnetSet", found, |xml, subnet| {
        xml.text("subnetId", &subnet.id);
        xml.text(
            "subnetArn",
            format!(
                "arn:aws:ec2:{}:{ACCOUNT}:subnet/{}",
                subnet.region, subnet.id
            ),
        );
        xml.text("state", "available");
        xml.text("ownerId", ACCOUNT);
        xml.text("vpcId", &subnet.vpc);
        xml.text("cidrBlock", &subnet.cidr);
        xml.text(
            "availableIpAddressCount",
            240_u32.saturating_sub(subnet.last_host.into()),
        );
        xml.text("availabilityZone", &subnet.zone);
        xml.text("defaultForAz", subnet.is_default);
        xml.text("mapPublicIpOnLaunch", subnet.public_addresses);
        xml.tags(&subnet.tags);
    });
    xml.maybe("nextToken", token);
    Ok(xml)
}

pub(super) fn describe_security_groups(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let ids = params.texts("GroupId")?;
    let names = params.texts("GroupName")?;
    let filters = params.filters(&[
        "description",
        "group-id",
        "group-name",
        "owner-id",
        "vpc-id",
    ])?;
    let page = params.page(5, 1000)?;
    params.finish()?;
    let region = context.region.name;
    let state = lock(&context.world.state);
    for id in &ids {
        find_group(&state, region, id)?;
    }
    // Names without a VPC are names in the default one.
    let vpc = match names.is_empty() {
        true => None,
        false => Some(default_vpc(&state, region)?.id.clone()),
    };
    for name in &names {
        group_by_name(&state, region, vpc.as_deref().unwrap_or_default(), name)?;
    }
    let found: Vec<&Group> = state
        .groups
        .iter()
        .filter(|group| group.region == region && group.is_visible())
        .filter(|group| ids.is_empty() || ids.contains(&group.id))
        .filter(|group| names.is_empty() || names.contains(&group.name))
        .filter(|group| vpc.as_ref().is_none_or(|vpc| *vpc == group.vpc))
        .filter(|group| {
            filters.pass(&group.tags, |filter| match filter {
                "description" => vec![group.description.clone()],
                "group-id" => vec![group.id.clone()],
                "group-name" => vec![group.name.clone()],
                "owner-id" => vec![ACCOUNT.into()],
                "vpc-id" => vec![group.vpc.clone()],
                _ => Vec::new(),
            })
        })
        .collect();
    let (found, token) = page.cut(found);
    let mut xml = Xml::piece();
    xml.set("securityGroupInfo", found, |xml, group| {
        xml.text("ownerId", ACCOUNT);
        xml.text("groupId", &group.id);
        xml.text("groupName", &group.name);
        xml.text("groupDescription", &group.description);
        xml.text("vpcId", &group.vpc);
        xml.text("securityGroupArn", group_arn(group));
        xml.set("ipPermissions", &group.ingress, write_permission);
        xml.set("ipPermissionsEgress", &group.egress, write_permission);
        xml.tags(&group.tags);
    });
    xml.maybe("nextToken", token);
    Ok(xml)
}

fn group_arn(group: &Group) -> String {
    format!(
        "arn:aws:ec2:{}:{ACCOUNT}:security-group/{}",
        group.region, group.id
    )
}

fn write_permission(xml: &mut Xml, permission: &Permission) {
    xml.text("ipProtocol", &permission.protocol);
    if let Some((from, to)) = permission.ports {
        xml.text("fromPort", from);
        xml.text("toPort", to);
    }
    let peer = Some(&permission.peer);
    let description = permission.description.as_ref();
    xml.set(
        "groups",
        peer.filter(|p| matches!(p, Peer::Group(_))),
        |xml, peer| {
            xml.text("groupId", peer.text());
            xml.text("userId", ACCOUNT);
            xml.maybe("description", description);
        },
    );
    xml.set(
        "ipRanges",
        peer.filter(|p| matches!(p, Peer::V4(_))),
        |xml, peer| {
            xml.text("cidrIp", peer.text());
            xml.maybe("description", description);
        },
    );
    xml.set(
        "ipv6Ranges",
        peer.filter(|p| matches!(p, Peer::V6(_))),
        |xml, peer| {
            xml.text("cidrIpv6", peer.text());
            xml.maybe("description", description);
        },
    );
    xml.node("prefixListIds", |_| {});
}

pub(super) fn create_security_group(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let name = params.required("GroupName")?;
    let description = params.required("GroupDescription")?;
    let vpc = params.text("VpcId")?;
    let mut tags = params.tag_specifications(&["security-group"])?;
    params.finish()?;
    check_group_text("group name", &name)?;
    check_group_text("security group description", &description)?;
    if name.starts_with("sg-") {
        return Err(ApiError::value(
            "Value for parameter GroupName is invalid. Group names may not be in the format sg-*",
        ));
    }
    if name.eq_ignore_ascii_case("default") {
        return Err(ApiError::client(
            "InvalidParameterValue",
            "Cannot use reserved security group name: default",
        ));
    }
    let region = context.region.name;
    if !tags.is_empty() {
        let resource = format!("arn:aws:ec2:{region}:{ACCOUNT}:security-group/*");
        context.require("ec2:CreateTags", &resource)?;
    }
    let mut state = lock(&context.world.state);
    let vpc = match vpc {
        Some(id) => find_vpc(&state, region, &id)?.id.clone(),
        None => default_vpc(&state, region)?.id.clone(),
    };
    // Uniqueness is exact even while reads lag behind.
    if state
        .groups
        .iter()
        .any(|group| group.vpc == vpc && group.name == name)
    {
        return Err(ApiError::client(
            "InvalidGroup.Duplicate",
            format!("The security group '{name}' already exists for VPC '{vpc}'"),
        ));
    }
    let delay = context.world.config.visibility_delay;
    let mut group = Group::new(region, &vpc, &name, &description, delay);
    group.tags = tags.remove("security-group").unwrap_or_default();
    let mut xml = Xml::piece();
    xml.text("return", true);
    xml.text("groupId", &group.id);
    xml.text("securityGroupArn", group_arn(&group));
    xml.tags(&group.tags);
    state.groups.push(group);
    Ok(xml)
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html>
fn check_group_text(what: &str, text: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    if text.len() > 255 || !text.chars().all(allowed) {
        return Err(ApiError::value(format!(
            "Invalid {what}. Valid ones are strings less than 256 characters from the following \
             set: a-zA-Z0-9. _-:/()#,@[]+=&;{{}}!$*"
        )));
    }
    Ok(())
}

pub(super) fn authorize_ingress(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    authorize(context, params, false)
}

pub(super) fn authorize_egress(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    authorize(context, params, true)
}

fn authorize(context: &Context<'_>, params: &mut Node, egress: bool) -> Result<Xml> {
    let id = params.required("GroupId")?;
    let permissions = permissions(params)?;
    let tags = params.tag_specifications(&["security-group-rule"])?;
    params.finish()?;
    if !tags.is_empty() {
        let resource = format!(
            "arn:aws:ec2:{}:{ACCOUNT}:security-group-rule/*",
            context.region.name
        );
        context.require("ec2:CreateTags", &resource)?;
    }
    let mut state = lock(&context.world.state);
    let region = context.region.name;
    find_group(&state, region, &id)?;
    for permission in &permissions {
        if let Peer::Group(other) = &permission.peer {
            find_group(&state, region, other)?;
        }
    }
    let group = state
        .groups
        .iter_mut()
        .find(|group| group.id == id)
        .ok_or_else(|| no_group(&id))?;
    let list = if egress {
        &mut group.egress
    } else {
        &mut group.ingress
    };
    for permission in &permissions {
        if list.iter().any(|known| known.equals(permission)) {
            let ports = permission.ports.map_or("ALL".to_owned(), |(from, to)| {
                format!("from port: {from}, to port: {to}")
            });
            return Err(ApiError::client(
                "InvalidPermission.Duplicate",
                format!(
                    "the specified rule \"peer: {}, {}, {ports}, ALLOW\" already exists",
                    permission.peer.text(),
                    permission.protocol.to_uppercase()
                ),
            ));
        }
    }
    list.extend(permissions.iter().cloned());
    let mut xml = Xml::piece();
    xml.text("return", true);
    xml.set("securityGroupRuleSet", &permissions, |xml, permission| {
        xml.text("groupId", &id);
        xml.text("groupOwnerId", ACCOUNT);
        xml.text("securityGroupRuleId", &permission.rule);
        xml.text("isEgress", egress);
        xml.text("ipProtocol", &permission.protocol);
        let (from, to) = permission.ports.unwrap_or((-1, -1));
        xml.text("fromPort", from);
        xml.text("toPort", to);
        match &permission.peer {
            Peer::V4(cidr) => xml.text("cidrIpv4", cidr),
            Peer::V6(cidr) => xml.text("cidrIpv6", cidr),
            Peer::Group(group) => xml.node("referencedGroupInfo", |xml| xml.text("groupId", group)),
        }
        xml.maybe("description", permission.description.as_ref());
    });
    Ok(xml)
}

/// Takes `IpPermissions.N`.
fn permissions(params: &mut Node) -> Result<Vec<Permission>> {
    let mut permissions = Vec::new();
    for mut item in params.list("IpPermissions")? {
        let protocol = item.required("IpProtocol")?;
        let from = item.number::<i32>("FromPort")?;
        let to = item.number::<i32>("ToPort")?;
        let ports = match (protocol.as_str(), from, to) {
            ("-1", _, _) => None,
            ("tcp" | "udp" | "6" | "17", Some(from), Some(to)) => {
                if !(0..=65535).contains(&from) || !(from..=65535).contains(&to) {
                    return Err(ApiError::value(format!(
                        "Invalid value '{from}-{to}' for portRange."
                    )));
                }
                Some((from, to))
            }
            ("icmp" | "icmpv6", from, to) => Some((from.unwrap_or(-1), to.unwrap_or(-1))),
            ("tcp" | "udp" | "6" | "17", _, _) => {
                return Err(ApiError::value(
                    "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
                ));
            }
            _ => {
                return Err(ApiError::value(format!(
                    "Invalid value '{protocol}' for IP protocol. Unknown protocol."
                )));
            }
        };
        let mut peers = Vec::new();
        for mut range in item.list("IpRanges")? {
            let cidr = range.required("CidrIp")?;
            check_cidr::<std::net::Ipv4Addr>(&cidr, 32)?;
            peers.push((Peer::V4(cidr), description(&mut range)?));
        }
        for mut range in item.list("Ipv6Ranges")? {
            let cidr = range.required("CidrIpv6")?;
            check_cidr::<std::net::Ipv6Addr>(&cidr, 128)?;
            peers.push((Peer::V6(cidr), description(&mut range)?));
        }
        for mut pair in item.list("Groups")? {
            let group = pair.required("GroupId")?;
            pair.text("UserId")?;
            peers.push((Peer::Group(group), description(&mut pair)?));
        }
        item.finish()?;
        if peers.is_empty() {
            return Err(ApiError::missing("IpPermissions.N.IpRanges"));
        }
        for (peer, description) in peers {
            permissions.push(Permission::new(&protocol, ports, peer, description));
        }
    }
    if permissions.is_empty() {
        return Err(ApiError::missing("IpPermissions"));
    }
    Ok(permissions)
}

fn description(range: &mut Node) -> Result<Option<String>> {
    let description = range.text("Description")?;
    range.finish()?;
    if let Some(text) = &description {
        check_group_text("rule description", text)?;
    }
    Ok(description)
}

fn check_cidr<A: std::str::FromStr>(cidr: &str, most: u8) -> Result<()> {
    let valid = cidr.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<A>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    });
    if valid {
        Ok(())
    } else {
        Err(ApiError::value(format!("CIDR block {cidr} is malformed")))
    }
}

pub(super) fn import_key_pair(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let name = params.required("KeyName")?;
    let material = params.required("PublicKeyMaterial")?;
    let tags = params.tag_specifications(&["key-pair"])?;
    params.finish()?;
    if !tags.is_empty() {
        let resource = format!("arn:aws:ec2:{}:{ACCOUNT}:key-pair/*", context.region.name);
        context.require("ec2:CreateTags", &resource)?;
    }
    let key = BASE64_STANDARD
        .decode(material)
        .ok()
        .and_then(|key| String::from_utf8(key).ok())
        .filter(|key| key.starts_with("ssh-rsa ") || key.starts_with("ssh-ed25519 "))
        .ok_or_else(|| {
            ApiError::client(
                "InvalidKey.Format",
                "Key is not in valid OpenSSH public key format",
            )
        })?;
    let mut state = lock(&context.world.state);
    let place = (context.region.name.to_owned(), name.clone());
    if state.key_pairs.contains_key(&place) {
        return Err(ApiError::client(
            "InvalidKeyPair.Duplicate",
            format!("The keypair '{name}' already exists."),
        ));
    }
    state.key_pairs.insert(place, key.clone());
    let digest = hex(&<sha2::Sha256 as sha2::Digest>::digest(key));
    let mut xml = Xml::piece();
    xml.text("keyName", name);
    xml.text("keyFingerprint", &digest[..32]);
    xml.text("keyPairId", format!("key-{}", &digest[32..49]));
    Ok(xml)
}

pub(super) fn delete_key_pair(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let name = params.required("KeyName")?;
    params.finish()?;
    let place = (context.region.name.to_owned(), name);
    lock(&context.world.state).key_pairs.remove(&place);
    let mut xml = Xml::piece();
    // Deleting what isn't there succeeds, too.
    xml.text("return", true);
    Ok(xml)
}
