//! The task that hears of every change on a host and wakes who depends on it. It must not decide.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;

use super::registry::Hosts;

/// Until it is cancelled.
pub async fn forward_changes(hosts: Arc<Hosts>) {
    let changes = hosts.changes();
    loop {
        for (id, changed) in changes.next().await {
            let waking = async { hosts.take_over(&id, changed) };
            // What goes wrong with one host wakes nobody for it, and all others still.
            if AssertUnwindSafe(waking).catch_unwind().await.is_err() {
                tracing::error!(host = id.host, "a change on a host could not be passed on; this is a bug of landfall");
            }
        }
    }
}
