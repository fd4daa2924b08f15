//! The look: reads only, and nothing waits for anything but for what it must know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Deserialize;

use super::asked::Asked;
use super::client::{Call, Client, Failure};
use super::images::{self, Found, ImageName};
use super::instances;
use super::network::{self, Network};
use super::refusal::Meaning;
use super::sizes::{self, Machine};
use crate::cloud::{Arch, InstanceRef};
use crate::error::Result;

/// How long an instance must have been stopped before it counts as left over: one that has just
/// stopped may be about to be deleted by whom it belongs to.
const LEFT_OVER: Duration = Duration::from_secs(5 * 60);

/// What Google answered.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) images: BTreeMap<ImageName, Found>,
    /// By region; `None`: they may not be asked for.
    pub(super) zones: Option<BTreeMap<String, Vec<String>>>,
    /// By zone and type; what isn't there wasn't asked for.
    pub(super) types: BTreeMap<(String, String), TypeFound>,
    pub(super) network: Network,
    /// Our own instances that have been stopped for a while.
    pub(super) left_over: Vec<InstanceRef>,
    /// The service account that the launcher is.
    pub(super) account: Option<String>,
}

/// What came of asking for a type in a zone.
#[derive(Debug)]
pub(super) enum TypeFound {
    /// It is there; the architecture where that was told.
    Offered(Option<Arch>),
    Absent,
    /// It may not be asked for.
    Hidden,
    Failed(Failure),
}

impl Facts {
    /// The zones to try in a place, in order.
    pub(super) fn zones_of(&self, place: &super::places::Place) -> Vec<String> {
        let named = place.zone.iter().cloned();
        let Some(known) = &self.zones else {
            return named.collect();
        };
        let known = known.get(&place.region).map_or(&[][..], Vec::as_slice);
        let mut zones: Vec<String> = named.filter(|zone| known.contains(zone)).collect();
        if !place.only {
            let first = place.zone.as_ref();
            zones.extend(known.iter().filter(|zone| Some(*zone) != first).cloned());
        }
        zones
    }

    /// A machine's architecture in a zone.
    pub(super) fn arch(&self, zone: &str, machine: &Machine) -> Arch {
        let key = (zone.to_owned(), machine.machine_type.clone());
        match self.types.get(&key) {
            Some(TypeFound::Offered(Some(arch))) => *arch,
            _ => sizes::arch(&machine.machine_type),
        }
    }
}

/// Asks for everything that a launch depends on.
pub(super) async fn wave(client: &Client, asked: &Asked, now: Timestamp) -> Result<Facts> {
    let names: BTreeSet<ImageName> = asked
        .machines
        .iter()
        .flat_map(|machine| {
            let arch = sizes::arch(&machine.machine_type);
            asked.image.names(arch, machine.driver())
        })
        .collect();
    let network = async {
        network::look(client)
            .await
            .map_err(|failure| failure.during("looking for the network"))
    };
    let left_over = async {
        let before = now
            .checked_sub(jiff::SignedDuration::from_secs(
                LEFT_OVER.as_secs().cast_signed(),
            ))
            .unwrap_or(now);
        // A launch doesn't depend on it.
        let found = instances::left_over(client, before).await;
        Ok(found.unwrap_or_else(|failure| {
            let error = failure.during("looking for stopped instances");
            tracing::debug!("{}", error.chain());
            Vec::new()
        }))
    };
    let (found, (zones, types), network, left_over, account) = Box::pin(async {
        tokio::try_join!(
            async { Ok(find_images(client, names).await) },
            zones_and_types(client, asked),
            network,
            left_over,
            client.account(),
        )
    })
    .await?;
    let mut facts = Facts {
        images: found,
        zones,
        types,
        network,
        left_over,
        account,
    };
    // A series whose architecture its name doesn't tell to us needs another image than was thought.
    let unforeseen: BTreeSet<ImageName> = asked
        .places
        .iter()
        .flat_map(|place| facts.zones_of(place))
        .flat_map(|zone| {
            let facts = &facts;
            asked.machines.iter().flat_map(move |machine| {
                asked
                    .image
                    .names(facts.arch(&zone, machine), machine.driver())
            })
        })
        .filter(|name| !facts.images.contains_key(name))
        .collect();
    facts.images.extend(find_images(client, unforeseen).await);
    Ok(facts)
}

async fn find_images(client: &Client, names: BTreeSet<ImageName>) -> BTreeMap<ImageName, Found> {
    let found = names.into_iter().map(async |name| {
        let found = images::find(client, &name).await;
        (name, found)
    });
    join_all(found).await.into_iter().collect()
}

type Zones = Option<BTreeMap<String, Vec<String>>>;
type Types = BTreeMap<(String, String), TypeFound>;

/// Types in zones that the user named are asked for at once, in others as soon as they are known.
async fn zones_and_types(client: &Client, asked: &Asked) -> Result<(Zones, Types)> {
    let named: BTreeSet<String> = asked
        .places
        .iter()
        .filter_map(|place| place.zone.clone())
        .collect();
    let others = async {
        let zones = zones(client, &asked.regions()).await?;
        let others: BTreeSet<String> = zones
            .iter()
            .flat_map(BTreeMap::values)
            .flatten()
            .filter(|zone| !named.contains(*zone))
            .cloned()
            .collect();
        let types = find_types(client, asked, others).await;
        Ok((zones, types))
    };
    let (types, others) = tokio::join!(find_types(client, asked, named.clone()), others);
    let (zones, more) = others?;
    Ok((zones, types.into_iter().chain(more).collect()))
}

/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/machineTypes/get>
async fn find_types(client: &Client, asked: &Asked, zones: BTreeSet<String>) -> Types {
    // Types whose size is in their name aren't listed: whether a zone has them, it says when asked
    // for one.
    let listed: BTreeSet<&str> = asked
        .machines
        .iter()
        .map(|machine| machine.machine_type.as_str())
        .filter(|machine_type| !sizes::is_custom(machine_type))
        .collect();
    let pairs = zones.iter().flat_map(|zone| {
        listed
            .iter()
            .map(move |machine_type| (zone.clone(), (*machine_type).to_owned()))
    });
    let found = pairs.map(async |(zone, machine_type)| {
        let found = find_type(client, &zone, &machine_type).await;
        ((zone, machine_type), found)
    });
    join_all(found).await.into_iter().collect()
}

async fn find_type(client: &Client, zone: &str, machine_type: &str) -> TypeFound {
    #[derive(Deserialize)]
    struct Answer {
        architecture: Option<String>,
    }
    let call = Call::get(
        "machineTypes.get",
        format!("zones/{zone}/machineTypes/{machine_type}"),
    )
    .query("fields", "architecture");
    match client.call::<Answer>(&call).await {
        Ok(answer) => TypeFound::Offered(super::arch(answer.architecture.as_deref())),
        Err(failure) => match failure.meaning() {
            Some(Meaning::Missing | Meaning::ZoneCapacity) => TypeFound::Absent,
            Some(Meaning::Denied) => TypeFound::Hidden,
            _ => TypeFound::Failed(failure),
        },
    }
}

/// The zones of these regions that are up.
/// <https://docs.cloud.google.com/compute/docs/reference/rest/v1/zones/list>
async fn zones(client: &Client, regions: &BTreeSet<&str>) -> Result<Zones> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        #[serde(default)]
        items: Vec<Zone>,
        next_page_token: Option<String>,
    }
    #[derive(Deserialize)]
    struct Zone {
        name: String,
        status: Option<String>,
    }
    if regions.is_empty() {
        return Ok(Some(BTreeMap::new()));
    }
    let regions: Vec<&str> = regions.iter().copied().collect();
    // A regular expression, which must fit the whole name.
    let filter = match regions.as_slice() {
        [region] => format!("name eq \"{region}-.*\""),
        regions => format!("name eq \"({})-.*\"", regions.join("|")),
    };
    let all = Call::get("zones.list", "zones")
        .query("filter", filter)
        .query("fields", "items(name,status),nextPageToken");
    let mut zones: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut call = all.clone();
    loop {
        let page: Page = match client.call(&call).await {
            Ok(page) => page,
            Err(failure) if failure.meaning() == Some(Meaning::Denied) => return Ok(None),
            Err(failure) => return Err(failure.during("looking for the zones")),
        };
        for Zone { name, status } in page.items {
            let region = super::places::region_of(&name).to_owned();
            if status.as_deref() != Some("DOWN") && regions.contains(&region.as_str()) {
                zones.entry(region).or_default().push(name);
            }
        }
        match page.next_page_token.filter(|token| !token.is_empty()) {
            Some(token) => call = all.clone().query("pageToken", token),
            None => break,
        }
    }
    zones.values_mut().for_each(|zones| zones.sort());
    Ok(Some(zones))
}
