//! Amazon EC2, by its query API.

mod asked;
mod client;
mod create;
mod credentials;
mod denial;
mod images;
mod instances;
mod look;
pub mod metadata;
mod network;
mod plan;
mod refusal;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod scripted_tests;
mod sizes;
mod types;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::asked::Asked;
use self::client::Client;
use self::plan::AwsPlan;
use self::sizes::Place;
use super::{Cloud, Instance, InstanceRef, Plan};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::Http;
use crate::spec::InstanceSpec;

/// EC2, in all regions.
#[derive(Debug)]
pub struct Aws {
    client: Arc<Client>,
}

impl Aws {
    /// A cloud with the credentials that the host holds; none are looked for before the first
    /// call.
    pub fn new(host: Host, http: Http) -> Self {
        Self {
            client: Arc::new(Client::new(host, http)),
        }
    }
}

#[async_trait]
impl Cloud for Aws {
    async fn look(&self, spec: &InstanceSpec) -> Result<Arc<dyn Plan>> {
        let asked = Asked::read(spec).map_err(|mistakes| Error::usage(mistakes.join("; ")))?;
        if let Some(place) = asked.places.first() {
            self.client.ready(&place.region).await?;
        }
        let looked = Box::pin(look::wave(&self.client, &asked)).await;
        let plan = AwsPlan::new(Arc::clone(&self.client), asked, looked)?;
        Ok(Arc::new(plan))
    }

    async fn inspect(&self, instance: &InstanceRef) -> Result<Option<Instance>> {
        instances::inspect(&self.client, instance).await
    }

    async fn console(&self, instance: &InstanceRef) -> Result<Option<String>> {
        instances::console(&self.client, instance).await
    }

    async fn destroy(&self, instance: &InstanceRef) -> Result<()> {
        instances::destroy(&self.client, instance).await
    }

    async fn list(&self, region: &str, launch_id: Option<&str>) -> Result<Vec<Instance>> {
        let place = Place::read(region).map_err(Error::usage)?;
        instances::list(&self.client, &place.region, launch_id).await
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
    asked::is_id(text, "i-")
}

/// Waits between tries while what was just made isn't known everywhere yet.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>
struct Settling(std::slice::Iter<'static, u64>);

fn settling() -> Settling {
    /// Five seconds in all, the first tries close together.
    const PAUSES_MS: [u64; 7] = [200, 300, 500, 1000, 1000, 1000, 1000];
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
