//! Which Deployment a host belongs to: one per project. The owner file decides; on a host without one the older
//! Deployment, then the smaller uid.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::observed::{FolderCheck, FolderView, Group, Observed, SiblingDeployment};
use crate::{
    api::{deployment::HostAhead, hostgroup::Host},
    model::{
        Failure,
        facts::{FolderFacts, ProcessFacts},
        ids::{FenceToken, Owner},
    },
};

/// Largest number of revisions that a restored control plane may have missed. What a host says beyond that is wrong or a lie, and moves no
/// number of ours; one that lies within it moves them by so much for each new revision, of which there may be more than anybody makes.
pub(crate) const REVISION_GAP_MAX: i64 = 1_000_000;

/// Claim of this Deployment on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Free, or this Deployment's. `replaces`: the owner file names a Deployment that is known to be gone.
    Ours { replaces: Option<Owner> },
    /// It belongs to another Deployment; the text names it.
    Others(String),
    /// The owner file names another host of this group, `other`, and it is not known whether both are one machine.
    Undecided { other: String, why: String },
    /// Another control plane acted on it.
    Foreign { control_plane_id: String, owner: Option<Owner> },
    /// It has seen a higher revision than this Deployment knows of, or a newer operator than the one that holds the lease: this control plane
    /// was restored from a backup, or the host is wrong. `fenced`: the host refuses acts of this operator.
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
        let fence = folder.fence.as_ref().map(FenceToken::control_plane_id);
        let owner_plane = folder.owner.as_ref().map(|owner| owner.control_plane_id.as_str());
        let foreign = fence.filter(|id| *id != ours).or_else(|| owner_plane.filter(|id| *id != ours));
        if let Some(control_plane_id) = foreign {
            return Some(Claim::Foreign { control_plane_id: control_plane_id.to_owned(), owner: folder.owner.clone() });
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
            return self.own_by_other_name(host, owner);
        }
        let process = folder.process.as_ref().filter(|process| process.uid == self.observed.uid);
        let there = process.map_or(0, |process| process.revision);
        let fences = folder.fence.as_ref().zip(self.observed.token.as_ref());
        let fenced = fences.is_some_and(|(theirs, ours)| theirs.is_later_than(ours));
        let is_on_record = |one: &HostAhead| one.host == host.name && one.revision == there;
        let is_new = there > self.known_revision && is_plausible(self.known_revision, there);
        // Our own numbers are higher once a new revision was given: that makes it none of ours.
        let ahead = is_new || ahead_on_record(self.observed).iter().any(is_on_record);
        match fenced || ahead {
            true => Claim::Ahead { revision: there, fenced },
            false => Claim::Ours { replaces: None },
        }
    }

    /// The owner file names this Deployment, and the host by another name.
    fn own_by_other_name(&self, host: &Host, owner: &Owner) -> Claim {
        if !self.names.contains(owner.host.as_str()) {
            return Claim::Ours { replaces: Some(owner.clone()) };
        }
        match machines(self.observed, &host.name, owner) {
            Machines::One => Claim::Others(format!("it is the same machine as host {} of this group", owner.host)),
            Machines::Two => Claim::Ours { replaces: Some(owner.clone()) },
            // Its own task goes on as it was begun. A further goal replaces no owner, so the host refuses it where both are one machine.
            Machines::Unknown if self.observed.host(&host.name).task.is_some() => Claim::Ours { replaces: None },
            Machines::Unknown => Claim::Undecided { other: owner.host.clone(), why: self.undecided(&owner.host) },
        }
    }

    /// What has to be known of host `other`, and when it is.
    fn undecided(&self, other: &str) -> String {
        let host = self.observed.host(other);
        let (state, until) = match &host.check {
            _ if host.task.is_some() => ("on which an act is under way".to_owned(), "that act is over"),
            FolderCheck::Failed(failure) => (
                format!("which does not answer ({})", failure.reason),
                "that one answers, or is taken out of the group",
            ),
            FolderCheck::Unknown | FolderCheck::Facts(_) => {
                ("which is not checked yet".to_owned(), "that one is checked")
            }
        };
        format!(
            "its owner file names host {other} of this group, {state}; until {until}, it is not known whether both are one machine"
        )
    }
}

/// What is known of a host and of the host of this group that its owner file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machines {
    /// One machine under two names.
    One,
    /// Each is a machine of its own.
    Two,
    Unknown,
}

/// Another machine has to be shown. A host that does not answer may be this one, and so may one on which a task acts: its last check is from
/// before the act that wrote the owner file.
pub(crate) fn machines(observed: &Observed, host: &str, owner: &Owner) -> Machines {
    let other = observed.host(&owner.host);
    match (observed.host(host).view(), other.view()) {
        (Some(here), Some(there)) if other.task.is_none() => match is_same_machine(here, there, owner) {
            true => Machines::One,
            false => Machines::Two,
        },
        _ => Machines::Unknown,
    }
}

/// Both show the same folder. Names that moved from machine to machine show each its own.
fn is_same_machine(here: &FolderView, there: &FolderView, owner: &Owner) -> bool {
    let process = |folder: &FolderFacts| folder.process.as_ref().map(ProcessFacts::id);
    let same_boot = !here.boot_id.is_empty() && here.boot_id == there.boot_id;
    let same_process = process(&here.folder).is_some_and(|here| process(&there.folder) == Some(here));
    there.folder.owner.as_ref() == Some(owner) && (same_boot || same_process)
}

/// Hosts that were set aside, as the status has them.
pub(crate) fn ahead_on_record(observed: &Observed) -> &[HostAhead] {
    let intent = observed.before().intent();
    intent.map_or(&[], |intent| &intent.ahead)
}

/// Highest revision in status and store.
pub(crate) fn known_revision(observed: &Observed) -> i64 {
    let records = observed.records.iter().map(|record| record.revision);
    records.chain(observed.before().revision).max().unwrap_or(0)
}

/// Whether hosts that another control plane, or a later state of this one, acted on prove that this one is not what it was: a third of the
/// hosts, two at least, or all that there are. Fewer are set aside: they are what they say, or wrong, and stop no other.
pub(crate) fn prove_a_backup(hosts: usize, of: usize) -> bool {
    hosts > 0 && hosts >= of.div_ceil(3).max(2).min(of)
}

/// Highest revision of this Deployment on any host that it may act on. `refused`: those that it may not.
pub(crate) fn highest_on_hosts(observed: &Observed, refused: &BTreeMap<&str, Failure>) -> i64 {
    highest_on(observed, |host| !refused.contains_key(host))
}

/// The next revision of this Deployment: above every one that a host may have seen, those that are set aside included, so that none stands
/// for two things.
pub(crate) fn next_revision(observed: &Observed) -> i64 {
    known_revision(observed).max(highest_on(observed, |_| true)).saturating_add(1)
}

fn highest_on(observed: &Observed, counts: impl Fn(&str) -> bool) -> i64 {
    let known = known_revision(observed);
    let hosts = observed.hosts.iter().filter(|(name, _)| counts(name));
    let processes = hosts.filter_map(|(_, host)| host.view()?.folder.process.as_ref());
    let ours = processes.filter(|process| process.uid == observed.uid).map(|process| process.revision);
    ours.filter(|revision| is_plausible(known, *revision)).max().unwrap_or(0)
}

/// No backup is that old: a host with a higher revision is wrong, and numbers taken from it would run out.
fn is_plausible(known: i64, revision: i64) -> bool {
    revision <= known.saturating_add(REVISION_GAP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_hosts_two_at_least_prove_a_backup() {
        let fewest = |of: usize| (0..=of).find(|hosts| prove_a_backup(*hosts, of));
        assert_eq!([1, 2, 3, 6, 7, 9, 10, 1000].map(fewest), [1, 2, 2, 2, 3, 3, 4, 334].map(Some));
        assert_eq!(fewest(0), None);
    }
}
