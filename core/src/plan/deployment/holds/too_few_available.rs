//! `minAvailable` of the HostGroup leaves no room for a further update.

use super::Hold;
use crate::plan::deployment::{strategy::min_available, view::View};

pub(crate) fn too_few_available(view: &View<'_>) -> Option<Hold> {
    min_available::is_used_up(view).then_some(Hold::TooFewAvailable)
}
