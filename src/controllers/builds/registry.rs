//! What this operator remembers of builds between two reconciles: what runs in the background, what it found, how it failed. All of it
//! may be lost; it is found out again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use crate::{
    api::build::BuiltCommit,
    effects::clock,
    model::{Class, Failure, ids::ProjectKey, retry_state::RetryState},
    plan::project::QueuePosition,
};

/// Background work of one build that may run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Work,
    Watch,
    Cancel,
}

/// What background work found.
#[derive(Debug)]
pub(super) enum Found {
    Resolved {
        commit: BuiltCommit,
        /// Of the tags that the project's template could have made; 0: there is none.
        highest_tag: i64,
    },
    Prepared(i64),
    Tagged,
    Nothing,
}

/// What is known of one build.
#[derive(Clone, Debug, Default)]
pub(super) struct BuildState {
    slots: [Option<u64>; 3],
    pub(super) resolved: Option<BuiltCommit>,
    /// Kept across a retry, which does not resolve the revision again.
    pub(super) highest_tag: Option<i64>,
    pub(super) prepared: Option<i64>,
    pub(super) tagged: bool,
    pub(super) retry_state: Option<RetryState>,
}

impl BuildState {
    pub(super) fn runs(&self, slot: Slot) -> Option<u64> {
        self.slots.get(slot as usize).copied().flatten()
    }

    fn set(&mut self, slot: Slot, run: Option<u64>) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = run;
        }
    }
}

/// Cheap to clone; all clones share one registry.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
    runs: Arc<AtomicU64>,
}

#[derive(Default)]
struct Inner {
    /// By uid.
    known: HashMap<String, BuildState>,
    queues: HashMap<ProjectKey, Vec<QueuePosition>>,
    /// Names of builds that have not ended.
    open: HashMap<ProjectKey, BTreeSet<String>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(super) fn known(&self, uid: &str) -> BuildState {
        self.lock().known.get(uid).cloned().unwrap_or_default()
    }

    /// The highest number of a tag of the project's template when this build was resolved, if it was in this operator's life.
    pub(crate) fn highest_tag(&self, uid: &str) -> Option<i64> {
        self.known(uid).highest_tag
    }

    /// Takes a slot for one run; `None` where it is taken.
    pub(super) fn occupy(&self, uid: &str, slot: Slot) -> Option<TaskSlot> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        let known = inner.known.entry(uid.to_owned()).or_default();
        if known.runs(slot).is_some() {
            return None;
        }
        known.set(slot, Some(run));
        drop(inner);
        Some(TaskSlot { registry: self.clone(), uid: uid.to_owned(), slot, run })
    }

    /// A step failed outside the background.
    pub fn failed(&self, uid: &str, failure: &Failure) {
        let mut inner = self.lock();
        note(inner.known.entry(uid.to_owned()).or_default(), failure);
    }

    /// A retry was requested: earlier failures no longer count.
    pub(super) fn clear_failures(&self, uid: &str) {
        if let Some(known) = self.lock().known.get_mut(uid) {
            (known.retry_state, known.prepared, known.tagged, known.resolved) = (None, None, false, None);
        }
    }

    /// The build is over or gone.
    pub(super) fn drop_build(&self, uid: &str) {
        let mut inner = self.lock();
        if inner.known.get(uid).is_some_and(|known| known.slots.iter().all(Option::is_none)) {
            inner.known.remove(uid);
        }
    }

    pub(super) fn set_open(&self, namespace: &str, project: &str, build: &str, open: bool) {
        let mut inner = self.lock();
        let names = inner.open.entry(ProjectKey::new(namespace, project)).or_default();
        if open {
            names.insert(build.to_owned());
        } else {
            names.remove(build);
        }
    }

    /// Builds of a project that have not ended, as far as is known.
    pub fn open(&self, namespace: &str, project: &str) -> Vec<String> {
        let inner = self.lock();
        let names = inner.open.get(&ProjectKey::new(namespace, project));
        names.into_iter().flatten().cloned().collect()
    }

    /// The queue that was announced last.
    pub fn queue(&self, namespace: &str, project: &str) -> Vec<QueuePosition> {
        self.lock().queues.get(&ProjectKey::new(namespace, project)).cloned().unwrap_or_default()
    }

    /// Takes a new queue; returns the names of the builds whose place changed.
    pub(crate) fn announce(&self, namespace: &str, project: &str, queue: Vec<QueuePosition>) -> Vec<String> {
        let mut inner = self.lock();
        let before = inner.queues.insert(ProjectKey::new(namespace, project), queue.clone()).unwrap_or_default();
        let moved = queue.iter().filter(|place| !before.contains(place)).map(|place| place.name.clone());
        moved.collect()
    }

    pub(super) fn place(&self, namespace: &str, project: &str, uid: &str) -> Option<QueuePosition> {
        self.queue(namespace, project).into_iter().find(|place| place.uid == uid)
    }

    /// The build is over: what was reported about its place no longer counts, also when it is tried again.
    pub(super) fn leave_queue(&self, namespace: &str, project: &str, uid: &str) {
        if let Some(queue) = self.lock().queues.get_mut(&ProjectKey::new(namespace, project)) {
            queue.retain(|place| place.uid != uid);
        }
    }
}

fn note(known: &mut BuildState, failure: &Failure) {
    if failure.class == Class::Waiting {
        return;
    }
    let before = known.retry_state.as_ref().filter(|before| before.reason == failure.reason);
    known.retry_state = Some(RetryState::after(before, failure, clock::now()));
}

/// A slot that is taken until this is settled or dropped.
pub(super) struct TaskSlot {
    registry: Registry,
    uid: String,
    slot: Slot,
    run: u64,
}

impl TaskSlot {
    /// A task key of its own: a run that is just ending does not keep the next one from starting.
    pub(super) fn key(&self) -> String {
        key(&self.uid, self.slot, self.run)
    }

    /// The work is over: what it found counts, and the slot is free.
    pub(super) fn settle(self, result: Result<Found, Failure>) {
        let mut inner = self.registry.lock();
        let known = inner.known.entry(self.uid.clone()).or_default();
        match result {
            Err(failure) => note(known, &failure),
            Ok(found) => {
                if self.slot == Slot::Work {
                    known.retry_state = None;
                }
                match found {
                    Found::Resolved { commit, highest_tag } => {
                        (known.resolved, known.highest_tag) = (Some(commit), Some(highest_tag));
                    }
                    Found::Prepared(attempt) => known.prepared = Some(attempt),
                    Found::Tagged => known.tagged = true,
                    Found::Nothing => {}
                }
            }
        }
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        if let Some(known) = inner.known.get_mut(&self.uid).filter(|known| known.runs(self.slot) == Some(self.run)) {
            known.set(self.slot, None);
        }
    }
}

pub(super) fn key(uid: &str, slot: Slot, run: u64) -> String {
    format!("build/{uid}/{slot:?}/{run}")
}

/// The key of the task that deletes what an ended build left.
pub(super) fn cleanup_key(uid: &str) -> String {
    format!("build/{uid}/cleanup")
}
