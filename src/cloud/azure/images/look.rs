//! What Azure tells of images before a launch.

use serde::Deserialize;

use super::super::client::{Api, Call, Client, Failure};
use super::super::look::is_tolerated;
use super::{Found, IdKind, Image, ImageId, LATEST, Market, PurchasePlan, Reference};
use crate::cloud::Arch;

/// What a list of versions has of each.
#[derive(Debug, Deserialize)]
struct Version {
    name: String,
    #[serde(default)]
    properties: Option<Properties>,
}

/// A version in the order of its numbers: as text, 8.9 comes after 8.10.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split('.');
    parts.map(|part| part.parse().unwrap_or_default()).collect()
}

/// What the kinds of images have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    architecture: Option<String>,
    hyper_v_generation: Option<String>,
    features: Option<Vec<Feature>>,
    plan: Option<PurchasePlan>,
    purchase_plan: Option<PurchasePlan>,
    storage_profile: Option<Storage>,
}

#[derive(Debug, Deserialize)]
struct Feature {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    os_disk: Option<OsDisk>,
}

#[derive(Debug, Deserialize)]
struct OsDisk {
    #[serde(rename = "diskSizeGB")]
    size_gb: Option<u32>,
}

impl Properties {
    /// Lists don't always show everything.
    fn is_whole(&self) -> bool {
        self.hyper_v_generation.is_some() && self.features.is_some()
    }

    /// Adds what is told to what is known.
    fn add_to(self, image: Image) -> Image {
        let arch = match self.architecture.as_deref() {
            Some(text) if text.eq_ignore_ascii_case("Arm64") => Some(Arch::Aarch64),
            Some(text) if text.eq_ignore_ascii_case("x64") => Some(Arch::X86_64),
            _ => image.arch,
        };
        let generation = self.hyper_v_generation;
        let trusted = self.features.as_ref().map(|features| {
            features.iter().any(|feature| {
                feature.name.eq_ignore_ascii_case("SecurityType")
                    && feature
                        .value
                        .to_ascii_lowercase()
                        .starts_with("trustedlaunch")
            })
        });
        let disk = self.storage_profile.and_then(|storage| storage.os_disk);
        Image {
            arch,
            second_generation: generation
                .map(|text| text.eq_ignore_ascii_case("V2"))
                .or(image.second_generation),
            disk_gb: disk.and_then(|disk| disk.size_gb).or(image.disk_gb),
            trusted: trusted.unwrap_or(image.trusted),
            plan: self.plan.or(self.purchase_plan).or(image.plan),
            ..image
        }
    }
}

/// Looks for an image of the marketplace in a region. Which version is the newest is Azure's to say when
/// the machine is made; here it is only to know what images of the kind are like.
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machine-images/list>
/// <https://learn.microsoft.com/en-us/rest/api/compute/virtual-machine-images/get>
pub(in crate::cloud::azure) async fn look_in_market(
    client: &Client,
    region: &str,
    wanted: &Market,
) -> Result<Found, Failure> {
    let path = format!(
        "providers/Microsoft.Compute/locations/{region}/publishers/{}/artifacttypes/vmimage\
         /offers/{}/skus/{}/versions",
        wanted.publisher, wanted.offer, wanted.sku
    );
    let mut exact = None;
    let mut properties = Properties::default();
    if wanted.version == LATEST {
        // Azure sorts them as text. So all are asked for, by their names alone, and side by side the one
        // with everything that most likely is the newest.
        let all = Call::get(Api::Compute, "images", &path);
        let last = all
            .clone()
            .query("$top", "1")
            .query("$orderby", "name desc")
            .query("$expand", "properties");
        let both = Box::pin(async {
            tokio::try_join!(
                read::<Vec<Version>>(client, &all),
                read::<Vec<Version>>(client, &last)
            )
        });
        let (all, last) = match both.await? {
            (Some(Answer::Told(all)), Some(Answer::Told(last))) => (all, last),
            (None, _) | (_, None) => return Ok(Found::Missing),
            _ => return Ok(Found::Unread(wanted.known())),
        };
        let names = all.into_iter().map(|version| version.name);
        let Some(version) = names.max_by_key(|name| numbers(name)) else {
            return Ok(Found::Missing);
        };
        let last = last.into_iter().find(|last| last.name == version);
        properties = last.and_then(|last| last.properties).unwrap_or_default();
        exact = Some(Market {
            version,
            ..wanted.clone()
        });
    }
    if !properties.is_whole() {
        let version = &exact.as_ref().unwrap_or(wanted).version;
        let call = Call::get(Api::Compute, "images", format!("{path}/{version}"));
        match read::<Whole>(client, &call).await? {
            Some(Answer::Told(whole)) => properties = whole.properties,
            Some(Answer::Denied) => return Ok(Found::Unread(properties.add_to(wanted.known()))),
            None => return Ok(Found::Missing),
        }
    }
    let name = Some(wanted.to_string());
    let image = properties.add_to(wanted.known());
    Ok(Found::Image(Image {
        exact,
        name,
        ..image
    }))
}

/// Looks at an image that has an id.
/// <https://learn.microsoft.com/en-us/rest/api/compute/images/get>
/// <https://learn.microsoft.com/en-us/rest/api/compute/gallery-images/get>
/// <https://learn.microsoft.com/en-us/rest/api/compute/shared-gallery-images/get>
/// <https://learn.microsoft.com/en-us/rest/api/compute/community-gallery-images/get>
pub(in crate::cloud::azure) async fn look_at_id(
    client: &Client,
    region: &str,
    id: &ImageId,
) -> Result<Found, Failure> {
    // Versions tell less than what they are versions of.
    let lower = id.text.to_ascii_lowercase();
    let end = lower.find("/versions/").unwrap_or(id.text.len());
    let definition = &id.text[..end];
    let (api, path) = match id.kind {
        IdKind::Managed => (Api::Compute, definition.to_owned()),
        IdKind::Gallery => (Api::Galleries, definition.to_owned()),
        IdKind::Shared | IdKind::Community => (
            Api::Galleries,
            format!("providers/Microsoft.Compute/locations/{region}{definition}"),
        ),
    };
    let known = Image {
        reference: Reference::id(id),
        exact: None,
        name: None,
        // Others than galleries' can't be for Arm.
        arch: (id.kind == IdKind::Managed).then_some(Arch::X86_64),
        second_generation: None,
        disk_gb: None,
        usual_gb: None,
        trusted: false,
        signed: true,
        plan: None,
    };
    let call = Call::get(api, "images", path);
    let looked = match read::<Whole>(client, &call).await {
        // The image's own, which needn't be the launch's.
        Err(failure) if failure.is_without_subscription() => None,
        looked => looked?,
    };
    Ok(match looked {
        Some(Answer::Told(whole)) => Found::Image(whole.properties.add_to(known)),
        Some(Answer::Denied) => Found::Unread(known),
        None => Found::Missing,
    })
}

#[derive(Debug, Deserialize)]
struct Whole {
    #[serde(default)]
    properties: Properties,
}

enum Answer<T> {
    Told(T),
    Denied,
}

/// `None`: there is nothing.
async fn read<T: serde::de::DeserializeOwned>(
    client: &Client,
    call: &Call,
) -> Result<Option<Answer<T>>, Failure> {
    match client.call(call).await {
        Ok(answer) => Ok(Some(Answer::Told(answer))),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) if is_tolerated(&failure) => Ok(Some(Answer::Denied)),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
