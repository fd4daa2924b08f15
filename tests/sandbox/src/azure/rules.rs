//! What a machine's body must say for Compute to take it.
//! <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machines/create-or-update>

use serde_json::Value;

use super::catalogue::{self, Size};
use super::error::{ApiError, Result};
use super::images::{self, Image};
use super::os::{administrator, computer_name, custom_data};
use super::state::Wanted;
use super::{Call, path};
use crate::calls::lock;

/// Properties that the sandbox has nothing for.
const NOT_MODELLED: &[&str] = &[
    "additionalCapabilities",
    "applicationProfile",
    "availabilitySet",
    "capacityReservation",
    "host",
    "hostGroup",
    "licenseType",
    "platformFaultDomain",
    "proximityPlacementGroup",
    "userData",
    "virtualMachineScaleSet",
];

impl Call<'_> {
    /// Reads a machine's body, and what it needs of the caller elsewhere. Capacity comes later.
    pub(super) fn wanted(&self, id: &str, location: &'static str, body: &Value) -> Result<Wanted> {
        let properties = &body["properties"];
        for name in NOT_MODELLED {
            if !properties[*name].is_null() {
                let message = format!("The sandbox does not model '{name}'.");
                return Err(ApiError::parameter(name, message));
            }
        }
        for name in [
            "hardwareProfile",
            "storageProfile",
            "osProfile",
            "networkProfile",
        ] {
            if properties[name].is_null() {
                return Err(missing(name));
            }
        }
        let size = size(properties, location)?;
        let storage = &properties["storageProfile"];
        if storage["imageReference"].is_null() {
            return Err(missing("imageReference"));
        }
        let (image, reference, linked) = images::referenced(location, &storage["imageReference"])?;
        if let Some((action, image_id)) = linked {
            self.require_linked(id, action, &image_id)?;
        }
        check_image(&size, &image, &body["plan"], path_name(id))?;
        let (disk_gb, disk_kind) = disk(&storage["osDisk"], &size, &image)?;
        let (spot, max_price, deleted_when_evicted) = price(properties, &size)?;
        let os = &properties["osProfile"];
        let (admin, public_keys) = administrator(os, &image)?;
        let (trusted, secure_boot, encryption_at_host) =
            self.security(&properties["securityProfile"], &size, &image)?;
        let (system_identity, user_identities) = identity(&body["identity"])?;
        Ok(Wanted {
            size,
            image,
            reference,
            spot,
            max_price,
            deleted_when_evicted,
            custom_data: custom_data(os)?,
            admin,
            computer_name: computer_name(os)?,
            public_keys,
            disk_gb,
            disk_kind,
            trusted,
            secure_boot,
            encryption_at_host,
            boot_diagnostics: properties["diagnosticsProfile"]["bootDiagnostics"]["enabled"]
                .as_bool()
                .unwrap_or(false),
            system_identity,
            user_identities,
        })
    }

    /// <https://learn.microsoft.com/en-us/azure/virtual-machines/trusted-launch>,
    /// <https://learn.microsoft.com/en-us/azure/virtual-machines/disks-enable-host-based-encryption-portal>
    fn security(&self, profile: &Value, size: &Size, image: &Image) -> Result<(bool, bool, bool)> {
        let trusted = match profile["securityType"].as_str() {
            None => false,
            Some("TrustedLaunch") => true,
            Some(other) => {
                return Err(ApiError::parameter(
                    "securityProfile.securityType",
                    format!("The sandbox does not model the security type '{other}'."),
                ));
            }
        };
        if !trusted && !profile["uefiSettings"].is_null() {
            return Err(ApiError::bad(
                "BadRequest",
                "Use of UEFI settings is only supported with the security types TrustedLaunch and \
                 ConfidentialVM.",
            ));
        }
        if trusted && !size.family.trusted {
            return Err(ApiError::bad(
                "BadRequest",
                format!(
                    "The VM size '{}' is not supported for creation of VMs with 'TrustedLaunch' \
                     security type.",
                    size.name
                ),
            ));
        }
        if trusted && !image.trusted {
            return Err(ApiError::bad(
                "BadRequest",
                "Use of TrustedLaunch setting is not supported for the provided image. Please \
                 select Trusted Launch Supported Gen2 Image. For more information, see \
                 https://aka.ms/TrustedLaunch-FAQ.",
            ));
        }
        let encrypted = profile["encryptionAtHost"].as_bool().unwrap_or(false);
        let registered = lock(&self.world.state)
            .features
            .contains("Microsoft.Compute/EncryptionAtHost");
        // It is said of `false`, too: <https://github.com/Azure/ResourceModules/pull/1242>
        if !profile["encryptionAtHost"].is_null() && !registered {
            return Err(ApiError::parameter(
                "securityProfile.encryptionAtHost",
                "The property 'securityProfile.encryptionAtHost' is not valid because the \
                 'Microsoft.Compute/EncryptionAtHost' feature is not enabled for this subscription.",
            ));
        }
        if encrypted && !size.family.encryption {
            return Err(ApiError::parameter(
                "securityProfile.encryptionAtHost",
                format!(
                    "The VM size '{}' does not support encryption at host.",
                    size.name
                ),
            ));
        }
        let secure_boot = profile["uefiSettings"]["secureBootEnabled"]
            .as_bool()
            .unwrap_or(false);
        Ok((trusted, secure_boot, encrypted))
    }
}

fn path_name(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::parameter(
        name,
        format!("Required parameter '{name}' is missing (null)."),
    )
}

fn size(properties: &Value, location: &str) -> Result<Size> {
    let name = properties["hardwareProfile"]["vmSize"]
        .as_str()
        .ok_or_else(|| missing("vmSize"))?;
    catalogue::size(location, name).ok_or_else(|| {
        let known: Vec<&str> = catalogue::sizes(location).map(|size| size.name).collect();
        ApiError::parameter(
            "vmSize",
            format!(
                "The value {name} provided for the VM size is not valid. The valid sizes in the \
                 current region are: {}. Find out more on the available VM sizes in each region at \
                 https://aka.ms/azure-regions.",
                known.join(",")
            ),
        )
    })
}

/// Whether a size starts an image, and whether that is paid for.
fn check_image(size: &Size, image: &Image, plan: &Value, name: &str) -> Result<()> {
    // <https://github.com/loft-sh/devpod/issues/731>
    let generation = if image.second_generation { "V2" } else { "V1" };
    if !size.family.generations.split(',').any(|g| g == generation) {
        let number = &generation[1..];
        return Err(ApiError::bad(
            "BadRequest",
            format!(
                "The selected VM size '{}' cannot boot Hypervisor Generation '{number}'. If this \
                 was a Create operation please check that the Hypervisor Generation of the Image \
                 matches the Hypervisor Generation of the selected VM Size. If this was an Update \
                 operation please select a Hypervisor Generation '{number}' VM Size. For more \
                 information, see https://aka.ms/azuregen2vm",
                size.name
            ),
        ));
    }
    if size.family.arm != image.arm {
        let name = |arm: bool| if arm { "Arm64" } else { "x64" };
        return Err(ApiError::bad(
            "BadRequest",
            format!(
                "Cannot create a VM of size '{}' because this VM size only supports a CPU \
                 Architecture of '{}', but an image or disk with CPU Architecture '{}' was given. \
                 Please check that the CPU Architecture of the image or disk is compatible with \
                 that of the VM size.",
                size.name,
                name(size.family.arm),
                name(image.arm)
            ),
        ));
    }
    // <https://learn.microsoft.com/en-us/azure/virtual-machines/marketplace-images>
    match &image.plan {
        Some([plan_name, product, publisher]) => {
            let same = plan["name"] == *plan_name
                && plan["product"] == *product
                && plan["publisher"] == *publisher;
            match same {
                true => Ok(()),
                false => Err(ApiError::bad(
                    "VMMarketplaceInvalidInput",
                    format!(
                        "Creating a virtual machine from Marketplace image or a custom image \
                         sourced from a Marketplace image requires Plan information in the request. \
                         VM: '{name}'."
                    ),
                )),
            }
        }
        None if plan.is_null() => Ok(()),
        None => Err(ApiError::bad(
            "VMMarketplaceInvalidInput",
            format!(
                "The platform image does not have a plan, but the request has plan information. \
                 VM: '{name}'."
            ),
        )),
    }
}

/// The size and the kind of the disk.
fn disk(disk: &Value, size: &Size, image: &Image) -> Result<(u32, String)> {
    if disk["createOption"] != "FromImage" {
        return Err(ApiError::parameter(
            "osDisk.createOption",
            "The sandbox makes disks from images alone.",
        ));
    }
    if !disk["diffDiskSettings"].is_null() {
        return Err(ApiError::parameter(
            "osDisk.diffDiskSettings",
            "The sandbox does not model ephemeral disks.",
        ));
    }
    let gb = match disk["diskSizeGB"].as_u64() {
        None => image.disk_gb,
        Some(gb) => u32::try_from(gb).unwrap_or(u32::MAX),
    };
    if gb < image.disk_gb {
        return Err(ApiError::new(
            409,
            "OperationNotAllowed",
            format!(
                "The specified disk size {gb} GB is smaller than the size of the corresponding disk \
                 in the VM image: {} GB. This is not allowed. Please choose equal or greater size \
                 or do not specify an explicit size.",
                image.disk_gb
            ),
        )
        .target("osDisk.diskSizeGB"));
    }
    if gb > 4095 {
        return Err(ApiError::parameter(
            "osDisk.diskSizeGB",
            format!("The value {gb} of parameter 'osDisk.diskSizeGB' is out of range."),
        ));
    }
    let default = if size.family.premium {
        "Premium_LRS"
    } else {
        "Standard_LRS"
    };
    let kind = disk["managedDisk"]["storageAccountType"]
        .as_str()
        .unwrap_or(default);
    if kind.starts_with("Premium") && !size.family.premium {
        return Err(ApiError::bad(
            "InvalidParameter",
            format!(
                "Requested operation cannot be performed because the VM size {} does not support \
                 the storage account type {kind} of disk '{}'. Consider updating the VM to a size \
                 that supports Premium storage.",
                size.name,
                disk["name"].as_str().unwrap_or("osdisk")
            ),
        )
        .target("osDisk.managedDisk.storageAccountType"));
    }
    if kind.starts_with("PremiumV2") || kind.starts_with("Ultra") {
        return Err(ApiError::parameter(
            "osDisk.managedDisk.storageAccountType",
            format!("The storage account type {kind} can't be that of an OS disk."),
        ));
    }
    Ok((gb, kind.into()))
}

/// Whether it is spot, at what price at most, and whether it is deleted when it is evicted.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/error-codes-spot>
fn price(properties: &Value, size: &Size) -> Result<(bool, Option<f64>, bool)> {
    let spot = matches!(properties["priority"].as_str(), Some("Spot" | "Low"));
    let max_price = properties["billingProfile"]["maxPrice"].as_f64();
    let policy = properties["evictionPolicy"].as_str();
    if !spot {
        if policy.is_some() {
            return Err(ApiError::bad(
                "EvictionPolicyCanBeSetOnlyOnAzureSpotVirtualMachines",
                "Eviction policy can be set only on Azure Spot Virtual Machines.",
            ));
        }
        if max_price.is_some() {
            return Err(ApiError::bad(
                "MaxPriceIsSupportedOnlyForAzureSpotVirtualMachines",
                "Max price is supported only for Azure Spot Virtual Machines.",
            ));
        }
        return Ok((false, None, false));
    }
    if max_price.is_some_and(|price| price <= 0.0 && price != -1.0) {
        return Err(ApiError::bad(
            "MaxPriceValueInvalid",
            "Max price value is invalid. The only supported values for max price are -1 or a \
             decimal greater than zero. Max price value of -1 indicates the Azure Spot Virtual \
             Machine won't be evicted for price reasons.",
        ));
    }
    if !size.family.spot {
        return Err(ApiError::bad(
            "AzureSpotIsNotSupportedForThisVMSize",
            format!(
                "Azure Spot Virtual Machine is not supported for this VM size {}.",
                size.name
            ),
        ));
    }
    // A price that makes sense for all that is here.
    let current = f64::from(size.cpus) * 0.01 + f64::from(size.gpus) * 0.2;
    if let Some(price) = max_price.filter(|price| *price > 0.0 && *price < current) {
        return Err(ApiError::new(
            409,
            "SpotPriceGreaterThanProvidedMaxPrice",
            format!(
                "Unable to perform operation 'Create VM' since the provided max price '{price} USD' \
                 is lower than the current spot price '{current:.5} USD' for Azure Spot VM size \
                 '{}'.",
                size.name
            ),
        ));
    }
    // Deallocate is what it is without a word.
    Ok((true, max_price, policy == Some("Delete")))
}

/// Whether it has an identity of its own, and which others.
fn identity(identity: &Value) -> Result<(bool, Vec<String>)> {
    let kind = identity["type"].as_str().unwrap_or("None");
    let others: Vec<String> = identity["userAssignedIdentities"]
        .as_object()
        .map(|map| map.keys().cloned().collect())
        .unwrap_or_default();
    let wants_others = kind.contains("UserAssigned");
    if wants_others == others.is_empty() {
        return Err(ApiError::bad(
            "InvalidParameter",
            format!(
                "The identity type '{kind}' and the user assigned identities of the request don't \
                 go together."
            ),
        )
        .target("identity"));
    }
    for id in &others {
        let known = path::resource(id).is_some_and(|(_, kind, _, rest)| {
            kind == path::Kind::UserAssignedIdentity && rest.is_empty()
        });
        if !known {
            return Err(ApiError::bad(
                "LinkedInvalidPropertyId",
                format!(
                    "Property id '{id}' at path 'identity.userAssignedIdentities' is invalid. \
                     Expect fully qualified resource Id that start with '/subscriptions/...'."
                ),
            ));
        }
    }
    Ok((kind.contains("SystemAssigned"), others))
}
