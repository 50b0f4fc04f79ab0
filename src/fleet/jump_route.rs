//! Routes through jump hosts: one connection for all hosts of a group behind them, made when it is needed and again after it was lost.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Instant,
};

use crate::effects::{
    clock,
    ssh::{Connection, Credentials, SshError, SshTarget},
};

/// One group's route. Only one at a time dials. It ends with the group: with the last of its hosts' accesses.
#[derive(Default)]
pub struct JumpRoute {
    /// It stays open while no host behind it is connected.
    stays: bool,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Hash of how the group was reached then.
    hash: u64,
    /// The hosts behind it keep it open.
    open: Weak<Connection>,
    kept: Option<Arc<Connection>>,
    /// The last dial that failed. Whoever waited for it shares its error: a thousand hosts don't dial one bastion a thousand times.
    failed: Option<(Instant, SshError)>,
}

impl JumpRoute {
    pub fn that_stays() -> Self {
        Self { stays: true, ..Self::default() }
    }

    /// The connection to the last jump host; `None` where there is none. `host`: the one behind it, for messages.
    pub(super) async fn open(
        &self,
        hash: u64,
        jumps: &[SshTarget],
        credentials: &Credentials,
        host: &str,
    ) -> Result<Option<Arc<Connection>>, SshError> {
        let asked = clock::monotonic();
        let mut state = self.state.lock().await;
        if jumps.is_empty() {
            state.kept = None;
            return Ok(None);
        }
        let is_current = |open: &Arc<Connection>| !open.is_closed();
        if state.hash == hash
            && let Some(open) = state.open.upgrade().filter(is_current)
        {
            return Ok(Some(open));
        }
        state.kept = None;
        if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| state.hash == hash && *at >= asked) {
            return Err(for_host(error.clone(), host));
        }
        state.hash = hash;
        match Connection::open_chain(jumps, host, credentials).await {
            Ok(open) => {
                state.open = open.as_ref().map(Arc::downgrade).unwrap_or_default();
                state.kept = open.clone().filter(|_| self.stays);
                Ok(open)
            }
            Err(error) => {
                state.failed = Some((clock::monotonic(), error.clone()));
                Err(error)
            }
        }
    }
}

impl fmt::Debug for JumpRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JumpRoute").field("stays", &self.stays).finish_non_exhaustive()
    }
}

/// The same error, for another host behind this route.
fn for_host(error: SshError, host: &str) -> SshError {
    match error {
        SshError::Jump { hop, cause, .. } => SshError::Jump { hop, address: host.to_owned(), cause },
        other => other,
    }
}
