//! The connection to a host as far as it is open now, for reads of people. It must not make one, nor keep one from being closed.

use std::time::Duration;

use super::{config::HostKey, fleet::Fleet};
use crate::effects::host::Host;

/// How long a check or a dial that has the connection is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no connection to read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLink {
    #[error("its HostGroup is not watched yet")]
    Unwatched,
    #[error("it is being dialled")]
    Dialled,
    #[error("the connection is lost, and made again with the next check")]
    Lost,
    #[error(
        "its HostGroup keeps no connection between checks, for it may have fewer (ssh.maxConcurrentConnections) than it has hosts; raise \
         that, or read the log on the host with landfall-host logs"
    )]
    NotKept,
}

/// The host, where a connection to it is open. Whoever has it lets go of it at once: a connection counts until nobody uses it.
pub async fn open_link(fleet: &Fleet, key: &HostKey) -> Result<Host, NoLink> {
    let dial = fleet.hosts.dial(key).ok_or(NoLink::Unwatched)?;
    let slot = tokio::time::timeout(PATIENCE, dial.slot.open()).await.map_err(|_| NoLink::Dialled)?;
    match slot.as_ref().filter(|link| !link.host.is_closed()) {
        Some(link) => Ok(link.host.clone()),
        None if dial.connections.keeps() => Err(NoLink::Lost),
        None => Err(NoLink::NotKept),
    }
}
