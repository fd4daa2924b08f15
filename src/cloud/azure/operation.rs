//! What Resource Manager does after it has answered.
//! <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/async-operations>

use std::time::Duration;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::client::{Call, Client, Failure};
use super::refusal::{Meaning, Refusal};
use crate::error::{Error, Result};
use crate::http::{Policy, Reply, is_unanswered};

/// The name in traces, whatever is being done.
const POLL: &str = "arm:GET operations";

/// The header with the address of a document with a status.
const STATUS: &str = "azure-asyncoperation";

/// Between looks where the service doesn't say how long: twice as long each time, up to the other.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The shortest pause, whatever is asked for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The longest that the service may ask us to wait. Compute asks for ten seconds; some others for
/// minutes, in which whoever waits would hear of nothing.
const LONGEST_ASKED: Duration = Duration::from_secs(20);

/// How long a change may not be heard of before nobody waits for it any more.
const SILENCE: Duration = Duration::from_secs(30);

/// A change under way, or done.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// What the call was answered with; `null` where that was nothing.
    pub(super) answer: Value,
    state: State,
    /// What the service asks to be waited for before the next look.
    asked: Option<Duration>,
    pause: Duration,
    /// What reads the thing that is changed.
    reading: Call,
    /// Whether it is there no more at the end.
    deletes: bool,
}

/// Where the rest is heard of.
#[derive(Debug, Clone)]
enum State {
    Done,
    /// Ended badly, in the answer itself.
    Failed(Box<Refusal>),
    /// The address of a document with a status.
    Status(Url),
    /// An address that answers 202 until the end.
    Location(Url),
    /// The thing itself has a provisioning state.
    Thing,
}

impl Operation {
    /// Reads the answer to a call that may go on.
    pub(super) fn begun(client: &Client, call: &Call, reply: &Reply) -> Self {
        // What can't be read is nothing that anybody needs.
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        // The call was accepted: an address to which our token may not go is no reason to call it failed.
        let address = |name: &str| -> Option<Url> {
            let text = reply.headers.get(name)?.to_str().ok()?;
            let own = client.own(text);
            own.inspect_err(|error| tracing::debug!("{name}: {}", error.chain()))
                .ok()
        };
        let goes_on = reply.status == StatusCode::ACCEPTED || reply.headers.contains_key(STATUS);
        let state = if let Some(url) = address(STATUS) {
            State::Status(url)
        } else {
            let location = match reply.status {
                StatusCode::ACCEPTED => address("location"),
                _ => None,
            };
            match (location, provisioning(&answer)) {
                (Some(url), _) => State::Location(url),
                (None, Some(state)) => ended(client, state, &answer).unwrap_or(State::Thing),
                // Accepted, and no word of where to hear more.
                (None, None) if goes_on => State::Thing,
                (None, None) => State::Done,
            }
        };
        Self {
            answer,
            state,
            asked: retry_after(reply),
            pause: FIRST_PAUSE,
            reading: call.reading(),
            deletes: call.deletes(),
        }
    }

    /// The answer as what it describes: as it was when the call was answered.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.answer).map_err(|error| {
            Error::other(format!("reading the answer to {}", self.reading.what())).caused_by(error)
        })
    }

    /// Whether it has ended well: an end that isn't is a [`Failure`] of whoever waits.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Looks once.
    async fn look(&mut self, client: &Client, policy: Policy) -> Result<(), Failure> {
        self.asked = None;
        let looked = match &self.state {
            State::Done => return Ok(()),
            State::Failed(refusal) => return Err(Failure::Refused((**refusal).clone())),
            State::Status(url) | State::Location(url) => client.fetch(POLL, url, policy).await,
            State::Thing => client.send(&self.reading.clone().within(policy)).await,
        };
        let reply = match looked {
            Ok(reply) => reply,
            Err(failure) if failure.is_missing() && self.deletes => {
                self.state = State::Done;
                return Ok(());
            }
            // The record of it is gone: what came of it shows in the thing itself.
            Err(failure) if failure.is_missing() && !matches!(self.state, State::Thing) => {
                self.state = State::Thing;
                return Ok(());
            }
            // Who may make the thing may read it, but not operations, perhaps.
            Err(failure)
                if failure.meaning() == Some(Meaning::Denied)
                    && !self.deletes
                    && !matches!(self.state, State::Thing) =>
            {
                tracing::debug!("{}", failure.during("looking at an operation").chain());
                self.state = State::Thing;
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        self.asked = retry_after(&reply);
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let end = match &self.state {
            State::Status(_) => body["status"]
                .as_str()
                .and_then(|s| ended(client, s, &body)),
            State::Location(_) if reply.status == StatusCode::ACCEPTED => None,
            State::Location(_) => Some(State::Done),
            _ => match provisioning(&body) {
                Some(state) => ended(client, state, &body),
                None if self.deletes => None,
                None => Some(State::Done),
            },
        };
        match end {
            Some(State::Failed(refusal)) => Err(Failure::Refused(*refusal)),
            Some(state) => {
                self.state = state;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn provisioning(body: &Value) -> Option<&str> {
    body["properties"]["provisioningState"].as_str()
}

/// The three states that are ends. Their names come in both cases.
fn ended(client: &Client, status: &str, body: &Value) -> Option<State> {
    match status.to_ascii_lowercase().as_str() {
        "succeeded" => Some(State::Done),
        "failed" | "canceled" | "cancelled" => {
            let refusal = Refusal {
                portal: client.portal(),
                ..Refusal::of_operation(status, &body["error"])
            };
            Some(State::Failed(Box::new(refusal)))
        }
        _ => None,
    }
}

fn retry_after(reply: &Reply) -> Option<Duration> {
    reply.retry_after().map(|asked| asked.min(LONGEST_ASKED))
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
            Error::other(format!("waiting for {}", operation.reading.what()))
                .caused_by(format!("it wasn't done after {} s", within.as_secs())),
        )),
    }
}

/// The same, but being not done in time is no error; see [`Operation::is_done`].
pub(super) async fn wait_briefly(
    client: &Client,
    mut operation: Operation,
    within: Duration,
) -> Result<Operation, Failure> {
    let deadline = Instant::now() + within;
    let mut heard = Instant::now();
    while !operation.is_done() {
        if let State::Failed(refusal) = operation.state {
            return Err(Failure::Refused(*refusal));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let pause = operation
            .asked
            .unwrap_or(operation.pause)
            .max(SHORTEST_PAUSE);
        tokio::time::sleep(pause.min(left)).await;
        operation.pause = (operation.pause * 2).min(LONGEST_PAUSE);
        let policy = Policy {
            tries: 1,
            total: left,
            per_try: None,
            idempotent: true,
        };
        match operation.look(client, policy).await {
            Ok(()) => heard = Instant::now(),
            // No answer yet, or a fault that passes.
            Err(failure) if may_pass(&failure) => {
                if heard.elapsed() >= SILENCE {
                    let doing = format!("waiting for {}", operation.reading.what());
                    return Err(Failure::Broken(failure.during(doing)));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(operation)
}

fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Broken(error) if is_unanswered(error) => true,
        failure => failure.is_passing(),
    }
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
