//! Permits to read logs: limited in all and for each user, so that no user takes all of them.

use std::{collections::HashMap, sync::Arc};

use super::api_error::ApiError;
use parking_lot::{Mutex, MutexGuard};

/// Readers at one time. Each costs about 200 KiB of memory.
const READERS_MAX: usize = 256;
/// Readers of one user at one time: several terminals, or a page with many builds.
const READERS_PER_USER_MAX: usize = 64;
const BUSY_SECONDS: u32 = 5;

#[derive(Clone, Default)]
pub(crate) struct ReaderPermits(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// Users without a permit are not in it.
    each: HashMap<String, usize>,
}

/// Permit of one reader; free again when this is dropped.
pub(crate) struct ReaderPermit {
    reader_permits: ReaderPermits,
    user: String,
}

impl ReaderPermits {
    /// A permit for a user; refused with `Retry-After` where the limit is reached.
    pub fn take(&self, user: &str) -> Result<ReaderPermit, ApiError> {
        let mut taken = self.lock();
        let own = taken.each.get(user).copied().unwrap_or_default();
        let busy = |who: String| ApiError::too_many(format!("{who}; try again in {BUSY_SECONDS} s"), BUSY_SECONDS);
        if own >= READERS_PER_USER_MAX {
            return Err(busy(format!("{user} follows {READERS_PER_USER_MAX} logs already, as many as one user may")));
        }
        if taken.all >= READERS_MAX {
            return Err(busy(format!("{READERS_MAX} readers follow logs already")));
        }
        taken.all += 1;
        taken.each.insert(user.to_owned(), own + 1);
        Ok(ReaderPermit { reader_permits: self.clone(), user: user.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock()
    }
}

impl Drop for ReaderPermit {
    fn drop(&mut self) {
        let mut taken = self.reader_permits.lock();
        taken.all = taken.all.saturating_sub(1);
        let left = taken.each.get(&self.user).map_or(0, |own| own.saturating_sub(1));
        match left {
            0 => _ = taken.each.remove(&self.user),
            left => _ = taken.each.insert(self.user.clone(), left),
        }
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
    fn all_users_together_stay_within_the_limit() {
        let reader_permits = ReaderPermits::default();
        let all: Vec<ReaderPermit> = (0..10).flat_map(|user| filled(&reader_permits, &user.to_string())).collect();
        assert_eq!(all.len(), READERS_MAX);
        assert!(reader_permits.take("ann").is_err());
    }
}
