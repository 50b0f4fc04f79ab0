//! One build at a time. The grant is on record in this object's status before anything of it is done.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Candidate, Claim, Observed, QueuePosition, concurrency};
use crate::{
    api::{
        Reason,
        lifecycle::ConcurrencyPolicy,
        project::{ActiveBuild, ProjectStatus},
    },
    plan::{EventDraft, builds::stage::BuildStage},
};

pub(super) struct Granted {
    pub(super) actions: Vec<Action>,
    pub(super) events: Vec<EventDraft>,
}

pub(super) fn decide(observed: &Observed, status: &mut ProjectStatus, now: Timestamp) -> Granted {
    let (mut actions, mut events) = (Vec::new(), Vec::new());
    status.last_number = status.last_number.max(observed.highest);
    let kept = status.active_build.take().and_then(|active| keep(observed, status.last_number, active));
    let fresh = kept.is_none();
    status.active_build = kept.or_else(|| next(observed, status.last_number, now));
    if let Some(active) = &status.active_build {
        status.last_number = status.last_number.max(active.number);
        if fresh {
            let note = format!("build {} is granted, with number {}", active.name, active.number);
            events.push(EventDraft::normal(Reason::Granted, "Grant", note));
        }
        if fresh || !settled(observed, active) {
            actions.push(Action::Grant(active.clone()));
        }
    }
    let places = queue(observed, status.active_build.as_ref());
    status.queued_builds = places.iter().filter(|place| place.position > 0).count().try_into().unwrap_or(i32::MAX);
    if places != observed.announced {
        actions.push(Action::Announce(places));
    }
    Granted { actions, events }
}

/// The grant while its build runs; `None` where the build ended or is gone.
fn keep(observed: &Observed, last_number: i64, mut active: ActiveBuild) -> Option<ActiveBuild> {
    let build = observed.builds.iter().find(|build| build.uid == active.uid)?;
    if build.stage == BuildStage::Ended {
        return None;
    }
    match &observed.grant {
        // The frozen plan is the truth: it can't be written twice.
        Some(super::GrantObserved { planned: Some(planned), .. }) => {
            active.number = planned.number;
            active.granted_at = planned.granted_at.clone();
        }
        // Another build claimed that number first, so the next one is taken.
        Some(super::GrantObserved { claim: Claim::Foreign, .. }) => active.number = next_number(observed, last_number),
        _ => {}
    }
    Some(active)
}

/// Whether number and plan are in the store.
fn settled(observed: &Observed, active: &ActiveBuild) -> bool {
    let planned = observed.grant.as_ref().and_then(|grant| grant.planned.as_ref());
    planned.is_some_and(|planned| planned.number == active.number)
}

/// The next build to be granted: first one that was started (the status was lost), then one that was granted before, then the oldest; of those
/// created within one second (times have no smaller unit) the first by name. Where the newest replaces the others, the newest.
fn next(observed: &Observed, last_number: i64, now: Timestamp) -> Option<ActiveBuild> {
    let ready = |build: &&Candidate| matches!(build.stage, BuildStage::Active | BuildStage::Queued);
    let first = observed.builds.iter().filter(ready).min_by_key(|build| order(build))?;
    let replace = observed.object.spec.build.concurrency_policy == ConcurrencyPolicy::Replace;
    let newest = concurrency::newest(observed).filter(|_| replace && first.stage == BuildStage::Queued);
    let build = newest.unwrap_or(first);
    let (number, granted_at) = match &build.planned {
        Some(planned) => (planned.number, planned.granted_at.clone()),
        None if tags_known(observed, build) => (next_number(observed, last_number), Time(now)),
        // The repository is listed first, or its tags would take the numbers of an empty store.
        None => return None,
    };
    Some(ActiveBuild { name: build.name.clone(), uid: build.uid.clone(), number, granted_at })
}

/// Above what store and status know, and above the tags that the repository has: another store may have made those.
fn next_number(observed: &Observed, last_number: i64) -> i64 {
    let listed = observed.listing.iter().map(|listing| listing.highest_tag);
    let resolved = observed.builds.iter().filter_map(|build| build.highest_tag);
    listed.chain(resolved).fold(last_number, i64::max).saturating_add(1)
}

fn tags_known(observed: &Observed, build: &Candidate) -> bool {
    build.highest_tag.is_some()
        || observed.listing.is_some()
        || !observed.object.spec.build.tag.template.contains("{number}")
}

fn order(build: &Candidate) -> (bool, bool, Timestamp, &str) {
    (build.stage != BuildStage::Active, build.planned.is_none(), build.created.0, &build.name)
}

/// All positions: the active build at 0, then those that wait, then those that are denied.
fn queue(observed: &Observed, active: Option<&ActiveBuild>) -> Vec<QueuePosition> {
    let is_active = |build: &Candidate| active.is_some_and(|active| active.uid == build.uid);
    let queued = observed.builds.iter().filter(|build| build.stage == BuildStage::Queued && !is_active(build));
    let (mut denied, mut waiting): (Vec<_>, Vec<_>) = queued
        .map(|build| (build, concurrency::denied(observed, active, build)))
        .partition(|(_, denied)| denied.is_some());
    waiting.sort_by_key(|(build, _)| order(build));
    denied.sort_by_key(|(build, _)| order(build));
    let holder = observed.builds.iter().find(|build| is_active(build));
    let first = holder.map(|build| place(build, 0, None, concurrency::denied(observed, active, build)));
    let waiting = waiting.into_iter().zip(1..);
    let rest = waiting.map(|((build, _), n)| place(build, n, active.map(|active| active.name.clone()), None));
    let denied = denied.into_iter().map(|(build, denied)| place(build, 0, None, denied));
    first.into_iter().chain(rest).chain(denied).collect()
}

fn place(
    build: &Candidate,
    position: i32,
    waiting_for: Option<String>,
    denied: Option<super::Denied>,
) -> QueuePosition {
    QueuePosition { name: build.name.clone(), uid: build.uid.clone(), position, waiting_for, denied }
}
