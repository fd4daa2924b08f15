//! Where instances are reached from and what they may reach: one network, and a firewall rule where
//! SSH is wanted.

use std::collections::BTreeSet;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::client::{Call, Client, Failure};
use super::operation::{self, Operation};
use super::refusal::Meaning;
use crate::error::{Error, Result};
use crate::spec::Cidr;

/// The network's name, and what the names of its firewall rules begin with.
pub(super) const NETWORK: &str = "runner-launch";

/// How long a network may take to be made, by whomever. Its subnets come one by one.
const MAKING: Duration = Duration::from_secs(120);
/// Between looks at a network that somebody else is making.
const PAUSE: Duration = Duration::from_secs(2);

/// What is known of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Network {
    /// There is none.
    #[default]
    Absent,
    /// It is there, in these regions.
    Present(Existing),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Existing {
    #[serde(default)]
    auto_create_subnetworks: bool,
    /// The addresses of its subnets; each names its region.
    #[serde(default)]
    subnetworks: Vec<String>,
}

impl Existing {
    fn reaches(&self, region: &str) -> bool {
        self.subnetwork(region).is_some()
    }

    fn subnetwork(&self, region: &str) -> Option<&String> {
        let part = format!("/regions/{region}/");
        let mut subnets = self.subnetworks.iter();
        subnets.find(|subnet| subnet.contains(&part))
    }
}

impl Network {
    /// The subnet that an instance in this region must name: none where Google makes them.
    pub(super) fn subnetwork(&self, region: &str) -> Option<String> {
        match self {
            Network::Present(existing) if !existing.auto_create_subnetworks => {
                existing.subnetwork(region).cloned()
            }
            Network::Present(_) | Network::Absent => None,
        }
    }
}

/// Looks at the network.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/networks/get>
pub(super) async fn look(client: &Client) -> Result<Network, Failure> {
    let call = Call::get("networks.get", format!("global/networks/{NETWORK}"))
        .query("fields", "autoCreateSubnetworks,subnetworks");
    match client.call(&call).await {
        Ok(existing) => Ok(Network::Present(existing)),
        Err(failure) if failure.meaning() == Some(Meaning::Missing) => Ok(Network::Absent),
        Err(failure) => Err(failure),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NetworkBody {
    name: &'static str,
    description: &'static str,
    auto_create_subnetworks: bool,
    routing_config: Routing,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Routing {
    routing_mode: &'static str,
}

/// Makes sure that the network is there and reaches these regions. Several launches may do this at
/// once: whoever comes second waits for what the first one makes. `true`: this call has made it, and
/// it reaches everywhere.
pub(super) async fn ensure(
    client: &Client,
    known: &Network,
    regions: &BTreeSet<&str>,
    launch_id: &str,
) -> Result<bool> {
    match known {
        Network::Absent => {
            if make(client, launch_id).await? {
                return Ok(true);
            }
        }
        Network::Present(existing) => {
            let missing =
                |existing: &Existing| regions.iter().any(|region| !existing.reaches(region));
            if !missing(existing) {
                return Ok(false);
            }
            // Somebody's own: it says itself where it reaches to.
            if !existing.auto_create_subnetworks {
                return Err(no_subnet(regions, existing));
            }
        }
    }
    until_it_reaches(client, regions).await.map(|()| false)
}

fn no_subnet(regions: &BTreeSet<&str>, existing: &Existing) -> Error {
    let missing: Vec<&str> = regions
        .iter()
        .copied()
        .filter(|region| !existing.reaches(region))
        .collect();
    Error::usage(format!(
        "the network {NETWORK} has no subnet in {}",
        missing.join(", ")
    ))
    .hint(format!(
        "make one, or delete the network {NETWORK}: the next launch makes it with subnets everywhere"
    ))
}

/// Idempotent by its name. `false`: it exists, or is being made.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/networks/insert>
async fn make(client: &Client, launch_id: &str) -> Result<bool> {
    let doing = || format!("making the network {NETWORK}");
    tracing::info!("{}", doing());
    let body = NetworkBody {
        name: NETWORK,
        description: "CI runners, made by runner-launch",
        auto_create_subnetworks: true,
        routing_config: Routing {
            routing_mode: "REGIONAL",
        },
    };
    let call = Call::post("networks.insert", "global/networks")
        .request_id(&[launch_id, "network"])
        .body(&body)?;
    let made = async {
        let operation: Operation = client.call(&call).await?;
        operation::wait(client, operation, MAKING).await
    };
    match made.await {
        Ok(_) => Ok(true),
        Err(failure) if failure.meaning() == Some(Meaning::Exists) => Ok(false),
        Err(failure) => Err(failure.during(doing())),
    }
}

async fn until_it_reaches(client: &Client, regions: &BTreeSet<&str>) -> Result<()> {
    let started = Instant::now();
    loop {
        let found = look(client)
            .await
            .map_err(|failure| failure.during(format!("waiting for the network {NETWORK}")))?;
        if let Network::Present(existing) = found
            && regions.iter().all(|region| existing.reaches(region))
        {
            return Ok(());
        }
        if started.elapsed() > MAKING {
            // It may have what it needs without saying so: the instance's creation tells.
            tracing::warn!(
                "the network {NETWORK} isn't ready after {MAKING:?}; trying all the same"
            );
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FirewallBody<'a> {
    name: &'a str,
    description: &'static str,
    network: String,
    direction: &'static str,
    allowed: [Allowed; 1],
    source_ranges: Vec<String>,
    target_tags: [&'a str; 1],
}

#[derive(Debug, Serialize)]
struct Allowed {
    #[serde(rename = "IPProtocol")]
    protocol: &'static str,
    ports: [&'static str; 1],
}

/// The name of the rule that lets SSH in from these networks, and of the tag that puts an instance
/// behind it; `None`: nothing may come in. The name tells the networks apart.
pub(super) fn ssh_rule(ssh: &[Cidr]) -> Option<String> {
    let ranges: BTreeSet<String> = ssh.iter().map(Cidr::to_string).collect();
    let ranges: Vec<String> = ranges.into_iter().collect();
    match ranges.as_slice() {
        [] => None,
        [everywhere] if everywhere == "0.0.0.0/0" => Some(format!("{NETWORK}-ssh")),
        ranges => {
            let hash = digest(&SHA256, ranges.join(",").as_bytes());
            let hash: String = hash.as_ref()[..4]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Some(format!("{NETWORK}-ssh-{hash}"))
        }
    }
}

/// Makes sure that SSH may come in from these networks. Idempotent by the rule's name; that one of
/// its name exists is all that can be known without another permission.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/firewalls/insert>
pub(super) async fn let_in(client: &Client, ssh: &[Cidr], launch_id: &str) -> Result<()> {
    let Some(name) = ssh_rule(ssh) else {
        return Ok(());
    };
    let body = firewall(&name, ssh);
    let call = Call::post("firewalls.insert", "global/firewalls")
        .request_id(&[launch_id, "firewall"])
        .body(&body)?;
    let made = async {
        let operation: Operation = client.call(&call).await?;
        operation::wait(client, operation, MAKING).await
    };
    match made.await {
        Ok(_) => Ok(()),
        Err(failure) if failure.meaning() == Some(Meaning::Exists) => Ok(()),
        Err(failure) => Err(failure.during(format!("making the firewall rule {name}"))),
    }
}

fn firewall<'a>(name: &'a str, ssh: &[Cidr]) -> FirewallBody<'a> {
    FirewallBody {
        name,
        description: "CI runners of runner-launch: SSH may come in from the networks asked for",
        network: format!("global/networks/{NETWORK}"),
        direction: "INGRESS",
        allowed: [Allowed {
            protocol: "tcp",
            ports: ["22"],
        }],
        source_ranges: ssh.iter().map(Cidr::to_string).collect(),
        target_tags: [name],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_rules_name_tells_its_networks_apart() {
        let name = |texts: &[&str]| ssh_rule(&cidrs(texts));
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["0.0.0.0/0"]).unwrap(), "runner-launch-ssh");
        let one = name(&["192.0.2.0/24", "198.51.100.0/24"]).unwrap();
        assert_eq!(one, name(&["198.51.100.0/24", "192.0.2.0/24"]).unwrap());
        assert_ne!(one, name(&["192.0.2.0/24"]).unwrap());
        assert_eq!(one.len(), "runner-launch-ssh-01234567".len());
    }

    #[test]
    fn a_rule_opens_one_port_to_tagged_instances() {
        let body = serde_json::to_value(firewall("r", &cidrs(&["192.0.2.0/24"]))).unwrap();
        let expected = serde_json::json!({
            "name": "r",
            "description": "CI runners of runner-launch: SSH may come in from the networks asked for",
            "network": "global/networks/runner-launch",
            "direction": "INGRESS",
            "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
            "sourceRanges": ["192.0.2.0/24"],
            "targetTags": ["r"],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_network_says_where_it_reaches_to() {
        let existing: Existing = serde_json::from_str(
            r#"{"autoCreateSubnetworks":true,"subnetworks":[
                "https://www.googleapis.com/compute/v1/projects/p/regions/us-west1/subnetworks/runner-launch"]}"#,
        )
        .unwrap();
        assert!(existing.reaches("us-west1"));
        assert!(!existing.reaches("us-west"));
        assert!(!existing.reaches("us-east1"));
    }
}
