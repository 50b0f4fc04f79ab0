//! Permits to read logs: limited in all, for each user, and for each user on one host, so that no user takes all of them.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use super::api_error::ApiError;
use parking_lot::{Mutex, MutexGuard};

/// Readers at one time. Each costs about 200 KiB of memory.
const READERS_MAX: usize = 256;
/// Readers of one user at one time: several terminals, or a page with many builds.
const READERS_PER_USER_MAX: usize = 64;
/// Readers of one user of one host: what a host reads at one time is few (32), and is for all users.
const READERS_PER_HOST_MAX: usize = 8;
const BUSY_SECONDS: u32 = 5;

#[derive(Clone, Default)]
pub(crate) struct ReaderPermits(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// Users without a permit are not in it.
    each: HashMap<String, usize>,
    /// By user and host; those without a permit are not in it.
    on_hosts: HashMap<(String, String), usize>,
}

/// Permit of one reader; free again when this is dropped.
pub(crate) struct ReaderPermit {
    reader_permits: ReaderPermits,
    user: String,
    host: Option<String>,
}

impl ReaderPermits {
    /// A permit for a user; refused with `Retry-After` where the limit is reached.
    pub fn take(&self, user: &str) -> Result<ReaderPermit, ApiError> {
        self.take_of(user, None)
    }

    /// The same for a log that is read on this host.
    pub fn take_on_host(&self, user: &str, host: String) -> Result<ReaderPermit, ApiError> {
        self.take_of(user, Some(host))
    }

    fn take_of(&self, user: &str, host: Option<String>) -> Result<ReaderPermit, ApiError> {
        let mut taken = self.lock();
        let own = taken.each.get(user).copied().unwrap_or_default();
        let busy = |who: String| ApiError::too_many(format!("{who}; try again in {BUSY_SECONDS} s"), BUSY_SECONDS);
        if own >= READERS_PER_USER_MAX {
            return Err(busy(format!("{user} follows {READERS_PER_USER_MAX} logs already, as many as one user may")));
        }
        let on_host = host.as_ref().map(|host| (user.to_owned(), host.clone()));
        let own_there = on_host.as_ref().and_then(|key| taken.on_hosts.get(key)).copied().unwrap_or_default();
        if let (Some(host), READERS_PER_HOST_MAX..) = (&host, own_there) {
            return Err(busy(format!(
                "{user} reads {READERS_PER_HOST_MAX} logs of the host {host} already, as many as one user may"
            )));
        }
        if taken.all >= READERS_MAX {
            return Err(busy(format!("{READERS_MAX} readers follow logs already")));
        }
        taken.all += 1;
        taken.each.insert(user.to_owned(), own + 1);
        if let Some(key) = on_host {
            taken.on_hosts.insert(key, own_there + 1);
        }
        Ok(ReaderPermit { reader_permits: self.clone(), user: user.to_owned(), host })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock()
    }
}

impl Drop for ReaderPermit {
    fn drop(&mut self) {
        let mut taken = self.reader_permits.lock();
        taken.all = taken.all.saturating_sub(1);
        one_less(&mut taken.each, self.user.clone());
        if let Some(host) = self.host.take() {
            one_less(&mut taken.on_hosts, (self.user.clone(), host));
        }
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    match counts.get(&key).map_or(0, |count| count.saturating_sub(1)) {
        0 => _ = counts.remove(&key),
        left => _ = counts.insert(key, left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(reader_permits: &ReaderPermits, user: &str) -> Vec<ReaderPermit> {
        std::iter::from_fn(|| reader_permits.take(user).ok()).collect()
    }

    #[test]
    fn one_user_leaves_permits_to_others_and_a_dropped_permit_is_free_again() {
        let reader_permits = ReaderPermits::default();
        let greedy = filled(&reader_permits, "greedy");
        assert_eq!(greedy.len(), READERS_PER_USER_MAX);
        let ann = reader_permits.take("ann");
        assert!(ann.is_ok());
        drop(greedy);
        assert_eq!(reader_permits.lock().each.keys().collect::<Vec<_>>(), ["ann"]);
        assert_eq!(filled(&reader_permits, "greedy").len(), READERS_PER_USER_MAX);
    }

    #[test]
    fn one_user_leaves_room_on_a_host_to_others() {
        let reader_permits = ReaderPermits::default();
        let take = |user: &str, host: &str| reader_permits.take_on_host(user, host.to_owned());
        let greedy: Vec<ReaderPermit> = std::iter::from_fn(|| take("greedy", "web-01").ok()).collect();
        assert_eq!(greedy.len(), READERS_PER_HOST_MAX);
        let refused = take("greedy", "web-01").err().unwrap();
        assert!(refused.code == 429 && refused.message.contains("web-01 already"), "{refused:?}");
        let others = [take("greedy", "web-02"), take("ann", "web-01")];
        assert!(others.iter().all(Result::is_ok));
        drop((greedy, others));
        assert!(reader_permits.lock().on_hosts.is_empty() && reader_permits.lock().all == 0);
    }

    #[test]
    fn all_users_together_stay_within_the_limit() {
        let reader_permits = ReaderPermits::default();
        let all: Vec<ReaderPermit> = (0..10).flat_map(|user| filled(&reader_permits, &user.to_string())).collect();
        assert_eq!(all.len(), READERS_MAX);
        assert!(reader_permits.take("ann").is_err());
    }
}
