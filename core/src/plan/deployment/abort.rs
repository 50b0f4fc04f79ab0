//! The verb `landfall.dev/abort`: what a person asked for, and what is on record of it.

use super::{observed::Observed, stamp::Stamp};
use crate::api::{
    deployment::{DeploymentStatus, Rollout, RolloutOutcome},
    verbs,
};

/// Whether the rollout on record was aborted.
pub(super) fn on_record(before: &DeploymentStatus) -> bool {
    let intent = before.intent();
    intent.is_some_and(|intent| intent.aborted)
}

/// Whether a person asks for it now, of a rollout that has not ended.
pub(super) fn is_asked(observed: &Observed, rollout: &Rollout) -> bool {
    let progresses = observed.before().history.first().is_none_or(|entry| entry.outcome == RolloutOutcome::Progressing);
    progresses && Stamp::of(observed, verbs::ABORT, rollout) == Stamp::Fits
}
