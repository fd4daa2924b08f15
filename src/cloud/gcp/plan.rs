//! From what was asked and what the look found: the ways to try, in order.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::asked::Asked;
use super::client::{Client, Failure};
use super::images::{Found, Image};
use super::look::{Facts, TypeFound};
use super::network::{self, NETWORK, Network};
use super::places::Place;
use super::scopes::{self, Account};
use super::sizes::{Driver, Machine};
use crate::cloud::told;
use crate::cloud::{Arch, Candidate, Instance, InstanceRef};
use crate::error::{Error, Kind, Result};

/// A candidate, and what only Google needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) zone: String,
    pub(super) machine: Machine,
}

/// What the instance is to Google's other services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// What the user wants it to be.
    Users(Account),
    /// What the launcher is, for as much as deleting itself takes.
    Launchers(Account),
    /// Nobody.
    Nobody,
}

impl Identity {
    pub(super) fn account(&self) -> Option<&Account> {
        match self {
            Identity::Users(account) | Identity::Launchers(account) => Some(account),
            Identity::Nobody => None,
        }
    }

    /// Whether the instance can ask for its own end.
    pub(super) fn can_delete(&self) -> bool {
        self.account().is_some_and(Account::can_delete)
    }
}

/// See [`crate::cloud::Plan`].
#[derive(Debug)]
pub(super) struct GcpPlan {
    pub(super) client: Arc<Client>,
    /// Where the instance finds the API.
    pub(super) api: url::Url,
    pub(super) asked: Asked,
    pub(super) candidates: Vec<Candidate>,
    /// As many as there are candidates.
    pub(super) ways: Vec<Way>,
    pub(super) network: Network,
    pub(super) identity: Identity,
    /// Stopped instances of ours that nobody has deleted.
    pub(super) left_over: Vec<InstanceRef>,
    pub(super) warnings: Vec<String>,
    /// What an order, by its id, has made.
    pub(super) made: Mutex<Option<(String, Instance)>>,
}

/// A machine in a zone, ready to be tried on any market.
struct Choice {
    region: String,
    zone: String,
    machine: Machine,
    arch: Arch,
    image: Image,
}

impl GcpPlan {
    /// Fails only when nothing at all can be tried; what can't is a warning else.
    pub(super) fn new(client: Arc<Client>, asked: Asked, facts: Facts) -> Result<Self> {
        let api = client.api()?;
        let mut warnings = asked.warnings.clone();
        let mut problems = Vec::new();
        let mut choices = Vec::new();
        if facts.zones.is_none() {
            warnings.push(
                "compute.zones.list isn't allowed: only the zone that is named, or that the alias \
                 stands for, is tried"
                    .to_owned(),
            );
        }
        for place in &asked.places {
            let zones = facts.zones_of(place);
            if zones.is_empty() {
                problems.push(no_zones(place, &facts));
            }
            for machine in &asked.machines {
                let found = choose(machine, place, &zones, &facts, &asked, &mut warnings);
                match found {
                    Ok(found) => choices.extend(found),
                    Err(problem) if !zones.is_empty() => problems.push(problem),
                    Err(_) => {}
                }
            }
        }
        if choices.is_empty() {
            return Err(told::nothing_fits(problems));
        }
        for problem in problems {
            warnings.push(format!("left out: {}", problem.chain()));
        }
        let identity = identity(&asked, facts.account, &mut warnings);
        if !facts.left_over.is_empty() {
            warnings.push(format!(
                "deleting {} of earlier launches, stopped because they couldn't delete \
                 themselves: their account wants compute.instances.delete",
                match facts.left_over.as_slice() {
                    [one] => one.id.clone(),
                    several => format!("{} instances", several.len()),
                }
            ));
        }
        let (candidates, ways) = candidates(&asked, choices);
        Ok(Self {
            client,
            api,
            asked,
            candidates,
            ways,
            network: facts.network,
            identity,
            left_over: facts.left_over,
            warnings,
            made: Mutex::new(None),
        })
    }
}

fn no_zones(place: &Place, facts: &Facts) -> Error {
    let region = &place.region;
    match &facts.zones {
        Some(known) if known.contains_key(region) => {
            let zone = place.zone.as_deref().unwrap_or(region);
            Error::usage(format!(
                "--cloud-region: there is no zone {zone}, or it is down"
            ))
            .hint(format!(
                "{region} has the zones {}",
                known[region].join(", ")
            ))
        }
        Some(_) => Error::usage(format!("--cloud-region: there is no region {region}"))
            .hint("gcloud compute regions list shows the regions"),
        None => Error::new(Kind::Denied, format!("looking for the zones of {region}"))
            .caused_by("compute.zones.list isn't allowed")
            .hint(format!(
                "allow it, or name a zone: --cloud-region={region}-a"
            )),
    }
}

/// A machine's choices in a place, one per zone that has it.
fn choose(
    machine: &Machine,
    place: &Place,
    zones: &[String],
    facts: &Facts,
    asked: &Asked,
    warnings: &mut Vec<String>,
) -> Result<Vec<Choice>> {
    let mut choices = Vec::new();
    let mut problem = None;
    for zone in zones {
        let key = (zone.clone(), machine.machine_type.clone());
        match facts.types.get(&key) {
            Some(TypeFound::Absent) => continue,
            Some(TypeFound::Failed(failure)) => {
                let doing = format!("looking at the machine type {} in {zone}", key.1);
                problem = Some(told(failure, doing));
                continue;
            }
            Some(TypeFound::Hidden) => {
                let warning = "compute.machineTypes.get isn't allowed: the architecture follows \
                               the type's name, and every zone is tried";
                if !warnings.iter().any(|known| known == warning) {
                    warnings.push(warning.to_owned());
                }
            }
            Some(TypeFound::Offered(_)) | None => {}
        }
        let arch = facts.arch(zone, machine);
        match choose_image(machine, arch, facts, asked, warnings) {
            Ok(image) => choices.push(Choice {
                region: place.region.clone(),
                zone: zone.clone(),
                machine: machine.clone(),
                arch,
                image,
            }),
            Err(error) => problem = Some(error),
        }
    }
    match (choices.is_empty(), problem) {
        (false, _) => Ok(choices),
        (true, Some(problem)) => Err(problem),
        (true, None) => {
            let place = place.zone.as_ref().filter(|_| place.only);
            let place = place.or(zones.first()).map_or("", String::as_str);
            Err(not_offered(machine, place, zones.len()))
        }
    }
}

/// A failure that several choices share.
fn told(failure: &Failure, doing: String) -> Error {
    match failure {
        Failure::Refused(refusal) => refusal.clone().during(doing),
        Failure::Broken(error) => Error::new(error.kind(), doing).caused_by(error.chain()),
    }
}

/// A retired type is the cloud's refusal; any other is a slip of the user's.
fn not_offered(machine: &Machine, zone: &str, zones: usize) -> Error {
    let place = match zones {
        0 | 1 => zone.to_owned(),
        _ => format!("any zone of {}", super::places::region_of(zone)),
    };
    let kind = match machine.successor() {
        Some(_) => Kind::Capacity,
        None => Kind::Usage,
    };
    let error = Error::new(
        kind,
        format!("Google doesn't offer {} in {place}", machine.machine_type),
    );
    match machine.successor() {
        Some(hint) => error.hint(hint),
        None => error.hint("check --cloud-type, or choose another --cloud-region or zone"),
    }
}

fn choose_image(
    machine: &Machine,
    arch: Arch,
    facts: &Facts,
    asked: &Asked,
    warnings: &mut Vec<String>,
) -> Result<Image> {
    let mut problem = None;
    let mut warn = |warning: String| {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    };
    for name in asked.image.names(arch, machine.driver()) {
        let path = name.path();
        let image = match facts.images.get(&name) {
            Some(Found::Image(image)) => image.clone(),
            Some(Found::Hidden) => {
                warn(format!(
                    "the image {path} may not be looked at: it is taken as it is, on a disk of {} GB",
                    asked.disk_gb
                ));
                Image {
                    source: path,
                    name: None,
                    arch: None,
                    disk_gb: 0,
                }
            }
            Some(Found::Failed(failure)) => {
                problem = Some(told(failure, format!("looking for the image {path}")));
                continue;
            }
            Some(Found::Missing) | None => {
                problem = Some(Error::usage(format!("there is no image {path}")).hint(
                    "--cloud-image takes project/family, or an image's path such as \
                         projects/my-project/global/images/my-image",
                ));
                continue;
            }
        };
        if image.arch.is_some_and(|known| known != arch) {
            return Err(Error::usage(format!(
                "--cloud-image: the image {} isn't for {}, which {machine} is",
                image.source,
                arch.uname()
            )));
        }
        if machine.driver() != Driver::None && !name.has_driver() {
            warn(format!(
                "{machine}: no image with the NVIDIA driver was found, so Ubuntu's is taken, which \
                 has none; --cloud-image names another"
            ));
        }
        if asked.disk_given && asked.disk_gb < image.disk_gb {
            warn(format!(
                "--cloud-hdd-size: the image {} needs {} GB, so the disk gets them",
                image.name.as_ref().unwrap_or(&image.source),
                image.disk_gb
            ));
        }
        return Ok(image);
    }
    Err(problem.unwrap_or_else(|| Error::other("there is no image to choose from")))
}

/// Who the instance is to be.
fn identity(asked: &Asked, launchers: Option<String>, warnings: &mut Vec<String>) -> Identity {
    /// What becomes of an instance that can't delete itself.
    const STOPS: &str = "the instance can't delete itself: at its end it powers itself off, and \
                         the next launch, or runner-launch sweep, deletes it";
    match (&asked.account, launchers) {
        (Some(account), _) => {
            if !account.can_delete() {
                warnings.push(format!(
                    "--cloud-permission-set: without the scope compute-rw or cloud-platform {STOPS}"
                ));
            }
            Identity::Users(account.clone())
        }
        (None, Some(email)) => Identity::Launchers(Account {
            email,
            scopes: vec![scopes::COMPUTE.to_owned()],
        }),
        (None, None) => {
            warnings.push(format!(
                "these credentials are no service account's, so {STOPS}; --cloud-permission-set \
                 names a service account that may delete instances"
            ));
            Identity::Nobody
        }
    }
}

/// Spot before on demand; within a market places, then types, then zones, each as the user
/// ordered them.
fn candidates(asked: &Asked, choices: Vec<Choice>) -> (Vec<Candidate>, Vec<Way>) {
    let markets: &[bool] = match &asked.spot {
        None => &[false],
        Some(spot) if spot.fallback => &[true, false],
        Some(_) => &[true],
    };
    let mut candidates = Vec::new();
    let mut ways: Vec<Way> = Vec::new();
    for &spot in markets {
        let mut known: Vec<Way> = Vec::new();
        for choice in &choices {
            let way = Way {
                zone: choice.zone.clone(),
                machine: choice.machine.clone(),
            };
            if known.contains(&way) {
                continue;
            }
            candidates.push(Candidate {
                region: choice.region.clone(),
                zone: Some(choice.zone.clone()),
                instance_type: choice.machine.to_string(),
                arch: choice.arch,
                image: choice.image.source.clone(),
                image_name: choice.image.name.clone(),
                disk_gb: asked.disk_gb.max(choice.image.disk_gb),
                spot,
                network: Some(NETWORK.to_owned()),
                security_group: network::ssh_rule(&asked.ssh),
            });
            known.push(way);
        }
        ways.extend(known);
    }
    (candidates, ways)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
