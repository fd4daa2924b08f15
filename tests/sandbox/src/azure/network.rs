//! Network security groups and virtual networks, and what is read of interfaces, addresses and disks.
//! <https://learn.microsoft.com/en-us/rest/api/virtualnetwork>

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::{self, ApiError, Result};
use super::groups::tags;
use super::path::{self, Kind, group_id, subscription_id};
use super::state::{GroupPhase, Resource, State};
use super::{Call, catalogue, no_location, schema};
use crate::calls::lock;
use crate::server::Response;

/// Which numbers rules may have.
/// <https://learn.microsoft.com/en-us/azure/virtual-network/network-security-groups-overview#security-rules>
const PRIORITIES: std::ops::RangeInclusive<i64> = 100..=4096;

/// How a resource is answered.
pub(super) fn shown(group: &str, resource: &Resource) -> Value {
    let Resource {
        kind, name, tags, ..
    } = resource;
    let mut properties = resource.properties.clone();
    let state = match resource.is_ready() {
        true => "Succeeded",
        false => "Updating",
    };
    properties["provisioningState"] = state.into();
    let mut shown = json!({
        "id": kind.id(group, name),
        "name": name,
        "type": format!("{}/{}", kind.provider(), kind.name()),
        "location": resource.location,
        "tags": tags,
        "properties": properties,
    });
    if let Some(sku) = &resource.sku {
        shown["sku"] = sku.clone();
    }
    shown
}

/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/resource-name-rules#microsoftnetwork>
fn check_name(name: &str, longest: usize) -> Result<()> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(word)
        && name.len() <= longest
        && name.chars().all(|c| word(c) || c == '.' || c == '-')
    {
        true => Ok(()),
        false => Err(ApiError::bad(
            "InvalidResourceName",
            format!(
                "Resource name {name} is invalid. The name can be up to {longest} characters long. \
                 It must begin with a word character, and it must end with a word character or with \
                 '_'. The name may contain word characters or '.', '-', '_'."
            ),
        )),
    }
}

/// When a machine takes longer to boot, it isn't meant to come up, but its network is.
const LONGEST_BOOT: Duration = Duration::from_secs(60);

impl Call<'_> {
    pub(super) fn put_network(&self, group: &str, kind: Kind, name: &str) -> Result<Response> {
        let action = format!("{}/{}/write", kind.provider(), kind.name());
        let id = kind.id(group, name);
        self.require(&action, &id)?;
        let model = match kind {
            Kind::VirtualNetwork => "VirtualNetwork",
            _ => "NetworkSecurityGroup",
        };
        let body = schema::body(&format!("network.{model}"), self.body)?;
        check_name(name, if kind == Kind::VirtualNetwork { 64 } else { 80 })?;
        let text = body["location"].as_str().unwrap_or_default();
        let location = catalogue::region(text)
            .ok_or_else(|| no_location(&format!("{}/{}", kind.provider(), kind.name()), text))?;
        let tags = tags(&body)?;
        let delay = match self.world.config.boot_delay {
            boot if boot <= LONGEST_BOOT => boot / 2,
            _ => Duration::from_millis(100),
        };
        let (status, answer) = {
            let mut state = lock(&self.world.state);
            let properties = match kind {
                Kind::VirtualNetwork => self.network(&state, &id, location, &body["properties"])?,
                _ => security_group(&id, &body["properties"])?,
            };
            state.record(model, body);
            let found = state.open_group(group)?;
            let known = found
                .resources
                .iter_mut()
                .find(|known| known.kind == kind && known.name.eq_ignore_ascii_case(name));
            let (status, resource) = match known {
                Some(known) => {
                    if !known.is_ready() {
                        return Err(ApiError::new(
                            429,
                            "AnotherOperationInProgress",
                            "Another operation on this or dependent resource is in progress.",
                        ));
                    }
                    if known.location != location {
                        return Err(other_location(&id, location, &known.location));
                    }
                    known.properties = properties;
                    known.tags = tags;
                    known.ready_at = Instant::now() + delay;
                    (200, known.clone())
                }
                None => {
                    let resource = Resource {
                        kind,
                        name: name.into(),
                        location: location.into(),
                        tags,
                        sku: None,
                        properties,
                        ready_at: Instant::now() + delay,
                    };
                    found.resources.push(resource.clone());
                    (201, resource)
                }
            };
            (status, shown(&found.name, &resource))
        };
        let operation = self.world.begin(group, Some(Instant::now() + delay));
        let mut response = error::document(status, &answer);
        self.follow(&mut response, "Microsoft.Network", location, &operation);
        Ok(response)
    }

    /// A virtual network's properties as they are kept and answered.
    fn network(&self, state: &State, id: &str, location: &str, body: &Value) -> Result<Value> {
        let prefixes = body["addressSpace"]["addressPrefixes"]
            .as_array()
            .filter(|prefixes| !prefixes.is_empty())
            .ok_or_else(|| {
                ApiError::bad(
                    "VnetAddressSpaceNotSpecified",
                    format!("Virtual network {id} has no address space."),
                )
            })?;
        for prefix in prefixes {
            check_cidr(prefix, id)?;
        }
        let mut subnets = Vec::new();
        for subnet in body["subnets"].as_array().into_iter().flatten() {
            let name = subnet["name"].as_str().unwrap_or_default();
            check_name(name, 80)?;
            let mut properties = subnet["properties"].clone();
            let own = match &properties["addressPrefix"] {
                Value::Null => properties["addressPrefixes"][0].clone(),
                prefix => prefix.clone(),
            };
            check_cidr(&own, id)?;
            let inside = |prefix: &Value| {
                let bounds = |value: &Value| value.as_str().and_then(cidr);
                match (bounds(prefix), bounds(&own)) {
                    (Some((outer, long)), Some((inner, short))) => {
                        long <= short && same_network(outer, inner, long)
                    }
                    _ => false,
                }
            };
            if !prefixes.iter().any(inside) {
                return Err(ApiError::bad(
                    "NetcfgInvalidSubnet",
                    format!("Subnet '{name}' is not valid in virtual network '{id}'."),
                ));
            }
            if let Some(guard) = properties["networkSecurityGroup"]["id"].as_str() {
                self.referenced(state, id, guard, location, "join/action")?;
            }
            properties["provisioningState"] = "Succeeded".into();
            subnets.push(json!({
                "id": format!("{id}/subnets/{name}"),
                "name": name,
                "type": "Microsoft.Network/virtualNetworks/subnets",
                "properties": properties,
            }));
        }
        Ok(json!({
            "addressSpace": body["addressSpace"],
            "subnets": subnets,
            "enableDdosProtection": false,
        }))
    }

    /// Checks that what a resource refers to is there, ready, in the same region, and the caller's
    /// to use. The answer is the referenced resource's kind, group and name.
    pub(super) fn referenced(
        &self,
        state: &State,
        id: &str,
        wanted: &str,
        location: &str,
        action: &str,
    ) -> Result<(Kind, String, String)> {
        let not_found = || {
            ApiError::bad(
                "InvalidResourceReference",
                format!(
                    "Resource {wanted} referenced by resource {id} was not found. Please make sure \
                     that the referenced resource exists, and that both resources are in the same \
                     region."
                ),
            )
        };
        let (group, kind, name, rest) = path::resource(wanted).ok_or_else(not_found)?;
        let resource = state
            .resource(kind, &group, &name)
            .map_err(|_| not_found())?;
        if resource.location != location || state.group(&group)?.phase != GroupPhase::Live {
            return Err(not_found());
        }
        let within = match &rest[..] {
            [] => String::new(),
            [part, subnet] if part.eq_ignore_ascii_case("subnets") => {
                let subnets = resource.properties["subnets"].as_array();
                let named = |known: &Value| {
                    known["name"]
                        .as_str()
                        .is_some_and(|name| name.eq_ignore_ascii_case(subnet))
                };
                if !subnets.is_some_and(|subnets| subnets.iter().any(named)) {
                    return Err(not_found());
                }
                "/subnets".into()
            }
            _ => return Err(not_found()),
        };
        if !resource.is_ready() {
            let what = match kind {
                Kind::VirtualNetwork => "PutVirtualNetworkOperation",
                _ => "PutNetworkSecurityGroupOperation",
            };
            // <https://github.com/Azure-Samples/azuresandbox/issues/329>
            return Err(ApiError::bad(
                "ReferencedResourceNotProvisioned",
                format!(
                    "Cannot proceed with operation because resource {wanted} used by resource {id} \
                     is not in Succeeded state. Resource is in Updating state and the last \
                     operation that updated/is updating the resource is {what}."
                ),
            ));
        }
        let joined = format!("{}/{}{within}/{action}", kind.provider(), kind.name());
        self.require_linked(id, &joined, wanted)?;
        Ok((kind, group, name))
    }

    pub(super) fn get_resource(&self, group: &str, kind: Kind, name: &str) -> Result<Response> {
        let action = format!("{}/{}/read", kind.provider(), kind.name());
        self.require(&action, &kind.id(group, name))?;
        let state = lock(&self.world.state);
        let resource = state.resource(kind, group, name)?;
        let group = &state.group(group)?.name;
        Ok(error::document(200, &shown(group, resource)))
    }

    /// Those of one kind in a group, or in the subscription.
    /// <https://learn.microsoft.com/en-us/rest/api/virtualnetwork/public-ip-addresses/list-all>
    pub(super) fn list_resources(&self, group: Option<&str>, kind: Kind) -> Result<Response> {
        let action = format!("{}/{}/read", kind.provider(), kind.name());
        self.require(&action, &group.map_or_else(subscription_id, group_id))?;
        let state = lock(&self.world.state);
        let groups = match group {
            Some(group) => vec![state.group(group)?],
            None => state.groups.iter().collect(),
        };
        let mut all: Vec<Value> = Vec::new();
        for group in groups {
            let found = group.resources.iter().filter(|found| found.kind == kind);
            all.extend(found.map(|resource| shown(&group.name, resource)));
        }
        let size = state.page_size;
        drop(state);
        self.page(all, size)
    }
}

/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/error-invalid-template>
fn other_location(id: &str, location: &str, known: &str) -> ApiError {
    ApiError::new(
        409,
        "InvalidResourceLocation",
        format!(
            "The resource '{id}' already exists in location '{known}' in resource group. A resource \
             with the same name cannot be created in location '{location}'. Please select a new \
             resource name."
        ),
    )
}

/// A security group's properties, its rules checked.
/// <https://learn.microsoft.com/en-us/rest/api/virtualnetwork/network-security-groups/create-or-update>
fn security_group(id: &str, body: &Value) -> Result<Value> {
    let mut rules = Vec::new();
    let mut numbers: Vec<(String, i64)> = Vec::new();
    for rule in body["securityRules"].as_array().into_iter().flatten() {
        let name = rule["name"].as_str().unwrap_or_default();
        check_name(name, 80)?;
        let rule_id = format!("{id}/securityRules/{name}");
        let properties = &rule["properties"];
        for needed in ["protocol", "access", "direction", "priority"] {
            if properties[needed].is_null() {
                return Err(ApiError::bad(
                    "SecurityRuleParameterMissing",
                    format!(
                        "Required security rule parameter is missing for rule with Id {rule_id}. \
                         Security rule must specify {needed}."
                    ),
                ));
            }
        }
        let number = properties["priority"].as_i64().unwrap_or_default();
        if !PRIORITIES.contains(&number) {
            return Err(ApiError::bad(
                "SecurityRuleInvalidPriority",
                format!(
                    "Security rule has invalid Priority. Value provided: {number} Allowed range \
                     100-4096."
                ),
            ));
        }
        let direction = properties["direction"].as_str().unwrap_or_default();
        let key = (direction.to_owned(), number);
        if numbers.contains(&key) {
            return Err(ApiError::bad(
                "SecurityRuleConflict",
                format!(
                    "Security rule {name} conflicts with another rule. Rules cannot have the same \
                     Priority and Direction."
                ),
            ));
        }
        numbers.push(key);
        for (one, many) in [
            ("sourceAddressPrefix", "sourceAddressPrefixes"),
            ("destinationAddressPrefix", "destinationAddressPrefixes"),
            ("sourcePortRange", "sourcePortRanges"),
            ("destinationPortRange", "destinationPortRanges"),
        ] {
            check_either(properties, one, many, name)?;
        }
        let mut properties = properties.clone();
        properties["provisioningState"] = "Succeeded".into();
        rules.push(json!({
            "id": rule_id,
            "name": name,
            "type": "Microsoft.Network/networkSecurityGroups/securityRules",
            "properties": properties,
        }));
    }
    Ok(json!({"securityRules": rules}))
}

/// One value or several, but not both, and each of the right form.
fn check_either(properties: &Value, one: &str, many: &str, rule: &str) -> Result<()> {
    let single = properties[one].as_str();
    let several = properties[many].as_array().filter(|list| !list.is_empty());
    let values: Vec<&str> = match (single, several) {
        (Some(value), None) => vec![value],
        (None, Some(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => {
            return Err(ApiError::bad(
                "SecurityRuleParameterMissing",
                format!(
                    "Security rule {rule} must specify either {one} or {many}, and not both of them."
                ),
            ));
        }
    };
    for value in &values {
        let fine = match one.ends_with("PortRange") {
            true => is_port_range(value),
            // `*` and service tags go alone.
            false => is_prefix(value) || (values.len() == 1 && is_tag(value)),
        };
        if !fine {
            let code = match one.ends_with("PortRange") {
                true => "SecurityRuleInvalidPortRange",
                false => "SecurityRuleInvalidAddressPrefix",
            };
            return Err(ApiError::bad(
                code,
                format!("Security rule {rule} has an invalid {one}. Value provided: {value}."),
            ));
        }
    }
    // <https://learn.microsoft.com/en-us/azure/virtual-network/ip-services/ipv6-overview>: a rule is
    // of one family.
    let families = |v6: bool| {
        values
            .iter()
            .any(|value| is_prefix(value) && value.contains(':') == v6)
    };
    match families(true) && families(false) {
        false => Ok(()),
        true => Err(ApiError::bad(
            "SecurityRuleInvalidAddressPrefix",
            format!("Security rule {rule} mixes IPv4 and IPv6 prefixes in {many}."),
        )),
    }
}

fn is_port_range(text: &str) -> bool {
    let port = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        _ if text == "*" => true,
        None => port(text).is_some(),
        Some((from, to)) => port(from)
            .zip(port(to))
            .is_some_and(|(from, to)| from <= to),
    }
}

fn is_prefix(text: &str) -> bool {
    cidr(text).is_some() || text.parse::<IpAddr>().is_ok()
}

fn is_tag(text: &str) -> bool {
    text == "*" || text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
}

fn check_cidr(prefix: &Value, id: &str) -> Result<()> {
    match prefix.as_str().and_then(cidr) {
        Some(_) => Ok(()),
        None => Err(ApiError::bad(
            "InvalidAddressPrefixFormat",
            format!(
                "Address prefix {prefix} of resource {id} is not formatted correctly. It should \
                 follow CIDR notation, for example 10.0.0.0/24."
            ),
        )),
    }
}

/// An address and the length of its prefix; the rest of the address is zero.
fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bare = length <= most && (length == most || bits(address) << (128 - most + length) == 0);
    bare.then_some((address, length))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn same_network(outer: IpAddr, inner: IpAddr, length: u8) -> bool {
    let most = if outer.is_ipv4() { 32 } else { 128 };
    let shift = most - length;
    outer.is_ipv4() == inner.is_ipv4()
        && (shift >= 128 || bits(outer) >> shift == bits(inner) >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_ports() {
        for (text, good) in [
            ("10.0.0.0/16", true),
            ("10.0.0.1/16", false),
            ("0.0.0.0/0", true),
            ("203.0.113.7/32", true),
            ("2001:db8::/32", true),
            ("::/0", true),
            ("10.0.0.0/33", false),
            ("10.0.0.0", false),
        ] {
            assert_eq!(cidr(text).is_some(), good, "{text}");
        }
        for (text, good) in [
            ("22", true),
            ("*", true),
            ("1-2", true),
            ("2-1", false),
            ("x", false),
        ] {
            assert_eq!(is_port_range(text), good, "{text}");
        }
    }
}
