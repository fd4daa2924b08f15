//! What Compute Engine does after it has answered, waited for with its long poll.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::answer::OperationItem;
use super::client::{Call, Client, Failure};
use super::refusal::Refusal;
use crate::error::Error;
use crate::http::Policy;

/// The longest that one call waits. The service would hold it for two minutes, but whoever waits
/// that long for a connection that has died in the meantime hears nothing of it.
/// <https://cloud.google.com/compute/docs/reference/rest/v1/zoneOperations/wait>
const ONE_CALL: Duration = Duration::from_secs(20);

/// Between calls that came back early: under load, the service doesn't hold them at all.
const PAUSE: Duration = Duration::from_secs(1);

/// How long an operation may not be heard of before nobody waits for it any more.
const SILENCE: Duration = Duration::from_secs(30);

/// Between looks whether an operation has begun.
const BRIEFLY: Duration = Duration::from_millis(100);

/// A change under way, or done.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) name: String,
    /// `PENDING`, `RUNNING` or `DONE`.
    pub(super) status: String,
    /// The address of the zone that does it; `None`: a global one.
    zone: Option<String>,
    http_error_status_code: Option<u16>,
    error: Option<Errors>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<OperationItem>,
}

impl Operation {
    pub(super) fn is_done(&self) -> bool {
        self.status == "DONE"
    }

    /// How it ended, when that was badly.
    fn refusal(&self) -> Option<Refusal> {
        let errors = self.error.as_ref()?;
        let status = self.http_error_status_code.unwrap_or(400);
        self.is_done()
            .then(|| Refusal::of_operation(status, &errors.errors))
    }

    /// Where its end is waited for.
    pub(super) fn waiting(&self) -> Call {
        let what = match self.zone {
            Some(_) => "zoneOperations.wait",
            None => "globalOperations.wait",
        };
        Call::post(what, format!("{}/wait", self.path())).repeatable()
    }

    /// Where its present state is read.
    fn reading(&self) -> Call {
        let what = match self.zone {
            Some(_) => "zoneOperations.get",
            None => "globalOperations.get",
        };
        Call::get(what, self.path())
    }

    /// Below the project.
    fn path(&self) -> String {
        let place = match &self.zone {
            Some(zone) => format!("zones/{}", last(zone)),
            None => "global".to_owned(),
        };
        format!("{place}/operations/{}", self.name)
    }
}

/// The name that an address ends with.
pub(super) fn last(address: &str) -> &str {
    address.rsplit('/').next().unwrap_or(address)
}

/// Waits until the operation is done. An error that it ended with is a [`Failure::Refused`]; one
/// that isn't done within the time is [`Failure::Broken`], for nobody knows what comes of it.
pub(super) async fn wait(
    client: &Client,
    operation: Operation,
    within: Duration,
) -> Result<Operation, Failure> {
    match wait_briefly(client, operation, within).await? {
        operation if operation.is_done() => Ok(operation),
        operation => Err(Failure::Broken(
            Error::other(format!("waiting for {}", operation.name)).caused_by(format!(
                "it was still {} after {} s",
                operation.status,
                within.as_secs()
            )),
        )),
    }
}

/// The same, but being not done in time is no error.
pub(super) async fn wait_briefly(
    client: &Client,
    mut operation: Operation,
    within: Duration,
) -> Result<Operation, Failure> {
    let deadline = Instant::now() + within;
    let mut heard = Instant::now();
    loop {
        if let Some(refusal) = operation.refusal() {
            return Err(Failure::Refused(refusal));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if operation.is_done() || left.is_zero() {
            return Ok(operation);
        }
        let asked = Instant::now();
        let policy = Policy {
            tries: 1,
            total: left,
            per_try: Some(left.min(ONE_CALL)),
            idempotent: true,
        };
        let mut answer = client.call(&operation.waiting().within(policy)).await;
        // The service may hold a call for longer than we do, and what is between us and it may not
        // hold one at all: a plain question tells how it stands.
        if answer.as_ref().is_err_and(Failure::is_passing) {
            answer = client.call(&operation.reading()).await;
        }
        match answer {
            Ok(answer) => {
                operation = answer;
                heard = Instant::now();
                if operation.is_done() {
                    continue;
                }
            }
            Err(failure) if failure.is_passing() && heard.elapsed() < SILENCE => {}
            // Not the operation's end, but the question's: what comes of it isn't known.
            Err(failure) => {
                let doing = format!("waiting for {}", operation.name);
                return Err(Failure::Broken(failure.during(doing)));
            }
        }
        if asked.elapsed() < PAUSE {
            tokio::time::sleep(PAUSE.min(left)).await;
        }
    }
}

/// Waits until the operation has at least begun. Before that, what it makes isn't there to be deleted:
/// Google answers that there is no such thing, and makes it then.
pub(super) async fn until_begun(
    client: &Client,
    mut operation: Operation,
    within: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    let doing = format!("waiting for {} to begin", operation.name);
    loop {
        if let Some(refusal) = operation.refusal() {
            return Err(Failure::Refused(refusal));
        }
        if operation.status != "PENDING" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::other(doing).caused_by("it is still to come").into());
        }
        match client.call(&operation.reading()).await {
            Ok(answer) => operation = answer,
            Err(failure) if failure.is_passing() => {}
            Err(failure) => return Err(Failure::Broken(failure.during(doing))),
        }
        tokio::time::sleep(BRIEFLY).await;
    }
}
