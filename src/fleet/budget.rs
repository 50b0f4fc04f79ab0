//! What all workers share: connections and the descriptors behind them, sign-ins per second, upload bytes per second. Connections and sign-ins
//! are shared by namespaces (`effects/fair.rs`); within one, and within a group, who waits first is served first. Hosts that never answered, or
//! not last time, share a quarter: each may hold its part up to the last deadline.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::limit::{Limit, LimitPermit};
use crate::effects::{
    clock,
    fair::{FairPlaces, Offer, Place},
    program::ByteBudget,
};

/// Descriptors that are for everything but hosts: API server, store, builds, files.
const RESERVED: u64 = 512;
/// More than all connections need: builds have this limit from us.
const ENOUGH: u64 = 16_384;

/// Bounds over all groups.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSettings {
    /// Connections at once; descriptors may bound them further.
    pub connections: usize,
    /// Sign-ins each second, and as many more at once as two seconds give.
    pub sign_ins_per_second: f64,
    /// Bytes to all hosts together; `None`: as fast as the network takes them.
    pub upload_bytes_per_second: Option<u64>,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { connections: 12_000, sign_ins_per_second: 200.0, upload_bytes_per_second: None }
    }
}

/// The budget that has nothing left for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Short {
    #[error("its group has {most} for {hosts} hosts (ssh.maxConcurrentConnections)")]
    Group { most: usize, hosts: usize },
    #[error("hosts that have not answered have {most} of its group's connections (ssh.maxConcurrentConnections)")]
    DoubtfulOfGroup { most: usize },
    #[error(
        "all groups together have {most}, as many as the operator may open (its limit of open files); namespaces share them"
    )]
    All { most: usize },
    #[error(
        "hosts of all groups that have not answered have {most} of the operator's connections; namespaces share them"
    )]
    DoubtfulOfAll { most: usize },
    #[error("{per_second} hosts a second are signed in to at most")]
    SignIns { per_second: u32 },
}

/// Raises the limit of open files as far as this process needs and may, and answers it.
pub fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH)
}

/// Cheap to clone; all clones are one. The default raises this process' limit of open files.
#[derive(Clone)]
pub struct Budgets {
    connections: FairPlaces,
    /// Of those, what hosts have that did not answer yet.
    doubtful: FairPlaces,
    most: usize,
    sign_ins: Arc<Bucket>,
    /// Whose turn it is to wait for the next sign-in.
    turn: FairPlaces,
    bytes: Option<Arc<Bucket>>,
}

/// How a host answered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PastAnswer {
    Answered,
    Never,
    /// Not when it was dialled last.
    Silent,
}

impl Default for Budgets {
    fn default() -> Self {
        Self::new(BudgetSettings::default(), raise_descriptors())
    }
}

impl Budgets {
    /// `descriptors`: files that this process may have open.
    pub fn new(settings: BudgetSettings, descriptors: u64) -> Self {
        let most = usize::try_from(descriptors.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
        let most = settings.connections.min(most).max(1);
        let sign_ins = Bucket::new(settings.sign_ins_per_second, settings.sign_ins_per_second * 2.0);
        let bytes = settings.upload_bytes_per_second.map(|rate| Arc::new(Bucket::new(rate as f64, rate as f64)));
        Self {
            connections: FairPlaces::new(most),
            doubtful: FairPlaces::that_leave_some(most / 4),
            most,
            sign_ins: Arc::new(sign_ins),
            turn: FairPlaces::new(1),
            bytes,
        }
    }

    /// The connections of a group of so many hosts. `most`: at once; `None`: one for each host.
    pub(crate) fn group(&self, namespace: &str, most: Option<usize>, hosts: usize) -> Connections {
        let group = OfGroup { namespace: namespace.to_owned(), share: Share::new(1, 1), size: Mutex::default() };
        let connections = Connections(Arc::new(group));
        connections.resize(most, hosts);
        connections
    }

    /// Waits for the right to one connection of the group and of all. `tell`: what is waited for, whenever that is another budget.
    pub(super) async fn connect(
        &self,
        group: &Connections,
        past_answer: PastAnswer,
        tell: impl Fn(Short) + Send + Sync,
    ) -> ConnectionPermit {
        let namespace = &group.0.namespace;
        // Whoever waits for the quarter of all below has a connection of its group meanwhile: new hosts, too, may hold only a part of these.
        let is_doubtful = past_answer != PastAnswer::Answered;
        let of_group = group.0.share.acquire(is_doubtful, |is_doubtful| tell(group.short(is_doubtful))).await;
        let quarter = match past_answer {
            PastAnswer::Answered => None,
            PastAnswer::Never | PastAnswer::Silent => {
                tell(Short::DoubtfulOfAll { most: (self.most / 4).max(1) });
                Some(self.doubtful.take(namespace).await)
            }
        };
        tell(Short::All { most: self.most });
        let place = self.connections.take(namespace).await;
        tell(Short::SignIns { per_second: self.sign_ins.rate as u32 });
        let turn = self.turn.take(namespace).await;
        self.sign_ins.take(1.0).await;
        drop(turn);
        ConnectionPermit(Arc::new(Held { of_group, quarter: Mutex::new(quarter), place }))
    }

    pub(super) fn bytes(&self) -> Option<Arc<dyn ByteBudget>> {
        self.bytes.clone().map(|bytes| bytes as Arc<dyn ByteBudget>)
    }
}

/// Connections of one group. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Connections(Arc<OfGroup>);

struct OfGroup {
    namespace: String,
    share: Share,
    size: Mutex<GroupSize>,
}

#[derive(Clone, Copy, Default)]
struct GroupSize {
    most: usize,
    hosts: usize,
}

impl Connections {
    /// Connections that are open count before and after it.
    pub fn resize(&self, most: Option<usize>, hosts: usize) {
        let most = most.unwrap_or(hosts).max(1);
        let doubtful = GroupSize { most, hosts }.doubtful();
        let mut size = self.0.size.lock();
        self.0.share.resize(most, doubtful);
        *size = GroupSize { most, hosts };
    }

    /// Every host may keep its connection until another one needs it more; else each is closed after its use.
    pub fn keeps(&self) -> bool {
        let GroupSize { most, hosts } = *self.0.size.lock();
        hosts <= most
    }

    /// What its hosts wait for.
    fn short(&self, is_doubtful: bool) -> Short {
        let size = *self.0.size.lock();
        match is_doubtful {
            true => Short::DoubtfulOfGroup { most: size.doubtful() },
            false => Short::Group { most: size.most, hosts: size.hosts },
        }
    }
}

impl GroupSize {
    /// With one for each host none takes any from another.
    fn doubtful(self) -> usize {
        if self.most < self.hosts { (self.most / 4).max(1) } else { self.most }
    }
}

/// Connections, and the part of them that doubtful hosts have.
struct Share {
    all: Arc<Limit>,
    doubtful: Arc<Limit>,
}

impl Share {
    fn new(most: usize, doubtful: usize) -> Self {
        Self { all: Limit::new(most), doubtful: Limit::new(doubtful) }
    }

    fn resize(&self, most: usize, doubtful: usize) {
        self.all.resize(most);
        self.doubtful.resize(doubtful);
    }

    /// `tell`: true, where the part of doubtful hosts is waited for.
    async fn acquire(&self, doubtful: bool, tell: impl Fn(bool)) -> One {
        let quarter = match doubtful {
            true => {
                tell(true);
                Some(self.doubtful.clone().acquire().await)
            }
            false => None,
        };
        tell(false);
        let one = self.all.clone().acquire().await;
        One { doubtful: Mutex::new(quarter), _one: one }
    }
}

struct One {
    doubtful: Mutex<Option<LimitPermit>>,
    _one: LimitPermit,
}

/// The right to one connection, until its socket is closed.
pub struct ConnectionPermit(Arc<Held>);

struct Held {
    of_group: One,
    quarter: Mutex<Option<Place>>,
    place: Place,
}

impl ConnectionPermit {
    /// For whoever learns how the host answers, and whether its connection is needed.
    pub(crate) fn use_of(&self) -> ConnectionUse {
        ConnectionUse(Arc::downgrade(&self.0))
    }
}

/// How a connection is used, told by its session, which does not keep it open.
pub(crate) struct ConnectionUse(Weak<Held>);

impl ConnectionUse {
    /// The host told its facts: it does not count among the doubtful.
    pub fn mark_healthy(&self) {
        if let Some(held) = self.0.upgrade() {
            held.of_group.doubtful.lock().take();
            held.quarter.lock().take();
        }
    }

    /// It is kept without need from now on.
    pub fn offer(&self) -> Option<Offer> {
        Some(self.0.upgrade()?.place.offer())
    }
}

/// A rate per second with a small burst. A taker of more than is free waits for it; later ones wait behind it.
struct Bucket {
    rate: f64,
    burst: f64,
    level: Mutex<Level>,
}

struct Level {
    /// Below zero: promised to those who wait.
    left: f64,
    since: Instant,
}

impl Bucket {
    fn new(rate: f64, burst: f64) -> Self {
        let rate = rate.max(0.1);
        let burst = burst.max(1.0);
        Self { rate, burst, level: Mutex::new(Level { left: burst, since: clock::monotonic() }) }
    }

    /// How long whoever takes so much now has to wait for it.
    fn reserve(&self, amount: f64, now: Instant) -> Duration {
        let mut level = self.level.lock();
        let gone = now.saturating_duration_since(level.since).as_secs_f64();
        level.since = now;
        level.left = (level.left + gone * self.rate).min(self.burst) - amount;
        Duration::from_secs_f64((-level.left).max(0.0) / self.rate)
    }

    async fn take(&self, amount: f64) {
        let wait = self.reserve(amount, clock::monotonic());
        if !wait.is_zero() {
            let promised = Promised { bucket: self, amount };
            tokio::time::sleep(wait).await;
            std::mem::forget(promised);
        }
    }
}

/// Gives back what was promised to whoever waits no longer.
struct Promised<'a> {
    bucket: &'a Bucket,
    amount: f64,
}

impl Drop for Promised<'_> {
    fn drop(&mut self) {
        self.bucket.level.lock().left += self.amount;
    }
}

impl ByteBudget for Bucket {
    fn take(&self, bytes: usize) -> BoxFuture<'_, ()> {
        Box::pin(Bucket::take(self, bytes as f64))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn connect(budgets: &Budgets, group: &Connections, is_silent: bool) -> Option<ConnectionPermit> {
        budgets.connect(group, past_answer(is_silent), |_| {}).now_or_never()
    }

    fn past_answer(is_silent: bool) -> PastAnswer {
        if is_silent { PastAnswer::Silent } else { PastAnswer::Answered }
    }

    #[test]
    fn hosts_that_did_not_answer_get_a_quarter_until_they_do() {
        let budgets = Budgets::new(BudgetSettings { connections: 100, ..BudgetSettings::default() }, 10_000);
        let group = budgets.group("a", Some(8), 20);
        let doubtful: Vec<_> = (0..4).map_while(|_| connect(&budgets, &group, true)).collect();
        assert_eq!(doubtful.len(), 2);
        let healthy: Vec<_> = (0..9).map_while(|_| connect(&budgets, &group, false)).collect();
        assert_eq!(healthy.len(), 6);
        doubtful[0].use_of().mark_healthy();
        drop(healthy);
        assert!(connect(&budgets, &group, true).is_some());
    }

    #[test]
    fn with_a_connection_for_each_host_none_takes_any_from_another() {
        let budgets = Budgets::new(BudgetSettings { connections: 100, ..BudgetSettings::default() }, 10_000);
        let group = budgets.group("a", None, 8);
        let doubtful: Vec<_> = (0..9).map_while(|_| connect(&budgets, &group, true)).collect();
        assert_eq!(doubtful.len(), 8);
    }

    #[test]
    fn connections_are_kept_where_a_group_has_one_for_each_host_however_many_others_have() {
        let budgets = Budgets::new(BudgetSettings { connections: 10, ..BudgetSettings::default() }, 10_000);
        let one = budgets.group("a", None, 6);
        let other = budgets.group("b", Some(3), 4);
        let made_up = budgets.group("c", None, 12_000);
        assert!(one.keeps() && !other.keeps() && made_up.keeps());
    }

    #[test]
    fn hosts_that_never_answered_have_a_quarter_of_all_and_each_namespace_a_part_of_it() {
        let budgets = Budgets::new(BudgetSettings { connections: 40, ..BudgetSettings::default() }, 10_000);
        let (made_up, new) = (budgets.group("a", None, 12_000), budgets.group("b", None, 9));
        let take = |group| budgets.connect(group, PastAnswer::Never, |_| {}).now_or_never();
        let made_up: Vec<_> = (0..20).map_while(|_| take(&made_up)).collect();
        let new: Vec<_> = (0..20).map_while(|_| take(&new)).collect();
        assert_eq!((made_up.len(), new.len()), (5, 3));
    }

    #[test]
    fn new_hosts_that_wait_for_the_quarter_leave_connections_of_their_group_to_hosts_that_answer() {
        let budgets = Budgets::new(BudgetSettings { connections: 8, ..BudgetSettings::default() }, 10_000);
        let (others, small) = (budgets.group("a", None, 9), budgets.group("a", Some(4), 20));
        let _silent: Vec<_> = (0..2).map_while(|_| connect(&budgets, &others, true)).collect();
        let mut waiting: Vec<_> =
            (0..4).map(|_| Box::pin(budgets.connect(&small, PastAnswer::Never, |_| {}))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()), "the quarter is taken");
        assert!(connect(&budgets, &small, false).is_some());
    }

    #[test]
    fn connections_of_before_count_after_a_change() {
        let budgets = Budgets::new(BudgetSettings::default(), 10_000);
        let group = budgets.group("a", Some(1), 9);
        let take = || connect(&budgets, &group, false);
        let first = take().unwrap();
        group.resize(Some(2), 9);
        let second = take().unwrap();
        assert!(take().is_none(), "an older connection and a new one are two");
        drop(first);
        let _third = take().unwrap();
        assert!(take().is_none());
        drop(second);
        assert!(take().is_some());
    }

    #[test]
    fn descriptors_bound_the_connections() {
        let budgets = Budgets::new(BudgetSettings::default(), RESERVED + 3);
        let group = budgets.group("a", None, 100);
        let open: Vec<_> = (0..9).map_while(|_| connect(&budgets, &group, false)).collect();
        assert_eq!(open.len(), 3);
        assert!(raise_descriptors() > RESERVED);
    }

    #[test]
    fn a_second_gives_so_much_and_who_waits_first_is_served_first() {
        let bucket = Bucket::new(10.0, 20.0);
        let now = clock::monotonic();
        assert!((0..20).all(|_| bucket.reserve(1.0, now).is_zero()));
        assert_eq!(bucket.reserve(1.0, now), Duration::from_millis(100));
        assert_eq!(bucket.reserve(4.0, now), Duration::from_millis(500));
        assert_eq!(bucket.reserve(1.0, now + Duration::from_millis(500)), Duration::from_millis(100));
        assert!(bucket.reserve(1.0, now + Duration::from_secs(60)).is_zero());
    }

    #[test]
    fn whoever_waits_is_told_which_budget_is_short() {
        let settings = BudgetSettings { connections: 8, ..BudgetSettings::default() };
        let short = |group: Option<usize>, hosts: usize, taken: usize, doubtful: bool| {
            let budgets = Budgets::new(settings, 10_000);
            let group = budgets.group("a", group, hosts);
            let taken: Vec<_> = (0..taken).map_while(|_| connect(&budgets, &group, doubtful)).collect();
            let told = Mutex::new(None);
            let waits =
                budgets.connect(&group, past_answer(doubtful), |short| *told.lock() = Some(short)).now_or_never();
            assert!(waits.is_none(), "with {} taken", taken.len());
            told.into_inner().unwrap()
        };
        assert_eq!(short(Some(2), 9, 2, false), Short::Group { most: 2, hosts: 9 });
        assert_eq!(short(Some(6), 9, 1, true), Short::DoubtfulOfGroup { most: 1 });
        assert_eq!(short(None, 20, 8, false), Short::All { most: 8 });
        assert_eq!(short(None, 20, 2, true), Short::DoubtfulOfAll { most: 2 });
        let said = |short: Short| short.to_string();
        assert!(said(Short::Group { most: 2, hosts: 9 }).contains("maxConcurrentConnections"));
        for other in [Short::All { most: 8 }, Short::DoubtfulOfAll { most: 2 }, Short::SignIns { per_second: 200 }] {
            assert!(!said(other).contains("maxConcurrentConnections"), "{other}");
        }
    }
}
