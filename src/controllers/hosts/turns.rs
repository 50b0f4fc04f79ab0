//! What is being done on hosts right now: the goal of each host's background task, the phase that it is in, and how often a process had
//! to be started again. A crash loses it, and nothing but time: the hosts and the store tell how far everything came.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::{
    api::deployment::Phase,
    plan::deployment::{Drive, Healing, HostVerdict, RolloutRecord, Task},
};

/// One host of one Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TurnKey {
    /// The Deployment's uid.
    pub uid: String,
    pub host: String,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Turns {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    turns: BTreeMap<TurnKey, Turn>,
    /// Records of the store are created once and never changed, so they are read once.
    revisions: HashMap<String, RolloutRecord>,
    verdicts: HashMap<String, HostVerdict>,
}

#[derive(Default)]
struct Turn {
    drive: Option<Drive>,
    /// Grows with every new goal.
    version: u64,
    phase: Option<Phase>,
    /// The number of the task that is under way.
    task: Option<u64>,
    healing: Option<Healing>,
    /// What the host has on record of healing was taken over, or is older than what this operator did.
    recalled: bool,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a host's goal. `Some(n)`: no task is under way there, and one has to be started; n is its number.
    pub fn set(&self, key: &TurnKey, drive: Drive) -> Option<u64> {
        let mut inner = self.lock();
        let turn = inner.turns.entry(key.clone()).or_default();
        turn.version += 1;
        turn.drive = Some(drive);
        if turn.task.is_some() {
            return None;
        }
        turn.task = Some(turn.version);
        turn.task
    }

    /// The goal now, and its number.
    pub fn goal(&self, key: &TurnKey) -> Option<(Drive, u64)> {
        let inner = self.lock();
        let turn = inner.turns.get(key)?;
        Some((turn.drive.clone()?, turn.version))
    }

    /// Whether that is still the goal.
    pub fn is_goal(&self, key: &TurnKey, version: u64) -> bool {
        self.lock().turns.get(key).is_some_and(|turn| turn.version == version)
    }

    /// Notes the phase; answers whether it is another.
    pub fn pass(&self, key: &TurnKey, phase: Phase) -> bool {
        let mut inner = self.lock();
        let Some(turn) = inner.turns.get_mut(key) else { return false };
        turn.phase.replace(phase) != Some(phase)
    }

    /// The task ends, unless it has been given another goal meanwhile.
    pub fn end(&self, key: &TurnKey, version: u64) -> bool {
        let mut inner = self.lock();
        let Some(turn) = inner.turns.get_mut(key) else { return true };
        if turn.version != version {
            return false;
        }
        turn.task = None;
        turn.phase = None;
        true
    }

    /// The task of this number is no more, however it ended.
    pub fn stop(&self, key: &TurnKey, number: u64) {
        if let Some(turn) = self.lock().turns.get_mut(key).filter(|turn| turn.task == Some(number)) {
            turn.task = None;
            turn.phase = None;
        }
    }

    /// The task as the planner sees it.
    pub fn task(&self, key: &TurnKey) -> Option<Task> {
        let inner = self.lock();
        let turn = inner.turns.get(key).filter(|turn| turn.task.is_some())?;
        let goal = turn.drive.as_ref()?.key.clone();
        Some(Task { goal, phase: turn.phase.unwrap_or(Phase::Pending) })
    }

    /// A process that had been ready is started again.
    pub fn heal(&self, key: &TurnKey, attempt: i64, now: Timestamp) {
        let mut inner = self.lock();
        let turn = inner.turns.entry(key.clone()).or_default();
        turn.healing = Some(Healing::after(turn.healing, attempt, now));
        turn.recalled = true;
    }

    /// The first look at a host tells what an operator before this one did there.
    pub fn recall(&self, key: &TurnKey, healing: Option<Healing>) {
        let mut inner = self.lock();
        let turn = inner.turns.entry(key.clone()).or_default();
        if !std::mem::replace(&mut turn.recalled, true) {
            turn.healing = healing;
        }
    }

    /// A person or another version begins anew.
    pub fn healed(&self, key: &TurnKey) {
        let mut inner = self.lock();
        let turn = inner.turns.entry(key.clone()).or_default();
        (turn.healing, turn.recalled) = (None, true);
    }

    pub fn healing(&self, key: &TurnKey) -> Option<Healing> {
        self.lock().turns.get(key)?.healing
    }

    /// Hosts on which this Deployment did something: since this operator began, or by the owner files that were seen.
    pub fn hosts_of(&self, uid: &str) -> BTreeSet<String> {
        self.lock().turns.keys().filter(|key| key.uid == uid).map(|key| key.host.clone()).collect()
    }

    pub fn forget(&self, key: &TurnKey) {
        self.lock().turns.remove(key);
    }

    /// A record that was read before, by its key in the store.
    pub fn revision(&self, key: &str) -> Option<RolloutRecord> {
        self.lock().revisions.get(key).cloned()
    }

    pub fn keep_revision(&self, key: &str, record: RolloutRecord) {
        self.lock().revisions.insert(key.to_owned(), record);
    }

    pub fn verdict(&self, key: &str) -> Option<HostVerdict> {
        self.lock().verdicts.get(key).cloned()
    }

    pub fn keep_verdict(&self, key: &str, verdict: HostVerdict) {
        self.lock().verdicts.insert(key.to_owned(), verdict);
    }

    /// The Deployment is gone.
    pub fn forget_all(&self, uid: &str) {
        let mut inner = self.lock();
        inner.turns.retain(|key, turn| key.uid != uid || turn.task.is_some());
        let of = |key: &str| key.split('/').nth(1) == Some(uid);
        inner.revisions.retain(|key, _| !of(key));
        inner.verdicts.retain(|key, _| !of(key));
    }
}
