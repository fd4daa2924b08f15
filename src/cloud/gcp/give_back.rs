//! A machine's own deletion. One that is off costs no more than its disk, but it costs.

use std::time::Duration;

use http::StatusCode;
use url::Url;

use super::client::{Call, exchange};
use super::credentials::machine_token;
use super::metadata::Server;
use super::operation::last;
use super::refusal::{COMPUTE, Meaning, Refusal};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy};

/// The same in POSIX shell, for when there is no agent. `$compute_api` must be set before it, to
/// the address that [`delete_itself`] takes.
pub const FAREWELL: &str = include_str!("give_back.sh");

/// All of it: whoever is being shut down hasn't long.
const WITHIN: Duration = Duration::from_secs(20);

/// Between tries while the machine's own creation isn't over yet.
const PAUSE: Duration = Duration::from_secs(2);

const TRYING: Policy = Policy {
    tries: 4,
    total: Duration::from_secs(15),
    per_try: Some(Duration::from_secs(8)),
    idempotent: true,
};

/// Has Compute Engine delete this very machine, by its own service account. `false`: it has none,
/// or that may not; powering off is all that is left to do.
/// <https://cloud.google.com/compute/docs/reference/rest/v1/instances/delete>
pub async fn delete_itself(api: &Url, host: &Host, http: &Http) -> Result<bool> {
    match tokio::time::timeout(WITHIN, delete(api, host, http)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(doing().caused_by(format!("it took more than {} s", WITHIN.as_secs()))),
    }
}

fn doing() -> Error {
    Error::other("having this machine deleted")
}

async fn delete(api: &Url, host: &Host, http: &Http) -> Result<bool> {
    let server = Server::new(host.clone(), http.clone())?;
    let (token, project, zone, name) = tokio::try_join!(
        machine_token(&server, host.now()),
        read(&server, "project/project-id"),
        read(&server, "instance/zone"),
        read(&server, "instance/name"),
    )?;
    let Some(token) = token else {
        tracing::info!("this machine has no service account: it can't have itself deleted");
        return Ok(false);
    };
    let zone = last(&zone);
    loop {
        // A request that was refused is answered with its refusal for ever.
        let call = Call::delete("instances.delete", format!("zones/{zone}/instances/{name}"))
            .request_id(&["give back", &host.random_id(20)?])
            .within(TRYING);
        let reply = exchange(http, api, &project, &call, &token.value, None).await?;
        if reply.status.is_success() {
            return Ok(true);
        }
        let refusal = Refusal::read(COMPUTE, &reply);
        match (refusal.meaning(), reply.status) {
            (Meaning::NotReady, _) => tokio::time::sleep(PAUSE).await,
            (Meaning::Denied | Meaning::Credentials, _) | (_, StatusCode::NOT_FOUND) => {
                tracing::warn!("this machine can't have itself deleted: {refusal}");
                return Ok(false);
            }
            _ => return Err(doing().caused_by(refusal)),
        }
    }
}

async fn read(server: &Server, path: &str) -> Result<String> {
    server
        .get(path)
        .await?
        .ok_or_else(|| doing().caused_by(format!("the metadata {path} isn't there")))
}

#[cfg(test)]
#[path = "give_back_tests.rs"]
mod tests;
