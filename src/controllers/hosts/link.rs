//! The one connection to a host: made when it is needed, shared by all who act or look there, made again when it was lost or when the
//! group's configuration changed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::{Fleet, registry::HostKey, watch::bounded};
use crate::{
    api::hostgroup::Become,
    effects::{
        host::{Host, HostError},
        ssh::SshError,
    },
};

/// Where the connection of one host is kept. Only one task at a time dials.
#[derive(Default)]
pub(crate) struct ConnectionSlot {
    link: Mutex<Option<Arc<Link>>>,
}

/// A connection in use. It counts against `maxConcurrentConnections` until it is closed, after the last who uses it let it go.
pub struct Link {
    pub host: Host,
    /// Whom the SSH user may have to become there.
    pub r#become: Become,
    mark: u64,
    address: String,
    doubt: Doubt,
    told: AtomicBool,
}

impl Link {
    /// It told its facts: it is a host like any other.
    pub(crate) fn mark_healthy(&self) {
        self.told.store(true, Ordering::Relaxed);
        self.doubt.lock().take();
    }

    /// Whether it told its facts over this connection.
    pub(crate) fn is_verified(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

/// The permit of a host that did not answer lately, until it does.
type Doubt = Arc<parking_lot::Mutex<Option<OwnedSemaphorePermit>>>;

/// Permits come back with the last byte on the wire, not with the last use.
fn hold(permit: OwnedSemaphorePermit, doubt: Doubt, host: &Host) {
    let gone = host.closed();
    tokio::spawn(async move {
        gone.cancelled().await;
        drop((permit, doubt.lock().take()));
    });
}

impl ConnectionSlot {
    /// Closes the connection, unless somebody else uses it.
    pub async fn close(&self) {
        self.link.lock().await.take();
    }
}

/// The connection to a host, made where there is none.
pub async fn link(fleet: &Fleet, key: &HostKey) -> Result<Arc<Link>, HostError> {
    let gone =
        || SshError::Unreachable { address: key.host.clone(), why: "it is in no watched HostGroup any more".into() };
    let dial = fleet.hosts.dial(key).ok_or_else(gone)?;
    let mut kept = dial.slot.link.lock().await;
    if let Some(link) = kept
        .as_ref()
        .filter(|link| link.mark == dial.config.way_in && link.address == dial.address && !link.host.is_closed())
    {
        return Ok(link.clone());
    }
    *kept = None;
    let mut doubt = None;
    if dial.doubtful {
        doubt = Some(dial.permits.doubtful.clone().acquire_owned().await.map_err(|_| gone())?);
    }
    let permit = dial.permits.all.clone().acquire_owned().await.map_err(|_| gone())?;
    let config = &dial.config;
    let target = config.target(&dial.address);
    let via = dial.route.open(config, &dial.address).await?;
    let (credentials, whom) = (&config.credentials, &config.r#become);
    let connecting = Host::connect_via(&fleet.gate, &key.host, via, &target, credentials, &config.root, whom);
    let host = bounded(fleet, key, config.sign_in_limit(), "signing in", connecting).await?;
    let doubt = Doubt::new(parking_lot::Mutex::new(doubt));
    hold(permit, doubt.clone(), &host);
    let (whom, address) = (config.r#become.clone(), dial.address.clone());
    let link =
        Arc::new(Link { host, r#become: whom, mark: config.way_in, address, doubt, told: AtomicBool::new(false) });
    *kept = Some(link.clone());
    Ok(link)
}
