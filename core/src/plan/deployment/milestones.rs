//! Rollouts that begin and end, as the log tells them.

use crate::{
    api::deployment::{DeploymentStatus, HistoryEntry, Rollout, RolloutOutcome},
    plan::Milestone,
};

/// What begins or ends with the status `after`.
pub fn milestones(before: Option<&DeploymentStatus>, after: &DeploymentStatus) -> Vec<Milestone> {
    let history = before.map(|before| before.history.as_slice()).unwrap_or_default();
    let over = after.history.iter().filter(|entry| !history.iter().any(|old| is_same_end(old, entry)));
    // The oldest first: one that another supersedes ends before that one begins.
    let ended = over.rev().filter_map(|entry| ended(before, after, entry));
    ended.chain(begun(before, after)).collect()
}

fn begun(before: Option<&DeploymentStatus>, after: &DeploymentStatus) -> Option<Milestone> {
    let rollout = after.rollout.as_ref()?;
    let old = before.and_then(|before| before.rollout.as_ref());
    let goes_on = old.is_some_and(|old| old.id == rollout.id && old.attempt == rollout.attempt);
    (!goes_on).then(|| Milestone::Begun {
        what: "rollout",
        id: id(rollout),
        version: rollout.version.clone(),
        by: rollout.requested_by.clone(),
    })
}

fn is_same_end(old: &HistoryEntry, new: &HistoryEntry) -> bool {
    old.revision == new.revision && old.started_at == new.started_at && old.outcome == new.outcome
}

fn ended(before: Option<&DeploymentStatus>, after: &DeploymentStatus, entry: &HistoryEntry) -> Option<Milestone> {
    if entry.outcome == RolloutOutcome::Progressing {
        return None;
    }
    let completed_at = entry.completed_at.as_ref()?;
    let rollouts = [after.rollout.as_ref(), before.and_then(|before| before.rollout.as_ref())];
    let rollout = rollouts.into_iter().flatten().find(|rollout| rollout.started_at == entry.started_at);
    Some(Milestone::Ended {
        what: "rollout",
        id: rollout.map_or_else(|| entry.revision.to_string(), id),
        version: entry.version.clone(),
        outcome: format!("{:?}", entry.outcome),
        seconds: Some(completed_at.0.as_second() - entry.started_at.0.as_second()),
    })
}

fn id(rollout: &Rollout) -> String {
    format!("{}.{}", rollout.id, rollout.attempt)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rollout(id: &str, version: &str, started_at: &str) -> serde_json::Value {
        serde_json::json!({
            "id": id, "hash": "1:0", "attempt": 1, "version": version, "digest": "sha256:0", "startedAt": started_at, "progressedAt": started_at,
        })
    }

    fn entry(revision: i64, version: &str, started_at: &str, end: Option<(&str, &str)>) -> serde_json::Value {
        let (completed_at, outcome) = end.map_or((None, "Progressing"), |(at, outcome)| (Some(at), outcome));
        serde_json::json!({
            "revision": revision, "version": version, "commit": "0", "startedAt": started_at, "completedAt": completed_at, "outcome": outcome,
        })
    }

    fn status(rollout: &serde_json::Value, history: &[serde_json::Value]) -> DeploymentStatus {
        serde_json::from_value(serde_json::json!({ "rollout": rollout, "history": history })).unwrap()
    }

    #[test]
    fn a_rollout_begins_once_and_ends_once_with_outcome_and_duration() {
        let (nine, later, ten) = ("2026-11-24T09:00:00Z", "2026-11-24T09:00:40Z", "2026-11-24T10:00:00Z");
        let (first, second) = (rollout("1.0", "v1", nine), rollout("2.0", "v2", ten));
        let runs = status(&first, &[entry(1, "v1", nine, None)]);
        let begun = |id: &str, version: &str| Milestone::Begun {
            what: "rollout",
            id: id.into(),
            version: version.into(),
            by: None,
        };
        let ended = |outcome: &str, seconds| Milestone::Ended {
            what: "rollout",
            id: "1.0.1".into(),
            version: "v1".into(),
            outcome: outcome.into(),
            seconds: Some(seconds),
        };
        assert_eq!(milestones(None, &runs), [begun("1.0.1", "v1")]);
        assert_eq!(milestones(Some(&runs), &runs), []);
        let over = status(&first, &[entry(1, "v1", nine, Some((later, "Succeeded")))]);
        assert_eq!(milestones(Some(&runs), &over), [ended("Succeeded", 40)]);
        assert_eq!(milestones(Some(&over), &over), []);
        let superseded = entry(1, "v1", nine, Some((ten, "Superseded")));
        let next = status(&second, &[entry(2, "v2", ten, None), superseded]);
        assert_eq!(milestones(Some(&runs), &next), [ended("Superseded", 3600), begun("2.0.1", "v2")]);
    }
}
