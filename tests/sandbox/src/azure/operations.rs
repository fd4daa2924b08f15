//! Operations that take their time, and how callers follow them.
//! <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/async-operations>

use std::time::Instant;

use serde_json::json;

use super::error::{self, ApiError, Result};
use super::path::{group_id, subscription_id};
use super::state::{Operation, Outcome};
use super::{Call, World};
use crate::calls::lock;
use crate::clock;
use crate::server::Response;

/// What `Retry-After` says unless a test wants something else.
const RETRY_AFTER: u64 = 1;

impl World {
    /// Writes down that something begins; it succeeds by itself at `ready_at`, if there is one.
    pub(super) fn begin(&self, group: &str, ready_at: Option<Instant>) -> String {
        let id = clock::uuid();
        let operation = Operation {
            group: group.into(),
            started: clock::now(),
            ended: None,
            outcome: Outcome::InProgress,
            ready_at,
        };
        lock(&self.state).operations.insert(id.clone(), operation);
        id
    }

    /// Writes down how something ended.
    pub(super) fn finish(&self, id: &str, outcome: Outcome) {
        if let Some(operation) = lock(&self.state).operations.get_mut(id)
            && operation.outcome == Outcome::InProgress
        {
            operation.outcome = outcome;
            operation.ended = Some(clock::now());
        }
    }
}

impl Call<'_> {
    /// Tells the caller where to ask after an operation. Compute and Network give both addresses.
    pub(super) fn follow(&self, response: &mut Response, provider: &str, location: &str, id: &str) {
        let base = format!(
            "{}{}/providers/{provider}/locations/{location}",
            self.base,
            subscription_id()
        );
        let version = &self.version;
        let at = |what: &str| format!("{base}/{what}/{id}?api-version={version}");
        error::set(response, "azure-asyncoperation", &at("operations"));
        error::set(response, "location", &at("operationResults"));
        self.retry_after(response);
    }

    /// The same for a group's deletion, which has a `Location` alone.
    pub(super) fn follow_deletion(&self, response: &mut Response, id: &str) {
        let (base, version) = (&self.base, &self.version);
        let at = format!(
            "{base}{}/operationresults/{id}?api-version={version}",
            subscription_id()
        );
        error::set(response, "location", &at);
        self.retry_after(response);
    }

    fn retry_after(&self, response: &mut Response) {
        let seconds = lock(&self.world.state).retry_after.unwrap_or(RETRY_AFTER);
        error::set(response, "retry-after", &seconds.to_string());
    }

    fn operation(&self, provider: &str, id: &str) -> Result<Operation> {
        let mut operation = lock(&self.world.state)
            .operations
            .get(id)
            .cloned()
            .ok_or_else(|| {
                ApiError::new(
                    404,
                    "NotFound",
                    format!("The entity was not found: operation {id}."),
                )
            })?;
        // The status has no permission of the resource's own: the group's counts.
        let action = match provider {
            "Microsoft.Resources" => {
                "Microsoft.Resources/subscriptions/operationresults/read".to_owned()
            }
            _ => format!("{provider}/locations/operations/read"),
        };
        self.require(&action, &group_id(&operation.group))?;
        if operation.outcome == Outcome::InProgress
            && operation.ready_at.is_some_and(|at| Instant::now() >= at)
        {
            operation.outcome = Outcome::Succeeded;
            operation.ended = Some(clock::now());
        }
        Ok(operation)
    }

    /// Where `Azure-AsyncOperation` leads.
    pub(super) fn operation_status(&self, provider: &str, id: &str) -> Result<Response> {
        let operation = self.operation(provider, id)?;
        let mut body = json!({
            "name": id,
            "startTime": clock::millis(operation.started),
            "status": match operation.outcome {
                Outcome::InProgress => "InProgress",
                Outcome::Succeeded => "Succeeded",
                Outcome::Failed(_) => "Failed",
            },
        });
        if let Some(ended) = operation.ended {
            body["endTime"] = clock::millis(ended).into();
        }
        if let Outcome::Failed(error) = &operation.outcome {
            body["error"] = error.object();
        }
        let mut response = error::document(200, &body);
        if operation.outcome == Outcome::InProgress {
            self.retry_after(&mut response);
        }
        Ok(response)
    }

    /// Where `Location` leads: 202 until it is done.
    pub(super) fn operation_result(&self, provider: &str, id: &str) -> Result<Response> {
        let operation = self.operation(provider, id)?;
        match operation.outcome {
            Outcome::InProgress => {
                let mut response = error::empty(202);
                error::set(
                    &mut response,
                    "location",
                    &format!("{}{}", self.base, self.path_and_query),
                );
                self.retry_after(&mut response);
                Ok(response)
            }
            Outcome::Succeeded if provider == "Microsoft.Resources" => Ok(error::empty(200)),
            Outcome::Succeeded => Ok(error::empty(204)),
            Outcome::Failed(error) => Err(error),
        }
    }
}
