//! A person ended the rollout where it was.

use super::Hold;
use crate::plan::deployment::view::View;

pub(crate) fn aborted(view: &View<'_>) -> Option<Hold> {
    view.rollout.as_ref().is_some_and(|active| active.aborted).then_some(Hold::Aborted)
}
