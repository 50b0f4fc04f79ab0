//! Which rollout is under way: revision, redeploys and attempt, and the record that says what it runs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    claim::{highest_on_hosts, known_revision},
    host_state,
    observed::{Group, Observed},
    target::{Target, effective_env, hash, parse_rollout, record},
};
use crate::model::rollout::RolloutRecord;
use crate::{
    api::{
        deployment::{DeploymentStatus, Rollout, RolloutOutcome},
        verbs,
    },
    model::version::VersionRecord,
};

/// The rollout that the next status names.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveRollout {
    pub rollout: Rollout,
    pub record: RolloutRecord,
    /// The store lacks the record.
    pub unrecorded: bool,
    pub change: RolloutChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutChange {
    Same,
    /// Another attempt of the same rollout.
    Retry,
    /// Another rollout id.
    Started,
}

impl ActiveRollout {
    pub fn target(&self, observed: &Observed) -> Target {
        let ready = observed.spec.min_ready_seconds;
        Target::new(observed, &self.record, &self.rollout.id, self.rollout.attempt, ready)
    }
}

/// The rollout on record, where the spec can't be resolved just now: what is under way is finished with it.
pub fn on_record(observed: &Observed) -> Option<ActiveRollout> {
    let rollout = observed.before().rollout.as_ref()?.clone();
    let (revision, _) = parse_rollout(&rollout.id)?;
    let record = observed.records.iter().find(|record| record.revision == revision)?.clone();
    Some(ActiveRollout { rollout, record, unrecorded: false, change: RolloutChange::Same })
}

/// The rollout of what the spec wants.
pub fn current(observed: &Observed, group: &Group, version: &VersionRecord, now: Timestamp) -> ActiveRollout {
    let env = effective_env(&version.run.env, &group.env, &observed.spec.env);
    let hash = hash(&version.digest, &env);
    let before = observed.before();
    let (rollout, change) = match before.rollout.as_ref().cloned().or_else(|| restored(observed, &hash)) {
        Some(rollout) if rollout.hash == hash && !overtaken(observed) => same(observed, before, rollout, now),
        _ => {
            let revision = known_revision(observed).max(highest_on_hosts(observed)).saturating_add(1);
            (begin(version, hash.clone(), revision, 0, now), RolloutChange::Started)
        }
    };
    let revision = parse_rollout(&rollout.id).map_or(0, |(revision, _)| revision);
    let stored = observed.records.iter().find(|record| record.revision == revision).cloned();
    let unrecorded = stored.is_none();
    let record = stored.unwrap_or_else(|| record(version, env, hash, revision, rollout.started_at.0));
    ActiveRollout { rollout, record, unrecorded, change }
}

/// Hosts have seen a higher revision than we know of, and a person said to go on from there (`adopt`).
fn overtaken(observed: &Observed) -> bool {
    highest_on_hosts(observed) > known_revision(observed)
}

fn begin(version: &VersionRecord, hash: String, revision: i64, redeploys: i64, now: Timestamp) -> Rollout {
    Rollout {
        id: format!("{revision}.{redeploys}"),
        hash,
        attempt: 1,
        version: version.version.clone(),
        digest: format!("sha256:{}", version.digest),
        started_at: Time(now),
        progressed_at: Time(now),
        batch: 0,
        batches: 0,
    }
}

/// The same revision: the verbs alone may ask for something.
fn same(
    observed: &Observed,
    before: &DeploymentStatus,
    mut rollout: Rollout,
    now: Timestamp,
) -> (Rollout, RolloutChange) {
    let asked = |verb| verbs::asked(verb, &observed.annotations, &before.last_handled, observed.first()).is_some();
    if asked(verbs::REDEPLOY) {
        let (revision, redeploys) = parse_rollout(&rollout.id).unwrap_or((1, 0));
        rollout.id = format!("{revision}.{}", redeploys.saturating_add(1));
        rollout.attempt = 1;
        rollout.started_at = Time(now);
        rollout.progressed_at = Time(now);
        return (rollout, RolloutChange::Started);
    }
    let failed = before.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Failed);
    if asked(verbs::RETRY) && (failed || host_state::any_failed(observed, &rollout)) {
        rollout.attempt = rollout.attempt.saturating_add(1);
        rollout.progressed_at = Time(now);
        return (rollout, RolloutChange::Retry);
    }
    (rollout, RolloutChange::Same)
}

/// The status was lost, the store was not: the newest revision goes on if it is still what the spec wants.
fn restored(observed: &Observed, hash: &str) -> Option<Rollout> {
    let record = observed.records.iter().max_by_key(|record| record.revision).filter(|record| record.hash == hash)?;
    let processes = observed.hosts.values().filter_map(|host| host.view()?.folder.process.as_ref());
    let on_hosts = processes.filter(|process| process.uid == observed.uid);
    let ids = on_hosts
        .map(|process| process.rollout.as_str())
        .chain(observed.verdicts.iter().map(|one| one.rollout.as_str()));
    let redeploys =
        ids.filter_map(parse_rollout).filter(|(revision, _)| *revision == record.revision).map(|(_, n)| n).max();
    let id = format!("{}.{}", record.revision, redeploys.unwrap_or(0));
    let attempts = observed.verdicts.iter().filter(|verdict| verdict.rollout == id).map(|verdict| verdict.attempt);
    Some(Rollout {
        attempt: attempts.max().unwrap_or(1),
        id,
        hash: record.hash.clone(),
        version: record.version.clone(),
        digest: format!("sha256:{}", record.digest),
        started_at: Time(record.started_at),
        progressed_at: Time(record.started_at),
        batch: 0,
        batches: 0,
    })
}
