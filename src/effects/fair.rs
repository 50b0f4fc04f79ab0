//! Places that all namespaces share: connections, sign-ins, makers of bundles. Where some wait, a free place goes to the namespace that has the
//! fewest, among equals to the one that was served longest ago, and within it to who has waited longest. So a namespace that wants more than
//! others has what they leave free. A place that is kept without need can be asked back: from the namespace that has the most, as long as that
//! leaves it no fewer than the one that gets it; or from the waiting namespace itself, whose hosts then take turns. Places that can't be asked
//! back may be given so that some are left: a namespace gets another one while it has fewer than are free. It knows no hosts.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// Places that are asked back at one time: more are as those come back.
const ASKED_MAX: usize = 64;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct FairPlaces {
    inner: Arc<Inner>,
}

struct Inner {
    total: usize,
    leaves_some: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: usize,
    /// Grows with each place that is given, waited for or offered.
    last: u64,
    members: BTreeMap<String, Member>,
}

/// What one namespace has and wants.
#[derive(Default)]
struct Member {
    held: HashSet<u64>,
    /// When it was given one last, or came.
    served: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, oneshot::Sender<Place>>,
    /// Places that nobody needs now, the longest idle first.
    idle: BTreeMap<u64, Idle>,
    /// Places that were asked back and are still held.
    asked: HashSet<u64>,
}

struct Idle {
    place: u64,
    asked: Arc<Notify>,
}

impl FairPlaces {
    /// At least one.
    pub fn new(total: usize) -> Self {
        Self::of(total, false)
    }

    /// The same, of which one namespace gets half, two get a third each, and so on: whoever comes finds a free one.
    pub fn that_leave_some(total: usize) -> Self {
        Self::of(total, true)
    }

    fn of(total: usize, leaves_some: bool) -> Self {
        Self { inner: Arc::new(Inner { total: total.max(1), leaves_some, state: Mutex::default() }) }
    }

    /// Waits for a place. Dropping it gives up the wait.
    pub async fn take(&self, namespace: &str) -> Place {
        let (sender, given) = oneshot::channel();
        let number = self.inner.change(namespace, |state, namespace| {
            state.last += 1;
            let number = state.last;
            let member = state.members.entry(namespace.to_owned());
            member.or_insert_with(|| Member { served: number, ..Member::default() }).waiting.insert(number, sender);
            number
        });
        let _waiting = Waiting { inner: &self.inner, namespace, number };
        match given.await {
            Ok(place) => place,
            // Whoever waits is answered, so this is never reached.
            Err(_) => std::future::pending().await,
        }
    }

    /// Places that are free now.
    pub fn free(&self) -> usize {
        self.inner.total - self.inner.state.lock().used
    }
}

impl Inner {
    /// Changes something of a namespace, and does what follows from it.
    fn change<T>(self: &Arc<Self>, namespace: &str, change: impl FnOnce(&mut State, &str) -> T) -> T {
        let mut state = self.state.lock();
        let done = change(&mut state, namespace);
        let given = self.give(&mut state);
        let asked = state.ask_back();
        if state.members.get(namespace).is_some_and(Member::is_gone) {
            state.members.remove(namespace);
        }
        drop(state);
        for (waiter, place) in given {
            // Where nobody waits any more it comes back by being dropped.
            let _ = waiter.send(place);
        }
        asked.iter().for_each(|asked| asked.notify_one());
        done
    }

    fn give(self: &Arc<Self>, state: &mut State) -> Vec<(oneshot::Sender<Place>, Place)> {
        let mut given = Vec::new();
        while state.used < self.total {
            let free = self.total - state.used;
            let may_have = |member: &Member| !self.leaves_some || member.held.len() < free;
            let waiting = state.members.iter_mut().filter(|(_, member)| !member.waiting.is_empty() && may_have(member));
            let next = waiting.min_by_key(|(_, member)| (member.held.len(), member.served));
            let Some((namespace, member)) = next else { break };
            let Some((_, waiter)) = member.waiting.pop_first() else { break };
            state.last += 1;
            state.used += 1;
            member.served = state.last;
            member.held.insert(state.last);
            given.push((waiter, Place { inner: self.clone(), namespace: namespace.clone(), number: state.last }));
        }
        given
    }
}

/// A namespace as it will be when the places that were asked back have come.
struct Row {
    namespace: String,
    held: usize,
    waiting: usize,
    idle: usize,
}

impl State {
    /// Asks idle places back for those who wait, as far as that makes it fairer.
    fn ask_back(&mut self) -> Vec<Arc<Notify>> {
        if self.members.values().all(|member| member.waiting.is_empty()) {
            return Vec::new();
        }
        let row = |(namespace, member): (&String, &Member)| Row {
            namespace: namespace.clone(),
            held: member.held.len() - member.asked.len(),
            waiting: member.waiting.len(),
            idle: member.idle.len(),
        };
        let mut rows: Vec<Row> = self.members.iter().map(row).collect();
        let mut coming: usize = self.members.values().map(|member| member.asked.len()).sum();
        for _ in 0..coming {
            let next = rows.iter_mut().filter(|row| row.waiting > 0).min_by_key(|row| row.held);
            let Some(next) = next else { break };
            (next.held, next.waiting) = (next.held + 1, next.waiting - 1);
        }
        let mut asked = Vec::new();
        while coming < ASKED_MAX {
            let Some((taker, giver)) = exchange(&rows) else { break };
            (rows[taker].held, rows[taker].waiting) = (rows[taker].held + 1, rows[taker].waiting - 1);
            (rows[giver].held, rows[giver].idle) = (rows[giver].held - 1, rows[giver].idle - 1);
            if let Some(member) = self.members.get_mut(&rows[giver].namespace)
                && let Some((_, idle)) = member.idle.pop_first()
                && member.held.contains(&idle.place)
            {
                member.asked.insert(idle.place);
                asked.push(idle.asked);
                coming += 1;
            }
        }
        asked
    }
}

/// Who should get a place next, and from whom; `None` where nothing would be fairer for it.
fn exchange(rows: &[Row]) -> Option<(usize, usize)> {
    let most = (0..rows.len()).filter(|n| rows[*n].idle > 0).max_by_key(|n| rows[*n].held)?;
    let mut takers: Vec<usize> = (0..rows.len()).filter(|n| rows[*n].waiting > 0).collect();
    takers.sort_by_key(|n| rows[*n].held);
    takers.into_iter().find_map(|taker| {
        if rows[most].held >= rows[taker].held + 2 {
            return Some((taker, most));
        }
        (rows[taker].idle > 0).then_some((taker, taker))
    })
}

impl Member {
    fn is_gone(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty() && self.idle.is_empty()
    }
}

/// One who waits.
struct Waiting<'a> {
    inner: &'a Arc<Inner>,
    namespace: &'a str,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inner.change(self.namespace, |state, namespace| {
            if let Some(member) = state.members.get_mut(namespace) {
                member.waiting.remove(&self.number);
            }
        });
    }
}

/// One place, until it is dropped.
pub struct Place {
    inner: Arc<Inner>,
    namespace: String,
    number: u64,
}

impl Place {
    /// It is kept without need from now on, until what is answered is dropped.
    pub fn offer(&self) -> Offer {
        let asked = Arc::new(Notify::new());
        let offered = self.inner.change(&self.namespace, |state, namespace| {
            state.last += 1;
            let idle = Idle { place: self.number, asked: asked.clone() };
            if let Some(member) = state.members.get_mut(namespace) {
                member.idle.insert(state.last, idle);
            }
            state.last
        });
        let (inner, namespace, place) = (self.inner.clone(), self.namespace.clone(), self.number);
        Offer { inner, namespace, place, offered, asked, is_accepted: false }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.change(&self.namespace, |state, namespace| {
            state.used -= 1;
            if let Some(member) = state.members.get_mut(namespace) {
                member.held.remove(&self.number);
                member.asked.remove(&self.number);
            }
        });
    }
}

/// A place that is kept without need.
pub struct Offer {
    inner: Arc<Inner>,
    namespace: String,
    place: u64,
    offered: u64,
    asked: Arc<Notify>,
    is_accepted: bool,
}

impl Offer {
    /// Back when somebody needs the place more.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The place is given back as soon as it can be.
    pub fn accept(mut self) {
        self.is_accepted = true;
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.inner.change(&self.namespace, |state, namespace| {
            if let Some(member) = state.members.get_mut(namespace) {
                member.idle.remove(&self.offered);
                if !self.is_accepted {
                    member.asked.remove(&self.place);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::{FutureExt, future::BoxFuture};
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    /// Namespaces that take, offer, and give back what they are asked for.
    struct Simulation {
        places: FairPlaces,
        held: BTreeMap<&'static str, VecDeque<(Place, Option<Offer>)>>,
        waiting: Vec<(&'static str, BoxFuture<'static, Place>)>,
    }

    impl Simulation {
        fn new(total: usize) -> Self {
            Self { places: FairPlaces::new(total), held: BTreeMap::new(), waiting: Vec::new() }
        }

        fn want(&mut self, namespace: &'static str, n: usize) {
            for _ in 0..n {
                let places = self.places.clone();
                self.waiting.push((namespace, async move { places.take(namespace).await }.boxed()));
            }
            self.settle();
        }

        /// Until nothing moves any more. Whoever gets a place keeps it without need, and does not come again when it was asked back.
        fn settle(&mut self) {
            loop {
                let mut moved = false;
                for (namespace, mut wait) in std::mem::take(&mut self.waiting) {
                    match (&mut wait).now_or_never() {
                        Some(place) => {
                            let offer = Some(place.offer());
                            self.held.entry(namespace).or_default().push_back((place, offer));
                            moved = true;
                        }
                        None => self.waiting.push((namespace, wait)),
                    }
                }
                for held in self.held.values_mut() {
                    let mut kept = VecDeque::new();
                    for (place, mut offer) in std::mem::take(held) {
                        match offer.take_if(|offer| offer.asked().now_or_never().is_some()) {
                            Some(offer) => {
                                offer.accept();
                                moved = true;
                            }
                            None => kept.push_back((place, offer)),
                        }
                    }
                    *held = kept;
                }
                if !moved {
                    return;
                }
            }
        }

        fn has(&self, namespace: &str) -> usize {
            self.held.get(namespace).map_or(0, VecDeque::len)
        }

        fn waits(&self, namespace: &str) -> usize {
            self.waiting.iter().filter(|(of, _)| *of == namespace).count()
        }
    }

    #[test]
    fn who_wants_more_has_what_others_leave_and_gives_it_back() {
        let mut simulation = Simulation::new(12);
        // All of its 12 hosts have a place, so none has to give one back.
        simulation.want("big", 12);
        assert_eq!(simulation.has("big"), 12);
        simulation.want("small", 2);
        assert_eq!((simulation.has("big"), simulation.has("small")), (10, 2));
        simulation.want("other", 9);
        // A namespace that wants less than its share has all of it; the others have the same.
        assert_eq!((simulation.has("big"), simulation.has("small"), simulation.has("other")), (5, 2, 5));
        assert_eq!(simulation.waits("small"), 0);
        simulation.held.remove("other");
        simulation.waiting.clear();
        simulation.want("big", 5);
        assert_eq!(simulation.has("big"), 10);
    }

    #[test]
    fn what_is_needed_is_not_asked_back() {
        let places = FairPlaces::new(2);
        let take = |namespace| places.take(namespace).now_or_never();
        let (first, second) = (take("a").unwrap(), take("a").unwrap());
        let mut waits = Box::pin(places.take("b"));
        assert!((&mut waits).now_or_never().is_none());
        let offer = first.offer();
        assert!(offer.asked().now_or_never().is_some());
        // It is needed after all; the other one is idle now.
        drop(offer);
        let other = second.offer();
        assert!(other.asked().now_or_never().is_some());
        other.accept();
        let offer = first.offer();
        assert!(offer.asked().now_or_never().is_none(), "one is on its way");
        drop(second);
        assert!(waits.now_or_never().is_some());
        drop((first, offer));
        assert_eq!(places.free(), 2);
    }

    #[test]
    fn where_some_are_left_whoever_comes_finds_a_free_one() {
        let places = FairPlaces::that_leave_some(12);
        let take = |namespace| (0..20).map_while(|_| places.take(namespace).now_or_never()).collect::<Vec<_>>();
        let (first, second, third) = (take("a"), take("b"), take("c"));
        assert_eq!((first.len(), second.len(), third.len()), (6, 3, 2));
        let mut waits = Box::pin(places.take("a"));
        assert!((&mut waits).now_or_never().is_none());
        drop((second, third));
        assert!(waits.now_or_never().is_none(), "it has half");
        assert!(FairPlaces::that_leave_some(1).take("a").now_or_never().is_some());
    }

    #[test]
    fn hosts_of_one_namespace_take_turns() {
        let places = FairPlaces::new(1);
        let first = places.take("a").now_or_never().unwrap();
        let offer = first.offer();
        let waits = places.take("a");
        let mut waits = Box::pin(waits);
        assert!((&mut waits).now_or_never().is_none());
        assert!(offer.asked().now_or_never().is_some());
        offer.accept();
        drop(first);
        assert!(waits.now_or_never().is_some());
    }

    #[test]
    fn who_comes_again_and_again_is_not_served_before_others_who_wait() {
        let places = FairPlaces::new(1);
        let mut one = places.take("greedy").now_or_never();
        let mut patient: Vec<_> = (0..3).map(|_| Box::pin(places.take("patient"))).collect();
        patient.iter_mut().for_each(|wait| assert!(wait.now_or_never().is_none()));
        let mut served = Vec::new();
        while !patient.is_empty() {
            let mut again = Box::pin(places.take("greedy"));
            assert!((&mut again).now_or_never().is_none());
            one.take();
            if let Some(place) = patient[0].as_mut().now_or_never() {
                served.push("patient");
                drop(place);
                drop(patient.remove(0));
            }
            one = again.now_or_never();
            served.extend(one.is_some().then_some("greedy"));
        }
        assert!(served.windows(2).all(|two| two[0] != two[1]), "{served:?}");
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let places = FairPlaces::new(1);
        let first = places.take("a").now_or_never().unwrap();
        let offer = first.offer();
        let mut waits = Box::pin(places.take("b"));
        assert!((&mut waits).now_or_never().is_none());
        let given_up = places.take("a").now_or_never();
        assert!(given_up.is_none());
        drop((waits, offer, first));
        assert_eq!(places.free(), 1);
        assert!(places.inner.state.lock().members.is_empty());
    }

    /// Whatever comes and goes: no place is lost, none is free while somebody waits, and no namespace waits while another keeps two more than
    /// it without need.
    #[test]
    fn shares_are_fair_whatever_comes_and_goes() {
        const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let total = random.random_range(1..20);
            let mut simulation = Simulation::new(total);
            for _ in 0..60 {
                let namespace = NAMES[random.random_range(0..NAMES.len())];
                match random.random_range(0..4) {
                    0 | 1 => {
                        let n = random.random_range(1..6);
                        simulation.want(namespace, n);
                    }
                    2 => {
                        simulation.held.get_mut(namespace).and_then(VecDeque::pop_front);
                    }
                    _ => {
                        if let Some(at) = simulation.waiting.iter().position(|(of, _)| *of == namespace) {
                            drop(simulation.waiting.remove(at));
                        }
                    }
                }
                simulation.settle();
                let held: usize = NAMES.iter().map(|name| simulation.has(name)).sum();
                assert_eq!(simulation.places.free(), total - held, "seed {seed}");
                assert!(simulation.waiting.is_empty() || held == total, "seed {seed}");
                for (waiting, _) in &simulation.waiting {
                    let most = NAMES.iter().map(|name| simulation.has(name)).max().unwrap();
                    assert!(most <= simulation.has(waiting) + 1, "seed {seed}: {waiting}");
                }
            }
            drop(simulation.waiting);
            drop(simulation.held);
            assert_eq!(simulation.places.free(), total, "seed {seed}");
        }
    }
}
