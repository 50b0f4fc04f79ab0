//! The intent is missing from the status, and a host that may be in its update does not answer.

use super::Hold;
use crate::plan::deployment::view::View;

pub fn unreadable(view: &View<'_>) -> Option<Hold> {
    (!view.possibly_updating().is_empty()).then_some(Hold::StatusUnreadable)
}
