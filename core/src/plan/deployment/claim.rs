//! Whose a host is: one host belongs to one Deployment per project. The owner file decides; on a host without one the older
//! Deployment, then the smaller uid.

use super::observed::{FolderCheck, Group, Observed, SiblingDeployment};
use crate::{
    api::hostgroup::Host,
    model::{facts::FolderFacts, ids::Owner},
};

/// So many revisions a restored control plane may have missed.
const LEAP: i64 = 1_000_000;

/// What stands between this Deployment and one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours, or nobody's. `replaces`: the owner file names somebody who is known to be gone.
    Ours { replaces: Option<Owner> },
    /// Another Deployment's; the text names it.
    Others(String),
    /// Another control plane acted on it.
    Foreign { control_plane_id: String, owner: Option<Owner> },
    /// It has seen a higher revision than this Deployment knows of, or a newer operator than the one that holds the lease: our own past
    /// was restored from a backup. `fenced`: it would refuse our acts.
    Ahead { revision: i64, fenced: bool },
}

pub fn claim(observed: &Observed, group: &Group, host: &Host) -> Claim {
    if let FolderCheck::Facts(look) = &observed.host(&host.name).look
        && let Some(claim) = by_owner_file(observed, group, host, &look.folder)
    {
        return claim;
    }
    match first_to_claim(observed, group, host) {
        Some(other) => Claim::Others(format!("Deployment {} selected it first", other.name)),
        None => Claim::Ours { replaces: None },
    }
}

/// `None` where nobody is recorded.
fn by_owner_file(observed: &Observed, group: &Group, host: &Host, folder: &FolderFacts) -> Option<Claim> {
    let foreign_fence =
        folder.fence.as_ref().filter(|fence| fence.epoch != observed.control_plane_id).map(|fence| fence.epoch.clone());
    let foreign_owner = folder
        .owner
        .as_ref()
        .filter(|owner| owner.control_plane_id != observed.control_plane_id)
        .map(|owner| owner.control_plane_id.clone());
    if let Some(control_plane_id) = foreign_fence.or(foreign_owner) {
        return Some(Claim::Foreign { control_plane_id, owner: folder.owner.clone() });
    }
    let owner = folder.owner.as_ref()?;
    if owner.uid == observed.uid {
        return Some(own(observed, group, host, folder, owner));
    }
    let holder = observed.others.iter().find(|other| other.uid == owner.uid && other.hosts.contains(&owner.host));
    Some(match holder {
        Some(other) => Claim::Others(format!("it belongs to Deployment {} (as its host {})", other.name, owner.host)),
        None => Claim::Ours { replaces: Some(owner.clone()) },
    })
}

fn own(observed: &Observed, group: &Group, host: &Host, folder: &FolderFacts, owner: &Owner) -> Claim {
    if owner.host != host.name {
        return match group.hosts.iter().any(|one| one.name == owner.host) {
            true => Claim::Others(format!("it is the same machine as host {} of this group", owner.host)),
            false => Claim::Ours { replaces: Some(owner.clone()) },
        };
    }
    let there =
        folder.process.as_ref().filter(|process| process.uid == observed.uid).map_or(0, |process| process.revision);
    let fenced = folder.fence.as_ref().zip(observed.token.as_ref()).is_some_and(|(theirs, ours)| {
        theirs.epoch == ours.epoch && (theirs.created, theirs.transitions) > (ours.created, ours.transitions)
    });
    match fenced || (there > known_revision(observed) && plausible(observed, there)) {
        true => Claim::Ahead { revision: there, fenced },
        false => Claim::Ours { replaces: None },
    }
}

fn first_to_claim<'a>(observed: &'a Observed, group: &Group, host: &Host) -> Option<&'a SiblingDeployment> {
    let machine = format!("{}:{}", host.machine(), group.port);
    let first =
        |other: &&SiblingDeployment| (other.created, other.uid.as_str()) < (observed.created, observed.uid.as_str());
    observed.others.iter().filter(first).find(|other| other.machines.contains(&machine))
}

/// The highest revision that status and store know of.
pub fn known_revision(observed: &Observed) -> i64 {
    let records = observed.records.iter().map(|record| record.revision);
    records.chain(observed.before().revision).max().unwrap_or(0)
}

/// The highest revision of this Deployment that any host shows.
pub fn highest_on_hosts(observed: &Observed) -> i64 {
    let revisions = observed.hosts.values().filter_map(|host| match &host.look {
        FolderCheck::Facts(look) => look.folder.process.as_ref().filter(|process| process.uid == observed.uid),
        _ => None,
    });
    revisions.map(|process| process.revision).filter(|revision| plausible(observed, *revision)).max().unwrap_or(0)
}

/// A backup is not that old: a host that claims more lies, and counting on from there would end at the last number that there is.
fn plausible(observed: &Observed, revision: i64) -> bool {
    revision <= known_revision(observed).saturating_add(LEAP)
}
