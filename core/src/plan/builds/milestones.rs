//! Attempts that begin, and Builds that end, as the log tells them.

use crate::{
    api::{
        build::{Attempt, BuildStatus},
        conditions::{READY, STALLED},
    },
    plan::Milestone,
};

/// What begins or ends with the status `after`.
pub fn milestones(before: Option<&BuildStatus>, after: &BuildStatus) -> Vec<Milestone> {
    let version = after.tag.clone().unwrap_or_default();
    let known =
        |attempt: &Attempt| before.is_some_and(|before| before.attempts.iter().any(|old| old.number == attempt.number));
    let begun = after.attempts.iter().filter(|attempt| attempt.outcome.is_none() && !known(attempt));
    let begun = begun.map(|attempt| Milestone::Begun {
        what: "build",
        id: attempt.number.to_string(),
        version: version.clone(),
        by: attempt.requested_by.clone(),
    });
    begun.chain(ended(before, after)).collect()
}

fn ended(before: Option<&BuildStatus>, after: &BuildStatus) -> Option<Milestone> {
    if before.is_some_and(|before| end(before).is_some()) {
        return None;
    }
    let (outcome, at) = end(after)?;
    let last = after.attempts.last();
    Some(Milestone::Ended {
        what: "build",
        id: last.map_or_else(|| "none".to_owned(), |last| last.number.to_string()),
        version: after.tag.clone().unwrap_or_default(),
        outcome,
        seconds: last.map(|last| at.as_second() - last.started_at.0.as_second()),
    })
}

/// Reason and time of the condition by which the Build has ended.
fn end(status: &BuildStatus) -> Option<(String, jiff::Timestamp)> {
    let ends = |kind: &str| matches!(kind, READY | STALLED);
    let condition = status.conditions.iter().find(|condition| ends(&condition.type_) && condition.status == "True")?;
    Some((condition.reason.clone(), condition.last_transition_time.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn status(attempt: serde_json::Value, condition: &str, truth: &str, reason: &str) -> BuildStatus {
        serde_json::from_value(serde_json::json!({
            "observedGeneration": 1,
            "tag": "v7",
            "attempts": [attempt],
            "conditions": [{
                "type": condition, "status": truth, "reason": reason, "message": "", "lastTransitionTime": "2026-11-24T09:01:30Z",
            }],
        }))
        .unwrap()
    }

    fn running() -> BuildStatus {
        status(
            serde_json::json!({ "number": 2, "requestedBy": "alice", "startedAt": "2026-11-24T09:00:00Z" }),
            READY,
            "False",
            "Starting",
        )
    }

    fn over(outcome: &str, condition: &str, reason: &str) -> BuildStatus {
        let attempt = serde_json::json!({
            "number": 2, "startedAt": "2026-11-24T09:00:00Z", "completedAt": "2026-11-24T09:01:00Z", "outcome": outcome,
        });
        status(attempt, condition, "True", reason)
    }

    #[test]
    fn an_attempt_begins_once_and_a_build_ends_once_with_outcome_and_duration() {
        let begun = Milestone::Begun { what: "build", id: "2".into(), version: "v7".into(), by: Some("alice".into()) };
        assert_eq!(milestones(None, &running()), [begun]);
        assert_eq!(milestones(Some(&running()), &running()), []);
        for (outcome, condition, reason) in [("Succeeded", READY, "Succeeded"), ("Failed", STALLED, "ScriptFailed")] {
            let over = over(outcome, condition, reason);
            let ended = Milestone::Ended {
                what: "build",
                id: "2".into(),
                version: "v7".into(),
                outcome: reason.into(),
                seconds: Some(90),
            };
            assert_eq!(milestones(Some(&running()), &over), [ended]);
            assert_eq!(milestones(Some(&over), &over), []);
        }
    }
}
