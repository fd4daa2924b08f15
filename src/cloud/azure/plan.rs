//! From what was asked and what the look found: the ways to try, in order, and how an instance will
//! be given back.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::asked::Asked;
use super::body::Trust;
use super::client::Client;
use super::credentials::ClientSecret;
use super::give_back::{Own, Who};
use super::images::{Found, Image, Market, PurchasePlan, Reference, WantedImage};
use super::look::{Facts, Identity, Looked, Size};
use super::roles::USED_BY_JOBS;
use super::sizes::{self, Driver};
use crate::cloud::told;
use crate::cloud::{
    Arch, Candidate, ClosedMetadata, GiveBack, Instance, InstanceRef, MachineSide, NoticeSource,
    Setting,
};
use crate::error::{Error, Kind, Result};

/// What only Azure needs to know of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) image: Reference,
    pub(super) plan: Option<PurchasePlan>,
    pub(super) trust: Trust,
    pub(super) premium: bool,
    pub(super) accelerated: bool,
    pub(super) encryption: bool,
}

/// See [`crate::cloud::Plan`]. It may hold the launcher's secret, and isn't for printing.
pub(super) struct AzurePlan {
    pub(super) client: Arc<Client>,
    pub(super) asked: Asked,
    pub(super) candidates: Vec<Candidate>,
    /// As many as there are candidates.
    pub(super) ways: Vec<Way>,
    pub(super) warnings: Vec<String>,
    pub(super) machine: MachineSide,
    /// Whether instances get an identity of their own that may delete them.
    pub(super) own_identity: bool,
    /// Groups that earlier launches may have left.
    pub(super) left_over: Vec<InstanceRef>,
    /// What an order, by its id, has made.
    pub(super) made: Mutex<Option<(String, Instance)>>,
}

/// A size in a region, ready to be tried on any market.
struct Choice {
    region: String,
    size: Size,
    image: Image,
}

impl AzurePlan {
    /// Fails only when nothing at all can be tried, or an instance would never be given back; what
    /// can't be tried is a warning else.
    pub(super) fn new(client: Arc<Client>, asked: Asked, looked: Looked) -> Result<Self> {
        let mut warnings = asked.warnings.clone();
        let (who, warning) = who(&asked, &looked, client.client_secret()?)?;
        warnings.extend(warning);
        let own_identity = matches!(who, Who::System);
        let own = Own {
            arm: client.arm()?,
            who,
        };
        let machine = machine(own, !asked.identities.is_empty())?;
        let left_over = looked.left_over.clone();
        let (choices, problems) = choices(&asked, looked, &mut warnings);
        if choices.is_empty() {
            return Err(told::nothing_fits(problems));
        }
        for problem in problems {
            warnings.push(format!("left out: {}", problem.chain()));
        }
        let (candidates, ways) = candidates(&asked, &choices);
        if candidates.is_empty() {
            return Err(no_spot(&choices));
        }
        Ok(Self {
            client,
            asked,
            candidates,
            ways,
            warnings,
            machine,
            own_identity,
            left_over,
            made: Mutex::new(None),
        })
    }
}

fn machine(own: Own, jobs_have_identity: bool) -> Result<MachineSide> {
    Ok(MachineSide {
        setting: Setting::Machine,
        notices: Some(NoticeSource::Azure),
        farewell: own.farewell()?,
        give_back: GiveBack::Azure(Box::new(own)),
        closed: match jobs_have_identity {
            // The user's identity is there for the jobs; custom data isn't.
            true => ClosedMetadata::Paths(&[]),
            false => ClosedMetadata::All,
        },
    })
}

/// How an instance can delete itself without anything that jobs could misuse elsewhere.
const SAFE_WAY: &str = "allow the launcher Microsoft.Authorization/roleAssignments/write and \
                        Microsoft.Authorization/permissions/read, so that each instance gets an \
                        identity with rights on its own group alone";

/// Who deletes the machine, from the best way to the last; and what the user should know of it.
fn who(
    asked: &Asked,
    looked: &Looked,
    secret: Option<ClientSecret>,
) -> Result<(Who, Option<String>)> {
    if looked.may_assign == Some(true) {
        return Ok((Who::System, None));
    }
    let why = match looked.may_assign {
        Some(_) => "the launcher may not assign roles",
        None => "the launcher may not look whether it may assign roles",
    };
    let named = looked.identities.first();
    let known = looked.identities.iter().find_map(|known| {
        let Identity { id, client } = known;
        Some((id, client.as_ref()?))
    });
    if let Some((id, client)) = known {
        let warning = format!(
            "{why}, so the instance deletes itself as {id}, which must be allowed to delete \
             resource groups: {USED_BY_JOBS}. It is safer to {SAFE_WAY}"
        );
        let client = client.clone();
        return Ok((Who::Identity { client }, Some(warning)));
    }
    let ways_out = format!(
        "{SAFE_WAY}; or else name an identity that may delete resource groups with \
         --cloud-permission-set: {USED_BY_JOBS}"
    );
    if asked.keep_until_stopped {
        let warning = format!(
            "{why}: the instance can't delete itself. Once it has turned itself off it goes on \
             costing, until `runner-launch stop`, `runner-launch sweep` or the next launch"
        );
        return Ok((Who::Nobody, Some(warning)));
    }
    if let Some(secret) = secret {
        let warning = format!(
            "{why}, so the launcher's client secret goes to the instance, to delete it at its \
             end: root can read it there, and so can jobs that use sudo. To avoid that, {ways_out}"
        );
        return Ok((Who::from(secret), Some(warning)));
    }
    let error = Error::new(
        Kind::Denied,
        match named {
            Some(Identity { id, .. }) => {
                format!("the instance could never be deleted: {why}, or look at {id}")
            }
            None => format!("the instance could never be deleted: {why}"),
        },
    );
    Err(error.hint(ways_out).hint(
        "with --cloud-keep-until-stopped the instance turns itself off at its end, and goes on \
         costing until `runner-launch stop`, `runner-launch sweep` or the next launch",
    ))
}

/// Regions in their order, in each the sizes in theirs.
fn choices(
    asked: &Asked,
    mut looked: Looked,
    warnings: &mut Vec<String>,
) -> (Vec<Choice>, Vec<Error>) {
    let (mut choices, mut problems) = (Vec::new(), Vec::new());
    for region in &asked.regions {
        let facts = match looked.regions.remove(region) {
            Some(Ok(facts)) => facts,
            Some(Err(problem)) => {
                problems.push(problem);
                continue;
            }
            None => continue,
        };
        if facts.sizes.is_none() {
            let warning = "Microsoft.Compute/skus/read isn't allowed: the architecture follows \
                           the size's name, and nothing is asked for that it may not have: \
                           Trusted Launch, encryption at the host, Premium disks";
            add(warnings, warning.to_owned());
        }
        for name in &asked.types {
            match choose(name, region, &facts, asked, warnings) {
                Ok(mut choice) => {
                    choice.size.encryption &= looked.encryption;
                    choices.push(choice);
                }
                Err(problem) => problems.push(problem),
            }
        }
    }
    (choices, problems)
}

/// What is true of several regions or sizes is said once.
fn add(warnings: &mut Vec<String>, warning: String) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}

fn choose(
    name: &str,
    region: &str,
    facts: &Facts,
    asked: &Asked,
    warnings: &mut Vec<String>,
) -> Result<Choice> {
    let size = match &facts.sizes {
        Some(sizes) => sizes
            .iter()
            .find(|size| size.name.eq_ignore_ascii_case(name))
            .cloned()
            .ok_or_else(|| not_offered(name, region))?,
        None => Size::guess(name),
    };
    if !size.allowed {
        return Err(not_allowed(name, region));
    }
    let image = image(&size, region, facts, asked, warnings)?;
    if let Some(arch) = image.arch.filter(|arch| *arch != size.arch) {
        return Err(Error::usage(format!(
            "the image {} is for {}, and {name} has {}",
            image.reference,
            arch.uname(),
            size.arch.uname()
        ))
        .hint("choose another --cloud-image or --cloud-type"));
    }
    let fits = match image.second_generation {
        Some(true) => size.second_generation,
        Some(false) => size.first_generation,
        None => true,
    };
    if !fits {
        return Err(Error::usage(format!(
            "the image {} and {name} are of different Hyper-V generations",
            image.reference
        ))
        .hint("choose another --cloud-image or --cloud-type"));
    }
    if let (Some(given), Some(needed)) = (asked.disk_given, image.disk_gb)
        && given < needed
    {
        let warning = format!(
            "--cloud-hdd-size: the image {} needs {needed} GB, so the disk gets them",
            image.reference
        );
        add(warnings, warning);
    }
    Ok(Choice {
        region: region.to_owned(),
        size,
        image,
    })
}

fn image(
    size: &Size,
    region: &str,
    facts: &Facts,
    asked: &Asked,
    warnings: &mut Vec<String>,
) -> Result<Image> {
    let missing = |image: &dyn std::fmt::Display| {
        Error::usage(format!("--cloud-image: there is no {image} in {region}")).hint(
            "az vm image list --all --publisher PUBLISHER --offer OFFER shows the marketplace's",
        )
    };
    let (found, what) = match &asked.image {
        WantedImage::Id(id) => (facts.image.as_ref(), id.to_string()),
        WantedImage::Market(market) => (facts.images.get(market), market.to_string()),
        WantedImage::Default => return default_image(size, region, facts, warnings),
    };
    match found {
        Some(Found::Image(image)) => Ok(image.clone()),
        Some(Found::Unread(image)) => {
            let warning = format!(
                "the image {what} may not be looked at: its architecture is taken for granted"
            );
            add(warnings, warning);
            Ok(image.clone())
        }
        Some(Found::Missing) | None => Err(missing(&what)),
    }
}

fn default_image(
    size: &Size,
    region: &str,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<Image> {
    let driver = sizes::driver(&size.name);
    let market = Market::default(size.arch, driver, size.second_generation);
    let plain = Market::default(size.arch, Driver::None, size.second_generation);
    let without = match (size.arch, driver) {
        (_, Driver::None) | (Arch::X86_64, Driver::Cuda | Driver::Old) => None,
        (Arch::X86_64, Driver::Grid) => Some("needs NVIDIA's GRID driver"),
        (Arch::Aarch64, _) => Some("needs NVIDIA's drivers for Arm"),
    };
    if let Some(needs) = without {
        add(
            warnings,
            format!(
                "{} {needs}, which the default image lacks: choose one that has it with \
                 --cloud-image, or install it with --cloud-startup-script",
                size.name
            ),
        );
    }
    match facts.images.get(&market) {
        Some(Found::Image(image) | Found::Unread(image)) => Ok(image.clone()),
        // The name told something else than Azure does.
        None => Ok(market.known()),
        Some(Found::Missing) if market != plain => {
            add(
                warnings,
                format!(
                    "there is no {market} in {region}: the instance gets {plain}, without drivers \
                     for its GPU"
                ),
            );
            Ok(plain.known())
        }
        Some(Found::Missing) => Err(Error::usage(format!("there is no {market} in {region}"))
            .hint("choose another image with --cloud-image, or another --cloud-region")),
    }
}

/// A retired size is the cloud's refusal; any other is a slip of the user's.
fn not_offered(name: &str, region: &str) -> Error {
    let message = format!("Azure doesn't offer {name} in {region}");
    match sizes::successor(name) {
        Some(hint) => Error::new(Kind::Capacity, message).hint(hint),
        None => Error::usage(message)
            .hint("check --cloud-type, or choose another --cloud-region: az vm list-skus --size"),
    }
}

/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-sku-not-available>
fn not_allowed(name: &str, region: &str) -> Error {
    let error = Error::new(
        Kind::Capacity,
        format!("Azure doesn't offer {name} in {region} to this subscription"),
    );
    let error = match sizes::successor(name) {
        Some(hint) => error.hint(hint),
        None => error,
    };
    error.hint(
        "choose another --cloud-region or --cloud-type, or ask for access: \
         https://aka.ms/azureskunotavailable",
    )
}

fn no_spot(choices: &[Choice]) -> Error {
    let mut names: Vec<&str> = choices
        .iter()
        .map(|choice| choice.size.name.as_str())
        .collect();
    names.dedup();
    Error::new(
        Kind::Capacity,
        format!("Azure has no spot machines of {}", names.join(", ")),
    )
    .hint("choose another --cloud-type, or leave --cloud-spot out")
}

/// Spot before on demand; within a market regions, then sizes, each as the user ordered them.
fn candidates(asked: &Asked, choices: &[Choice]) -> (Vec<Candidate>, Vec<Way>) {
    let markets: &[bool] = match &asked.spot {
        None => &[false],
        Some(spot) if spot.fallback => &[true, false],
        Some(_) => &[true],
    };
    let mut candidates = Vec::new();
    let mut ways = Vec::new();
    for &spot in markets {
        for Choice {
            region,
            size,
            image,
        } in choices
        {
            if spot && !size.spot {
                continue;
            }
            candidates.push(Candidate {
                region: region.clone(),
                zone: None,
                instance_type: size.name.clone(),
                arch: size.arch,
                image: image.told(),
                image_name: image.name.clone(),
                disk_gb: asked.disk_gb(image),
                spot,
                network: None,
                security_group: None,
            });
            ways.push(Way {
                image: image.reference.clone(),
                plan: image.plan.clone(),
                trust: match (size.trusted && image.trusted, image.signed) {
                    (false, _) => Trust::No,
                    (true, true) => Trust::Full,
                    (true, false) => Trust::Unsigned,
                },
                premium: size.premium,
                accelerated: size.accelerated,
                encryption: size.encryption,
            });
        }
    }
    (candidates, ways)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
