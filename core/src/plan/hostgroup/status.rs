//! Counts, exceptions and versions of a HostGroup's status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{check::HostCheck, observed::Observed, view::View};
use crate::{
    api::{
        conditions::clip,
        hostgroup::{Host, HostCounts, HostException, HostGroupStatus, ProjectOnHosts, VersionCount},
        verbs,
    },
    model::Failure,
};

/// A status may not pass 1 MiB, so it lists a bounded number of hosts.
pub(super) const EXCEPTIONS_MAX: usize = 100;
const PROJECTS_MAX: usize = 100;

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
    let exception = |(host, failure): (&Host, Failure)| {
        let reason = failure.reason.to_string();
        let since = since(&host.name, &reason);
        HostException { host: host.name.clone(), reason, message: clip(&failure.message, 400), since }
    };
    problems(view).map(exception).collect()
}

/// Hosts in service with which something is wrong, as many as the status lists.
pub(super) fn problems<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a Host, Failure)> {
    view.in_service.iter().filter_map(|(host, check)| Some((*host, check.problem()?))).take(EXCEPTIONS_MAX)
}

/// Versions of this namespace's projects that run on the hosts; what other namespaces run there is not shown.
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
        versions.into_iter().take(EXCEPTIONS_MAX).map(|(version, hosts)| VersionCount { version, hosts }).collect()
    };
    let project = |(project, counts)| ProjectOnHosts { project, versions: versions(counts) };
    running.into_iter().take(PROJECTS_MAX).map(project).collect()
}
