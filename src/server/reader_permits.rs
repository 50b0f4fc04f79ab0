//! Places for those who read logs: so many in all, and so many for one user, so that no reader takes them from the others.

use std::{collections::HashMap, sync::Arc};

use super::api_error::ApiError;
use parking_lot::{Mutex, MutexGuard};

/// Readers at one time. Each costs some 200 KiB, whatever it reads.
const ALL: usize = 256;
/// Of one user: several terminals, or a page with many builds.
const EACH: usize = 64;
const BUSY_SECONDS: u32 = 5;

#[derive(Clone, Default)]
pub struct ReaderPermits(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// Those who have none are not in it.
    each: HashMap<String, usize>,
}

/// A place; it is free again when this is dropped.
pub struct ReaderPermit {
    reader_permits: ReaderPermits,
    user: String,
}

impl ReaderPermits {
    /// Takes a place for a user, or says that he has to come again.
    pub fn take(&self, user: &str) -> Result<ReaderPermit, ApiError> {
        let mut taken = self.lock();
        let own = taken.each.get(user).copied().unwrap_or_default();
        let busy = |who: String| ApiError::too_many(format!("{who}; try again in {BUSY_SECONDS} s"), BUSY_SECONDS);
        if own >= EACH {
            return Err(busy(format!("{user} follows {EACH} logs already, as many as one user may")));
        }
        if taken.all >= ALL {
            return Err(busy(format!("{ALL} readers follow logs already")));
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
    fn one_user_leaves_places_to_the_others_and_a_place_is_free_again_when_its_reader_goes() {
        let reader_permits = ReaderPermits::default();
        let greedy = filled(&reader_permits, "greedy");
        assert_eq!(greedy.len(), EACH);
        let ann = reader_permits.take("ann");
        assert!(ann.is_ok());
        drop(greedy);
        assert_eq!(reader_permits.lock().each.keys().collect::<Vec<_>>(), ["ann"]);
        assert_eq!(filled(&reader_permits, "greedy").len(), EACH);
    }

    #[test]
    fn many_users_together_have_so_many_places_and_no_more() {
        let reader_permits = ReaderPermits::default();
        let all: Vec<ReaderPermit> = (0..10).flat_map(|user| filled(&reader_permits, &user.to_string())).collect();
        assert_eq!(all.len(), ALL);
        assert!(reader_permits.take("ann").is_err());
    }
}
