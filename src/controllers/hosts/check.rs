//! What is known of a host as a planner reads it, and what a planner would see otherwise. Pure.

use std::collections::BTreeSet;

use crate::{
    api::Reason,
    effects::host::HostError,
    fleet::{Changed, Known, Link, Waiting},
    model::{
        Failure,
        facts::{FolderFacts, HostFacts},
        ids::FolderName,
    },
    plan::hostgroup::HostCheck,
};

use super::failure::failure;

/// `host`: its name, for messages.
pub(super) fn check(host: &str, known: &Known) -> HostCheck {
    if let Link::Lost(why) = &known.link {
        let failed = failure(&HostError::from((**why).clone()));
        return failed.map_or(HostCheck::Unknown, HostCheck::Failed);
    }
    match (&known.host, known.waiting) {
        (Some(facts), _) => HostCheck::Facts(Box::new((**facts).clone())),
        // A slow host must not hold up the others: one of which nothing is known counts as unreachable for now.
        (None, Some(waiting)) => HostCheck::Failed(Failure::waiting(Reason::Unreachable, says(host, waiting))),
        (None, None) => HostCheck::Unknown,
    }
}

fn says(host: &str, waiting: Waiting) -> String {
    match waiting {
        Waiting::Connection(short) => format!("no connection to {host} is free yet: {short}; still waiting"),
        Waiting::Answer => format!("no answer from {host} yet; still waiting"),
    }
}

/// What a planner would see otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Differs {
    /// The host itself, or all that is known of it.
    Host,
    /// These folders alone; none: nothing.
    Folders(BTreeSet<FolderName>),
}

impl Differs {
    /// Of several changes at once.
    pub fn of(changed: Changed) -> Self {
        match changed {
            Changed::Host => Self::Host,
            Changed::Folders(folders) => {
                // What planners can't name they do not read.
                Self::Folders(folders.iter().filter_map(|name| FolderName::parse(name.as_str())).collect())
            }
        }
    }
}

/// Which Deployments may decide otherwise.
pub(super) fn differs(old: &HostCheck, new: &HostCheck) -> Differs {
    match (old, new) {
        (HostCheck::Facts(old), HostCheck::Facts(new)) => facts_differ(settled(old), settled(new)),
        (HostCheck::Failed(old), HostCheck::Failed(new)) if old == new => Differs::Folders([].into()),
        (HostCheck::Unknown, HostCheck::Unknown) => Differs::Folders([].into()),
        _ => Differs::Host,
    }
}

/// What of it a group's status shows: whether the host answers, and which process runs there; not how far an act has come.
pub(super) fn differs_for_group(old: &HostCheck, new: &HostCheck) -> Differs {
    differs(&of_group(old), &of_group(new))
}

fn of_group(check: &HostCheck) -> HostCheck {
    let HostCheck::Facts(facts) = check else { return check.clone() };
    let mut facts = facts.clone();
    for folder in facts.folders.values_mut() {
        *folder = FolderFacts { process: folder.process.take(), ..FolderFacts::default() };
    }
    HostCheck::Facts(facts)
}

fn facts_differ(mut old: HostFacts, mut new: HostFacts) -> Differs {
    let (before, now) = (std::mem::take(&mut old.folders), std::mem::take(&mut new.folders));
    if old != new {
        return Differs::Host;
    }
    let all = before.keys().chain(now.keys());
    Differs::Folders(all.filter(|name| before.get(name) != now.get(name)).cloned().collect())
}

/// Facts without what always moves and means nothing to a planner: free space, time, and the words of a failing probe.
fn settled(facts: &HostFacts) -> HostFacts {
    let mut facts = HostFacts { free_bytes: 0, free_inodes: None, uptime: 0, ..facts.clone() };
    let processes = facts.folders.values_mut().filter_map(|folder| folder.process.as_mut());
    for words in processes.filter_map(|process| process.unready.as_mut()) {
        words.clear();
    }
    facts
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        effects::{gate::GateShut, program::ProgramError},
        fleet::Short,
        model::Class,
    };

    fn folder(project: &str) -> FolderName {
        FolderName::new("shop", project)
    }

    fn facts(web: u64) -> HostFacts {
        let known = |journal| FolderFacts { journal, ..FolderFacts::default() };
        let folders = [(folder("web"), known(web)), (folder("db"), known(1))];
        HostFacts {
            boot_id: "b".to_owned(),
            uptime: 1,
            unfit: None,
            free_bytes: 1,
            free_inodes: None,
            server: "OpenSSH".to_owned(),
            session_scoped: false,
            cannot_become: BTreeMap::new(),
            sudo_too_wide: false,
            folders: folders.into(),
        }
    }

    #[test]
    fn what_changed_on_a_host_names_the_folders_that_are_concerned() {
        let known = |facts: HostFacts| HostCheck::Facts(Box::new(facts));
        let lost = |message: &str| HostCheck::Failed(Failure::waiting(Reason::Unreachable, message));
        let web = Differs::Folders([folder("web")].into());
        let nothing = Differs::Folders([].into());
        assert_eq!(differs(&known(facts(1)), &known(facts(2))), web);
        let moved = HostFacts { free_bytes: 7, uptime: 7, ..facts(1) };
        assert_eq!(differs(&known(facts(1)), &known(moved)), nothing);
        let rebooted = HostFacts { boot_id: "c".to_owned(), ..facts(1) };
        assert_eq!(differs(&known(facts(1)), &known(rebooted)), Differs::Host);
        assert_eq!(differs(&known(facts(1)), &lost("no answer")), Differs::Host);
        assert_eq!(differs(&lost("no answer"), &lost("no answer")), nothing);
        assert_eq!(differs(&lost("no answer"), &lost("refused")), Differs::Host, "what is told of it");
        let for_good = HostCheck::Failed(Failure::terminal(Reason::Unreachable, "no answer"));
        assert_eq!(differs(&lost("no answer"), &for_good), Differs::Host, "and whether it may pass");
        assert_eq!(differs_for_group(&known(facts(1)), &known(facts(2))), nothing, "how far an act has come");
        assert_eq!(differs_for_group(&known(facts(1)), &HostCheck::Unknown), Differs::Host);
    }

    fn known(link: Link, host: Option<HostFacts>, waiting: Option<Waiting>) -> Known {
        let mut known = Known::default();
        (known.link, known.host, known.waiting) = (link, host.map(Arc::new), waiting);
        known
    }

    #[test]
    fn a_lost_host_is_known_until_it_was_dialled_in_vain() {
        let of = |link: Link, host: Option<HostFacts>| check("web-01", &known(link, host, None));
        assert_eq!(of(Link::New, None), HostCheck::Unknown);
        for link in [Link::Connected, Link::Idle, Link::Again] {
            assert_eq!(of(link, Some(facts(1))), HostCheck::Facts(Box::new(facts(1))));
        }
        let lost = |why: ProgramError| of(Link::Lost(Arc::new(why)), Some(facts(1)));
        let HostCheck::Failed(failure) = lost(ProgramError::Ended("cut".to_owned())) else { panic!("it is lost") };
        assert_eq!(failure.reason, Reason::Unreachable);
        assert_eq!(lost(ProgramError::Gate(GateShut)), HostCheck::Unknown, "that we may not act is no fault of it");
    }

    #[test]
    fn a_host_that_waits_is_told_with_what_it_waits_for_and_counts_as_no_failure() {
        let of = |waiting| check("web-01", &known(Link::New, None, Some(waiting)));
        let said = |waiting| match of(waiting) {
            HostCheck::Failed(failure) => {
                assert_eq!((failure.reason, failure.class), (Reason::Unreachable, Class::Waiting));
                failure.message
            }
            other => panic!("{other:?}"),
        };
        assert!(said(Waiting::Connection(Short::Group { most: 1, hosts: 2 })).contains("maxConcurrentConnections"));
        let of_all = said(Waiting::Connection(Short::All { most: 9 }));
        assert!(of_all.contains("all groups together have 9") && !of_all.contains("maxConcurrent"), "{of_all}");
        assert!(said(Waiting::Answer).contains("no answer from web-01"));
    }
}
