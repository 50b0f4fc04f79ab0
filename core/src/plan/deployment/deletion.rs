//! A Deployment that goes: its hosts are let go or cleaned, and what can't be is named.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    action::{Action, Assignment},
    observed::{FolderCheck, GoalKind, Observed},
    select::select,
    steps::Goal,
    targets::list_names,
};
use crate::{
    api::{
        Reason, Verdict,
        conditions::conditions,
        deployment::{DeletionPolicy, DeploymentStatus},
    },
    model::ids::Owner,
    plan::{EventDraft, Plan},
};

/// What is left to do on one host.
enum Leftover {
    Nothing,
    Act,
    UnderWay,
    Ask,
    NoAnswer,
}

pub fn plan(observed: &Observed, deleted: Timestamp, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let before = observed.before().clone();
    let acted = !before.rollout.is_absent();
    if !acted {
        return Plan { finalizer: false, status: before, actions: vec![], events: vec![], next: None };
    }
    let gone = |before: DeploymentStatus, events| Plan {
        finalizer: false,
        status: before,
        actions: vec![Action::RemoveLogs],
        events,
        next: None,
    };
    let Some(group) = observed.group.as_ref().filter(|group| group.secret.is_none()) else {
        let name = &observed.spec.host_group_ref.name;
        let note = format!(
            "HostGroup {name} or its Secret is gone, so nothing was done on its hosts; what runs there was left behind"
        );
        return gone(before, vec![EventDraft::warning(Reason::LeftBehind, "Delete", note)]);
    };
    let (mut actions, mut unasked, mut left, mut waiting) = (Vec::new(), BTreeSet::new(), Vec::new(), Vec::new());
    let selected = select(observed.spec.hosts.as_ref(), &group.hosts).unwrap_or_default();
    for host in &group.hosts {
        let mine = selected.iter().any(|one| one.name == host.name);
        match rest(observed, &host.name, mine) {
            Leftover::Nothing => continue,
            Leftover::Act => actions.push(Action::Assign(assign(observed, &host.name))),
            Leftover::UnderWay => {}
            Leftover::Ask => _ = unasked.insert(host.name.clone()),
            Leftover::NoAnswer => left.push(host.name.clone()),
        }
        waiting.push(host.name.clone());
    }
    let deadline_passed = now.duration_since(deleted).as_secs() >= observed.spec.progress_deadline_seconds;
    if waiting.is_empty() {
        return gone(before, vec![]);
    }
    if deadline_passed {
        let note = format!(
            "not released within {} s and left behind: {}",
            observed.spec.progress_deadline_seconds,
            list_names(&waiting)
        );
        return gone(before, vec![EventDraft::warning(Reason::LeftBehind, "Delete", note)]);
    }
    if !unasked.is_empty() {
        actions.push(Action::Probe(unasked));
    }
    let message = format!("letting go of {}", list_names(&waiting));
    let verdict = match left.is_empty() {
        true => Verdict::working(Reason::Removing, message),
        false => Verdict::waiting(Reason::Removing, format!("{message}; no answer from {}", list_names(&left))),
    };
    let mut status = before.clone();
    status.observed_generation = observed.generation;
    status.conditions = conditions(&before.conditions, observed.generation, now, &verdict, &[]);
    let remaining = observed.spec.progress_deadline_seconds - now.duration_since(deleted).as_secs();
    let next = Some(Duration::from_secs(u64::try_from(remaining).unwrap_or(1).clamp(1, 600)));
    Plan { finalizer: true, status, actions, events: vec![], next }
}

/// What is done on a host that this Deployment does not have any more.
pub fn assign(observed: &Observed, host: &str) -> Assignment {
    let rollout = observed.before().rollout.as_ref();
    let (rollout, attempt) = rollout.map_or(("0.0", 1), |rollout| (rollout.id.as_str(), rollout.attempt));
    let goal = match observed.spec.deletion_policy {
        DeletionPolicy::Retain => Goal::Release,
        DeletionPolicy::Remove => Goal::Remove,
    };
    // It may be ours under a name that it had before.
    let replaces = ours(observed, host).filter(|owner| owner.host != host);
    Assignment::new(host, goal, rollout, attempt, replaces)
}

/// The owner file of a host, if that host is ours: by its name, or by one that the group does not have any more. A machine that is ours
/// under another name of the group is that one's business.
fn ours(observed: &Observed, host: &str) -> Option<Owner> {
    let owner = observed.host(host).view()?.folder.owner.as_ref()?;
    let listed = |name: &str| observed.group.iter().flat_map(|group| &group.hosts).any(|one| one.name == name);
    let ours = owner.uid == observed.uid && (owner.host == host || !listed(&owner.host));
    ours.then(|| owner.clone())
}

fn rest(observed: &Observed, host: &str, selected: bool) -> Leftover {
    let one = observed.host(host);
    let kind = one.task.as_ref().map(|task| task.goal.kind);
    if matches!(kind, Some(GoalKind::Release | GoalKind::Remove)) {
        return Leftover::UnderWay;
    }
    match &one.look {
        FolderCheck::Facts(_) if ours(observed, host).is_some() => Leftover::Act,
        FolderCheck::Facts(_) if kind.is_some() => Leftover::Act,
        FolderCheck::Facts(_) => Leftover::Nothing,
        // Also of hosts that left the selection: right after a restart nobody knows what still runs there.
        FolderCheck::Unknown => Leftover::Ask,
        FolderCheck::Failed(_) if selected => Leftover::NoAnswer,
        FolderCheck::Failed(_) => Leftover::Nothing,
    }
}

/// Hosts of the group that left the selection and still belong to this Deployment.
pub fn leaving(observed: &Observed, selected: &[&crate::api::hostgroup::Host]) -> (Vec<String>, Vec<Action>) {
    let (mut names, mut actions) = (Vec::new(), Vec::new());
    let selected: BTreeSet<&str> = selected.iter().map(|host| host.name.as_str()).collect();
    let hosts = observed.group.iter().flat_map(|group| &group.hosts);
    for host in hosts.filter(|host| !selected.contains(host.name.as_str())) {
        match rest(observed, &host.name, false) {
            Leftover::Act => actions.push(Action::Assign(assign(observed, &host.name))),
            Leftover::UnderWay => {}
            _ => continue,
        }
        names.push(host.name.clone());
    }
    (names, actions)
}
