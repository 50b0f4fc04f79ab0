//! Where the connection of one host is kept. It must not know how one is made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::{Mutex, MutexGuard};

use crate::{api::hostgroup::Become, effects::host::Host, fleet::Health};

/// The connection of one host, if there is one. Only one task at a time dials: the one that has it open.
#[derive(Default)]
pub(crate) struct ConnectionSlot {
    link: Mutex<Option<Arc<Link>>>,
}

impl ConnectionSlot {
    pub(super) async fn open(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.link.lock().await
    }

    /// Closes the connection, unless another task uses it.
    pub async fn close(&self) {
        self.link.lock().await.take();
    }
}

/// A connection in use. It counts against `maxConcurrentConnections` until its socket is closed, after the last user dropped it.
pub struct Link {
    pub host: Host,
    /// The users that the SSH user may have to become there.
    pub r#become: Become,
    /// The address that was dialled, and the group's access hash at that time.
    pub(super) address: String,
    pub(super) access_hash: u64,
    pub(super) health: Health,
    pub(super) began: Instant,
    pub(super) verified: AtomicBool,
}

impl Link {
    /// The host returned its facts over this connection.
    pub fn mark_healthy(&self) {
        self.verified.store(true, Ordering::Relaxed);
        self.health.mark_healthy();
    }

    /// Whether the host told its facts over this connection.
    pub(crate) fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Relaxed)
    }
}
