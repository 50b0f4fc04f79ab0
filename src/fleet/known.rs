//! What is known of one host, and how old that is.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use landfall_host_protocol::{FolderFacts, FolderName, HostFacts};

use super::budget::Short;
use crate::{
    effects::{
        clock, host,
        program::{ChangedFolders, FACTS_MAX, ProgramError, bytes_of},
    },
    model,
};

/// Whether there is a session.
#[derive(Clone, Debug, Default)]
pub enum Link {
    /// It was not dialled yet.
    #[default]
    New,
    Connected,
    /// Nothing is kept open between two looks.
    Idle,
    /// The session is over, and the host is dialled again at once: what is known counts until that fails.
    Again,
    /// The last try failed, or session after session was lost.
    Lost(Arc<ProgramError>),
}

/// What a host that was not reached yet waits for, longer than one waits without saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The right to a connection.
    Connection(Short),
    /// That the host answers.
    Answer,
}

/// One host as it was seen last.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub link: Link,
    pub facts: Option<Arc<HostFacts>>,
    /// The same as planners read it.
    pub host: Option<Arc<model::facts::HostFacts>>,
    /// When its uptime was so.
    pub told_at: Option<Timestamp>,
    /// When the host said something last.
    pub heard_at: Option<Timestamp>,
    /// The same, monotonic.
    pub heard: Option<Instant>,
    pub waiting: Option<Waiting>,
    /// Tries to reach it that failed in a row.
    pub failed: u32,
    /// Grows with each change that was told.
    pub version: u64,
    /// The server's banner.
    pub(super) server: String,
    /// Number of the facts, for the next look in the same session.
    pub(super) seen: u64,
    /// Of how it is reached: what a session of before finds out counts for nothing.
    pub(super) access: u64,
}

impl Known {
    /// Of a host that is reached otherwise from now on.
    pub(super) fn renewed(&self) -> Self {
        Self { access: self.access + 1, version: self.version, ..Self::default() }
    }

    /// The host said something.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
        self.heard_at = Some(clock::now());
    }

    /// Makes what planners read of what the host told.
    pub(super) fn show(&mut self) {
        self.host = self.facts.as_deref().map(|facts| Arc::new(host::host_facts(facts, &self.server, 0)));
    }

    /// True: something differs that a planner sees. Space, clock and uptime always move.
    pub(super) fn replace(&mut self, seen: u64, mut facts: HostFacts, now: Instant) -> bool {
        // What the same session told of a folder meanwhile may be newer than this answer.
        if let (Link::Connected, Some(known)) = (&self.link, &self.facts) {
            for (name, folder) in &mut facts.folders {
                if let Some(known) = known.folders.get(name).filter(|known| known.seen > folder.seen) {
                    *folder = known.clone();
                }
            }
        }
        let is_same = self.facts.as_deref().is_some_and(|old| is_same(old, &facts));
        let changed = !matches!(self.link, Link::Connected) || !is_same;
        self.hear(now);
        self.told_at = self.heard_at;
        self.waiting = None;
        self.link = Link::Connected;
        self.facts = Some(Arc::new(facts));
        self.seen = seen;
        self.failed = 0;
        changed
    }

    /// What the host told of itself alone. True as of `replace`.
    pub(super) fn merge_host(&mut self, told: HostFacts, now: Instant) -> bool {
        self.hear(now);
        self.told_at = self.heard_at;
        let Some(known) = self.facts.as_mut() else { return false };
        let mut facts = HostFacts::clone(known);
        facts.replace_host(told);
        let changed = !is_same(known, &facts);
        *known = Arc::new(facts);
        changed
    }

    pub(super) fn merge(&mut self, folders: ChangedFolders, now: Instant) -> bool {
        self.hear(now);
        let Some(facts) = self.facts.as_mut() else { return false };
        let mut changed = Vec::new();
        for (folder, now) in folders {
            let known = facts.folders.get(&folder);
            // What was read before what is known here came later by another way.
            if let (Some(known), Some(now)) = (known, now.as_ref())
                && now.seen < known.seen
            {
                continue;
            }
            if facts.folders.get(&folder) != now.as_ref() {
                let facts = Arc::make_mut(facts);
                match now {
                    Some(now) => facts.folders.insert(folder.clone(), now),
                    None => facts.folders.remove(&folder),
                };
                changed.push(folder);
            }
        }
        // No host that works has so much to tell: what came last is not kept.
        if !changed.is_empty() && bytes_of(&facts.folders) > FACTS_MAX {
            let facts = Arc::make_mut(facts);
            for folder in &changed {
                facts.folders.remove(folder);
            }
        }
        !changed.is_empty()
    }

    /// A folder right after a task.
    pub(super) fn set_folder(&mut self, folder: &FolderName, facts: Option<FolderFacts>, now: Instant) -> bool {
        self.merge([(folder.clone(), facts)].into(), now)
    }

    pub(super) fn lose(&mut self, why: ProgramError) {
        self.waiting = None;
        self.link = Link::Lost(Arc::new(why));
        self.seen = 0;
    }
}

fn is_same(old: &HostFacts, new: &HostFacts) -> bool {
    let mut old = old.clone();
    old.root.free_bytes = new.root.free_bytes;
    old.root.free_inodes = new.root.free_inodes;
    old.machine.clock_millis = new.machine.clock_millis;
    old.machine.uptime_seconds = new.machine.uptime_seconds;
    old.machine.uptime_millis = new.machine.uptime_millis;
    for (name, old) in &mut old.folders {
        old.seen = new.folders.get(name).map_or(old.seen, |now| now.seen);
    }
    old == *new
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::ByHand;

    use super::*;
    use crate::effects::clock;

    fn facts() -> HostFacts {
        let facts = serde_json::json!({
            "machine": {
                "bootId": "b", "uptimeSeconds": 1, "uptimeMillis": 1, "clockMillis": 1, "machine": "x86_64", "kernel": "6",
                "uid": 1, "pidfd": true, "sessionScoped": false,
            },
            "root": { "freeBytes": 1, "freeInodes": null, "unfit": null },
            "usersPending": true,
        });
        serde_json::from_value(facts).unwrap()
    }

    #[test]
    fn what_a_host_tells_of_itself_leaves_its_folders_known() {
        let now = clock::monotonic();
        let mut known = Known::default();
        let web = FolderName::new("shop", "web");
        let folders = [(web.clone(), FolderFacts::default())].into();
        known.replace(1, HostFacts { folders, ..facts() }, now);
        let cannot_become = [("app".to_owned(), "no".to_owned())].into();
        let told = HostFacts { cannot_become, users_pending: false, ..facts() };
        assert!(known.merge_host(told.clone(), now));
        assert!(!known.merge_host(told, now), "the same again");
        let facts = known.facts.unwrap();
        assert!(facts.cannot_become.contains_key("app") && facts.folders.contains_key(&web) && !facts.users_pending);
    }

    #[test]
    fn an_answer_that_comes_late_takes_nothing_newer_back() {
        let now = clock::monotonic();
        let web = FolderName::new("shop", "web");
        let told = |seen, journal| FolderFacts { seen, journal, ..FolderFacts::default() };
        let answer = |folder| HostFacts { folders: [(web.clone(), folder)].into(), ..facts() };
        let mut known = Known::default();
        known.replace(1, answer(told(5, 1)), now);
        known.merge([(web.clone(), Some(told(7, 2)))].into(), now);
        known.replace(2, answer(told(6, 1)), now);
        assert_eq!(known.facts.as_ref().unwrap().folders[&web], told(7, 2));
        // Another session counts from its beginning.
        known.lose(ProgramError::Ended(String::new()));
        known.replace(1, answer(told(1, 3)), now);
        assert_eq!(known.facts.unwrap().folders[&web], told(1, 3));
    }

    #[test]
    fn what_a_host_tells_piece_by_piece_is_bounded() {
        let now = clock::monotonic();
        let mut known = Known::default();
        known.replace(1, facts(), now);
        for n in 0..20 {
            let by_hand =
                ByHand { act: "stop".to_owned(), reason: "x".repeat(1_000_000), user: None, at_millis: 0, journal: 1 };
            let facts = FolderFacts { by_hand: Some(by_hand), ..FolderFacts::default() };
            known.merge([(FolderName::new("shop", &format!("web-{n}")), Some(facts))].into(), now);
        }
        assert_eq!(known.facts.unwrap().folders.len(), 4);
    }
}
