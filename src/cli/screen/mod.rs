//! The screens as text: pure functions of objects and `now`, one file a kind. Whatever comes from a cluster is cleaned before a terminal sees it.

mod build;
mod deployment;
mod history;
mod hostgroup;
mod matrix;
mod plan;
mod project;

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;

pub use self::{
    build::build, deployment::deployment, history::history, hostgroup::hostgroup, matrix::matrix, plan::plan,
    project::project,
};
use super::state::{Verdict, verdict};
use crate::{api::deployment::HistoryChange, model::text::for_terminal};

/// Width of the first column.
const LABEL: usize = 10;

/// `state` with reason and message, of any kind. What this program can't parse has at least this.
pub fn state(out: &mut String, object: &Value) {
    let Verdict { state, reason, message, observed } = verdict(object);
    let deleted = object["metadata"]["deletionTimestamp"].is_string();
    let word = match (deleted, reason.as_str()) {
        (true, _) => "being deleted",
        (_, "Paused") => "paused",
        _ => state.words(),
    };
    let note = if observed { "" } else { " (of the previous spec; the current one is not observed yet)" };
    let note = if object["status"]["conditions"].is_array() { note } else { "" };
    line(out, "state", &format!("{word}: {reason}{note}"));
    line(out, "", &indented(&message));
}

/// The first line of every screen.
fn title(object: &Value, kind: &str) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or("?").to_owned();
    format!("{kind} {}/{}", text("namespace"), text("name"))
}

/// An object that this program can't parse: its title and its state.
pub(crate) fn unreadable(kind: &str, object: &Value, why: &str) -> String {
    let mut out = format!("{}\n", title(object, kind));
    state(&mut out, object);
    line(&mut out, "note", &format!("this program is of another version and can't show more: {why}"));
    for_terminal(&out)
}

fn line(out: &mut String, label: &str, text: &str) {
    let _ = writeln!(out, "{label:<LABEL$}{}", text.trim_end());
}

/// One host, or none, or many: with the noun that fits.
fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// What tells a rollout from the one before.
fn changed(change: HistoryChange) -> &'static str {
    match change {
        HistoryChange::Version => "new version",
        HistoryChange::Environment => "new environment",
        HistoryChange::VersionAndEnvironment => "new version and environment",
        HistoryChange::Pins => "other pins",
        HistoryChange::Redeploy => "redeploy",
        HistoryChange::RollBack => "taken back",
        HistoryChange::Adopt => "hosts adopted",
    }
}

/// The first ten digits of a commit id.
fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// `12s ago`, `5m ago`, `3h ago`, `2d ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", age(then, now))
}

/// `12s`, `5m`, `3h`, `2d`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A message of several lines stays in its column, so that no host can write a line that looks like one of ours.
pub(crate) fn indented(message: &str) -> String {
    message.trim_end().replace('\n', "\n            ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_a_later_version_still_shows_its_state() {
        let object = json!({
            "metadata": { "namespace": "shop", "name": "web", "generation": 1 },
            "status": { "observedGeneration": 1, "conditions": [
                { "type": "Ready", "status": "True", "reason": "Deployed", "message": "all hosts run v2" },
            ] },
        });
        let screen = unreadable("Deployment", &object, "unknown variant `Blue`");
        assert!(
            screen.starts_with("Deployment shop/web\nstate     ready: Deployed\n          all hosts run v2\n"),
            "{screen}"
        );
    }

    #[test]
    fn a_fresh_object_says_that_nobody_has_observed_it() {
        let mut out = String::new();
        state(&mut out, &json!({ "metadata": { "generation": 1 }, "status": { "observedGeneration": -1 } }));
        assert_eq!(
            out,
            "state     in progress: Pending\n          waiting for the operator; if this lasts, check that it runs\n"
        );
    }
}
