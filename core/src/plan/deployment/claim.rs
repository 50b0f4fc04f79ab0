//! Which Deployment a host belongs to: one per project. The owner file decides; on a host without one the older
//! Deployment, then the smaller uid.

use std::collections::{HashMap, HashSet};

use super::observed::{FolderCheck, Group, Observed, SiblingDeployment};
use crate::{
    api::hostgroup::Host,
    model::{
        facts::{FolderFacts, ProcessFacts},
        ids::Owner,
    },
};

/// Largest number of revisions that a restored control plane may have missed.
pub(crate) const REVISION_GAP_MAX: i64 = 1_000_000;

/// Claim of this Deployment on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Free, or this Deployment's. `replaces`: the owner file names a Deployment that is known to be gone.
    Ours { replaces: Option<Owner> },
    /// It belongs to another Deployment; the text names it.
    Others(String),
    /// Another control plane acted on it.
    Foreign { control_plane_id: String, owner: Option<Owner> },
    /// It has seen a higher revision than this Deployment knows of, or a newer operator than the one that holds the lease: this control plane
    /// was restored from a backup. `fenced`: the host refuses acts of this operator.
    Ahead { revision: i64, fenced: bool },
}

/// Input of the claims of all hosts; computed once.
pub(crate) struct Claims<'a> {
    observed: &'a Observed,
    /// Names of the group's hosts.
    names: HashSet<&'a str>,
    port: i32,
    /// The Deployment that claims a machine, of those that come before this one.
    first: HashMap<&'a str, &'a SiblingDeployment>,
    /// An earlier Deployment whose selection can't be read: it may claim any machine.
    unreadable: Option<&'a SiblingDeployment>,
    known_revision: i64,
}

impl<'a> Claims<'a> {
    pub fn new(observed: &'a Observed, group: &'a Group) -> Self {
        let order = (observed.created, observed.uid.as_str());
        let earlier = observed.siblings.iter().filter(|other| (other.created, other.uid.as_str()) < order);
        let (mut first, mut unreadable) = (HashMap::new(), None);
        for other in earlier {
            if other.unreadable {
                unreadable = unreadable.or(Some(other));
            }
            for machine in &other.machines {
                first.entry(machine.as_str()).or_insert(other);
            }
        }
        Self {
            observed,
            names: group.hosts.iter().map(|host| host.name.as_str()).collect(),
            port: group.port,
            first,
            unreadable,
            known_revision: known_revision(observed),
        }
    }

    pub fn of(&self, host: &Host) -> Claim {
        let folder = self.observed.host(&host.name).view().map(|view| &view.folder);
        if let Some(claim) = folder.and_then(|folder| self.by_owner_file(host, folder)) {
            return claim;
        }
        if let Some(other) = self.first.get(format!("{}:{}", host.machine(), self.port).as_str()) {
            return Claim::Others(format!("Deployment {} selected it first", other.name));
        }
        match self.unreadable {
            Some(other) => Claim::Others(format!(
                "Deployment {} is older, and its host selection can't be read (a later version of landfall wrote it)",
                other.name
            )),
            None => Claim::Ours { replaces: None },
        }
    }

    /// `None` without a recorded owner.
    fn by_owner_file(&self, host: &Host, folder: &FolderFacts) -> Option<Claim> {
        let ours = &self.observed.control_plane_id;
        let fence = folder.fence.as_ref().map(|fence| &fence.epoch);
        let owner_plane = folder.owner.as_ref().map(|owner| &owner.control_plane_id);
        let foreign = fence.filter(|id| *id != ours).or_else(|| owner_plane.filter(|id| *id != ours));
        if let Some(control_plane_id) = foreign {
            return Some(Claim::Foreign { control_plane_id: control_plane_id.clone(), owner: folder.owner.clone() });
        }
        let owner = folder.owner.as_ref()?;
        if owner.uid == self.observed.uid {
            return Some(self.own(host, folder, owner));
        }
        let mut others = self.observed.siblings.iter();
        let holder =
            others.find(|other| other.uid == owner.uid && (other.unreadable || other.hosts.contains(&owner.host)));
        Some(match holder {
            Some(other) => {
                Claim::Others(format!("it belongs to Deployment {} (as its host {})", other.name, owner.host))
            }
            None => Claim::Ours { replaces: Some(owner.clone()) },
        })
    }

    fn own(&self, host: &Host, folder: &FolderFacts, owner: &Owner) -> Claim {
        if owner.host != host.name {
            let (listed, other) = (self.names.contains(owner.host.as_str()), &self.observed.host(&owner.host).check);
            return match other {
                // It may be the same machine.
                FolderCheck::Failed(failure) if listed => Claim::Others(format!(
                    "its owner file names host {} of this group, which does not answer ({}); until that one answers, or is taken out of the \
                     group, it is not known whether both are one machine",
                    owner.host, failure.reason
                )),
                _ if listed && is_same_machine(self.observed, &host.name, owner) => {
                    Claim::Others(format!("it is the same machine as host {} of this group", owner.host))
                }
                _ => Claim::Ours { replaces: Some(owner.clone()) },
            };
        }
        let process = folder.process.as_ref().filter(|process| process.uid == self.observed.uid);
        let there = process.map_or(0, |process| process.revision);
        let fenced = folder.fence.as_ref().zip(self.observed.token.as_ref()).is_some_and(|(theirs, ours)| {
            theirs.epoch == ours.epoch && (theirs.created, theirs.transitions) > (ours.created, ours.transitions)
        });
        let ahead = there > self.known_revision && is_plausible(self.known_revision, there);
        match fenced || ahead {
            true => Claim::Ahead { revision: there, fenced },
            false => Claim::Ours { replaces: None },
        }
    }
}

/// Whether this host and the one that its owner file names are one machine under two names: both show the same folder. Names that moved
/// from machine to machine show each its own.
pub fn is_same_machine(observed: &Observed, host: &str, owner: &Owner) -> bool {
    let (Some(here), Some(there)) = (observed.host(host).view(), observed.host(&owner.host).view()) else {
        return false;
    };
    let process = |folder: &FolderFacts| folder.process.as_ref().map(ProcessFacts::id);
    let same_boot = !here.boot_id.is_empty() && here.boot_id == there.boot_id;
    let same_process = process(&here.folder).is_some_and(|here| process(&there.folder) == Some(here));
    there.folder.owner.as_ref() == Some(owner) && (same_boot || same_process)
}

/// Highest revision in status and store.
pub(crate) fn known_revision(observed: &Observed) -> i64 {
    let records = observed.records.iter().map(|record| record.revision);
    records.chain(observed.before().revision).max().unwrap_or(0)
}

/// Highest revision of this Deployment on any host.
pub(crate) fn highest_on_hosts(observed: &Observed) -> i64 {
    let known = known_revision(observed);
    let processes = observed.hosts.values().filter_map(|host| host.view()?.folder.process.as_ref());
    let ours = processes.filter(|process| process.uid == observed.uid).map(|process| process.revision);
    ours.filter(|revision| is_plausible(known, *revision)).max().unwrap_or(0)
}

/// No backup is that old: a host with a higher revision is wrong, and numbers taken from it would run out.
fn is_plausible(known: i64, revision: i64) -> bool {
    revision <= known.saturating_add(REVISION_GAP_MAX)
}
