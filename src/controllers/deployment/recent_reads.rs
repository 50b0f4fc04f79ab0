//! What a Deployment's decision was read from a moment ago, for the decisions of a burst: while hosts are updated one follows the other, and
//! nothing but hosts has changed. It must not read.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{api::HostGroup, plan::deployment::SiblingDeployment};

/// How long it counts where no change is heard of: a watch may be late, or broken.
const COUNTS_FOR: Duration = Duration::from_millis(500);

/// All of it is of one moment.
#[derive(Clone)]
pub(super) struct Reads {
    /// `None`: there is no Project; else how many releases it keeps on a host, `None` where it can't be read.
    pub project: Option<Option<i64>>,
    pub group: Option<Arc<HostGroup>>,
    pub siblings: Arc<Vec<SiblingDeployment>>,
}

/// Of which state of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Generation of the Deployment.
    pub generation: i64,
    /// Number of the changes of objects in its namespace.
    pub changes: u64,
}

/// By uid of the Deployment.
#[derive(Default)]
pub struct RecentReads(Mutex<HashMap<String, (Instant, Moment, Reads)>>);

impl RecentReads {
    /// What was read at this moment and counts still.
    pub(super) fn get(&self, uid: &str, moment: Moment, now: Instant) -> Option<Reads> {
        let all = self.0.lock();
        let (at, of, reads) = all.get(uid)?;
        (*of == moment && counts(*at, now)).then(|| reads.clone())
    }

    /// `at`: when it was begun to be read.
    pub(super) fn keep(&self, uid: &str, moment: Moment, reads: Reads, at: Instant) {
        let mut all = self.0.lock();
        all.retain(|_, (kept_at, ..)| counts(*kept_at, at));
        all.insert(uid.to_owned(), (at, moment, reads));
    }
}

fn counts(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < COUNTS_FOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::clock;

    #[test]
    fn what_was_read_counts_until_something_changes_or_a_moment_is_over() {
        let (reads, now) = (RecentReads::default(), clock::monotonic());
        let moment = Moment { generation: 1, changes: 7 };
        let read = Reads { project: Some(Some(3)), group: None, siblings: Arc::default() };
        reads.keep("uid-1", moment, read.clone(), now);
        let soon = now + COUNTS_FOR / 2;
        assert!(reads.get("uid-1", moment, soon).is_some());
        assert!(reads.get("uid-2", moment, soon).is_none());
        assert!(reads.get("uid-1", Moment { changes: 8, ..moment }, soon).is_none(), "some object has changed");
        assert!(reads.get("uid-1", Moment { generation: 2, ..moment }, soon).is_none(), "its own spec has changed");
        assert!(reads.get("uid-1", moment, now + COUNTS_FOR).is_none());
        reads.keep("uid-2", moment, read, now + COUNTS_FOR);
        assert_eq!(reads.0.lock().len(), 1, "what does not count any more is not kept");
    }
}
