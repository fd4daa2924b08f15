//! `instances.insert`: beginning what is asked for.

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::error::{ApiError, Failure, Place, Quota, Result};
use super::insert::Wanted;
use super::lifecycle::{self, Order};
use super::operation;
use super::state::{Instance, Phase, State};
use super::{Context, catalogue, link, networks};
use crate::calls::lock;
use crate::clock;
use crate::google::{Facts, PROJECT};

/// What a shortage does to a request.
enum Fate {
    /// The call is refused.
    Refused(ApiError),
    /// The operation that the call begins fails.
    Fails(Failure),
}

pub(super) fn insert(context: &Context<'_>) -> Result<Value> {
    let wanted = Wanted::read(context)?;
    wanted.require(context)?;
    let world = context.world;
    let mut state = lock(&world.state);
    if let Some(operation) = operation::earlier(context, &state)? {
        return Ok(operation);
    }
    let place = format!("projects/{PROJECT}/zones/{}", wanted.zone);
    let path = format!("{place}/instances/{}", wanted.name);
    let key = (wanted.zone.clone(), wanted.name.clone());
    let disk_exists = state.instances.iter().any(|instance| {
        instance.zone == wanted.zone
            && instance.disk.exists
            && instance.disk.name == wanted.disk.name
    });
    if state.instance(&key.0, &key.1).is_some() || state.reserved.contains(&key) {
        return Err(ApiError::exists(&path));
    }
    if disk_exists {
        return Err(ApiError::exists(&format!(
            "{place}/disks/{}",
            wanted.disk.name
        )));
    }
    let field = "resource.networkInterfaces[0].network";
    let network = networks::usable_network(&state, field, &wanted.network)?;
    let region = catalogue::region_of(&wanted.zone);
    if !region.is_some_and(|region| network.subnetworks.contains(&region.name)) {
        let why = "The network has no subnetwork in the instance's region.";
        return Err(ApiError::invalid(field, &wanted.network, why));
    }
    let failure = match fate(context, &state, &wanted) {
        Some(Fate::Refused(error)) => return Err(error),
        Some(Fate::Fails(failure)) => Some(failure),
        None => None,
    };
    let id = clock::random_bytes(8)
        .iter()
        .fold(0_u64, |id, byte| id << 8 | u64::from(*byte))
        % 9_000_000_000_000_000_000
        + 1_000_000_000_000_000_000;
    let operation = operation::begin(context, &mut state, "insert", &path, &id.to_string());
    state.reserved.insert(key.clone());
    let answer = operation.json(world);
    match failure {
        Some(failure) => {
            let world = world.clone();
            tokio::spawn(lifecycle::fail(world, key, operation.name, failure));
        }
        None => {
            let (orders, receiver) = mpsc::unbounded_channel();
            let instance = build(context, &mut state, &wanted, id, orders);
            let world = world.clone();
            tokio::spawn(lifecycle::live(world, instance, operation.name, receiver));
        }
    }
    Ok(answer)
}

/// Begins an operation that fails for want of room, without a look at what is asked for.
pub(super) fn run_dry(context: &Context<'_>) -> Result<Value> {
    let zone = context.path("zone");
    let name = context.body["name"].as_str().unwrap_or_default();
    let path = format!("projects/{PROJECT}/zones/{zone}/instances/{name}");
    let machine_type = context.body["machineType"].as_str().unwrap_or_default();
    let machine_type = machine_type.rsplit('/').next().unwrap_or_default();
    let failure = Failure::exhausted("ZONE_RESOURCE_POOL_EXHAUSTED", PROJECT, zone, machine_type);
    let world = context.world;
    let mut state = lock(&world.state);
    let operation = operation::begin(context, &mut state, "insert", &path, &link::id(&path));
    let answer = operation.json(world);
    let key = (zone.to_owned(), name.to_owned());
    tokio::spawn(lifecycle::fail(world.clone(), key, operation.name, failure));
    Ok(answer)
}

/// Whether the account and the zone are to be had.
fn fate(context: &Context<'_>, state: &State, wanted: &Wanted) -> Option<Fate> {
    let identity = &context.world.identity;
    if let Some((email, _)) = &wanted.service_account {
        let is_known = identity.service_accounts().contains(email);
        if !is_known || !identity.allows(&context.principal, "iam.serviceAccounts.actAs", email) {
            return Some(Fate::Fails(Failure::act_as(
                email,
                &context.principal.email,
            )));
        }
    }
    let (zone, machine_type) = (&wanted.zone, &wanted.machine_type.name);
    let shortage = state
        .shortages
        .iter()
        .find(|shortage| shortage.hits(zone, machine_type, wanted.scheduling.spot))?;
    Some(shortage_fate(&shortage.code, zone, machine_type))
}

fn shortage_fate(code: &str, zone: &str, machine_type: &str) -> Fate {
    let words: Vec<&str> = code.split(':').collect();
    let quota = |metric: &str, scope: &str| Quota {
        metric: metric.into(),
        limit: "0.0".into(),
        place: match scope {
            "zone" => Some(Place::Zone(zone.into())),
            "region" => {
                let region = zone.rsplit_once('-').map_or(zone, |(region, _)| region);
                Some(Place::Region(region.into()))
            }
            _ => None,
        },
    };
    match words.as_slice() {
        ["QUOTA_EXCEEDED", metric, scope] => Fate::Fails(quota(metric, scope).failure()),
        ["quotaExceeded", metric, scope] => Fate::Refused(quota(metric, scope).error()),
        [code] if code.starts_with("ZONE_RESOURCE_POOL_EXHAUSTED") => {
            Fate::Fails(Failure::exhausted(code, PROJECT, zone, machine_type))
        }
        _ => Fate::Fails(Failure::other(code)),
    }
}

/// Makes an instance's record.
fn build(
    context: &Context<'_>,
    state: &mut State,
    wanted: &Wanted,
    id: u64,
    orders: mpsc::UnboundedSender<Order>,
) -> Instance {
    state.last_host = state.last_host.checked_add(1).unwrap_or(2);
    let region = catalogue::region_of(&wanted.zone);
    let network = region
        .and_then(|region| region.subnet.rsplit_once('.'))
        .map_or("10.128.0", |(network, _)| network);
    let internal_ip = format!("{network}.{}", state.last_host);
    // The range that is set apart for documentation.
    let external_ip = wanted
        .has_external_ip
        .then(|| format!("203.0.113.{}", state.last_host));
    let region = region.map_or("", |region| region.name);
    let earlier = state
        .instances
        .iter()
        .filter(|instance| instance.name == wanted.name)
        .count();
    let machine_id = match earlier {
        0 => wanted.name.clone(),
        count => format!("{}.{}", wanted.name, count + 1),
    };
    let facts = Facts {
        id,
        name: wanted.name.clone(),
        zone: wanted.zone.clone(),
        machine_type: wanted.machine_type.name.clone(),
        image: wanted.image.resource(),
        description: context.body["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        attributes: wanted.metadata.clone(),
        tags: wanted.tags.clone(),
        service_account: wanted.service_account.clone(),
        network: wanted.network.clone(),
        internal_ip: internal_ip.clone(),
        external_ip: external_ip.clone(),
        automatic_restart: wanted.scheduling.automatic_restart,
        terminates_on_maintenance: wanted.scheduling.on_host_maintenance == "TERMINATE",
        preemptible: wanted.scheduling.spot,
        preempted: false,
        maintenance: None,
    };
    Instance {
        id,
        name: wanted.name.clone(),
        zone: wanted.zone.clone(),
        machine_id,
        phase: Phase::Provisioning,
        body: context.body.clone(),
        request_id: context.parameter("requestId").map(Into::into),
        machine_type: wanted.machine_type.name.clone(),
        architecture: wanted.machine_type.architecture,
        accelerators: wanted
            .accelerators
            .iter()
            .cloned()
            .chain(
                wanted
                    .machine_type
                    .gpus
                    .filter(|_| wanted.accelerators.is_empty())
                    .map(|(name, count)| (name.to_owned(), count)),
            )
            .collect(),
        image: wanted.image.resource(),
        distribution: wanted.image.distribution,
        labels: wanted.labels.clone(),
        metadata: wanted.metadata.clone(),
        tags: wanted.tags.clone(),
        scheduling: wanted.scheduling.clone(),
        service_account: wanted.service_account.clone(),
        disk: wanted.disk.clone(),
        network: wanted.network.clone(),
        subnetwork: networks::subnetwork_path(region, &wanted.network),
        internal_ip,
        external_ip,
        network_tier: wanted.network_tier.clone(),
        created: clock::now(),
        started: None,
        stopped: None,
        facts: watch::Sender::new(facts),
        orders,
        machine: None,
    }
}
