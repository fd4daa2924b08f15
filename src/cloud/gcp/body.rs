//! The request that makes an instance.
//! <https://docs.cloud.google.com/compute/docs/reference/rest/v1/instances/insert>

use std::collections::BTreeMap;

use serde::Serialize;

use super::network::NETWORK;
use super::scopes::Account;
use super::sizes::{Accelerator, Machine};

/// The script that Google's images run at every boot.
/// <https://docs.cloud.google.com/compute/docs/instances/startup-scripts/linux>
pub(super) const STARTUP_SCRIPT: &str = "startup-script";

/// An instance to be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    pub(super) name: String,
    description: String,
    machine_type: String,
    disks: [Disk; 1],
    network_interfaces: [Interface; 1],
    metadata: Metadata,
    scheduling: Scheduling,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Tags>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    guest_accelerators: Vec<GuestAccelerator>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_accounts: Vec<ServiceAccount>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Disk {
    boot: bool,
    auto_delete: bool,
    initialize_params: DiskParams,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DiskParams {
    source_image: String,
    disk_type: String,
    /// 64-bit numbers are text in Google's JSON.
    disk_size_gb: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    network: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnetwork: Option<String>,
    access_configs: [AccessConfig; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AccessConfig {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    network_tier: &'static str,
}

#[derive(Debug, Serialize)]
struct Metadata {
    items: Vec<MetadataItem>,
}

#[derive(Debug, Serialize)]
struct MetadataItem {
    key: &'static str,
    value: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Scheduling {
    provisioning_model: &'static str,
    automatic_restart: bool,
    /// Google's own choice where none is needed: it differs by type.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_host_maintenance: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_termination_action: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Tags {
    items: [String; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GuestAccelerator {
    accelerator_type: String,
    accelerator_count: u32,
}

#[derive(Debug, Serialize)]
struct ServiceAccount {
    email: String,
    scopes: Vec<String>,
}

/// What a body says.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) description: String,
    pub(super) zone: &'a str,
    pub(super) machine: &'a Machine,
    pub(super) image: &'a str,
    pub(super) disk_gb: u32,
    pub(super) spot: bool,
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// In networks whose subnets their owner makes, it must be named.
    pub(super) subnetwork: Option<String>,
    pub(super) tag: Option<&'a str>,
    pub(super) account: Option<&'a Account>,
    pub(super) user_data: &'a str,
    /// Whether the cheaper of the two networks will do; not every region has it.
    pub(super) standard_tier: bool,
}

impl Wanted<'_> {
    pub(super) fn body(self) -> Body {
        let zone = self.zone;
        let scheduling = match self.spot {
            true => Scheduling {
                provisioning_model: "SPOT",
                automatic_restart: false,
                on_host_maintenance: Some("TERMINATE"),
                instance_termination_action: Some("DELETE"),
            },
            false => Scheduling {
                provisioning_model: "STANDARD",
                // After a crash it boots again, and the script of the first boot gives it back: an
                // instance that only stops goes on costing.
                automatic_restart: true,
                on_host_maintenance: (!self.machine.migrates()).then_some("TERMINATE"),
                instance_termination_action: None,
            },
        };
        let accelerators = self.machine.accelerator.iter();
        Body {
            name: self.name.to_owned(),
            description: self.description,
            machine_type: format!("zones/{zone}/machineTypes/{}", self.machine.machine_type),
            disks: [Disk {
                boot: true,
                auto_delete: true,
                initialize_params: DiskParams {
                    source_image: self.image.to_owned(),
                    disk_type: format!("zones/{zone}/diskTypes/{}", self.machine.disk_type()),
                    disk_size_gb: self.disk_gb.to_string(),
                },
            }],
            network_interfaces: [Interface {
                network: format!("global/networks/{NETWORK}"),
                subnetwork: self.subnetwork,
                access_configs: [AccessConfig {
                    name: "External NAT",
                    kind: "ONE_TO_ONE_NAT",
                    network_tier: match self.standard_tier {
                        true => "STANDARD",
                        false => "PREMIUM",
                    },
                }],
            }],
            metadata: Metadata {
                items: vec![
                    MetadataItem {
                        key: STARTUP_SCRIPT,
                        value: self.user_data.to_owned(),
                    },
                    // Keys of the whole project open no runner.
                    // <https://docs.cloud.google.com/compute/docs/connect/restrict-ssh-keys>
                    MetadataItem {
                        key: "block-project-ssh-keys",
                        value: "TRUE".to_owned(),
                    },
                ],
            },
            scheduling,
            labels: self.labels.unwrap_or_default(),
            tags: self.tag.map(|tag| Tags {
                items: [tag.to_owned()],
            }),
            guest_accelerators: accelerators
                .map(|Accelerator { model, count }| GuestAccelerator {
                    accelerator_type: format!("zones/{zone}/acceleratorTypes/{model}"),
                    accelerator_count: *count,
                })
                .collect(),
            service_accounts: self
                .account
                .iter()
                .map(|account| ServiceAccount {
                    email: account.email.clone(),
                    scopes: account.scopes.clone(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
