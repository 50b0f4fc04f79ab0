//! The ledger of `minAvailable`: which hosts of each group are in an update, by whom they were granted, over all projects. One for a process;
//! every update of a host is granted here before its intent is on record. A group's page counts once it was seeded from what is on record of
//! every Deployment, and with every new term of the lease it begins again: somebody else may have acted meanwhile. It must not decide how
//! many hosts may be away, and grants nothing that the decision did not count.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use crate::{
    model::ids::FenceToken,
    plan::min_available::{Grant, Granted, Grants, HostsInUpdate},
};

/// Namespace and name of a group.
pub type GroupName = (String, String);

/// All groups.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<GroupName, Page>>);

/// One group in one term of the lease.
struct Page {
    term: FenceToken,
    seeded: bool,
    /// Number of Deployments that went: a list that was begun before may still have one of them.
    gone: u64,
    grants: Grants,
    /// Deployments that are to decide again when a host is freed, by uid, with their names.
    waiting: BTreeMap<String, String>,
}

impl Page {
    fn new(term: &FenceToken) -> Self {
        let (grants, waiting) = (Grants::default(), BTreeMap::new());
        Self { term: term.clone(), seeded: false, gone: 0, grants, waiting }
    }

    /// All that wait but this one.
    fn others_waiting(&self, uid: &str) -> Vec<String> {
        self.waiting.iter().filter(|(of, _)| *of != uid).map(|(_, name)| name.clone()).collect()
    }
}

/// What one Deployment asks for.
pub struct Request<'a> {
    pub uid: &'a str,
    /// All of its hosts that are in an update from now on.
    pub grant: Grant,
    /// The hosts of others that its decision counted; `None`: the group has no `minAvailable`.
    pub counted: Option<&'a HostsInUpdate>,
    /// It is to decide again when a host is freed.
    pub waits: bool,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Others were granted hosts since: to be decided again.
    Refused,
    /// These Deployments may decide otherwise now.
    Granted { wake: Vec<String> },
}

impl Ledger {
    /// `None`: a later term has begun.
    fn with<T>(&self, group: &GroupName, term: &FenceToken, work: impl FnOnce(&mut Page) -> T) -> Option<T> {
        let mut pages = self.0.lock();
        let page = pages.entry(group.clone()).or_insert_with(|| Page::new(term));
        if page.term != *term {
            if page.term.is_later_than(term) {
                return None;
            }
            *page = Page::new(term);
        }
        Some(work(page))
    }

    /// What the others have in an update; `None` while the page is not seeded. From now on the asker is woken when one is freed.
    pub fn others(&self, group: &GroupName, term: &FenceToken, uid: &str, deployment: &str) -> Option<HostsInUpdate> {
        let others = self.with(group, term, |page| {
            page.waiting.insert(uid.to_owned(), deployment.to_owned());
            page.seeded.then(|| page.grants.others(uid))
        });
        others.flatten()
    }

    /// To be asked before a list that the page is seeded from.
    pub fn begin_seed(&self, group: &GroupName, term: &FenceToken) -> Option<u64> {
        self.with(group, term, |page| page.gone)
    }

    /// Seeds a page from what is on record of every Deployment of the group, by uid. False: one went since the list was begun, which may
    /// have it still.
    pub fn seed(&self, group: &GroupName, term: &FenceToken, begun: u64, recorded: Vec<(String, Grant)>) -> bool {
        let seeded = self.with(group, term, |page| {
            if page.gone != begun {
                return false;
            }
            for (uid, grant) in recorded {
                page.grants.seed(&uid, grant);
            }
            page.seeded = true;
            true
        });
        seeded.unwrap_or_default()
    }

    /// Grants a Deployment's updates, all or none.
    pub fn request(&self, group: &GroupName, term: &FenceToken, request: Request<'_>) -> Answer {
        let Request { uid, grant, counted, waits } = request;
        let answer = self.with(group, term, |page| {
            if counted.is_some() && !page.seeded {
                return Answer::Refused;
            }
            let deployment = grant.deployment.clone();
            match page.grants.request(uid, grant, counted) {
                Granted::Refused => Answer::Refused,
                Granted::Yes { freed } => {
                    match waits {
                        true => _ = page.waiting.insert(uid.to_owned(), deployment),
                        false => _ = page.waiting.remove(uid),
                    }
                    Answer::Granted { wake: if freed { page.others_waiting(uid) } else { Vec::new() } }
                }
            }
        });
        answer.unwrap_or(Answer::Refused)
    }

    /// The Deployment is gone. Answers who may decide otherwise now.
    pub fn forget(&self, group: &GroupName, uid: &str) -> Vec<String> {
        let mut pages = self.0.lock();
        let Some(page) = pages.get_mut(group) else { return Vec::new() };
        page.gone += 1;
        page.waiting.remove(uid);
        if page.grants.forget(uid) { page.others_waiting(uid) } else { Vec::new() }
    }

    /// The group is gone.
    pub fn forget_group(&self, group: &GroupName) {
        self.0.lock().remove(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(transitions: i64) -> FenceToken {
        FenceToken { epoch: "plane".to_owned(), created: 1, transitions }
    }

    fn group() -> GroupName {
        ("shop".to_owned(), "prod".to_owned())
    }

    fn grant(deployment: &str, hosts: &[&str]) -> Grant {
        Grant { deployment: deployment.to_owned(), hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
    }

    fn ask(ledger: &Ledger, uid: &str, hosts: &[&str], counted: &HostsInUpdate) -> Answer {
        let request = Request { uid, grant: grant(uid, hosts), counted: Some(counted), waits: hosts.is_empty() };
        ledger.request(&group(), &term(1), request)
    }

    fn woken(names: &[&str]) -> Answer {
        Answer::Granted { wake: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn two_that_decide_at_once_are_granted_one_after_the_other() {
        let ledger = Ledger::default();
        assert!(ledger.seed(&group(), &term(1), 0, vec![]));
        let others = |uid: &str| ledger.others(&group(), &term(1), uid, uid).unwrap();
        let (of_a, of_b) = (others("a"), others("b"));
        assert_eq!(ask(&ledger, "a", &["web-01"], &of_a), woken(&[]));
        assert_eq!(ask(&ledger, "b", &["web-02"], &of_b), Answer::Refused);
        assert_eq!(ask(&ledger, "b", &[], &others("b")), woken(&[]), "it waits");
        assert_eq!(ask(&ledger, "a", &[], &others("a")), woken(&["b"]), "and is woken when the other is done");
        assert_eq!(ask(&ledger, "b", &["web-02"], &others("b")), woken(&[]));
    }

    #[test]
    fn who_reads_while_a_host_is_freed_is_woken_as_well() {
        let ledger = Ledger::default();
        ledger.seed(&group(), &term(1), 0, vec![("a".to_owned(), grant("a", &["web-01"]))]);
        let of_b = ledger.others(&group(), &term(1), "b", "b").unwrap();
        assert!(of_b.contains_key("web-01"));
        assert_eq!(ask(&ledger, "a", &[], &HostsInUpdate::new()), woken(&["b"]));
    }

    #[test]
    fn nothing_is_granted_before_the_page_is_seeded_and_each_term_seeds_its_own() {
        let (ledger, none) = (Ledger::default(), HostsInUpdate::new());
        assert_eq!(ledger.others(&group(), &term(1), "a", "a"), None);
        assert_eq!(ask(&ledger, "a", &["web-01"], &none), Answer::Refused);
        let begun = ledger.begin_seed(&group(), &term(1)).unwrap();
        ledger.forget(&group(), "b");
        let recorded = || vec![("b".to_owned(), grant("b", &["web-02"]))];
        assert!(!ledger.seed(&group(), &term(1), begun, recorded()), "b went since");
        let begun = ledger.begin_seed(&group(), &term(1)).unwrap();
        assert!(ledger.seed(&group(), &term(1), begun, vec![]));
        assert_eq!(ask(&ledger, "a", &["web-01"], &none), woken(&[]));
        assert_eq!(ledger.others(&group(), &term(2), "a", "a"), None, "another operator may have led between");
        assert_eq!(ask(&ledger, "a", &["web-02"], &none), Answer::Refused, "of a term that is over");
    }
}
