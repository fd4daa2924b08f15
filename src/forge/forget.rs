//! Making a runner's record go away, however long the forge hesitates.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Forge, Unregistered};
use crate::error::{Error, Kind, Result};

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Removes a runner's record, by id where known, else by name; says whether there was one. Gone is
/// success. A record that isn't there is looked for `looks` times before it counts as gone; one
/// that the forge calls busy is tried again for as long as `patience` says.
pub async fn forget(
    forge: &dyn Forge,
    id: Option<u64>,
    name: &str,
    looks: u32,
    patience: Duration,
) -> Result<bool> {
    let started = Instant::now();
    let mut looks = looks;
    loop {
        let found = match id {
            Some(id) => Some(id),
            None => forge.find(None, name).await?.map(|runner| runner.id),
        };
        match found {
            Some(id) => match forge.unregister(id).await? {
                Unregistered::Done => return Ok(true),
                Unregistered::Busy if started.elapsed() > patience => {
                    return Err(Error::new(
                        Kind::Forge,
                        format!("the forge still sees a job on the runner {name}"),
                    )
                    .hint("the record goes when the forge has noticed that the machine is gone; the same command may be given again"));
                }
                Unregistered::Busy => {}
            },
            None => {
                looks = looks.saturating_sub(1);
                if looks == 0 {
                    return Ok(false);
                }
            }
        }
        sleep(PAUSE).await;
    }
}
