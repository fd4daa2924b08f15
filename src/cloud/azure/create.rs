//! Making the instance: a group, the network in it, and one machine after another until one runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::task::JoinHandle;

use super::body::{Body, Wanted};
use super::client::{Api, Call, Client, Failure};
use super::following::{Made, entitle, not_entitled, until_running};
use super::plan::{AzurePlan, Way};
use super::refusal::{Meaning, Refusal};
use super::{instances, left_over, names, network, sizes, tags};
use crate::cloud::told::{self, Refused};
use crate::cloud::{
    Candidate, Instance, InstanceRef, InstanceState, MachineSide, Order, Plan, StopFlag,
};
use crate::error::{Error, Result};
use crate::ssh;

/// The most custom data that Azure takes, before Base64.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/custom-data>
const USER_DATA_LIMIT: usize = 65_535;

#[async_trait]
impl Plan for AzurePlan {
    fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn regions(&self) -> Vec<String> {
        let regions: BTreeSet<&String> =
            self.candidates.iter().map(|known| &known.region).collect();
        regions.into_iter().cloned().collect()
    }

    fn user_data_limit(&self) -> usize {
        USER_DATA_LIMIT
    }

    fn machine(&self) -> MachineSide {
        self.machine.clone()
    }

    async fn create(&self, order: &Order) -> Result<Instance> {
        let mut made = self.made.lock().await;
        if let Some((id, instance)) = made.as_ref()
            && *id == order.launch_id
        {
            return Ok(instance.clone());
        }
        let mut site = Site::new(self, order);
        let (client, left_over) = (Arc::clone(&self.client), self.left_over.clone());
        let clearing = tokio::spawn(async move { left_over::clear(&client, &left_over).await });
        let instance = match Box::pin(site.try_all()).await {
            Ok(instance) => {
                // A launch that is given up is to be heard of at once.
                tokio::select! {
                    biased;
                    () = raised(&order.stop) => {}
                    // It tells of its own troubles.
                    (_, ()) = async { tokio::join!(clearing, site.hear_of_deletions()) } => {}
                }
                instance
            }
            Err(error) => {
                clearing.abort();
                return Err(site.clear(error).await);
            }
        };
        *made = Some((order.launch_id.clone(), instance.clone()));
        Ok(instance)
    }
}

/// A way that was tried, and how Azure refused it.
struct Tried<'a> {
    candidate: &'a Candidate,
    refusal: Refusal,
}

impl Tried<'_> {
    /// Whether another way would be refused for the same reason.
    fn tells_of(&self, other: &Candidate) -> bool {
        let Candidate {
            region,
            instance_type,
            spot,
            ..
        } = self.candidate;
        let same_market = *region == other.region && *spot == other.spot;
        match self.refusal.meaning() {
            Meaning::FamilyQuota => {
                same_market && sizes::series(instance_type) == sizes::series(&other.instance_type)
            }
            Meaning::SpotQuota | Meaning::RegionQuota => same_market,
            _ => false,
        }
    }
}

/// A group that was made, in one region.
struct Group {
    name: String,
    region: String,
    tags: BTreeMap<String, String>,
    /// Whether its network is there.
    has_network: bool,
    /// Whether a machine's making has begun.
    has_machine: bool,
}

/// One creation, with what it has made so far.
struct Site<'a> {
    plan: &'a AzurePlan,
    order: &'a Order,
    group: Option<Group>,
    /// How many groups there have been.
    number: usize,
    /// Groups that were given up, on their way out.
    leaving: Vec<(InstanceRef, JoinHandle<Result<()>>)>,
    /// Whether a group may be there that nobody told of.
    unclear: bool,
}

/// <https://learn.microsoft.com/en-us/rest/api/resources/resource-groups/create-or-update>
#[derive(Debug, Serialize)]
struct GroupBody<'a> {
    location: &'a str,
    tags: &'a BTreeMap<String, String>,
}

impl<'a> Site<'a> {
    fn new(plan: &'a AzurePlan, order: &'a Order) -> Self {
        Self {
            plan,
            order,
            group: None,
            number: 0,
            leaving: Vec::new(),
            unclear: false,
        }
    }

    fn client(&self) -> &'a Arc<Client> {
        &self.plan.client
    }

    async fn try_all(&mut self) -> Result<Instance> {
        let ssh_key = match &self.plan.asked.ssh_key {
            Some(key) => key.clone(),
            None => ssh::throwaway()?,
        };
        let mut tried: Vec<Tried<'a>> = Vec::new();
        for (candidate, way) in self.plan.candidates.iter().zip(&self.plan.ways) {
            if tried.iter().any(|tried| tried.tells_of(candidate)) {
                continue;
            }
            let outcome = self.attempt(candidate, way, &ssh_key).await;
            match outcome {
                Ok(instance) => return Ok(instance),
                Err(Failure::Refused(refusal)) if may_do_elsewhere(refusal.meaning()) => {
                    tracing::info!("{}: {refusal}", place(candidate));
                    tried.push(Tried { candidate, refusal });
                }
                Err(failure) => {
                    return Err(failure.during(format!("launching {}", place(candidate))));
                }
            }
        }
        Err(all_refused(tried))
    }

    /// Tries one way; when the launch is given up, no later than that.
    async fn attempt(
        &mut self,
        candidate: &'a Candidate,
        way: &Way,
        ssh_key: &str,
    ) -> Result<Instance, Failure> {
        let stop = &self.order.stop;
        let given_up = || Failure::from(Error::other("the launch is being given up"));
        if stop.is_raised() {
            return Err(given_up());
        }
        // Never cut off: a request that is on its way could make a group after it was deleted.
        self.be_in(&candidate.region).await?;
        tracing::info!("launching {}", place(candidate));
        // What is cut off here can be in the group alone, which goes as a whole.
        tokio::select! {
            biased;
            () = raised(stop) => Err(given_up()),
            outcome = Box::pin(self.run(candidate, way, ssh_key)) => outcome,
        }
    }

    /// Makes the group in a region, unless the present one will do; another one is given up. So is one
    /// with a machine that failed: its parts keep their names and its network interface for minutes.
    /// <https://github.com/Azure/karpenter-provider-azure/issues/92>
    async fn be_in(&mut self, region: &str) -> Result<(), Failure> {
        let will_do = |group: &Group| group.region == region && !group.has_machine;
        if self.group.as_ref().is_some_and(will_do) {
            return Ok(());
        }
        self.leave();
        self.number += 1;
        let name = names::group_name(self.order, self.number);
        let tags = tags::with_ours(&self.plan.asked.tags, self.order, self.client().now());
        let body = GroupBody {
            location: region,
            tags: &tags,
        };
        let call = Call::put(
            Api::Resources,
            "resourceGroups",
            format!("resourceGroups/{name}"),
        )
        .body(&body)?;
        let answer = self.client().start(&call).await;
        let group = Group {
            name,
            region: region.to_owned(),
            tags,
            has_network: false,
            has_machine: false,
        };
        match answer {
            Ok(_) => {
                self.group = Some(group);
                Ok(())
            }
            Err(failure) => {
                // Who is asked to come later may have come before.
                if let Failure::Refused(refusal) = &failure
                    && !refusal.failed
                    && refusal.meaning() != Meaning::Throttled
                {
                    return Err(failure);
                }
                // It may be there all the same.
                self.group = Some(group);
                self.unclear = true;
                Err(failure)
            }
        }
    }

    /// Has the present group deleted, without waiting for that.
    fn leave(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        let reference = InstanceRef {
            id: group.name,
            region: group.region,
        };
        let (client, given_up) = (Arc::clone(self.client()), reference.clone());
        // In a task of its own: whatever comes now, it is to go out.
        let task = tokio::spawn(async move { instances::destroy(&client, &given_up).await });
        self.leaving.push((reference, task));
    }

    /// Waits until Azure has accepted all deletions; what wasn't, for the user.
    async fn deletions(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for (InstanceRef { id, region }, task) in self.leaving.drain(..) {
            let problem = match task.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.chain(),
                Err(error) => error.to_string(),
            };
            left.push(format!("the resource group {id} in {region}: {problem}"));
        }
        left
    }

    async fn hear_of_deletions(&mut self) {
        for problem in self.deletions().await {
            tracing::warn!("left behind: {problem}");
        }
    }

    /// Deletes everything; the error says whether that is certain.
    async fn clear(mut self, error: Error) -> Error {
        self.leave();
        let left = self.deletions().await;
        if left.is_empty() {
            return match self.unclear {
                // While a group may be there that nobody told of, nothing counts as a refusal.
                true if error.is_refusal() => error.during("launching an instance"),
                true => error,
                false => error.refused(),
            };
        }
        let outer = error.during("launching an instance");
        left.into_iter().fold(outer, |error, problem| {
            error.hint(format!("left behind: {problem}"))
        })
    }

    async fn run(
        &mut self,
        candidate: &Candidate,
        way: &Way,
        ssh_key: &str,
    ) -> Result<Instance, Failure> {
        let client = self.client();
        let Some(group) = &mut self.group else {
            return Err(Error::other("there is no group to launch in").into());
        };
        if !group.has_network {
            let ssh = &self.plan.asked.ssh;
            network::make(client, &group.name, &group.region, ssh, &group.tags).await?;
            group.has_network = true;
        }
        let mut disk_gb = candidate.disk_gb;
        let mut tries = super::settling();
        let operation = loop {
            let body = self
                .plan
                .body(self.order, group, candidate, way, disk_gb, ssh_key)?;
            let call = Call::put(Api::Compute, "virtualMachines", machine(&group.name));
            let refusal = match client.start(&call.body(&body)?).await {
                Err(Failure::Refused(refusal)) => refusal,
                answer => break answer?,
            };
            match image_gb(&refusal) {
                Some(needed) if needed > disk_gb => {
                    if self.plan.asked.disk_given.is_some() {
                        tracing::warn!(
                            "--cloud-hdd-size: the image {} needs {needed} GB, so the disk gets \
                             them",
                            way.image
                        );
                    }
                    disk_gb = needed;
                }
                // The group and the network are there, but not everywhere yet.
                _ if refusal.is_too_early() && tries.wait().await => {}
                _ => return Err(Failure::Refused(refusal)),
            }
        };
        group.has_machine = true;
        let principal = operation.read::<Made>().ok().and_then(Made::principal);
        let entitled = async {
            if !self.plan.own_identity {
                return Ok(());
            }
            let doing = format!("letting {} delete itself", group.name);
            let outcome = entitle(client, self.order, &group.name, principal).await;
            outcome.map_err(|failure| Failure::from(not_entitled(failure, doing)))
        };
        tokio::try_join!(until_running(client, &group.name, operation), entitled)?;
        Ok(Instance {
            reference: InstanceRef {
                id: group.name.clone(),
                region: group.region.clone(),
            },
            name: Some(self.order.name.clone()),
            is_ours: true,
            serves: Some(self.order.serves.clone()),
            state: InstanceState::Pending,
            zone: None,
            instance_type: candidate.instance_type.clone(),
            ip: None,
            spot: candidate.spot,
            launch_time: Some(client.now()),
            image: candidate.image.clone(),
            disk_gb: Some(disk_gb),
            security_group: None,
            subnet: None,
            reason: None,
        })
    }
}

impl AzurePlan {
    fn body(
        &self,
        order: &Order,
        group: &Group,
        candidate: &Candidate,
        way: &Way,
        disk_gb: u32,
        ssh_key: &str,
    ) -> Result<Body> {
        let network = format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Network",
            self.client.subscription()?,
            group.name
        );
        let spot = self.asked.spot.as_ref().filter(|_| candidate.spot);
        // No price is the current one, whatever that is.
        let price = spot.map(|spot| {
            spot.max_price
                .as_ref()
                .map_or(Ok(-1.0), |text| text.parse())
        });
        let price = price.transpose().map_err(|error| {
            Error::usage("--cloud-spot-price: it is no number").caused_by(error)
        })?;
        let wanted = Wanted {
            name: &group.name,
            location: &group.region,
            size: &candidate.instance_type,
            image: &way.image,
            plan: way.plan.as_ref(),
            disk_gb,
            premium: way.premium,
            accelerated: way.accelerated,
            trust: way.trust,
            encryption: way.encryption,
            spot: price,
            own_identity: self.own_identity,
            identities: &self.asked.identities,
            tags: &group.tags,
            user_data: &order.user_data,
            ssh_key,
            security_group: format!(
                "{network}/networkSecurityGroups/{}",
                network::SECURITY_GROUP
            ),
            subnet: format!(
                "{network}/virtualNetworks/{}/subnets/{}",
                network::NETWORK,
                network::SUBNET
            ),
        };
        Ok(wanted.body())
    }
}

/// The path of a group's machine.
pub(super) fn machine(group: &str) -> String {
    format!("resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{group}")
}

/// Waits until the launch is given up.
async fn raised(stop: &StopFlag) {
    while !stop.is_raised() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether another size, market or region may be had where this one isn't.
fn may_do_elsewhere(meaning: Meaning) -> bool {
    matches!(
        meaning,
        Meaning::Capacity | Meaning::FamilyQuota | Meaning::SpotQuota | Meaning::RegionQuota
    )
}

/// "The specified disk size 20 GB is smaller than the size of the corresponding disk in the VM image:
/// 30 GB." Nothing that is published tells the size of an image before.
fn image_gb(refusal: &Refusal) -> Option<u32> {
    let (_, rest) = refusal
        .message
        .split_once("smaller than the size of the corresponding disk in the VM image: ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn place(candidate: &Candidate) -> String {
    let market = if candidate.spot { " (spot)" } else { "" };
    format!(
        "{}{market} in {}",
        candidate.instance_type, candidate.region
    )
}

/// The error that tells everything that was tried, and what can be done about it.
fn all_refused(tried: Vec<Tried<'_>>) -> Error {
    let told = tried.into_iter().map(|Tried { candidate, refusal }| {
        let place = place(candidate);
        let hints = sizes::successor(&candidate.instance_type).map(str::to_owned);
        Refused {
            said: refusal.to_string(),
            error: refusal.during(format!("launching {place}")),
            hints: hints.into_iter().collect(),
            place,
        }
    });
    told::all_refused(told.collect())
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
