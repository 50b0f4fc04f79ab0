//! `minAvailable` of the HostGroup: which of its hosts are not available, selected or not, and what that leaves for updates of this
//! Deployment. A host is unavailable while it does not answer, is being updated by any Deployment, or does not serve this one; what other
//! Deployments run there is not looked at. An update of a host that does not serve this Deployment takes nothing away, so it needs no room.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    api::hostgroup::Host,
    plan::{
        deployment::{
            host_state::{HostState, is_in_update, last_good},
            observed::{FolderCheck, GoalKind, HostObserved},
            strategy::rolling,
            view::{HostView, View},
        },
        list_names,
        min_available::{Room, is_never_met, kept, never_met, written},
    },
};

/// The limit of a group that has one.
pub(crate) struct GroupLimit<'a> {
    min_available: &'a IntOrString,
    written: String,
    in_service: usize,
    suspended: Vec<&'a str>,
    kept: usize,
    /// No update is possible even with all hosts of the group in service.
    pub never_met: bool,
    unavailable: BTreeMap<&'a str, Unavailable>,
    /// Selected hosts that do not serve this Deployment.
    not_serving: Vec<&'a str>,
}

/// How a person lets the rollout go on without a dead machine.
pub(crate) enum Remedy<'a> {
    Suspend(&'a str),
    /// `to`: the count that leaves room; 0: none does.
    Lower {
        dead: &'a str,
        to: usize,
    },
}

/// Why a host is not available.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unavailable {
    Silent,
    Unchecked,
    Failed,
    /// The application of this Deployment does not serve there.
    NotServing,
    /// In an update of this Deployment.
    Updating,
    /// In an update of these.
    UpdatingElsewhere(String),
}

/// `None`: the group has no `minAvailable`.
pub(crate) fn limit<'a>(view: &View<'a>) -> Option<GroupLimit<'a>> {
    let group = view.targets.group;
    let min_available = group.min_available.as_ref()?;
    let in_service = &view.targets.in_service;
    let selected: BTreeMap<&str, &HostView<'_>> = view.hosts.iter().map(|host| (host.name, host)).collect();
    let is_suspended = |host: &&Host| !in_service.iter().any(|one| one.name == host.name);
    let suspended = group.hosts.iter().filter(is_suspended).map(|host| host.name.as_str());
    let unavailable = in_service.iter().filter_map(|host| {
        let why = unavailable(view, host, selected.get(host.name.as_str()).copied())?;
        Some((host.name.as_str(), why))
    });
    Some(GroupLimit {
        min_available,
        written: written(min_available),
        in_service: in_service.len(),
        suspended: suspended.collect(),
        kept: kept(min_available, in_service.len()),
        never_met: is_never_met(min_available, group.hosts.len()),
        unavailable: unavailable.collect(),
        not_serving: view.hosts.iter().filter(|host| does_not_serve(host)).map(|host| host.name).collect(),
    })
}

fn unavailable(view: &View<'_>, host: &Host, selected: Option<&HostView<'_>>) -> Option<Unavailable> {
    let observed = view.observed.host(&host.name);
    if selected.is_some_and(|selected| matches!(selected.state, HostState::Updating { .. })) {
        return Some(Unavailable::Updating);
    }
    if let Some(others) = view.observed.updates_elsewhere.get(&host.name) {
        let names: Vec<&String> = others.iter().collect();
        return Some(Unavailable::UpdatingElsewhere(list_names(&names)));
    }
    // The folder is that of the Project: it may as well be an update of another Deployment, which is named above then.
    // A host that is selected may be in one of a Deployment that is gone, and had this name.
    if has_update(observed) {
        return Some(Unavailable::Updating);
    }
    match &observed.check {
        FolderCheck::Failed(_) => Some(Unavailable::Silent),
        FolderCheck::Unknown => Some(Unavailable::Unchecked),
        FolderCheck::Facts(_) => {
            let host = selected.filter(|host| does_not_serve(host))?;
            let failed = matches!(host.state, HostState::Failed(_));
            Some(if failed { Unavailable::Failed } else { Unavailable::NotServing })
        }
    }
}

/// The host answers and is in no update, and its application does not serve. One that failed before anything was touched serves on.
fn does_not_serve(host: &HostView<'_>) -> bool {
    let serves = match host.state {
        HostState::Failed(_) => host.observed.is_serving(),
        // It is not this Deployment's.
        HostState::Refused(_) | HostState::Updating { .. } => true,
        _ => host.is_available(),
    };
    matches!(host.observed.check, FolderCheck::Facts(_)) && !serves
}

/// Of a host that is not selected any more, or of another Deployment in the same folder.
fn has_update(observed: &HostObserved) -> bool {
    observed.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Run)
        || observed.view().is_some_and(|view| is_in_update(&view.folder))
}

impl<'a> GroupLimit<'a> {
    pub fn room(&self) -> Room<'a> {
        Room::new(self.most(), self.unavailable.keys().copied(), self.not_serving.iter().copied())
    }

    /// Number of hosts that may be unavailable.
    fn most(&self) -> usize {
        self.in_service.saturating_sub(self.kept)
    }

    /// Number of hosts that are unavailable for another cause than one that passes by itself, as updates and checks do.
    fn away_for_long(&self) -> usize {
        let stays =
            |why: &&Unavailable| matches!(why, Unavailable::Silent | Unavailable::Failed | Unavailable::NotServing);
        self.unavailable.values().filter(stays).count()
    }

    /// There is no room either when all updates are over and all hosts are checked.
    pub fn waits_for_person(&self) -> bool {
        self.away_for_long() >= self.most()
    }

    /// What it says, and who uses it up. `group`: name of the HostGroup.
    pub fn used_up(&self, group: &str) -> String {
        let Self { written, in_service, suspended, kept, unavailable, .. } = self;
        let of = match *in_service {
            1 => "its 1 host".to_owned(),
            n => format!("its {n} hosts"),
        };
        let mut text =
            format!("spec.minAvailable {written} of HostGroup {group} keeps {kept} of {of} in service available");
        if kept >= in_service {
            text = format!("{text}, and {} suspended", list_names(suspended));
        }
        if unavailable.is_empty() {
            return text;
        }
        let mut by_cause: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (host, why) in unavailable {
            let cause = match why {
                Unavailable::Silent => "no answer from".to_owned(),
                Unavailable::Unchecked => "not checked yet:".to_owned(),
                Unavailable::Failed => "failed on".to_owned(),
                Unavailable::NotServing => "not serving:".to_owned(),
                Unavailable::Updating => "updating".to_owned(),
                Unavailable::UpdatingElsewhere(who) => format!("in an update of {who}:"),
            };
            by_cause.entry(cause).or_default().push(host);
        }
        let causes: Vec<String> =
            by_cause.into_iter().map(|(cause, hosts)| format!("{cause} {}", list_names(&hosts))).collect();
        format!("{text}; not available: {}", causes.join("; "))
    }

    /// What helps where a machine is dead. Suspending one leaves room only where fewer hosts are kept then.
    pub fn remedy(&self) -> Option<Remedy<'a>> {
        let (dead, _) = self.unavailable.iter().find(|(_, why)| **why == Unavailable::Silent)?;
        let (others, away) = (self.in_service.saturating_sub(1), self.away_for_long());
        let room = others.saturating_sub(kept(self.min_available, others));
        Some(match room >= away {
            true => Remedy::Suspend(dead),
            false => Remedy::Lower { dead, to: others.saturating_sub(away) },
        })
    }

    /// Why no update is ever possible in this group.
    pub fn never_met(&self, hosts: usize) -> String {
        never_met(&self.written, hosts, "of the group")
    }
}

/// Its process ended, and its target differs: its update needs no room.
fn is_updated_for_healing(view: &View<'_>, host: &HostView<'_>) -> bool {
    let Some(target) = host.target.as_deref() else { return false };
    let is_healed = matches!(host.state, HostState::Down | HostState::Healing { .. }) && !host.down_and_failed;
    is_healed
        && view.canary.allows(host.name)
        && last_good(view.observed, host.observed, Some(target)).is_some_and(|own| own.rollout != target.rollout)
}

/// Hosts could begin their update, and `minAvailable` leaves room for none of them; no update is open.
pub(crate) fn is_used_up(view: &View<'_>) -> bool {
    let Some(limit) = limit(view) else { return false };
    let waits_for_staging = view.hosts.iter().any(HostView::is_waited_for) && !view.has_begun();
    let open = view.number(|state| matches!(state, HostState::Updating { .. }));
    open == 0
        && !waits_for_staging
        && !view.hosts.iter().any(|host| is_updated_for_healing(view, host))
        && !rolling::may_begin(view, &[], &mut Room::unlimited()).is_empty()
        && rolling::may_begin(view, &[], &mut limit.room()).is_empty()
}
