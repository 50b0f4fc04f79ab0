//! The way through jump hosts: one connection for all hosts of a group behind them, made when it is needed and made again when it was lost.

use std::{sync::Arc, time::Instant};

use tokio::sync::Mutex;

use super::registry::GroupConfig;
use crate::effects::{
    clock,
    ssh::{Connection, SshError},
};

/// Where that connection is kept. Only one task at a time dials.
#[derive(Default)]
pub(crate) struct JumpRoute {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<(u64, Arc<Connection>)>,
    /// Who waited for a try that failed shares its answer: a thousand hosts don't try one bastion a thousand times.
    failed: Option<(Instant, SshError)>,
}

impl JumpRoute {
    /// The connection to the last jump host; `None` where the group has none. `host`: who is behind it, for messages.
    pub async fn open(&self, config: &GroupConfig, host: &str) -> Result<Option<Arc<Connection>>, SshError> {
        if config.jumps.is_empty() {
            return Ok(None);
        }
        let asked = clock::monotonic();
        let mut state = self.state.lock().await;
        if let Some((_, open)) = state.open.as_ref().filter(|(mark, open)| *mark == config.mark && !open.is_closed()) {
            return Ok(Some(open.clone()));
        }
        state.open = None;
        if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(for_host(error.clone(), host));
        }
        match Connection::open_chain(&config.jumps, host, &config.credentials).await {
            Ok(Some(open)) => {
                state.open = Some((config.mark, open.clone()));
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

/// The same answer, said to another host behind the way.
fn for_host(error: SshError, host: &str) -> SshError {
    match error {
        SshError::Jump { hop, cause, .. } => SshError::Jump { hop, address: host.to_owned(), cause },
        other => other,
    }
}
