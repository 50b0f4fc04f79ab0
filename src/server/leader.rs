//! Where the replica is that holds the lease. It must not ask it anything.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::{api::view::VIEW_ADDRESS, effects::fresh::Fresh};

const LEASE: &str = "landfall";
/// How long the address of the leader is taken for granted.
const ADDRESS_TTL: Duration = Duration::from_secs(1);

/// Where the leader was found last.
#[derive(Default)]
pub(crate) struct Leader(Mutex<Option<Fresh<Option<String>>>>);

impl Leader {
    /// The address of the replica that holds the lease; `None` where none does, or where it is this one or was before it was restarted.
    pub(super) async fn address(&self, client: &Client, namespace: &str, advertised: &str) -> Option<String> {
        let known = self.0.lock().clone();
        if let Some(address) = known.and_then(|known| known.into_inner(ADDRESS_TTL)) {
            return address;
        }
        let lease = Api::<Lease>::namespaced(client.clone(), namespace).get_opt(LEASE).await.ok()??;
        let held = lease.spec.and_then(|spec| spec.holder_identity).is_some_and(|holder| !holder.is_empty());
        let address = lease.metadata.annotations.and_then(|mut all| all.remove(VIEW_ADDRESS));
        let address = address.filter(|address| held && address != advertised);
        *self.0.lock() = Some(Fresh::now(address.clone()));
        address
    }
}
