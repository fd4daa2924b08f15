//! How machines and groups are shown to tests.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::{self, Kind};
use super::state::{Group, Machine, Phase, Resource, State};

/// A machine as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct AzureInstanceView {
    /// Its group's name.
    pub group: String,
    /// Its own name.
    pub name: String,
    /// `creating`, `running`, `stopped` (off, and still paid for), `deallocated`, `failed`,
    /// `deleting` or `deleted`.
    pub state: String,
    /// Its region.
    pub region: String,
    /// Its size.
    pub size: String,
    /// `publisher:offer:sku:version`, or an id.
    pub image: String,
    /// Whether it is spot.
    pub spot: bool,
    /// The most that may be paid for it, as it was asked for.
    pub max_price: Option<f64>,
    /// Whether it is deleted when it is evicted.
    pub deleted_when_evicted: bool,
    /// Its group's tags.
    pub group_tags: BTreeMap<String, String>,
    /// Its own tags.
    pub tags: BTreeMap<String, String>,
    /// Its custom data, decoded from Base64.
    pub user_data: Vec<u8>,
    /// Whether it has an identity of its own.
    pub system_identity: bool,
    /// The ids of the identities that were assigned to it.
    pub user_identities: Vec<String>,
    /// Its disk's size.
    pub disk_gb: u32,
    /// Its disk's type (`Premium_LRS`).
    pub disk_kind: String,
    /// Whether its disk, interfaces and addresses go with it.
    pub all_deleted_with_it: bool,
    /// Its public address, while it has one.
    pub public_ip: Option<String>,
    /// What the security group at its interface lets in: `Tcp 22 203.0.113.0/24`. `None`: there is
    /// no such group.
    pub rules: Option<Vec<String>>,
    /// Whether it is launched trusted.
    pub trusted_launch: bool,
    /// Whether Secure Boot is on.
    pub secure_boot: bool,
    /// Whether it is encrypted at the host.
    pub encryption_at_host: bool,
    /// Whether its serial log is kept.
    pub boot_diagnostics: bool,
    /// Its administrator's name.
    pub admin: String,
    /// The administrator's public keys.
    pub ssh_keys: Vec<String>,
    /// Whether a password lets the administrator in.
    pub password: bool,
    /// The roles that its own identity has: role's id and scope.
    pub roles: Vec<(String, String)>,
    /// The code of why it failed.
    pub failure: Option<String>,
}

/// A group as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureGroupView {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its resources, the machines among them: `networkInterfaces/NAME`.
    pub resources: Vec<String>,
}

/// What is in a group.
pub(super) fn resources(state: &State, group: &Group) -> Vec<String> {
    let machines = state
        .machines
        .iter()
        .filter(|machine| machine.phase != Phase::Deleted && machine.group == group.name)
        .map(|machine| format!("virtualMachines/{}", machine.name));
    let others = group
        .resources
        .iter()
        .map(|resource| format!("{}/{}", resource.kind.name(), resource.name));
    machines.chain(others).collect()
}

/// A machine for a test.
pub(super) fn view(state: &State, machine: &Machine) -> AzureInstanceView {
    let wanted = &machine.wanted;
    let group = state
        .groups
        .iter()
        .rfind(|group| group.name.eq_ignore_ascii_case(&machine.group));
    let part = |kind: Kind| -> Option<&Resource> {
        let (_, name, _) = machine.parts.iter().find(|(known, ..)| *known == kind)?;
        let resources = &group?.resources;
        resources
            .iter()
            .find(|resource| resource.kind == kind && resource.name == *name)
    };
    let gone = machine.phase == Phase::Deleted;
    let public_ip = part(Kind::PublicIpAddress)
        .filter(|_| !gone)
        .and_then(|address| address.properties["ipAddress"].as_str())
        .map(Into::into);
    let roles = state.assignments.iter().filter(|assignment| {
        let own = machine.identity.as_ref();
        own.is_some_and(|own| own.object == assignment.principal)
    });
    let linux = &machine.body["properties"]["osProfile"]["linuxConfiguration"];
    AzureInstanceView {
        group: machine.group.clone(),
        name: machine.name.clone(),
        state: machine.phase.name().into(),
        region: machine.location.into(),
        size: wanted.size.name.into(),
        image: wanted.reference.text(),
        spot: wanted.spot,
        max_price: wanted.max_price,
        deleted_when_evicted: wanted.deleted_when_evicted,
        group_tags: group.map(|group| group.tags.clone()).unwrap_or_default(),
        tags: machine.tags.clone(),
        user_data: wanted.custom_data.clone(),
        system_identity: wanted.system_identity,
        user_identities: wanted.user_identities.clone(),
        disk_gb: wanted.disk_gb,
        disk_kind: wanted.disk_kind.clone(),
        all_deleted_with_it: machine.parts.iter().all(|(_, _, deleted)| *deleted),
        public_ip,
        rules: rules(state, machine),
        trusted_launch: wanted.trusted,
        secure_boot: wanted.secure_boot,
        encryption_at_host: wanted.encryption_at_host,
        boot_diagnostics: wanted.boot_diagnostics,
        admin: wanted.admin.clone(),
        ssh_keys: wanted.public_keys.clone(),
        password: linux["disablePasswordAuthentication"] != true,
        roles: roles
            .map(|assignment| (assignment.role.clone(), assignment.scope.clone()))
            .collect(),
        failure: machine.failure.as_ref().map(|error| error.code.clone()),
    }
}

/// What the security group at the first interface lets in. It is remembered with the body, so that
/// it can be told when everything is gone.
fn rules(state: &State, machine: &Machine) -> Option<Vec<String>> {
    let profile = &machine.body["properties"]["networkProfile"];
    let interface = &profile["networkInterfaceConfigurations"][0]["properties"];
    let guard = interface["networkSecurityGroup"]["id"].as_str()?;
    let (group, kind, name, _) = path::resource(guard)?;
    let resource = state.resource(kind, &group, &name).ok()?;
    let rules = resource.properties["securityRules"].as_array()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let either = |properties: &Value, one: &str, many: &str| match &properties[many] {
        Value::Array(list) if !list.is_empty() => {
            list.iter().map(text).collect::<Vec<_>>().join(",")
        }
        _ => text(&properties[one]),
    };
    let inbound = rules.iter().map(|rule| &rule["properties"]);
    let inbound =
        inbound.filter(|rule| rule["direction"] == "Inbound" && rule["access"] == "Allow");
    Some(
        inbound
            .map(|rule| {
                format!(
                    "{} {} {}",
                    text(&rule["protocol"]),
                    either(rule, "destinationPortRange", "destinationPortRanges"),
                    either(rule, "sourceAddressPrefix", "sourceAddressPrefixes")
                )
            })
            .collect(),
    )
}
