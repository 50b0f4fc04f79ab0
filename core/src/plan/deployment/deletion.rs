//! A Deployment that is deleted: its hosts are released or cleaned. Who can't be, for want of an answer, of the HostGroup or of its Secret,
//! is waited for until `progressDeadlineSeconds` have passed, and then left behind and named.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    action::{Action, Assignment},
    exceptions::{EXCEPTIONS, HostDisplay, count, exception},
    folder::is_marked,
    observed::{FolderCheck, GoalKind, Observed},
    select::select,
    steps::Goal,
    targets::list_names,
};
use crate::{
    api::{
        Reason, Verdict,
        conditions::conditions,
        deployment::{DeletionPolicy, DeploymentStatus, Phase, RolloutCounts},
        hostgroup::VersionCount,
    },
    model::{Failure, ids::Owner},
    plan::{EventDraft, Plan},
};

/// What is left to do on one host.
#[derive(Clone, Debug, PartialEq)]
enum Leftover {
    Nothing,
    Act,
    UnderWay,
    Ask,
    /// Nothing can be done there now.
    Blocked(Failure),
    /// It is out of service and does not answer: nobody waits for it.
    Suspended,
}

/// Hosts on which something is left to do, and why nothing can be done on any, where that is so.
#[derive(Default)]
struct Leftovers {
    hosts: Vec<(String, Leftover)>,
    blocked: Option<Failure>,
}

impl Leftovers {
    fn names(&self, fits: impl Fn(&Leftover) -> bool) -> Vec<String> {
        self.hosts.iter().filter(|(_, left)| fits(left)).map(|(host, _)| host.clone()).collect()
    }

    /// Somebody is still waited for.
    fn is_waiting(&self) -> bool {
        self.blocked.is_some() || self.hosts.iter().any(|(_, left)| *left != Leftover::Suspended)
    }
}

pub fn plan(observed: &Observed, deleted: Timestamp, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let before = observed.before().clone();
    if before.rollout.is_absent() {
        return Plan { finalizer: false, status: before, actions: vec![], events: vec![], next: None };
    }
    let left = leftovers(observed, now);
    let seconds = observed.spec.progress_deadline_seconds;
    let deadline = deleted.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    // Nobody can act on hosts in a namespace that took the lease along, and it waits for this finalizer.
    if left.is_waiting() && now < deadline && !observed.namespace_terminating {
        return wait(observed, &left, deadline, now);
    }
    finish(observed, &left, now)
}

/// Something is left to do, and there is time.
fn wait(observed: &Observed, left: &Leftovers, deadline: Timestamp, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let act = left.names(|left| *left == Leftover::Act);
    let mut actions: Vec<Action> = act.iter().map(|host| Action::Assign(assign(observed, host))).collect();
    let unasked: BTreeSet<String> = left.names(|left| *left == Leftover::Ask).into_iter().collect();
    if !unasked.is_empty() {
        actions.push(Action::Probe(unasked));
    }
    let before = observed.before();
    let verdict = verdict(observed, left, deadline);
    let status = DeploymentStatus {
        observed_generation: observed.generation,
        conditions: conditions(&before.conditions, observed.generation, now, &verdict, &[]),
        ..status_with(observed, left, now)
    };
    let remaining = u64::try_from(deadline.duration_since(now).as_secs()).unwrap_or(0);
    let next = Some(Duration::from_secs(remaining.clamp(1, 600)));
    Plan { finalizer: true, status, actions, events: vec![], next }
}

/// What is going on, who keeps it, and when that ends.
fn verdict(observed: &Observed, left: &Leftovers, deadline: Timestamp) -> Verdict {
    let what = match observed.spec.deletion_policy {
        DeletionPolicy::Retain => "releasing",
        DeletionPolicy::Remove => "stopping and removing on",
    };
    let hosts = match left.hosts.is_empty() {
        true => "its hosts".to_owned(),
        false => list_names(&left.names(|_| true)),
    };
    let give_up = format!("at {deadline} the deletion gives up and leaves behind what is left");
    let no_answer = left.names(|left| matches!(left, Leftover::Blocked(_)));
    match &left.blocked {
        Some(failure) => {
            Verdict::waiting(Reason::Removing, format!("{what} {hosts} waits: {}; {give_up}", failure.message))
        }
        None if no_answer.is_empty() => Verdict::working(Reason::Removing, format!("{what} {hosts}; {give_up}")),
        None => {
            let message = format!("{what} {hosts}; no answer from {}; {give_up}", list_names(&no_answer));
            Verdict::waiting(Reason::Removing, message)
        }
    }
}

/// Nothing is left to do, or the time is over. Who is left is named, in the status as well: it is what a watch sees last.
fn finish(observed: &Observed, left: &Leftovers, now: Timestamp) -> Plan<DeploymentStatus, Action> {
    let (actions, mut events) = (vec![Action::RemoveLogs], vec![]);
    let mut status = status_with(observed, left, now);
    if left.blocked.is_some() || !left.hosts.is_empty() {
        let hosts = match left.hosts.is_empty() {
            true => "its hosts".to_owned(),
            false => list_names(&left.names(|_| true)),
        };
        let why = left.blocked.as_ref().map(|failure| format!(" ({})", failure.message)).unwrap_or_default();
        let seconds = observed.spec.progress_deadline_seconds;
        let what = match left.is_waiting() {
            _ if observed.namespace_terminating => "left behind with the namespace that is deleted".to_owned(),
            true => format!("left behind after {seconds} s"),
            false => "left behind, suspended and without answer".to_owned(),
        };
        let note = format!("{what}: {hosts}{why}; what runs there runs on, and landfall's files stay");
        let verdict = Verdict::failed(Reason::LeftBehind, &note);
        status.conditions = conditions(&status.conditions, observed.generation, now, &verdict, &[]);
        events.push(EventDraft::warning(Reason::LeftBehind, "Delete", note));
    }
    Plan { finalizer: false, status, actions, events, next: None }
}

/// Every host on which something is left.
fn leftovers(observed: &Observed, now: Timestamp) -> Leftovers {
    let name = &observed.spec.host_group_ref.name;
    let Some(group) = &observed.group else {
        let text = format!("HostGroup {name} does not exist");
        let failure = Failure::waiting(Reason::HostGroupNotFound, text);
        let hosts = observed.unlisted.iter().map(|host| (host.clone(), Leftover::Blocked(failure.clone()))).collect();
        return Leftovers { hosts, blocked: Some(failure) };
    };
    let selected = select(observed.spec.hosts.as_ref(), &group.hosts).unwrap_or_default();
    let selected: BTreeSet<&str> = selected.iter().map(|host| host.name.as_str()).collect();
    // With what this operator still holds of a Secret that was deleted along, its work is finished. Any other fault of it is a person's no.
    let refused = group.secret.as_ref().filter(|failure| failure.reason != Reason::SecretNotFound);
    let mut hosts = Vec::new();
    for host in &group.hosts {
        let mut left = leftover(observed, &host.name, selected.contains(host.name.as_str()));
        if let (Leftover::Act | Leftover::Ask, Some(failure)) = (&left, refused) {
            left = Leftover::Blocked(failure.clone());
        }
        if let Leftover::Blocked(_) | Leftover::Ask = left
            && group.suspended(host, now).is_some()
        {
            left = Leftover::Suspended;
        }
        if left != Leftover::Nothing {
            hosts.push((host.name.clone(), left));
        }
    }
    let is_stuck = |left: &Leftover| matches!(left, Leftover::Ask | Leftover::Blocked(_));
    let all_are_stuck = !hosts.is_empty() && hosts.iter().all(|(_, left)| is_stuck(left));
    Leftovers { hosts, blocked: group.secret.clone().filter(|_| all_are_stuck) }
}

/// The status as the hosts show themselves now: of those on which something is left, and of no other.
fn status_with(observed: &Observed, left: &Leftovers, now: Timestamp) -> DeploymentStatus {
    let before = observed.before();
    let mut counts = RolloutCounts { total: count(left.hosts.len()), ..RolloutCounts::default() };
    let mut versions: BTreeMap<String, i32> = BTreeMap::new();
    let mut exceptions = Vec::new();
    for (host, left) in &left.hosts {
        let view = observed.host(host);
        let running = view.running().and_then(|process| process.release.as_ref()).map(|release| release.version());
        let marked = view.view().zip(view.running()).is_some_and(|(view, process)| is_marked(&view.folder, process));
        if let Some(version) = running {
            *versions.entry(version.to_owned()).or_default() += 1;
            counts.updated += i32::from(before.version.as_deref() == Some(version));
            counts.ready += i32::from(before.version.as_deref() == Some(version) && marked);
        }
        let (phase, reason, message) = match left {
            Leftover::Blocked(failure) => (Phase::Unreachable, failure.reason, failure.message.as_str()),
            Leftover::Suspended => (Phase::Unreachable, Reason::HostSuspended, "it is suspended and does not answer"),
            Leftover::UnderWay => {
                let phase = view.task.as_ref().map_or(Phase::Stopping, |task| task.phase);
                (phase, Reason::Removing, "the deletion is under way here")
            }
            _ => (Phase::Pending, Reason::Removing, "the deletion begins here"),
        };
        match left {
            Leftover::Suspended => counts.skipped += 1,
            Leftover::Blocked(_) => counts.unreachable += 1,
            _ => counts.pending += 1,
        }
        let old = before.exceptions.iter().find(|old| old.host == *host);
        exceptions.push(exception(observed, old, host, &HostDisplay { phase, reason, message }, now));
    }
    exceptions.truncate(EXCEPTIONS);
    let versions = versions.into_iter().take(EXCEPTIONS);
    DeploymentStatus {
        hosts: counts,
        versions: versions.map(|(version, hosts)| VersionCount { version, hosts }).collect(),
        exceptions,
        ..before.clone()
    }
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
    let replaces = own_claim(observed, host).filter(|owner| owner.host != host);
    Assignment::new(host, goal, rollout, attempt, replaces)
}

/// The owner file of a host, if that host is ours: by its name, or by one that the group does not have any more. A machine that is ours
/// under another name of the group is that one's business.
fn own_claim(observed: &Observed, host: &str) -> Option<Owner> {
    let owner = observed.host(host).view()?.folder.owner.as_ref()?;
    let listed = |name: &str| observed.group.iter().flat_map(|group| &group.hosts).any(|one| one.name == name);
    let ours = owner.uid == observed.uid && (owner.host == host || !listed(&owner.host));
    ours.then(|| owner.clone())
}

fn leftover(observed: &Observed, host: &str, selected: bool) -> Leftover {
    let one = observed.host(host);
    let kind = one.task.as_ref().map(|task| task.goal.kind);
    if matches!(kind, Some(GoalKind::Release | GoalKind::Remove)) {
        return Leftover::UnderWay;
    }
    match &one.check {
        FolderCheck::Facts(_) if own_claim(observed, host).is_some() => Leftover::Act,
        FolderCheck::Facts(_) if kind.is_some() => Leftover::Act,
        FolderCheck::Facts(_) => Leftover::Nothing,
        // Also of hosts that left the selection: right after a restart nobody knows what still runs there.
        FolderCheck::Unknown => Leftover::Ask,
        FolderCheck::Failed(failure) if selected => Leftover::Blocked(failure.clone()),
        FolderCheck::Failed(_) => Leftover::Nothing,
    }
}

/// Hosts of the group that left the selection and still belong to this Deployment.
pub fn leaving(observed: &Observed, selected: &[&crate::api::hostgroup::Host]) -> (Vec<String>, Vec<Action>) {
    let (mut names, mut actions) = (Vec::new(), Vec::new());
    let selected: BTreeSet<&str> = selected.iter().map(|host| host.name.as_str()).collect();
    let hosts = observed.group.iter().flat_map(|group| &group.hosts);
    for host in hosts.filter(|host| !selected.contains(host.name.as_str())) {
        match leftover(observed, &host.name, false) {
            Leftover::Act => actions.push(Action::Assign(assign(observed, &host.name))),
            Leftover::UnderWay => {}
            _ => continue,
        }
        names.push(host.name.clone());
    }
    (names, actions)
}
