//! The verb `landfall.dev/skip-drain`: what a person asked for, and what is on record of it.

use super::observed::Observed;
use crate::api::{conditions::clip, deployment::DeploymentStatus, verbs};

/// Bytes of a reason that are kept.
const REASON_BYTES: usize = 200;

/// Why hosts whose drain failed are updated without it in this attempt, as the status has it.
pub(super) fn on_record(before: &DeploymentStatus) -> Option<String> {
    before.rollout.as_ref()?.intent.as_ref()?.skip_drain.clone()
}

/// What a person asked for since the last retry, for the next one.
pub(super) fn asked(observed: &Observed) -> Option<String> {
    let handled = &observed.before().last_handled;
    let asked = verbs::asked(verbs::SKIP_DRAIN, &observed.annotations, handled, observed.is_first_decision());
    asked.map(|reason| clip(reason, REASON_BYTES))
}
