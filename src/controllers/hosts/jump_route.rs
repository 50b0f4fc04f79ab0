//! The route through jump hosts: one connection for all hosts of a group behind them, made when it is needed and again after it was lost.

use std::{sync::Arc, time::Instant};

use tokio::sync::Mutex;

use super::config::GroupConfig;
use crate::effects::{
    clock,
    ssh::{Connection, SshError},
};

/// That connection, if there is one. Only one task at a time dials.
#[derive(Default)]
pub(crate) struct JumpRoute {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<(u64, Arc<Connection>)>,
    /// The last dial that failed. Whoever waited for it shares its error: a thousand hosts don't dial one bastion a thousand times.
    failed: Option<(Instant, SshError)>,
}

impl JumpRoute {
    /// The connection to the last jump host; `None` where the group has none. `host`: the one behind it, for messages.
    pub async fn open(&self, config: &GroupConfig, host: &str) -> Result<Option<Arc<Connection>>, SshError> {
        if config.jumps.is_empty() {
            return Ok(None);
        }
        let asked = clock::monotonic();
        let mut state = self.state.lock().await;
        if let Some((_, open)) =
            state.open.as_ref().filter(|(hash, open)| *hash == config.config_hash && !open.is_closed())
        {
            return Ok(Some(open.clone()));
        }
        state.open = None;
        if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(for_host(error.clone(), host));
        }
        match Connection::open_chain(&config.jumps, host, &config.credentials).await {
            Ok(Some(open)) => {
                state.open = Some((config.config_hash, open.clone()));
                Ok(Some(open))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                state.failed = Some((clock::monotonic(), error.clone()));
                Err(error)
            }
        }
    }
}

/// The same error, for another host behind this route.
fn for_host(error: SshError, host: &str) -> SshError {
    match error {
        SshError::Jump { hop, cause, .. } => SshError::Jump { hop, address: host.to_owned(), cause },
        other => other,
    }
}
