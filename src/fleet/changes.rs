//! Which hosts changed since somebody asked last. A host that changes often is one entry.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::access::HostId;

/// Cheap to clone; all clones are one. One reader.
#[derive(Clone, Default)]
pub struct Changes {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    hosts: Mutex<BTreeSet<HostId>>,
    some: Notify,
}

impl Changes {
    pub(super) fn add(&self, host: &HostId) {
        self.inner.hosts.lock().insert(host.clone());
        self.inner.some.notify_one();
    }

    /// The hosts that changed; waits until there are some.
    pub async fn next(&self) -> BTreeSet<HostId> {
        loop {
            let some = self.inner.some.notified();
            let hosts = std::mem::take(&mut *self.inner.hosts.lock());
            if !hosts.is_empty() {
                return hosts;
            }
            some.await;
        }
    }
}
