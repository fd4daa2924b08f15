//! Making the instance: one call per way tried, until one succeeds.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::body::Wanted;
use super::client::{Call, Failure};
use super::give_back::FAREWELL;
use super::network::{self, NETWORK};
use super::operation::{self, Operation};
use super::plan::{GcpPlan, Identity, Way};
use super::refusal::{ACT_AS, Meaning, Refusal, Scope};
use super::{instances, labels, names};
use crate::cloud::told::{self, Refused};
use crate::cloud::{
    Candidate, ClosedMetadata, GiveBack, Instance, InstanceRef, InstanceState, MachineSide,
    NoticeSource, Order, Plan, Setting, StopFlag,
};
use crate::error::{Error, Result};

/// The most user data: what one value of an instance's metadata holds.
/// <https://docs.cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations>
const USER_DATA_LIMIT: usize = 256 * 1024;

/// How long an instance may take to be made.
const MAKING: Duration = Duration::from_secs(300);

/// How long an operation may take to begin once the launch is being given up: what a cancelled job
/// leaves time for.
const BEGINNING: Duration = Duration::from_secs(4);

/// How often it is looked whether the launch is being given up.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// What leads to the user data, which holds secrets: to itself, or to all that is below something
/// above it. The rest is what a job of an account's own is there for.
/// <https://docs.cloud.google.com/compute/docs/metadata/querying-metadata>
const SECRET_METADATA: &[&str] = &[
    "startup-script",
    "/attributes",
    "/instance/?",
    "/instance?",
    "/v1/?",
    "/v1?",
    "Metadata/?",
    "Metadata?",
];

#[async_trait]
impl Plan for GcpPlan {
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
        let can_delete = self.identity.can_delete();
        MachineSide {
            setting: Setting::Machine,
            notices: Some(NoticeSource::Gcp),
            give_back: match can_delete {
                true => GiveBack::Gcp {
                    api: self.api.clone(),
                },
                false => GiveBack::PowerOff,
            },
            farewell: match can_delete {
                true => farewell(&self.api),
                false => String::new(),
            },
            closed: match self.identity {
                Identity::Users(_) => ClosedMetadata::Paths(SECRET_METADATA),
                // A token that deletes instances is nothing for a job.
                Identity::Launchers(_) | Identity::Nobody => ClosedMetadata::All,
            },
        }
    }

    async fn create(&self, order: &Order) -> Result<Instance> {
        let mut made = self.made.lock().await;
        if let Some((id, instance)) = made.as_ref()
            && *id == order.launch_id
        {
            return Ok(instance.clone());
        }
        let mut making = Box::pin(self.try_all(order));
        let mut clearing = Box::pin(self.clear(order));
        // The launch never waits for what others have left behind.
        let instance = tokio::select! {
            biased;
            made = &mut making => made?,
            () = &mut clearing => making.await?,
        };
        *made = Some((order.launch_id.clone(), instance.clone()));
        Ok(instance)
    }
}

/// The script that has the machine deleted, with the address that it takes.
fn farewell(api: &url::Url) -> String {
    // No address holds a quote: they are written as %27.
    let quoted = api.as_str().replace('\'', "%27");
    format!("compute_api='{quoted}'\n{FAREWELL}")
}

/// A way that was tried, and how Google refused it.
struct Tried<'a> {
    candidate: &'a Candidate,
    way: &'a Way,
    refusal: Refusal,
}

impl Tried<'_> {
    /// Whether it would be the same again for another way.
    fn settles(&self, candidate: &Candidate, way: &Way) -> bool {
        let same = self.way.machine == way.machine && self.candidate.spot == candidate.spot;
        same && match self.refusal.meaning() {
            Meaning::Quota(Scope::Project) => true,
            Meaning::Quota(Scope::Region) => self.candidate.region == candidate.region,
            _ => false,
        }
    }
}

/// What is asked for, as long as it isn't refused.
#[derive(Debug, Clone, Copy)]
struct Terms {
    labels: bool,
    account: bool,
    /// Not every region has the cheaper network.
    standard_tier: bool,
    /// How often something was asked for in this launch: a request of its own each time, for one
    /// that was refused is answered with its refusal for ever.
    number: u32,
}

impl Terms {
    fn all() -> Self {
        Self {
            labels: true,
            account: true,
            standard_tier: true,
            number: 0,
        }
    }

    /// Gives up what a refusal names and an instance can do without; `false`: it is none of that.
    fn yield_to(&mut self, refusal: &Refusal, identity: &Identity) -> bool {
        const SET_LABELS: &str = "compute.instances.setLabels";
        let before = (self.labels, self.account, self.standard_tier);
        if self.labels && refusal.lacks(SET_LABELS) {
            tracing::warn!("{SET_LABELS} isn't allowed: the instance gets no labels");
            self.labels = false;
        }
        // Nobody has asked for this account: whatever is wrong with it, the launch goes on without.
        if let Identity::Launchers(account) = identity
            && self.account
            && (refusal.lacks(ACT_AS)
                || refusal.lacks(SET_SERVICE_ACCOUNT)
                || refusal.message.contains(&account.email))
        {
            tracing::warn!(
                "the instance may not be {} (iam.serviceAccounts.actAs), so it can't delete itself: at its end it powers itself \
                 off, and the next launch, or runner-launch sweep, deletes it. Either grant \
                 roles/iam.serviceAccountUser on that account to itself, or name with \
                 --cloud-permission-set a service account that may be used and may delete instances",
                account.email
            );
            self.account = false;
        }
        // Nothing but this is said of it in what Google publishes.
        // <https://docs.cloud.google.com/network-tiers/docs/overview>
        if self.standard_tier
            && refusal
                .message
                .to_ascii_lowercase()
                .contains("network tier")
        {
            tracing::info!("the Standard network tier was refused: the Premium one is taken");
            self.standard_tier = false;
        }
        let after = (self.labels, self.account, self.standard_tier);
        before != after
    }
}

impl GcpPlan {
    async fn try_all(&self, order: &Order) -> Result<Instance> {
        let mut terms = Terms::all();
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let (mut everywhere, mut opened) = (false, false);
        let mut tried: Vec<Tried<'_>> = Vec::new();
        for (candidate, way) in self.candidates.iter().zip(&self.ways) {
            if order.stop.is_raised() {
                // What was refused has made nothing.
                return Err(given_up(candidate, way).refused());
            }
            if tried.iter().any(|tried| tried.settles(candidate, way)) {
                continue;
            }
            let region = candidate.region.as_str();
            let prepared = async {
                if !everywhere && reached.insert(region) {
                    let regions = BTreeSet::from([region]);
                    let id = &order.launch_id;
                    everywhere = network::ensure(&self.client, &self.network, &regions, id).await?;
                }
                if !opened {
                    network::let_in(&self.client, &self.asked.ssh, &order.launch_id).await?;
                    opened = true;
                }
                Ok(())
            };
            // Neither is an instance, and both are there for the next launch.
            tokio::select! {
                biased;
                () = stopped(&order.stop) => return Err(given_up(candidate, way).refused()),
                prepared = prepared => prepared.map_err(Error::refused)?,
            }
            tracing::info!("launching {}", place(candidate, way));
            match self.insert(order, candidate, way, &mut terms).await {
                Ok(instance) => return Ok(instance),
                Err(Failure::Refused(refusal))
                    if matches!(refusal.meaning(), Meaning::ZoneCapacity | Meaning::Quota(_)) =>
                {
                    tracing::info!("{}: {refusal}", place(candidate, way));
                    tried.push(Tried {
                        candidate,
                        way,
                        refusal,
                    });
                }
                // Without an answer there may be an instance: no other way may be tried.
                Err(failure) => return Err(self.error(candidate, way, failure)),
            }
        }
        Err(all_refused(tried))
    }

    /// Idempotent by the instance's name, and by the request's id: a repeated call makes no second
    /// one.
    async fn insert(
        &self,
        order: &Order,
        candidate: &Candidate,
        way: &Way,
        terms: &mut Terms,
    ) -> Result<Instance, Failure> {
        let mut tries = super::settling();
        loop {
            if order.stop.is_raised() {
                return Err(given_up(candidate, way).refused().into());
            }
            terms.number += 1;
            let call = self.call(order, candidate, way, terms)?;
            let made = async {
                let operation: Operation = self.client.call(&call).await?;
                hear_out(&self.client, operation, &order.stop).await
            };
            let failure = match made.await {
                Ok(()) => return Ok(instance(order, candidate, way)),
                Err(failure) => failure,
            };
            let Failure::Refused(refusal) = &failure else {
                return Err(failure);
            };
            match refusal.meaning() {
                // An earlier try of this launch's was heard after all.
                Meaning::Exists => return self.found(order, candidate, way).await,
                // The network, most likely, is still being made.
                Meaning::NotReady if tries.wait().await => {}
                _ if terms.yield_to(refusal, &self.identity) => {}
                _ => return Err(failure),
            }
        }
    }

    fn call(&self, order: &Order, candidate: &Candidate, way: &Way, terms: &Terms) -> Result<Call> {
        let labels = labels::with_ours(&self.asked.labels, &order.launch_id);
        let name = names::instance_name(order);
        // Metadata is text, and nothing unpacks it.
        let user_data = std::str::from_utf8(&order.user_data)
            .map_err(|_| Error::usage("the user data is too large: it was compressed"))?;
        let body = Wanted {
            name: &name,
            description: names::description(order),
            zone: &way.zone,
            machine: &way.machine,
            image: &candidate.image,
            disk_gb: candidate.disk_gb,
            spot: candidate.spot,
            labels: terms.labels.then_some(labels),
            tag: candidate.security_group.as_deref(),
            account: self.identity.account().filter(|_| terms.account),
            user_data,
            subnetwork: self.network.subnetwork(&candidate.region),
            standard_tier: terms.standard_tier,
        }
        .body();
        let path = format!("zones/{}/instances", way.zone);
        Call::post("instances.insert", path)
            .request_id(&[&order.launch_id, "instance", &terms.number.to_string()])
            .body(&body)
    }

    /// An instance of this launch's name that was there already.
    async fn found(
        &self,
        order: &Order,
        candidate: &Candidate,
        way: &Way,
    ) -> Result<Instance, Failure> {
        let name = names::instance_name(order);
        let found = instances::get(&self.client, &way.zone, &name).await;
        let found =
            found.map_err(|failure| Failure::Broken(failure.during(format!("finding {name}"))))?;
        match found {
            Some(item) if item.launch_id() == Some(order.launch_id.as_str()) => {
                Ok(instance(order, candidate, way))
            }
            _ => Err(Failure::Broken(Error::other(format!(
                "{name} exists in {}, but isn't this launch's",
                way.zone
            )))),
        }
    }

    fn error(&self, candidate: &Candidate, way: &Way, failure: Failure) -> Error {
        let lacks = |permission| match &failure {
            Failure::Refused(refusal) => refusal.lacks(permission),
            Failure::Broken(_) => false,
        };
        let account = match &self.identity {
            Identity::Users(account) if lacks(ACT_AS) || lacks(SET_SERVICE_ACCOUNT) => {
                Some(&account.email)
            }
            _ => None,
        };
        let network = match &failure {
            Failure::Refused(refusal) => refusal.meaning() == Meaning::NotReady,
            Failure::Broken(_) => false,
        };
        let error = failure.during(format!("launching {}", place(candidate, way)));
        match account {
            Some(email) => error.hint(format!(
                "--cloud-permission-set: grant roles/iam.serviceAccountUser on {email} to the \
                 launcher's account"
            )),
            None if network => error.hint(format!(
                "look whether the network {NETWORK} is whole; deleted, it is made anew"
            )),
            None => error,
        }
    }

    /// Deletes stopped instances of ours that have nobody left to do it.
    async fn clear(&self, order: &Order) {
        let all = self.left_over.iter().map(async |instance| {
            let InstanceRef { id, region } = instance;
            let nonce = format!("{}{id}", order.launch_id);
            match instances::destroy(&self.client, instance, &nonce).await {
                Ok(()) => tracing::info!("deleted {id} in {region}, which had stopped"),
                Err(error) => tracing::warn!("{}", error.chain()),
            }
        });
        futures_util::future::join_all(all).await;
    }
}

/// The permission to give an instance a service account.
const SET_SERVICE_ACCOUNT: &str = "compute.instances.setServiceAccount";

/// Waits for the instance; a launch that is being given up hears at once what is to be destroyed.
async fn hear_out(
    client: &super::client::Client,
    operation: Operation,
    stop: &StopFlag,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        done = operation::wait(client, operation.clone(), MAKING) => done.map(drop),
        () = stopped(stop) => operation::until_begun(client, operation, BEGINNING).await,
    }
}

/// Ends when the launch is being given up.
async fn stopped(stop: &StopFlag) {
    while !stop.is_raised() {
        sleep(STOP_INTERVAL).await;
    }
}

fn given_up(candidate: &Candidate, way: &Way) -> Error {
    Error::other(format!("launching {}", place(candidate, way)))
        .caused_by("the launch is being given up")
}

fn instance(order: &Order, candidate: &Candidate, way: &Way) -> Instance {
    Instance {
        reference: InstanceRef {
            id: names::instance_name(order),
            region: way.zone.clone(),
        },
        name: Some(order.name.clone()),
        is_ours: true,
        serves: Some(order.serves.clone()),
        state: InstanceState::Pending,
        zone: Some(way.zone.clone()),
        instance_type: way.machine.machine_type.clone(),
        // It gets one while it starts.
        ip: None,
        spot: candidate.spot,
        launch_time: None,
        image: candidate.image.clone(),
        disk_gb: Some(candidate.disk_gb),
        security_group: None,
        subnet: None,
        reason: None,
    }
}

fn place(candidate: &Candidate, way: &Way) -> String {
    let market = if candidate.spot { " (spot)" } else { "" };
    format!("{}{market} in {}", way.machine, way.zone)
}

/// The error that tells everything that was tried, and what can be done about it.
fn all_refused(tried: Vec<Tried<'_>>) -> Error {
    let told = tried.into_iter().map(|tried| {
        let place = place(tried.candidate, tried.way);
        let successor = tried.way.machine.successor().map(str::to_owned);
        Refused {
            said: tried.refusal.to_string(),
            error: tried.refusal.during(format!("launching {place}")),
            hints: successor.into_iter().collect(),
            place,
        }
    });
    told::all_refused(told.collect())
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
