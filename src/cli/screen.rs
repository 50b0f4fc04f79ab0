//! The screens as text: pure functions of objects and `now`. Whatever comes from a cluster is cleaned before a terminal sees it.

use std::fmt::Write;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{
    Deployment, HostGroup,
    conditions::{RECONCILING, STALLED},
    deployment::{DeploymentStatus, HistoryEntry, RolloutException},
    hostgroup::Host,
};
use crate::model::text::for_terminal;
use crate::plan::deployment::select;

/// Of the history.
const HISTORY: usize = 5;
/// Of the hosts; the rest is counted.
const HOSTS: usize = 30;

/// One Deployment.
pub fn deployment(object: &Deployment, group: Option<&HostGroup>, now: Timestamp) -> String {
    let status = object.status.clone().unwrap_or_default();
    let mut out = String::new();
    let place = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let _ = writeln!(
        out,
        "{place}: {} on {}, version {}",
        object.spec.project_ref.name, object.spec.host_group_ref.name, object.spec.version
    );
    verdict(&mut out, &status, object.metadata.generation.unwrap_or_default());
    let counts = &status.hosts;
    let _ = writeln!(
        out,
        "hosts     {} selected: {} ready, {} updated, {} pending, {} failed, {} unreachable",
        counts.total, counts.ready, counts.updated, counts.pending, counts.failed, counts.unreachable
    );
    for version in &status.versions {
        let bar = "#".repeat(usize::try_from(version.hosts).unwrap_or(0).min(40));
        let _ = writeln!(out, "          {:<20} {:>4}  {bar}", version.version, version.hosts);
    }
    if let Some(rollout) = &status.rollout {
        let since = ago(rollout.started_at.0, now);
        let _ = writeln!(
            out,
            "rollout   {} of {}, attempt {}, begun {since}, batch {} of {}",
            rollout.id, rollout.version, rollout.attempt, rollout.batch, rollout.batches
        );
    }
    hosts(&mut out, object, &status, group, now);
    history(&mut out, &status.history, now);
    for_terminal(&out)
}

fn verdict(out: &mut String, status: &DeploymentStatus, generation: i64) {
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    let Some(ready) = condition("Ready") else {
        let _ = writeln!(out, "state     not looked at yet: does the operator run?");
        return;
    };
    let word = match (ready.status.as_str(), condition(STALLED).is_some(), condition(RECONCILING).is_some()) {
        ("True", ..) => "ready",
        (_, true, _) => "FAILED, somebody must act",
        (_, _, true) => "in progress",
        _ => "held",
    };
    let old = if status.observed_generation < generation {
        " (of an older spec; the new one is not looked at yet)"
    } else {
        ""
    };
    let _ = writeln!(out, "state     {word}: {}{old}", ready.reason);
    let _ = writeln!(out, "          {}", indented(&ready.message));
}

/// Those of which something is to be said, then the others.
fn hosts(out: &mut String, object: &Deployment, status: &DeploymentStatus, group: Option<&HostGroup>, now: Timestamp) {
    for exception in status.exceptions.iter().take(HOSTS) {
        host(out, exception, now);
    }
    let ready = group.map(|group| ready(object, status, group)).unwrap_or_default();
    let version = status.rollout.as_ref().map_or("?", |rollout| rollout.version.as_str());
    for host in ready.iter().take(HOSTS.saturating_sub(status.exceptions.len())) {
        let _ = writeln!(out, "  {:<16} {:<12} {version}  ({})", host.name, "Ready", host.address);
    }
    let listed = status.exceptions.len() + ready.len();
    let more = usize::try_from(status.hosts.total).unwrap_or(0).max(listed).saturating_sub(listed.min(HOSTS));
    if more > 0 && listed > 0 {
        let _ = writeln!(out, "          … and {more} more");
    }
}

/// The selected hosts of which nothing is to be said: they run the rollout's version. Only where the counts say that the status lists
/// all others: it stops at a hundred, and may speak of an older spec, with which other hosts were selected.
fn ready<'a>(object: &Deployment, status: &DeploymentStatus, group: &'a HostGroup) -> Vec<&'a Host> {
    let selected = select(object.spec.hosts.as_ref(), &group.spec.hosts).unwrap_or_default();
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    let current = object.spec.hosts.is_none() || Some(status.observed_generation) == object.metadata.generation;
    let whole = count(status.hosts.ready) + status.exceptions.len() == selected.len();
    if !current || !whole || count(status.hosts.total) != selected.len() {
        return Vec::new();
    }
    let named = |host: &&Host| status.exceptions.iter().any(|exception| exception.host == host.name);
    selected.into_iter().filter(|host| !named(host)).collect()
}

fn host(out: &mut String, exception: &RolloutException, now: Timestamp) {
    let RolloutException { host, phase, version, reason, message, since } = exception;
    let (phase, version) = (format!("{phase:?}"), version.as_deref().unwrap_or("-"));
    let (since, message) = (ago(since.0, now), indented(message));
    let _ = writeln!(out, "  {host:<16} {phase:<12} {version}  {reason}, {since}: {message}");
}

fn history(out: &mut String, entries: &[HistoryEntry], now: Timestamp) {
    for (at, entry) in entries.iter().take(HISTORY).enumerate() {
        let label = if at == 0 { "history" } else { "" };
        let commit = entry.commit.get(..10).unwrap_or(&entry.commit);
        let failed =
            if entry.failed_hosts > 0 { format!(", {} failed hosts", entry.failed_hosts) } else { String::new() };
        let _ = writeln!(
            out,
            "{label:<9} #{} {} ({commit}) {:?}{failed}, begun {}",
            entry.revision,
            entry.version,
            entry.outcome,
            ago(entry.started_at.0, now)
        );
    }
}

/// `12s ago`, `5m ago`, `3h ago`, `2d ago`.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s ago"),
        120..7200 => format!("{}m ago", seconds / 60),
        7200..172_800 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A message of several lines stays in its column, so that no host can write a line that looks like one of ours.
pub(super) fn indented(message: &str) -> String {
    message.trim_end().replace('\n', "\n            ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(message: &str) -> Deployment {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "shop", "generation": 2 },
            "spec": { "projectRef": { "name": "hello" }, "hostGroupRef": { "name": "prod" }, "version": "v2" },
            "status": {
                "observedGeneration": 2, "version": "v2", "revision": 2,
                "conditions": [
                    { "type": "Ready", "status": "False", "reason": "HostsFailed", "message": message, "lastTransitionTime": "2026-11-24T08:00:00Z" },
                    { "type": "Stalled", "status": "True", "reason": "HostsFailed", "message": message, "lastTransitionTime": "2026-11-24T08:00:00Z" },
                ],
                "hosts": { "total": 3, "updated": 1, "ready": 1, "failed": 1, "unreachable": 0, "pending": 1 },
                "versions": [{ "version": "v2", "hosts": 1 }, { "version": "v1", "hosts": 2 }],
                "exceptions": [{ "host": "web-02", "phase": "Failed", "version": "v1", "reason": "NotReady", "message": "no answer", "since": "2026-11-24T08:00:00Z" },
                    { "host": "web-03", "phase": "Staged", "version": "v1", "reason": "Pending", "message": "was not begun with: the rollout stands still", "since": "2026-11-24T08:00:00Z" }],
                "rollout": { "id": "2.0", "hash": "h", "attempt": 1, "version": "v2", "digest": "sha256:d", "startedAt": "2026-11-24T07:59:00Z", "progressedAt": "2026-11-24T07:59:00Z", "batch": 2, "batches": 3 },
                "history": [{ "revision": 2, "version": "v2", "commit": "0123456789abcdef", "startedAt": "2026-11-24T07:59:00Z", "outcome": "Failed", "failedHosts": 1 }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_failed_deployment_shows_who_failed_why_and_what_runs_where() {
        let now: Timestamp = "2026-11-24T08:00:30Z".parse().unwrap();
        let screen = deployment(&example("web-02 failed"), Some(&group(&["web-01", "web-02", "web-03"])), now);
        let expected = "\
shop/web: hello on prod, version v2
state     FAILED, somebody must act: HostsFailed
          web-02 failed
hosts     3 selected: 1 ready, 1 updated, 1 pending, 1 failed, 0 unreachable
          v2                      1  #
          v1                      2  ##
rollout   2.0 of v2, attempt 1, begun 90s ago, batch 2 of 3
  web-02           Failed       v1  NotReady, 30s ago: no answer
  web-03           Staged       v1  Pending, 30s ago: was not begun with: the rollout stands still
  web-01           Ready        v2  (10.0.0.1)
history   #2 v2 (0123456789) Failed, 1 failed hosts, begun 90s ago
";
        assert_eq!(screen, expected);
    }

    fn group(hosts: &[&str]) -> HostGroup {
        let hosts: Vec<_> = (1..)
            .zip(hosts)
            .map(|(n, name)| serde_json::json!({ "name": name, "address": format!("10.0.0.{n}") }))
            .collect();
        serde_json::from_value(serde_json::json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "HostGroup", "metadata": { "name": "prod" },
            "spec": { "ssh": { "user": "deploy", "credentialsRef": { "name": "a" }, "hostKeys": { "knownHostsRef": { "name": "b" } } }, "hosts": hosts },
        }))
        .unwrap()
    }

    #[test]
    fn a_host_of_which_the_status_can_not_speak_is_not_said_to_be_ready() {
        let mut object = example("x");
        let four = group(&["web-01", "web-02", "web-03", "web-04"]);
        assert!(!deployment(&object, Some(&four), Timestamp::UNIX_EPOCH).contains("10.0.0.4"), "it joined just now");
        object.spec.hosts =
            Some(serde_json::from_value(serde_json::json!({ "names": ["web-02", "web-03", "web-04"] })).unwrap());
        object.metadata.generation = Some(3);
        assert!(
            !deployment(&object, Some(&four), Timestamp::UNIX_EPOCH).contains("10.0.0.4"),
            "it was selected just now"
        );
    }

    #[test]
    fn a_terminal_obeys_nothing_that_a_host_said() {
        let screen = deployment(&example("\u{1b}]52;c;evil\u{7}\u{202e}"), None, Timestamp::UNIX_EPOCH);
        assert!(!screen.contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }

    #[test]
    fn a_message_of_several_lines_does_not_look_like_another_line_of_the_screen() {
        let screen = deployment(&example("no\nstate     ready: Deployed\n"), None, Timestamp::UNIX_EPOCH);
        assert_eq!(screen.lines().filter(|line| line.starts_with("state")).count(), 1, "{screen}");
    }
}
