//! What a HostGroup's status says, and which hosts are to be asked. It must not know how a host is asked.

mod check;
mod forget;
mod report;
mod schedule;
mod suspend;
mod verdict;

use crate::model::Failure;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    check::{HostCheck, invalid_hosts, unfit},
    forget::{Kept, machine_of},
    suspend::suspended,
};
use super::{EventDraft, Plan};
use crate::api::{
    Reason, Verdict,
    conditions::{READY, conditions},
    hostgroup::{Host, HostCounts, HostGroupSpec, HostGroupStatus, SuspendedHost},
    verbs,
};

/// Everything that the planner knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    pub namespace: String,
    pub generation: i64,
    pub spec: HostGroupSpec,
    #[serde(default)]
    pub status: Option<HostGroupStatus>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The object is being deleted.
    #[serde(default)]
    pub deleting: bool,
    /// Deployments that may have acted on its hosts, by name: they carry the finalizer.
    #[serde(default)]
    pub used_by: Vec<String>,
    /// Nobody could say which they are; the finalizer stays as it is.
    #[serde(default)]
    pub users_unknown: bool,
    /// The group carries the finalizer.
    #[serde(default)]
    pub held: bool,
    /// Why nobody can log in anywhere: the Secrets.
    #[serde(default)]
    pub secret: Option<Failure>,
    /// By the host's name; a host that is not here was never asked.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostCheck>,
    /// The hosts are being watched with this very spec and these very Secrets.
    #[serde(default)]
    pub watched: bool,
    /// What is on record of the key that a stamp wants forgotten, where there is such a stamp.
    #[serde(default)]
    pub kept: Option<Kept>,
}

impl Observed {
    /// A Deployment has acted on its hosts, as far as anybody knows.
    fn is_in_use(&self) -> bool {
        !self.used_by.is_empty() || self.users_unknown && self.held
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask every host by schedule from now on, with this spec; stop asking those that left.
    Watch,
    /// Ask these now.
    Probe(BTreeSet<String>),
    /// Forget the key that was seen first on this host or jump host.
    ForgetHostKey { name: String, stamp: String },
    /// The group goes: close every connection.
    Forget,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Watch => f.write_str("watch"),
            Self::Probe(hosts) => write!(f, "probe {}", hosts.iter().cloned().collect::<Vec<_>>().join(" ")),
            Self::ForgetHostKey { name, .. } => write!(f, "forget-host-key {name}"),
            Self::Forget => f.write_str("forget"),
        }
    }
}

/// What to do about this group now.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<HostGroupStatus, Action> {
    let before = observed.status.clone().unwrap_or_default();
    if observed.deleting && !observed.is_in_use() {
        return Plan { finalizer: false, status: before, actions: vec![Action::Forget], events: vec![], next: None };
    }
    let decided = suspend::decide(observed, &before, now);
    let view = View::new(observed, &decided.suspended, now);
    let verdict = verdict::verdict(observed, &view);
    let mut actions = Vec::new();
    let mut events = Vec::new();
    if observed.secret.is_none() && check::invalid_spec(&observed.spec).is_none() && !observed.watched {
        actions.push(Action::Watch);
    }
    if let Some(stamp) = refresh_asked(observed, &before) {
        actions.push(Action::Probe(observed.spec.hosts.iter().map(|host| host.name.clone()).collect()));
        let note = format!("every host is asked now, as {}={stamp} wants", verbs::REFRESH);
        events.push(EventDraft::normal(Reason::RefreshRequested, "Refresh", note));
    }
    let forgotten = forget::decide(observed, &before);
    actions.extend(forgotten.action);
    events.extend(forgotten.event);
    events.extend(decided.events);
    let mut handled = vec![verbs::REFRESH, verbs::SUSPEND_HOST, verbs::RESUME_HOST];
    if forgotten.over {
        handled.push(verbs::FORGET_HOST_KEY);
    }
    let mut status = report::status(observed, &before, &view, &handled, now);
    status.suspended = decided.suspended.clone();
    if still_known(observed, &before, &verdict) {
        let hosts = HostCounts { suspended: status.hosts.suspended, ..before.hosts };
        status = HostGroupStatus { last_handled: status.last_handled, suspended: status.suspended, hosts, ..before };
    } else {
        status.observed_generation = observed.generation;
        let extras = [verdict::all_reachable(&view, &verdict)];
        let verdict = verdict::in_use(observed).unwrap_or(verdict);
        status.conditions = conditions(&before.conditions, observed.generation, now, &verdict, &extras);
        events.extend(report::events(&view, &before));
    }
    let next = schedule::next(observed, &status, now);
    Plan { finalizer: observed.is_in_use(), status, actions, events, next: Some(next) }
}

/// A new operator has to ask every host again; until it has, what all hosts were said to be with this very spec stands.
fn still_known(observed: &Observed, before: &HostGroupStatus, verdict: &Verdict) -> bool {
    let tried = [Reason::Probed, Reason::NoHostReachable, Reason::NoHostUsable];
    let ready = before.conditions.iter().find(|condition| condition.type_ == READY);
    verdict.reason() == Reason::Probing
        && !observed.deleting
        && before.observed_generation == observed.generation
        && ready.is_some_and(|ready| tried.iter().any(|reason| reason.as_str() == ready.reason))
}

fn refresh_asked<'a>(observed: &'a Observed, before: &HostGroupStatus) -> Option<&'a str> {
    let first = observed.status.is_none() || before.observed_generation < 0;
    verbs::asked(verbs::REFRESH, &observed.annotations, &before.last_handled, first)
}

/// The hosts of the spec, with what is known of each.
struct View<'a> {
    in_service: Vec<(&'a Host, &'a HostCheck)>,
    suspended: usize,
}

impl<'a> View<'a> {
    fn new(observed: &'a Observed, by_verb: &[SuspendedHost], now: Timestamp) -> Self {
        let hosts = &observed.spec.hosts;
        let serves = |host: &&Host| suspended(host, by_verb, now).is_none();
        let check = |host: &'a Host| (host, observed.hosts.get(&host.name).unwrap_or(&HostCheck::Unknown));
        let in_service: Vec<_> = hosts.iter().filter(serves).map(check).collect();
        Self { suspended: hosts.len() - in_service.len(), in_service }
    }

    fn count(&self, fits: impl Fn(&HostCheck) -> bool) -> usize {
        self.in_service.iter().filter(|(_, check)| fits(check)).count()
    }
}
