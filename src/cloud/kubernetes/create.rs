//! Making the instance: a Job, and the Secret that it owns. Where there are several sizes, one that
//! the cluster has no room for makes way for the next.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::ResourceExt as _;
use serde_json::Value;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout};

use super::client::{Cluster, Effect};
use super::follow::{Follower, Seen};
use super::plan::KubernetesPlan;
use super::sizes::Size;
use super::views::{Job, Secret};
use super::{body, instances, names, pods, refusal};
use crate::cloud::told::{self, Refused};
use crate::cloud::{
    Candidate, ClosedMetadata, GiveBack, Instance, InstanceRef, InstanceState, MachineSide,
    NoticeSource, Order, Plan, Setting, TAG_LAUNCH,
};
use crate::error::{Error, Kind, Result};

/// The most that a Secret holds. <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size>
const SECRET_LIMIT: usize = 1024 * 1024;

/// How long the cluster may take to make the Job's pod, or to say why it doesn't. It is waited for
/// elsewhere, too.
const MAKING: Duration = Duration::from_secs(15);
/// How long a pod may wait for a node where there is another size to try, and no node on its way.
const PLACING: Duration = Duration::from_secs(30);

/// How often it is looked whether the launch is being given up.
const LOOK: Duration = Duration::from_millis(50);

#[async_trait]
impl Plan for KubernetesPlan {
    fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn regions(&self) -> Vec<String> {
        let region = self
            .candidates
            .first()
            .map(|candidate| candidate.region.clone());
        region.into_iter().collect()
    }

    fn user_data_limit(&self) -> usize {
        SECRET_LIMIT
    }

    fn machine(&self) -> MachineSide {
        MachineSide {
            setting: Setting::Pod,
            notices: Some(NoticeSource::Pod),
            give_back: GiveBack::Pod,
            farewell: String::new(),
            closed: ClosedMetadata::Paths(&[]),
        }
    }

    async fn create(&self, order: &Order) -> Result<Instance> {
        let mut made = self.made.lock().await;
        if let Some((id, instance)) = made.as_ref()
            && *id == order.launch_id
        {
            return Ok(instance.clone());
        }
        let instance = Box::pin(self.try_all(order)).await?;
        *made = Some((order.launch_id.clone(), instance.clone()));
        Ok(instance)
    }
}

/// How a way that was tried came out.
enum Outcome {
    Made(Box<Instance>),
    /// There is no room for it.
    Full(Error),
}

impl KubernetesPlan {
    async fn try_all(&self, order: &Order) -> Result<Instance> {
        let mut tried = Vec::new();
        for (number, size) in self.asked.sizes.iter().enumerate() {
            if order.stop.is_raised() {
                break;
            }
            let is_last = number + 1 == self.asked.sizes.len();
            // A size that had no room may have taken longer than credentials last.
            let cluster = self.client.cluster().await?;
            let trying = self.try_one(&cluster, order, number, size, is_last);
            match Box::pin(trying).await? {
                Outcome::Made(instance) => return Ok(*instance),
                Outcome::Full(error) => {
                    let said = error.chain();
                    // The last one's is told by the error.
                    if !is_last {
                        tracing::warn!("{said}");
                    }
                    tried.push(Refused {
                        place: size.name.clone(),
                        said,
                        error,
                        hints: Vec::new(),
                    });
                }
            }
        }
        Err(told::all_refused(tried))
    }

    async fn try_one(
        &self,
        cluster: &Cluster,
        order: &Order,
        number: usize,
        size: &Size,
        is_last: bool,
    ) -> Result<Outcome> {
        let secret_name = names::secret_name(order, number);
        let job = body::job(&self.asked, size, order, &secret_name)?;
        let job = match self.make_job(cluster, &job, order).await {
            Ok(job) => job,
            Err(error) if error.kind() == Kind::Capacity => return Ok(Outcome::Full(error)),
            Err(error) => return Err(error),
        };
        let name = job.name_any();
        let reference = InstanceRef {
            id: name.clone(),
            region: cluster.namespace.to_string(),
        };
        let follower = Follower::new(Arc::clone(&self.client), job.clone());
        let seen = follower.seen();
        self.followed.keep(&name, follower);
        let secret = body::secret(&self.asked, order, &job.metadata, &secret_name)?;
        let placed = match make_secret(cluster, &secret, &secret_name).await {
            Ok(()) => wait(seen.clone(), order, is_last).await,
            // The Job would wait for it until its end.
            Err(error) => Err(error),
        };
        if let Err(error) = placed {
            self.followed.forget(&name);
            let gone = Box::pin(instances::destroy(&self.client, &reference, job.uid())).await;
            // A Job that may still be there is looked for by the launch, unless this is called a
            // refusal of everything.
            gone.map_err(|gone| gone.during(format!("giving {name} up after {}", error.chain())))?;
            // Nothing of it is left.
            let error = error.refused();
            return match error.kind() {
                Kind::Capacity => Ok(Outcome::Full(error)),
                _ => Err(error),
            };
        }
        let known = seen.borrow().clone();
        // One that is gone by now was made all the same: how it went is told by the wait for it.
        let made = instances::described(&known, &cluster.namespace)
            .or_else(|| instances::described(&Seen::once(job, None), &cluster.namespace));
        made.map(|instance| Outcome::Made(Box::new(instance)))
            .ok_or_else(|| Error::other(format!("making the Job {name}")).caused_by("it is none"))
    }
}

impl KubernetesPlan {
    /// Makes the Job. One of its name that is there already is ours if it carries the launch's id:
    /// then an earlier try had gone through. One of an earlier launch for the same that is over, or
    /// about to be, is waited for and makes way.
    async fn make_job(&self, cluster: &Cluster, job: &Value, order: &Order) -> Result<Job> {
        let name = names::job_name(order);
        let doing = || format!("making the Job {name}");
        let create = || cluster.create::<Job>(job, Effect::Real);
        let conflict = match create().await {
            Err(error) if refusal::is_conflict(&error) => error,
            outcome => return outcome.map_err(|error| refusal::told(doing(), error)),
        };
        let reference = InstanceRef {
            id: name.clone(),
            region: cluster.namespace.to_string(),
        };
        // From here on, an error isn't a refusal of the creation, which may have gone through.
        let read = Box::pin(instances::read(&self.client, &reference)).await;
        let (known, pod) = read.map_err(|error| error.during(doing()))?;
        let is_this = |job: &Job| job.labels().get(TAG_LAUNCH) == Some(&order.launch_id);
        let uid = known.as_ref().and_then(|known| known.uid());
        let known = match known {
            Some(known) if is_this(&known) => return Ok(known),
            known => known.and_then(|known| {
                instances::described(&Seen::once(known, pod), &cluster.namespace)
            }),
        };
        let is_over = known.is_none_or(|known| {
            let same = known.is_ours && known.serves.as_deref() == Some(&order.serves);
            same && (known.is_ending() || known.state == InstanceState::Stopped)
        });
        if !is_over {
            return Err(refusal::told(doing(), conflict)
                .hint("choose another --name, or leave it out for a random one"));
        }
        if uid.is_some() {
            let gone = Box::pin(instances::destroy(&self.client, &reference, uid)).await;
            gone.map_err(|error| error.during(doing()))?;
        }
        create()
            .await
            .map_err(|error| refusal::told(doing(), error))
    }
}

/// Makes the Secret, whose name nobody else has: one that is there already is the one.
async fn make_secret(cluster: &Cluster, secret: &Value, name: &str) -> Result<()> {
    match cluster.create::<Secret>(secret, Effect::Real).await {
        Ok(_) => Ok(()),
        Err(error) if refusal::is_conflict(&error) => Ok(()),
        Err(error) => Err(refusal::told(format!("making the Secret {name}"), error)),
    }
}

/// Waits until the Job has its pod, and that a node if something else can be tried. What takes
/// longer is left to the wait for the runner.
async fn wait(mut seen: Receiver<Seen>, order: &Order, is_last: bool) -> Result<()> {
    let made = Instant::now();
    loop {
        if let Some(outcome) = placed(&seen.borrow_and_update(), made.elapsed(), is_last) {
            return outcome;
        }
        // A launch that is given up wants to know what to give up.
        if order.stop.is_raised() {
            return Ok(());
        }
        if let Ok(Err(_)) = timeout(LOOK, seen.changed()).await {
            return Ok(());
        }
    }
}

/// Whether that is so by now, or never will be; `None`: not yet.
fn placed(seen: &Seen, elapsed: Duration, is_last: bool) -> Option<Result<()>> {
    if let Some(refused) = instances::refused(seen) {
        return Some(Err(refused_pod(&refused.message)));
    }
    let Some(pod) = &seen.pod else {
        return (elapsed >= MAKING).then_some(Ok(()));
    };
    if is_last || pods::is_scheduled(pod) {
        return Some(Ok(()));
    }
    match node(seen) {
        Node::Coming => Some(Ok(())),
        Node::Unknown if elapsed < PLACING => None,
        Node::Never | Node::Unknown => {
            let mut last = seen.events.iter().rev();
            let why = last.find(|told| told.reason == "FailedScheduling");
            let why = why.map_or("no node was found for it", |told| &told.message);
            let error = Error::new(Kind::Capacity, "placing the runner's pod");
            Some(Err(error.caused_by(why.to_owned())))
        }
    }
}

/// The error of a pod that the cluster doesn't let be.
fn refused_pod(message: &str) -> Error {
    let doing = "making the runner's pod";
    match refusal::is_quota(message) {
        true => Error::new(Kind::Capacity, doing).caused_by(message.to_owned()),
        false => Error::new(Kind::Denied, doing)
            .caused_by(message.to_owned())
            .hint(refusal::policy_hint()),
    }
}

/// Whether a node for the pod is on its way.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    Coming,
    Never,
    Unknown,
}

/// What the cluster autoscaler and Karpenter have said last.
fn node(seen: &Seen) -> Node {
    let mut last = seen.events.iter().rev();
    last.find_map(|told| match told.reason.as_str() {
        "TriggeredScaleUp" | "Nominated" => Some(Node::Coming),
        "NotTriggerScaleUp" | "FailedScaleUp" => Some(Node::Never),
        _ => None,
    })
    .unwrap_or(Node::Unknown)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::cloud::kubernetes::told::Told;
    use crate::cloud::kubernetes::views::Pod;

    fn seen(reasons: &[&str]) -> Seen {
        let mut seen = Seen::once(Job::default(), Some(Pod::default()));
        let told = |reason: &&str| Told {
            reason: (*reason).to_owned(),
            message: "m".to_owned(),
            warning: true,
        };
        seen.events = reasons.iter().map(told).collect();
        seen
    }

    #[test]
    fn a_pod_waits_for_a_node_that_is_coming_and_for_no_other() {
        let (soon, late) = (Duration::from_secs(1), PLACING);
        let first = |reasons: &[&str], elapsed| {
            placed(&seen(reasons), elapsed, false).map(|outcome| outcome.is_ok())
        };
        assert_eq!(first(&["FailedScheduling"], soon), None);
        assert_eq!(first(&["FailedScheduling"], late), Some(false));
        assert_eq!(
            first(&["FailedScheduling", "TriggeredScaleUp"], soon),
            Some(true)
        );
        assert_eq!(
            first(&["TriggeredScaleUp", "FailedScaleUp"], soon),
            Some(false)
        );
        assert_eq!(first(&["NotTriggerScaleUp"], soon), Some(false));
        // The last size is waited for by whoever waits for the runner.
        assert!(matches!(
            placed(&seen(&["FailedScheduling"]), late, true),
            Some(Ok(()))
        ));
    }
}
