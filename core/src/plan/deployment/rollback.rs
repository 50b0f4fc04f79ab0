//! `onFailure: RollBack`: a rollout in which too many hosts failed is taken back to the stable revision, by a revision of its own. It leaves
//! `wantedHash` alone, so that the next look does not undo it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    abort, claim::next_revision, observed::Observed, pause, records::failures_of, stable, targets::Targets,
    value::ValueSeen,
};
use crate::{
    api::{
        deployment::{DeploymentStatus, OnFailure, ReturnedFrom, Rollout, RolloutOutcome},
        verbs,
    },
    model::{
        keyed::KeyedHash,
        rollout::{HostFailure, RolloutId, RolloutRecord},
    },
    plan::{NEW_VALUE, count_hosts},
};

/// Hosts whose cause a message has.
const CAUSES: usize = 3;

/// What the rollout on record returned from, where it is a return.
pub(super) fn on_record(before: &DeploymentStatus) -> Option<&ReturnedFrom> {
    before.intent()?.returned_from.as_ref()
}

/// The record of the return that begins now: too many hosts failed in this attempt of the rollout on record, whose record this is, and something
/// else was ready everywhere before.
pub(super) fn due(
    observed: &Observed,
    targets: &Targets<'_>,
    rollout: &Rollout,
    record: &RolloutRecord,
    now: Timestamp,
) -> Option<RolloutRecord> {
    let before = observed.before();
    let is_held = pause::is_paused(observed) || abort::on_record(before) || abort::is_asked(observed, rollout);
    let is_wanted = observed.spec.strategy.on_failure == OnFailure::RollBack && !is_held;
    if !is_wanted
        || record.returned_from.is_some()
        || stable::is_of(before, record)
        || !has_failed(observed, targets, rollout)
    {
        return None;
    }
    let from = ReturnedFrom { revision: record.revision, hash: record.hash.clone(), version: record.version.clone() };
    self::record(observed, next_revision(observed), now, from)
}

/// The record of a return: what the stable revision has. `None` where that is not in the store.
pub(super) fn record(
    observed: &Observed,
    revision: i64,
    started_at: Timestamp,
    from: ReturnedFrom,
) -> Option<RolloutRecord> {
    let stable = stable::on_record(observed.before())?;
    let record = observed.records.iter().find(|record| record.revision == stable.revision)?;
    // A value that was changed since is the one that hosts get.
    let value = |(place, hash): (&String, &KeyedHash)| match observed.values.get(place) {
        Some(ValueSeen::Hash(seen)) => (place.clone(), seen.clone()),
        Some(ValueSeen::Missing(_)) | None => (place.clone(), hash.clone()),
    };
    let values = record.values.iter().map(value).collect();
    Some(RolloutRecord { revision, started_at, values, returned_from: Some(from), ..record.clone() })
}

/// More hosts in service than `maxFailures`, or one of a canary that is not promoted.
fn has_failed(observed: &Observed, targets: &Targets<'_>, rollout: &Rollout) -> bool {
    let in_service: BTreeSet<&str> = targets.hosts.iter().map(|host| host.name.as_str()).collect();
    let failed = failures_of(observed, &rollout.id, rollout.attempt).map(|one| one.host.as_str());
    let failed: BTreeSet<&str> = failed.filter(|host| in_service.contains(host)).collect();
    let allowed = usize::try_from(observed.spec.strategy.max_failures).unwrap_or(0);
    let intent = observed.before().intent();
    let canary = intent.and_then(|intent| intent.canary.as_ref()).filter(|canary| !canary.promoted);
    let is_wanted = observed.spec.strategy.canary.is_some();
    let of_canary =
        |host: &&str| is_wanted && canary.is_some_and(|canary| canary.hosts.iter().any(|name| name == host));
    failed.len() > allowed || failed.iter().any(of_canary)
}

/// A person asks for the version of the spec once more, after it was taken back: the return is over, or a redeploy does not wait for that.
pub(super) fn is_asked_again(observed: &Observed) -> bool {
    let before = observed.before();
    let asked =
        |verb| verbs::asked(verb, &observed.annotations, &before.last_handled, observed.is_first_decision()).is_some();
    let is_over = before.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Succeeded);
    on_record(before).is_some() && (asked(verbs::REDEPLOY) || asked(verbs::RETRY) && is_over)
}

/// The command that deploys again, behind these words; in a return what it would begin. `record`: of the rollout under way.
pub(super) fn redeploy_command(observed: &Observed, record: Option<&RolloutRecord>, words: &str) -> String {
    let command = observed.verb_command(verbs::REDEPLOY, NEW_VALUE);
    match record.and_then(|record| record.returned_from.as_ref()) {
        Some(from) => format!("To begin {} again, which was taken back: {command}", from.version),
        None => format!("{words}: {command}"),
    }
}

/// What failed, for messages: the version, and the first hosts as far as the store knows them, of its last attempt, with their causes.
pub(super) fn failed(observed: &Observed, from: &ReturnedFrom) -> String {
    let attempt = |failure: &HostFailure| Some((RolloutId::read(&failure.rollout)?, failure.attempt));
    let attempts = observed.failures.iter().filter_map(attempt).filter(|(id, _)| id.revision == from.revision);
    let last = attempts.max();
    let of_last = observed.failures.iter().filter(|failure| last.is_some() && attempt(failure) == last);
    let hosts: BTreeMap<&str, &HostFailure> = of_last.map(|failure| (failure.host.as_str(), failure)).collect();
    let cause = |(host, failure): (&&str, &&HostFailure)| format!("{host}: {} ({})", failure.reason, failure.message);
    let causes: Vec<String> = hosts.iter().take(CAUSES).map(cause).collect();
    match hosts.len() {
        0 => format!("{} failed", from.version),
        n => format!("{} failed on {} ({})", from.version, count_hosts(n), causes.join("; ")),
    }
}
