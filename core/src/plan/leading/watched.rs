//! What one operator saw of the terms, by its own monotonic clock: a term is over when it was seen unchanged for as long as it lasts. Times
//! that others wrote count for nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::leading::{Leadership, Term};

/// After that many leases without a renewal a term is nobody's.
const ABANDONED_AFTER: u32 = 10;

/// Terms by their fences and holders: where a counter was set back by hand, two may have one fence.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    terms: BTreeMap<(i64, String), Seen>,
    /// The highest counter that was seen.
    highest: i64,
}

#[derive(Clone, Debug)]
struct Seen {
    term: Term,
    /// Uid of the object it stands in; empty where it stands in none any longer.
    object: String,
    /// When it was first seen as it is now.
    since: Instant,
    /// It was renewed before our eyes.
    is_alive: bool,
}

impl Watched {
    /// The object is as it was read at `at`.
    pub fn observe(&mut self, object: &str, leadership: &Leadership, at: Instant) {
        let before = std::mem::take(&mut self.terms);
        for term in &leadership.terms {
            let known = before.get(&key(term));
            let changed = known.is_none_or(|known| known.term.renewals != term.renewals);
            let (since, is_alive) = match known {
                Some(known) if !changed => (known.since, known.is_alive),
                _ => (at, known.is_some()),
            };
            self.terms.insert(key(term), Seen { term: term.clone(), object: object.to_owned(), since, is_alive });
        }
        // Another object took the place of the one that they stood in, or an older state of it: that ends nobody's term.
        let is_older = leadership.counter < self.highest;
        self.highest = self.highest.max(leadership.counter);
        for (key, seen) in before.into_iter().filter(|(_, seen)| !seen.is_over(at, 1)) {
            if is_older || seen.object != object {
                self.terms.entry(key).or_insert(Seen { object: String::new(), ..seen });
            }
        }
    }

    /// The highest counter that was seen.
    pub(super) fn highest(&self) -> i64 {
        self.highest
    }

    /// Terms that may still be somebody's, and whether their holders were seen alive.
    pub(super) fn running(&self, at: Instant) -> impl Iterator<Item = (&Term, bool)> {
        self.terms.values().filter(move |seen| !seen.is_over(at, 1)).map(|seen| (&seen.term, seen.is_alive))
    }

    /// Nobody has renewed it for many times its lease.
    pub(super) fn is_abandoned(&self, term: &Term, at: Instant) -> bool {
        self.terms.get(&key(term)).is_some_and(|seen| seen.is_over(at, ABANDONED_AFTER))
    }
}

fn key(term: &Term) -> (i64, String) {
    (term.fence, term.holder.clone())
}

impl Seen {
    fn is_over(&self, at: Instant, leases: u32) -> bool {
        at.saturating_duration_since(self.since) >= Duration::from_secs(self.term.lease_seconds).saturating_mul(leases)
    }
}
