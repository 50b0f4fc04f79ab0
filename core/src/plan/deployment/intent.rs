//! Intent on record: the updates that this operator, or one before it, has begun.

use std::collections::BTreeSet;

use super::{exceptions::EXCEPTIONS, observed::Observed};
use crate::api::{
    Reason,
    deployment::{DeploymentStatus, Phase, RedeploySerial, RolloutException, RolloutOutcome},
};
use crate::model::rollout::RolloutId;

/// Updates that were begun, as the status has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IntentOnRecord {
    /// `status.rollout.intent`: complete.
    Recorded { updating: BTreeSet<String>, failed: bool },
    /// An operator from before the intent wrote this status: the phases of its exceptions, which were cut at a hundred.
    Exceptions { updating: BTreeSet<String>, failed: bool, cut: bool },
    /// It can't be read: only the facts of hosts are known.
    Missing,
}

/// Redeploys on record. Earlier versions counted those of a revision in the rollout's id alone.
pub(crate) fn redeploys(before: &DeploymentStatus) -> Vec<RedeploySerial> {
    let Some(rollout) = before.rollout.as_ref() else { return Vec::new() };
    if let Some(intent) = &rollout.intent {
        return intent.redeploys.clone();
    }
    match RolloutId::read(&rollout.id) {
        Some(RolloutId { serial, .. }) if serial > 0 && before.wanted_hash.is_none() => {
            vec![RedeploySerial { hash: rollout.hash.clone(), serial }]
        }
        _ => Vec::new(),
    }
}

pub(crate) fn ended_failed(before: &DeploymentStatus) -> bool {
    let intent = before.intent();
    let in_history = || before.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Failed);
    intent.map_or_else(in_history, |intent| intent.failed)
}

/// Intent on record, complete and empty before the first rollout.
pub(crate) fn intent_on_record_of(observed: &Observed) -> IntentOnRecord {
    let before = observed.before();
    let nothing_begun = before.rollout.is_absent() && before.wanted_hash.is_none() && observed.records.is_empty();
    match nothing_begun {
        true => IntentOnRecord::Recorded { updating: BTreeSet::new(), failed: false },
        false => intent_on_record(before),
    }
}

pub(crate) fn intent_on_record(before: &DeploymentStatus) -> IntentOnRecord {
    let Some(rollout) = before.rollout.as_ref() else { return IntentOnRecord::Missing };
    if let Some(intent) = &rollout.intent {
        return IntentOnRecord::Recorded { updating: intent.updating.iter().cloned().collect(), failed: intent.failed };
    }
    if before.wanted_hash.is_some() {
        return IntentOnRecord::Missing;
    }
    let updating = before.exceptions.iter().filter(|exception| was_updating(exception));
    IntentOnRecord::Exceptions {
        updating: updating.map(|exception| exception.host.clone()).collect(),
        failed: ended_failed(before),
        cut: before.exceptions.len() >= EXCEPTIONS,
    }
}

fn was_updating(exception: &RolloutException) -> bool {
    let updating = matches!(exception.phase, Phase::Stopping | Phase::Switching | Phase::Starting | Phase::Verifying);
    updating && exception.reason != Reason::Healing.as_str()
}
