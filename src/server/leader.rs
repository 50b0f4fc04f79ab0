//! Where the replica is that holds the lease. It must not ask it anything.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::{
    effects::fresh::Fresh,
    model::leading::{Leadership, OBJECT, Scope},
};

/// How long the address of the leader is taken for granted.
const ADDRESS_TTL: Duration = Duration::from_secs(1);

/// Where the leader was found last.
pub(crate) struct Leader {
    lease_namespace: String,
    found: Mutex<Option<Fresh<Option<String>>>>,
}

impl Leader {
    /// `lease_namespace`: of the object that says who leads.
    pub(super) fn new(lease_namespace: String) -> Self {
        Self { lease_namespace, found: Mutex::default() }
    }

    /// The address of the replica that leads the control plane; `None` where none does, or where it is this one or was before it was
    /// restarted.
    pub(super) async fn address(&self, client: &Client, advertised: &str) -> Option<String> {
        let known = self.found.lock().clone();
        if let Some(address) = known.and_then(|known| known.into_inner(ADDRESS_TTL)) {
            return address;
        }
        let lease = Api::<Lease>::namespaced(client.clone(), &self.lease_namespace).get_opt(OBJECT).await.ok()??;
        let leadership = Leadership::read(&lease.metadata.annotations.unwrap_or_default()).ok()?;
        let leads = leadership.terms.into_iter().find(|term| term.scope == Scope::ControlPlane);
        let address = leads.and_then(|term| term.view_address).filter(|address| address != advertised);
        *self.found.lock() = Some(Fresh::now(address.clone()));
        address
    }
}
