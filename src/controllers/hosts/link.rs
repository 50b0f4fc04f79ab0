//! The one connection to a host: made when it is needed, shared by all who act or check there, and made again after it was lost or the
//! group's configuration changed.

use std::sync::{Arc, atomic::AtomicBool};

use super::{check::bounded, config::HostKey, fleet::Fleet, slot::Link};
use crate::effects::{
    host::{Host, HostError},
    ssh::{OpenOptions, SshError},
};

/// The connection to a host, made where there is none.
pub async fn link(fleet: &Fleet, key: &HostKey) -> Result<Arc<Link>, HostError> {
    let not_in_group =
        || SshError::Unreachable { address: key.host.clone(), why: "it is not in a watched HostGroup".into() };
    let dial = fleet.hosts.dial(key).ok_or_else(not_in_group)?;
    let config = &dial.config;
    let mut slot = dial.slot.open().await;
    let is_current = |link: &&Arc<Link>| {
        link.access_hash == config.access_hash && link.address == dial.address && !link.host.is_closed()
    };
    if let Some(link) = slot.as_ref().filter(is_current) {
        return Ok(link.clone());
    }
    *slot = None;
    let permit = Arc::new(dial.connections.acquire(dial.doubtful).await);
    let kept = Arc::downgrade(&permit);
    let target = config.target(&dial.address);
    let via = dial.route.open(config, &dial.address).await?;
    let options = OpenOptions { via, permit: Some(Box::new(permit)) };
    let (credentials, run_users) = (&config.credentials, &config.r#become);
    let connecting = Host::connect_with(&fleet.gate, &key.host, options, &target, credentials, &config.root, run_users);
    let host = bounded(fleet, key, config.sign_in_limit(), "signing in", connecting).await?;
    let link = Arc::new(Link {
        host,
        r#become: config.r#become.clone(),
        address: dial.address.clone(),
        access_hash: config.access_hash,
        permit: kept,
        verified: AtomicBool::new(false),
    });
    *slot = Some(link.clone());
    Ok(link)
}
