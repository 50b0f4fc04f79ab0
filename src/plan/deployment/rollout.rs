//! Which rollout is under way: revision, redeploys and attempt, and the record that says what it runs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    claim::{highest_on_hosts, known_revision},
    observed::{FolderLook, Group, Observed},
    record::RolloutRecord,
    standing,
    target::{Target, effective_env, hash, parse_rollout, record},
};
use crate::{
    api::{
        deployment::{DeploymentStatus, Rollout, RolloutOutcome},
        verbs,
    },
    plan::version::VersionRecord,
};

/// The rollout that the next status names.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    pub rollout: Rollout,
    pub record: RolloutRecord,
    /// The store lacks the record.
    pub unrecorded: bool,
    pub news: News,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Same,
    /// Another attempt of the same rollout.
    Retry,
    /// Another rollout id.
    Started,
}

impl Current {
    pub fn target(&self, seen: &Observed) -> Target {
        let ready = seen.spec.min_ready_seconds;
        Target::new(seen, &self.record, &self.rollout.id, self.rollout.attempt, ready)
    }
}

/// The rollout on record, where the spec can't be resolved just now: what is under way is finished with it.
pub fn on_record(seen: &Observed) -> Option<Current> {
    let rollout = seen.before().rollout?;
    let (revision, _) = parse_rollout(&rollout.id)?;
    let record = seen.records.iter().find(|record| record.revision == revision)?.clone();
    Some(Current { rollout, record, unrecorded: false, news: News::Same })
}

/// The rollout of what the spec wants.
pub fn current(seen: &Observed, group: &Group, version: &VersionRecord, now: Timestamp) -> Current {
    let env = effective_env(&version.run.env, &group.env, &seen.spec.env);
    let hash = hash(&version.digest, &env);
    let before = seen.before();
    let (rollout, news) = match before.rollout.clone().or_else(|| restored(seen, &hash)) {
        Some(rollout) if rollout.hash == hash && !overtaken(seen) => same(seen, &before, rollout, now),
        _ => {
            let revision = known_revision(seen).max(highest_on_hosts(seen)).saturating_add(1);
            (begin(version, hash.clone(), revision, 0, now), News::Started)
        }
    };
    let revision = parse_rollout(&rollout.id).map_or(0, |(revision, _)| revision);
    let stored = seen.records.iter().find(|record| record.revision == revision).cloned();
    let unrecorded = stored.is_none();
    let record = stored.unwrap_or_else(|| record(version, env, hash, revision, rollout.started_at.0));
    Current { rollout, record, unrecorded, news }
}

/// Hosts have seen a higher revision than we know of, and a person said to go on from there (`adopt`).
fn overtaken(seen: &Observed) -> bool {
    highest_on_hosts(seen) > known_revision(seen)
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
fn same(seen: &Observed, before: &DeploymentStatus, mut rollout: Rollout, now: Timestamp) -> (Rollout, News) {
    let asked = |verb| verbs::asked(verb, &seen.annotations, &before.last_handled, seen.first()).is_some();
    if asked(verbs::REDEPLOY) {
        let (revision, redeploys) = parse_rollout(&rollout.id).unwrap_or((1, 0));
        rollout.id = format!("{revision}.{}", redeploys.saturating_add(1));
        rollout.attempt = 1;
        rollout.started_at = Time(now);
        rollout.progressed_at = Time(now);
        return (rollout, News::Started);
    }
    let failed = before.history.first().is_some_and(|entry| entry.outcome == RolloutOutcome::Failed);
    if asked(verbs::RETRY) && (failed || standing::any_failed(seen, &rollout)) {
        rollout.attempt = rollout.attempt.saturating_add(1);
        rollout.progressed_at = Time(now);
        return (rollout, News::Retry);
    }
    (rollout, News::Same)
}

/// The status was lost, the store was not: the newest revision goes on if it is still what the spec wants.
fn restored(seen: &Observed, hash: &str) -> Option<Rollout> {
    let record = seen.records.iter().max_by_key(|record| record.revision).filter(|record| record.hash == hash)?;
    let on_hosts = seen.hosts.values().filter_map(|host| match &host.look {
        FolderLook::Seen(look) => look.folder.process.as_ref().filter(|process| process.uid == seen.uid),
        _ => None,
    });
    let ids =
        on_hosts.map(|process| process.rollout.as_str()).chain(seen.verdicts.iter().map(|one| one.rollout.as_str()));
    let redeploys =
        ids.filter_map(parse_rollout).filter(|(revision, _)| *revision == record.revision).map(|(_, n)| n).max();
    let id = format!("{}.{}", record.revision, redeploys.unwrap_or(0));
    let attempts = seen.verdicts.iter().filter(|verdict| verdict.rollout == id).map(|verdict| verdict.attempt);
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
