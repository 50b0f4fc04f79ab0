//! Which change of a status can wait. Intent, and whatever else a decision may rest on, is written at once; what is for people's eyes alone
//! (counts, messages, exceptions) at most once in two seconds an object. Pure: the time is a parameter.

use std::time::{Duration, Instant};

use serde_json::Value;

/// How often what is for people's eyes alone is written, for each object.
pub const DISPLAY_EVERY: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteUrgency {
    /// Something that a decision may rest on differs.
    Decision,
    /// Only what is for display differs, and it was not written lately.
    Display,
    /// Only what is for display differs; it can be written so much later.
    Later(Duration),
}

/// `display`: JSON pointers below the status; `*` is every element. `last_written`: when this operator wrote the status last.
pub fn worth_writing_now(
    before: &Value,
    after: &Value,
    display: &[&str],
    last_written: Option<Instant>,
    now: Instant,
) -> WriteUrgency {
    if without(before, display) != without(after, display) {
        return WriteUrgency::Decision;
    }
    let wait = last_written.map_or(Duration::ZERO, |last| DISPLAY_EVERY.saturating_sub(now.duration_since(last)));
    if wait.is_zero() { WriteUrgency::Display } else { WriteUrgency::Later(wait) }
}

fn without(status: &Value, display: &[&str]) -> Value {
    let mut rest = status.clone();
    for pointer in display {
        let path: Vec<&str> = pointer.split('/').skip(1).collect();
        remove(&mut rest, &path);
    }
    rest
}

fn remove(value: &mut Value, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    match value {
        Value::Object(fields) if rest.is_empty() && *first != "*" => _ = fields.remove(*first),
        Value::Object(fields) if *first == "*" => fields.values_mut().for_each(|field| remove(field, rest)),
        Value::Object(fields) => fields.get_mut(*first).into_iter().for_each(|field| remove(field, rest)),
        Value::Array(items) if *first == "*" => items.iter_mut().for_each(|item| remove(item, rest)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DISPLAY: [&str; 3] = ["/conditions/*/message", "/hosts", "/rollout/batch"];

    fn status() -> Value {
        json!({
            "observedGeneration": 3,
            "conditions": [{ "type": "Ready", "status": "False", "reason": "Progressing", "message": "1 of 4 hosts" }],
            "hosts": { "total": 4, "updated": 1 },
            "rollout": { "id": "2.0", "batch": 1 },
        })
    }

    fn worth(change: impl Fn(&mut Value), since: Option<u64>) -> WriteUrgency {
        let written = crate::effects::clock::monotonic();
        let mut after = status();
        change(&mut after);
        let now = written + Duration::from_millis(since.unwrap_or_default());
        worth_writing_now(&status(), &after, &DISPLAY, since.map(|_| written), now)
    }

    #[test]
    fn what_a_decision_rests_on_is_written_at_once() {
        let changes: [fn(&mut Value); 5] = [
            |status| status["observedGeneration"] = json!(4),
            |status| status["conditions"][0]["reason"] = json!("Failed"),
            |status| status["conditions"][0]["status"] = json!("True"),
            |status| status["rollout"]["id"] = json!("3.0"),
            |status| status["lastHandled"] = json!({ "landfall.dev/retry": "1" }),
        ];
        for change in changes {
            assert_eq!(worth(change, Some(0)), WriteUrgency::Decision);
        }
    }

    #[test]
    fn counts_and_messages_are_written_at_most_once_in_two_seconds() {
        let changes: [fn(&mut Value); 3] = [
            |status| status["conditions"][0]["message"] = json!("2 of 4 hosts"),
            |status| status["hosts"] = json!({ "total": 4, "updated": 2 }),
            |status| status["rollout"]["batch"] = json!(2),
        ];
        for change in changes {
            assert_eq!(worth(change, None), WriteUrgency::Display, "never written by this operator");
            assert_eq!(worth(change, Some(500)), WriteUrgency::Later(Duration::from_millis(1500)));
            assert_eq!(worth(change, Some(2000)), WriteUrgency::Display);
            assert_eq!(worth(change, Some(60_000)), WriteUrgency::Display);
        }
    }

    #[test]
    fn a_decision_beside_display_is_a_decision() {
        let both = |status: &mut Value| {
            status["hosts"]["updated"] = json!(4);
            status["conditions"][0]["reason"] = json!("Deployed");
        };
        assert_eq!(worth(both, Some(10)), WriteUrgency::Decision);
    }

    #[test]
    fn a_status_that_is_not_there_yet_is_a_decision() {
        let now = crate::effects::clock::monotonic();
        assert_eq!(worth_writing_now(&Value::Null, &status(), &DISPLAY, None, now), WriteUrgency::Decision);
    }
}
