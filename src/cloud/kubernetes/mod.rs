//! Kubernetes, by its API: an instance is a Job with one pod, and the cluster's own scheduler and
//! autoscaler find it a place.
//! <https://kubernetes.io/docs/reference/kubernetes-api/>

mod asked;
mod body;
mod client;
mod create;
mod credentials;
mod follow;
mod instances;
mod labels;
mod look;
mod names;
mod plan;
mod pods;
mod refusal;
mod sizes;
mod template;
mod tls;
mod told;
mod transport;
mod user;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, timeout};

use self::asked::Asked;
use self::client::Client;
use self::follow::{Follower, Seen};
use self::plan::KubernetesPlan;
use self::views::{Job, Pod};
use super::{Cloud, Instance, InstanceRef, Plan};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::Http;
use crate::spec::InstanceSpec;

/// How long a Job may take to be told to last, and the pause between two tries. Its own deadline leaves
/// a minute.
const SETTLING: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(1);

/// The cluster and namespace that the kubeconfig's context leads to.
#[derive(Debug)]
pub struct Kubernetes {
    client: Arc<Client>,
    followed: Arc<Followed>,
}

/// The Jobs that are watched, by their names.
#[derive(Debug, Default)]
struct Followed(Mutex<HashMap<String, Follower>>);

impl Followed {
    fn keep(&self, job: &str, follower: Follower) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(job.to_owned(), follower);
    }

    fn forget(&self, job: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(job);
    }

    /// See [`Follower::heard`].
    fn heard(&self, job: &str) -> Option<Arc<tokio::sync::Mutex<Receiver<Seen>>>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(job).map(Follower::heard)
    }

    /// See [`Follower::take`].
    fn take(&self, job: &str, read: Option<Job>, pod: Option<Pod>) -> Option<Seen> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(job).map(|follower| follower.take(read, pod))
    }

    /// What is known of a Job that is watched.
    fn seen(&self, job: &str) -> Option<Receiver<Seen>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(job).map(Follower::seen)
    }
}

impl Kubernetes {
    /// A cluster with the credentials that the host holds; none are looked for before the first
    /// call.
    pub fn new(host: Host, http: Http) -> Self {
        Self {
            client: Arc::new(Client::new(host, http)),
            followed: Arc::default(),
        }
    }

    fn known(&self, instance: &InstanceRef) -> Option<Seen> {
        Some(self.followed.seen(&instance.id)?.borrow().clone())
    }
}

#[async_trait]
impl Cloud for Kubernetes {
    async fn look(&self, spec: &InstanceSpec) -> Result<Arc<dyn Plan>> {
        let asked = Asked::read(spec).map_err(|mistakes| Error::usage(mistakes.join("; ")))?;
        let cluster = self.client.cluster().await?;
        let warnings = look::wave(&cluster, &asked).await?;
        Ok(Arc::new(KubernetesPlan::new(
            Arc::clone(&self.client),
            Arc::clone(&self.followed),
            &cluster.namespace,
            asked,
            warnings,
        )))
    }

    async fn inspect(&self, instance: &InstanceRef) -> Result<Option<Instance>> {
        match self.known(instance) {
            Some(seen) if !seen.is_blind() => Ok(instances::described(&seen, &instance.region)),
            Some(_) => {
                let (job, pod) = instances::read(&self.client, instance).await?;
                let seen = self.followed.take(&instance.id, job, pod);
                Ok(seen.and_then(|seen| instances::described(&seen, &instance.region)))
            }
            None => instances::inspect(&self.client, instance).await,
        }
    }

    async fn console(&self, instance: &InstanceRef) -> Result<Option<String>> {
        let known = self.known(instance);
        instances::console(&self.client, instance, known).await
    }

    async fn destroy(&self, instance: &InstanceRef) -> Result<()> {
        // What this launch has made, and not what has its name after it.
        let known = self.known(instance).and_then(|seen| seen.uid);
        self.followed.forget(&instance.id);
        Box::pin(instances::destroy(&self.client, instance, known)).await
    }

    async fn news(&self, instance: &InstanceRef, at_most: Duration) {
        match self.followed.heard(&instance.id) {
            Some(heard) => {
                // Either there is something new, or the time is over, or nobody watches any more.
                if let Ok(Err(_)) = timeout(at_most, heard.lock().await.changed()).await {
                    sleep(at_most).await;
                }
            }
            None => sleep(at_most).await,
        }
    }

    async fn settle(&self, instance: &InstanceRef) -> Result<()> {
        let uid = self.known(instance).and_then(|seen| seen.uid);
        let started = Instant::now();
        // Nothing that may pass must end a runner that is ready, and perhaps at work: neither an outage
        // nor a server that has just started, and denies everything until it knows who may do what.
        loop {
            let settled = instances::settle(&self.client, instance, uid.clone());
            match settled.await {
                Err(error) if started.elapsed() < SETTLING => {
                    tracing::debug!("{}; asking again", error.chain());
                    sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn list(&self, _region: &str, launch_id: Option<&str>) -> Result<Vec<Instance>> {
        instances::list(&self.client, launch_id).await
    }
}

/// See [`super::mistakes`].
pub fn mistakes(spec: &InstanceSpec) -> Vec<String> {
    Asked::read(spec).err().unwrap_or_default()
}

/// See [`super::region`]. A cluster is where it is; the kubeconfig says which.
pub fn region(_text: &str) -> String {
    "the kubeconfig's namespace".to_owned()
}

/// See [`super::is_id`].
pub fn is_id(text: &str) -> bool {
    names::is_name(text)
}
