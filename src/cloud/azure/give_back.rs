//! A machine's own deletion, with its whole group. One that is off costs as much as one that is on.
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/states-billing>

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use super::client::{Call, exchange};
use super::clouds::audience;
use super::credentials::{Application, ClientSecret};
use super::metadata::{Imds, Machine, READING};
use super::refusal::{Meaning, RESOURCE_MANAGER, Refusal};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::http::{Http, Policy};
use crate::secret::{self, Secret};

const SCRIPT: &str = include_str!("give_back.sh");

/// All of it. A role that was assigned just now may count after minutes only: whoever still isn't
/// allowed then asks on in the patient way, the script's.
/// <https://learn.microsoft.com/en-us/azure/role-based-access-control/troubleshooting#symptom---role-assignment-changes-are-not-being-detected>
const WITHIN: Duration = Duration::from_secs(20);

/// Between tries while it may not, or not yet.
const PAUSE: Duration = Duration::from_secs(5);

const TRYING: Policy = Policy {
    tries: 4,
    total: Duration::from_secs(20),
    per_try: Some(Duration::from_secs(10)),
    idempotent: true,
};

/// How a machine has itself deleted; part of the agent's configuration. Which group it is, it knows
/// by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Where Resource Manager is.
    pub arm: Url,
    /// As whom.
    pub who: Who,
}

/// As whom a machine has itself deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// Its own identity.
    System,
    /// A user-assigned identity.
    Identity {
        /// Its client id.
        client: String,
    },
    /// The launcher's application, for want of anything better.
    Secret {
        /// Where tokens are made.
        authority: Url,
        /// The tenant's id or domain.
        tenant: String,
        /// The application's id.
        client: String,
        /// Its secret.
        #[serde(with = "secret::exposed::always")]
        secret: Secret,
    },
    /// Nobody may: the machine is turned off, and costs on until somebody stops it.
    Nobody,
}

impl From<ClientSecret> for Who {
    fn from(given: ClientSecret) -> Self {
        let Application {
            authority,
            tenant,
            client,
        } = given.application;
        Self::Secret {
            authority,
            tenant,
            client,
            secret: given.secret,
        }
    }
}

impl Who {
    fn client_secret(&self) -> Option<ClientSecret> {
        match self {
            Self::Secret {
                authority,
                tenant,
                client,
                secret,
            } => Some(ClientSecret {
                application: Application {
                    authority: authority.clone(),
                    tenant: tenant.clone(),
                    client: client.clone(),
                },
                secret: secret.clone(),
            }),
            _ => None,
        }
    }
}

impl Own {
    /// The same as [`delete_itself`] in POSIX shell, for when there is no agent. It holds the
    /// secret, where there is one.
    pub fn farewell(&self) -> Result<String> {
        let mut text = String::new();
        let mut assign = |name: &str, value: &str| -> Result<()> {
            let quoted = shlex::try_quote(value).map_err(|error| {
                Error::usage(format!("{name} can't be given to a shell")).caused_by(error)
            })?;
            text.push_str(&format!("{name}={quoted}\n"));
            Ok(())
        };
        let identity = match &self.who {
            Who::Nobody => return Ok(text),
            Who::Identity { client } => client.as_str(),
            Who::System | Who::Secret { .. } => "",
        };
        let audience = audience(&self.arm);
        assign("arm", self.arm.as_str().trim_end_matches('/'))?;
        assign("audience", &audience)?;
        assign("identity", identity)?;
        match self.who.client_secret() {
            Some(secret) => {
                let (url, form) = secret.form(&audience)?;
                assign("sign_in", url.as_str())?;
                assign("form", form.expose())?;
            }
            None => {
                assign("sign_in", "")?;
                assign("form", "")?;
            }
        }
        text.push_str(SCRIPT);
        Ok(text)
    }
}

fn doing() -> Error {
    Error::other("having this machine deleted")
}

/// Has Azure delete this very machine with its group, and then tells Azure that what it has
/// scheduled for the machine need not wait. `false`: nobody may; powering off is all that is left
/// to do, and the machine costs on.
/// <https://learn.microsoft.com/en-us/rest/api/resources/resource-groups/delete>
pub async fn delete_itself(own: &Own, host: &Host, http: &Http) -> Result<bool> {
    let imds = Imds::new(host, http.clone())?;
    let machine = imds.machine(READING).await;
    let outcome = match (&own.who, &machine) {
        (Who::Nobody, _) => {
            tracing::warn!(
                "this machine is turned off, and costs on until it is stopped or swept: nobody on \
                 it may delete it"
            );
            Ok(false)
        }
        (_, Ok(machine)) => delete(own, &imds, machine, host, http).await,
        (_, Err(error)) => Err(doing().caused_by(error.chain())),
    };
    // Not before: what has been acknowledged begins at once.
    let name = machine.ok().map(|machine| machine.name);
    if let Err(error) = imds.acknowledge(name.as_deref()).await {
        tracing::debug!("{}", error.chain());
    }
    outcome
}

async fn delete(
    own: &Own,
    imds: &Imds,
    machine: &Machine,
    host: &Host,
    http: &Http,
) -> Result<bool> {
    if !machine.is_ours() {
        return Err(doing().caused_by(format!(
            "its group {} isn't one that was made for it alone",
            machine.resource_group_name
        )));
    }
    let path = format!("resourceGroups/{}", machine.resource_group_name);
    let call = Call::delete_group(path).within(TRYING);
    let deadline = Instant::now() + WITHIN;
    loop {
        let why = match token(own, imds, host, http).await {
            Ok(Some(token)) => {
                let subscription = &machine.subscription_id;
                match exchange(http, &own.arm, subscription, &call, &token).await {
                    Ok(reply) if reply.status.is_success() => return Ok(true),
                    Ok(reply) => {
                        let refusal = Refusal::read(RESOURCE_MANAGER, &reply);
                        match refusal.meaning() {
                            // That there is no such group is no proof: this machine is in it.
                            Meaning::Deleting => return Ok(true),
                            // Nothing that passes by itself.
                            Meaning::Denied if refusal.code == "ScopeLocked" => {
                                return Err(doing().caused_by(refusal));
                            }
                            // A role that doesn't count yet, something that is still being made, or
                            // an outage.
                            _ => refusal.to_string(),
                        }
                    }
                    Err(error) => error.chain(),
                }
            }
            Ok(None) => "it has no identity".to_owned(),
            Err(error) => error.chain(),
        };
        if Instant::now() + PAUSE > deadline {
            return Err(doing().caused_by(why));
        }
        tracing::debug!("this machine can't have itself deleted yet: {why}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn token(own: &Own, imds: &Imds, host: &Host, http: &Http) -> Result<Option<Secret>> {
    let audience = audience(&own.arm);
    let token = match (&own.who, own.who.client_secret()) {
        (_, Some(secret)) => Some(secret.token(host, http, &audience).await?),
        (Who::Identity { client }, None) => imds.token(host.now(), &audience, Some(client)).await?,
        (_, None) => imds.token(host.now(), &audience, None).await?,
    };
    Ok(token.map(|token| token.value))
}

#[cfg(test)]
#[path = "give_back_tests.rs"]
mod tests;
