//! The pause between two batches.

use super::Hold;
use crate::plan::{
    deployment::{strategy::rolling, view::View},
    min_available::Room,
};

pub(crate) fn batch_pause(view: &View<'_>) -> Option<Hold> {
    let waits = || !rolling::may_begin(view, &[], &mut Room::unlimited()).is_empty();
    (view.batch_end.until.is_some() && waits()).then_some(Hold::BatchPause)
}
