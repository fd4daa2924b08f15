//! RunInstances: choosing a place and making the instances.

use std::time::Instant;

use tokio::sync::mpsc;

use super::Context;
use super::error::{ApiError, Result};
use super::instances;
use super::lifecycle::{self, Order};
use super::network::{find_group, find_subnet, group_by_name};
use super::query::Node;
use super::run::{Wanted, check_network_ids};
use super::state::{
    Instance, Phase, Profile, Remembered, Spot, State, Subnet, Tags, Volume, new_id,
};
use super::xml::Xml;
use crate::calls::{Event, lock};
use crate::clock;

pub(super) fn run_instances(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let mut fingerprint = params.clone();
    fingerprint.text("ClientToken")?;
    // The date of the request and the like aren't parameters, so this is all that was asked.
    let wanted = Wanted::read(context, params)?;
    check_network_ids(&wanted)?;
    if !wanted.tags.is_empty() {
        context.require("ec2:CreateTags", &Wanted::resource(context.region.name))?;
    }
    let mut state = lock(&context.world.state);
    if let Some(token) = &wanted.client_token
        && let Some(earlier) = state.tokens.get(token)
        && earlier.region == context.region.name
    {
        if earlier.fingerprint != fingerprint {
            return Err(ApiError::client(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in \
                 previous request(s).",
            ));
        }
        return Ok(reservation(&state, &earlier.reservation));
    }
    let profile = wanted.find_profile(&state)?;
    if let Some(name) = &wanted.key_name {
        let key = (context.region.name.to_owned(), name.clone());
        if !state.key_pairs.contains_key(&key) {
            return Err(ApiError::client(
                "InvalidKeyPair.NotFound",
                format!("The key pair '{name}' does not exist"),
            ));
        }
    }
    let (subnet, groups) = place(context, &state, &wanted)?;
    let reservation_id = new_id("r-");
    for index in 0..wanted.count.1 {
        let (instance, volumes, orders) = build(
            context,
            &mut state,
            &wanted,
            &subnet,
            &groups,
            profile.clone(),
            &reservation_id,
            index,
        );
        context.world.wire.emit(Event::Instance {
            id: instance.id.clone(),
            state: Phase::Pending.name().into(),
            note: format!("{} in {}", instance.instance_type, instance.zone),
        });
        tokio::spawn(lifecycle::live(
            context.world.clone(),
            instance.id.clone(),
            orders,
        ));
        state.instances.push(instance);
        state.volumes.extend(volumes);
    }
    if let Some(token) = &wanted.client_token {
        state.tokens.insert(
            token.clone(),
            Remembered {
                region: context.region.name,
                fingerprint,
                reservation: reservation_id.clone(),
            },
        );
    }
    Ok(reservation(&state, &reservation_id))
}

/// The answer: a reservation with its instances as they are now.
fn reservation(state: &State, id: &str) -> Xml {
    let mut xml = Xml::piece();
    let instances: Vec<&Instance> = state
        .instances
        .iter()
        .filter(|instance| instance.reservation == id)
        .collect();
    instances::write_reservation(&mut xml, state, &instances);
    xml
}

/// Chooses the subnet, and with it the zone, and checks groups and capacity there.
fn place(
    context: &Context<'_>,
    state: &State,
    wanted: &Wanted<'_>,
) -> Result<(Subnet, Vec<String>)> {
    let region = context.region.name;
    let kind = wanted.instance_type;
    let candidates: Vec<&Subnet> = match &wanted.subnet {
        Some(id) => vec![find_subnet(state, region, id)?],
        None => state
            .subnets
            .iter()
            .filter(|subnet| subnet.region == region && subnet.is_default)
            .collect(),
    };
    if let (Some(zone), None) = (&wanted.zone, &wanted.subnet)
        && !context.region.zones().contains(zone)
    {
        return Err(ApiError::value(format!(
            "Invalid availability zone: [{zone}]"
        )));
    }
    let Some(first) = candidates.first() else {
        return Err(ApiError::client(
            "VPCIdNotSpecified",
            "No default VPC for this user. GroupName is only supported for EC2-Classic and default \
             VPC.",
        ));
    };
    let groups = groups(state, region, &first.vpc, wanted)?;
    let in_zone: Vec<&Subnet> = candidates
        .into_iter()
        .filter(|subnet| wanted.zone.as_ref().is_none_or(|zone| *zone == subnet.zone))
        .collect();
    if in_zone.is_empty() {
        return Err(ApiError::value(
            "The subnet's availability zone differs from the requested one",
        ));
    }
    if !kind.is_offered_in_region(context.region) {
        return Err(ApiError::client(
            "Unsupported",
            "The requested configuration is currently not supported. Please check the \
             documentation for supported configurations.",
        ));
    }
    let mut refusal = None;
    for subnet in in_zone {
        let zone = &subnet.zone;
        if !kind.is_offered(zone) {
            refusal.get_or_insert_with(|| not_in_zone(context, wanted, zone));
            continue;
        }
        let spot = wanted.market.is_some();
        let shortage = state
            .shortages
            .iter()
            .find(|shortage| shortage.hits(zone, kind.name, spot));
        match shortage {
            // With no zone asked for, the last word is about capacity, not about offerings.
            Some(shortage) => {
                refusal = Some(ApiError::capacity(&shortage.code, kind.name, zone, spot));
            }
            None => return Ok((subnet.clone(), groups)),
        }
    }
    Err(refusal.unwrap_or_else(|| ApiError::capacity("Unsupported", kind.name, region, false)))
}

fn not_in_zone(context: &Context<'_>, wanted: &Wanted<'_>, zone: &str) -> ApiError {
    let others: Vec<String> = context
        .region
        .zones()
        .into_iter()
        .filter(|zone| wanted.instance_type.is_offered(zone))
        .collect();
    ApiError::client(
        "Unsupported",
        format!(
            "Your requested instance type ({}) is not supported in your requested Availability Zone \
             ({zone}). Please retry your request by not specifying an Availability Zone or choosing \
             {}.",
            wanted.instance_type.name,
            others.join(", ")
        ),
    )
}

/// The groups' ids: as asked for, or the network's default one.
fn groups(state: &State, region: &str, vpc: &str, wanted: &Wanted<'_>) -> Result<Vec<String>> {
    let mut groups = Vec::new();
    for id in &wanted.groups {
        let group = find_group(state, region, id)?;
        if group.vpc != vpc {
            return Err(ApiError::client(
                "InvalidParameter",
                format!(
                    "Security group {id} and subnet {} belong to different networks.",
                    wanted.subnet.as_deref().unwrap_or("of the default VPC")
                ),
            ));
        }
        groups.push(group.id.clone());
    }
    for name in &wanted.group_names {
        groups.push(group_by_name(state, region, vpc, name)?.id.clone());
    }
    if groups.is_empty() {
        groups.push(group_by_name(state, region, vpc, "default")?.id.clone());
    }
    Ok(groups)
}

/// Makes the records of one instance.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a different thing that was decided"
)]
fn build(
    context: &Context<'_>,
    state: &mut State,
    wanted: &Wanted<'_>,
    subnet: &Subnet,
    groups: &[String],
    profile: Option<Profile>,
    reservation: &str,
    index: u32,
) -> (Instance, Vec<Volume>, mpsc::UnboundedReceiver<Order>) {
    let id = new_id("i-");
    let tags = |kind: &str| -> Tags { wanted.tags.get(kind).cloned().unwrap_or_default() };
    let volumes = wanted
        .disks
        .iter()
        .map(|disk| Volume {
            id: new_id("vol-"),
            instance: id.clone(),
            device: disk.device.clone(),
            size_gb: disk.size_gb,
            kind: disk.kind.clone(),
            encrypted: disk.encrypted,
            delete_on_termination: disk.delete_on_termination,
            tags: tags("volume"),
            exists: true,
        })
        .collect();
    let host = next_host(state, &subnet.id);
    let network = subnet
        .cidr
        .rsplit_once('.')
        .map_or("10.0.0", |(net, _)| net);
    let public = wanted.public_address.unwrap_or(subnet.public_addresses);
    let (orders, receiver) = mpsc::unbounded_channel();
    let instance = Instance {
        reservation: reservation.into(),
        index,
        region: context.region,
        zone: subnet.zone.clone(),
        subnet: subnet.id.clone(),
        vpc: subnet.vpc.clone(),
        groups: groups.to_vec(),
        interface: new_id("eni-"),
        interface_tags: tags("network-interface"),
        private_ip: format!("{network}.{host}"),
        // The range that is set apart for documentation.
        public_ip: public.then(|| format!("203.0.113.{}", 1 + state.instances.len() % 254)),
        image: wanted.image.id.clone(),
        instance_type: wanted.instance_type.name.into(),
        launched: clock::now(),
        visible_at: Instant::now() + context.world.config.visibility_delay,
        phase: Phase::Pending,
        reason: None,
        ended: None,
        tags: tags("instance"),
        spot: wanted.market.as_ref().map(|market| Spot {
            request: format!(
                "sir-{}",
                clock::random_of(b"abcdefghijkmnpqrstvwxyz0123456789", 8)
            ),
            max_price: market.max_price.clone(),
        }),
        user_data: wanted.user_data.clone(),
        profile,
        metadata: wanted.metadata.clone(),
        shutdown_behavior: wanted.shutdown_behavior.clone(),
        client_token: wanted.client_token.clone(),
        interruption: None,
        rebalance: None,
        orders,
        machine: None,
        id,
    };
    (instance, volumes, receiver)
}

fn next_host(state: &mut State, subnet: &str) -> u8 {
    state
        .subnets
        .iter_mut()
        .find(|candidate| candidate.id == subnet)
        .map_or(10, |subnet| {
            subnet.last_host = subnet.last_host.checked_add(1).unwrap_or(10);
            subnet.last_host
        })
}
