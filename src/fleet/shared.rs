//! What a worker, its session and those who ask it share.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{
    access::{HostAccess, HostId},
    budget::{Connections, PastAnswer},
    changes::{Changed, Changes},
    jump_route::JumpRoute,
    known::{Known, Link, Waiting},
    order::{FleetError, Work},
    queue::{Job, Queue},
    session::Session,
    settings::FleetSettings,
};
use crate::{
    effects::{clock, program::ProgramError},
    model::Class,
};

/// How a worker is bounded.
#[derive(Clone)]
pub(super) struct WorkerBounds {
    pub settings: FleetSettings,
    pub group: Connections,
    pub route: Arc<JumpRoute>,
}

/// How the host is reached now.
#[derive(Clone)]
pub(super) struct Reach {
    pub access: Arc<HostAccess>,
    /// Grows with each change, and where another session is to be begun.
    pub number: u64,
}

pub(super) struct Shared {
    pub id: HostId,
    pub known: Mutex<Known>,
    pub queue: Mutex<Queue>,
    pub queued: Notify,
    pub reach: watch::Sender<Reach>,
    /// The session, while there is one. Nobody but the worker keeps it alive.
    pub session: watch::Sender<Option<Weak<dyn Session>>>,
    /// Grows when a session is lost: work under way ends.
    pub lost: watch::Sender<u64>,
    pub settings: FleetSettings,
    pub group: Connections,
    /// Through the group's jump hosts, for all its hosts.
    pub route: Arc<JumpRoute>,
    /// Bytes a second below which an upload is given up; 0: however slow.
    least_rate: AtomicU64,
    changes: Changes,
    period_millis: AtomicU64,
    /// The host is to be looked at now, or dialled.
    pub look_now: Notify,
    /// Those who want the connection to stay open between their orders.
    holds: AtomicUsize,
    /// An order was ended because there was no session in time: its like may come again.
    pub was_late: AtomicBool,
}

impl Shared {
    /// Notes what `change` finds out; it answers whether somebody should look. `reach`: how the host was reached then.
    pub fn learn(&self, reach: u64, change: impl FnOnce(&mut Known, Instant) -> bool) {
        let now = clock::monotonic();
        let mut known = self.known.lock();
        if known.access != reach {
            return;
        }
        let before = known.facts.clone();
        let was_connected = matches!(known.link, Link::Connected);
        let changed = change(&mut known, now);
        if changed || known.facts.as_ref().map(Arc::as_ptr) != before.as_ref().map(Arc::as_ptr) {
            known.show();
        }
        if changed {
            let is_connected = matches!(known.link, Link::Connected);
            let what = match (before, &known.facts) {
                (Some(before), Some(facts)) if was_connected && is_connected => Changed::between(&before, facts),
                _ => Changed::Host,
            };
            self.tell(&mut known, what);
        }
    }

    fn tell(&self, known: &mut Known, what: Changed) {
        known.version += 1;
        self.changes.add(&self.id, what);
    }

    /// Work whose session was lost under it. Where the host is reached otherwise by now it may be another machine, or another user there:
    /// nothing is begun that was decided for the one before.
    pub fn put_back(&self, job: Job, reach: u64) {
        if self.reach.borrow().number != reach && begins(&job.order.work) {
            return job.finish(Err(FleetError::NotReachedYet));
        }
        if let Some(job) = self.queue.lock().put_back(job, clock::monotonic()) {
            job.finish(Err(FleetError::NotReachedYet));
        }
    }

    pub fn period(&self) -> Duration {
        Duration::from_millis(self.period_millis.load(Ordering::Relaxed).max(100))
    }

    pub fn least_rate(&self) -> Option<u64> {
        Some(self.least_rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// Whether a session that has nothing to do stays.
    pub fn keeps_connection(&self) -> bool {
        self.group.keeps() || self.is_held()
    }

    /// Somebody wants it to stay.
    pub fn is_held(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    /// How the host answered before.
    pub fn past_answer(&self) -> PastAnswer {
        let known = self.known.lock();
        match (&known.facts, known.failed) {
            (_, 1..) => PastAnswer::Silent,
            (None, 0) => PastAnswer::Never,
            (Some(_), 0) => PastAnswer::Answered,
        }
    }

    /// A new worker's.
    pub fn new(id: HostId, access: HostAccess, bounds: &WorkerBounds, changes: Changes) -> Arc<Self> {
        Arc::new(Self {
            id,
            known: Mutex::default(),
            queue: Mutex::default(),
            queued: Notify::new(),
            reach: watch::Sender::new(Reach { access: Arc::new(access), number: 0 }),
            session: watch::Sender::new(None),
            lost: watch::Sender::new(0),
            settings: bounds.settings.clone(),
            group: bounds.group.clone(),
            route: bounds.route.clone(),
            least_rate: AtomicU64::new(0),
            changes,
            period_millis: AtomicU64::new(60_000),
            look_now: Notify::new(),
            holds: AtomicUsize::new(0),
            was_late: AtomicBool::new(false),
        })
    }

    /// What is known of a host that is reached otherwise from now on is out of date.
    pub fn set(&self, access: HostAccess, period: Duration, least_rate: Option<u64>) {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.period_millis.store(millis, Ordering::Relaxed);
        self.least_rate.store(least_rate.unwrap_or(0), Ordering::Relaxed);
        let mut known = self.known.lock();
        let before = known.access;
        self.reach.send_if_modified(|now| {
            let changed = now.access.is_other(&access);
            if changed {
                *known = known.renewed();
                *now = Reach { access: Arc::new(access), number: known.access };
                self.tell(&mut known, Changed::Host);
            }
            changed
        });
        let is_other = known.access != before;
        drop(known);
        if is_other {
            let of_before = self.queue.lock().extract(begins);
            of_before.into_iter().for_each(|job| job.finish(Err(FleetError::NotReachedYet)));
        }
        // There may be fewer connections than hosts from now on.
        self.queued.notify_one();
    }

    /// Another session is begun; what is known counts until that fails.
    pub fn renew(&self) {
        let mut known = self.known.lock();
        known.access += 1;
        known.seen = 0;
        if matches!(known.link, Link::Connected | Link::Idle) {
            known.link = Link::Again;
        }
        let number = known.access;
        self.reach.send_modify(|now| now.number = number);
    }

    pub fn hold(&self) {
        self.holds.fetch_add(1, Ordering::Relaxed);
    }

    pub fn let_go(&self) {
        self.holds.fetch_sub(1, Ordering::Relaxed);
        self.queued.notify_one();
    }

    /// Work under way ends with the session that it stands on.
    pub fn end_work(&self) {
        self.lost.send_modify(|lost| *lost += 1);
    }

    /// The host can't be reached. `failed`: a try failed.
    pub fn lose(&self, reach: u64, error: ProgramError, failed: bool) {
        // That this operator may not act says nothing about the host.
        if matches!(error, ProgramError::Gate(_)) {
            return;
        }
        self.learn(reach, |known, _| {
            let counts = failed && error.class() != Class::Waiting;
            known.failed = known.failed.saturating_add(u32::from(counts));
            let same = matches!(&known.link, Link::Lost(before) if **before == error);
            known.lose(error);
            !same
        });
    }

    /// There is no session for now, and what is known still counts.
    pub fn pass_over(&self, reach: u64, link: Link) {
        self.learn(reach, |known, _| {
            known.link = link;
            known.seen = 0;
            false
        });
    }

    /// A host of which nothing is known waits for this.
    pub fn note_waiting(&self, reach: u64, waiting: Waiting) {
        self.learn(reach, |known, _| {
            let is_new = known.waiting != Some(waiting) && known.facts.is_none() && matches!(known.link, Link::New);
            known.waiting = Some(waiting);
            is_new
        });
    }

    /// Ends the orders that waited too long for a session.
    pub fn expire(&self, now: Instant) {
        let expired = self.queue.lock().expired(now);
        for job in expired {
            self.was_late.store(true, Ordering::Relaxed);
            let why = match &self.known.lock().link {
                Link::Lost(why) => FleetError::Unreached(why.clone()),
                _ => FleetError::NotReachedYet,
            };
            job.finish(Err(why));
        }
    }
}

/// Whether something is begun on the host by it.
fn begins(work: &Work) -> bool {
    !matches!(work, Work::Look | Work::Attach { .. })
}
