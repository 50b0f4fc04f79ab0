//! Claims, renewals and losses of several operators on one object, in every order.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

const LEASE: u64 = 10;
/// Longest time that passes between two events of a history.
const STEP_MAX: u64 = 4;

fn scope(names: &[&str]) -> Scope {
    Scope::of(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn candidate(names: &[&str], holder: &str) -> Candidate {
    Candidate { scope: scope(names), holder: holder.to_owned(), lease_seconds: LEASE, view_address: None }
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_second(n).unwrap()
}

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

fn floor() -> Floor {
    Floor { recorded: 0, object_made: second(1_000) }
}

/// What a candidate that reads this for the first time decides, and again after each of these waits; the object does not change.
fn decisions(leadership: &Leadership, who: &Candidate, waits: &[u64]) -> Vec<Claim> {
    let (mut at, mut watched, mut all) = (start(), Watched::default(), Vec::new());
    for wait in [0].iter().chain(waits) {
        at += Duration::from_secs(*wait);
        watched.observe("o", leadership, at);
        all.push(claim(leadership, &watched, who, floor(), second(2_000), at));
    }
    all
}

fn led_by(names: &[&str], holder: &str) -> (Leadership, i64) {
    match decisions(&Leadership::default(), &candidate(names, holder), &[]).pop() {
        Some(Claim::Write { next, fence }) => (next, fence),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_free_scope_is_claimed_at_once_beside_those_of_others() {
    let (one, first) = led_by(&["a"], "one");
    let Some(Claim::Write { next, fence }) = decisions(&one, &candidate(&["b", "c"], "two"), &[]).pop() else {
        panic!("b and c are free");
    };
    assert!(fence > first);
    assert_eq!(next.counter, fence);
    assert_eq!(next.terms.iter().map(|term| term.holder.as_str()).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_replica_of_the_same_scope_stands_by_until_the_lease_was_seen_unchanged() {
    let (one, _) = led_by(&["a"], "one");
    let decided = decisions(&one, &candidate(&["a"], "two"), &[LEASE - 1, 1]);
    assert!(matches!(&decided[..], [Claim::StandBy(_), Claim::StandBy(_), Claim::Write { .. }]), "{decided:?}");
}

#[test]
fn an_overlapping_scope_is_refused_once_its_leader_was_seen_alive() {
    let (one, fence) = led_by(&["a", "b"], "one");
    let (mut watched, at) = (Watched::default(), start());
    let two = candidate(&["b", "c"], "two");
    watched.observe("o", &one, at);
    let first = claim(&one, &watched, &two, floor(), second(2_000), at);
    assert!(matches!(first, Claim::Wait(_)), "it may be dead: {first:?}");
    let renewed = renew(&one, &watched, (fence, "one"), second(2_001), at).unwrap();
    watched.observe("o", &renewed, at);
    for who in [two, candidate(&[], "all")] {
        let decided = claim(&renewed, &watched, &who, floor(), second(2_002), at);
        assert!(matches!(&decided, Claim::Refuse(term) if term.holder == "one"), "{decided:?}");
    }
}

#[test]
fn an_overlapping_scope_whose_leader_died_is_taken_after_its_lease() {
    let (one, _) = led_by(&[], "one");
    let decided = decisions(&one, &candidate(&["a"], "two"), &[LEASE - 1, 1]);
    assert!(matches!(&decided[..], [Claim::Wait(_), Claim::Wait(_), Claim::Write { .. }]), "{decided:?}");
    let Some(Claim::Write { next, .. }) = decided.last() else { panic!() };
    assert_eq!(next.terms.len(), 1, "the dead one's term is gone");
}

#[test]
fn a_fence_is_above_the_object_the_store_and_the_time_the_object_was_made() {
    let fence = |counter: i64, recorded: i64, made: i64| {
        let (leadership, at) = (Leadership { counter, terms: Vec::new() }, start());
        let floor = Floor { recorded, object_made: second(made) };
        match claim(&leadership, &Watched::default(), &candidate(&[], "one"), floor, second(5), at) {
            Claim::Write { fence, next } => {
                assert_eq!(next.counter, fence);
                fence
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fence(90, 50, 70), 91);
    assert_eq!(fence(40, 50, 30), 51, "etcd is an old one: the store knows better");
    assert_eq!(
        fence(0, 50, 70),
        71,
        "installed again with another store: the object is younger than every fence before it"
    );
}

#[test]
fn a_term_that_is_no_longer_there_is_lost_and_its_successor_is_known() {
    let (one, fence) = led_by(&["a"], "one");
    let Some(Claim::Write { next, .. }) = decisions(&one, &candidate(&["a"], "two"), &[LEASE]).pop() else { panic!() };
    assert_eq!(renew(&next, &Watched::default(), (fence, "one"), second(3_000), start()), None);
    assert_eq!(successor(&next, &scope(&["a"])).unwrap().holder, "two");
    assert_eq!(release(&next, "one"), None, "nothing of another is given back");
}

#[test]
fn a_scope_that_was_given_back_is_claimed_at_once() {
    let (one, _) = led_by(&["a"], "one");
    let free = release(&one, "one").unwrap();
    assert_eq!(free.counter, one.counter);
    assert!(matches!(&decisions(&free, &candidate(&[], "two"), &[])[..], [Claim::Write { .. }]));
}

#[test]
fn a_leader_whose_object_was_deleted_still_leads_for_a_lease() {
    let (one, _) = led_by(&["a"], "one");
    let (mut watched, at) = (Watched::default(), start());
    let two = candidate(&["a"], "two");
    watched.observe("old", &one, at);
    let empty = Leadership::default();
    for (wait, waits) in [(0, true), (LEASE - 1, true), (LEASE, false)] {
        let at = at + Duration::from_secs(wait);
        watched.observe("new", &empty, at);
        let decided = claim(&empty, &watched, &two, floor(), second(2_000), at);
        assert_eq!(matches!(decided, Claim::StandBy(_)), waits, "after {wait} s: {decided:?}");
    }
}

#[test]
fn a_term_that_nobody_renews_for_long_is_left_out() {
    let (one, _) = led_by(&["a"], "one");
    let Some(Claim::Write { next, fence }) = decisions(&one, &candidate(&["b"], "two"), &[]).pop() else { panic!() };
    let (mut watched, at) = (Watched::default(), start());
    watched.observe("o", &next, at);
    for (wait, terms) in [(LEASE * 9, 2), (LEASE * 10, 1)] {
        let renewed = renew(&next, &watched, (fence, "two"), second(2_000), at + Duration::from_secs(wait)).unwrap();
        assert_eq!(renewed.terms.len(), terms, "after {wait} s");
    }
}

#[test]
fn a_counter_that_was_set_back_by_hand_gives_no_fence_and_ends_no_term_twice() {
    let (one, fence) = led_by(&["a"], "one");
    let (mut watched, at) = (Watched::default(), start());
    let two = candidate(&["a"], "two");
    watched.observe("o", &one, at);
    let emptied = Leadership::default();
    watched.observe("o", &emptied, at);
    let decided = claim(&emptied, &watched, &two, floor(), second(2_000), at);
    assert!(matches!(decided, Claim::StandBy(_)), "the term that was there runs on: {decided:?}");
    let later = at + Duration::from_secs(LEASE);
    watched.observe("o", &emptied, later);
    match claim(&emptied, &watched, &two, floor(), second(2_000), later) {
        Claim::Write { fence: next, .. } => assert!(next > fence),
        other => panic!("{other:?}"),
    }
    // One that did not see it gives the same fence again: that is no term of the first one's.
    let (theirs, same) = led_by(&["a"], "three");
    assert_eq!(same, fence);
    assert_eq!(renew(&theirs, &Watched::default(), (fence, "one"), second(3_000), at), None);
}

/// The shared object as the API server keeps it.
#[derive(Clone, Debug, Default)]
struct Object {
    uid: u32,
    version: u64,
    made: i64,
    leadership: Leadership,
}

/// One operator, which has read the object at some version and may write on that alone.
struct Process {
    candidate: Candidate,
    watched: Watched,
    read: Object,
    /// Its fence, and until when its gate is open.
    term: Option<(i64, Instant)>,
}

impl Process {
    /// The `life`-th one that was started in this place.
    fn new(place: usize, life: usize) -> Self {
        let candidate = candidate(SCOPES[place], &format!("{place}-{life}"));
        Self { candidate, watched: Watched::default(), read: Object::default(), term: None }
    }

    fn leads(&self, at: Instant) -> bool {
        self.term.is_some_and(|(_, until)| at < until)
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// It reads, and remembers what it read.
    Read(usize),
    /// It decides on what it read last, and writes if nobody wrote since. True: the answer is lost.
    Write(usize, bool),
    GiveBack(usize),
    /// `kill -9`, and started again.
    Kill(usize),
    /// The object is deleted; it is made again at once.
    Delete,
}

/// Scopes of the operators of one history; each of them overlaps with some other one.
const SCOPES: [&[&str]; 6] = [&["a"], &["a"], &["a", "b"], &["b", "c"], &["c"], &[]];

fn events(deletions: bool) -> impl Strategy<Value = Vec<(u64, Event)>> {
    let who = 0..SCOPES.len();
    let event = prop_oneof![
        8 => who.clone().prop_map(Event::Read),
        8 => (who.clone(), prop::bool::weighted(0.1)).prop_map(|(who, lost)| Event::Write(who, lost)),
        1 => who.clone().prop_map(Event::GiveBack),
        1 => who.prop_map(Event::Kill),
        u32::from(deletions) => Just(Event::Delete),
    ];
    prop::collection::vec((0..=STEP_MAX, event), 1..200)
}

/// What the processes share.
struct World {
    object: Object,
    fences: Vec<i64>,
}

impl World {
    /// Compare-and-swap.
    fn swap(&mut self, read: &Object, next: Leadership) -> bool {
        let same = (read.uid, read.version) == (self.object.uid, self.object.version);
        if same {
            self.object.version += 1;
            self.object.leadership = next;
        }
        same
    }

    fn write(&mut self, process: &mut Process, lost: bool, clock: i64, at: Instant) {
        let read = process.read.clone();
        // A process that never read has nothing to write on.
        if read.uid == 0 {
            return;
        }
        let until = at + Duration::from_secs(LEASE);
        if let Some((fence, _)) = process.term {
            let Some(next) =
                renew(&read.leadership, &process.watched, (fence, &process.candidate.holder), second(clock), at)
            else {
                process.term = None;
                return;
            };
            if self.swap(&read, next) && !lost {
                process.term = Some((fence, until));
            }
            return;
        }
        let floor = Floor { recorded: 0, object_made: second(read.made) };
        let decided = claim(&read.leadership, &process.watched, &process.candidate, floor, second(clock), at);
        if let Claim::Write { next, fence } = decided
            && self.swap(&read, next)
        {
            assert!(self.fences.iter().all(|before| *before < fence), "{fence} after {:?}", self.fences);
            self.fences.push(fence);
            process.term = (!lost).then_some((fence, until));
        }
    }
}

fn play(history: Vec<(u64, Event)>) {
    let mut at = start();
    let mut clock = 1_000_i64;
    let mut lives = 0;
    let object = Object { uid: 1, version: 1, made: clock, leadership: Leadership::default() };
    let mut world = World { object, fences: Vec::new() };
    let mut processes: Vec<Process> = (0..SCOPES.len()).map(|place| Process::new(place, 0)).collect();
    let deletions = history.iter().any(|(_, event)| matches!(event, Event::Delete));
    for (wait, event) in history {
        at += Duration::from_secs(wait);
        clock += i64::try_from(wait).unwrap();
        match event {
            Event::Read(who) => {
                let process = &mut processes[who];
                process.read = world.object.clone();
                process.watched.observe(&world.object.uid.to_string(), &world.object.leadership, at);
            }
            Event::Write(who, lost) => world.write(&mut processes[who], lost, clock, at),
            Event::GiveBack(who) => {
                let process = &mut processes[who];
                // The gate shuts first, whatever comes of the write.
                process.term = None;
                if let Some(next) = release(&process.read.leadership, &process.candidate.holder) {
                    world.swap(&process.read.clone(), next);
                }
            }
            Event::Kill(who) => {
                lives += 1;
                processes[who] = Process::new(who, lives);
            }
            Event::Delete => {
                // More claims than seconds are not made.
                clock += i64::try_from(world.fences.len()).unwrap() + 1;
                world.object = Object { uid: world.object.uid + 1, version: 1, made: clock, ..Object::default() };
            }
        }
        // Who starts just after somebody deleted the object can't know of the one who leads; hosts tell them apart by their fences.
        if deletions {
            continue;
        }
        let leading: Vec<&Process> = processes.iter().filter(|process| process.leads(at)).collect();
        for (n, one) in leading.iter().enumerate() {
            for other in &leading[n + 1..] {
                let (these, those) = (&one.candidate, &other.candidate);
                assert!(!these.scope.overlaps(&those.scope), "{these:?} and {those:?} lead at once");
            }
        }
    }
}

proptest! {
    #[test]
    fn two_operators_never_lead_one_namespace_and_fences_only_rise(history in events(false)) {
        play(history);
    }

    #[test]
    fn fences_rise_also_where_the_object_is_deleted_again_and_again(history in events(true)) {
        play(history);
    }
}
