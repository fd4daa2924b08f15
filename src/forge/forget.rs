//! Making a runner's record go away, however long the forge hesitates.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Forge, Unregistered};
use crate::error::Result;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It is removed.
    Removed,
    /// There was none.
    Absent,
    /// The forge still sees a job on the runner.
    Busy,
}

/// Removes a runner's record, by id where known, else all of that name: an unanswered registration
/// that was repeated may have made more than one. A record that isn't there is looked
/// for `looks` times before it counts as absent; one that the forge calls busy is tried again for as
/// long as `patience` says.
pub async fn forget(
    forge: &dyn Forge,
    id: Option<u64>,
    name: &str,
    looks: u32,
    patience: Duration,
) -> Result<Forgotten> {
    let started = Instant::now();
    let mut looks = looks;
    let mut removed = Vec::new();
    loop {
        let found = match id {
            Some(id) => Some(id),
            None => forge.find(None, name).await?.map(|runner| runner.id),
        };
        match found {
            // A list may lag behind.
            Some(found) if removed.contains(&found) => return Ok(Forgotten::Removed),
            Some(found) => match forge.unregister(found).await? {
                Unregistered::Done if id.is_some() => return Ok(Forgotten::Removed),
                Unregistered::Done => {
                    removed.push(found);
                    continue;
                }
                Unregistered::Busy if started.elapsed() > patience => return Ok(Forgotten::Busy),
                Unregistered::Busy => {}
            },
            None if !removed.is_empty() => return Ok(Forgotten::Removed),
            None => {
                looks = looks.saturating_sub(1);
                if looks == 0 {
                    return Ok(Forgotten::Absent);
                }
            }
        }
        sleep(PAUSE).await;
    }
}
