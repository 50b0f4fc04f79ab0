//! The spec can't be met: what it names does not exist (yet), or belongs to another Deployment.

use super::Hold;
use crate::plan::deployment::view::View;

pub(crate) fn unmet(view: &View<'_>) -> Option<Hold> {
    view.unmet.is_some().then_some(Hold::Unmet)
}
