//! From what was asked and what the look found: the ways to try, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::asked::Asked;
use super::client::Client;
use super::images::{self, Image};
use super::look::Facts;
use super::network::{GroupPlan, Subnet, choose_group};
use super::sizes::{self, Place};
use super::types::TypeInfo;
use crate::cloud::told;
use crate::cloud::{Candidate, Instance};
use crate::error::{Error, Kind, Result};

/// A candidate, and what only AWS needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// The device name of the image's root volume.
    pub(super) root_device: String,
    /// Whether to ask for a public address; `false` leaves that to the subnet.
    pub(super) public_ip: bool,
}

/// A region's network, chosen.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) vpc: String,
    pub(super) group: GroupPlan,
    /// One per zone, sorted by zone.
    subnets: Vec<Subnet>,
}

/// See [`crate::cloud::Plan`].
#[derive(Debug)]
pub(super) struct AwsPlan {
    pub(super) client: Arc<Client>,
    pub(super) asked: Asked,
    pub(super) candidates: Vec<Candidate>,
    /// As many as there are candidates.
    pub(super) ways: Vec<Way>,
    pub(super) networks: BTreeMap<String, Network>,
    pub(super) warnings: Vec<String>,
    /// What an order, by its id, has made.
    pub(super) made: Mutex<Option<(String, Instance)>>,
}

/// A type in a place, ready to be tried on any market.
struct Choice {
    type_info: TypeInfo,
    image: Image,
    place: Place,
    subnets: Vec<Subnet>,
}

impl AwsPlan {
    /// Fails only when nothing at all can be tried; what can't is a warning else.
    pub(super) fn new(
        client: Arc<Client>,
        asked: Asked,
        mut looked: BTreeMap<String, Result<Facts>>,
    ) -> Result<Self> {
        let mut problems: Vec<Error> = Vec::new();
        let mut warnings = asked.warnings.clone();
        let mut facts_by_region: BTreeMap<String, Facts> = BTreeMap::new();
        let mut networks = BTreeMap::new();
        for region in asked.regions() {
            let Some(looked) = looked.remove(&region) else {
                continue;
            };
            let settled = looked.and_then(|facts| {
                let network = network(&region, &facts, &asked, &mut warnings)?;
                Ok((facts, network))
            });
            match settled {
                Ok((facts, network)) => {
                    warn_of_refusals(&facts, &mut warnings);
                    facts_by_region.insert(region.clone(), facts);
                    networks.insert(region, network);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let mut choices = Vec::new();
        for place in &asked.places {
            let region = (
                facts_by_region.get(&place.region),
                networks.get(&place.region),
            );
            let (Some(facts), Some(network)) = region else {
                continue;
            };
            for name in &asked.types {
                match choose(name, place, facts, network, &asked, &mut warnings) {
                    Ok(choice) => choices.push(choice),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        if choices.is_empty() {
            return Err(told::nothing_fits(problems));
        }
        for problem in problems {
            warnings.push(format!("left out: {}", problem.chain()));
        }
        let (candidates, ways) = candidates(&asked, &choices, &networks);
        Ok(Self {
            client,
            asked,
            candidates,
            ways,
            networks,
            warnings,
            made: Mutex::new(None),
        })
    }
}

fn warn_of_refusals(facts: &Facts, warnings: &mut Vec<String>) {
    for (missing, action, instead) in [
        (
            facts.types.is_none(),
            "DescribeInstanceTypes",
            "the architecture follows the type's name",
        ),
        (
            facts.offerings.is_none(),
            "DescribeInstanceTypeOfferings",
            "every zone is tried",
        ),
    ] {
        let warning = format!("ec2:{action} isn't allowed: {instead}");
        // Permissions rarely differ by region: once is enough.
        if missing && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

fn network(
    region: &str,
    facts: &Facts,
    asked: &Asked,
    warnings: &mut Vec<String>,
) -> Result<Network> {
    let vpc = match (&asked.subnet, &facts.vpc) {
        (Some(_), _) => facts.subnets.first().map(|subnet| subnet.vpc.clone()),
        (None, vpc) => vpc.clone(),
    };
    let vpc = vpc.ok_or_else(|| match &asked.subnet {
        Some(subnet) => Error::usage(format!(
            "--cloud-aws-subnet: there is no {subnet} in {region}"
        )),
        None => Error::usage(format!("{region} has no default VPC")).hint(
            "name a subnet with --cloud-aws-subnet, or make a default VPC: aws ec2 \
             create-default-vpc",
        ),
    })?;
    let mut subnets: Vec<Subnet> = facts
        .subnets
        .iter()
        .filter(|subnet| subnet.vpc == vpc)
        .cloned()
        .collect();
    subnets.sort_by(|a, b| (&a.zone, &a.id).cmp(&(&b.zone, &b.id)));
    subnets.dedup_by(|a, b| a.zone == b.zone);
    if subnets.is_empty() {
        return Err(Error::usage(format!(
            "the default VPC of {region}, {vpc}, has no default subnet"
        ))
        .hint("name a subnet with --cloud-aws-subnet"));
    }
    let (group, warning) = choose_group(&facts.groups, &asked.group, &vpc)
        .map_err(|problem| Error::usage(format!("{problem} in {region}")))?;
    warnings.extend(warning);
    Ok(Network {
        vpc,
        group,
        subnets,
    })
}

fn choose(
    name: &str,
    place: &Place,
    facts: &Facts,
    network: &Network,
    asked: &Asked,
    warnings: &mut Vec<String>,
) -> Result<Choice> {
    let region = &place.region;
    let described = facts
        .types
        .as_ref()
        .map(|types| types.iter().find(|info| info.name == name));
    let type_info = match described {
        Some(Some(info)) => info.clone(),
        Some(None) => return Err(not_offered(name, region)),
        None => TypeInfo::guess(name),
    };
    let mut subnets = network.subnets.clone();
    if let Some(zone) = &place.zone {
        subnets.retain(|subnet| subnet.zone == *zone);
        if subnets.is_empty() {
            return Err(Error::usage(match &asked.subnet {
                Some(subnet) => format!("--cloud-aws-subnet: {subnet} isn't in {zone}"),
                None => format!("--cloud-region: the default VPC has no subnet in {zone}"),
            })
            .hint("choose another zone, or name a subnet of it with --cloud-aws-subnet"));
        }
    }
    if let Some(offerings) = &facts.offerings {
        let offered: Vec<Subnet> = subnets
            .into_iter()
            .filter(|subnet| offerings.contains(&(name.to_owned(), subnet.zone.clone())))
            .collect();
        if offered.is_empty() {
            let place = place
                .zone
                .as_ref()
                .or(asked.subnet.as_ref())
                .unwrap_or(region);
            return Err(not_offered(name, place));
        }
        subnets = offered;
    }
    let (image, warning) = images::choose(
        &facts.images,
        &asked.image,
        type_info.arch,
        type_info.driver,
    )
    .map_err(|problem| {
        Error::usage(format!("{problem} in {region}, which {name} needs")).hint(
            "--cloud-image takes an id, the name of an image of yours, Amazon's, Canonical's \
                     or Debian's, or OWNER:NAME for anybody's",
        )
    })?;
    if let Some(warning) = warning {
        warnings.push(format!("{name} in {region}: {warning}"));
    }
    if asked.disk_given && asked.disk_gb < image.root_gb {
        let note = format!(
            "--cloud-hdd-size: the image {} needs {} GB, so the disk gets them",
            image.id, image.root_gb
        );
        if !warnings.contains(&note) {
            warnings.push(note);
        }
    }
    Ok(Choice {
        type_info,
        image: image.clone(),
        place: place.clone(),
        subnets,
    })
}

/// A retired type is the cloud's refusal; any other is a slip of the user's.
fn not_offered(name: &str, place: &str) -> Error {
    let kind = match sizes::successor(name) {
        Some(_) => Kind::Capacity,
        None => Kind::Usage,
    };
    let error = Error::new(kind, format!("EC2 doesn't offer {name} in {place}"));
    match sizes::successor(name) {
        Some(hint) => error.hint(hint),
        None => error.hint("check --cloud-type, or choose another --cloud-region or zone"),
    }
}

/// Spot before on demand; within a market places, then types, then zones, each as the user
/// ordered them.
fn candidates(
    asked: &Asked,
    choices: &[Choice],
    networks: &BTreeMap<String, Network>,
) -> (Vec<Candidate>, Vec<Way>) {
    let markets: &[bool] = match &asked.spot {
        None => &[false],
        Some(spot) if spot.fallback => &[true, false],
        Some(_) => &[true],
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut ways = Vec::new();
    for &spot in markets {
        for choice in choices {
            for subnet in &choice.subnets {
                let known = candidates.iter().any(|known| {
                    known.zone.as_ref() == Some(&subnet.zone)
                        && known.instance_type == choice.type_info.name
                        && known.spot == spot
                });
                if known {
                    continue;
                }
                let group = networks
                    .get(&choice.place.region)
                    .and_then(|network| network.group.id());
                candidates.push(Candidate {
                    region: choice.place.region.clone(),
                    zone: Some(subnet.zone.clone()),
                    instance_type: choice.type_info.name.clone(),
                    arch: choice.type_info.arch,
                    image: choice.image.id.clone(),
                    image_name: choice.image.name.clone(),
                    disk_gb: asked.disk_gb.max(choice.image.root_gb),
                    spot,
                    network: Some(subnet.id.clone()),
                    security_group: group.map(str::to_owned),
                });
                ways.push(Way {
                    root_device: choice.image.root_device.clone(),
                    public_ip: asked.subnet.is_none(),
                });
            }
        }
    }
    (candidates, ways)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
