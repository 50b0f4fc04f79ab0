//! The hosts of one group that are in an update, by Deployment, as they were granted.

use std::collections::{BTreeMap, BTreeSet};

/// The Deployments that have a host in an update, by host.
pub type HostsInUpdate = BTreeMap<String, BTreeSet<String>>;

/// Hosts that one Deployment has in an update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Name of the Deployment.
    pub deployment: String,
    pub hosts: BTreeSet<String>,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// Another Deployment was granted a host that the decision did not count: it is to be taken again.
    Refused,
    /// `freed`: a host is in no update of this Deployment any more.
    Yes { freed: bool },
}

/// By uid of the Deployment.
#[derive(Debug, Default)]
pub struct Grants(BTreeMap<String, Grant>);

impl Grants {
    /// Takes over what is on record of a Deployment, unless a request of its own has told it since.
    pub fn seed(&mut self, uid: &str, recorded: Grant) {
        self.0.entry(uid.to_owned()).or_insert(recorded);
    }

    /// What all others have in an update.
    pub fn others(&self, uid: &str) -> HostsInUpdate {
        let mut others = HostsInUpdate::new();
        for (_, grant) in self.0.iter().filter(|(of, _)| *of != uid) {
            for host in &grant.hosts {
                others.entry(host.clone()).or_default().insert(grant.deployment.clone());
            }
        }
        others
    }

    /// Replaces what a Deployment has in an update. A further host is granted only where no other Deployment has one that is not in `counted`,
    /// the hosts that the decision counted as unavailable or in an update of others; `None`: no `minAvailable`, so nothing is refused.
    pub fn request(&mut self, uid: &str, grant: Grant, counted: Option<&HostsInUpdate>) -> Granted {
        let before = self.0.get(uid).map(|before| before.hosts.clone()).unwrap_or_default();
        let asks_more = !grant.hosts.is_subset(&before);
        let is_counted = |host: &String| counted.is_none_or(|counted| counted.contains_key(host));
        if asks_more && !self.others(uid).keys().all(is_counted) {
            return Granted::Refused;
        }
        let freed = !before.is_subset(&grant.hosts);
        self.0.insert(uid.to_owned(), grant);
        Granted::Yes { freed }
    }

    /// The Deployment is gone. Answers whether it had a host in an update.
    pub fn forget(&mut self, uid: &str) -> bool {
        self.0.remove(uid).is_some_and(|grant| !grant.hosts.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(deployment: &str, hosts: &[&str]) -> Grant {
        Grant { deployment: deployment.to_owned(), hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
    }

    const KEPT: Granted = Granted::Yes { freed: false };

    #[test]
    fn who_decided_without_counting_a_granted_host_decides_again() {
        let mut grants = Grants::default();
        let (of_a, of_b) = (grants.others("a"), grants.others("b"));
        assert_eq!(grants.request("a", grant("shop", &["web-01"]), Some(&of_a)), KEPT);
        assert_eq!(grants.request("b", grant("orders", &["web-02"]), Some(&of_b)), Granted::Refused);
        let of_b = grants.others("b");
        assert_eq!(of_b["web-01"], ["shop".to_owned()].into());
        assert_eq!(grants.request("b", grant("orders", &["web-02"]), Some(&of_b)), KEPT);
        // A request without a further host is never refused: it says what the Deployment has already.
        assert_eq!(grants.request("a", grant("shop", &["web-01"]), Some(&of_a)), KEPT);
        assert_eq!(grants.request("a", grant("shop", &[]), Some(&of_a)), Granted::Yes { freed: true });
        assert_eq!(
            grants.request("b", grant("orders", &["web-02", "web-03"]), Some(&of_b)),
            KEPT,
            "fewer than counted"
        );
        assert!(grants.forget("b") && !grants.forget("a"));
    }

    #[test]
    fn what_is_on_record_counts_until_the_deployment_itself_tells() {
        let mut grants = Grants::default();
        grants.request("a", grant("shop", &[]), None);
        grants.seed("a", grant("shop", &["web-01"]));
        grants.seed("b", grant("orders", &["web-02"]));
        assert_eq!(grants.others("c").into_keys().collect::<Vec<_>>(), ["web-02"]);
        assert_eq!(grants.request("b", grant("orders", &["web-02"]), Some(&HostsInUpdate::new())), KEPT);
    }
}
