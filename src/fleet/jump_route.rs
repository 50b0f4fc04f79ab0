//! Routes through jump hosts: one connection for all hosts of a group behind them, made when it is needed and again after it was lost.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Instant,
};

use parking_lot::Mutex;

use super::access::{HostAccess, HostId};
use crate::effects::{
    clock,
    ssh::{Connection, SshError},
};

/// Group, and hash of how it is reached.
type RouteKey = (String, String, u64);

#[derive(Default)]
pub(super) struct JumpRoutes {
    routes: Mutex<HashMap<RouteKey, Arc<Route>>>,
}

/// Only one worker at a time dials.
#[derive(Default)]
struct Route {
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The hosts behind it keep it open.
    open: Weak<Connection>,
    /// The last dial that failed. Whoever waited for it shares its error: a thousand hosts don't dial one bastion a thousand times.
    failed: Option<(Instant, SshError)>,
}

impl JumpRoutes {
    /// The connection to the last jump host; `None` where there is none.
    pub async fn open(&self, host: &HostId, access: &HostAccess) -> Result<Option<Arc<Connection>>, SshError> {
        if access.jumps.is_empty() {
            return Ok(None);
        }
        let asked = clock::monotonic();
        let key = (host.namespace.clone(), host.group_uid.clone(), access.hash);
        let route = {
            let mut routes = self.routes.lock();
            // Those of a group as it was before.
            routes.retain(|other, route| *other == key || Arc::strong_count(route) > 1 || !route.is_closed());
            routes.entry(key).or_default().clone()
        };
        let mut state = route.state.lock().await;
        if let Some(open) = state.open.upgrade().filter(|open| !open.is_closed()) {
            return Ok(Some(open));
        }
        if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(for_host(error.clone(), &access.target.address));
        }
        match Connection::open_chain(&access.jumps, &access.target.address, &access.credentials).await {
            Ok(open) => {
                state.open = open.as_ref().map(Arc::downgrade).unwrap_or_default();
                Ok(open)
            }
            Err(error) => {
                state.failed = Some((clock::monotonic(), error.clone()));
                Err(error)
            }
        }
    }
}

impl Route {
    fn is_closed(&self) -> bool {
        self.state.try_lock().is_ok_and(|state| state.open.strong_count() == 0)
    }
}

/// The same error, for another host behind this route.
fn for_host(error: SshError, host: &str) -> SshError {
    match error {
        SshError::Jump { hop, cause, .. } => SshError::Jump { hop, address: host.to_owned(), cause },
        other => other,
    }
}
