//! The request that makes a machine, with its address and its disk.
//! <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/create-or-update>

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::images::{PurchasePlan, Reference};
use crate::secret::{Secret, exposed};

/// The user that our images have.
const USER: &str = "ubuntu";

/// What the parts inside are called.
const INTERFACE: &str = "runner";

/// The network interface's version in which a machine's body describes one: Azure knows two.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/create-or-update#networkapiversion>
const NETWORK_VERSION: &str = "2020-11-01";

/// All that belongs to a machine goes with it.
const DELETE: &str = "Delete";

#[derive(Debug, Serialize)]
pub(super) struct Body {
    location: String,
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PurchasePlan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    properties: Properties,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    user_assigned_identities: BTreeMap<String, Empty>,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    hardware_profile: HardwareProfile,
    storage_profile: StorageProfile,
    os_profile: OsProfile,
    network_profile: NetworkProfile,
    diagnostics_profile: DiagnosticsProfile,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_profile: Option<SecurityProfile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eviction_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_profile: Option<BillingProfile>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HardwareProfile {
    vm_size: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StorageProfile {
    image_reference: Reference,
    os_disk: OsDisk,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OsDisk {
    create_option: &'static str,
    delete_option: &'static str,
    #[serde(rename = "diskSizeGB")]
    disk_size_gb: u32,
    caching: &'static str,
    managed_disk: ManagedDisk,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ManagedDisk {
    storage_account_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OsProfile {
    computer_name: String,
    admin_username: &'static str,
    #[serde(with = "exposed::always")]
    custom_data: Secret,
    linux_configuration: LinuxConfiguration,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LinuxConfiguration {
    disable_password_authentication: bool,
    ssh: Ssh,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ssh {
    public_keys: [PublicKey; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    path: String,
    key_data: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NetworkProfile {
    network_api_version: &'static str,
    network_interface_configurations: [Named<Interface>; 1],
}

#[derive(Debug, Serialize)]
struct Named<T> {
    name: &'static str,
    properties: T,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    primary: bool,
    delete_option: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    enable_accelerated_networking: bool,
    network_security_group: Id,
    ip_configurations: [Named<IpConfiguration>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct IpConfiguration {
    primary: bool,
    subnet: Id,
    #[serde(rename = "publicIPAddressConfiguration")]
    public_ip_address_configuration: Address,
}

#[derive(Debug, Serialize)]
struct Id {
    id: String,
}

#[derive(Debug, Serialize)]
struct Address {
    name: &'static str,
    sku: Sku,
    properties: AddressProperties,
}

#[derive(Debug, Serialize)]
struct Sku {
    name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AddressProperties {
    delete_option: &'static str,
    #[serde(rename = "publicIPAllocationMethod")]
    public_ip_allocation_method: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DiagnosticsProfile {
    boot_diagnostics: BootDiagnostics,
}

#[derive(Debug, Serialize)]
struct BootDiagnostics {
    enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SecurityProfile {
    #[serde(skip_serializing_if = "Option::is_none")]
    security_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uefi_settings: Option<UefiSettings>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    encryption_at_host: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UefiSettings {
    secure_boot_enabled: bool,
    v_tpm_enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BillingProfile {
    max_price: f64,
}

/// Trusted Launch, where size and image allow it.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/trusted-launch>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Without.
    No,
    /// With all of it.
    Full,
    /// Without Secure Boot, which would refuse drivers that nobody signed.
    Unsigned,
}

/// What a body says.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) location: &'a str,
    pub(super) size: &'a str,
    pub(super) image: &'a Reference,
    pub(super) plan: Option<&'a PurchasePlan>,
    pub(super) disk_gb: u32,
    /// Whether the size takes disks of the better kind.
    pub(super) premium: bool,
    pub(super) accelerated: bool,
    pub(super) trust: Trust,
    pub(super) encryption: bool,
    /// The highest price, -1 for whatever it is; `None`: not a spot machine.
    pub(super) spot: Option<f64>,
    pub(super) own_identity: bool,
    pub(super) identities: &'a [String],
    pub(super) tags: &'a BTreeMap<String, String>,
    pub(super) user_data: &'a [u8],
    pub(super) ssh_key: &'a str,
    /// The resource id of the machine's security group.
    pub(super) security_group: String,
    /// The resource id of its subnet.
    pub(super) subnet: String,
}

impl Wanted<'_> {
    pub(super) fn body(self) -> Body {
        let spot = self.spot.is_some();
        Body {
            location: self.location.to_owned(),
            tags: self.tags.clone(),
            plan: self.plan.cloned(),
            identity: identity(self.own_identity, self.identities),
            properties: Properties {
                hardware_profile: HardwareProfile {
                    vm_size: self.size.to_owned(),
                },
                storage_profile: StorageProfile {
                    image_reference: self.image.clone(),
                    os_disk: OsDisk {
                        create_option: "FromImage",
                        delete_option: DELETE,
                        disk_size_gb: self.disk_gb,
                        caching: "ReadWrite",
                        managed_disk: ManagedDisk {
                            storage_account_type: match self.premium {
                                true => "Premium_LRS",
                                false => "StandardSSD_LRS",
                            },
                        },
                    },
                },
                os_profile: OsProfile {
                    computer_name: self.name.to_owned(),
                    admin_username: USER,
                    custom_data: Secret::new(BASE64_STANDARD.encode(self.user_data)),
                    linux_configuration: LinuxConfiguration {
                        disable_password_authentication: true,
                        ssh: Ssh {
                            public_keys: [PublicKey {
                                path: format!("/home/{USER}/.ssh/authorized_keys"),
                                key_data: self.ssh_key.to_owned(),
                            }],
                        },
                    },
                },
                network_profile: NetworkProfile {
                    network_api_version: NETWORK_VERSION,
                    network_interface_configurations: [Named {
                        name: INTERFACE,
                        properties: Interface {
                            primary: true,
                            delete_option: DELETE,
                            enable_accelerated_networking: self.accelerated,
                            network_security_group: Id {
                                id: self.security_group,
                            },
                            ip_configurations: [Named {
                                name: INTERFACE,
                                properties: IpConfiguration {
                                    primary: true,
                                    subnet: Id { id: self.subnet },
                                    public_ip_address_configuration: address(),
                                },
                            }],
                        },
                    }],
                },
                diagnostics_profile: DiagnosticsProfile {
                    // Without an account of our own, Azure keeps it in one of its.
                    boot_diagnostics: BootDiagnostics { enabled: true },
                },
                security_profile: security(self.trust, self.encryption),
                priority: spot.then_some("Spot"),
                eviction_policy: spot.then_some(DELETE),
                billing_profile: self.spot.map(|max_price| BillingProfile { max_price }),
            },
        }
    }
}

fn identity(own: bool, others: &[String]) -> Option<Identity> {
    let kind = match (own, others.is_empty()) {
        (true, true) => "SystemAssigned",
        (true, false) => "SystemAssigned, UserAssigned",
        (false, false) => "UserAssigned",
        (false, true) => return None,
    };
    let others = others.iter().map(|id| (id.clone(), Empty {}));
    Some(Identity {
        kind,
        user_assigned_identities: others.collect(),
    })
}

/// Of the standard kind, which lets nobody in by itself and can't be but static.
/// <https://learn.microsoft.com/en-us/azure/virtual-network/ip-services/public-ip-addresses#sku>
fn address() -> Address {
    Address {
        name: INTERFACE,
        sku: Sku { name: "Standard" },
        properties: AddressProperties {
            delete_option: DELETE,
            public_ip_allocation_method: "Static",
        },
    }
}

fn security(trust: Trust, encryption: bool) -> Option<SecurityProfile> {
    let trusted = trust != Trust::No;
    (trusted || encryption).then(|| SecurityProfile {
        security_type: trusted.then_some("TrustedLaunch"),
        uefi_settings: trusted.then_some(UefiSettings {
            secure_boot_enabled: trust == Trust::Full,
            v_tpm_enabled: true,
        }),
        encryption_at_host: encryption,
    })
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
