//! The one connection to a host: made when it is needed, shared by all who act or look there, made anew when it was lost or when the
//! group's configuration changed.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::memory::{HostKey, Memory};
use crate::{
    api::hostgroup::Become,
    effects::{
        gate::Gate,
        host::{Host, HostError},
        ssh::SshError,
    },
};

/// Where the connection of one host is kept. Only one task at a time dials.
#[derive(Default)]
pub struct Slot {
    link: Mutex<Option<Arc<Link>>>,
}

/// A connection in use. It counts against `maxConcurrentConnections` until the last who uses it lets it go.
pub struct Link {
    pub host: Host,
    /// Whom the SSH user may have to become there.
    pub r#become: Become,
    mark: u64,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Closes the connection, unless somebody else uses it.
    pub async fn close(&self) {
        self.link.lock().await.take();
    }
}

/// The connection to a host, made where there is none.
pub async fn link(memory: &Memory, gate: &Gate, key: &HostKey) -> Result<Arc<Link>, HostError> {
    let gone =
        || SshError::Unreachable { address: key.host.clone(), why: "it is in no watched HostGroup any more".into() };
    let dial = memory.dial(key).ok_or_else(gone)?;
    let mut kept = dial.slot.link.lock().await;
    if let Some(link) = kept.as_ref().filter(|link| link.mark == dial.config.mark && !link.host.is_closed()) {
        return Ok(link.clone());
    }
    *kept = None;
    let permit = dial.permits.clone().acquire_owned().await.map_err(|_| gone())?;
    let config = &dial.config;
    let target = config.target(&dial.address);
    let via = dial.way.open(config, &dial.address).await?;
    let host = Host::connect_via(gate, &key.host, via, &target, &config.credentials, &config.root).await?;
    let link = Arc::new(Link { host, r#become: config.r#become.clone(), mark: config.mark, _permit: permit });
    *kept = Some(link.clone());
    Ok(link)
}
