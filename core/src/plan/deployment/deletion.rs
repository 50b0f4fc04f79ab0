//! A Deployment that is deleted: its hosts are released or cleaned. Hosts that do not answer, or whose HostGroup or Secret is missing, are
//! waited for until `progressDeadlineSeconds` have passed, then left behind and named.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    action::{Action, Assignment},
    claim::{Machines, machines},
    drain,
    exceptions::{EXCEPTIONS, HostDisplay, count, exception},
    folder::is_marked,
    observed::{FolderCheck, GoalKind, Observed},
    select::select,
    skip_drain,
    steps::Goal,
};
use crate::{
    api::{
        Reason, Verdict,
        conditions::conditions,
        deployment::{DeletionPolicy, DeploymentStatus, Phase, RolloutCounts},
        hostgroup::VersionCount,
    },
    model::{Failure, ids::Owner},
    plan::{EventDraft, Plan, list_names, secret_use::is_withdrawn},
};

/// Remaining work on one host.
#[derive(Clone, Debug, PartialEq)]
enum Leftover {
    Nothing,
    Act,
    UnderWay,
    Ask,
    /// Nothing can be done there now.
    Blocked(Failure),
    /// Out of service and not answering: it is not waited for.
    Suspended,
}

/// Hosts with remaining work; `blocked`: the cause that prevents acts on all of them.
#[derive(Default)]
struct Leftovers {
    hosts: Vec<(String, Leftover)>,
    blocked: Option<Failure>,
}

impl Leftovers {
    fn names(&self, fits: impl Fn(&Leftover) -> bool) -> Vec<String> {
        self.hosts.iter().filter(|(_, left)| fits(left)).map(|(host, _)| host.clone()).collect()
    }

    /// The deletion waits for a host.
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
    // Without the lease, which went with the namespace, no act is possible; the namespace waits for this finalizer.
    if left.is_waiting() && now < deadline && !observed.namespace_terminating {
        return wait(observed, &left, deadline, now);
    }
    finish(observed, &left, now)
}

/// Work remains, and the deadline has not passed.
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

/// The work under way, the hosts that delay it, and the deadline.
fn verdict(observed: &Observed, left: &Leftovers, deadline: Timestamp) -> Verdict {
    let what = match observed.spec.deletion_policy {
        DeletionPolicy::Retain => "releasing",
        DeletionPolicy::Remove => "stopping and removing on",
    };
    let hosts = match left.hosts.is_empty() {
        true => "its hosts".to_owned(),
        false => list_names(&left.names(|_| true)),
    };
    let give_up = format!("at {deadline} the deletion gives up and leaves the remaining hosts behind");
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

/// No work remains, or the deadline has passed. Hosts left behind are named in the status as well: a watch sees it last.
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
            _ if observed.namespace_terminating => "left behind with the deleted namespace".to_owned(),
            true => format!("left behind after {seconds} s"),
            false => "left behind, suspended and not answering".to_owned(),
        };
        let note = format!("{what}: {hosts}{why}; the application keeps running there, and landfall's files stay");
        let verdict = Verdict::failed(Reason::LeftBehind, &note);
        status.conditions = conditions(&status.conditions, observed.generation, now, &verdict, &[]);
        events.push(EventDraft::warning(Reason::LeftBehind, "Delete", note));
    }
    Plan { finalizer: false, status, actions, events, next: None }
}

/// Every host with remaining work.
fn leftovers(observed: &Observed, now: Timestamp) -> Leftovers {
    let name = &observed.spec.host_group_ref.name;
    let Some(group) = &observed.group else {
        let text = format!("HostGroup {name} does not exist");
        let failure = Failure::waiting(Reason::HostGroupNotFound, text);
        let hosts = observed.unlisted.iter().map(|host| (host.clone(), Leftover::Blocked(failure.clone()))).collect();
        return Leftovers { hosts, blocked: Some(failure) };
    };
    // Where the selection is wrong any host of the group may be one of ours.
    let selected = select(observed.spec.hosts.as_ref(), &group.hosts).unwrap_or_else(|_| group.hosts.iter().collect());
    let mut selected: BTreeSet<&str> = selected.iter().map(|host| host.name.as_str()).collect();
    let rollout = observed.before().rollout.as_ref();
    let updating = rollout.and_then(|rollout| rollout.intent.as_ref()).into_iter().flat_map(|intent| &intent.updating);
    selected.extend(updating.map(String::as_str));
    selected.extend(observed.failures.iter().map(|failure| failure.host.as_str()));
    // A Secret that was deleted along with the Deployment is still in memory and used. So it is where the right to read it went first, which
    // the deletion of a namespace takes away in any order. Any other failure of the Secret is a decision of a person.
    let refused = group.secret.as_ref().filter(|failure| is_withdrawn(failure.reason, group.deleting));
    if refused.is_some() {
        // What runs on hosts that left the selection is no longer known.
        selected.extend(observed.acted.iter().map(String::as_str));
    }
    let mut hosts = Vec::new();
    for host in &group.hosts {
        let mut left = leftover(observed, &host.name, selected.contains(host.name.as_str()));
        if let (Leftover::Act | Leftover::Ask, Some(failure)) = (&left, refused) {
            left = Leftover::Blocked(failure.clone());
        }
        // A suspended host that answers is released or removed like any other.
        if let Leftover::Blocked(_) = left
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

/// The status, with counts of the hosts with remaining work alone.
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
            Leftover::Suspended => (Phase::Unreachable, Reason::HostSuspended, "suspended and not answering"),
            Leftover::UnderWay => {
                let phase = view.task.as_ref().map_or(Phase::Stopping, |task| task.phase);
                (phase, Reason::Removing, "deletion under way")
            }
            _ => (Phase::Pending, Reason::Removing, "deletion pending"),
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

/// Assignment on a host that this Deployment gives up.
pub fn assign(observed: &Observed, host: &str) -> Assignment {
    let rollout = observed.before().rollout.as_ref();
    let (rollout, attempt) = rollout.map_or(("0.0", 1), |rollout| (rollout.id.as_str(), rollout.attempt));
    let goal = match observed.spec.deletion_policy {
        DeletionPolicy::Retain => Goal::Release,
        DeletionPolicy::Remove => {
            // One that keeps failing is left out where a person says so.
            let drain = drain::of_running(observed, observed.host(host), None);
            Goal::Remove { drain: drain.filter(|_| skip_drain::asked(observed).is_none()) }
        }
    };
    // The host may have been renamed in the group.
    let replaces = own_claim(observed, host).filter(|owner| owner.host != host);
    Assignment::new(host, goal, rollout, attempt, replaces)
}

/// Owner file of a host that belongs to this Deployment: under its name, or under a name that the group no longer has or has for another
/// machine. A machine that is, or may be, listed under a second name of the group is handled under that name.
fn own_claim(observed: &Observed, host: &str) -> Option<Owner> {
    let owner = observed.host(host).view()?.folder.owner.as_ref()?;
    let listed = |name: &str| observed.group.iter().flat_map(|group| &group.hosts).any(|one| one.name == name);
    let may_be_second_name = || listed(&owner.host) && machines(observed, host, owner) != Machines::Two;
    let ours = owner.uid == observed.uid && (owner.host == host || !may_be_second_name());
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
        // Hosts outside the selection as well: right after a restart it is not known what runs there.
        FolderCheck::Unknown => Leftover::Ask,
        FolderCheck::Failed(failure) if selected => Leftover::Blocked(failure.clone()),
        FolderCheck::Failed(_) => Leftover::Nothing,
    }
}

/// Hosts that left the selection and still belong to this Deployment.
#[derive(Debug, Default)]
pub struct Leaving {
    pub hosts: Vec<String>,
    /// What their release or removal waits for.
    pub waits_for: Option<&'static str>,
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
