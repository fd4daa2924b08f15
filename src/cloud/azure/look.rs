//! The one wave of reads before a launch.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde::Deserialize;

use super::asked::Asked;
use super::client::{Api, Call, Client, Failure};
use super::images::{self, Found, Market, WantedImage};
use super::left_over;
use super::refusal::Refusal;
use super::roles;
use super::sizes;
use crate::cloud::{Arch, InstanceRef};
use crate::error::{Error, Result};

/// What is known of a size in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) name: String,
    pub(super) arch: Arch,
    pub(super) first_generation: bool,
    pub(super) second_generation: bool,
    /// Whether the subscription may have it there.
    pub(super) allowed: bool,
    /// Whether it is to be had as spot.
    pub(super) spot: bool,
    /// Whether it takes disks of the better kind.
    pub(super) premium: bool,
    pub(super) accelerated: bool,
    pub(super) trusted: bool,
    pub(super) encryption: bool,
}

impl Size {
    /// What the name tells, and no more: what may be refused isn't asked for.
    pub(super) fn guess(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arch: sizes::arch(name),
            first_generation: true,
            second_generation: true,
            allowed: true,
            spot: true,
            premium: false,
            accelerated: false,
            trusted: false,
            encryption: false,
        }
    }
}

/// What the look found in a region.
#[derive(Debug)]
pub(super) struct Facts {
    /// Those of the sizes asked for that there are; `None`: they may not be looked at.
    pub(super) sizes: Option<Vec<Size>>,
    /// The marketplace's images that were looked for.
    pub(super) images: BTreeMap<Market, Found>,
    /// The image that was asked for by its id.
    pub(super) image: Option<Found>,
}

/// A user-assigned identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: String,
    /// The id by which it asks for tokens; `None`: it may not be looked at.
    pub(super) client: Option<String>,
}

/// What the look found.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) regions: BTreeMap<String, Result<Facts>>,
    /// Whether the launcher may give roles; `None`: nobody told.
    pub(super) may_assign: Option<bool>,
    pub(super) identities: Vec<Identity>,
    /// Whether the subscription has switched encryption at the host on.
    pub(super) encryption: bool,
    /// Groups that earlier launches may have left.
    pub(super) left_over: Vec<InstanceRef>,
}

/// Asks everything, side by side.
pub(super) async fn wave(client: &Client, asked: &Asked) -> Result<Looked> {
    let regions = asked.regions.iter().map(async |region| {
        let facts = look(client, region, asked).await;
        (region.clone(), facts)
    });
    let identities = asked.identities.iter().map(|id| identity(client, id));
    let (regions, identities, may_assign, encryption, left_over) = Box::pin(async {
        tokio::join!(
            join_all(regions),
            join_all(identities),
            may_assign(client),
            encryption(client),
            left_over::candidates(client),
        )
    })
    .await;
    Ok(Looked {
        regions: regions.into_iter().collect(),
        may_assign: may_assign?,
        identities: identities.into_iter().collect::<Result<_>>()?,
        encryption: encryption?,
        left_over,
    })
}

async fn look(client: &Client, region: &str, asked: &Asked) -> Result<Facts> {
    let image = async {
        match &asked.image {
            WantedImage::Id(id) => images::look_at_id(client, region, id).await.map(Some),
            WantedImage::Default | WantedImage::Market(_) => Ok(None),
        }
    };
    let markets = markets(asked).into_iter().map(async |market| {
        let found = images::look_in_market(client, region, &market).await?;
        Ok::<_, Failure>((market, found))
    });
    let (sizes, image, images) =
        Box::pin(async { tokio::join!(sizes_in(client, region, asked), image, join_all(markets)) })
            .await;
    let doing = |failure: Failure| match failure {
        Failure::Refused(refusal) if refusal.code == NO_REGION => no_region(region, refusal),
        failure => failure.during(format!("looking for the image in {region}")),
    };
    let images: Result<BTreeMap<_, _>, Failure> = images.into_iter().collect();
    Ok(Facts {
        sizes: sizes?,
        image: image.map_err(doing)?,
        images: images.map_err(doing)?,
    })
}

/// What a read in a region that there isn't is refused with.
/// <https://learn.microsoft.com/en-us/azure/azure-resource-manager/troubleshooting/common-deployment-errors>
const NO_REGION: &str = "LocationNotAvailableForResourceType";

/// A region without any images is none: that is a slip of the user's, and no lack of room that
/// passes.
fn no_region(region: &str, refusal: Refusal) -> Error {
    Error::usage(format!("--cloud-region: Azure has no machines in {region}"))
        .caused_by(refusal)
        .hint("az account list-locations --query [].name shows the regions that there are")
}

/// The marketplace's images that the launch may need, as far as the names of the sizes tell.
fn markets(asked: &Asked) -> BTreeSet<Market> {
    match &asked.image {
        WantedImage::Market(market) => BTreeSet::from([market.clone()]),
        WantedImage::Id(_) => BTreeSet::new(),
        WantedImage::Default => asked
            .types
            .iter()
            .map(|size| Market::default(sizes::arch(size), sizes::driver(size), true))
            .collect(),
    }
}

/// <https://learn.microsoft.com/en-us/rest/api/compute/resource-skus/list>
async fn sizes_in(client: &Client, region: &str, asked: &Asked) -> Result<Option<Vec<Size>>> {
    let call = Call::get(Api::Skus, "skus", "providers/Microsoft.Compute/skus")
        .query("$filter", format!("location eq '{region}'"));
    match client.list::<Sku>(&call).await {
        Ok(skus) => Ok(Some(
            skus.into_iter()
                .filter(|sku| sku.is_machine() && asked.types.iter().any(|name| sku.is(name)))
                .map(|sku| sku.size(region))
                .collect(),
        )),
        Err(failure) if is_tolerated(&failure) => Ok(None),
        Err(failure) => {
            Err(failure.during(format!("looking at the sizes of machines in {region}")))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sku {
    #[serde(default)]
    resource_type: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    capabilities: Vec<Capability>,
    #[serde(default)]
    restrictions: Vec<Restriction>,
}

#[derive(Debug, Deserialize)]
struct Capability {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct Restriction {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    values: Vec<String>,
}

impl Sku {
    fn is_machine(&self) -> bool {
        self.resource_type.eq_ignore_ascii_case("virtualMachines")
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn capability(&self, name: &str) -> Option<&str> {
        let mut all = self.capabilities.iter();
        let found = all.find(|known| known.name.eq_ignore_ascii_case(name))?;
        Some(found.value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        let value = self.capability(name).unwrap_or_default();
        value.eq_ignore_ascii_case("true")
    }

    /// Restrictions of single zones don't matter: we name none.
    fn size(&self, region: &str) -> Size {
        let restricted = self.restrictions.iter().any(|restriction| {
            restriction.kind.eq_ignore_ascii_case("Location")
                && (restriction.values.is_empty()
                    || restriction
                        .values
                        .iter()
                        .any(|value| value.eq_ignore_ascii_case(region)))
        });
        let generations = self.capability("HyperVGenerations").unwrap_or("V1,V2");
        let has_generation = |wanted| generations.split(',').any(|known| known.trim() == wanted);
        let arch = match self.capability("CpuArchitectureType") {
            Some(text) if text.eq_ignore_ascii_case("Arm64") => Arch::Aarch64,
            Some(_) => Arch::X86_64,
            None => sizes::arch(&self.name),
        };
        Size {
            name: self.name.clone(),
            arch,
            first_generation: has_generation("V1"),
            second_generation: has_generation("V2"),
            allowed: !restricted,
            spot: self.has("LowPriorityCapable"),
            premium: self.has("PremiumIO"),
            accelerated: self.has("AcceleratedNetworkingEnabled"),
            trusted: has_generation("V2") && !self.has("TrustedLaunchDisabled"),
            encryption: self.has("EncryptionAtHostSupported"),
        }
    }
}

async fn may_assign(client: &Client) -> Result<Option<bool>> {
    match roles::permissions(client).await {
        Ok(permissions) => Ok(Some(roles::may_assign(&permissions))),
        Err(failure) if is_tolerated(&failure) => Ok(None),
        Err(failure) => Err(failure.during("looking what the launcher may do")),
    }
}

/// <https://learn.microsoft.com/en-us/rest/api/managedidentity/user-assigned-identities/get>
async fn identity(client: &Client, id: &str) -> Result<Identity> {
    #[derive(Deserialize)]
    struct Answer {
        properties: Option<Properties>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Properties {
        client_id: Option<String>,
    }
    let call = Call::get(Api::Identity, "userAssignedIdentities", id);
    let known = |client| Identity {
        id: id.to_owned(),
        client,
    };
    match client.call::<Answer>(&call).await {
        Ok(answer) => Ok(known(answer.properties.and_then(|all| all.client_id))),
        Err(failure) if failure.is_missing() || failure.is_without_subscription() => Err(
            Error::usage(format!("--cloud-permission-set: there is no identity {id}"))
                .hint("az identity list --query [].id shows those that there are"),
        ),
        Err(failure) if is_tolerated(&failure) => Ok(known(None)),
        Err(failure) => Err(failure.during(format!("looking for the identity {id}"))),
    }
}

/// Encryption at the host has to be switched on once in each subscription.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/linux/disks-enable-host-based-encryption-cli#prerequisites>
async fn encryption(client: &Client) -> Result<bool> {
    #[derive(Deserialize)]
    struct Answer {
        properties: Option<Properties>,
    }
    #[derive(Deserialize)]
    struct Properties {
        #[serde(default)]
        state: String,
    }
    let call = Call::get(
        Api::Features,
        "features",
        "providers/Microsoft.Features/providers/Microsoft.Compute/features/EncryptionAtHost",
    );
    match client.call::<Answer>(&call).await {
        Ok(answer) => Ok(answer
            .properties
            .is_some_and(|all| all.state.eq_ignore_ascii_case("Registered"))),
        Err(failure) if failure.is_missing() || is_tolerated(&failure) => Ok(false),
        Err(failure) => Err(failure.during("looking whether disks can be encrypted at the host")),
    }
}

/// What the launcher has no right to look at, the launch can do without; and a cloud of another version
/// may not know some of it. With whatever is wrong with the subscription, nothing can be launched.
pub(super) fn is_tolerated(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => {
            refusal.is_lack_of_rights()
                || matches!(
                    refusal.code.as_str(),
                    "InvalidResourceType"
                        | "NoRegisteredProviderFound"
                        | "InvalidApiVersionParameter"
                )
        }
        Failure::Broken(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::azure::asked::tests::spec;
    use crate::cloud::azure::refusal::RESOURCE_MANAGER;

    /// The API reference's example, with values as they are for a real size.
    const SKU: &str = r#"{
        "resourceType":"virtualMachines","name":"Standard_D8ps_v5","tier":"Standard",
        "size":"D8ps_v5","family":"standardDPSv5Family","locations":["westus2"],
        "locationInfo":[{"location":"westus2","zones":["1","2"],"zoneDetails":[]}],
        "capabilities":[
          {"name":"MaxResourceVolumeMB","value":"0"},{"name":"vCPUs","value":"8"},
          {"name":"HyperVGenerations","value":"V2"},{"name":"CpuArchitectureType","value":"Arm64"},
          {"name":"LowPriorityCapable","value":"True"},{"name":"PremiumIO","value":"True"},
          {"name":"EncryptionAtHostSupported","value":"True"},
          {"name":"AcceleratedNetworkingEnabled","value":"True"},
          {"name":"TrustedLaunchDisabled","value":"True"}],
        "restrictions":[{"type":"Zone","values":["westus2"],
          "restrictionInfo":{"locations":["westus2"],"zones":["3"]},
          "reasonCode":"NotAvailableForSubscription"}]}"#;

    fn read(json: &str) -> Size {
        serde_json::from_str::<Sku>(json).unwrap().size("westus2")
    }

    #[test]
    fn a_published_size_is_read() {
        assert_eq!(
            read(SKU),
            Size {
                name: "Standard_D8ps_v5".into(),
                arch: Arch::Aarch64,
                first_generation: false,
                second_generation: true,
                allowed: true,
                spot: true,
                premium: true,
                accelerated: true,
                trusted: false,
                encryption: true,
            }
        );
        let restricted = SKU.replace("\"type\":\"Zone\"", "\"type\":\"Location\"");
        assert!(!read(&restricted).allowed);
        let elsewhere = restricted.replace("\"values\":[\"westus2\"]", "\"values\":[\"eastus\"]");
        assert!(read(&elsewhere).allowed);
        let trusted = SKU.replace(
            "TrustedLaunchDisabled\",\"value\":\"True",
            "x\",\"value\":\"",
        );
        assert!(read(&trusted).trusted);
    }

    #[test]
    fn a_lack_of_rights_is_tolerated_and_a_subscription_that_is_no_good_is_not() {
        let refused = |status: u16, code: &str| {
            let body = match code {
                "" => String::new(),
                code => serde_json::json!({"error": {"code": code}}).to_string(),
            };
            let reply = crate::http::Reply {
                status: http::StatusCode::from_u16(status).unwrap(),
                headers: http::HeaderMap::new(),
                body: body.into(),
            };
            is_tolerated(&Failure::Refused(Refusal::read(RESOURCE_MANAGER, &reply)))
        };
        for (status, code, tolerated) in [
            (403, "AuthorizationFailed", true),
            (403, "LinkedAuthorizationFailed", true),
            (403, "", true),
            (403, "Forbidden", true),
            (404, "InvalidResourceType", true),
            (400, "NoRegisteredProviderFound", true),
            (400, "InvalidApiVersionParameter", true),
            (404, "SubscriptionNotFound", false),
            (400, "InvalidSubscriptionId", false),
            (403, "DisabledSubscription", false),
            (409, "ReadOnlyDisabledSubscription", false),
            (403, "SubscriptionOfAnUnknownKind", false),
            (409, "MissingSubscriptionRegistration", false),
            (403, "SubscriptionNotRegistered", false),
            (409, "InvalidSubscriptionRegistrationState", false),
            (403, "RequestDisallowedByPolicy", false),
            (401, "InvalidAuthenticationToken", false),
            (404, "", false),
        ] {
            assert_eq!(refused(status, code), tolerated, "{status} {code}");
        }
    }

    #[test]
    fn only_images_that_may_be_needed_are_looked_for() {
        let names = |types: &[&str], image: Option<&str>| {
            let mut spec = spec();
            spec.types = types.iter().map(|text| (*text).to_owned()).collect();
            spec.image = image.map(str::to_owned);
            let markets = markets(&Asked::read(&spec).unwrap());
            let names: Vec<String> = markets.iter().map(ToString::to_string).collect();
            names
        };
        assert_eq!(
            names(&["m", "Standard_D8ps_v5", "l"], None),
            [
                "Canonical:ubuntu-24_04-lts:server:latest",
                "Canonical:ubuntu-24_04-lts:server-arm64:latest",
            ]
        );
        assert_eq!(
            names(&["m+t4"], None),
            ["microsoft-dsvm:ubuntu-hpc:2404:latest"]
        );
        assert_eq!(names(&["m", "l"], Some("a:b:c:1")), ["a:b:c:1"]);
        assert_eq!(
            names(&["m"], Some("/communityGalleries/c/images/i")),
            [""; 0]
        );
    }
}
