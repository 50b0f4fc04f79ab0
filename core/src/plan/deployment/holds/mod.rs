//! What holds a rollout back: no host is given the version while a hold stands. One small function per cause; the first hit wins.
//! A hold never stops an update that has begun, nor healing.

mod failures;
mod paused;
mod unmet;
mod unreadable;

pub use self::failures::{is_still_failed, too_many_failed};
use super::view::View;

/// A cause that keeps the rollout waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// `spec.paused`.
    Paused,
    /// Something that the spec names does not exist, or can't be had.
    Unmet,
    /// Nobody can tell which updates were begun.
    StatusUnreadable,
    /// More hosts failed than `maxFailures`.
    TooManyFailed,
    /// The rollout ended as Failed; only a retry goes on.
    StillFailed,
}

/// In the order in which people are told of them.
const HOLDS: [fn(&View<'_>) -> Option<Hold>; 5] =
    [paused::paused, unmet::unmet, unreadable::unreadable, failures::too_many, failures::still_failed];

/// The first cause that holds this rollout, if any.
pub fn first(view: &View<'_>) -> Option<Hold> {
    HOLDS.iter().find_map(|hold| hold(view))
}
