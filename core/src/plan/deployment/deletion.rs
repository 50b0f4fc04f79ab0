//! Hosts that are given up, released or removed: all of a Deployment that is deleted, and those that left the selection. In a deletion hosts that
//! do not answer, or whose HostGroup or Secret is missing, are waited for until `progressDeadlineSeconds` have passed, then left behind and named.

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
    tries::FailedTries,
};
use crate::{
    api::{
        Reason, Verdict,
        conditions::conditions,
        deployment::{DeletionPolicy, DeploymentStatus, Phase, RolloutCounts},
        hostgroup::VersionCount,
        verbs,
    },
    model::{Failure, ids::Owner},
    plan::{EventDraft, HostEvent, Plan, host_events, list_names, secret_use::is_withdrawn},
};

/// Hosts whose cause a message has.
const CAUSES: usize = 3;

/// Remaining work on one host.
#[derive(Clone, Debug, PartialEq)]
enum Leftover {
    Nothing,
    Act,
    /// It failed, and is tried again after this.
    Later(Duration),
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

    /// The time until the next try on a host where one failed.
    fn pause(&self) -> Option<Duration> {
        let pauses = self.hosts.iter().filter_map(|(_, left)| match left {
            Leftover::Later(pause) => Some(*pause),
            _ => None,
        });
        pauses.min()
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
    let mut status = DeploymentStatus {
        observed_generation: observed.generation,
        conditions: conditions(&before.conditions, observed.generation, now, &verdict, &[]),
        ..status_with(observed, left, now)
    };
    if skip_drain::is_used(observed, &actions) {
        status.last_handled = verbs::handled(&[verbs::SKIP_DRAIN], &observed.annotations, &status.last_handled);
    }
    let remaining = u64::try_from(deadline.duration_since(now).as_secs()).unwrap_or(0);
    let remaining = Duration::from_secs(remaining.clamp(1, 600));
    let events = events(observed, &left.names(|_| true), &actions);
    Plan {
        finalizer: true,
        status,
        actions,
        events,
        next: Some(left.pause().map_or(remaining, |pause| pause.min(remaining))),
    }
}

/// Hosts that can't be given up, each told at its first failure; and those where what runs is stopped without its drain.
pub fn events(observed: &Observed, hosts: &[String], actions: &[Action]) -> Vec<EventDraft> {
    let before = &observed.before().exceptions;
    let is_told = |host: &str, reason: Reason| {
        before.len() >= EXCEPTIONS || before.iter().any(|old| old.host == host && old.reason == reason.as_str())
    };
    let failed = hosts.iter().filter_map(|host| {
        let failure = &failed_tries(observed, host)?.failure;
        let message = format!("{} failed: {}; retrying (pauses grow to 5 min)", act(observed), failure.message);
        (!is_told(host, failure.reason)).then(|| HostEvent { host: host.clone(), reason: failure.reason, message })
    });
    let skipped = actions.iter().filter_map(|action| {
        let Action::Assign(Assignment { host, goal: Goal::Remove { skipped_drain: Some(why), .. }, .. }) = action
        else {
            return None;
        };
        let message = format!("landfall.dev/skip-drain: what runs is stopped without its drain: {why}");
        let is_first = failed_tries(observed, host).is_some_and(|tries| tries.skipped_drain.is_none());
        is_first.then(|| HostEvent { host: host.clone(), reason: Reason::DrainSkipped, message })
    });
    let all: Vec<HostEvent> = failed.chain(skipped).collect();
    let action = match observed.spec.deletion_policy {
        _ if observed.deleted.is_some() => "Delete",
        DeletionPolicy::Retain => "Release",
        DeletionPolicy::Remove => "Remove",
    };
    host_events(
        &all,
        |reason, note| EventDraft::warning(reason, action, note),
        "status.exceptions has the cause of each",
    )
}

/// Tries to give this host up that failed, as far as that is still to be done in this way.
pub(super) fn failed_tries<'a>(observed: &'a Observed, host: &str) -> Option<&'a FailedTries> {
    observed.host(host).tries.as_ref().filter(|tries| tries.kind == goal_kind(observed))
}

fn goal_kind(observed: &Observed) -> GoalKind {
    match observed.spec.deletion_policy {
        DeletionPolicy::Retain => GoalKind::Release,
        DeletionPolicy::Remove => GoalKind::Remove,
    }
}

fn fails_in_drain(observed: &Observed, host: &str) -> bool {
    failed_tries(observed, host).is_some_and(|tries| tries.failure.reason == Reason::DrainFailed)
}

/// The time until giving it up, which failed, is tried again; `None`: now. Whoever says that its drain is left out need not wait.
fn pause(observed: &Observed, host: &str, now: Timestamp) -> Option<Duration> {
    let goes_on = fails_in_drain(observed, host) && skip_drain::of_given_up(observed, host).is_some();
    observed.host(host).pause(goal_kind(observed), now).filter(|_| !goes_on)
}

/// How a host is given up, for messages.
pub(super) fn act(observed: &Observed) -> &'static str {
    match observed.spec.deletion_policy {
        DeletionPolicy::Retain => "release",
        DeletionPolicy::Remove => "removal",
    }
}

/// What fails on hosts, and is tried again, for a message.
pub(super) fn retried(observed: &Observed, hosts: &[String]) -> Option<String> {
    let causes = causes(observed, hosts)?;
    Some(format!("{} failed, retrying: {causes}", act(observed)))
}

/// Why hosts can't be given up, of the first ones, for a message.
fn causes(observed: &Observed, hosts: &[String]) -> Option<String> {
    let cause = |host: &String| {
        let failure = &failed_tries(observed, host)?.failure;
        Some(format!("{host}: {} ({})", failure.reason, failure.message))
    };
    let causes: Vec<String> = hosts.iter().filter_map(cause).take(CAUSES).collect();
    (!causes.is_empty()).then(|| causes.join("; "))
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
        None => {
            let silent = (!no_answer.is_empty()).then(|| format!("; no answer from {}", list_names(&no_answer)));
            let failed = retried(observed, &left.names(|_| true)).map(|retried| format!("; {retried}"));
            let is_well = silent.is_none() && failed.is_none();
            let (silent, failed) = (silent.unwrap_or_default(), failed.unwrap_or_default());
            let message = format!("{what} {hosts}{silent}{failed}; {give_up}");
            if is_well {
                Verdict::working(Reason::Removing, message)
            } else {
                Verdict::waiting(Reason::Removing, message)
            }
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
        let blocked = left.blocked.as_ref().map(|failure| failure.message.clone());
        let why = blocked.or_else(|| causes(observed, &left.names(|_| true)));
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
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
        if let (Leftover::Act, Some(pause)) = (&left, pause(observed, &host.name, now)) {
            left = Leftover::Later(pause);
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
        let failed;
        let (phase, reason, message) = match (left, failed_tries(observed, host)) {
            (Leftover::Blocked(failure), _) => (Phase::Unreachable, failure.reason, failure.message.as_str()),
            (Leftover::Suspended, _) => (Phase::Unreachable, Reason::HostSuspended, "suspended and not answering"),
            // Also while it is tried again.
            (_, Some(tries)) => {
                failed = format!("{} failed: {}", act(observed), tries.failure.message);
                (Phase::Pending, tries.failure.reason, failed.as_str())
            }
            (Leftover::UnderWay, None) => {
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
            let drain = drain::of_running(observed, observed.host(host), None);
            let skipped_drain = skip_drain::of_given_up(observed, host).filter(|_| drain.is_some());
            Goal::Remove { drain: drain.filter(|_| skipped_drain.is_none()), skipped_drain }
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

/// What is to be done about hosts that left the selection.
pub struct GivenUp {
    pub hosts: Vec<String>,
    pub actions: Vec<Action>,
    /// The time until the next try on a host where one failed.
    pub next: Option<Duration>,
}

/// Hosts of the group that left the selection and still belong to this Deployment.
pub fn leaving(observed: &Observed, selected: &[&crate::api::hostgroup::Host], now: Timestamp) -> GivenUp {
    let mut given_up = GivenUp { hosts: Vec::new(), actions: Vec::new(), next: None };
    let selected: BTreeSet<&str> = selected.iter().map(|host| host.name.as_str()).collect();
    let hosts = observed.group.iter().flat_map(|group| &group.hosts);
    for host in hosts.filter(|host| !selected.contains(host.name.as_str())) {
        match (leftover(observed, &host.name, false), pause(observed, &host.name, now)) {
            (Leftover::Act, Some(pause)) => given_up.next = Some(given_up.next.map_or(pause, |next| next.min(pause))),
            (Leftover::Act, None) => given_up.actions.push(Action::Assign(assign(observed, &host.name))),
            (Leftover::UnderWay, _) => {}
            _ => continue,
        }
        given_up.hosts.push(host.name.clone());
    }
    given_up
}
