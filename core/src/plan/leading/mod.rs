//! Who may lead a scope: the decision of one operator, from what the shared object says and from how long it has seen that unchanged. Each answer
//! that is to be written is written by compare-and-swap, so of two that decide at once one decides again. It must not read a clock, and
//! never compares with the clock of another machine.

mod watched;

#[cfg(test)]
mod tests;

use std::time::Instant;

use jiff::Timestamp;

pub use self::watched::Watched;
use crate::model::leading::{Leadership, Scope, Term};

/// An operator that wants to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub scope: Scope,
    /// Its identity; no other process has it.
    pub holder: String,
    /// How long its term lasts without being renewed.
    pub lease_seconds: u64,
    pub view_address: Option<String>,
}

/// What a fence must be above, beside the object's own counter: so it never goes back, also where the object or all of etcd is an old one or
/// a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The highest fence on record in the store; 0 where there is none.
    pub recorded: i64,
    /// When the object was made, by the API server's clock.
    pub object_made: Timestamp,
}

/// What comes of a try to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// To be written; once it is, this operator leads with that fence.
    Write { next: Leadership, fence: i64 },
    /// Another operator of this very scope leads. This one is its stand-by.
    StandBy(Term),
    /// A term of another scope is in the way, and its holder has not been seen alive: it may be over soon.
    Wait(Term),
    /// A living operator leads a part of this scope, and always will: no wait ends that.
    Refuse(Term),
}

/// Whether this candidate may lead. `watched` has seen the leadership at `at`; `now` is for people.
pub fn claim(
    leadership: &Leadership,
    watched: &Watched,
    candidate: &Candidate,
    floor: Floor,
    now: Timestamp,
    at: Instant,
) -> Claim {
    let in_the_way = || {
        watched.running(at).filter(|(term, _)| term.holder != candidate.holder && term.scope.overlaps(&candidate.scope))
    };
    if let Some((term, _)) = in_the_way().find(|(term, is_alive)| *is_alive && term.scope != candidate.scope) {
        return Claim::Refuse(term.clone());
    }
    if let Some((term, _)) = in_the_way().next() {
        return match term.scope == candidate.scope {
            true => Claim::StandBy(term.clone()),
            false => Claim::Wait(term.clone()),
        };
    }
    let fence = [leadership.counter, watched.highest(), floor.recorded, floor.object_made.as_second()]
        .into_iter()
        .fold(0, i64::max)
        .saturating_add(1);
    let Candidate { scope, holder, lease_seconds, view_address } = candidate.clone();
    let term = Term { scope, holder, since: now, renewed: now, renewals: 0, lease_seconds, fence, view_address };
    let others = leadership.terms.iter().filter(|other| !other.scope.overlaps(&candidate.scope));
    let terms = others.cloned().chain([term]).collect();
    Claim::Write { next: Leadership { counter: fence, terms }, fence }
}

/// The term of this holder with this fence, renewed; `None`: it is not there any longer. Terms of others that nobody has renewed for long are left
/// out.
pub fn renew(
    leadership: &Leadership,
    watched: &Watched,
    (fence, holder): (i64, &str),
    now: Timestamp,
    at: Instant,
) -> Option<Leadership> {
    let mut next = leadership.clone();
    let is_own = |term: &Term| term.fence == fence && term.holder == holder;
    next.terms.retain(|term| is_own(term) || !watched.is_abandoned(term, at));
    let own = next.terms.iter_mut().find(|term| is_own(term))?;
    own.renewals = own.renewals.saturating_add(1);
    own.renewed = now;
    Some(next)
}

/// Without the term of this holder; `None` where it is not there.
pub fn release(leadership: &Leadership, holder: &str) -> Option<Leadership> {
    let mut next = leadership.clone();
    next.terms.retain(|term| term.holder != holder);
    (next.terms.len() < leadership.terms.len()).then_some(next)
}

/// Who leads instead, where a term was lost.
pub fn successor<'a>(leadership: &'a Leadership, scope: &Scope) -> Option<&'a Term> {
    leadership.terms.iter().find(|term| term.scope.overlaps(scope))
}
