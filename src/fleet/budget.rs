//! What all workers share: connections and the descriptors behind them, sign-ins per second, upload bytes per second. Fair: who waits
//! first is served first. Hosts that did not answer last time share a quarter: each may hold its part up to the last deadline.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::limit::{Limit, LimitPermit};
use crate::effects::{clock, program::ByteBudget};

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
    #[error("hosts that did not answer have {most} of its group's connections (ssh.maxConcurrentConnections)")]
    DoubtfulOfGroup { most: usize },
    #[error("all groups together have {most}, as many as the operator may open (its limit of open files)")]
    All { most: usize },
    #[error("hosts of all groups that did not answer have {most} of the operator's connections")]
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
    all: Arc<Overall>,
    sign_ins: Arc<Bucket>,
    bytes: Option<Arc<Bucket>>,
}

struct Overall {
    share: Share,
    most: usize,
    /// Of all groups.
    hosts: AtomicUsize,
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
        let all = Overall { share: Share::new(most, most / 4), most, hosts: AtomicUsize::new(0) };
        Self { all: Arc::new(all), sign_ins: Arc::new(sign_ins), bytes }
    }

    /// The connections of a group of so many hosts. `most`: at once; `None`: one for each host.
    pub(crate) fn group(&self, most: Option<usize>, hosts: usize) -> Connections {
        let group = OfGroup { share: Share::new(1, 1), size: Mutex::default(), all: self.all.clone() };
        let connections = Connections(Arc::new(group));
        connections.resize(most, hosts);
        connections
    }

    /// Waits for the right to one connection of the group and of all, whoever has waited longest first. `doubtful`: the host did not
    /// answer last time. `tell`: what is waited for, whenever that is another budget.
    pub(super) async fn connect(
        &self,
        group: &Connections,
        doubtful: bool,
        tell: impl Fn(Short) + Send + Sync,
    ) -> ConnectionPermit {
        let of_group = group.0.share.acquire(doubtful, |is_doubtful| tell(group.short(is_doubtful))).await;
        let of_all = |is_doubtful| match is_doubtful {
            true => tell(Short::DoubtfulOfAll { most: (self.all.most / 4).max(1) }),
            false => tell(Short::All { most: self.all.most }),
        };
        let of_all = self.all.share.acquire(doubtful, of_all).await;
        tell(Short::SignIns { per_second: self.sign_ins.rate as u32 });
        self.sign_ins.take(1.0).await;
        ConnectionPermit(Arc::new([of_group, of_all]))
    }

    pub(super) fn bytes(&self) -> Option<Arc<dyn ByteBudget>> {
        self.bytes.clone().map(|bytes| bytes as Arc<dyn ByteBudget>)
    }
}

/// Connections of one group. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Connections(Arc<OfGroup>);

struct OfGroup {
    share: Share,
    size: Mutex<GroupSize>,
    all: Arc<Overall>,
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
        self.0.all.hosts.fetch_add(hosts, Ordering::Relaxed);
        self.0.all.hosts.fetch_sub(size.hosts, Ordering::Relaxed);
        *size = GroupSize { most, hosts };
    }

    /// Every host may keep its connection; else each is closed after its use.
    pub fn keeps(&self) -> bool {
        let GroupSize { most, hosts } = *self.0.size.lock();
        hosts <= most && self.0.all.hosts.load(Ordering::Relaxed) <= self.0.all.most
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

impl Drop for OfGroup {
    fn drop(&mut self) {
        self.all.hosts.fetch_sub(self.size.get_mut().hosts, Ordering::Relaxed);
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
pub struct ConnectionPermit(Arc<[One; 2]>);

impl ConnectionPermit {
    /// For whoever learns that the host answers.
    pub(crate) fn health(&self) -> Health {
        Health(Arc::downgrade(&self.0))
    }
}

/// A connection's share of the quarter for doubtful hosts.
pub(crate) struct Health(Weak<[One; 2]>);

impl Health {
    /// The host told its facts: it does not count among the doubtful.
    pub fn mark_healthy(&self) {
        for one in self.0.upgrade().iter().flat_map(|both| both.iter()) {
            one.doubtful.lock().take();
        }
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

    fn connect(budgets: &Budgets, group: &Connections, doubtful: bool) -> Option<ConnectionPermit> {
        budgets.connect(group, doubtful, |_| {}).now_or_never()
    }

    #[test]
    fn hosts_that_did_not_answer_get_a_quarter_until_they_do() {
        let budgets = Budgets::new(BudgetSettings { connections: 100, ..BudgetSettings::default() }, 10_000);
        let group = budgets.group(Some(8), 20);
        let doubtful: Vec<_> = (0..4).map_while(|_| connect(&budgets, &group, true)).collect();
        assert_eq!(doubtful.len(), 2);
        let healthy: Vec<_> = (0..9).map_while(|_| connect(&budgets, &group, false)).collect();
        assert_eq!(healthy.len(), 6);
        doubtful[0].health().mark_healthy();
        drop(healthy);
        assert!(connect(&budgets, &group, true).is_some());
    }

    #[test]
    fn with_a_connection_for_each_host_none_takes_any_from_another() {
        let budgets = Budgets::new(BudgetSettings { connections: 100, ..BudgetSettings::default() }, 10_000);
        let group = budgets.group(None, 8);
        let doubtful: Vec<_> = (0..9).map_while(|_| connect(&budgets, &group, true)).collect();
        assert_eq!(doubtful.len(), 8);
    }

    #[test]
    fn connections_are_kept_as_long_as_there_is_one_for_each_host_of_all_groups() {
        let budgets = Budgets::new(BudgetSettings { connections: 10, ..BudgetSettings::default() }, 10_000);
        let one = budgets.group(None, 6);
        assert!(one.keeps());
        let other = budgets.group(Some(3), 4);
        assert!(one.keeps() && !other.keeps());
        other.resize(None, 5);
        assert!(!one.keeps() && !other.keeps());
        drop(other);
        assert!(one.keeps());
    }

    #[test]
    fn connections_of_before_count_after_a_change() {
        let budgets = Budgets::new(BudgetSettings::default(), 10_000);
        let group = budgets.group(Some(1), 9);
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
        let group = budgets.group(None, 100);
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
            let group = budgets.group(group, hosts);
            let taken: Vec<_> = (0..taken).map_while(|_| connect(&budgets, &group, doubtful)).collect();
            let told = Mutex::new(None);
            let waits = budgets.connect(&group, doubtful, |short| *told.lock() = Some(short)).now_or_never();
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
