//! DescribeInstances, TerminateInstances, GetConsoleOutput.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::accounts::ACCOUNT;
use super::catalogue;
use super::error::{ApiError, Result};
use super::lifecycle::Order;
use super::query::Node;
use super::state::{Instance, Phase, Reason, State};
use super::xml::Xml;
use super::{Context, check_id};
use crate::calls::lock;
use crate::clock;

/// What GetConsoleOutput gives at most.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html>
const CONSOLE_LIMIT: usize = 64 * 1024;

const FILTERS: &[&str] = &[
    "architecture",
    "availability-zone",
    "client-token",
    "image-id",
    "instance-id",
    "instance-lifecycle",
    "instance-state-code",
    "instance-state-name",
    "instance-type",
    "instance.group-id",
    "ip-address",
    "private-ip-address",
    "subnet-id",
    "vpc-id",
];

/// Finds instances by id; one that isn't visible yet is as unknown as one that never was.
fn find<'a>(context: &Context<'_>, state: &'a State, ids: &[String]) -> Result<Vec<&'a Instance>> {
    for id in ids {
        check_id(id, "i-", "InvalidInstanceID.Malformed")?;
    }
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for id in ids {
        let instance = state.instance(id).filter(|instance| {
            instance.region.name == context.region.name && instance.is_visible()
        });
        match instance {
            Some(instance) => found.push(instance),
            None => missing.push(id.as_str()),
        }
    }
    match missing.as_slice() {
        [] => Ok(found),
        [one] => Err(ApiError::client(
            "InvalidInstanceID.NotFound",
            format!("The instance ID '{one}' does not exist"),
        )),
        many => Err(ApiError::client(
            "InvalidInstanceID.NotFound",
            format!("The instance IDs '{}' do not exist", many.join(", ")),
        )),
    }
}

pub(super) fn describe_instances(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let ids = params.texts("InstanceId")?;
    let filters = params.filters(FILTERS)?;
    let page = params.page(5, 1000)?;
    params.finish()?;
    if page.is_given() && !ids.is_empty() {
        return Err(ApiError::combination(
            "The parameter instancesSet cannot be used with the parameter maxResults",
        ));
    }
    let state = lock(&context.world.state);
    let candidates = if ids.is_empty() {
        state
            .instances
            .iter()
            .filter(|instance| instance.region.name == context.region.name && instance.is_visible())
            .collect()
    } else {
        find(context, &state, &ids)?
    };
    let found: Vec<&Instance> = candidates
        .into_iter()
        .filter(|instance| filters.pass(&instance.tags, |filter| property(instance, filter)))
        .collect();
    let (found, token) = page.cut(found);
    let mut xml = Xml::piece();
    let reservations = found.chunk_by(|a, b| a.reservation == b.reservation);
    xml.set("reservationSet", reservations, |xml, instances| {
        write_reservation(xml, &state, instances);
    });
    xml.maybe("nextToken", token);
    Ok(xml)
}

fn property(instance: &Instance, filter: &str) -> Vec<String> {
    let value = match filter {
        "architecture" => catalogue::instance_type(&instance.instance_type)
            .map(|kind| kind.architecture.to_owned()),
        "availability-zone" => Some(instance.zone.clone()),
        "client-token" => instance.client_token.clone(),
        "image-id" => Some(instance.image.clone()),
        "instance-id" => Some(instance.id.clone()),
        "instance-lifecycle" => instance.spot.as_ref().map(|_| "spot".to_owned()),
        "instance-state-code" => Some(instance.phase.code().to_string()),
        "instance-state-name" => Some(instance.phase.name().to_owned()),
        "instance-type" => Some(instance.instance_type.clone()),
        "instance.group-id" => return instance.groups.clone(),
        "ip-address" => address(instance),
        "private-ip-address" => Some(instance.private_ip.clone()),
        "subnet-id" => Some(instance.subnet.clone()),
        "vpc-id" => Some(instance.vpc.clone()),
        _ => None,
    };
    value.into_iter().collect()
}

/// The public address, which an instance has while it runs.
pub(super) fn address(instance: &Instance) -> Option<String> {
    match instance.phase {
        Phase::Running | Phase::ShuttingDown => instance.public_ip.clone(),
        _ => None,
    }
}

pub(super) fn write_reservation(xml: &mut Xml, state: &State, instances: &[&Instance]) {
    if let Some(first) = instances.first() {
        xml.text("reservationId", &first.reservation);
    }
    xml.text("ownerId", ACCOUNT);
    xml.node("groupSet", |_| {});
    xml.set("instancesSet", instances, |xml, instance| {
        write_instance(xml, state, instance);
    });
}

fn write_state(xml: &mut Xml, element: &str, phase: Phase) {
    xml.node(element, |xml| {
        xml.text("code", phase.code());
        xml.text("name", phase.name());
    });
}

fn write_instance(xml: &mut Xml, state: &State, instance: &Instance) {
    let gone = instance.phase == Phase::Terminated;
    let kind = catalogue::instance_type(&instance.instance_type);
    let root = state
        .volumes
        .iter()
        .find(|volume| volume.instance == instance.id);
    xml.text("instanceId", &instance.id);
    xml.text("imageId", &instance.image);
    write_state(xml, "instanceState", instance.phase);
    xml.text(
        "privateDnsName",
        if gone { String::new() } else { instance.dns() },
    );
    xml.text("dnsName", "");
    let reason = instance.reason.zip(instance.ended);
    xml.text(
        "reason",
        reason.map_or(String::new(), |(reason, time)| {
            format!(
                "{} ({})",
                reason.message,
                time.strftime("%Y-%m-%d %H:%M:%S GMT")
            )
        }),
    );
    xml.text("amiLaunchIndex", instance.index);
    xml.node("productCodes", |_| {});
    xml.text("instanceType", &instance.instance_type);
    xml.text("launchTime", clock::millis(instance.launched));
    xml.node("placement", |xml| {
        xml.text("availabilityZone", &instance.zone);
        xml.text("groupName", "");
        xml.text("tenancy", "default");
    });
    xml.node("monitoring", |xml| xml.text("state", "disabled"));
    if !gone {
        xml.text("subnetId", &instance.subnet);
        xml.text("vpcId", &instance.vpc);
        xml.text("privateIpAddress", &instance.private_ip);
        xml.maybe("ipAddress", address(instance));
        xml.text("sourceDestCheck", true);
    }
    write_groups(xml, state, instance, gone);
    if let Some(reason) = instance.reason {
        xml.node("stateReason", |xml| {
            xml.text("code", reason.code);
            xml.text("message", reason.message);
        });
    } else if instance.phase == Phase::Pending {
        xml.node("stateReason", |xml| {
            xml.text("code", "pending");
            xml.text("message", "pending");
        });
    }
    xml.maybe("architecture", kind.map(|kind| kind.architecture));
    xml.text("rootDeviceType", "ebs");
    xml.maybe("rootDeviceName", root.map(|volume| &volume.device));
    xml.set(
        "blockDeviceMapping",
        state.volumes_of(&instance.id),
        |xml, volume| {
            xml.text("deviceName", &volume.device);
            xml.node("ebs", |xml| {
                xml.text("volumeId", &volume.id);
                let attached = instance.phase != Phase::Pending;
                xml.text("status", if attached { "attached" } else { "attaching" });
                xml.text("attachTime", clock::millis(instance.launched));
                xml.text("deleteOnTermination", volume.delete_on_termination);
            });
        },
    );
    if let Some(spot) = &instance.spot {
        xml.text("instanceLifecycle", "spot");
        xml.text("spotInstanceRequestId", &spot.request);
    }
    xml.text("virtualizationType", "hvm");
    xml.text(
        "clientToken",
        instance.client_token.as_deref().unwrap_or_default(),
    );
    xml.tags(&instance.tags);
    xml.text("hypervisor", "xen");
    write_interface(xml, state, instance, gone);
    if let Some(profile) = instance.profile.as_ref().filter(|_| !gone) {
        xml.node("iamInstanceProfile", |xml| {
            xml.text("arn", profile.arn());
            xml.text("id", &profile.id);
        });
    }
    xml.text("ebsOptimized", false);
    xml.text("enaSupport", true);
    xml.node("metadataOptions", |xml| {
        let options = &instance.metadata;
        let pending = instance.phase == Phase::Pending;
        xml.text("state", if pending { "pending" } else { "applied" });
        xml.text(
            "httpTokens",
            if options.tokens_required {
                "required"
            } else {
                "optional"
            },
        );
        xml.text("httpPutResponseHopLimit", options.hop_limit);
        xml.text(
            "httpEndpoint",
            if options.enabled {
                "enabled"
            } else {
                "disabled"
            },
        );
        xml.text("httpProtocolIpv6", "disabled");
        xml.text(
            "instanceMetadataTags",
            if options.tags { "enabled" } else { "disabled" },
        );
    });
}

fn write_groups(xml: &mut Xml, state: &State, instance: &Instance, gone: bool) {
    let groups = instance
        .groups
        .iter()
        .filter(|_| !gone)
        .filter_map(|id| state.groups.iter().find(|group| group.id == *id));
    xml.set("groupSet", groups, |xml, group| {
        xml.text("groupId", &group.id);
        xml.text("groupName", &group.name);
    });
}

fn write_interface(xml: &mut Xml, state: &State, instance: &Instance, gone: bool) {
    let interface = (!gone).then_some(&instance.interface);
    xml.set("networkInterfaceSet", interface, |xml, interface| {
        xml.text("networkInterfaceId", interface);
        xml.text("subnetId", &instance.subnet);
        xml.text("vpcId", &instance.vpc);
        xml.text("ownerId", ACCOUNT);
        xml.text("status", "in-use");
        xml.text("privateIpAddress", &instance.private_ip);
        xml.text("sourceDestCheck", true);
        write_groups(xml, state, instance, false);
        xml.node("attachment", |xml| {
            xml.text("deviceIndex", 0);
            xml.text("status", "attached");
            xml.text("deleteOnTermination", true);
        });
        if let Some(address) = address(instance) {
            xml.node("association", |xml| {
                xml.text("publicIp", address);
                xml.text("ipOwnerId", "amazon");
            });
        }
        xml.tags(&instance.interface_tags);
    });
}

pub(super) fn terminate_instances(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let ids = params.texts("InstanceId")?;
    params.finish()?;
    if ids.is_empty() {
        return Err(ApiError::missing("InstanceId"));
    }
    let world = context.world;
    let before: Vec<(String, Phase)> = {
        let state = lock(&world.state);
        find(context, &state, &ids)?
            .into_iter()
            .map(|instance| (instance.id.clone(), instance.phase))
            .collect()
    };
    for (id, _) in &before {
        world.enter(id, Phase::ShuttingDown, Some(Reason::USER));
        world.with_instance(id, |instance| {
            // Nobody listens any more when it is terminated.
            let _ = instance.orders.send(Order::Terminate);
        });
    }
    let mut xml = Xml::piece();
    xml.set("instancesSet", before, |xml, (id, previous)| {
        let current = world.with_instance(&id, |instance| instance.phase);
        xml.text("instanceId", &id);
        write_state(xml, "currentState", current.unwrap_or(Phase::Terminated));
        write_state(xml, "previousState", previous);
    });
    Ok(xml)
}

pub(super) fn get_console_output(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let id = params.required("InstanceId")?;
    let latest = params.flag("Latest")?.unwrap_or(false);
    params.finish()?;
    let (text, time) = {
        let state = lock(&context.world.state);
        let instance = find(context, &state, std::slice::from_ref(&id))?[0];
        let nitro = catalogue::instance_type(&instance.instance_type)
            .is_some_and(|kind| kind.hypervisor == "nitro");
        if latest && !nitro {
            return Err(ApiError::client(
                "UnsupportedOperation",
                "This instance type does not support retrieving the latest console logs.",
            ));
        }
        let machine = instance.machine.as_ref();
        (machine.map(|machine| machine.console_text()), clock::now())
    };
    let mut xml = Xml::piece();
    xml.text("instanceId", id);
    xml.text("timestamp", clock::millis(time));
    if let Some(text) = text {
        let bytes = text.as_bytes();
        let end = &bytes[bytes.len().saturating_sub(CONSOLE_LIMIT)..];
        xml.text("output", BASE64_STANDARD.encode(end));
    }
    Ok(xml)
}

pub(super) fn create_tags(context: &Context<'_>, params: &mut Node) -> Result<Xml> {
    let ids = params.texts("ResourceId")?;
    let tags = params.tags()?;
    params.finish()?;
    if ids.is_empty() {
        return Err(ApiError::missing("resourceIdSet"));
    }
    if tags.is_empty() {
        return Err(ApiError::missing("tagSet"));
    }
    let mut state = lock(&context.world.state);
    for id in &ids {
        taggable(&mut state, context, id)?;
    }
    for id in &ids {
        taggable(&mut state, context, id)?.extend(tags.clone());
    }
    let mut xml = Xml::piece();
    xml.text("return", true);
    Ok(xml)
}

/// The tags of whatever has this id.
fn taggable<'a>(
    state: &'a mut State,
    context: &Context<'_>,
    id: &str,
) -> Result<&'a mut super::state::Tags> {
    let region = context.region.name;
    let kind = id.split('-').next().unwrap_or_default();
    let found = match kind {
        "i" => state
            .instances
            .iter_mut()
            .find(|i| i.id == id && i.region.name == region && i.is_visible())
            .map(|instance| &mut instance.tags),
        "eni" => state
            .instances
            .iter_mut()
            .find(|i| i.interface == id && i.phase != Phase::Terminated)
            .map(|instance| &mut instance.interface_tags),
        "vol" => state
            .volumes
            .iter_mut()
            .find(|volume| volume.id == id && volume.exists)
            .map(|volume| &mut volume.tags),
        "sg" => state
            .groups
            .iter_mut()
            .find(|group| group.id == id && group.region == region && group.is_visible())
            .map(|group| &mut group.tags),
        "vpc" => state
            .vpcs
            .iter_mut()
            .find(|vpc| vpc.id == id && vpc.region == region)
            .map(|vpc| &mut vpc.tags),
        "subnet" => state
            .subnets
            .iter_mut()
            .find(|subnet| subnet.id == id && subnet.region == region)
            .map(|subnet| &mut subnet.tags),
        _ => None,
    };
    found.ok_or_else(|| match kind {
        "i" => ApiError::client(
            "InvalidInstanceID.NotFound",
            format!("The instance ID '{id}' does not exist"),
        ),
        "sg" => ApiError::client(
            "InvalidGroup.NotFound",
            format!("The security group '{id}' does not exist"),
        ),
        _ => ApiError::client("InvalidID", format!("The ID '{id}' is not valid")),
    })
}
