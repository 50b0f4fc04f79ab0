//! What is being done on hosts right now: the goal of each host's background task, the phase that it is in, and how often a process had
//! to be started again. A crash loses it, and nothing but time: the hosts and the store show how far everything came.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    api::deployment::Phase,
    effects::clock,
    model::{
        Failure,
        rollout::{HostFailure, RolloutRecord},
    },
    plan::deployment::{Assignment, FailedTries, Goal, GoalKind, Healing, SlowUpload, Task},
};

/// One host of one Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostWorkerKey {
    /// The Deployment's uid.
    pub uid: String,
    pub host: String,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct HostWorkers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    workers: BTreeMap<HostWorkerKey, HostWorker>,
    /// Records of the store are created once and never changed, so they are read once.
    revisions: HashMap<String, RolloutRecord>,
    failures: HashMap<String, HostFailure>,
}

#[derive(Default)]
struct HostWorker {
    assignment: Option<Assignment>,
    /// Grows with every new goal.
    version: u64,
    phase: Option<Phase>,
    /// The number of the task that is under way.
    task: Option<u64>,
    healing: Option<Healing>,
    /// As it was before the start that is under way: one that never reached the host counts for nothing.
    healing_before: Option<Healing>,
    /// Why the last start for healing did not succeed.
    heal_failure: Option<Failure>,
    /// Uploads that were given up because of the host's line.
    slow: Option<SlowUpload>,
    /// Tries of the goal that failed in a row, where the last one did.
    tries: Option<FailedTries>,
}

impl HostWorker {
    fn is_healing(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| assignment.key.kind == GoalKind::Heal)
    }
}

impl HostWorkers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Sets a host's goal. `Some(n)`: no task is under way there, and one has to be started; n is its number.
    pub fn set(&self, key: &HostWorkerKey, assignment: Assignment) -> Option<u64> {
        let mut inner = self.lock();
        let worker = inner.workers.entry(key.clone()).or_default();
        worker.version += 1;
        worker.tries.take_if(|tries| tries.kind != assignment.key.kind);
        if let (Some(tries), Goal::Remove { skipped_drain: Some(why), .. }) = (&mut worker.tries, &assignment.goal) {
            tries.skipped_drain = Some(why.clone());
        }
        worker.assignment = Some(assignment);
        if worker.task.is_some() {
            return None;
        }
        worker.task = Some(worker.version);
        worker.task
    }

    /// The goal now, and its number.
    pub fn goal(&self, key: &HostWorkerKey) -> Option<(Assignment, u64)> {
        let inner = self.lock();
        let worker = inner.workers.get(key)?;
        Some((worker.assignment.clone()?, worker.version))
    }

    /// Whether that is still the goal.
    pub(crate) fn is_goal(&self, key: &HostWorkerKey, version: u64) -> bool {
        self.lock().workers.get(key).is_some_and(|worker| worker.version == version)
    }

    /// Notes the phase; answers whether it is another.
    pub fn pass(&self, key: &HostWorkerKey, phase: Phase) -> bool {
        let mut inner = self.lock();
        let Some(worker) = inner.workers.get_mut(key) else { return false };
        worker.phase.replace(phase) != Some(phase)
    }

    /// The task ends, unless it has been given another goal meanwhile.
    pub fn end(&self, key: &HostWorkerKey, version: u64) -> bool {
        let mut inner = self.lock();
        let Some(worker) = inner.workers.get_mut(key) else { return true };
        if worker.version != version {
            return false;
        }
        worker.task = None;
        worker.phase = None;
        true
    }

    /// The task of this number has ended, in whatever way.
    pub fn stop(&self, key: &HostWorkerKey, number: u64) {
        if let Some(worker) = self.lock().workers.get_mut(key).filter(|worker| worker.task == Some(number)) {
            worker.task = None;
            worker.phase = None;
        }
    }

    /// The task as the planner sees it.
    pub fn task(&self, key: &HostWorkerKey) -> Option<Task> {
        let inner = self.lock();
        let worker = inner.workers.get(key).filter(|worker| worker.task.is_some())?;
        let goal = worker.assignment.as_ref()?.key.clone();
        Some(Task { goal, phase: worker.phase.unwrap_or(Phase::Pending) })
    }

    /// A process that had been ready is started again.
    pub fn heal(&self, key: &HostWorkerKey, attempt: i64, now: Timestamp) {
        let mut inner = self.lock();
        let worker = inner.workers.entry(key.clone()).or_default();
        worker.healing_before = worker.healing;
        worker.healing = Some(Healing::after(worker.healing, attempt, now));
    }

    /// The start that is under way never reached the host.
    pub(crate) fn heal_undone(&self, key: &HostWorkerKey) {
        if let Some(worker) = self.lock().workers.get_mut(key).filter(|worker| worker.is_healing()) {
            worker.healing = worker.healing_before;
        }
    }

    pub(crate) fn heal_failed(&self, key: &HostWorkerKey, failure: Failure) {
        if let Some(worker) = self.lock().workers.get_mut(key) {
            worker.heal_failure = Some(failure);
        }
    }

    /// The goal is reached, however that came about.
    pub(crate) fn reached(&self, key: &HostWorkerKey) {
        if let Some(worker) = self.lock().workers.get_mut(key) {
            (worker.heal_failure, worker.tries) = (None, None);
        }
    }

    /// A goal that is tried again until it is reached was not.
    pub(crate) fn try_failed(&self, key: &HostWorkerKey, kind: GoalKind, failure: Failure) {
        if let Some(worker) = self.lock().workers.get_mut(key) {
            worker.tries = Some(FailedTries::after(worker.tries.as_ref(), kind, clock::now(), failure));
        }
    }

    /// Tries that failed in a row, where the last one did.
    pub fn tries(&self, key: &HostWorkerKey) -> Option<FailedTries> {
        self.lock().workers.get(key)?.tries.clone()
    }

    /// An upload was given up because of the host's line.
    pub(crate) fn upload_was_slow(&self, key: &HostWorkerKey, rollout: &str, attempt: i64, failure: Failure) {
        if let Some(worker) = self.lock().workers.get_mut(key) {
            worker.slow = Some(SlowUpload::after(worker.slow.as_ref(), rollout, attempt, clock::now(), failure));
        }
    }

    /// A release came to the host.
    pub(crate) fn upload_succeeded(&self, key: &HostWorkerKey) {
        if let Some(worker) = self.lock().workers.get_mut(key) {
            worker.slow = None;
        }
    }

    /// Uploads that were given up because of the host's line, where the last one was.
    pub fn slow_upload(&self, key: &HostWorkerKey) -> Option<SlowUpload> {
        self.lock().workers.get(key)?.slow.clone()
    }

    /// This Deployment has the host.
    pub(crate) fn note(&self, key: HostWorkerKey) {
        self.lock().workers.entry(key).or_default();
    }

    /// A person or another version starts at zero.
    pub fn healed(&self, key: &HostWorkerKey) {
        let mut inner = self.lock();
        let worker = inner.workers.entry(key.clone()).or_default();
        (worker.healing, worker.heal_failure) = (None, None);
    }

    /// The starts for healing, and why the last one did not succeed.
    pub fn healing(&self, key: &HostWorkerKey) -> (Option<Healing>, Option<Failure>) {
        let inner = self.lock();
        inner.workers.get(key).map_or((None, None), |worker| (worker.healing, worker.heal_failure.clone()))
    }

    /// Hosts on which this Deployment did something: since this operator began, or by the owner files that were seen.
    pub(crate) fn hosts_of(&self, uid: &str) -> BTreeSet<String> {
        self.lock().workers.keys().filter(|key| key.uid == uid).map(|key| key.host.clone()).collect()
    }

    pub fn forget(&self, key: &HostWorkerKey) {
        self.lock().workers.remove(key);
    }

    /// A record that was read before, by its key in the store.
    pub fn revision(&self, key: &str) -> Option<RolloutRecord> {
        self.lock().revisions.get(key).cloned()
    }

    pub(crate) fn keep_revision(&self, key: &str, record: RolloutRecord) {
        self.lock().revisions.insert(key.to_owned(), record);
    }

    pub fn host_failure(&self, key: &str) -> Option<HostFailure> {
        self.lock().failures.get(key).cloned()
    }

    pub(crate) fn keep_host_failure(&self, key: &str, failure: HostFailure) {
        self.lock().failures.insert(key.to_owned(), failure);
    }

    /// The Deployment is gone.
    pub(crate) fn forget_all(&self, uid: &str) {
        let mut inner = self.lock();
        inner.workers.retain(|key, worker| key.uid != uid || worker.task.is_some());
        let of = |key: &str| key.split('/').nth(1) == Some(uid);
        inner.revisions.retain(|key, _| !of(key));
        inner.failures.retain(|key, _| !of(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_never_reached_the_host_counts_for_nothing() {
        let (workers, key) = (HostWorkers::default(), HostWorkerKey { uid: "u".into(), host: "web-01".into() });
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut assignment = Assignment::new("web-01", Goal::Release, "1.0", 1, None);
        assignment.key.kind = GoalKind::Heal;
        for (now, counts) in [(100, true), (110, false), (120, false)] {
            workers.heal(&key, 1, at(now));
            workers.set(&key, assignment.clone());
            if !counts {
                workers.heal_undone(&key);
            }
        }
        let (healing, _) = workers.healing(&key);
        assert_eq!(healing.map(|healing| (healing.starts, healing.last)), Some((1, at(100))));
    }
}
