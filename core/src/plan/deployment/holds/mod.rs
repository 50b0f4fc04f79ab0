//! Causes that hold a rollout: no update begins during a hold. One small function per cause; the first hit wins.
//! A hold never stops an update that has begun, nor healing.

mod aborted;
mod batch_pause;
mod canary;
mod failures;
mod hold;
mod paused;
mod too_few_available;
mod unmet;
mod unreadable;

pub use self::{
    failures::{is_still_failed, too_many_failed},
    hold::Hold,
};
use super::view::View;

/// In the order in which they are reported.
const HOLDS: [fn(&View<'_>) -> Option<Hold>; 9] = [
    aborted::aborted,
    paused::paused,
    unmet::unmet,
    unreadable::unreadable,
    failures::too_many,
    failures::still_failed,
    canary::canary,
    batch_pause::batch_pause,
    too_few_available::too_few_available,
];

/// The first cause that holds this rollout, if any.
pub fn first(view: &View<'_>) -> Option<Hold> {
    HOLDS.iter().find_map(|hold| hold(view))
}
