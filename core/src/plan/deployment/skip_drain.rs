//! The verb `landfall.dev/skip-drain`: what a person asked for, and what is on record of it.

use super::{
    action::{Action, Assignment},
    observed::Observed,
    steps::Goal,
};
use crate::{
    api::{Reason, conditions::clip, deployment::DeploymentStatus, verbs},
    model::rollout::HostFailure,
};

/// Bytes of a reason that are kept.
const REASON_BYTES: usize = 200;

/// Why hosts whose drain failed are updated without it in this attempt, as the status has it.
pub(super) fn on_record(before: &DeploymentStatus) -> Option<String> {
    before.intent()?.skip_drain.clone()
}

/// Why what runs on a host that is given up is stopped without its drain, where it is: a person asked for it, and that failed there.
pub(super) fn of_given_up(observed: &Observed, host: &str) -> Option<String> {
    let tries = observed.host(host).tries.as_ref().filter(|tries| tries.drain_failed)?;
    tries.skipped_drain.clone().or_else(|| asked(observed))
}

/// Whether what a person asked for is used by these for hosts that are given up, and for nothing else: a retry may still be for updates whose
/// drain failed.
pub(super) fn is_used(observed: &Observed, actions: &[Action]) -> bool {
    let uses = |action: &Action| match action {
        Action::Assign(Assignment { host, goal: Goal::Remove { skipped_drain: Some(_), .. }, .. }) => {
            observed.host(host).tries.as_ref().is_some_and(|tries| tries.skipped_drain.is_none())
        }
        _ => false,
    };
    let rollout = observed.before().rollout.as_ref();
    let may_be_retried = |failure: &HostFailure| {
        failure.reason == Reason::DrainFailed && rollout.is_some_and(|rollout| rollout.id == failure.rollout)
    };
    let waits_for_retry = observed.deleted.is_none() && observed.failures.iter().any(may_be_retried);
    actions.iter().any(uses) && !waits_for_retry
}

/// What a person asked for since the last retry, for the next one.
pub(super) fn asked(observed: &Observed) -> Option<String> {
    let handled = &observed.before().last_handled;
    let asked = verbs::asked(verbs::SKIP_DRAIN, &observed.annotations, handled, observed.is_first_decision());
    asked.map(|reason| clip(reason, REASON_BYTES))
}
