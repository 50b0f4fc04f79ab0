//! Counts, exceptions and versions of a HostGroup's status, and the events that follow from them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{HostCheck, Observed};
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

/// Everything but conditions and generation. `handled`: the verbs whose stamps are done with.
pub fn status(observed: &Observed, before: &HostGroupStatus, handled: &[&str], now: Timestamp) -> HostGroupStatus {
    let looks: Vec<(&str, &HostCheck)> = observed
        .spec
        .hosts
        .iter()
        .map(|host| (host.name.as_str(), observed.hosts.get(&host.name).unwrap_or(&HostCheck::Unknown)))
        .collect();
    let count = |fits: fn(&HostCheck) -> bool| count(looks.iter().filter(|(_, look)| fits(look)).count());
    HostGroupStatus {
        last_handled: verbs::handled(handled, &observed.annotations, &before.last_handled),
        hosts: HostCounts {
            total: self::count(looks.len()),
            reachable: count(|look| matches!(look, HostCheck::Facts(_))),
            unreachable: count(|look| matches!(look, HostCheck::Failed(_))),
        },
        exceptions: exceptions(&looks, before, now),
        projects: projects(&looks, &observed.namespace),
        ..HostGroupStatus::default()
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn exceptions(looks: &[(&str, &HostCheck)], before: &HostGroupStatus, now: Timestamp) -> Vec<HostException> {
    let since = |host: &str, reason: &str| {
        let old = before.exceptions.iter().find(|old| old.host == host && old.reason == reason);
        old.map_or(Time(now), |old| old.since.clone())
    };
    looks
        .iter()
        .filter_map(|(host, look)| {
            let problem = look.problem()?;
            let reason = problem.reason.as_str();
            let since = since(host, &reason);
            Some(HostException { host: (*host).to_owned(), reason, message: clip(&problem.message, 400), since })
        })
        .take(EXCEPTIONS)
        .collect()
}

/// Versions of this namespace's projects that run on the hosts; what other namespaces run there is not ours to tell.
fn projects(looks: &[(&str, &HostCheck)], namespace: &str) -> Vec<ProjectOnHosts> {
    let mut running: BTreeMap<String, BTreeMap<String, i32>> = BTreeMap::new();
    for (_, look) in looks {
        let HostCheck::Facts(facts) = look else { continue };
        for (folder, facts) in &facts.folders {
            let Some((of, project)) = folder.as_str().split_once('.') else { continue };
            let alive = facts.process.as_ref().filter(|process| process.alive);
            let Some(release) = alive.and_then(|process| process.release.as_ref()).filter(|_| of == namespace) else {
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
