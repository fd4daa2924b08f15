//! What comes after the request for a machine was accepted: it is followed until it runs, and gets
//! the right to delete itself.

use std::time::Duration;

use serde::Deserialize;

use super::client::{Api, Call, Client, Failure};
use super::create::machine;
use super::operation::{self, Operation};
use super::{instances, roles};
use crate::cloud::Order;
use crate::error::{Error, Result};

/// How long a machine's creation is followed. Azure gives one up after as long.
const CREATION: Duration = Duration::from_secs(600);

/// Between looks whether a machine runs, at first and at last: before Azure says that its creation is
/// over, it has long been at work. Of looks at one machine Azure allows twelve a minute for long, and
/// three times as many at once.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/compute-throttling-limits>
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LAST_LOOK: Duration = Duration::from_secs(6);

/// What is read of a machine that was just made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Made {
    identity: Option<MadeIdentity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MadeIdentity {
    principal_id: Option<String>,
}

impl Made {
    pub(super) fn principal(self) -> Option<String> {
        self.identity?.principal_id.filter(|id| !id.is_empty())
    }
}

/// Gives the machine's identity its right, as soon as there is one.
pub(super) async fn entitle(
    client: &Client,
    order: &Order,
    group: &str,
    principal: Option<String>,
) -> Result<(), Failure> {
    let principal = match principal {
        Some(principal) => principal,
        None => told_principal(client, group).await?,
    };
    roles::let_delete(client, &order.launch_id, group, &principal).await
}

/// The launcher's permissions said yes, and Azure says no.
pub(super) fn not_entitled(failure: Failure, doing: String) -> Error {
    let denied = matches!(&failure, Failure::Refused(refusal) if refusal.denies(roles::ASSIGN));
    let error = failure.during(doing);
    match denied {
        true => error.hint(format!(
            "a condition on the launcher's role, or a deny assignment, forbids it to assign \
             Contributor on the resource groups that it makes: allow that; or else deny it \
             Microsoft.Authorization/roleAssignments/write and name an identity that may delete \
             resource groups with --cloud-permission-set: {}",
            roles::USED_BY_JOBS
        )),
        false => error,
    }
}

/// The identity, where the first answer didn't tell it.
async fn told_principal(client: &Client, group: &str) -> Result<String, Failure> {
    const LOOKS: u32 = 20;
    for _ in 0..LOOKS {
        tokio::time::sleep(FIRST_LOOK).await;
        let call = Call::get(Api::Compute, "virtualMachines", machine(group));
        match client.call::<Made>(&call).await {
            Ok(made) => {
                if let Some(principal) = made.principal() {
                    return Ok(principal);
                }
            }
            Err(failure) if failure.is_passing() || failure.is_missing() => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Error::other("looking for the machine's identity")
        .caused_by(format!("Azure tells of none after {LOOKS} looks"))
        .into())
}

/// Waits for the end of a creation, or until the machine runs all the same.
pub(super) async fn until_running(
    client: &Client,
    group: &str,
    operation: Operation,
) -> Result<(), Failure> {
    tokio::select! {
        ended = operation::wait(client, operation, CREATION) => ended.map(drop),
        () = runs(client, group) => Ok(()),
    }
}

async fn runs(client: &Client, group: &str) {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause + Duration::from_secs(1)).min(LAST_LOOK);
        match instances::is_running(client, group).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(failure) => tracing::debug!("{}", failure.during("looking at the machine").chain()),
        }
    }
}
