//! One HostGroup: how many hosts answer, what is wrong with the others, and which versions run there.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::{ago, indented, line, state, title};
use crate::{api::HostGroup, model::text::for_terminal};

/// Hosts with a problem that are shown; the rest is counted.
const SHOWN: usize = 30;

pub fn hostgroup(raw: &Value, object: &HostGroup, now: Timestamp) -> String {
    let status = object.status.clone().unwrap_or_default();
    let mut out = format!("{}\n", title(raw, "HostGroup"));
    state(&mut out, raw);
    let counts = &status.hosts;
    let mut summary =
        format!("{} listed: {} reachable, {} unreachable", counts.total, counts.reachable, counts.unreachable);
    if counts.suspended > 0 {
        let _ = write!(summary, ", {} suspended", counts.suspended);
    }
    line(&mut out, "hosts", &summary);
    for host in &object.spec.hosts {
        let Some(suspend) =
            host.suspend.as_ref().filter(|suspend| suspend.until.as_ref().is_none_or(|until| until.0 > now))
        else {
            continue;
        };
        let until = suspend.until.as_ref().map_or(String::new(), |until| format!(" until {}", until.0));
        line(
            &mut out,
            "",
            &format!("{:<16} suspended by spec.hosts[].suspend{until}: {}", host.name, indented(&suspend.reason)),
        );
    }
    for host in &status.suspended {
        let reason = host.reason.as_deref().map_or(String::new(), |reason| format!(": {}", indented(reason)));
        line(
            &mut out,
            "",
            &format!("{:<16} suspended by landfall.dev/suspend-host, {}{reason}", host.host, ago(host.since.0, now)),
        );
    }
    for exception in status.exceptions.iter().take(SHOWN) {
        let (since, message) = (ago(exception.since.0, now), indented(&exception.message));
        line(&mut out, "", &format!("{:<16} {}, {since}: {message}", exception.host, exception.reason));
    }
    let more = status.exceptions.len().saturating_sub(SHOWN);
    if more > 0 {
        line(&mut out, "", &format!("… and {more} more"));
    }
    for (at, project) in status.projects.iter().enumerate() {
        let versions: Vec<_> =
            project.versions.iter().map(|version| format!("{} on {}", version.version, version.hosts)).collect();
        let text = format!("{:<16} {}", project.project, versions.join(", "));
        line(&mut out, if at == 0 { "projects" } else { "" }, &text);
    }
    for_terminal(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_group_shows_who_does_not_answer_who_is_suspended_and_what_runs_where() {
        let raw = serde_json::json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "HostGroup",
            "metadata": { "name": "web", "namespace": "shop", "generation": 1 },
            "spec": { "ssh": { "user": "deploy", "credentialsRef": { "name": "a" }, "hostKeys": { "policy": "Strict", "knownHostsRef": { "name": "b" } } }, "root": "/srv/landfall", "hosts": [
                { "name": "web-03", "address": "10.0.0.3", "suspend": { "reason": "disk swap", "until": "2026-11-24T09:00:00Z" } },
                { "name": "web-05", "address": "10.0.0.5", "suspend": { "reason": "over", "until": "2026-11-24T07:00:00Z" } },
            ] },
            "status": {
                "observedGeneration": 1,
                "conditions": [{ "type": "Ready", "status": "True", "reason": "Probed", "message": "1 of 2 hosts answer", "lastTransitionTime": "2026-11-24T08:00:00Z" }],
                "hosts": { "total": 2, "reachable": 1, "unreachable": 1, "suspended": 2 },
                "suspended": [{ "host": "web-04", "reason": "new memory", "since": "2026-11-24T08:00:00Z" }],
                "exceptions": [{ "host": "web-02", "reason": "Unreachable", "message": "connection refused", "since": "2026-11-24T08:00:00Z" }],
                "projects": [{ "project": "hello", "versions": [{ "version": "v2", "hosts": 1 }, { "version": "v1", "hosts": 1 }] }],
            },
        });
        let object = serde_json::from_value(raw.clone()).unwrap();
        let expected = "\
HostGroup shop/web
state     ready: Probed
          1 of 2 hosts answer
hosts     2 listed: 1 reachable, 1 unreachable, 2 suspended
          web-03           suspended by spec.hosts[].suspend until 2026-11-24T09:00:00Z: disk swap
          web-04           suspended by landfall.dev/suspend-host, 30s ago: new memory
          web-02           Unreachable, 30s ago: connection refused
projects  hello            v2 on 1, v1 on 1
";
        assert_eq!(hostgroup(&raw, &object, "2026-11-24T08:00:30Z".parse().unwrap()), expected);
    }
}
