//! What this operator remembers of projects: the last listing with its age, and versions that were read (they never change).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use super::retention_schedule::RetentionSchedules;
use crate::{
    api::project::{BranchView, VersionView},
    effects::clock,
    model::{Class, Failure, ids::ProjectKey, retry_state::RetryState},
    plan::project::{Head, Listing},
};

/// What was listed: another URL or other patterns are another source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) url: String,
    pub(super) branches: Vec<String>,
    /// Name of its Secret, which is read again at each listing.
    pub(super) secret: Option<String>,
    /// `build.trigger.onPush`
    pub(super) on_push: Option<Vec<String>>,
    /// `build.tag.template`
    pub(super) template: String,
}

/// What a listing of a repository found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listed {
    pub(super) branches: Vec<BranchView>,
    pub(super) heads: Vec<Head>,
    /// Of the tags that the template could have made.
    pub(super) highest_tag: i64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ProjectState {
    pub(super) source: Source,
    pub(super) listing: Option<Listing>,
    pub(super) retry_state: Option<RetryState>,
    pub(super) running: bool,
    /// The interval of the task that lists by itself.
    pub(super) ticked: Option<Duration>,
    again: bool,
    runs: u64,
}

/// Cheap to clone; all clones share one registry.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
    pub(super) schedules: RetentionSchedules,
}

#[derive(Default)]
struct Inner {
    /// By uid.
    known: HashMap<String, ProjectState>,
    /// By uid.
    push_retry_states: HashMap<String, RetryState>,
    /// By namespace and name, then by version.
    versions: HashMap<ProjectKey, BTreeMap<String, VersionView>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// What is known of this source; nothing where another was listed last.
    pub(super) fn known(&self, uid: &str, source: &Source) -> ProjectState {
        self.lock().known.get(uid).filter(|known| known.source == *source).cloned().unwrap_or_default()
    }

    /// Takes the place of the one listing that may run; `None` where one runs, which lists once more then, if `again`.
    pub(super) fn occupy(&self, uid: &str, source: &Source, again: bool) -> Option<TaskSlot> {
        let mut inner = self.lock();
        let known = inner.known.entry(uid.to_owned()).or_default();
        if known.source != *source {
            // A listing of another source that still runs settles nothing any more.
            let runs = known.runs;
            *known = ProjectState { source: source.clone(), runs, ..ProjectState::default() };
        }
        if known.running {
            known.again |= again;
            return None;
        }
        known.running = true;
        known.runs += 1;
        let run = known.runs;
        drop(inner);
        Some(TaskSlot { registry: self.clone(), uid: uid.to_owned(), run })
    }

    /// Notes that a task lists this source by itself; `None`: it no longer does.
    pub(super) fn tick(&self, uid: &str, source: &Source, interval: Option<Duration>) {
        if let Some(known) = self.lock().known.get_mut(uid).filter(|known| known.source == *source) {
            known.ticked = interval;
        }
    }

    /// The project is gone.
    pub(super) fn remove(&self, uid: &str) {
        let mut inner = self.lock();
        inner.known.remove(uid);
        inner.push_retry_states.remove(uid);
        self.schedules.remove(uid);
    }

    /// How the last Build that a push asked for could not be created.
    pub(super) fn push_retry_state(&self, uid: &str) -> Option<RetryState> {
        self.lock().push_retry_states.get(uid).cloned()
    }

    pub(super) fn pushed(&self, uid: &str, result: Result<(), Failure>) {
        let mut inner = self.lock();
        match result {
            Ok(()) => _ = inner.push_retry_states.remove(uid),
            Err(failure) => {
                let retry_state = RetryState::after(inner.push_retry_states.get(uid), &failure, clock::now());
                inner.push_retry_states.insert(uid.to_owned(), retry_state);
            }
        }
    }

    pub(super) fn versions(&self, namespace: &str, name: &str) -> BTreeMap<String, VersionView> {
        self.lock().versions.get(&ProjectKey::new(namespace, name)).cloned().unwrap_or_default()
    }

    pub(super) fn remember(&self, namespace: &str, name: &str, versions: BTreeMap<String, VersionView>) {
        self.lock().versions.insert(ProjectKey::new(namespace, name), versions);
    }
}

/// Result of a listing.
pub(super) struct Settled {
    /// A refresh was requested meanwhile: list once more.
    pub(super) again: bool,
    /// A planner would see something new.
    pub(super) changed: bool,
}

/// The right to list one project, until it is dropped.
pub(super) struct TaskSlot {
    registry: Registry,
    uid: String,
    run: u64,
}

impl TaskSlot {
    pub(super) fn key(&self) -> String {
        format!("project/{}/list/{}", self.uid, self.run)
    }

    /// Takes over what the listing found.
    pub(super) fn settle(&self, result: Result<Listed, Failure>) -> Settled {
        let mut inner = self.registry.lock();
        let known = inner.known.get_mut(&self.uid).filter(|known| known.runs == self.run);
        let Some(known) = known else { return Settled { again: false, changed: true } };
        let mut changed = true;
        match result {
            Ok(Listed { branches, heads, highest_tag }) => {
                let before = known.listing.as_ref();
                let same = before.is_some_and(|before| {
                    before.branches == branches && before.heads == heads && before.highest_tag == highest_tag
                });
                changed = known.retry_state.is_some() || !same;
                known.listing = Some(Listing { at: clock::now(), branches, heads, highest_tag });
                known.retry_state = None;
            }
            Err(failure) if failure.class == Class::Waiting => {}
            Err(failure) => {
                known.retry_state = Some(RetryState::after(known.retry_state.as_ref(), &failure, clock::now()))
            }
        }
        Settled { again: std::mem::take(&mut known.again), changed }
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        if let Some(known) = self.registry.lock().known.get_mut(&self.uid).filter(|known| known.runs == self.run) {
            known.running = false;
        }
    }
}
