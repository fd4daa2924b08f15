//! Microsoft Azure, by Resource Manager's REST API.

mod advice;
mod asked;
mod body;
mod client;
mod clouds;
mod create;
mod credentials;
mod following;
pub mod give_back;
mod images;
mod instances;
mod left_over;
mod look;
mod looks;
pub mod metadata;
mod names;
mod network;
mod nulls;
mod operation;
mod plan;
mod refusal;
mod roles;
#[cfg(test)]
mod scripted;
mod sizes;
mod tags;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::asked::Asked;
use self::client::{Call, Client, Failure};
use self::operation::Operation;
use self::plan::AzurePlan;
use super::{Cloud, Instance, InstanceRef, Plan};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::Http;
use crate::spec::InstanceSpec;

/// Azure, in all regions of one subscription.
#[derive(Debug)]
pub struct Azure {
    client: Arc<Client>,
    looks: looks::Looks,
}

impl Azure {
    /// A cloud with the credentials that the host holds; none are looked for before the first
    /// call.
    pub fn new(host: Host, http: Http) -> Self {
        Self {
            client: Arc::new(Client::new(host, http)),
            looks: looks::Looks::default(),
        }
    }
}

#[async_trait]
impl Cloud for Azure {
    async fn look(&self, spec: &InstanceSpec) -> Result<Arc<dyn Plan>> {
        let asked = Asked::read(spec).map_err(|mistakes| Error::usage(mistakes.join("; ")))?;
        self.client.ready().await?;
        let looked = Box::pin(look::wave(&self.client, &asked)).await?;
        let plan = AzurePlan::new(Arc::clone(&self.client), asked, looked)?;
        Ok(Arc::new(plan))
    }

    async fn inspect(&self, instance: &InstanceRef) -> Result<Option<Instance>> {
        self.looks.inspect(&self.client, instance).await
    }

    async fn console(&self, instance: &InstanceRef) -> Result<Option<String>> {
        instances::console(&self.client, instance).await
    }

    async fn destroy(&self, instance: &InstanceRef) -> Result<()> {
        instances::destroy(&self.client, instance).await
    }

    async fn list(&self, region: &str, launch_id: Option<&str>) -> Result<Vec<Instance>> {
        let region = sizes::region(region).map_err(Error::usage)?;
        instances::list(&self.client, &region, launch_id).await
    }
}

/// See [`super::mistakes`].
pub fn mistakes(spec: &InstanceSpec) -> Vec<String> {
    Asked::read(spec).err().unwrap_or_default()
}

/// See [`super::region`].
pub fn region(text: &str) -> Result<String, String> {
    sizes::region(text)
}

/// See [`super::is_id`].
pub fn is_id(text: &str) -> bool {
    names::is_name(text)
}

/// Sends a call about what is in a group that was made just now.
async fn start_early(client: &Client, call: &Call) -> Result<Operation, Failure> {
    let mut tries = settling();
    loop {
        match client.start(call).await {
            Err(Failure::Refused(refusal)) if refusal.is_too_early() && tries.wait().await => {}
            answer => return answer,
        }
    }
}

/// Waits between tries while what was just made isn't known everywhere yet, or something else is
/// being done to it.
struct Settling(std::slice::Iter<'static, u64>);

fn settling() -> Settling {
    /// Half a minute in all, the first tries close together.
    const PAUSES_MS: [u64; 8] = [500, 1000, 2000, 3000, 5000, 5000, 5000, 8000];
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
