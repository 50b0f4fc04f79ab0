//! What a HostGroup's status says, and which hosts are to be asked. It must not know how a host is asked.

mod forget;
mod look;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    forget::{Kept, machine_of},
    look::{Look, Problem, duplicate_address, unfit},
};
use super::{Happened, Plan};
use crate::api::{
    Reason, Verdict,
    conditions::{READY, conditions, status_of},
    hostgroup::{HostException, HostGroupSpec, HostGroupStatus},
    verbs,
};

/// Nothing tells us of a changed Secret (we may only `get` it): so often it is read while all is well.
const PRESENT: Duration = Duration::from_secs(600);
/// And so often while it is missing, or while a host refuses what it holds: from soon to seldom.
const SOONEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);

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
    /// Why nobody can log in anywhere: the Secrets.
    #[serde(default)]
    pub secret: Option<Problem>,
    /// By the host's name; a host that is not here was never asked.
    #[serde(default)]
    pub hosts: BTreeMap<String, Look>,
    /// The hosts are being watched with this very spec and these very Secrets.
    #[serde(default)]
    pub watched: bool,
    /// What is on record of the key that a stamp wants forgotten, where there is such a stamp.
    #[serde(default)]
    pub kept: Option<Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask every host by schedule from now on, with this spec; stop asking those that left.
    Watch,
    /// Ask these now.
    Probe(BTreeSet<String>),
    /// Forget the key that was seen first on this host or jump host.
    ForgetHostKey { name: String, stamp: String },
    /// The group goes: close every connection.
    Forget,
}

impl fmt::Display for Act {
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
pub fn plan(seen: &Observed, now: Timestamp) -> Plan<HostGroupStatus, Act> {
    let before = seen.status.clone().unwrap_or_default();
    if seen.deleting {
        return Plan { finalizer: false, status: before, acts: vec![Act::Forget], events: vec![], next: None };
    }
    let verdict = verdict(seen);
    let mut acts = Vec::new();
    let mut events = Vec::new();
    if seen.secret.is_none() && duplicate_address(&seen.spec.hosts).is_none() && !seen.watched {
        acts.push(Act::Watch);
    }
    if let Some(stamp) = refresh_asked(seen, &before) {
        acts.push(Act::Probe(seen.spec.hosts.iter().map(|host| host.name.clone()).collect()));
        let note = format!("every host is asked now, as {}={stamp} wants", verbs::REFRESH);
        events.push(Happened::normal(Reason::RefreshRequested, "Refresh", note));
    }
    let forgotten = forget::decide(seen, &before);
    acts.extend(forgotten.act);
    events.extend(forgotten.event);
    let handled = if forgotten.over { [verbs::REFRESH, verbs::FORGET_HOST_KEY].as_slice() } else { &[verbs::REFRESH] };
    let mut status = report::status(seen, &before, handled, now);
    if still_known(seen, &before, &verdict) {
        status = HostGroupStatus { last_handled: status.last_handled, ..before };
    } else {
        status.observed_generation = seen.generation;
        status.conditions = conditions(&before.conditions, seen.generation, now, &verdict, &[]);
        events.extend(report::events(&before, &status));
    }
    let next = secrets_again(seen, &status, now);
    Plan { finalizer: false, status, acts, events, next: Some(next) }
}

/// When the Secrets are read again: where a new value would mend something, after half of the time that it is broken already.
fn secrets_again(seen: &Observed, status: &HostGroupStatus, now: Timestamp) -> Duration {
    let keys =
        [Reason::AuthenticationFailed, Reason::HostKeyMismatch, Reason::HostKeyUnknown, Reason::UnsupportedKeyType];
    let of_keys = |exception: &&HostException| keys.iter().any(|reason| reason.as_str() == exception.reason);
    let refused = status.exceptions.iter().filter(of_keys).map(|exception| exception.since.0).max();
    let missing = seen.secret.as_ref().map(|_| {
        let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
        ready.map_or(now, |condition| condition.last_transition_time.0)
    });
    let Some(since) = missing.or(refused) else { return PRESENT };
    let half = now.duration_since(since).as_secs() / 2;
    Duration::from_secs(u64::try_from(half).unwrap_or(0)).clamp(SOONEST, LONGEST)
}

/// A new operator has to ask every host again; until it has, what was said of this very spec stands.
fn still_known(seen: &Observed, before: &HostGroupStatus, verdict: &Verdict) -> bool {
    verdict.reason() == Reason::Probing
        && before.observed_generation == seen.generation
        && status_of(&before.conditions, "Ready") == Some(true)
}

fn refresh_asked<'a>(seen: &'a Observed, before: &HostGroupStatus) -> Option<&'a str> {
    let first = seen.status.is_none() || before.observed_generation < 0;
    verbs::asked(verbs::REFRESH, &seen.annotations, &before.last_handled, first)
}

fn verdict(seen: &Observed) -> Verdict {
    if let Some((first, second, address)) = duplicate_address(&seen.spec.hosts) {
        return Verdict::failed(
            Reason::DuplicateAddress,
            format!("hosts {first} and {second} both have the address {address}; each machine is listed once"),
        );
    }
    if let Some(problem) = &seen.secret {
        return match problem.terminal {
            true => Verdict::failed(problem.reason, &problem.message),
            false => Verdict::waiting(problem.reason, &problem.message),
        };
    }
    let total = seen.spec.hosts.len();
    let look = |host: &crate::api::hostgroup::Host| seen.hosts.get(&host.name).unwrap_or(&Look::Unknown);
    let unknown = seen.spec.hosts.iter().filter(|host| matches!(look(host), Look::Unknown)).count();
    if unknown > 0 {
        return Verdict::working(Reason::Probing, format!("{} of {total} hosts were asked", total - unknown));
    }
    let missed = seen.spec.hosts.iter().filter(|host| matches!(look(host), Look::Missed(_))).count();
    let message = match missed {
        0 => format!("all {total} hosts answer"),
        _ => format!("{} of {total} hosts answer; the others are listed in exceptions", total - missed),
    };
    Verdict::done(Reason::Probed, message)
}
