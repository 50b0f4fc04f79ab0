//! What a worker, its session and those who ask it share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{
    access::{HostAccess, HostId},
    budget::{Budgets, Connections},
    changes::Changes,
    known::{Known, Link},
    order::FleetError,
    queue::{Job, Queue},
};
use crate::effects::{clock, program::ProgramError};

/// How a worker is bounded.
#[derive(Clone)]
pub(super) struct WorkerBounds {
    pub budgets: Budgets,
    pub group: Connections,
    pub least_rate: Option<u64>,
}

pub(super) struct Shared {
    pub id: HostId,
    pub known: Mutex<Known>,
    pub queue: Mutex<Queue>,
    pub queued: Notify,
    pub access: watch::Sender<Arc<HostAccess>>,
    /// Grows when a session is lost: work under way ends.
    pub lost: watch::Sender<u64>,
    pub budgets: Budgets,
    pub group: Connections,
    pub least_rate: Option<u64>,
    changes: Changes,
    period_millis: AtomicU64,
    /// The host may be dialled again now.
    pub redial: Notify,
}

impl Shared {
    /// Notes what `change` finds out; it answers whether somebody should look.
    pub fn learn(&self, change: impl FnOnce(&mut Known, Instant) -> bool) {
        let now = clock::monotonic();
        if change(&mut self.known.lock(), now) {
            self.changes.add(&self.id);
        }
    }

    pub fn put_back(&self, job: Job) {
        self.queue.lock().put_back(job, clock::monotonic());
    }

    pub fn period(&self) -> Duration {
        Duration::from_millis(self.period_millis.load(Ordering::Relaxed).max(100))
    }

    pub fn keeps_connection(&self) -> bool {
        self.group.keeps()
    }

    /// A new worker's.
    pub fn new(id: HostId, access: HostAccess, bounds: &WorkerBounds, changes: Changes) -> Arc<Self> {
        Arc::new(Self {
            id,
            known: Mutex::default(),
            queue: Mutex::default(),
            queued: Notify::new(),
            access: watch::Sender::new(Arc::new(access)),
            lost: watch::Sender::new(0),
            budgets: bounds.budgets.clone(),
            group: bounds.group.clone(),
            least_rate: bounds.least_rate,
            changes,
            period_millis: AtomicU64::new(60_000),
            redial: Notify::new(),
        })
    }

    pub fn set(&self, access: HostAccess, period: Duration) {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.period_millis.store(millis, Ordering::Relaxed);
        self.access.send_if_modified(|old| {
            let changed = old.hash != access.hash;
            if changed {
                *old = Arc::new(access);
            }
            changed
        });
    }

    /// Work under way ends with the session that it stands on.
    pub fn end_work(&self) {
        self.lost.send_modify(|lost| *lost += 1);
    }

    /// The session is gone, or there is none. `failed`: a try to reach the host failed.
    pub fn lose(&self, error: ProgramError, failed: bool) {
        self.learn(|known, _| {
            known.failed = known.failed.saturating_add(u32::from(failed));
            let same = matches!(&known.link, Link::Lost(before) if **before == error);
            known.lose(error);
            !same
        });
    }

    /// Ends the orders that waited too long for a session.
    pub fn expire(&self, now: Instant) {
        let expired = self.queue.lock().expired(now);
        for job in expired {
            let why = match &self.known.lock().link {
                Link::Lost(why) => FleetError::Unreached(why.clone()),
                _ => FleetError::NotReachedYet,
            };
            job.finish(Err(why));
        }
    }
}
