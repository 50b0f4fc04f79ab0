//! What the spec names and what may stand in the way before any host is thought of. A chain of predicates, first hit wins.

use std::collections::BTreeMap;

use super::{
    claim::{Claim, Claims, known_revision},
    observed::{Group, Observed},
    select::{Unselectable, select},
};
use crate::{
    api::{
        Reason,
        hostgroup::{Become, BecomeMethod, Host},
        verbs,
    },
    model::{Failure, ids::Owner, version::VersionRecord},
    plan::hostgroup::duplicate_address,
};

/// What the Deployment is about, once the group is known and can be reached.
pub struct Targets<'a> {
    pub group: &'a Group,
    /// Selected, in the group's order.
    pub hosts: Vec<&'a Host>,
    /// Owners that are known to be gone, by host.
    pub replaces: BTreeMap<String, Owner>,
    /// Hosts of another control plane that a person said to take over.
    pub adopt: Vec<(String, Option<Owner>)>,
}

/// The group and its hosts, or what keeps us from them.
pub fn choose(observed: &Observed) -> Result<Targets<'_>, Failure> {
    let name = &observed.spec.host_group_ref.name;
    if let Some(failure) = status_unreadable(observed) {
        return Err(failure);
    }
    let Some(group) = &observed.group else {
        let text = format!("HostGroup {name} does not exist (yet) in namespace {}", observed.namespace);
        return Err(Failure::waiting(Reason::HostGroupNotFound, text));
    };
    if let Some(failure) = &group.secret {
        return Err(failure.clone());
    }
    if let Some((first, second, address)) = duplicate_address(&group.hosts) {
        let text = format!(
            "hosts {first} and {second} of HostGroup {name} both have the address {address}; list each machine once"
        );
        return Err(Failure::terminal(Reason::DuplicateAddress, text));
    }
    let hosts = select(observed.spec.hosts.as_ref(), &group.hosts).map_err(|why| unselectable(&why, name))?;
    own(observed, Targets { group, hosts, replaces: BTreeMap::new(), adopt: Vec::new() })
}

/// Which hosts are in their update is not known where the record of the rollout can't be read: nothing new begins.
fn status_unreadable(observed: &Observed) -> Option<Failure> {
    let text = "status.rollout can't be read; a later version of landfall wrote it, or somebody else did. Run that version, or remove \
                the field, which starts the rollout from its beginning: kubectl patch deployments.landfall.dev NAME \
                --subresource=status --type=json -p '[{\"op\":\"remove\",\"path\":\"/status/rollout\"}]'";
    let text = text.replace("NAME", &observed.name);
    observed.before().rollout.is_unreadable().then(|| Failure::terminal(Reason::StatusUnreadable, text))
}

fn unselectable(why: &Unselectable, group: &str) -> Failure {
    match why {
        Unselectable::NotFound(names) => Failure::terminal(
            Reason::HostsNotFound,
            format!(
                "HostGroup {group} has no {}; correct spec.hosts.names or add them to the group",
                list_names(names)
            ),
        ),
        Unselectable::None => Failure::terminal(
            Reason::NoHosts,
            format!("spec.hosts selects no host of HostGroup {group}; leave it out to select all"),
        ),
    }
}

/// Kept under this name for its callers; it is the planners' own.
pub(super) use crate::plan::list_names;

/// Whether every selected host may be acted on. One that may not stops all: a half-claimed Deployment touches nothing.
fn own<'a>(observed: &Observed, mut targets: Targets<'a>) -> Result<Targets<'a>, Failure> {
    let claims = Claims::new(observed, targets.group);
    let adopt = verbs::asked(verbs::ADOPT, &observed.annotations, &observed.before().last_handled, observed.first());
    for host in targets.hosts.clone() {
        match claims.of(host) {
            Claim::Ours { replaces: Some(owner) } => _ = targets.replaces.insert(host.name.clone(), owner),
            Claim::Ours { replaces: None } => {}
            Claim::Others(who) => {
                let text = format!(
                    "host {} can't be Deployment {}'s: {who}; one host has one Deployment per project, so select other hosts or delete \
                     one of the two. Nothing was touched",
                    host.name, observed.name
                );
                return Err(Failure::terminal(Reason::HostClaimed, text));
            }
            Claim::Foreign { control_plane_id, owner } if adopt == Some(control_plane_id.as_str()) => {
                targets.adopt.push((host.name.clone(), owner));
            }
            Claim::Foreign { control_plane_id, owner } => {
                return Err(fenced(&host.name, &control_plane_id, owner.as_ref()));
            }
            Claim::Ahead { fenced, .. } if adopt == Some(observed.control_plane_id.as_str()) => {
                targets.adopt.extend(fenced.then(|| (host.name.clone(), None)));
            }
            Claim::Ahead { revision, .. } => return Err(ahead(observed, &host.name, revision)),
        }
    }
    Ok(targets)
}

fn ahead(observed: &Observed, host: &str, revision: i64) -> Failure {
    let what = match revision > known_revision(observed) {
        true => format!("revision {revision}, higher than this Deployment knows of"),
        false => "a later operator of this control plane than the one that holds the lease now".to_owned(),
    };
    let text = format!(
        "host {host} has seen {what}: this control plane was restored from a backup. To go on from there: kubectl annotate --overwrite \
         deployments.landfall.dev/{} {}={}",
        observed.name,
        verbs::ADOPT,
        observed.control_plane_id
    );
    Failure::terminal(Reason::HostsAhead, text)
}

fn fenced(host: &str, control_plane_id: &str, owner: Option<&Owner>) -> Failure {
    let whose =
        owner.map_or(String::new(), |owner| format!(", as Deployment {}/{}", owner.namespace, owner.deployment));
    let text = format!(
        "control plane {control_plane_id} acts on host {host}{whose}. If that one is gone, or is to let go, take its hosts over with the annotation \
         {}={control_plane_id}",
        verbs::ADOPT
    );
    Failure::terminal(Reason::FencedByOtherControlPlane, text)
}

/// The version that is wanted, or what it waits for.
pub fn version(observed: &Observed) -> Result<&VersionRecord, Failure> {
    let project = &observed.spec.project_ref.name;
    if !observed.project {
        let text = format!("Project {project} does not exist (yet) in namespace {}", observed.namespace);
        return Err(Failure::waiting(Reason::ProjectNotFound, text));
    }
    if let Some(record) = observed.version.as_ref().filter(|_| observed.removed) {
        let text = format!(
            "version {} was removed, for Project {project} keeps no more than spec.retention.succeededLimit says; deploy another version, \
             or build commit {} again under a new one",
            record.version, record.commit
        );
        return Err(Failure::terminal(Reason::VersionRemoved, text));
    }
    let version = observed.version.as_ref().ok_or_else(|| {
        let text = format!(
            "Project {project} has no version {} (yet); a Build that succeeds publishes one",
            observed.spec.version
        );
        Failure::waiting(Reason::VersionNotFound, text)
    })?;
    match runtime_unknown(version).or_else(|| user_refused(observed, version)) {
        Some(failure) => Err(failure),
        None => Ok(version),
    }
}

/// A version whose `run` has a member that this operator does not know, frozen by a newer one, is started nowhere.
fn runtime_unknown(version: &VersionRecord) -> Option<Failure> {
    let text = format!(
        "version {} does not run as a process, and this operator knows nothing else; deploy it with the landfall that built it",
        version.version
    );
    version.run.process.is_none().then(|| Failure::terminal(Reason::HostUnsupported, text))
}

/// A version that runs as a user whom the group does not let it be touches no host.
fn user_refused(observed: &Observed, version: &VersionRecord) -> Option<Failure> {
    let (user, group) = (version.run.user.as_ref()?, observed.group.as_ref()?);
    let text = not_allowed(user, &group.r#become)?;
    let name = &observed.spec.host_group_ref.name;
    Some(Failure::terminal(Reason::UserNotAllowed, format!("version {} on {name}: {text}", version.version)))
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
