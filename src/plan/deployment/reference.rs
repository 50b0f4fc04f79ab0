//! What the spec names and what may stand in the way before any host is thought of. A chain of predicates, first hit wins.

use std::collections::BTreeMap;

use super::{
    claim::{Claim, claim, known_revision},
    observed::{Group, Observed},
    select::{Unselectable, select},
};
use crate::{
    api::{
        Reason,
        hostgroup::{Become, BecomeMethod, Host},
        verbs,
    },
    plan::{
        hostgroup::{Problem, duplicate_address},
        ids::Owner,
        version::VersionRecord,
    },
};

/// What the Deployment is about, once the group is known and can be reached.
pub struct Chosen<'a> {
    pub group: &'a Group,
    /// Selected, in the group's order.
    pub hosts: Vec<&'a Host>,
    /// Owners that are known to be gone, by host.
    pub replaces: BTreeMap<String, Owner>,
    /// Hosts of another control plane that a person said to take over.
    pub adopt: Vec<(String, Option<Owner>)>,
}

/// The group and its hosts, or what keeps us from them.
pub fn choose(seen: &Observed) -> Result<Chosen<'_>, Problem> {
    let name = &seen.spec.host_group_ref.name;
    let Some(group) = &seen.group else {
        let text = format!("HostGroup {name} does not exist (yet) in namespace {}", seen.namespace);
        return Err(Problem::waiting(Reason::HostGroupNotFound, text));
    };
    if let Some(problem) = &group.secret {
        return Err(problem.clone());
    }
    if let Some((first, second, address)) = duplicate_address(&group.hosts) {
        let text = format!(
            "hosts {first} and {second} of HostGroup {name} both have the address {address}; list each machine once"
        );
        return Err(Problem::terminal(Reason::DuplicateAddress, text));
    }
    let hosts = select(seen.spec.hosts.as_ref(), &group.hosts).map_err(|why| unselectable(&why, name))?;
    own(seen, Chosen { group, hosts, replaces: BTreeMap::new(), adopt: Vec::new() })
}

fn unselectable(why: &Unselectable, group: &str) -> Problem {
    match why {
        Unselectable::NotFound(names) => Problem::terminal(
            Reason::HostsNotFound,
            format!("HostGroup {group} has no {}; correct spec.hosts.names or add them to the group", some(names)),
        ),
        Unselectable::None => Problem::terminal(
            Reason::NoHosts,
            format!("spec.hosts selects no host of HostGroup {group}; leave it out to select all"),
        ),
        Unselectable::Operator(operator) => Problem::terminal(
            Reason::InvalidSpec,
            format!("spec.hosts.selector has the operator {operator:?}; it takes In, NotIn, Exists, DoesNotExist"),
        ),
    }
}

/// At most five names, and how many more.
pub fn some(names: &[String]) -> String {
    match names.len() {
        0..=5 => names.join(", "),
        n => format!("{} and {} more", names[..5].join(", "), n - 5),
    }
}

/// Whether every selected host may be acted on. One that may not stops all: a half-claimed Deployment touches nothing.
fn own<'a>(seen: &Observed, mut chosen: Chosen<'a>) -> Result<Chosen<'a>, Problem> {
    let adopt = verbs::asked(verbs::ADOPT, &seen.annotations, &seen.before().last_handled, seen.first());
    for host in chosen.hosts.clone() {
        match claim(seen, chosen.group, host) {
            Claim::Ours { replaces: Some(owner) } => _ = chosen.replaces.insert(host.name.clone(), owner),
            Claim::Ours { replaces: None } => {}
            Claim::Others(who) => {
                let text = format!(
                    "host {} can't be Deployment {}'s: {who}; one host has one Deployment per project, so select other hosts or delete \
                     one of the two. Nothing was touched",
                    host.name, seen.name
                );
                return Err(Problem::terminal(Reason::HostClaimed, text));
            }
            Claim::Foreign { plane, owner } if adopt == Some(plane.as_str()) => {
                chosen.adopt.push((host.name.clone(), owner));
            }
            Claim::Foreign { plane, owner } => return Err(fenced(&host.name, &plane, owner.as_ref())),
            Claim::Ahead { fenced, .. } if adopt == Some(seen.plane.as_str()) => {
                chosen.adopt.extend(fenced.then(|| (host.name.clone(), None)));
            }
            Claim::Ahead { revision, .. } => return Err(ahead(seen, &host.name, revision)),
        }
    }
    Ok(chosen)
}

fn ahead(seen: &Observed, host: &str, revision: i64) -> Problem {
    let what = match revision > known_revision(seen) {
        true => format!("revision {revision}, higher than this Deployment knows of"),
        false => "a later operator of this control plane than the one that holds the lease now".to_owned(),
    };
    let text = format!(
        "host {host} has seen {what}: this control plane was restored from a backup. To go on from there: kubectl annotate --overwrite \
         deployments.landfall.dev/{} {}={}",
        seen.name,
        verbs::ADOPT,
        seen.plane
    );
    Problem::terminal(Reason::HostsAhead, text)
}

fn fenced(host: &str, plane: &str, owner: Option<&Owner>) -> Problem {
    let whose =
        owner.map_or(String::new(), |owner| format!(", as Deployment {}/{}", owner.namespace, owner.deployment));
    let text = format!(
        "control plane {plane} acts on host {host}{whose}. If that one is gone, or is to let go, take its hosts over with the annotation \
         {}={plane}",
        verbs::ADOPT
    );
    Problem::terminal(Reason::FencedByOtherControlPlane, text)
}

/// The version that is wanted, or what it waits for.
pub fn version(seen: &Observed) -> Result<&VersionRecord, Problem> {
    let project = &seen.spec.project_ref.name;
    if !seen.project {
        let text = format!("Project {project} does not exist (yet) in namespace {}", seen.namespace);
        return Err(Problem::waiting(Reason::ProjectNotFound, text));
    }
    if let Some(record) = seen.version.as_ref().filter(|_| seen.removed) {
        let text = format!(
            "version {} was removed, for Project {project} keeps no more than spec.retention.succeededLimit says; deploy another version, \
             or build commit {} again under a new one",
            record.version, record.commit
        );
        return Err(Problem::terminal(Reason::VersionRemoved, text));
    }
    let version = seen.version.as_ref().ok_or_else(|| {
        let text = format!(
            "Project {project} has no version {} (yet); a Build that succeeds publishes one",
            seen.spec.version
        );
        Problem::waiting(Reason::VersionNotFound, text)
    })?;
    match user_refused(seen, version) {
        Some(problem) => Err(problem),
        None => Ok(version),
    }
}

/// A version that runs as a user whom the group does not let it be touches no host.
fn user_refused(seen: &Observed, version: &VersionRecord) -> Option<Problem> {
    let (user, group) = (version.run.user.as_ref()?, seen.group.as_ref()?);
    let text = not_allowed(user, &group.r#become)?;
    let name = &seen.spec.host_group_ref.name;
    Some(Problem::terminal(Reason::UserNotAllowed, format!("version {} on {name}: {text}", version.version)))
}

/// Why `user` can't be become; `None` where he can.
pub fn not_allowed(user: &str, by: &Become) -> Option<String> {
    if by.method != BecomeMethod::None && by.users.iter().any(|one| one == user) {
        return None;
    }
    let users = if by.users.is_empty() { "nobody".to_owned() } else { by.users.join(", ") };
    Some(format!(
        "it runs as {user:?} (run.user), and become.users of the HostGroup has {users}; add it there, with a become.method, or build a \
         version that runs as somebody else"
    ))
}
