//! The verb `landfall.dev/skip-drain`: what a person asked for, and what is on record of it.

use super::observed::Observed;
use crate::api::{conditions::clip, deployment::DeploymentStatus, verbs};

/// Bytes of a reason that are kept.
const REASON_BYTES: usize = 200;

/// Why hosts whose drain failed are updated without it in this attempt, as the status has it.
pub(super) fn on_record(before: &DeploymentStatus) -> Option<String> {
    before.rollout.as_ref()?.intent.as_ref()?.skip_drain.clone()
}

/// Why what runs on a host that is given up is stopped without its drain, where it is: a person asked for it, and that failed there.
pub(super) fn of_given_up(observed: &Observed, host: &str) -> Option<String> {
    let failed = observed.host(host).tries.as_ref().is_some_and(|tries| tries.drain_failed);
    failed.then(|| asked(observed).or_else(|| on_record(observed.before())))?
}

/// What a person asked for since the last retry, for the next one.
pub(super) fn asked(observed: &Observed) -> Option<String> {
    let handled = &observed.before().last_handled;
    let asked = verbs::asked(verbs::SKIP_DRAIN, &observed.annotations, handled, observed.is_first_decision());
    asked.map(|reason| clip(reason, REASON_BYTES))
}
