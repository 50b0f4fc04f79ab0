//! The rollout is paused.

use super::Hold;
use crate::plan::deployment::{pause, view::View};

pub fn paused(view: &View<'_>) -> Option<Hold> {
    pause::is_paused(view.observed).then_some(Hold::Paused)
}
