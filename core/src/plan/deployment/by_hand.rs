//! Acts by hand: what a person did on a host with `landfall-host`, past the operator. It is shown, and stands until a rollout that is asked
//! for after it.

use std::collections::{BTreeSet, HashMap};

use super::{
    folder::was_ready,
    observed::Observed,
    rollout::{ActiveRollout, RolloutChange},
    steps::is_reached,
    target::Target,
    targets::Targets,
};
use crate::{
    api::{
        Reason,
        deployment::{ActByHand, HistoryChange},
    },
    model::{
        facts::{ByHand, FolderFacts, ProcessFacts},
        rollout::{RolloutId, RolloutRecord},
    },
    plan::HostEvent,
};

/// The last acts by hand on the selected hosts, for the record. One that is not on record yet stands. Of a host that does not answer what is
/// on record stays.
pub(crate) fn acts(observed: &Observed, targets: &Targets<'_>, active: &ActiveRollout) -> Vec<ActByHand> {
    let (old, ended) = (on_record(observed), ended(observed, active));
    let act = |host: &str| {
        let old = old.get(host).copied();
        let act = match observed.host(host).view() {
            Some(view) => recorded(view.folder.by_hand.as_ref()?, host, old),
            None => old?.clone(),
        };
        Some(ActByHand { stands: act.stands && !ended.of(host), ..act })
    };
    let selected = targets.selected();
    let ours = selected.iter().map(|host| host.name.as_str()).filter(|name| !targets.refused.contains_key(name));
    let mut acts: Vec<ActByHand> = ours.filter_map(act).collect();
    acts.sort_unstable_by(|one, other| one.host.cmp(&other.host));
    acts
}

fn on_record(observed: &Observed) -> HashMap<&str, &ActByHand> {
    let intent = observed.before().intent();
    intent.into_iter().flat_map(|intent| &intent.by_hand).map(|act| (act.host.as_str(), act)).collect()
}

fn recorded(seen: &ByHand, host: &str, old: Option<&ActByHand>) -> ActByHand {
    let journal = i64::try_from(seen.journal).unwrap_or(i64::MAX);
    let same = old.filter(|old| old.journal == journal);
    ActByHand { host: host.to_owned(), journal, stands: same.is_none_or(|old| old.stands) }
}

/// Whose acts by hand a rollout ends.
enum Ended<'a> {
    None,
    Of(BTreeSet<&'a str>),
    All,
}

impl Ended<'_> {
    fn of(&self, host: &str) -> bool {
        match self {
            Self::None => false,
            Self::Of(hosts) => hosts.contains(host),
            Self::All => true,
        }
    }
}

/// A new version, another environment and a redeploy are asked for on all hosts, other pins on those whose version they change, a retry on those
/// that failed; nobody asks for a return.
fn ended<'a>(observed: &'a Observed, active: &ActiveRollout) -> Ended<'a> {
    match active.change {
        RolloutChange::Same | RolloutChange::Started(HistoryChange::RollBack) => Ended::None,
        RolloutChange::Started(HistoryChange::Pins) => Ended::Of(moved(observed, active)),
        RolloutChange::Started(_) => Ended::All,
        RolloutChange::Retry => {
            let failed = observed.failures.iter().filter(|failure| failure.rollout == active.rollout.id);
            Ended::Of(failed.map(|failure| failure.host.as_str()).collect())
        }
    }
}

/// Hosts that have another version by the pins of this rollout than by those of the one before.
fn moved<'a>(observed: &'a Observed, active: &ActiveRollout) -> BTreeSet<&'a str> {
    let id = observed.before().rollout.as_ref().and_then(|rollout| RolloutId::read(&rollout.id));
    let before = id.and_then(|id| observed.records.iter().find(|record| record.revision == id.revision));
    let on = |record: &RolloutRecord, host: &str| record.on_host(host).map(|record| record.digest.clone());
    let is_moved = |host: &&str| before.is_none_or(|before| on(before, host) != on(&active.record, host));
    observed.hosts.keys().map(String::as_str).filter(is_moved).collect()
}

/// A person acts there, or left the host in another state than the operator wants.
pub(crate) fn is_left(observed: &Observed, host: &str, folder: &FolderFacts, target: Option<&Target>) -> bool {
    let is_reached = target.is_some_and(|target| is_reached(folder, target));
    is_ending(folder) || !is_reached && (is_under_way(folder) || differs(observed, host, folder))
}

/// A person's act is under way that stops what serves there, whatever that shows yet.
pub(crate) fn is_ending(folder: &FolderFacts) -> bool {
    is_under_way(folder) && folder.by_hand.as_ref().is_some_and(|act| verb(act) != "start")
}

/// A person's act is under way.
pub(crate) fn is_under_way(folder: &FolderFacts) -> bool {
    folder.open.as_ref().is_some_and(|open| open.running && open.is_by_hand())
}

/// By a person the application is stopped, or runs another release than the operator started.
fn differs(observed: &Observed, host: &str, folder: &FolderFacts) -> bool {
    let Some(act) = &folder.by_hand else { return false };
    let process = folder.process.as_ref();
    let of_revision = process.and_then(|process| digest_of_revision(observed, host, process));
    let digest = process.map(|process| process.digest.clone());
    match verb(act) {
        "stop" => true,
        // What was started again is an application as any other, unless a `use` came before.
        "start" => of_revision.is_some() && digest != of_revision,
        _ => !is_back(observed, host, folder),
    }
}

/// A person went back to the release that the operator started, and it was ready: an application as any other, also when it has ended since.
/// Where it never was ready the release is not what is wanted there.
fn is_back(observed: &Observed, host: &str, folder: &FolderFacts) -> bool {
    folder.process.as_ref().is_some_and(|process| {
        digest_of_revision(observed, host, process).as_ref() == Some(&process.digest)
            && (process.alive || process.kept || was_ready(folder, process))
    })
}

/// It was stopped by a person, or what he chose ended: nobody wants again what ran before.
pub(crate) fn is_stopped(observed: &Observed, host: &str, folder: &FolderFacts) -> bool {
    let down = folder.process.as_ref().is_none_or(|process| !process.alive && !process.kept);
    let by_act = |act: &ByHand| match verb(act) {
        "start" => false,
        "stop" => true,
        _ => !is_back(observed, host, folder),
    };
    down && folder.by_hand.as_ref().is_some_and(by_act)
}

/// Digest of the release that the process' revision has on this host: `use` changes the release, and leaves the revision.
fn digest_of_revision(observed: &Observed, host: &str, process: &ProcessFacts) -> Option<String> {
    let fits = |record: &&RolloutRecord| process.uid == observed.uid && record.revision == process.revision;
    observed.records.iter().find(fits)?.on_host(host).map(|record| record.digest.clone())
}

fn verb(act: &ByHand) -> &str {
    act.act.split(' ').next().unwrap_or_default()
}

/// The act, who and why: `stop by ann (claimed): disk swap`.
pub(crate) fn words(act: &ByHand) -> String {
    let who = act.user.as_ref().map(|user| format!(" by {user} (claimed)")).unwrap_or_default();
    let why = if act.reason.is_empty() { String::new() } else { format!(": {}", act.reason) };
    format!("{}{who}{why}", act.act)
}

/// Acts that no status told of yet, for events.
pub(crate) fn news(observed: &Observed, acts: &[ActByHand]) -> Vec<HostEvent> {
    let old = on_record(observed);
    let is_new = |act: &&ActByHand| old.get(act.host.as_str()).is_none_or(|old| old.journal != act.journal);
    let event = |act: &ActByHand| {
        let folder = &observed.host(&act.host).view()?.folder;
        let seen = folder.by_hand.as_ref()?;
        let stands = match act.stands && differs(observed, &act.host, folder) {
            true => "; left so until a new version or a redeploy is asked for",
            false => "",
        };
        let message = format!("by hand on the host: {}{stands}", words(seen));
        Some(HostEvent { host: act.host.clone(), reason: Reason::ChangedByHand, message })
    };
    acts.iter().filter(is_new).filter_map(event).collect()
}
