//! What this operator knows of its own writes of statuses.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use parking_lot::Mutex;

use super::throttle::DISPLAY_EVERY;

/// An object at one version, with a digest of its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnRecord {
    /// Its resourceVersion: one that is higher is later.
    pub version: u64,
    /// `None`: the object can't be read.
    pub status: Option<u64>,
}

impl OnRecord {
    /// Whether `self`, which was heard of, is a later state with another status.
    pub fn is_overwritten(&self, decided: &Self) -> bool {
        self.version > decided.version && self.status != decided.status
    }
}

/// Number of entries above which old ones are removed.
const WRITTEN_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Writes {
    /// Objects whose last status may or may not have been written.
    uncertain: Mutex<HashSet<String>>,
    /// When the status of an object was written last.
    written: Mutex<HashMap<String, Instant>>,
    /// Each object as it was decided on last.
    decided: Mutex<HashMap<String, OnRecord>>,
    /// Objects that are looked at soon, as they were heard of last: somebody else may have written their status.
    suspects: Mutex<HashMap<String, OnRecord>>,
}

impl Writes {
    /// An error may be the answer to a write that was done all the same (a 504, a 409 to the client's own second try). The next reconcile
    /// finds the status as it should be, and its dependents would never be woken.
    pub(super) fn mark_uncertain(&self, key: &str) {
        self.uncertain.lock().insert(key.to_owned());
    }

    /// Whether the last write of this object's status was in doubt; it is no longer.
    pub(super) fn take_uncertain(&self, key: &str) -> bool {
        self.uncertain.lock().remove(key)
    }

    pub(super) fn is_uncertain(&self, key: &str) -> bool {
        self.uncertain.lock().contains(key)
    }

    pub(super) fn note(&self, key: &str, now: Instant) {
        let mut written = self.written.lock();
        if written.len() >= WRITTEN_MAX {
            written.retain(|_, at| now.duration_since(*at) < DISPLAY_EVERY);
        }
        written.insert(key.to_owned(), now);
    }

    pub(super) fn last(&self, key: &str) -> Option<Instant> {
        self.written.lock().get(key).copied()
    }

    /// This is as it should be. An older decision that ends later says nothing.
    pub(super) fn decided(&self, key: &str, now: OnRecord) {
        let mut decided = self.decided.lock();
        let before = decided.get(key).map_or(0, |before| before.version);
        if now.version >= before {
            decided.insert(key.to_owned(), now);
        }
    }

    /// Whether a state that was heard of is not as this operator decided last.
    pub(super) fn is_overwritten(&self, key: &str, heard: &OnRecord) -> bool {
        self.decided.lock().get(key).is_some_and(|decided| heard.is_overwritten(decided))
    }

    /// Whether that is new: else the object is looked at soon anyway.
    pub(super) fn suspect(&self, key: &str, heard: OnRecord) -> bool {
        self.suspects.lock().insert(key.to_owned(), heard).is_none()
    }

    pub(super) fn take_suspect(&self, key: &str) -> Option<OnRecord> {
        self.suspects.lock().remove(key)
    }

    pub(super) fn forget(&self, key: &str) {
        self.decided.lock().remove(key);
        self.written.lock().remove(key);
        self.uncertain.lock().remove(key);
    }
}
