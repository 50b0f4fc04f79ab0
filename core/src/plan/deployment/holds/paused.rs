//! The rollout is paused by `spec.paused`.

use super::Hold;
use crate::plan::deployment::view::View;

pub fn paused(view: &View<'_>) -> Option<Hold> {
    view.observed.spec.paused.then_some(Hold::Paused)
}
