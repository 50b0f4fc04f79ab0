//! What the spec names: the group, its hosts and their claims, and the version. A spec that can't be met stops new updates only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    claim::{Claim, Claims, ahead_on_record, known_revision, prove_a_backup},
    deployable::judge,
    observed::{FolderCheck, Group, Observed},
    pins::{self, Pinned},
    references::{references, unusable},
    select::{Unselectable, select},
};
use crate::{
    api::{Reason, deployment::HostAhead, hostgroup::Host, verbs},
    model::{Failure, ids::Owner, version::VersionRecord},
    plan::{hostgroup::invalid_hosts, list_names},
};

/// Group and hosts of the Deployment.
pub(crate) struct Targets<'a> {
    pub group: &'a Group,
    /// All of the group in service, selected or not.
    pub in_service: Vec<&'a Host>,
    /// Selected and in service, in the group's order.
    pub hosts: Vec<&'a Host>,
    /// Selected and out of service, with the cause: in no count, neither updated nor healed.
    pub suspended: Vec<(&'a Host, String)>,
    /// Selected hosts on which this Deployment may not act, and why.
    pub refused: BTreeMap<&'a str, Failure>,
    /// Hosts that run a revision which this Deployment did not give, those of before that do not answer included.
    pub ahead: Vec<HostAhead>,
    /// Owners that are known to be gone, by host.
    pub replaces: BTreeMap<String, Owner>,
    /// Hosts that may be the machine of a selected one, and are not checked yet.
    pub undecided: BTreeSet<String>,
    /// Hosts with another version than the spec's, by version.
    pub pins: Vec<Pinned>,
    /// Hosts of another control plane that the verb `adopt` names.
    pub adopt: Vec<(String, Option<Owner>)>,
    /// First cause for which the spec can't be met: no new update begins, and no host is released.
    pub unmet: Option<Failure>,
}

impl<'a> Targets<'a> {
    /// Every selected host, in service or not.
    pub fn selected(&self) -> Vec<&'a Host> {
        self.hosts.iter().copied().chain(self.suspended.iter().map(|(host, _)| *host)).collect()
    }
}

/// The group and its hosts; an error without a group: no host is known then.
pub fn choose(observed: &Observed, now: Timestamp) -> Result<Targets<'_>, Failure> {
    let name = &observed.spec.host_group_ref.name;
    let Some(group) = &observed.group else {
        let text = format!(
            "spec.hostGroupRef.name: HostGroup {name} does not exist (yet) in namespace {0}; create it. Those that exist: kubectl -n {0} get \
             hostgroups.landfall.dev",
            observed.namespace
        );
        return Err(Failure::waiting(Reason::HostGroupNotFound, text));
    };
    let mut unmet =
        status_unreadable(observed).or_else(|| group.secret.clone()).or_else(|| invalid_group(observed, group));
    let selected = select(observed.spec.hosts.as_ref(), &group.hosts).unwrap_or_else(|why| {
        unmet.get_or_insert(unselectable(&why, name));
        // The selection is not known: hosts that belong to this Deployment are watched and healed.
        owned(observed, group)
    });
    let mut targets = Targets {
        group,
        in_service: group.hosts.iter().filter(|host| group.suspended(host, now).is_none()).collect(),
        hosts: Vec::new(),
        suspended: Vec::new(),
        refused: BTreeMap::new(),
        ahead: Vec::new(),
        replaces: BTreeMap::new(),
        undecided: BTreeSet::new(),
        pins: Vec::new(),
        adopt: Vec::new(),
        unmet,
    };
    for host in selected {
        match group.suspended(host, now) {
            Some(why) => targets.suspended.push((host, why)),
            None => targets.hosts.push(host),
        }
    }
    match pins::in_force(observed, group, &targets.selected(), now) {
        Ok(pins) => targets.pins = pins,
        Err(failure) => drop(targets.unmet.get_or_insert(failure)),
    }
    apply_claims(observed, &mut targets);
    Ok(targets)
}

/// A group with an invalid spec is Stalled, and a host with an invalid address is never checked.
fn invalid_group(observed: &Observed, group: &Group) -> Option<Failure> {
    let failure = invalid_hosts(&group.jump, &group.hosts)?;
    let name = &observed.spec.host_group_ref.name;
    let text = format!(
        "HostGroup {name} has an invalid spec: {}. No update begins until it is corrected: kubectl -n {} edit hostgroups.landfall.dev \
         {name}",
        failure.message, observed.namespace
    );
    Some(Failure::terminal(failure.reason, text))
}

/// Hosts of this Deployment as far as is known: its owner file is there, or the host is not checked yet, or its update is on record.
fn owned<'a>(observed: &Observed, group: &'a Group) -> Vec<&'a Host> {
    let rollout = observed.before().rollout.as_ref();
    let updating = rollout.and_then(|rollout| rollout.intent.as_ref()).map_or(&[][..], |intent| &intent.updating);
    let is_ours = |host: &&Host| match &observed.host(&host.name).check {
        FolderCheck::Facts(_) => is_owner(observed, host),
        FolderCheck::Unknown => true,
        FolderCheck::Failed(_) => updating.contains(&host.name),
    };
    group.hosts.iter().filter(is_ours).collect()
}

/// The owner file on this host names this Deployment, and the host by this name.
fn is_owner(observed: &Observed, host: &Host) -> bool {
    let owner = observed.host(&host.name).view().and_then(|view| view.folder.owner.as_ref());
    owner.is_some_and(|owner| owner.uid == observed.uid && owner.host == host.name)
}

/// Without a readable rollout it is not known which hosts are in their update: no update begins.
fn status_unreadable(observed: &Observed) -> Option<Failure> {
    if !observed.before().rollout.is_unreadable() {
        return None;
    }
    let text = format!(
        "status.rollout can't be read: a later version of landfall or another client wrote it. Run that version, or remove the field, and \
         the state is read from the hosts: kubectl -n {} patch deployments.landfall.dev {} --subresource=status --type=json \
         -p '[{{\"op\":\"remove\",\"path\":\"/status/rollout\"}}]'",
        observed.namespace, observed.name
    );
    Some(Failure::terminal(Reason::StatusUnreadable, text))
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

/// Claims of all selected hosts. One host that belongs to another Deployment stops new updates on all: no update begins on a part. One of
/// another control plane, or of a later state of this one, is set aside; several prove that this one was restored from a backup.
fn apply_claims(observed: &Observed, targets: &mut Targets<'_>) {
    let claims = Claims::new(observed, targets.group);
    let asked =
        |verb| verbs::asked(verb, &observed.annotations, &observed.before().last_handled, observed.is_first_decision());
    let (adopt, adopt_all) = (asked(verbs::ADOPT), asked(verbs::ADOPT_ALL));
    let all_of = adopt_all.and_then(|value| value.split('/').next());
    let adopts = |control_plane_id: &str| [adopt, all_of].contains(&Some(control_plane_id));
    let mut not_ours = Vec::new();
    let mut entries: BTreeMap<String, usize> = BTreeMap::new();
    for host in &targets.group.hosts {
        *entries.entry(host.machine()).or_default() += 1;
    }
    for host in &targets.hosts {
        if entries.get(&host.machine()).is_some_and(|entries| *entries > 1) && !is_owner(observed, host) {
            targets.refused.insert(&host.name, listed_twice(host));
            continue;
        }
        let failure = match claims.of(host) {
            Claim::Ours { replaces: None } => continue,
            Claim::Ours { replaces: Some(owner) } => {
                targets.replaces.insert(host.name.clone(), owner);
                continue;
            }
            Claim::Foreign { control_plane_id, owner } if adopts(&control_plane_id) => {
                targets.adopt.push((host.name.clone(), owner));
                continue;
            }
            Claim::Ahead { fenced, .. } if adopts(&observed.control_plane_id) => {
                targets.adopt.extend(fenced.then(|| (host.name.clone(), None)));
                continue;
            }
            Claim::Others(who) => claimed(observed, &host.name, &who),
            // A check decides it, before anything else is decided.
            Claim::Undecided { other, why } if observed.host(&other).is_unchecked() => {
                targets.refused.insert(&host.name, undecided(&host.name, &why));
                targets.undecided.insert(other);
                continue;
            }
            Claim::Undecided { why, .. } => undecided(&host.name, &why),
            claim @ (Claim::Foreign { .. } | Claim::Ahead { .. }) => {
                not_ours.push((host.name.as_str(), claim));
                continue;
            }
        };
        targets.unmet.get_or_insert_with(|| failure.clone());
        targets.refused.insert(&host.name, failure);
    }
    let silent = |one: &&HostAhead| observed.host(&one.host).view().is_none();
    let aside = not_ours.iter().filter_map(|(host, claim)| match claim {
        Claim::Ahead { revision, fenced: false } => Some(HostAhead { host: (*host).to_owned(), revision: *revision }),
        _ => None,
    });
    targets.ahead = aside.chain(ahead_on_record(observed).iter().filter(silent).cloned()).collect();
    let proved = prove_a_backup(not_ours.len(), targets.hosts.len());
    for (host, claim) in not_ours {
        let failure = match claim {
            Claim::Foreign { control_plane_id, owner } => {
                fenced(observed, host, &control_plane_id, owner.as_ref(), proved)
            }
            Claim::Ahead { revision, fenced } => ahead(observed, host, revision, fenced, proved),
            _ => continue,
        };
        if proved {
            targets.unmet.get_or_insert_with(|| failure.clone());
        }
        targets.refused.insert(host, failure);
    }
    if targets.unmet.is_some() {
        let names: BTreeSet<&String> = targets.adopt.iter().map(|(name, _)| name).collect();
        for host in targets.hosts.iter().filter(|host| names.contains(&host.name)) {
            let text = format!("host {} is adopted once the spec can be met", host.name);
            targets.refused.insert(&host.name, Failure::waiting(Reason::FencedByOtherControlPlane, text));
        }
    }
}

/// Of the names of one machine the one in its owner file counts.
fn listed_twice(host: &Host) -> Failure {
    let text = format!("the HostGroup lists the address {} twice; nothing is done under this name", host.address);
    Failure::terminal(Reason::DuplicateAddress, text)
}

fn claimed(observed: &Observed, host: &str, who: &str) -> Failure {
    let text = format!(
        "host {host} can't be claimed by Deployment {}: {who}; a host belongs to one Deployment per project: select other hosts, or delete \
         one of the two Deployments. No update begins meanwhile",
        observed.name
    );
    Failure::terminal(Reason::HostClaimed, text)
}

fn undecided(host: &str, why: &str) -> Failure {
    Failure::waiting(Reason::HostClaimed, format!("host {host} is not claimed yet: {why}. No update begins meanwhile"))
}

fn ahead(observed: &Observed, host: &str, revision: i64, fenced: bool, proved: bool) -> Failure {
    let what = match revision > known_revision(observed) {
        true => format!("revision {revision}, higher than this Deployment knows of"),
        false if !fenced => format!("revision {revision}, which this Deployment did not give"),
        false => "a later operator of this control plane than the one that holds the lease now".to_owned(),
    };
    let adopt = observed.verb_command(verbs::ADOPT, &observed.control_plane_id);
    let text = match proved {
        true => format!(
            "host {host} has seen {what}: this control plane was restored from a backup. To continue from there: {adopt}"
        ),
        false => format!(
            "host {host} has seen {what}; it is set aside, and the others go on. If this control plane was restored from a backup, or to \
             take the host back: {adopt}"
        ),
    };
    Failure::terminal(Reason::HostsAhead, text)
}

fn fenced(observed: &Observed, host: &str, control_plane_id: &str, owner: Option<&Owner>, proved: bool) -> Failure {
    let owner_name =
        owner.map_or(String::new(), |owner| format!(", as Deployment {}/{}", owner.namespace, owner.deployment));
    let aside = if proved { "" } else { "; it is set aside, and the others go on" };
    let text = format!(
        "control plane {control_plane_id} acts on host {host}{owner_name}{aside}. If that control plane is gone or must give up its hosts: {}",
        observed.verb_command(verbs::ADOPT, control_plane_id)
    );
    Failure::terminal(Reason::FencedByOtherControlPlane, text)
}

/// The version of the spec, or what it waits for.
pub fn version<'a>(observed: &'a Observed, targets: &Targets<'_>) -> Result<&'a VersionRecord, Failure> {
    let project = &observed.spec.project_ref.name;
    if !observed.project {
        let text = format!(
            "spec.projectRef.name: Project {project} does not exist (yet) in namespace {0}; create it. Those that exist: kubectl -n {0} get \
             projects.landfall.dev",
            observed.namespace
        );
        return Err(Failure::waiting(Reason::ProjectNotFound, text));
    }
    let version = judge(observed, &observed.spec.version, observed.version.as_ref(), observed.version_removed)?;
    // A version that can't be had all the same holds up its own hosts alone; a value that can't, as it may come and go, every update.
    let pinned = targets.pins.iter().filter(|pinned| pinned.unmet.is_none());
    let pinned = pinned.filter_map(|pinned| observed.pinned.get(&pinned.hosts.version)?.record.as_ref());
    let unusable = [version].into_iter().chain(pinned).find_map(|version| values_unusable(observed, version));
    unusable.map_or(Ok(version), Err)
}

/// A version whose values can't all be had is started nowhere.
fn values_unusable(observed: &Observed, version: &VersionRecord) -> Option<Failure> {
    unusable(observed, &references(&observed.spec, observed.group.as_ref()?, version))
}
