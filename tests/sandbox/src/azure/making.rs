//! Making a machine, with its interfaces, its addresses and its disk.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::error::{self, ApiError, Result};
use super::images::Reference;
use super::lifecycle::{self, Order};
use super::path::{Kind, group_id};
use super::rules::missing;
use super::state::{Machine, Phase, Resource, State, Tags, Wanted};
use super::{Call, answer, catalogue};
use crate::calls::{Event, lock};
use crate::clock;
use crate::entra::{Events, Facts, ManagedIdentity};
use crate::server::Response;

/// An interface that a machine's body asks for.
pub(super) struct Interface {
    name: String,
    guard: Option<String>,
    deleted: bool,
    addresses: Vec<Address>,
}

/// One of its addresses.
struct Address {
    name: String,
    subnet: String,
    /// The name, SKU and whether it goes with the machine.
    public: Option<(String, Value, bool)>,
}

impl Call<'_> {
    /// Reads the interfaces that are to be made with the machine, and checks what they refer to.
    pub(super) fn interfaces(
        &self,
        id: &str,
        location: &str,
        body: &Value,
    ) -> Result<Vec<Interface>> {
        let profile = &body["properties"]["networkProfile"];
        let list = profile["networkInterfaceConfigurations"].as_array();
        if !profile["networkInterfaces"].is_null() {
            return Err(ApiError::parameter(
                "networkProfile.networkInterfaces",
                "The sandbox knows interfaces that are made with the machine alone.",
            ));
        }
        let list = list
            .filter(|list| !list.is_empty())
            .ok_or_else(|| missing("networkProfile.networkInterfaceConfigurations"))?;
        if profile["networkApiVersion"].is_null() {
            return Err(missing("networkProfile.networkApiVersion"));
        }
        let state = lock(&self.world.state);
        let deleted = |value: &Value| value["deleteOption"] == "Delete";
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut interfaces = Vec::new();
        for interface in list {
            let properties = &interface["properties"];
            let accelerated = properties["enableAcceleratedNetworking"] == true;
            let size = &body["properties"]["hardwareProfile"]["vmSize"];
            let size = catalogue::size(location, size.as_str().unwrap_or_default());
            if let Some(size) = size.filter(|size| accelerated && !size.family.accelerated) {
                return Err(ApiError::bad(
                    "VMSizeIsNotPermittedToEnableAcceleratedNetworking",
                    format!(
                        "VM size {} is not permitted to enable accelerated networking for network \
                         interface(s): {}.",
                        size.name, interface["name"]
                    ),
                ));
            }
            let guard = text(&properties["networkSecurityGroup"]["id"]);
            if let Some(guard) = &guard {
                self.referenced(&state, id, guard, location, "join/action")?;
            }
            let mut addresses = Vec::new();
            for address in properties["ipConfigurations"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let inner = &address["properties"];
                let subnet = text(&inner["subnet"]["id"])
                    .ok_or_else(|| missing("ipConfigurations.properties.subnet.id"))?;
                self.referenced(&state, id, &subnet, location, "join/action")?;
                let public = &inner["publicIPAddressConfiguration"];
                let public = match text(&public["name"]) {
                    Some(name) => {
                        check_public(&name, public)?;
                        Some((name, public["sku"].clone(), deleted(&public["properties"])))
                    }
                    None => None,
                };
                addresses.push(Address {
                    name: text(&address["name"]).unwrap_or_default(),
                    subnet,
                    public,
                });
            }
            if addresses.is_empty() {
                return Err(missing("ipConfigurations"));
            }
            interfaces.push(Interface {
                name: text(&interface["name"]).unwrap_or_default(),
                guard,
                deleted: deleted(properties),
                addresses,
            });
        }
        Ok(interfaces)
    }

    /// What the caller must be allowed to do beside making a machine. Microsoft doesn't say it of
    /// interfaces and addresses that are made inline: whoever asks for them makes them.
    pub(super) fn linked(
        &self,
        id: &str,
        group: &str,
        wanted: &Wanted,
        interfaces: &[Interface],
    ) -> Result<()> {
        let scope = group_id(group);
        // <https://learn.microsoft.com/en-us/azure/role-based-access-control/permissions/compute>
        self.require_linked(id, "Microsoft.Compute/disks/write", &scope)?;
        self.require_linked(id, "Microsoft.Network/networkInterfaces/write", &scope)?;
        self.require_linked(
            id,
            "Microsoft.Network/networkInterfaces/join/action",
            &scope,
        )?;
        let mut addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
        if addresses.any(|address| address.public.is_some()) {
            self.require_linked(id, "Microsoft.Network/publicIPAddresses/write", &scope)?;
            self.require_linked(
                id,
                "Microsoft.Network/publicIPAddresses/join/action",
                &scope,
            )?;
        }
        for identity in &wanted.user_identities {
            self.require_linked(
                id,
                "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
                identity,
            )?;
            if self.world.directory.identity(identity).is_none() {
                return Err(ApiError::bad(
                    "FailedIdentityOperation",
                    format!(
                        "Identity operation for resource '{id}' failed with error 'Failed to \
                         perform resource identity operation. Status: 'BadRequest'. Response: \
                         'Resource '{identity}' was not found.''."
                    ),
                ));
            }
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing that was decided"
    )]
    pub(super) fn create(
        &self,
        group: &str,
        name: &str,
        location: &'static str,
        tags: Tags,
        body: Value,
        wanted: Wanted,
        interfaces: Vec<Interface>,
        failure: Option<ApiError>,
    ) -> Result<Response> {
        let world = self.world;
        let operation = world.begin(group, None);
        let id = Kind::VirtualMachine.id(group, name);
        // A failed one makes room.
        let failed = {
            let state = lock(&world.state);
            state.machine(group, name).ok().cloned()
        };
        if let Some(old) = failed {
            world.end(&old.vm_id);
            let _ = old.orders.send(Order::Destroy);
        }
        let identity = wanted
            .system_identity
            .then(|| world.directory.add_identity(&id));
        let user_identities: Vec<ManagedIdentity> = wanted
            .user_identities
            .iter()
            .filter_map(|id| world.directory.identity(id))
            .collect();
        let (orders, receiver) = mpsc::unbounded_channel();
        let vm_id = clock::uuid();
        let mut state = lock(&world.state);
        state.record("VirtualMachine", body.clone());
        let (parts, private_ip) = make_parts(
            &mut state, group, name, location, &tags, &wanted, interfaces, &id,
        )?;
        let used = state.machines.iter().filter(|old| old.name == name).count();
        let folder = match used {
            0 => name.to_owned(),
            _ => format!("{name}.{used}"),
        };
        let facts = Facts {
            name: name.into(),
            vm_id: vm_id.clone(),
            group: group.into(),
            location: location.into(),
            size: wanted.size.name.into(),
            marketplace_image: match &wanted.reference {
                Reference::Marketplace(names) => Some(names.clone()),
                Reference::Id(_) => None,
            },
            image_id: match &wanted.reference {
                Reference::Marketplace(_) => String::new(),
                Reference::Id(id) => id.clone(),
            },
            tags: tags.clone(),
            spot: wanted.spot,
            computer_name: wanted.computer_name.clone(),
            admin: wanted.admin.clone(),
            public_keys: wanted.public_keys.clone(),
            disk_gb: wanted.disk_gb,
            private_ip,
            system_identity: identity.clone(),
            user_identities: user_identities.clone(),
        };
        let machine = Machine {
            vm_id: vm_id.clone(),
            group: group.into(),
            name: name.into(),
            folder,
            location,
            tags,
            body,
            wanted,
            phase: Phase::Creating,
            failure: None,
            created: clock::now(),
            visible_at: Instant::now() + world.config.visibility_delay,
            identity,
            user_identities,
            parts,
            facts: watch::Sender::new(facts),
            events: Arc::new(Events::default()),
            orders,
            vm: None,
        };
        let answer = answer::machine(&machine, false);
        world.wire.emit(Event::Instance {
            id: name.into(),
            state: Phase::Creating.name().into(),
            note: format!("{} in {location}", machine.wanted.size.name),
        });
        state.machines.push(machine);
        drop(state);
        tokio::spawn(lifecycle::live(
            world.clone(),
            vm_id,
            receiver,
            operation.clone(),
            failure,
        ));
        let mut response = error::document(201, &answer);
        self.follow(&mut response, "Microsoft.Compute", location, &operation);
        Ok(response)
    }
}

/// <https://learn.microsoft.com/en-us/azure/virtual-network/ip-services/public-ip-addresses>
fn check_public(name: &str, public: &Value) -> Result<()> {
    let standard = public["sku"]["name"] == "Standard";
    // The Basic SKU is retired, and it is what goes without a word.
    // <https://azure.microsoft.com/en-us/updates?id=upgrade-to-standard-sku-public-ip-addresses-in-azure-by-30-september-2025-basic-sku-will-be-retired>
    if !standard {
        return Err(ApiError::bad(
            "IPv4BasicSkuPublicIpCountLimitReached",
            "Cannot create more than 0 IPv4 Basic SKU public IP addresses for this subscription in \
             this region.",
        ));
    }
    match public["properties"]["publicIPAllocationMethod"].as_str() {
        Some("Static") => Ok(()),
        _ => Err(ApiError::bad(
            "StandardSkuPublicIPAddressMustBeStatic",
            format!(
                "Standard sku public IP address {name} must have AllocationMethod set to Static."
            ),
        )),
    }
}

type Parts = Vec<(Kind, String, bool)>;

/// Makes the interfaces, addresses and the disk of a machine. How those are named that are made
/// inline isn't documented: nobody can guess these names.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a different thing that was decided"
)]
fn make_parts(
    state: &mut State,
    group: &str,
    name: &str,
    location: &str,
    tags: &Tags,
    wanted: &Wanted,
    interfaces: Vec<Interface>,
    id: &str,
) -> Result<(Parts, String)> {
    let mut parts = Parts::new();
    let mut made = Vec::new();
    let mut private_ip = String::new();
    let resource = |kind: Kind, name: &str, sku: Option<Value>, properties: Value| Resource {
        kind,
        name: name.into(),
        location: location.into(),
        tags: tags.clone(),
        sku,
        properties,
        ready_at: Instant::now(),
    };
    for interface in interfaces {
        let nic = format!("{}-{}", interface.name, clock::random_hex(8));
        let nic_id = Kind::NetworkInterface.id(group, &nic);
        let mut configurations = Vec::new();
        for (index, address) in interface.addresses.into_iter().enumerate() {
            state.addresses = state.addresses.wrapping_add(1);
            let host = 4 + state.addresses % 250;
            private_ip = format!("10.0.0.{host}");
            let configuration = format!("{nic_id}/ipConfigurations/{}", address.name);
            let mut properties = json!({
                "privateIPAddress": private_ip,
                "privateIPAllocationMethod": "Dynamic",
                "privateIPAddressVersion": "IPv4",
                "primary": index == 0,
                "subnet": {"id": address.subnet},
                "provisioningState": "Succeeded",
            });
            if let Some((public, sku, deleted)) = address.public {
                let public = format!("{public}-{}", clock::random_hex(8));
                properties["publicIPAddress"] =
                    json!({"id": Kind::PublicIpAddress.id(group, &public)});
                let shown = json!({
                    // The range that is set apart for documentation.
                    "ipAddress": format!("198.51.100.{host}"),
                    "publicIPAllocationMethod": "Static",
                    "publicIPAddressVersion": "IPv4",
                    "ipConfiguration": {"id": configuration},
                });
                made.push(resource(Kind::PublicIpAddress, &public, Some(sku), shown));
                parts.push((Kind::PublicIpAddress, public, deleted));
            }
            configurations.push(json!({
                "id": configuration, "name": address.name, "properties": properties,
            }));
        }
        let mut shown = json!({
            "ipConfigurations": configurations,
            "primary": true,
            "virtualMachine": {"id": id},
            "macAddress": "00-0D-3A-5B-12-34",
        });
        if let Some(guard) = interface.guard {
            shown["networkSecurityGroup"] = json!({"id": guard});
        }
        made.push(resource(Kind::NetworkInterface, &nic, None, shown));
        parts.push((Kind::NetworkInterface, nic, interface.deleted));
    }
    let properties = state
        .bodies
        .last()
        .map(|(_, body)| body["properties"]["storageProfile"]["osDisk"].clone())
        .unwrap_or_default();
    let disk = match properties["name"].as_str() {
        Some(name) => name.to_owned(),
        None => format!("{name}_OsDisk_1_{}", clock::random_hex(32)),
    };
    let shown = json!({
        "osType": "Linux",
        "diskSizeGB": wanted.disk_gb,
        "diskState": "Attached",
    });
    let sku = Some(json!({"name": wanted.disk_kind}));
    made.push(resource(Kind::Disk, &disk, sku, shown));
    parts.push((Kind::Disk, disk, properties["deleteOption"] == "Delete"));
    state.open_group(group)?.resources.extend(made);
    Ok((parts, private_ip))
}
