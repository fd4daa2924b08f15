//! Where the instance is reached from and what it may reach: VPC, subnets, security group.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::asked::{Asked, WantedGroup};
use super::client::{Client, Failure, Query};
use super::xml::{Nothing, Set};
use crate::cloud::TAG_OWNER;
use crate::error::{Error, Result};
use crate::spec::Cidr;

/// The shared group's name, and what the names of its variants begin with.
const GROUP: &str = "runner-launch";

/// The subnets that may be used: the user's, or the default ones.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html>
pub(super) fn subnets_query(asked: &Asked) -> Query {
    let query = Query::ec2("DescribeSubnets");
    match &asked.subnet {
        Some(id) => query.list("SubnetId", [id.as_str()]),
        None => query
            .filter("default-for-az", ["true"])
            .filter("state", ["available"]),
    }
}

/// The region's default VPC.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVpcs.html>
pub(super) fn vpcs_query() -> Query {
    Query::ec2("DescribeVpcs").filter("is-default", ["true"])
}

/// The wanted group, in whatever VPC: asking for the right one would have to wait for the VPC.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSecurityGroups.html>
pub(super) fn groups_query(wanted: &WantedGroup) -> Query {
    let query = Query::ec2("DescribeSecurityGroups");
    match wanted {
        WantedGroup::Shared { ssh } => query.filter("group-name", [shared_name(ssh)]),
        WantedGroup::Name(name) => query.filter("group-name", [name.as_str()]),
        WantedGroup::Id(id) => query.filter("group-id", [id.as_str()]),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SubnetsAnswer {
    #[serde(rename = "subnetSet", default)]
    pub(super) subnets: Set<Subnet>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subnet {
    #[serde(rename = "subnetId")]
    pub(super) id: String,
    #[serde(rename = "vpcId")]
    pub(super) vpc: String,
    #[serde(rename = "availabilityZone")]
    pub(super) zone: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct VpcsAnswer {
    #[serde(rename = "vpcSet", default)]
    pub(super) vpcs: Set<Vpc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Vpc {
    #[serde(rename = "vpcId")]
    pub(super) id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GroupsAnswer {
    #[serde(rename = "securityGroupInfo", default)]
    pub(super) groups: Set<Group>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    #[serde(rename = "groupId")]
    pub(super) id: String,
    #[serde(rename = "vpcId", default)]
    pub(super) vpc: String,
    #[serde(rename = "ipPermissions", default)]
    ingress: Set<Permission>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Permission {
    ip_protocol: String,
    from_port: Option<i32>,
    to_port: Option<i32>,
    #[serde(default)]
    ip_ranges: Set<Range>,
    #[serde(default)]
    ipv6_ranges: Set<Range6>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    cidr_ip: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range6 {
    cidr_ipv6: String,
}

impl Group {
    /// The networks that may reach port 22.
    fn ssh(&self) -> BTreeSet<&str> {
        self.ingress
            .items
            .iter()
            .filter(|rule| {
                rule.ip_protocol == "-1"
                    || (rule.ip_protocol == "tcp"
                        && rule.from_port.is_none_or(|port| port <= 22)
                        && rule.to_port.is_none_or(|port| port >= 22))
            })
            .flat_map(|rule| {
                let v4 = rule
                    .ip_ranges
                    .items
                    .iter()
                    .map(|range| range.cidr_ip.as_str());
                v4.chain(
                    rule.ipv6_ranges
                        .items
                        .iter()
                        .map(|range| range.cidr_ipv6.as_str()),
                )
            })
            .collect()
    }
}

/// The group that an instance will be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupPlan {
    /// It is there, and as it should be.
    Ready(String),
    /// It is ours and there, but these networks can't come in yet.
    Incomplete { id: String, missing: Vec<Cidr> },
    /// It is ours and must be made.
    Absent { name: String, ssh: Vec<Cidr> },
}

impl GroupPlan {
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            GroupPlan::Ready(id) | GroupPlan::Incomplete { id, .. } => Some(id),
            GroupPlan::Absent { .. } => None,
        }
    }
}

/// Finds the wanted group among those of all VPCs; the second value is a warning. `Err` says what
/// is missing.
pub(super) fn choose_group(
    groups: &[Group],
    wanted: &WantedGroup,
    vpc: &str,
) -> Result<(GroupPlan, Option<String>), String> {
    let here = groups.iter().find(|group| group.vpc == vpc);
    match (wanted, here) {
        (WantedGroup::Shared { ssh }, Some(group)) => {
            let open = group.ssh();
            let missing: Vec<Cidr> = ssh
                .iter()
                .filter(|cidr| !open.contains(cidr.to_string().as_str()))
                .copied()
                .collect();
            let warning = (ssh.is_empty() && !group.ingress.items.is_empty()).then(|| {
                format!(
                    "the security group {} ({GROUP}) has inbound rules that this program didn't \
                     make; remove them to keep instances closed",
                    group.id
                )
            });
            let id = group.id.clone();
            let plan = match missing.is_empty() {
                true => GroupPlan::Ready(id),
                false => GroupPlan::Incomplete { id, missing },
            };
            Ok((plan, warning))
        }
        (WantedGroup::Shared { ssh }, None) => Ok((
            GroupPlan::Absent {
                name: shared_name(ssh),
                ssh: ssh.clone(),
            },
            None,
        )),
        (_, Some(group)) => Ok((GroupPlan::Ready(group.id.clone()), None)),
        (WantedGroup::Id(name) | WantedGroup::Name(name), None) => Err(match groups.first() {
            Some(group) => format!(
                "--cloud-aws-security-group: {name} belongs to {}, but the instance would be in \
                 {vpc}; --cloud-aws-subnet chooses a subnet of the group's VPC",
                group.vpc
            ),
            None => format!("--cloud-aws-security-group: there is no security group {name}"),
        }),
    }
}

/// Launches that open SSH to the same networks share a group; those that open nothing share
/// another. The name tells the networks apart.
fn shared_name(ssh: &[Cidr]) -> String {
    if ssh.is_empty() {
        return GROUP.to_owned();
    }
    let networks: BTreeSet<String> = ssh.iter().map(Cidr::to_string).collect();
    let networks: Vec<String> = networks.into_iter().collect();
    let hash = digest(&SHA256, networks.join(",").as_bytes());
    // Six bytes: 48 bits, eight characters.
    format!(
        "{GROUP}-ssh-{}",
        BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..6])
    )
}

/// Makes what the plan says is missing; the group's id. Several launches may do this at once:
/// whoever comes second finds what the first has made.
pub(super) async fn ensure_group(
    client: &Client,
    region: &str,
    vpc: &str,
    plan: &GroupPlan,
) -> Result<String> {
    match plan {
        GroupPlan::Ready(id) => Ok(id.clone()),
        GroupPlan::Incomplete { id, missing } => {
            let_in(client, region, id, missing).await?;
            Ok(id.clone())
        }
        GroupPlan::Absent { name, ssh } => {
            let id = create_group(client, region, vpc, name, ssh).await?;
            let_in(client, region, &id, ssh).await?;
            Ok(id)
        }
    }
}

/// Idempotent by the group's name, which is unique in its VPC.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html>
async fn create_group(
    client: &Client,
    region: &str,
    vpc: &str,
    name: &str,
    ssh: &[Cidr],
) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "groupId")]
        id: String,
    }
    let description = match ssh.is_empty() {
        true => "CI runners: nothing may come in",
        false => "CI runners: SSH may come in from the networks asked for",
    };
    let query = Query::ec2("CreateSecurityGroup")
        .set("GroupName", name)
        .set("GroupDescription", description)
        .set("VpcId", vpc)
        .set("TagSpecification.1.ResourceType", "security-group")
        .set("TagSpecification.1.Tag.1.Key", TAG_OWNER)
        .set("TagSpecification.1.Tag.1.Value", env!("CARGO_PKG_VERSION"));
    tracing::info!("making the security group {name} in {vpc}");
    let doing = || format!("making the security group {name} in {vpc} ({region})");
    match client.call::<Answer>(region, &query).await {
        Ok(answer) => Ok(answer.id),
        Err(failure) if failure.code() == Some("InvalidGroup.Duplicate") => {
            let query = Query::ec2("DescribeSecurityGroups")
                .filter("group-name", [name])
                .filter("vpc-id", [vpc]);
            // Another launch was faster, and its group may not be visible everywhere yet.
            let mut tries = super::settling();
            loop {
                let answer: Result<GroupsAnswer, Failure> = client.call(region, &query).await;
                match answer {
                    Ok(answer) => {
                        if let Some(group) = answer.groups.items.into_iter().next() {
                            return Ok(group.id);
                        }
                    }
                    Err(failure) => return Err(client.error(region, doing(), failure).await),
                }
                if !tries.wait().await {
                    return Err(Error::other(doing())
                        .caused_by("EC2 says that it is there, and doesn't show it"));
                }
            }
        }
        Err(failure) => Err(client.error(region, doing(), failure).await),
    }
}

/// Lets SSH in. Idempotent: a rule is its own key.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html>
async fn let_in(client: &Client, region: &str, group: &str, cidrs: &[Cidr]) -> Result<()> {
    if cidrs.is_empty() {
        return Ok(());
    }
    let mut query = Query::ec2("AuthorizeSecurityGroupIngress")
        .set("GroupId", group)
        .set("IpPermissions.1.IpProtocol", "tcp")
        .set("IpPermissions.1.FromPort", "22")
        .set("IpPermissions.1.ToPort", "22");
    let (v4, v6): (Vec<&Cidr>, Vec<&Cidr>) = cidrs.iter().partition(|cidr| cidr.address.is_ipv4());
    for (list, field, cidrs) in [("IpRanges", "CidrIp", v4), ("Ipv6Ranges", "CidrIpv6", v6)] {
        for (index, cidr) in cidrs.iter().enumerate() {
            let name = format!("IpPermissions.1.{list}.{}.{field}", index + 1);
            query = query.set(name, cidr.to_string());
        }
    }
    let mut tries = super::settling();
    loop {
        match client.call::<Nothing>(region, &query).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.code() == Some("InvalidPermission.Duplicate") => return Ok(()),
            Err(failure) if is_new_group(&failure) && tries.wait().await => {}
            Err(failure) => {
                let doing = format!("letting SSH into the security group {group} ({region})");
                return Err(client.error(region, doing, failure).await);
            }
        }
    }
}

/// Whether EC2 doesn't know a group yet that it has just made.
pub(super) fn is_new_group(failure: &Failure) -> bool {
    matches!(
        failure.code(),
        Some(
            "InvalidGroup.NotFound" | "InvalidGroupId.NotFound" | "InvalidSecurityGroupID.NotFound"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn groups() -> Vec<Group> {
        let answer: GroupsAnswer = quick_xml::de::from_str(
            r#"<DescribeSecurityGroupsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
                 <requestId>1d62eae0-acdd-481d-88c9-example</requestId>
                 <securityGroupInfo>
                   <item>
                     <ownerId>123456789012</ownerId>
                     <groupId>sg-9bf6ceff</groupId>
                     <groupName>SSHAccess</groupName>
                     <groupDescription>Security group for SSH access</groupDescription>
                     <vpcId>vpc-31896b55</vpcId>
                     <ipPermissions>
                       <item>
                         <ipProtocol>tcp</ipProtocol>
                         <fromPort>22</fromPort>
                         <toPort>22</toPort>
                         <groups/>
                         <ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges>
                         <ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges>
                         <prefixListIds/>
                       </item>
                     </ipPermissions>
                     <ipPermissionsEgress>
                       <item><ipProtocol>-1</ipProtocol><groups/>
                         <ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>
                     </ipPermissionsEgress>
                   </item>
                   <item>
                     <groupId>sg-2</groupId>
                     <vpcId>vpc-2</vpcId>
                     <ipPermissions/>
                   </item>
                 </securityGroupInfo>
               </DescribeSecurityGroupsResponse>"#,
        )
        .unwrap();
        answer.groups.items
    }

    #[test]
    fn the_shared_group_is_ready_incomplete_or_absent() {
        let groups = groups();
        let plan = |ssh: &[&str], vpc| {
            choose_group(&groups, &WantedGroup::Shared { ssh: cidrs(ssh) }, vpc).unwrap()
        };
        let (ready, warning) = plan(&["0.0.0.0/0", "::/0"], "vpc-31896b55");
        assert_eq!(
            (ready, warning),
            (GroupPlan::Ready("sg-9bf6ceff".into()), None)
        );
        let (incomplete, _) = plan(&["0.0.0.0/0", "10.0.0.0/8"], "vpc-31896b55");
        assert_eq!(
            incomplete,
            GroupPlan::Incomplete {
                id: "sg-9bf6ceff".into(),
                missing: cidrs(&["10.0.0.0/8"])
            }
        );
        let (absent, _) = plan(&[], "vpc-3");
        assert_eq!(
            absent,
            GroupPlan::Absent {
                name: GROUP.into(),
                ssh: Vec::new()
            }
        );
        assert_eq!(plan(&[], "vpc-2"), (GroupPlan::Ready("sg-2".into()), None));
        let (_, opened) = plan(&[], "vpc-31896b55");
        assert!(opened.unwrap().contains("inbound rules"));
    }

    #[test]
    fn a_group_of_the_users_must_be_in_the_vpc() {
        let groups = groups();
        let wanted = WantedGroup::Id("sg-2".into());
        let (ready, _) = choose_group(&groups[1..], &wanted, "vpc-2").unwrap();
        assert_eq!(ready, GroupPlan::Ready("sg-2".into()));
        let elsewhere = choose_group(&groups[1..], &wanted, "vpc-9").unwrap_err();
        assert!(elsewhere.contains("vpc-2") && elsewhere.contains("--cloud-aws-subnet"));
        let missing = choose_group(&[], &WantedGroup::Name("corp".into()), "vpc-9").unwrap_err();
        assert!(missing.contains("corp"), "{missing}");
    }

    #[test]
    fn the_groups_name_follows_the_networks_and_not_their_order() {
        assert_eq!(shared_name(&[]), "runner-launch");
        let one = shared_name(&cidrs(&["10.0.0.0/8", "::/0"]));
        let same = shared_name(&cidrs(&["::/0", "10.0.0.0/8", "::/0"]));
        let other = shared_name(&cidrs(&["10.0.0.0/9", "::/0"]));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert!(one.starts_with("runner-launch-ssh-"), "{one}");
    }

    #[test]
    fn published_networks_are_read() {
        let answer: SubnetsAnswer = quick_xml::de::from_str(
            r#"<DescribeSubnetsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
                 <requestId>7a62c49f</requestId>
                 <subnetSet>
                   <item>
                     <subnetId>subnet-9d4a7b6c</subnetId>
                     <state>available</state>
                     <vpcId>vpc-1a2b3c4d</vpcId>
                     <cidrBlock>10.0.1.0/24</cidrBlock>
                     <ipv6CidrBlockAssociationSet/>
                     <availableIpAddressCount>251</availableIpAddressCount>
                     <availabilityZone>us-east-1a</availabilityZone>
                     <defaultForAz>false</defaultForAz>
                     <mapPublicIpOnLaunch>false</mapPublicIpOnLaunch>
                     <tagSet/>
                   </item>
                 </subnetSet>
               </DescribeSubnetsResponse>"#,
        )
        .unwrap();
        assert_eq!(
            answer.subnets.items,
            [Subnet {
                id: "subnet-9d4a7b6c".into(),
                vpc: "vpc-1a2b3c4d".into(),
                zone: "us-east-1a".into(),
            }]
        );
        let answer: VpcsAnswer = quick_xml::de::from_str(
            "<DescribeVpcsResponse><vpcSet><item><vpcId>vpc-1a2b3c4d</vpcId><isDefault>true\
             </isDefault></item></vpcSet></DescribeVpcsResponse>",
        )
        .unwrap();
        assert_eq!(
            answer.vpcs.items,
            [Vpc {
                id: "vpc-1a2b3c4d".into()
            }]
        );
    }
}
