//! A Deployment that goes: its hosts are let go or cleaned, and what can't be is named.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    act::{Act, Drive},
    observed::{FolderLook, GoalKind, Observed},
    reference::some,
    select::select,
    turn::Goal,
};
use crate::{
    api::{
        Reason, Verdict,
        conditions::conditions,
        deployment::{DeletionPolicy, DeploymentStatus},
    },
    plan::{Happened, Plan, ids::Owner},
};

/// What is left to do on one host.
enum Rest {
    Nothing,
    Act,
    UnderWay,
    Ask,
    NoAnswer,
}

pub fn plan(seen: &Observed, deleted: Timestamp, now: Timestamp) -> Plan<DeploymentStatus, Act> {
    let before = seen.before();
    let acted = before.rollout.is_some();
    if !acted {
        return Plan { finalizer: false, status: before, acts: vec![], events: vec![], next: None };
    }
    let gone = |before: DeploymentStatus, events| Plan {
        finalizer: false,
        status: before,
        acts: vec![Act::RemoveLogs],
        events,
        next: None,
    };
    let Some(group) = seen.group.as_ref().filter(|group| group.secret.is_none()) else {
        let name = &seen.spec.host_group_ref.name;
        let note = format!(
            "HostGroup {name} or its Secret is gone, so nothing was done on its hosts; what runs there was left behind"
        );
        return gone(before, vec![Happened::warning(Reason::LeftBehind, "Delete", note)]);
    };
    let (mut acts, mut ask, mut left, mut waiting) = (Vec::new(), BTreeSet::new(), Vec::new(), Vec::new());
    let selected = select(seen.spec.hosts.as_ref(), &group.hosts).unwrap_or_default();
    for host in &group.hosts {
        let mine = selected.iter().any(|one| one.name == host.name);
        match rest(seen, &host.name, mine) {
            Rest::Nothing => continue,
            Rest::Act => acts.push(Act::Drive(drive(seen, &host.name))),
            Rest::UnderWay => {}
            Rest::Ask => _ = ask.insert(host.name.clone()),
            Rest::NoAnswer => left.push(host.name.clone()),
        }
        waiting.push(host.name.clone());
    }
    let over = now.duration_since(deleted).as_secs() >= seen.spec.progress_deadline_seconds;
    if waiting.is_empty() {
        return gone(before, vec![]);
    }
    if over {
        let note = format!(
            "could not be let go in {} s and was left behind: {}",
            seen.spec.progress_deadline_seconds,
            some(&waiting)
        );
        return gone(before, vec![Happened::warning(Reason::LeftBehind, "Delete", note)]);
    }
    if !ask.is_empty() {
        acts.push(Act::Probe(ask));
    }
    let message = format!("letting go of {}", some(&waiting));
    let verdict = match left.is_empty() {
        true => Verdict::working(Reason::Removing, message),
        false => Verdict::waiting(Reason::Removing, format!("{message}; no answer from {}", some(&left))),
    };
    let mut status = before.clone();
    status.observed_generation = seen.generation;
    status.conditions = conditions(&before.conditions, seen.generation, now, &verdict, &[]);
    let remaining = seen.spec.progress_deadline_seconds - now.duration_since(deleted).as_secs();
    let next = Some(Duration::from_secs(u64::try_from(remaining).unwrap_or(1).clamp(1, 600)));
    Plan { finalizer: true, status, acts, events: vec![], next }
}

/// What is done on a host that this Deployment does not have any more.
pub fn drive(seen: &Observed, host: &str) -> Drive {
    let before = seen.before();
    let (rollout, attempt) = before.rollout.map_or(("0.0".to_owned(), 1), |rollout| (rollout.id, rollout.attempt));
    let goal = match seen.spec.deletion_policy {
        DeletionPolicy::Retain => Goal::Release,
        DeletionPolicy::Remove => Goal::Remove,
    };
    // It may be ours under a name that it had before.
    let replaces = ours(seen, host).filter(|owner| owner.host != host);
    Drive::new(host, goal, &rollout, attempt, replaces)
}

/// The owner file of a host, if that host is ours: by its name, or by one that the group does not have any more. A machine that is ours
/// under another name of the group is that one's business.
fn ours(seen: &Observed, host: &str) -> Option<Owner> {
    let FolderLook::Seen(look) = seen.seen(host).look else { return None };
    let owner = look.folder.owner?;
    let listed = |name: &str| seen.group.iter().flat_map(|group| &group.hosts).any(|one| one.name == name);
    let ours = owner.uid == seen.uid && (owner.host == host || !listed(&owner.host));
    ours.then_some(owner)
}

fn rest(seen: &Observed, host: &str, selected: bool) -> Rest {
    let one = seen.seen(host);
    let kind = one.task.map(|task| task.goal.kind);
    if matches!(kind, Some(GoalKind::Release | GoalKind::Remove)) {
        return Rest::UnderWay;
    }
    match one.look {
        FolderLook::Seen(_) if ours(seen, host).is_some() => Rest::Act,
        FolderLook::Seen(_) if kind.is_some() => Rest::Act,
        FolderLook::Seen(_) => Rest::Nothing,
        // Also of hosts that left the selection: right after a restart nobody knows what still runs there.
        FolderLook::Unknown => Rest::Ask,
        FolderLook::Missed(_) if selected => Rest::NoAnswer,
        FolderLook::Missed(_) => Rest::Nothing,
    }
}

/// Hosts of the group that left the selection and still belong to this Deployment.
pub fn leaving(seen: &Observed, selected: &[&crate::api::hostgroup::Host]) -> (Vec<String>, Vec<Act>) {
    let (mut names, mut acts) = (Vec::new(), Vec::new());
    let hosts = seen.group.iter().flat_map(|group| &group.hosts);
    for host in hosts.filter(|host| !selected.iter().any(|one| one.name == host.name)) {
        match rest(seen, &host.name, false) {
            Rest::Act => acts.push(Act::Drive(drive(seen, &host.name))),
            Rest::UnderWay => {}
            _ => continue,
        }
        names.push(host.name.clone());
    }
    (names, acts)
}
