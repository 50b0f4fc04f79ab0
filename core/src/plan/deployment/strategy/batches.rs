//! The pause between two batches: with `rollingUpdate.pauseSeconds` the next one begins that long after the last open update has ended.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::plan::deployment::{
    batch_end::BatchEnd, host_state::HostState, intent::IntentOnRecord, rollout::RolloutChange, view::View,
};

/// Whether hosts are updated in batches: none begins while an update is open.
pub(crate) fn are_wanted(view: &View<'_>) -> bool {
    view.observed.spec.strategy.rolling_update.pause_seconds > 0
}

/// From the view as it was before anything was scheduled. A new version begins at once.
pub(crate) fn end(view: &View<'_>, now: Timestamp) -> BatchEnd {
    let Some(active) = view.rollout.as_ref().filter(|_| are_wanted(view)) else { return BatchEnd::default() };
    let is_open = |state: &HostState| matches!(state, HostState::Updating { .. } | HostState::Unknown);
    if matches!(active.change, RolloutChange::Started(_)) || view.number(is_open) > 0 {
        return BatchEnd::default();
    }
    let was_open = match &active.intent {
        IntentOnRecord::Recorded { updating, .. } => view.hosts.iter().any(|host| updating.contains(host.name)),
        IntentOnRecord::Exceptions { .. } | IntentOnRecord::Missing => false,
    };
    let intent = view.before.intent();
    let on_record = intent.and_then(|intent| intent.batch_ended_at.as_ref()).map(|Time(at)| *at);
    let at = if was_open { Some(now) } else { on_record };
    let pause = SignedDuration::from_secs(view.observed.spec.strategy.rolling_update.pause_seconds);
    let until = at.and_then(|at| at.checked_add(pause).ok()).filter(|until| *until > now);
    BatchEnd { at, until }
}
