//! Canary: hosts that get a new version before all others. Which hosts these are, whether they are all ready, and whether the others may follow.
//! It decides on facts and on what is on record; what is shown to people is none of its business.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        Reason,
        deployment::{Canary as Wanted, CanaryRecord, HistoryChange},
        verbs,
    },
    model::Failure,
    plan::{
        deployment::{
            canary::{Canary, Stage},
            host_state::HostState,
            intent::IntentOnRecord,
            rollout::{ActiveRollout, RolloutChange},
            select::{Unselectable, select},
            stable,
            stamp::Stamp,
            view::{HostView, View},
        },
        list_names,
    },
};

/// The canary of this decision.
pub(crate) fn canary(view: &View<'_>, now: Timestamp) -> Canary {
    let Some(active) = &view.rollout else { return Canary::default() };
    let record = on_record(view, active);
    let Some(wanted) = view.observed.spec.strategy.canary.as_ref().filter(|_| view.unmet.is_none()) else {
        return Canary { record, stage: Stage::Over };
    };
    if record.as_ref().is_some_and(|record| record.promoted) || !is_needed(view, active) {
        return Canary { record, stage: Stage::Over };
    }
    let mut record = match record {
        Some(record) => record,
        None if may_choose(view, active) => CanaryRecord::default(),
        None => return Canary::default(),
    };
    if is_promoted_by_verb(view, active, &record) {
        record.promoted = true;
        return Canary { record: Some(record), stage: Stage::Over };
    }
    if members(view, &record).is_empty() {
        match choose(view, wanted, &record) {
            Ok(hosts) => record = CanaryRecord { hosts, ..CanaryRecord::default() },
            Err(failure) => return Canary { record: Some(record), stage: Stage::Unmet(failure) },
        }
    }
    go_on(view, active, wanted, record, now)
}

/// Whether the others may follow now.
fn go_on(view: &View<'_>, active: &ActiveRollout, wanted: &Wanted, mut record: CanaryRecord, now: Timestamp) -> Canary {
    let is_ready = members(view, &record).iter().all(|host| host.state == HostState::Ready);
    record.ready_since = record.ready_since.filter(|_| is_ready).or_else(|| is_ready.then_some(Time(now)));
    let until = wanted
        .pause
        .seconds
        .zip(record.ready_since.as_ref())
        .map(|(seconds, since)| since.0.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX));
    let is_over = until.is_some_and(|until| until <= now) && !active.aborted;
    let is_one = |name: &String| record.hosts.contains(name) || active.record.pin_of(name).is_some();
    let has_all = view.targets.selected().iter().all(|host| is_one(&host.name));
    record.promoted = is_over || is_ready && has_all;
    let stage = match (record.promoted, is_ready) {
        (true, _) => Stage::Over,
        (false, true) => Stage::AwaitsPromotion { until },
        (false, false) => Stage::UnderWay,
    };
    Canary { record: Some(record), stage }
}

/// The canary hosts that are selected and in service. One that a pin has got shows nothing of the version.
fn members<'v, 'a>(view: &'v View<'a>, record: &CanaryRecord) -> Vec<&'v HostView<'a>> {
    let is_member = |host: &&HostView<'_>| !host.is_pinned && record.hosts.iter().any(|name| name == host.name);
    view.hosts.iter().filter(is_member).collect()
}

/// A person may promote a canary that is not ready yet, and none that failed or was aborted: a retry comes first.
fn is_promoted_by_verb(view: &View<'_>, active: &ActiveRollout, record: &CanaryRecord) -> bool {
    let has_failed = members(view, record).iter().any(|host| matches!(host.state, HostState::Failed(_)));
    !has_failed && !active.aborted && Stamp::of(view.observed, verbs::PROMOTE, &active.rollout) == Stamp::Fits
}

/// What is on record of the canary of this rollout. A redeploy, other pins, or an adoption, of a version whose canary was not promoted has the
/// same one again; of any other it has none, for the version runs everywhere.
fn on_record(view: &View<'_>, active: &ActiveRollout) -> Option<CanaryRecord> {
    let intent = view.before.intent();
    let before = intent.and_then(|intent| intent.canary.clone());
    match active.change {
        RolloutChange::Same | RolloutChange::Retry => before,
        RolloutChange::Started(HistoryChange::Redeploy | HistoryChange::Pins | HistoryChange::Adopt) => {
            view.observed.spec.strategy.canary.as_ref()?;
            let again = before.filter(|record| !record.promoted);
            Some(again.map_or(CanaryRecord { promoted: true, ..CanaryRecord::default() }, |record| CanaryRecord {
                ready_since: None,
                ..record
            }))
        }
        RolloutChange::Started(_) => None,
    }
}

/// The first version of all spares nobody, and the one that was ready everywhere is known.
fn is_needed(view: &View<'_>, active: &ActiveRollout) -> bool {
    let is_first = view.observed.records.iter().all(|record| record.revision == active.record.revision);
    !is_first && active.record.returned_from.is_none() && !stable::is_of_but_for_pins(view.before, &active.record)
}

/// A canary that comes into the spec while hosts are updated without one counts from the next rollout on. Where the intent was lost, who is
/// updated already is the canary.
fn may_choose(view: &View<'_>, active: &ActiveRollout) -> bool {
    let is_new = matches!(active.change, RolloutChange::Started(_));
    is_new || !view.has_begun() || active.intent == IntentOnRecord::Missing
}

/// Hosts that answer first; of these the ones that have the version or are in their update, then hosts where nothing serves, which would use up
/// `maxUnavailable` as long as they wait, then the canary hosts of before, then in the order of the group.
fn choose(view: &View<'_>, wanted: &Wanted, before: &CanaryRecord) -> Result<Vec<String>, Failure> {
    let group = &view.observed.spec.host_group_ref.name;
    let field = "spec.strategy.canary.hosts";
    let candidates = select(wanted.hosts.as_ref(), &view.targets.group.hosts).map_err(|why| match why {
        Unselectable::NotFound(names) => {
            let missing = list_names(&names);
            let text = format!("HostGroup {group} has no {missing}; correct {field}.names or add them to the group");
            Failure::terminal(Reason::HostsNotFound, text)
        }
        Unselectable::None => {
            Failure::terminal(Reason::NoHosts, format!("{field} selects no host of HostGroup {group}; correct it"))
        }
    })?;
    let is_candidate = |host: &&HostView<'_>| {
        !host.is_pinned
            && !matches!(host.state, HostState::Refused(_))
            && candidates.iter().any(|candidate| candidate.name == host.name)
    };
    let mut hosts: Vec<&HostView<'_>> = view.hosts.iter().filter(is_candidate).collect();
    if hosts.is_empty() {
        let text = format!(
            "{field} selects none of the hosts that spec.hosts selects, that no pin has, and that are in service; correct it"
        );
        return Err(Failure::terminal(Reason::NoHosts, text));
    }
    let is_silent = |state: &HostState| {
        matches!(state, HostState::Unreachable(_) | HostState::Unknown | HostState::Updating { lost: Some(_), .. })
    };
    let has_it =
        |state: &HostState| matches!(state, HostState::Ready | HostState::NotReady(_) | HostState::Updating { .. });
    let was_one = |host: &HostView<'_>| before.hosts.iter().chain(former(view)).any(|name| name == host.name);
    hosts.sort_by_key(|host| (is_silent(&host.state), !has_it(&host.state), host.is_available(), !was_one(host)));
    let most = match (wanted.max_hosts, &wanted.hosts) {
        (Some(most), _) => usize::try_from(most).unwrap_or(1).max(1),
        (None, Some(_)) => hosts.len(),
        (None, None) => 1,
    };
    let mut names: Vec<String> = hosts.into_iter().take(most).map(|host| host.name.to_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Canary hosts of the rollout on record.
fn former<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a String> {
    let intent = view.before.intent();
    intent.and_then(|intent| intent.canary.as_ref()).into_iter().flat_map(|record| &record.hosts)
}
