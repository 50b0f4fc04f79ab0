//! Counts, exceptions and versions of a HostGroup's status, and the events that follow from them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{HostCheck, Observed, View};
use crate::{
    api::{
        Reason,
        conditions::clip,
        hostgroup::{HostCounts, HostException, HostGroupStatus, ProjectOnHosts, VersionCount},
        verbs,
    },
    plan::EventDraft,
};

/// A status may not pass 1 MiB, so it lists so many hosts and no more.
const EXCEPTIONS: usize = 100;
const PROJECTS: usize = 100;

/// Everything but conditions, generation and who is suspended. `handled`: the verbs whose stamps are done with.
pub fn status(
    observed: &Observed,
    before: &HostGroupStatus,
    view: &View<'_>,
    handled: &[&str],
    now: Timestamp,
) -> HostGroupStatus {
    HostGroupStatus {
        last_handled: verbs::handled(handled, &observed.annotations, &before.last_handled),
        hosts: HostCounts {
            total: count(observed.spec.hosts.len()),
            reachable: count(view.count(|check| matches!(check, HostCheck::Facts(_)))),
            unreachable: count(view.count(|check| matches!(check, HostCheck::Failed(_)))),
            suspended: count(view.suspended),
        },
        exceptions: exceptions(view, before, now),
        projects: projects(observed),
        ..HostGroupStatus::default()
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn exceptions(view: &View<'_>, before: &HostGroupStatus, now: Timestamp) -> Vec<HostException> {
    let since = |host: &str, reason: &str| {
        let old = before.exceptions.iter().find(|old| old.host == host && old.reason == reason);
        old.map_or(Time(now), |old| old.since.clone())
    };
    view.in_service
        .iter()
        .filter_map(|(host, check)| {
            let problem = check.problem()?;
            let reason = problem.reason.as_str();
            let since = since(&host.name, &reason);
            Some(HostException { host: host.name.clone(), reason, message: clip(&problem.message, 400), since })
        })
        .take(EXCEPTIONS)
        .collect()
}

/// Versions of this namespace's projects that run on the hosts; what other namespaces run there is not ours to tell.
fn projects(observed: &Observed) -> Vec<ProjectOnHosts> {
    let mut running: BTreeMap<String, BTreeMap<String, i32>> = BTreeMap::new();
    // Also of suspended hosts: what runs there runs on.
    let hosts = observed.spec.hosts.iter().filter_map(|host| observed.hosts.get(&host.name));
    for check in hosts {
        let HostCheck::Facts(facts) = check else { continue };
        for (folder, facts) in &facts.folders {
            let Some((of, project)) = folder.as_str().split_once('.') else { continue };
            let alive = facts.process.as_ref().filter(|process| process.alive);
            let Some(release) = alive.and_then(|process| process.release.as_ref()).filter(|_| of == observed.namespace)
            else {
                continue;
            };
            let versions = running.entry(project.to_owned()).or_default();
            *versions.entry(release.version().to_owned()).or_default() += 1;
        }
    }
    let versions = |versions: BTreeMap<String, i32>| {
        versions.into_iter().take(EXCEPTIONS).map(|(version, hosts)| VersionCount { version, hosts }).collect()
    };
    let project = |(project, counts)| ProjectOnHosts { project, versions: versions(counts) };
    running.into_iter().take(PROJECTS).map(project).collect()
}

/// Hosts that were lost and hosts that came back.
pub fn events(before: &HostGroupStatus, after: &HostGroupStatus) -> Vec<EventDraft> {
    let new = after.exceptions.iter().filter(|now| !before.exceptions.iter().any(|old| old.host == now.host));
    let named: Vec<String> = new.take(5).map(|one| format!("{}: {}", one.host, one.reason)).collect();
    if named.is_empty() {
        return Vec::new();
    }
    vec![EventDraft::warning(Reason::Unreachable, "Probe", format!("something is wrong with {}", named.join(", ")))]
}
