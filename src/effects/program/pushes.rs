//! What a host tells unasked. What is not taken yet is merged: of each folder the newest counts, so that no talkative host fills memory.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use landfall_host_protocol::{FolderFacts, FolderName, Push};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::ProgramError;

/// Folders that one host may tell of.
const FOLDERS_MAX: usize = 5_000;
/// Bytes of facts that are kept of one host, as JSON.
pub const FACTS_MAX: usize = 4 << 20;
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
                    state.bytes = 0;
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

/// Bytes of facts as JSON. In memory they are about as many.
pub fn bytes_of<T: Serialize>(facts: &T) -> usize {
    serde_json::to_vec(facts).map_or(FACTS_MAX, |text| text.len())
}

pub(super) struct PushSlot {
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    seen: Option<u64>,
    folders: ChangedFolders,
    /// Bytes of the folders at most: what was told twice counts twice, until there are too many.
    bytes: usize,
    closed: bool,
    left: f64,
    since: Instant,
}

impl PushSlot {
    pub fn new(now: Instant) -> Self {
        let state =
            State { seen: None, folders: ChangedFolders::new(), bytes: 0, closed: false, left: BURST, since: now };
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
        state.bytes = state.bytes.saturating_add(bytes_of(&folders));
        state.seen = Some(seen);
        state.folders.extend(folders);
        if state.bytes > FACTS_MAX {
            state.bytes = bytes_of(&state.folders);
        }
        if state.bytes > FACTS_MAX {
            return Err(ProgramError::protocol("it tells more than anybody reads"));
        }
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

    use landfall_host_protocol::ByHand;

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
    fn a_host_that_tells_more_than_is_read_is_refused() {
        let now = clock::monotonic();
        let slot = Arc::new(PushSlot::new(now));
        let long = |n: u64| {
            let by_hand = ByHand { act: "stop".to_owned(), reason: "x".repeat(1_000_000), user: None, at_millis: 0 };
            let facts = FolderFacts { by_hand: Some(by_hand), ..FolderFacts::default() };
            Push::Folders {
                seen: n,
                uptime_millis: 1,
                folders: [(FolderName::new("shop", &format!("web-{n}")), Some(facts))].into(),
            }
        };
        let told = (0..20).take_while(|n| slot.put(long(*n), now).is_ok()).count();
        assert_eq!(told, 4);
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
