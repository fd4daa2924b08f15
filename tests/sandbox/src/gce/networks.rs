//! Networks and firewall rules.
//! <https://docs.cloud.google.com/vpc/docs/create-modify-vpc-networks>,
//! <https://docs.cloud.google.com/firewall/docs/using-firewalls>

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::catalogue::REGIONS;
use super::error::{ApiError, Result};
use super::operation::{self, Status};
use super::page::{self, List};
use super::state::{Firewall, Network, time};
use super::{Context, World, link, names};
use crate::calls::lock;
use crate::clock;
use crate::google::PROJECT;

fn network_path(name: &str) -> String {
    format!("projects/{PROJECT}/global/networks/{name}")
}

fn firewall_path(name: &str) -> String {
    format!("projects/{PROJECT}/global/firewalls/{name}")
}

fn network_json(world: &World, network: &Network) -> Value {
    let path = network_path(&network.name);
    let mut json = network.body.clone();
    json["kind"] = "compute#network".into();
    json["id"] = link::id(&path).into();
    json["creationTimestamp"] = time(network.created).into();
    json["selfLink"] = world.link(&path).into();
    json["selfLinkWithId"] = world.link(&network_path(&link::id(&path))).into();
    json["networkFirewallPolicyEnforcementOrder"] = "AFTER_CLASSIC_FIREWALL".into();
    if json["autoCreateSubnetworks"].is_null() {
        json["autoCreateSubnetworks"] = false.into();
    }
    if json["routingConfig"].is_null() {
        json["routingConfig"] = json!({"routingMode": "REGIONAL"});
    }
    json["subnetworks"] = network
        .subnetworks
        .iter()
        .map(|region| world.link(&subnetwork_path(region, &network.name)))
        .collect();
    json
}

/// The automatic subnetwork of a region has its network's name.
pub(super) fn subnetwork_path(region: &str, network: &str) -> String {
    format!("projects/{PROJECT}/regions/{region}/subnetworks/{network}")
}

pub(super) fn get_network(context: &Context<'_>) -> Result<Value> {
    let path = network_path(context.path("network"));
    context.require("compute.networks.get", &path)?;
    let state = lock(&context.world.state);
    state
        .network(context.path("network"))
        .map(|network| network_json(context.world, network))
        .ok_or_else(|| ApiError::not_found(&path))
}

pub(super) fn list_networks(context: &Context<'_>) -> Result<Value> {
    context.require("compute.networks.list", &format!("projects/{PROJECT}"))?;
    let list = List::read(context, "Network")?;
    let state = lock(&context.world.state);
    let items = state
        .networks
        .iter()
        .filter(|network| network.is_visible)
        .map(|network| network_json(context.world, network))
        .collect();
    Ok(list.answer(
        context,
        "compute#networkList",
        &format!("projects/{PROJECT}/global/networks"),
        items,
    ))
}

pub(super) fn insert_network(context: &Context<'_>) -> Result<Value> {
    let body = &context.body;
    let name = page::text(body, "name");
    let path = network_path(name);
    context.require("compute.networks.create", &path)?;
    names::check("resource.name", name)?;
    let Some(automatic) = page::flag(&body["autoCreateSubnetworks"]) else {
        return Err(ApiError::bad(
            "Legacy networks are not supported. Set autoCreateSubnetworks.",
        ));
    };
    let world = context.world;
    let mut state = lock(&world.state);
    if let Some(operation) = operation::earlier(context, &state)? {
        return Ok(operation);
    }
    // It has its name from the call on, though it can't be seen at once.
    if state.networks.iter().any(|network| network.name == name) {
        return Err(ApiError::exists(&path));
    }
    state.networks.push(Network {
        name: name.into(),
        body: body.clone(),
        created: clock::now(),
        subnetworks: Vec::new(),
        is_ready: false,
        is_visible: false,
    });
    let operation = operation::begin(context, &mut state, "insert", &path, &link::id(&path));
    tokio::spawn(make_network(
        world.clone(),
        name.to_owned(),
        operation.name.clone(),
        automatic,
    ));
    Ok(operation.json(world))
}

/// The automatic subnetworks come one after another while the operation runs.
async fn make_network(world: Arc<World>, name: String, operation: String, automatic: bool) {
    let change = |f: &dyn Fn(&mut Network)| {
        let mut state = lock(&world.state);
        if let Some(network) = state.networks.iter_mut().find(|n| n.name == name) {
            f(network);
        }
    };
    tokio::time::sleep(world.config.visibility_delay).await;
    change(&|network| network.is_visible = true);
    world.advance(&operation, Status::Running, 0);
    let regions: &[super::catalogue::Region] = if automatic { REGIONS } else { &[] };
    let step = world.config.network_delay / u32::try_from(REGIONS.len()).unwrap_or(1);
    for region in regions {
        tokio::time::sleep(step).await;
        change(&|network| network.subnetworks.push(region.name));
    }
    change(&|network| network.is_ready = true);
    world.advance(&operation, Status::Done, 100);
}

fn firewall_json(world: &World, firewall: &Firewall) -> Value {
    let path = firewall_path(&firewall.name);
    let mut json = firewall.body.clone();
    json["kind"] = "compute#firewall".into();
    json["id"] = link::id(&path).into();
    json["creationTimestamp"] = time(firewall.created).into();
    json["selfLink"] = world.link(&path).into();
    json["network"] = world.link(&network_path(&firewall.network)).into();
    for (name, default) in [
        ("direction", json!("INGRESS")),
        ("priority", json!(1000)),
        ("disabled", json!(false)),
        ("logConfig", json!({"enable": false})),
    ] {
        if json[name].is_null() {
            json[name] = default;
        }
    }
    json
}

pub(super) fn get_firewall(context: &Context<'_>) -> Result<Value> {
    let path = firewall_path(context.path("firewall"));
    context.require("compute.firewalls.get", &path)?;
    let state = lock(&context.world.state);
    state
        .firewalls
        .iter()
        .find(|firewall| firewall.is_visible && firewall.name == context.path("firewall"))
        .map(|firewall| firewall_json(context.world, firewall))
        .ok_or_else(|| ApiError::not_found(&path))
}

pub(super) fn list_firewalls(context: &Context<'_>) -> Result<Value> {
    context.require("compute.firewalls.list", &format!("projects/{PROJECT}"))?;
    let list = List::read(context, "Firewall")?;
    let state = lock(&context.world.state);
    let items = state
        .firewalls
        .iter()
        .filter(|firewall| firewall.is_visible)
        .map(|firewall| firewall_json(context.world, firewall))
        .collect();
    Ok(list.answer(
        context,
        "compute#firewallList",
        &format!("projects/{PROJECT}/global/firewalls"),
        items,
    ))
}

pub(super) fn insert_firewall(context: &Context<'_>) -> Result<Value> {
    let body = &context.body;
    let name = page::text(body, "name");
    let path = firewall_path(name);
    context.require("compute.firewalls.create", &path)?;
    names::check("resource.name", name)?;
    let network = match body["network"].as_str() {
        Some(text) => network_name("resource.network", text)?,
        None => "default",
    };
    context.require("compute.networks.updatePolicy", &network_path(network))?;
    check_rule(body)?;
    let world = context.world;
    let mut state = lock(&world.state);
    if let Some(operation) = operation::earlier(context, &state)? {
        return Ok(operation);
    }
    usable_network(&state, "resource.network", network)?;
    if state.firewalls.iter().any(|firewall| firewall.name == name) {
        return Err(ApiError::exists(&path));
    }
    state.firewalls.push(Firewall {
        name: name.into(),
        network: network.into(),
        body: body.clone(),
        created: clock::now(),
        is_visible: false,
    });
    let operation = operation::begin(context, &mut state, "insert", &path, &link::id(&path));
    let (world, name, pending) = (world.clone(), name.to_owned(), operation.name.clone());
    tokio::spawn(async move {
        tokio::time::sleep(world.config.visibility_delay).await;
        world.advance(&pending, Status::Running, 0);
        tokio::time::sleep(world.config.network_delay / 4).await;
        for firewall in &mut lock(&world.state).firewalls {
            firewall.is_visible |= firewall.name == name;
        }
        world.advance(&pending, Status::Done, 100);
    });
    Ok(operation.json(context.world))
}

pub(super) fn delete_firewall(context: &Context<'_>) -> Result<Value> {
    let name = context.path("firewall");
    let path = firewall_path(name);
    context.require("compute.firewalls.delete", &path)?;
    let world = context.world;
    let mut state = lock(&world.state);
    if let Some(operation) = operation::earlier(context, &state)? {
        return Ok(operation);
    }
    let found = state
        .firewalls
        .iter()
        .find(|firewall| firewall.is_visible && firewall.name == name);
    let network = found
        .map(|firewall| firewall.network.clone())
        .ok_or_else(|| ApiError::not_found(&path))?;
    context.require("compute.networks.updatePolicy", &network_path(&network))?;
    state.firewalls.retain(|firewall| firewall.name != name);
    let operation = operation::begin(context, &mut state, "delete", &path, &link::id(&path));
    let (world, pending) = (world.clone(), operation.name.clone());
    tokio::spawn(async move {
        tokio::time::sleep(world.config.network_delay / 4).await;
        world.advance(&pending, Status::Done, 100);
    });
    Ok(operation.json(context.world))
}

/// A network's name out of its URL.
pub(super) fn network_name<'a>(field: &str, text: &'a str) -> Result<&'a str> {
    match link::words(text, PROJECT).as_deref() {
        Some(["global", "networks", name]) => Ok(name),
        _ => Err(ApiError::invalid(field, text, "The URL is malformed.")),
    }
}

/// Refuses a network that isn't there, or isn't ready.
pub(super) fn usable_network<'a>(
    state: &'a super::state::State,
    field: &str,
    name: &str,
) -> Result<&'a Network> {
    let network = state.network(name).ok_or_else(|| {
        let url = format!(
            "https://www.googleapis.com/compute/v1/{}",
            network_path(name)
        );
        ApiError::invalid(
            field,
            &url,
            "The referenced network resource cannot be found.",
        )
    })?;
    if network.is_ready {
        Ok(network)
    } else {
        Err(ApiError::not_ready(&network_path(name)))
    }
}

/// Checks what a rule allows or denies, and to whom.
fn check_rule(body: &Value) -> Result<()> {
    let (allowed, denied) = (&body["allowed"], &body["denied"]);
    let (field, rules) = match (allowed.as_array(), denied.as_array()) {
        (Some(rules), None) => ("resource.allowed", rules),
        (None, Some(rules)) => ("resource.denied", rules),
        (None, None) => return Err(ApiError::missing("resource.allowed")),
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid(
                "resource.denied",
                &denied.to_string(),
                "A rule either allows or denies.",
            ));
        }
    };
    if rules.is_empty() {
        return Err(ApiError::missing(field));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let protocol = page::text(rule, "IPProtocol").to_lowercase();
        let known = ["all", "tcp", "udp", "icmp", "esp", "ah", "ipip", "sctp"];
        if !known.contains(&protocol.as_str()) && protocol.parse::<u8>().is_err() {
            let at = format!("{at}.IPProtocol");
            return Err(ApiError::invalid(&at, &protocol, "Unknown protocol."));
        }
        for port in rule["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().unwrap_or_default();
            let (from, to) = port.split_once('-').unwrap_or((port, port));
            let valid = match (from.parse::<u16>(), to.parse::<u16>()) {
                (Ok(from), Ok(to)) => from <= to,
                _ => false,
            };
            if !valid || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
                let at = format!("{at}.ports");
                return Err(ApiError::invalid(&at, port, "Invalid port or port range."));
            }
        }
    }
    for field in ["sourceRanges", "destinationRanges"] {
        let mut families = (false, false);
        for (index, range) in body[field].as_array().into_iter().flatten().enumerate() {
            let range = range.as_str().unwrap_or_default();
            let at = format!("resource.{field}[{index}]");
            match names::range(range) {
                Some(IpAddr::V4(_)) => families.0 = true,
                Some(IpAddr::V6(_)) => families.1 = true,
                None => {
                    let why = "Must be a valid IPV4 or IPV6 address range.";
                    return Err(ApiError::invalid(&at, range, why));
                }
            }
        }
        if families == (true, true) {
            return Err(ApiError::invalid(
                &format!("resource.{field}"),
                "",
                "A rule can't have both IPv4 and IPv6 ranges.",
            ));
        }
    }
    for field in ["sourceTags", "targetTags"] {
        for (index, tag) in body[field].as_array().into_iter().flatten().enumerate() {
            let at = format!("resource.{field}[{index}]");
            names::check(&at, tag.as_str().unwrap_or_default())?;
        }
    }
    Ok(())
}
