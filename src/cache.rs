//! Short-lived tokens and credentials, cached once for every service.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::error::Result;

/// A value that is good until a moment; for ever when that is `None`.
#[derive(Debug, Clone)]
pub struct Expiring<T> {
    /// The value.
    pub value: T,
    /// When it stops being good.
    pub expires: Option<Timestamp>,
}

/// Holds one expiring value and fetches the next in good time. Several askers at once cause one
/// fetch: the first holds the lock, the others find what it brought.
#[derive(Debug)]
pub struct Cached<T> {
    held: Mutex<Option<Expiring<T>>>,
}

impl<T: Clone> Cached<T> {
    /// The life that a value must still have to be handed out.
    const LEAST_LIFE: Duration = Duration::from_secs(300);

    /// An empty cache.
    pub fn new() -> Self {
        Self {
            held: Mutex::new(None),
        }
    }

    /// The held value if it will last, else what `fetch` brings. A failed fetch changes nothing,
    /// and while the held value is still good at all, it is used instead.
    pub async fn get(
        &self,
        now: Timestamp,
        fetch: impl AsyncFnOnce() -> Result<Expiring<T>>,
    ) -> Result<T> {
        let mut held = self.held.lock().await;
        let lasts = |life: Duration| {
            held.as_ref().filter(|held| match held.expires {
                Some(expires) => now + life < expires,
                None => true,
            })
        };
        if let Some(good) = lasts(Self::LEAST_LIFE) {
            return Ok(good.value.clone());
        }
        let still_good = lasts(Duration::ZERO).map(|held| held.value.clone());
        match (fetch().await, still_good) {
            (Ok(fresh), _) => {
                let value = fresh.value.clone();
                *held = Some(fresh);
                Ok(value)
            }
            (Err(_), Some(value)) => Ok(value),
            (Err(error), None) => Err(error),
        }
    }

    /// Lets go of a value that was refused before its time; of the one that is held by now, if
    /// somebody was quicker, not.
    pub async fn forget(&self, is_refused: impl FnOnce(&T) -> bool) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| is_refused(&held.value)) {
            *held = None;
        }
    }
}

impl<T: Clone> Default for Cached<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn a_value_is_fetched_again_only_near_its_end() {
        let cache = Cached::new();
        let good_until = |value: u32, second: i64| async move {
            Ok(Expiring {
                value,
                expires: Some(at(second)),
            })
        };
        let get =
            |now, value, until| cache.get(at(now), async move || good_until(value, until).await);
        assert_eq!(get(0, 1, 1000).await.unwrap(), 1);
        assert_eq!(get(600, 2, 2000).await.unwrap(), 1);
        assert_eq!(get(800, 3, 3000).await.unwrap(), 3);
        let failing = || cache.get(at(2800), async || Err(Error::other("down")));
        assert_eq!(failing().await.unwrap(), 3, "still good for 200 s");
        let failing = cache.get(at(3001), async || Err(Error::other("down")));
        assert!(failing.await.is_err());
    }

    #[tokio::test]
    async fn a_value_that_was_refused_is_fetched_again_and_one_that_took_its_place_is_kept() {
        let cache = Cached::new();
        let get = |value: u32| {
            let fetch = async move || {
                let expires = None;
                Ok(Expiring { value, expires })
            };
            cache.get(at(0), fetch)
        };
        assert_eq!(get(1).await.unwrap(), 1);
        for (refused, next) in [(1, 2), (1, 2), (2, 4)] {
            cache.forget(|held| *held == refused).await;
            assert_eq!(get(next).await.unwrap(), next);
        }
        cache.forget(|held| *held == 2).await;
        assert_eq!(get(5).await.unwrap(), 4);
    }
}
