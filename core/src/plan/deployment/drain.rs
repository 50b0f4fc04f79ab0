//! How what serves on a host is taken out of service before it is stopped, by an update or for good, and when that is left out.

use super::{
    host_state::last_good,
    observed::{HostObserved, Observed},
    target::Target,
    view::{HostView, View},
};
use crate::{
    api::{Reason, project::Drain},
    model::rollout::HostFailure,
};

/// The drain of the version that serves there. One that is not ready is out of service already, and might not answer its drain.
pub(super) fn of_running(observed: &Observed, host: &HostObserved, target: Option<&Target>) -> Option<Box<Drain>> {
    let serves = host.is_serving();
    last_good(observed, host, target).filter(|_| serves)?.run.drain.map(Box::new)
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
