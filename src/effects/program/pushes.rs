//! What a host tells unasked. What is not taken yet is merged: of each folder the newest counts, so that no talkative host fills memory.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use landfall_host_protocol::{FolderFacts, FolderName, Push};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ProgramError;

/// Folders that one host may tell of.
const FOLDERS_MAX: usize = 5_000;
/// Pushes at once, and one more each half second: a host tells something once a second at most.
const BURST: f64 = 30.0;
const PER_SECOND: f64 = 2.0;

/// Folders as they are now; `None`: the folder is gone.
pub type ChangedFolders = BTreeMap<FolderName, Option<FolderFacts>>;

/// The host's pushes, in their order.
pub struct Pushes {
    slot: Arc<PushSlot>,
}

impl Pushes {
    pub(super) fn new(slot: Arc<PushSlot>) -> Self {
        Self { slot }
    }

    /// The number of the newest facts, and what changed since the last call; `None`: the session is over.
    pub async fn next(&mut self) -> Option<(u64, ChangedFolders)> {
        loop {
            let arrived = self.slot.arrived.notified();
            {
                let mut state = self.slot.state.lock();
                if let Some(seen) = state.seen.take() {
                    return Some((seen, std::mem::take(&mut state.folders)));
                }
                if state.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }
}

pub(super) struct PushSlot {
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    seen: Option<u64>,
    folders: ChangedFolders,
    closed: bool,
    left: f64,
    since: Instant,
}

impl PushSlot {
    pub fn new(now: Instant) -> Self {
        let state = State { seen: None, folders: ChangedFolders::new(), closed: false, left: BURST, since: now };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }

    pub fn put(&self, push: Push, now: Instant) -> Result<(), ProgramError> {
        let mut state = self.state.lock();
        let gone = now.saturating_duration_since(state.since).as_secs_f64();
        state.since = now;
        state.left = (state.left + gone * PER_SECOND).min(BURST) - 1.0;
        if state.left < 0.0 {
            return Err(ProgramError::protocol("it tells something all the time"));
        }
        let Push::Folders { seen, folders, .. } = push else { return Ok(()) };
        state.seen = Some(seen);
        state.folders.extend(folders);
        if state.folders.len() > FOLDERS_MAX {
            return Err(ProgramError::protocol(format!("it tells of more than {FOLDERS_MAX} folders")));
        }
        self.arrived.notify_one();
        Ok(())
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::effects::clock;

    fn push(seen: u64, folder: &str, journal: Option<u64>) -> Push {
        let facts = journal.map(|journal| FolderFacts { journal, ..FolderFacts::default() });
        Push::Folders { seen, uptime_millis: 1, folders: [(FolderName::new("shop", folder), facts)].into() }
    }

    #[tokio::test]
    async fn pushes_that_nobody_took_are_one() {
        let now = clock::monotonic();
        let slot = Arc::new(PushSlot::new(now));
        slot.put(push(1, "web", Some(1)), now).unwrap();
        slot.put(push(2, "db", Some(7)), now).unwrap();
        slot.put(push(3, "web", None), now).unwrap();
        slot.close();
        let mut pushes = Pushes::new(slot);
        let (seen, folders) = pushes.next().await.unwrap();
        assert_eq!(seen, 3);
        assert_eq!(folders.len(), 2);
        assert_eq!(folders[&FolderName::new("shop", "web")], None);
        assert!(pushes.next().await.is_none());
    }

    #[test]
    fn a_host_that_tells_something_all_the_time_is_refused() {
        let now = clock::monotonic();
        let slot = PushSlot::new(now);
        let told = (0..100).take_while(|n| slot.put(push(*n, "web", None), now).is_ok()).count();
        assert_eq!(told, 30);
        let slot = PushSlot::new(now);
        for n in 0u32..100 {
            slot.put(push(u64::from(n), "web", None), now + Duration::from_secs(1) * n).unwrap();
        }
    }
}
