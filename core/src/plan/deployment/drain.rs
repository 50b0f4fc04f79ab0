//! How what serves on a host is taken out of service before it is stopped, by an update or for good, and when that is left out.

use super::{
    host_state::last_good,
    observed::{HostObserved, Observed},
    rollout::RolloutChange,
    target::Target,
    view::{HostView, View},
};
use crate::{
    api::{Reason, conditions::clip, deployment::DeploymentStatus, project::Drain, verbs},
    model::rollout::HostFailure,
};

/// Bytes of a reason that are kept.
const REASON_BYTES: usize = 200;

/// The drain of the version that serves there. One that is not ready is out of service already, and might not answer its drain.
pub(super) fn of_running(observed: &Observed, host: &HostObserved, target: Option<&Target>) -> Option<Box<Drain>> {
    let serves = host.is_serving();
    last_good(observed, host, target).filter(|_| serves)?.run.drain.map(Box::new)
}

/// Why hosts whose drain failed are updated without it in this attempt, as the status has it.
pub(super) fn skip_on_record(before: &DeploymentStatus) -> Option<String> {
    before.rollout.as_ref()?.intent.as_ref()?.skip_drain.clone()
}

/// The same of the attempt that is decided on: a retry takes what a person asked for since the last one, and nothing else has it.
pub(super) fn skip(observed: &Observed, change: RolloutChange) -> Option<String> {
    let before = observed.before();
    match change {
        RolloutChange::Same => skip_on_record(before),
        RolloutChange::Retry => skip_asked(observed).map(|reason| clip(reason, REASON_BYTES)),
        RolloutChange::Started(_) => None,
    }
}

/// What a person asked for since the last retry.
pub(super) fn skip_asked(observed: &Observed) -> Option<&str> {
    let handled = &observed.before().last_handled;
    verbs::asked(verbs::SKIP_DRAIN, &observed.annotations, handled, observed.is_first_decision())
}

/// Why this host is updated without its drain, where it is: a person asked for it, and that failed in an earlier attempt.
pub(super) fn skipped(view: &View<'_>, host: &HostView<'_>) -> Option<String> {
    let active = view.rollout.as_ref()?;
    let reason = active.skip_drain.as_ref()?;
    let is_it = |failure: &&HostFailure| {
        failure.host == host.name
            && failure.rollout == active.rollout.id
            && failure.attempt < active.rollout.attempt
            && failure.reason == Reason::DrainFailed
    };
    view.observed.failures.iter().any(|failure| is_it(&failure)).then(|| reason.clone())
}
