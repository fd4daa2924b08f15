//! How often a machine is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::Client;
use super::instances::inspect;
use crate::cloud::{Instance, InstanceRef};
use crate::error::Result;

/// The looks at machines, which Azure counts for each of them. Who looks too often is told what was
/// seen last.
/// <https://learn.microsoft.com/en-us/azure/virtual-machines/compute-throttling-limits>
#[derive(Debug, Default)]
pub(super) struct Looks {
    seen: Mutex<BTreeMap<String, Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    instance: Option<Instance>,
    /// When as many looks as may come at once may come at once again.
    full_at: Instant,
}

/// What a look costs of the time in which none may be made. Azure gives twelve a minute back.
const COST: Duration = Duration::from_secs(6);

/// How many may come at once. Azure allows 36, some of which the creation has used.
const AT_ONCE: u32 = 16;

impl Looks {
    pub(super) async fn inspect(
        &self,
        client: &Client,
        instance: &InstanceRef,
    ) -> Result<Option<Instance>> {
        let mut seen = self.seen.lock().await;
        let now = Instant::now();
        let known = seen.get(&instance.id);
        let full_at = known.map_or(now, |known| known.full_at.max(now)) + COST;
        if let Some(known) = known
            && (full_at - now > COST * AT_ONCE)
        {
            return Ok(known.instance.clone());
        }
        let found = inspect(client, instance).await?;
        let look = Seen {
            instance: found.clone(),
            full_at,
        };
        seen.insert(instance.id.clone(), look);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cloud::InstanceState;
    use crate::cloud::azure::scripted::{Answer, Server, TOKEN, token};

    #[tokio::test]
    async fn who_looks_too_often_is_told_what_was_seen_last() {
        let server = Server::start(|seen, _| match seen.line.as_str() {
            TOKEN => token("t"),
            line if line.ends_with("virtualMachines/x") => Answer::json(&json!({
                "properties": {"provisioningState": "Creating"}})),
            _ => Answer::json(&json!({"value": []})),
        })
        .await;
        let (host, http) = server.signed_in();
        let (client, looks) = (Client::new(host, http), Looks::default());
        let instance = InstanceRef {
            id: "x".into(),
            region: "westus2".into(),
        };
        for _ in 0..40 {
            let found = looks.inspect(&client, &instance).await.unwrap();
            assert_eq!(found.unwrap().state, InstanceState::Pending);
        }
        let asked = server.order().into_iter();
        let asked = asked.filter(|line| line.ends_with("virtualMachines/x"));
        assert_eq!(asked.count(), 16);
    }
}
