//! What this operator remembers of its retention runs.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    effects::clock,
    model::Failure,
    model::{Class, retry_state::RetryState},
    plan::project::RetentionObserved,
};

/// Cheap to clone; all clones share one registry.
#[derive(Clone, Default)]
pub(super) struct RetentionSchedules {
    /// By uid of the project.
    known: Arc<Mutex<HashMap<String, RetentionState>>>,
}

#[derive(Default)]
struct RetentionState {
    last: Option<Timestamp>,
    /// What there was to check at the end of the last run, and what there is now.
    done: String,
    now: String,
    running: bool,
    retry_state: Option<RetryState>,
}

impl RetentionSchedules {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, RetentionState>> {
        self.known.lock()
    }

    /// State of the runs; `now` says what there is to check.
    pub(super) fn observed(&self, uid: &str, now: String) -> RetentionObserved {
        let mut all = self.lock();
        let known = all.entry(uid.to_owned()).or_default();
        known.now = now;
        RetentionObserved {
            last: known.last,
            stale: known.now != known.done,
            running: known.running,
            retry_state: known.retry_state.clone(),
        }
    }

    /// Takes the place of the one run at a time; answers what it is for.
    pub(super) fn begin(&self, uid: &str) -> Option<String> {
        let mut all = self.lock();
        let known = all.get_mut(uid).filter(|known| !known.running)?;
        known.running = true;
        Some(known.now.clone())
    }

    pub(super) fn end(&self, uid: &str, of: String, result: Result<(), Failure>) {
        let mut all = self.lock();
        let Some(known) = all.get_mut(uid) else { return };
        known.running = false;
        match result {
            Ok(()) => (known.last, known.done, known.retry_state) = (Some(clock::now()), of, None),
            // Not allowed to act just now: no fault of anybody's.
            Err(failure) if failure.class == Class::Waiting => {}
            Err(failure) => {
                known.retry_state = Some(RetryState::after(known.retry_state.as_ref(), &failure, clock::now()))
            }
        }
    }

    /// The project is gone.
    pub(super) fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }
}
