//! One Build: its commit, its version, its attempts.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, ago, line, short, state, title};
use crate::{
    api::{Build, build::Attempt},
    cli::state::{State, verdict},
    model::text::for_terminal,
};

/// Last lines of the newest attempt that are shown.
const LAST_LINES: usize = 10;

pub fn build(raw: &Value, object: &Build, now: Timestamp) -> String {
    let status = object.status.clone().unwrap_or_default();
    let mut out = format!("{}\n", title(raw, "Build"));
    line(&mut out, "source", &format!("{} of project {}", object.spec.revision, object.spec.project_ref.name));
    line(&mut out, "requested", &format!("by {}", status.requested_by.as_deref().unwrap_or("unknown")));
    if let Some(commit) = &status.commit {
        line(&mut out, "commit", &format!("{} {} ({})", short(&commit.sha), commit.subject, commit.author));
    }
    if let Some(version) = &status.version {
        // The name is reserved from the grant on; only a published version can be deployed.
        let note = match verdict(raw).state {
            State::Ready => "",
            State::InProgress => " (not published yet)",
            State::Failed => " (not published)",
        };
        line(&mut out, "version", &format!("{version}{note}"));
    }
    state(&mut out, raw);
    if let Some(queue) = &status.queue {
        let waiting = queue.waiting_for.as_ref().map(|name| format!(", behind {name}")).unwrap_or_default();
        line(&mut out, "queue", &format!("position {}{waiting}", queue.position));
    }
    for (at, attempt) in status.attempts.iter().enumerate() {
        line(&mut out, if at == 0 { "attempts" } else { "" }, &summary(attempt, now));
    }
    let message = verdict(raw).message;
    let repeats = |lines: &[String]| lines.last().is_some_and(|last| message.contains(last.as_str()));
    if let Some(last) = status.attempts.last().filter(|attempt| !repeats(&attempt.last_lines)) {
        let skipped = last.last_lines.len().saturating_sub(LAST_LINES);
        for text in last.last_lines.iter().skip(skipped) {
            line(&mut out, "", &format!("| {text}"));
        }
    }
    for_terminal(&out)
}

fn summary(attempt: &Attempt, now: Timestamp) -> String {
    let started = ago(attempt.started_at.0, now);
    let Some(completed) = &attempt.completed_at else {
        return format!("#{} running, started {started}", attempt.number);
    };
    let outcome = attempt.outcome.as_ref().map_or_else(|| "Ended".to_owned(), |outcome| format!("{outcome:?}"));
    let reason = attempt.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let took = age(attempt.started_at.0, completed.0);
    format!("#{} {outcome}{reason}, started {started}, took {took}", attempt.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_shows_its_commit_its_reason_and_its_last_lines() {
        let raw = serde_json::json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Build",
            "metadata": { "name": "hello-1", "namespace": "shop", "generation": 1 },
            "spec": { "projectRef": { "name": "hello" }, "revision": "main" },
            "status": {
                "observedGeneration": 1,
                "requestedBy": "alice",
                "commit": { "sha": "0123456789abcdef0123456789abcdef01234567", "subject": "Say it better", "author": "alice", "time": "2026-11-24T07:00:00Z", "branch": "main" },
                "version": "v1",
                "conditions": [
                    { "type": "Ready", "status": "False", "reason": "ScriptFailed", "message": "exit code 2", "lastTransitionTime": "2026-11-24T08:00:00Z" },
                    { "type": "Stalled", "status": "True", "reason": "ScriptFailed", "message": "exit code 2", "lastTransitionTime": "2026-11-24T08:00:00Z" },
                ],
                "attempts": [{ "number": 1, "startedAt": "2026-11-24T08:00:00Z", "completedAt": "2026-11-24T08:00:12Z", "outcome": "Failed", "exitCode": 2, "reason": "ScriptFailed", "lastLines": ["make: *** [hello] Error 1"] }],
            },
        });
        let object = serde_json::from_value(raw.clone()).unwrap();
        let expected = "\
Build shop/hello-1
source    main of project hello
requested by alice
commit    0123456789 Say it better (alice)
version   v1 (not published)
state     failed, needs action: ScriptFailed
          exit code 2
attempts  #1 Failed (ScriptFailed), started 30s ago, took 12s
          | make: *** [hello] Error 1
";
        assert_eq!(build(&raw, &object, "2026-11-24T08:00:30Z".parse().unwrap()), expected);
    }
}
