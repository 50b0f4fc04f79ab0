//! The one connection to a host: made when it is needed, shared by all who act or check there, and made again after it was lost or the
//! group's configuration changed.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{check::bounded, config::HostKey, fleet::Fleet, registry::Registry, slot::Link};
use crate::effects::{
    host::{Host, HostError, HostOptions},
    program::Pushes,
    ssh::{Connection, OpenOptions, SshError},
};

/// The longest time until the program runs, which may have to be brought over a slow line first. It has shorter limits of its own for
/// what stands still.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(600);

/// The connection to a host, made where there is none.
pub async fn link(fleet: &Fleet, key: &HostKey) -> Result<Arc<Link>, HostError> {
    let not_in_group =
        || SshError::Unreachable { address: key.host.clone(), why: "it is not in a watched HostGroup".into() };
    let dial = fleet.hosts.dial(key).ok_or_else(not_in_group)?;
    let config = &dial.config;
    let mut slot = dial.slot.open().await;
    let is_current = |link: &&Arc<Link>| {
        link.access_hash == config.access_hash
            && link.address == dial.address
            && link.r#become == config.r#become
            && !link.host.is_closed()
    };
    if let Some(link) = slot.as_ref().filter(is_current) {
        return Ok(link.clone());
    }
    *slot = None;
    let permit = fleet.budgets.connect(&dial.connections, dial.doubtful).await;
    let health = permit.health();
    let target = config.target(&dial.address);
    let via = dial.route.open(config, &dial.address).await?;
    let options = OpenOptions { via, permit: Some(Box::new(permit)) };
    let connecting = async { Ok(Connection::open_with(options, &target, &config.credentials).await?) };
    let connection = bounded(fleet, key, config.sign_in_limit(), "signing in", connecting).await?;
    let options =
        HostOptions { name: &key.host, namespace: &key.namespace, root: &config.root, r#become: &config.r#become };
    let beginning = Host::connect(&fleet.gate, connection, &options);
    let (host, pushes) = bounded(fleet, key, PROGRAM_TIMEOUT, "starting landfall-host", beginning).await?;
    tokio::spawn(check_on_push(fleet.hosts.clone(), key.clone(), pushes));
    let link = Arc::new(Link {
        host,
        r#become: config.r#become.clone(),
        address: dial.address.clone(),
        access_hash: config.access_hash,
        health,
        verified: AtomicBool::new(false),
    });
    *slot = Some(link.clone());
    Ok(link)
}

/// Has the host checked whenever it says that something changed there. Ends with the session.
async fn check_on_push(hosts: Registry, key: HostKey, mut pushes: Pushes) {
    while pushes.next().await.is_some() {
        hosts.request_check(&key.namespace, &key.group, [&key.host]);
    }
}
