//! Deltas that were ordered, so that no host, whatever it says, orders more of a release than `plan::deployment::BASES_MOST`. In memory
//! alone: another process orders them again.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{effects::host::Base, model::ids::ReleaseName};

/// Releases whose ordered deltas are remembered.
const RELEASES_MAX: usize = 64;

/// Deltas that were ordered, of the releases that were staged last. One for all Deployments.
#[derive(Default)]
pub struct Orders {
    /// The newest last.
    releases: Mutex<Vec<(OrderKey, Arc<tokio::sync::Mutex<Ordered>>)>>,
}

/// Namespace, Project and digest of a release: bases are releases of its own Project.
pub(super) type OrderKey = (String, String, String);

/// Deltas of one release.
#[derive(Default)]
pub(super) struct Ordered {
    pub bases: Vec<Base>,
    /// Those of them that could not be made: hosts with such a base get the whole release.
    pub failed: Vec<ReleaseName>,
}

impl Orders {
    pub(super) fn of(&self, key: &OrderKey) -> Arc<tokio::sync::Mutex<Ordered>> {
        let mut releases = self.releases.lock();
        let known = releases.iter().position(|(of, _)| of == key).map(|at| releases.remove(at));
        let (key, order) = known.unwrap_or_else(|| (key.clone(), Arc::default()));
        releases.push((key, order.clone()));
        if releases.len() > RELEASES_MAX {
            releases.remove(0);
        }
        order
    }
}

impl Ordered {
    pub(super) fn names(&self) -> Vec<ReleaseName> {
        self.bases.iter().filter_map(|base| ReleaseName::parse(base.name.as_str())).collect()
    }

    /// The delta for a host with this base, unless it could not be made.
    pub(super) fn against(&self, name: &ReleaseName) -> Option<Base> {
        let base = self.bases.iter().find(|base| base.name.as_str() == name.as_str())?;
        (!self.failed.contains(name)).then(|| base.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_ordered_is_remembered_for_so_many_releases() {
        let orders = Orders::default();
        let key = |n: usize| ("shop".to_owned(), "web".to_owned(), n.to_string());
        let base =
            Base { name: landfall_host_protocol::ReleaseName::new("v1", &"1".repeat(64)), digest: "1".repeat(64) };
        orders.of(&key(0)).lock().await.bases.push(base.clone());
        for n in 1..RELEASES_MAX {
            orders.of(&key(n));
        }
        let name = ReleaseName::new("v1", &"1".repeat(64));
        assert_eq!(orders.of(&key(0)).lock().await.against(&name), Some(base));
        orders.of(&key(0)).lock().await.failed.push(name.clone());
        assert_eq!(orders.of(&key(0)).lock().await.against(&name), None, "it is not tried for every host again");
        for n in 1..=RELEASES_MAX {
            orders.of(&key(n));
        }
        assert!(orders.of(&key(0)).lock().await.bases.is_empty());
        assert_eq!(orders.releases.lock().len(), RELEASES_MAX);
    }
}
