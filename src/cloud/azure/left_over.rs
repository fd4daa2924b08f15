//! What earlier launches have left: machines that are off and could not delete themselves, and groups
//! whose machine Azure has taken back. Both may cost money, and nobody else is left to delete them.

use std::time::Duration;

use futures_util::future::join_all;

use super::client::Client;
use super::instances;
use crate::cloud::{InstanceRef, InstanceState};

/// How old a group must be: what was made just now may be about to be deleted by whom it belongs to.
const AGE: Duration = Duration::from_secs(10 * 60);

/// The most groups that one launch looks at.
const MOST: usize = 100;

/// All of the clearing.
const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks, for one that is wrong would cost somebody their job.
const TWICE: Duration = Duration::from_secs(3);

/// Groups of ours that are old enough, whatever is in them. Nothing depends on them.
pub(super) async fn candidates(client: &Client) -> Vec<InstanceRef> {
    let groups = match instances::groups(client).await {
        Ok(groups) => groups,
        Err(failure) => {
            let error = failure.during("looking for what earlier launches have left");
            tracing::debug!("{}", error.chain());
            return Vec::new();
        }
    };
    let (now, age) = (client.now(), AGE.as_secs().cast_signed());
    let old = groups.into_iter().filter(|group| {
        let made = group.launch_time;
        group.state != InstanceState::Ending
            && made.is_some_and(|made| now.duration_since(made).as_secs() >= age)
    });
    let mut old: Vec<_> = old.collect();
    // What works ends some day; what is left becomes the oldest.
    old.sort_by_key(|group| group.launch_time);
    old.truncate(MOST);
    old.into_iter().map(|group| group.reference).collect()
}

/// Deletes those whose machine is off or gone, as far as there is time.
pub(super) async fn clear(client: &Client, candidates: &[InstanceRef]) {
    let all = candidates.iter().map(async |group| {
        let InstanceRef { id, region } = group;
        for pause in [Duration::ZERO, TWICE] {
            tokio::time::sleep(pause).await;
            match instances::is_off(client, id).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => {
                    let error = failure.during(format!("looking at {id}"));
                    return tracing::debug!("{}", error.chain());
                }
            }
        }
        match instances::destroy(client, group).await {
            Ok(()) => tracing::info!("deleted {id} in {region}, which had stopped"),
            Err(error) => tracing::warn!("{}", error.chain()),
        }
    });
    if tokio::time::timeout(LIMIT, join_all(all)).await.is_err() {
        tracing::debug!("not everything that earlier launches have left was looked at in time");
    }
}
