//! Orders that wait, the most urgent first, among equals the oldest.

use std::time::Instant;

use landfall_host_protocol::Event;
use tokio::sync::{mpsc, oneshot};

use super::order::{FleetError, Order, Outcome, Priority, Ticket, Work};

/// Sessions that may be lost under one order.
const LOST_MAX: u32 = 3;
/// Events that wait to be taken.
const EVENTS_MAX: usize = 64;

type Events = mpsc::Sender<(u64, Vec<Event>)>;
type Waiter = oneshot::Sender<Result<Outcome, FleetError>>;

/// An order with its other end.
pub(super) struct Job {
    pub order: Order,
    number: u64,
    /// Until then a session must be there.
    pub until: Instant,
    /// Sessions that were lost under it.
    lost: u32,
    events: Events,
    done: Waiter,
}

impl Job {
    pub fn finish(self, done: Result<Outcome, FleetError>) {
        // Whoever does not listen any more does not care.
        let _ = self.done.send(done);
    }

    /// What is to be done, who hears of it, and who waits for its end.
    pub fn parts(&mut self) -> (&mut Order, &Events, &mut Waiter) {
        (&mut self.order, &self.events, &mut self.done)
    }

    pub fn is_given_up(&self) -> bool {
        self.done.is_closed()
    }

    fn rank(&self) -> (Priority, std::cmp::Reverse<u64>) {
        (self.order.priority, std::cmp::Reverse(self.number))
    }
}

#[derive(Default)]
pub(super) struct Queue {
    jobs: Vec<Job>,
    last: u64,
}

impl Queue {
    pub fn add(&mut self, order: Order, now: Instant) -> Ticket {
        let (events, events_taken) = mpsc::channel(EVENTS_MAX);
        let (done, done_taken) = oneshot::channel();
        self.last += 1;
        let until = now + order.patience;
        self.jobs.push(Job { order, number: self.last, until, lost: 0, events, done });
        Ticket { events: events_taken, done: done_taken }
    }

    /// One that was under way when its session was lost: it keeps its place. One that loses session after session may be the cause of it,
    /// and is answered: whoever gave it decides again.
    pub fn put_back(&mut self, mut job: Job, now: Instant) -> Option<Job> {
        job.lost += 1;
        if job.lost > LOST_MAX {
            return Some(job);
        }
        job.until = now + job.order.patience;
        self.jobs.push(job);
        None
    }

    /// There is no session any more: what waits has its time until the next one.
    pub fn wait_anew(&mut self, now: Instant) {
        for job in &mut self.jobs {
            job.until = now + job.order.patience;
        }
    }

    /// The most urgent one that fits.
    pub fn take(&mut self, fits: impl Fn(&Work) -> bool) -> Option<Job> {
        self.jobs.retain(|job| !job.is_given_up());
        let fitting = self.jobs.iter().enumerate().filter(|(_, job)| fits(&job.order.work));
        let (at, _) = fitting.max_by_key(|(_, job)| job.rank())?;
        Some(self.jobs.swap_remove(at))
    }

    /// Those that have waited too long.
    pub fn expired(&mut self, now: Instant) -> Vec<Job> {
        self.jobs.extract_if(.., |job| job.until <= now).collect()
    }

    /// Those whose work is such.
    pub fn extract(&mut self, such: impl Fn(&Work) -> bool) -> Vec<Job> {
        self.jobs.extract_if(.., |job| such(&job.order.work)).collect()
    }

    /// When the next one has waited too long.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.jobs.iter().map(|job| job.until).min()
    }

    /// Somebody still waits for one of them.
    pub fn has_some(&self) -> bool {
        self.jobs.iter().any(|job| !job.is_given_up())
    }

    pub fn drain(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::effects::clock;

    fn order(priority: Priority) -> Order {
        Order { priority, work: Work::Look, patience: Duration::from_secs(10) }
    }

    #[test]
    fn a_stop_goes_before_a_heal_before_an_update_before_a_stage_before_a_look() {
        let mut queue = Queue::default();
        let now = clock::monotonic();
        use Priority::{Heal, Look, Stage, Stop, Update};
        let tickets: Vec<_> =
            [Look, Update, Stage, Stop, Update, Heal].map(|priority| queue.add(order(priority), now)).into();
        let taken: Vec<_> =
            std::iter::from_fn(|| queue.take(|_| true)).map(|job| (job.order.priority, job.number)).collect();
        assert_eq!(taken, [(Stop, 4), (Heal, 6), (Update, 2), (Update, 5), (Stage, 3), (Look, 1)]);
        drop(tickets);
    }

    #[test]
    fn an_order_that_waited_in_a_session_has_its_time_when_that_breaks() {
        let mut queue = Queue::default();
        let (began, broke) = (clock::monotonic(), clock::monotonic() + Duration::from_secs(60));
        let _kept = queue.add(order(Priority::Update), began);
        queue.wait_anew(broke);
        assert!(queue.expired(broke + Duration::from_secs(9)).is_empty());
        assert_eq!(queue.expired(broke + Duration::from_secs(10)).len(), 1);
    }

    #[test]
    fn an_order_that_nobody_waits_for_is_not_done_and_one_that_waited_too_long_is_found() {
        let mut queue = Queue::default();
        let now = clock::monotonic();
        drop(queue.add(order(Priority::Stop), now));
        let _kept = queue.add(order(Priority::Look), now);
        assert_eq!(queue.take(|_| true).map(|job| job.number), Some(2));
        let _late = queue.add(order(Priority::Look), now);
        assert!(queue.expired(now + Duration::from_secs(9)).is_empty());
        assert_eq!(queue.expired(now + Duration::from_secs(10)).len(), 1);
        assert!(!queue.has_some());
    }
}
