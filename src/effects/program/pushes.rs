//! What a host tells unasked. What is not taken yet is merged: of each folder the newest counts, so that no talkative host fills memory.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use landfall_host_protocol::{FolderFacts, FolderName, HostFacts, Push};
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

/// What a host told unasked since it was heard last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// The number of the newest facts.
    pub seen: u64,
    /// The host itself, without its folders, where it told of itself.
    pub host: Option<Box<HostFacts>>,
    pub folders: ChangedFolders,
}

/// The host's pushes, in their order.
pub struct Pushes {
    slot: Arc<PushSlot>,
}

impl Pushes {
    pub(super) fn new(slot: Arc<PushSlot>) -> Self {
        Self { slot }
    }

    /// What changed since the last call; `None`: the session is over.
    pub async fn next(&mut self) -> Option<Told> {
        self.when(|state| state.told.is_some()).await?;
        let mut state = self.slot.state.lock();
        state.bytes = 0;
        state.told.take()
    }

    /// Takes what the host told of itself; the rest stays. `None`: the session is over.
    pub(super) async fn host(&mut self) -> Option<Box<HostFacts>> {
        let has_host = |state: &State| state.told.as_ref().is_some_and(|told| told.host.is_some());
        self.when(has_host).await?;
        let mut state = self.slot.state.lock();
        let told = state.told.as_mut()?;
        let host = told.host.take();
        if told.folders.is_empty() {
            state.told = None;
        }
        host
    }

    async fn when(&self, is_so: impl Fn(&State) -> bool) -> Option<()> {
        loop {
            let arrived = self.slot.arrived.notified();
            {
                let state = self.slot.state.lock();
                if is_so(&state) {
                    return Some(());
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
    told: Option<Told>,
    /// Bytes of the folders at most: what was told twice counts twice, until there are too many.
    bytes: usize,
    closed: bool,
    left: f64,
    since: Instant,
}

impl PushSlot {
    pub fn new(now: Instant) -> Self {
        let state = State { told: None, bytes: 0, closed: false, left: BURST, since: now };
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
        let state = &mut *state;
        match push {
            Push::Folders { seen, folders, .. } => {
                let told = state.told.get_or_insert_default();
                state.bytes = state.bytes.saturating_add(bytes_of(&folders));
                told.seen = seen;
                told.folders.extend(folders);
                if state.bytes > FACTS_MAX {
                    state.bytes = bytes_of(&told.folders);
                }
                if state.bytes > FACTS_MAX {
                    return Err(ProgramError::protocol("it tells more than anybody reads"));
                }
                if told.folders.len() > FOLDERS_MAX {
                    return Err(ProgramError::protocol(format!("it tells of more than {FOLDERS_MAX} folders")));
                }
            }
            // The newest counts, and it is no longer than a frame.
            Push::Host { seen, facts } => {
                let told = state.told.get_or_insert_default();
                told.seen = seen;
                told.host = Some(facts);
            }
            Push::Unknown(_) => return Ok(()),
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
        let told = pushes.next().await.unwrap();
        assert_eq!((told.seen, told.host), (3, None));
        assert_eq!(told.folders.len(), 2);
        assert_eq!(told.folders[&FolderName::new("shop", "web")], None);
        assert!(pushes.next().await.is_none());
    }

    #[test]
    fn a_host_that_tells_more_than_is_read_is_refused() {
        let now = clock::monotonic();
        let slot = Arc::new(PushSlot::new(now));
        let long = |n: u64| {
            let by_hand =
                ByHand { act: "stop".to_owned(), reason: "x".repeat(1_000_000), user: None, at_millis: 0, journal: 1 };
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
