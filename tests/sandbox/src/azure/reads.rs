//! What is only read: SKUs, images, features, identities.

use serde_json::{Value, json};

use super::catalogue::{self, Size};
use super::error::{self, ApiError, Result};
use super::path::{Kind, subscription_id};
use super::state::State;
use super::{Call, images};
use crate::calls::lock;
use crate::entra::TENANT;
use crate::server::Response;

/// A size as its SKU shows it.
fn sku(state: &State, region: &'static str, size: &Size) -> Value {
    let capabilities: Vec<Value> = size
        .capabilities()
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let restrictions = match state.is_restricted(region, size.name) {
        false => json!([]),
        true => json!([{
            "type": "Location",
            "values": [region],
            "restrictionInfo": {"locations": [region]},
            "reasonCode": "NotAvailableForSubscription",
        }]),
    };
    let short = size.name.trim_start_matches("Standard_");
    json!({
        "resourceType": "virtualMachines",
        "name": size.name,
        "tier": "Standard",
        "size": short,
        "family": size.family.name,
        "locations": [region],
        "locationInfo": [{"location": region, "zones": ["1", "2", "3"], "zoneDetails": []}],
        "capabilities": capabilities,
        "restrictions": restrictions,
    })
}

impl Call<'_> {
    /// <https://learn.microsoft.com/en-us/rest/api/compute/resource-skus/list>
    pub(super) fn list_skus(&self) -> Result<Response> {
        self.require("Microsoft.Compute/skus/read", &subscription_id())?;
        // Only the location may be asked for, and it may be one that isn't.
        let wanted = match self.query.get("$filter") {
            None => None,
            Some(filter) => {
                let inner = filter
                    .strip_prefix("location eq '")
                    .and_then(|rest| rest.strip_suffix('\''));
                let location = inner.ok_or_else(|| {
                    ApiError::bad(
                        "BadRequest",
                        format!("The filter '{filter}' is invalid: only 'location' is supported."),
                    )
                })?;
                Some(catalogue::region(location))
            }
        };
        let state = lock(&self.world.state);
        let mut all = Vec::new();
        for (region, _) in catalogue::REGIONS {
            if wanted.is_some_and(|wanted| wanted != Some(region)) {
                continue;
            }
            // Other kinds are in the same list.
            all.push(json!({
                "resourceType": "disks",
                "name": "Premium_LRS",
                "tier": "Premium",
                "size": "P4",
                "locations": [region],
                "locationInfo": [{"location": region, "zones": ["1", "2", "3"]}],
                "capabilities": [{"name": "MaxSizeGiB", "value": "32"}],
                "restrictions": [],
            }));
            all.extend(catalogue::sizes(region).map(|size| sku(&state, region, &size)));
        }
        drop(state);
        self.page(all, None)
    }

    pub(super) fn list_versions(&self, names: &[String; 4]) -> Result<Response> {
        self.require(
            "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read",
            &subscription_id(),
        )?;
        Ok(error::document(200, &images::versions(names, &self.query)?))
    }

    pub(super) fn get_version(&self, names: &[String; 4], version: &str) -> Result<Response> {
        self.require(
            "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read",
            &subscription_id(),
        )?;
        Ok(error::document(200, &images::one_version(names, version)?))
    }

    /// Managed images, and those of galleries.
    pub(super) fn get_image(
        &self,
        kind: Kind,
        group: &str,
        name: &str,
        rest: &[String],
    ) -> Result<Response> {
        let action = match (kind, rest.len()) {
            (Kind::Image, _) => "Microsoft.Compute/images/read",
            (_, 0) => "Microsoft.Compute/galleries/read",
            (_, 1 | 2) => "Microsoft.Compute/galleries/images/read",
            _ => "Microsoft.Compute/galleries/images/versions/read",
        };
        self.require(action, &kind.id(group, name))?;
        lock(&self.world.state).group(group)?;
        match images::resource(kind, group, name, rest) {
            Some(document) => Ok(error::document(200, &document)),
            None => Err(ApiError::no_resource(kind, group, name)),
        }
    }

    /// <https://learn.microsoft.com/en-us/rest/api/compute/community-gallery-images/get>
    /// <https://learn.microsoft.com/en-us/rest/api/compute/shared-gallery-images/get>
    pub(super) fn get_open_image(&self, names: &[String; 4]) -> Result<Response> {
        let kind = match names[1].eq_ignore_ascii_case("communityGalleries") {
            true => "communityGalleries",
            false => "sharedGalleries",
        };
        let action = format!("Microsoft.Compute/locations/{kind}/images/read");
        self.require(&action, &subscription_id())?;
        images::open(names, kind).map(|document| error::document(200, &document))
    }

    /// <https://learn.microsoft.com/en-us/rest/api/resources/features/get>
    pub(super) fn get_feature(&self, provider: &str, name: &str) -> Result<Response> {
        self.require(
            "Microsoft.Features/providers/features/read",
            &subscription_id(),
        )?;
        let full = format!("{provider}/{name}");
        let registered = lock(&self.world.state).features.contains(&full);
        let id = format!(
            "{}/providers/Microsoft.Features/providers/{provider}/features/{name}",
            subscription_id()
        );
        let body = json!({
            "properties": {"state": if registered { "Registered" } else { "NotRegistered" }},
            "id": id,
            "type": "Microsoft.Features/providers/features",
            "name": full,
        });
        Ok(error::document(200, &body))
    }

    /// <https://learn.microsoft.com/en-us/rest/api/managedidentity/user-assigned-identities/get>
    pub(super) fn get_identity(&self, group: &str, name: &str) -> Result<Response> {
        let kind = Kind::UserAssignedIdentity;
        let id = kind.id(group, name);
        self.require("Microsoft.ManagedIdentity/userAssignedIdentities/read", &id)?;
        lock(&self.world.state).group(group)?;
        let identity = self
            .world
            .directory
            .identity(&id)
            .ok_or_else(|| ApiError::no_resource(kind, group, name))?;
        // Its own answers say `resourcegroups`.
        let shown = identity
            .resource
            .replace("/resourceGroups/", "/resourcegroups/");
        let body = json!({
            "id": shown,
            "name": name,
            "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
            "location": "westus2",
            "tags": {},
            "properties": {
                "tenantId": TENANT,
                "principalId": identity.object,
                "clientId": identity.client,
            },
        });
        Ok(error::document(200, &body))
    }
}
