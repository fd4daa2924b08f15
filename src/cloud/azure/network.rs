//! The network of one instance: its security group and its virtual network, in its own group.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::client::{Api, Call, Client, Failure};
use super::operation;
use crate::spec::Cidr;

/// What the parts are called; a group has one of each.
pub(super) const SECURITY_GROUP: &str = "runner";
pub(super) const NETWORK: &str = "runner";
pub(super) const SUBNET: &str = "runner";

/// The addresses within: nobody outside sees them.
const ADDRESSES: &str = "10.0.0.0/24";

/// Both take a few seconds.
const WITHIN: Duration = Duration::from_secs(120);

/// <https://learn.microsoft.com/en-us/rest/api/virtualnetwork/network-security-groups/create-or-update>
#[derive(Debug, Serialize)]
struct SecurityGroup<'a> {
    location: &'a str,
    tags: &'a BTreeMap<String, String>,
    properties: SecurityGroupProperties,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SecurityGroupProperties {
    security_rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
struct Rule {
    name: String,
    properties: RuleProperties,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleProperties {
    protocol: &'static str,
    direction: &'static str,
    access: &'static str,
    priority: u32,
    source_address_prefixes: Vec<String>,
    source_port_range: &'static str,
    destination_address_prefix: &'static str,
    destination_port_range: &'static str,
}

/// <https://learn.microsoft.com/en-us/rest/api/virtualnetwork/virtual-networks/create-or-update>
#[derive(Debug, Serialize)]
struct VirtualNetwork<'a> {
    location: &'a str,
    tags: &'a BTreeMap<String, String>,
    properties: NetworkProperties,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NetworkProperties {
    address_space: AddressSpace,
    subnets: [Subnet; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AddressSpace {
    address_prefixes: [&'static str; 1],
}

#[derive(Debug, Serialize)]
struct Subnet {
    name: &'static str,
    properties: SubnetProperties,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubnetProperties {
    address_prefix: &'static str,
}

/// The rules beside Azure's own, which let nobody in but load balancers and the network itself. A
/// rule's networks are all of one version of the internet protocol.
/// <https://learn.microsoft.com/en-us/azure/virtual-network/network-security-groups-overview>
fn rules(ssh: &[Cidr]) -> Vec<Rule> {
    let (v4, v6): (Vec<&Cidr>, Vec<&Cidr>) = ssh.iter().partition(|cidr| cidr.address.is_ipv4());
    let versions = [("ssh", 1000, v4), ("ssh-ipv6", 1010, v6)];
    versions
        .into_iter()
        .filter(|(_, _, cidrs)| !cidrs.is_empty())
        .map(|(name, priority, cidrs)| Rule {
            name: name.to_owned(),
            properties: RuleProperties {
                protocol: "Tcp",
                direction: "Inbound",
                access: "Allow",
                priority,
                source_address_prefixes: cidrs.into_iter().map(Cidr::to_string).collect(),
                source_port_range: "*",
                destination_address_prefix: "*",
                destination_port_range: "22",
            },
        })
        .collect()
}

/// Makes both, side by side. Idempotent by their names.
pub(super) async fn make(
    client: &Client,
    group: &str,
    location: &str,
    ssh: &[Cidr],
    tags: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let path = |kind: &str, name: &str| {
        format!("resourceGroups/{group}/providers/Microsoft.Network/{kind}/{name}")
    };
    let security_group = SecurityGroup {
        location,
        tags,
        properties: SecurityGroupProperties {
            security_rules: rules(ssh),
        },
    };
    let network = VirtualNetwork {
        location,
        tags,
        properties: NetworkProperties {
            address_space: AddressSpace {
                address_prefixes: [ADDRESSES],
            },
            subnets: [Subnet {
                name: SUBNET,
                properties: SubnetProperties {
                    address_prefix: ADDRESSES,
                },
            }],
        },
    };
    let calls = [
        Call::put(
            Api::Network,
            "networkSecurityGroups",
            path("networkSecurityGroups", SECURITY_GROUP),
        )
        .body(&security_group)?,
        Call::put(
            Api::Network,
            "virtualNetworks",
            path("virtualNetworks", NETWORK),
        )
        .body(&network)?,
    ];
    let [first, second] = calls.map(async |call| {
        let operation = super::start_early(client, &call).await?;
        operation::wait(client, operation, WITHIN).await
    });
    tokio::try_join!(Box::pin(first), Box::pin(second))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_in_unless_asked_for() {
        assert!(rules(&[]).is_empty());
        let rules = rules(&Cidr::anywhere());
        let json = serde_json::to_value(&rules).unwrap();
        let expected = |name: &str, priority: u32, source: &str| {
            serde_json::json!({"name": name, "properties": {
                "protocol": "Tcp", "direction": "Inbound", "access": "Allow",
                "priority": priority, "sourceAddressPrefixes": [source],
                "sourcePortRange": "*", "destinationAddressPrefix": "*",
                "destinationPortRange": "22"}})
        };
        assert_eq!(
            json,
            serde_json::json!([
                expected("ssh", 1000, "0.0.0.0/0"),
                expected("ssh-ipv6", 1010, "::/0"),
            ])
        );
        assert_eq!(super::rules(&["10.0.0.0/8".parse().unwrap()]).len(), 1);
    }
}
