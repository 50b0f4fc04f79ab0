//! Which rollout is under way: revision, serial and attempt, the record that says what it runs, and the intent that is on record.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    abort,
    claim::{REVISION_GAP_MAX, highest_on_hosts, known_revision, next_revision},
    intent::{IntentOnRecord, ended_failed, intent_on_record, intent_on_record_of, redeploys},
    observed::Observed,
    records::{any_failed, record},
    references::{hashes, references},
    requester, rollback, skip_drain,
    target::{Configured, Target, hash, hash_with_pins, is_hash_but_for_pins, is_hash_of, is_hash_with_pins},
    targets::Targets,
    value::effective_env,
};
use crate::model::rollout::RolloutId;
use crate::{
    api::{
        deployment::{DeploymentStatus, HistoryChange, RedeploySerial, Rollout},
        verbs,
    },
    model::{
        rollout::{PinnedHosts, RolloutRecord},
        version::VersionRecord,
    },
};

/// Redeploys on record: one for each digest and environment, the newest ones.
const REDEPLOYS: usize = 20;

/// The rollout that the next status names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ActiveRollout {
    pub rollout: Rollout,
    pub record: RolloutRecord,
    /// The store lacks the record.
    pub unrecorded: bool,
    pub change: RolloutChange,
    /// What is on record of what this operator, or one before it, has begun.
    pub intent: IntentOnRecord,
    /// Of the spec as decided on; `None` where it could not be resolved and never was.
    pub wanted_hash: Option<String>,
    pub redeploys: Vec<RedeploySerial>,
    /// Why a person has hosts whose drain failed updated without it in this attempt.
    pub skip_drain: Option<String>,
    /// A person ended it where it was.
    pub aborted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RolloutChange {
    Same,
    /// Another attempt of the same rollout.
    Retry,
    /// Another rollout id.
    Started(HistoryChange),
}

impl ActiveRollout {
    /// The target of hosts with this release: that of the rollout, or of a pin.
    pub fn target_of(&self, observed: &Observed, record: &RolloutRecord) -> Target {
        let ready = observed.spec.min_ready_seconds;
        let target = Target::new(observed, record, &self.rollout.id, self.rollout.attempt, ready);
        Target { redeploy_serial: redeploy_serial(&self.redeploys, record), ..target }
    }

    /// Whether the rollout had ended as Failed.
    pub(crate) fn had_failed(&self) -> bool {
        match &self.intent {
            IntentOnRecord::Recorded { failed, .. } | IntentOnRecord::Exceptions { failed, .. } => *failed,
            IntentOnRecord::Missing => false,
        }
    }
}

/// The rollout on record, where the spec can't be resolved just now: what is under way is finished with it.
pub(crate) fn on_record(observed: &Observed) -> Option<ActiveRollout> {
    let before = observed.before();
    let rollout = before.rollout.as_ref()?.clone();
    let revision = RolloutId::read(&rollout.id)?.revision;
    let record = observed.records.iter().find(|record| record.revision == revision)?.clone();
    Some(ActiveRollout {
        intent: intent_on_record(before),
        wanted_hash: before.wanted_hash.clone(),
        redeploys: redeploys(before),
        skip_drain: skip_drain::on_record(before),
        aborted: abort::on_record(before),
        rollout,
        record,
        unrecorded: false,
        change: RolloutChange::Same,
    })
}

/// The rollout of what the spec wants.
pub fn current(observed: &Observed, targets: &Targets<'_>, version: &VersionRecord, now: Timestamp) -> ActiveRollout {
    let group = targets.group;
    let env = effective_env(&version.run.env, &group.env, &observed.spec.env);
    let values = hashes(observed, &references(&observed.spec, group, version));
    let of = Configured { digest: &version.digest, env: &env, values: &values };
    let pinned: Vec<PinnedHosts> = targets.pins.iter().map(|pinned| pinned.hosts.clone()).collect();
    let hash = hash_with_pins(&of, &pinned);
    let is_wanted = |stored: &str| is_hash_with_pins(stored, &of, &pinned);
    let before = observed.before();
    let mut redeploys = redeploys(before);
    // A return is not ended by what changes without its spec: a pin that ends, a Secret that is rotated, the env of the group.
    let is_still_back = |stored: &str| {
        let is_same_spec = before.observed_generation == observed.generation;
        rollback::on_record(before).is_some() && (is_same_spec || is_hash_but_for_pins(stored, &of))
    };
    let waits = |stored: &str| !is_wanted(stored) && is_halted(observed) && is_hash_but_for_pins(stored, &of);
    let mut wanted_hash = Some(hash.clone());
    let resumed = match before.rollout.as_ref() {
        Some(rollout) => {
            let stored = before.wanted_hash.as_ref().unwrap_or(&rollout.hash);
            if waits(stored) {
                wanted_hash = Some(stored.clone());
            }
            (is_wanted(stored) || is_still_back(stored) || waits(stored)).then(|| rollout.clone())
        }
        None => restored(observed).filter(|(wanted, _)| is_wanted(wanted)).map(|(_, rollout)| rollout),
    };
    // After a return the spec's version is begun again by a revision of its own.
    let resumed = resumed.filter(|_| !rollback::is_asked_again(observed));
    let (mut rollout, change) = match resumed {
        Some(rollout) if !overtaken(observed, targets) => same_revision(observed, before, rollout, now),
        other => {
            let revision = next_revision(observed);
            let change = match other {
                Some(_) => HistoryChange::Adopt,
                None => change(observed, &of, &pinned),
            };
            (new_rollout(version, hash.clone(), revision, last_serial(observed), now), RolloutChange::Started(change))
        }
    };
    if let RolloutChange::Started(change) = change {
        rollout.requested_by = requester::of_start(observed, change, &of);
    }
    if change == RolloutChange::Started(HistoryChange::Redeploy) {
        let serial = last_serial(observed).saturating_add(1);
        let revision = RolloutId::read(&rollout.id).map_or(1, |id| id.revision);
        rollout.id = RolloutId { revision, serial }.to_string();
        let releases = pinned.iter().filter_map(|pinned| pinned.release.as_ref());
        for of in [of].into_iter().chain(releases.map(|release| release.configured())) {
            redeploys.retain(|one| !is_hash_of(&one.hash, &of));
            redeploys.insert(0, RedeploySerial { hash: self::hash(&of), serial });
        }
        redeploys.truncate(REDEPLOYS);
    }
    let revision = RolloutId::read(&rollout.id).map_or(0, |id| id.revision);
    let stored = observed.records.iter().find(|record| record.revision == revision).cloned();
    let mut unrecorded = stored.is_none();
    let mut record =
        stored.or_else(|| unrecorded_return(observed, change, revision, &rollout)).unwrap_or_else(|| RolloutRecord {
            values: values.clone(),
            pinned: pinned.clone(),
            ..record(version, env.clone(), hash.clone(), revision, rollout.started_at.0)
        });
    let mut change = change;
    if change == RolloutChange::Same
        && let Some(back) = rollback::due(observed, targets, &rollout, &record, now)
    {
        (rollout, record, unrecorded) = (of_record(&back, last_serial(observed)), back, true);
        change = RolloutChange::Started(HistoryChange::RollBack);
    }
    let intent = intent_on_record_of(observed);
    // A retry takes what a person asked for since the last one, and nothing else has it.
    let skip_drain = match change {
        RolloutChange::Same => skip_drain::on_record(before),
        RolloutChange::Retry => skip_drain::asked(observed),
        RolloutChange::Started(_) => None,
    };
    let aborted = match change {
        RolloutChange::Same => abort::on_record(before) || abort::is_asked(observed, &rollout),
        // Of the same version: the abort was of that.
        RolloutChange::Started(HistoryChange::Pins | HistoryChange::Environment) => abort::on_record(before),
        RolloutChange::Retry | RolloutChange::Started(_) => false,
    };
    ActiveRollout { rollout, record, unrecorded, change, intent, wanted_hash, redeploys, skip_drain, aborted }
}

/// The rollout on record failed or was aborted, and no person has asked for anything since: pins that change by themselves, by their `until`,
/// a label or a version that appears, begin nothing before a retry.
fn is_halted(observed: &Observed) -> bool {
    let before = observed.before();
    let first = observed.is_first_decision();
    let retry = verbs::asked(verbs::RETRY, &observed.annotations, &before.last_handled, first).is_some();
    (ended_failed(before) || abort::on_record(before)) && before.observed_generation == observed.generation && !retry
}

/// Hosts have seen a higher revision than we know of, and a person said to go on from there (`adopt`).
fn overtaken(observed: &Observed, targets: &Targets<'_>) -> bool {
    highest_on_hosts(observed, &targets.refused) > known_revision(observed)
}

fn new_rollout(version: &VersionRecord, hash: String, revision: i64, serial: i64, now: Timestamp) -> Rollout {
    of_record(&record(version, Vec::new(), hash, revision, now), serial)
}

/// The rollout of a revision, from its first attempt on.
fn of_record(record: &RolloutRecord, serial: i64) -> Rollout {
    Rollout {
        id: RolloutId { revision: record.revision, serial }.to_string(),
        hash: record.hash.clone(),
        attempt: 1,
        version: record.version.clone(),
        digest: format!("sha256:{}", record.digest),
        requested_by: None,
        started_at: Time(record.started_at),
        progressed_at: Time(record.started_at),
        phases: BTreeMap::new(),
        batch: 0,
        batches: 0,
        intent: None,
    }
}

/// The record of a return that is in the status, and not in the store yet.
fn unrecorded_return(
    observed: &Observed,
    change: RolloutChange,
    revision: i64,
    rollout: &Rollout,
) -> Option<RolloutRecord> {
    let goes_on = matches!(change, RolloutChange::Same | RolloutChange::Retry);
    let from = rollback::on_record(observed.before()).filter(|_| goes_on)?;
    rollback::record(observed, revision, rollout.started_at.0, from.clone())
}

/// What differs from the revision before.
fn change(observed: &Observed, of: &Configured<'_>, pinned: &[PinnedHosts]) -> HistoryChange {
    let id = observed.before().rollout.as_ref().and_then(|rollout| RolloutId::read(&rollout.id));
    let before = id.and_then(|id| observed.records.iter().find(|one| one.revision == id.revision));
    let Some(before) = before else { return HistoryChange::Version };
    match (before.digest != of.digest, before.env != of.env || &before.values != of.values) {
        (true, true) => HistoryChange::VersionAndEnvironment,
        (true, false) => HistoryChange::Version,
        // The spec names what a failed rollout was taken back to.
        (false, false) if before.returned_from.is_some() => HistoryChange::Version,
        (false, false) if before.pinned != pinned => HistoryChange::Pins,
        (false, _) => HistoryChange::Environment,
    }
}

/// The same revision: the verbs alone may ask for something.
fn same_revision(
    observed: &Observed,
    before: &DeploymentStatus,
    mut rollout: Rollout,
    now: Timestamp,
) -> (Rollout, RolloutChange) {
    let asked =
        |verb| verbs::asked(verb, &observed.annotations, &before.last_handled, observed.is_first_decision()).is_some();
    if asked(verbs::REDEPLOY) {
        rollout.attempt = 1;
        rollout.started_at = Time(now);
        rollout.progressed_at = Time(now);
        return (rollout, RolloutChange::Started(HistoryChange::Redeploy));
    }
    // The pause of a host whose line was too slow is over as well.
    let any_slow = || observed.hosts.values().any(|host| host.slow.is_some());
    let has_ended = ended_failed(before) || abort::on_record(before);
    if asked(verbs::RETRY) && (has_ended || any_failed(observed, &rollout) || any_slow()) {
        rollout.attempt = rollout.attempt.saturating_add(1);
        rollout.progressed_at = Time(now);
        return (rollout, RolloutChange::Retry);
    }
    (rollout, RolloutChange::Same)
}

/// The newest revision of the store, where the status was lost, and the hash that the spec had for it.
fn restored(observed: &Observed) -> Option<(String, Rollout)> {
    let record = observed.records.iter().max_by_key(|record| record.revision)?;
    let processes = observed.hosts.values().filter_map(|host| host.view()?.folder.process.as_ref());
    let on_hosts = processes.filter(|process| process.uid == observed.uid);
    let ids = on_hosts
        .map(|process| process.rollout.as_str())
        .chain(observed.failures.iter().map(|one| one.rollout.as_str()));
    let serials = ids.filter_map(RolloutId::read).filter(|id| id.revision == record.revision);
    let serial = serials.map(|id| id.serial).max().unwrap_or(0);
    let rollout = of_record(record, serial);
    let attempts = observed.failures.iter().filter(|verdict| verdict.rollout == rollout.id);
    let attempt = attempts.map(|verdict| verdict.attempt).max().unwrap_or(1);
    let wanted = record.returned_from.as_ref().map_or(&record.hash, |from| &from.hash);
    Some((wanted.clone(), Rollout { attempt, ..rollout }))
}

/// The highest serial that this Deployment ever used, as far as anybody knows: ids never repeat.
fn last_serial(observed: &Observed) -> i64 {
    let before = observed.before();
    let serial = |id: &str| RolloutId::read(id).map(|id| id.serial);
    let redeploys = redeploys(before).into_iter().map(|one| one.serial);
    let failures = observed.failures.iter().filter_map(|failure| serial(&failure.rollout));
    let known = before.rollout.iter().filter_map(|rollout| serial(&rollout.id)).chain(redeploys).chain(failures);
    let known = known.max().unwrap_or(0);
    let processes = observed.hosts.values().filter_map(|host| host.view()?.folder.process.as_ref());
    let ours = processes.filter(|process| process.uid == observed.uid).filter_map(|process| serial(&process.rollout));
    // A host that claims a number beyond all reason lies.
    ours.filter(|serial| *serial <= known.saturating_add(REVISION_GAP_MAX)).chain([known]).max().unwrap_or(0)
}

fn redeploy_serial(redeploys: &[RedeploySerial], record: &RolloutRecord) -> i64 {
    let of = Configured { digest: &record.digest, env: &record.env, values: &record.values };
    let of_this = redeploys.iter().find(|one| is_hash_of(&one.hash, &of));
    of_this.map_or(0, |one| one.serial)
}
