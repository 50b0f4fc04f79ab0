//! One Deployment: hosts, versions, the rollout and the history.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;

use super::{ago, changed, count, indented, line, short, state, title};
use crate::{
    api::{
        Deployment, HostGroup,
        deployment::{DeploymentStatus, HistoryEntry, RolloutException},
        hostgroup::Host,
    },
    model::text::for_terminal,
    plan::deployment::{pinned_versions, select},
};

/// Entries of the history that are shown.
const HISTORY: usize = 5;
/// Hosts that are shown; the rest is counted.
const HOSTS: usize = 30;

/// The screen. `raw` is the same object as the API server sent it; without the right to read the group, hosts with nothing to report are not listed.
pub fn deployment(raw: &Value, object: &Deployment, group: Option<&HostGroup>, now: Timestamp) -> String {
    let status = object.status.clone().unwrap_or_default();
    let mut out = format!("{}\n", title(raw, "Deployment"));
    let spec = &object.spec;
    let wanted =
        format!("{} of project {} on host group {}", spec.version, spec.project_ref.name, spec.host_group_ref.name);
    line(&mut out, "version", &wanted);
    state(&mut out, raw);
    let counts = &status.hosts;
    let summary = format!(
        "{} selected: {} ready, {} updated, {} pending, {} failed, {} unreachable",
        counts.total, counts.ready, counts.updated, counts.pending, counts.failed, counts.unreachable
    );
    let skipped = if counts.skipped > 0 { format!(", {} suspended", counts.skipped) } else { String::new() };
    line(&mut out, "hosts", &format!("{summary}{skipped}"));
    for version in &status.versions {
        let bar = "#".repeat(usize::try_from(version.hosts).unwrap_or(0).min(40));
        line(&mut out, "", &format!("{:<20} {:>4}  {bar}", version.version, version.hosts));
    }
    for pin in spec.pins.iter().filter(|pin| pin.is_in_force(now)) {
        let hosts = match &pin.hosts.names {
            Some(names) => names.join(", "),
            None => "hosts by label".to_owned(),
        };
        let until = pin.until.as_ref().map(|until| format!(" (until {})", until.0)).unwrap_or_default();
        line(&mut out, "pin", &format!("{} on {hosts}{until}: {}", pin.version, pin.reason));
    }
    if let Some(rollout) = status.rollout.as_ref() {
        let by = rollout.requested_by.as_deref().unwrap_or("unknown");
        let summary = format!(
            "{} of {}, attempt {}, requested by {by}, started {}, batch {} of {}",
            rollout.id,
            rollout.version,
            rollout.attempt,
            ago(rollout.started_at.0, now),
            rollout.batch,
            rollout.batches
        );
        line(&mut out, "rollout", &summary);
    }
    hosts(&mut out, object, &status, group, now);
    history(&mut out, &status.history, now);
    for_terminal(&out)
}

/// Hosts with something to report, then the others.
fn hosts(out: &mut String, object: &Deployment, status: &DeploymentStatus, group: Option<&HostGroup>, now: Timestamp) {
    for exception in status.exceptions.iter().take(HOSTS) {
        host(out, exception, now);
    }
    let ready = group.map(|group| ready(object, status, group)).unwrap_or_default();
    let version = status.rollout.as_ref().map_or("?", |rollout| rollout.version.as_str());
    let pinned = group.map(|group| pinned_versions(&object.spec, &group.spec.hosts, now)).unwrap_or_default();
    for host in ready.iter().take(HOSTS.saturating_sub(status.exceptions.len())) {
        let version = pinned.get(host.name.as_str()).unwrap_or(&version);
        let _ = writeln!(out, "  {:<16} {:<12} {version}  {}", host.name, "Ready", host.address);
    }
    let listed = status.exceptions.len() + ready.len();
    let more = usize::try_from(status.hosts.total).unwrap_or(0).max(listed).saturating_sub(listed.min(HOSTS));
    if more > 0 && listed > 0 {
        let _ = writeln!(out, "          … and {more} more");
    }
}

/// Selected hosts with nothing to report: they run the rollout's version. Empty unless the counts prove that the status lists all the
/// others: its list ends at a hundred, and may be of an older spec, which selected other hosts.
fn ready<'a>(object: &Deployment, status: &DeploymentStatus, group: &'a HostGroup) -> Vec<&'a Host> {
    let selected = select(object.spec.hosts.as_ref(), &group.spec.hosts).unwrap_or_default();
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    let current = object.spec.hosts.is_none() || Some(status.observed_generation) == object.metadata.generation;
    let whole = count(status.hosts.ready) + status.exceptions.len() == selected.len();
    if !current || !whole || count(status.hosts.total) + count(status.hosts.skipped) != selected.len() {
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
        let failed = match usize::try_from(entry.failed_hosts).unwrap_or(0) {
            0 => String::new(),
            n => format!(", {} failed", count(n, "host")),
        };
        let started = ago(entry.started_at.0, now);
        let (revision, version, commit) = (entry.revision, &entry.version, short(&entry.commit));
        let change = entry.change.map(|change| format!("{}: ", changed(change))).unwrap_or_default();
        let by = entry.requested_by.as_deref().unwrap_or("unknown");
        line(
            out,
            label,
            &format!(
                "#{revision} {version} ({commit}) {change}{:?}{failed}, requested by {by}, started {started}",
                entry.outcome
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(raw: &Value, group: Option<&HostGroup>, now: Timestamp) -> String {
        deployment(raw, &serde_json::from_value(raw.clone()).unwrap(), group, now)
    }

    fn example(message: &str) -> Value {
        serde_json::json!({
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
                    { "host": "web-03", "phase": "Staged", "version": "v1", "reason": "Pending", "message": "not started: the rollout is halted", "since": "2026-11-24T08:00:00Z" }],
                "rollout": { "id": "2.0", "hash": "h", "attempt": 1, "version": "v2", "digest": "sha256:d", "requestedBy": "alice", "startedAt": "2026-11-24T07:59:00Z", "progressedAt": "2026-11-24T07:59:00Z", "batch": 2, "batches": 3 },
                "history": [{ "revision": 2, "version": "v2", "commit": "0123456789abcdef", "change": "Environment", "startedAt": "2026-11-24T07:59:00Z", "outcome": "Failed", "failedHosts": 1 }],
            },
        })
    }

    #[test]
    fn a_failed_deployment_shows_who_failed_why_what_runs_where_and_what_changed() {
        let now: Timestamp = "2026-11-24T08:00:30Z".parse().unwrap();
        let screen = show(&example("web-02 failed"), Some(&group(&["web-01", "web-02", "web-03"])), now);
        let expected = "\
Deployment shop/web
version   v2 of project hello on host group prod
state     failed, needs action: HostsFailed
          web-02 failed
hosts     3 selected: 1 ready, 1 updated, 1 pending, 1 failed, 0 unreachable
          v2                      1  #
          v1                      2  ##
rollout   2.0 of v2, attempt 1, requested by alice, started 90s ago, batch 2 of 3
  web-02           Failed       v1  NotReady, 30s ago: no answer
  web-03           Staged       v1  Pending, 30s ago: not started: the rollout is halted
  web-01           Ready        v2  10.0.0.1
history   #2 v2 (0123456789) new environment: Failed, 1 host failed, requested by unknown, started 90s ago
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
    fn a_host_that_the_status_does_not_cover_is_not_shown_as_ready() {
        let mut object = example("x");
        let four = group(&["web-01", "web-02", "web-03", "web-04"]);
        assert!(!show(&object, Some(&four), Timestamp::UNIX_EPOCH).contains("10.0.0.4"), "it joined just now");
        object["spec"]["hosts"] = serde_json::json!({ "names": ["web-02", "web-03", "web-04"] });
        object["metadata"]["generation"] = 3.into();
        assert!(!show(&object, Some(&four), Timestamp::UNIX_EPOCH).contains("10.0.0.4"), "it was selected just now");
    }

    #[test]
    fn nothing_that_a_host_says_controls_the_terminal() {
        let screen = show(&example("\u{1b}]52;c;evil\u{7}\u{202e}"), None, Timestamp::UNIX_EPOCH);
        assert!(!screen.contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }

    #[test]
    fn a_message_of_several_lines_does_not_look_like_another_line_of_the_screen() {
        let screen = show(&example("no\nstate     ready: Deployed\n"), None, Timestamp::UNIX_EPOCH);
        assert_eq!(screen.lines().filter(|line| line.starts_with("state")).count(), 1, "{screen}");
    }
}
