//! What there is to say of a group as a whole. A chain, first hit wins: spec, Secrets, whether every host was tried, whether one can be used.

use super::{
    check::{self, HostCheck},
    observed::Observed,
    suspend,
    view::View,
};
use crate::{
    api::{Reason, Verdict, conditions::Extra},
    model::Failure,
    plan::{
        count_hosts, list_names,
        min_available::{is_never_met, never_met, written},
    },
};

/// Whether each host in service answers; beside `Ready`, which one of them is enough for.
pub(crate) const ALL_REACHABLE: &str = "AllReachable";

pub fn verdict(observed: &Observed, view: &View<'_>) -> Verdict {
    if let Some(failure) = check::invalid_spec(&observed.spec) {
        return failed(&failure);
    }
    if let Some(failure) = &observed.secret {
        return failed(failure);
    }
    let total = view.in_service.len();
    let unknown = view.count(|check| matches!(check, HostCheck::Unknown));
    if unknown > 0 {
        return Verdict::working(Reason::Probing, format!("{} of {} checked", total - unknown, count_hosts(total)));
    }
    if let Some(failure) = no_host(view) {
        return failed(&failure);
    }
    let missed = view.count(|check| matches!(check, HostCheck::Failed(_)));
    let mut message = match (total, missed) {
        (0, _) => "no host is in service".to_owned(),
        (_, 0) => answering(total, total),
        _ => format!("{}; exceptions names the others", answering(total - missed, total)),
    };
    if view.suspended > 0 {
        message = format!("{message}; suspended: {}", view.suspended);
    }
    if let Some(remark) = suspend::remark(observed) {
        message = format!("{message}; {remark}");
    }
    if let Some(remark) = min_available_too_high(observed, total) {
        message = format!("{message}; {remark}");
    }
    Verdict::done(Reason::Probed, message)
}

/// What is wrong with `minAvailable`, and what would be right. It holds rollouts, and has nothing to do with whether hosts can be reached.
pub(super) fn min_available_too_high(observed: &Observed, in_service: usize) -> Option<String> {
    let min_available = observed.spec.min_available.as_ref().filter(|min| is_never_met(min, in_service))?;
    Some(never_met(&written(min_available), in_service, "in service"))
}

/// How many of these hosts answer.
fn answering(number: usize, total: usize) -> String {
    match total {
        1 => format!("{number} of 1 host answers"),
        _ => format!("{number} of {total} hosts answer"),
    }
}

/// A group that is deleted and in use works on until the last Deployment that acted on its hosts is gone.
pub fn in_use(observed: &Observed) -> Option<Verdict> {
    let text = match observed.users_unknown {
        true => "being deleted, and in use: it goes when landfall can list the Deployments of this namespace and none uses it".to_owned(),
        false => {
            let users = list_names(&observed.used_by);
            format!("being deleted, and in use: it goes when these Deployments are gone: {users}")
        }
    };
    (observed.deleting && observed.is_in_use()).then(|| Verdict::waiting(Reason::InUse, text))
}

fn failed(failure: &Failure) -> Verdict {
    match failure.is_terminal() {
        true => Verdict::failed(failure.reason, &failure.message),
        false => Verdict::waiting(failure.reason, &failure.message),
    }
}

/// Why no host in service can be used, once all were tried: terminal where that is so of each of them.
fn no_host(view: &View<'_>) -> Option<Failure> {
    let total = view.in_service.len();
    let mut failures = Vec::new();
    for (host, check) in &view.in_service {
        failures.push((host, check.unusable()?));
    }
    let (host, first) = failures.first()?;
    let what = format!("{}: {}: {}", host.name, first.reason, first.message);
    let answer = view.count(|check| matches!(check, HostCheck::Facts(_)));
    let (reason, message) = match answer {
        0 => (Reason::NoHostReachable, format!("{}; {what}", answering(0, total))),
        _ => (Reason::NoHostUsable, format!("0 of {} can be used; {what}", count_hosts(total))),
    };
    match failures.iter().all(|(_, failure)| needs_person(failure)) {
        true => Some(Failure::terminal(reason, message)),
        false => Some(Failure::waiting(reason, message)),
    }
}

/// A key that one host refuses may be a directory service that is away, and is tried again; refused by all it is the key.
fn needs_person(failure: &Failure) -> bool {
    failure.is_terminal() || failure.reason == Reason::AuthenticationFailed
}

/// Unknown until every host was asked, unless one is known not to answer. Where none is asked the verdict says why.
pub(crate) fn all_reachable(observed: &Observed, view: &View<'_>, verdict: &Verdict) -> Extra {
    let missed = view.in_service.iter().filter(|(_, check)| matches!(check, HostCheck::Failed(_)));
    let missed: Vec<String> = missed.map(|(host, _)| host.name.clone()).collect();
    let unknown = view.count(|check| matches!(check, HostCheck::Unknown));
    let total = view.in_service.len();
    let (status, reason, message) = match (missed.len(), unknown) {
        (0, 0) => (Some(true), Reason::Probed, answering(total, total)),
        (0, _) => (None, verdict.reason(), verdict.message().to_owned()),
        _ if observed.is_withdrawn() => (None, verdict.reason(), verdict.message().to_owned()),
        (n, _) => {
            let message = format!("no answer from {n} of {}: {}", count_hosts(total), list_names(&missed));
            (Some(false), Reason::HostsUnreachable, message)
        }
    };
    Extra { kind: ALL_REACHABLE, status, reason, message }
}
