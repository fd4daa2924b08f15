//! Google Compute Engine, by its REST API.

mod answer;
mod asked;
mod body;
mod client;
mod create;
mod credentials;
pub mod give_back;
mod images;
mod instances;
mod labels;
mod look;
pub mod metadata;
mod names;
mod network;
mod operation;
mod places;
mod plan;
mod refusal;
mod scopes;
#[cfg(test)]
mod scripted;
mod sizes;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Deserializer};

use self::asked::Asked;
use self::client::Client;
use self::places::Place;
use self::plan::GcpPlan;
use super::{Arch, Cloud, Instance, InstanceRef, Plan};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::Http;
use crate::spec::InstanceSpec;

/// Compute Engine, in all regions.
#[derive(Debug)]
pub struct Gcp {
    host: Host,
    client: Arc<Client>,
}

impl Gcp {
    /// A cloud with the credentials that the host holds; none are looked for before the first
    /// call.
    pub fn new(host: Host, http: Http) -> Self {
        Self {
            client: Arc::new(Client::new(host.clone(), http)),
            host,
        }
    }
}

#[async_trait]
impl Cloud for Gcp {
    async fn look(&self, spec: &InstanceSpec) -> Result<Arc<dyn Plan>> {
        let asked = Asked::read(spec).map_err(|mistakes| Error::usage(mistakes.join("; ")))?;
        self.client.ready().await?;
        let facts = Box::pin(look::wave(&self.client, &asked, self.host.now())).await?;
        let plan = GcpPlan::new(Arc::clone(&self.client), asked, facts)?;
        Ok(Arc::new(plan))
    }

    async fn inspect(&self, instance: &InstanceRef) -> Result<Option<Instance>> {
        instances::inspect(&self.client, instance).await
    }

    async fn console(&self, instance: &InstanceRef) -> Result<Option<String>> {
        instances::console(&self.client, instance).await
    }

    async fn destroy(&self, instance: &InstanceRef) -> Result<()> {
        let nonce = self.host.random_id(20)?;
        instances::destroy(&self.client, instance, &nonce).await
    }

    async fn list(&self, region: &str, launch_id: Option<&str>) -> Result<Vec<Instance>> {
        let place = Place::read(region).map_err(Error::usage)?;
        let place = match place {
            Place {
                zone: Some(zone),
                only: true,
                ..
            } => zone,
            Place { region, .. } => region,
        };
        instances::list(&self.client, &place, launch_id).await
    }
}

/// See [`super::mistakes`].
pub fn mistakes(spec: &InstanceSpec) -> Vec<String> {
    Asked::read(spec).err().unwrap_or_default()
}

/// See [`super::region`].
pub fn region(text: &str) -> Result<String, String> {
    Place::read(text).map(|place| place.region)
}

/// See [`super::is_id`].
pub fn is_id(text: &str) -> bool {
    names::is_name(text)
}

/// Google's word for an architecture.
fn arch(text: Option<&str>) -> Option<Arch> {
    match text {
        Some("X86_64") => Some(Arch::X86_64),
        Some("ARM64") => Some(Arch::Aarch64),
        _ => None,
    }
}

/// 64-bit numbers are text in Google's JSON, but numbers are understood, too.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Plain(u64),
    }
    match Option::<Number>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Number::Plain(number)) => Ok(Some(number)),
        Some(Number::Text(text)) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// Waits between tries while something else is still going on with what a call is about.
struct Settling(std::slice::Iter<'static, u64>);

fn settling() -> Settling {
    /// Twenty seconds in all, the first tries close together.
    const PAUSES_MS: [u64; 9] = [250, 500, 1000, 2000, 3000, 3000, 3000, 3000, 4000];
    Settling(PAUSES_MS.iter())
}

impl Settling {
    /// Waits for the next try; `false`: there have been enough.
    async fn wait(&mut self) -> bool {
        let Some(pause) = self.0.next() else {
            return false;
        };
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        true
    }
}
