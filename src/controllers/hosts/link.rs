//! The one connection to a host: made when it is needed, shared by all who act or check there, and made again after it was lost or the
//! group's configuration changed.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{
    check::{FIRST_CHECK_TIMEOUT, bounded, note_waiting},
    config::HostKey,
    fleet::Fleet,
    registry::{Dial, Registry},
    slot::Link,
};
use crate::{
    effects::{
        clock,
        host::{Host, HostError, HostOptions},
        program::Pushes,
        ssh::{Connection, OpenOptions, SshError},
    },
    fleet::{ConnectionPermit, Connections, GOOD_SESSION},
};

/// The longest time until the program runs, which may have to be brought over a slow line first. It has shorter limits of its own for
/// what stands still.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(600);

/// The connection to a host, made where there is none. Whoever waits longest for the right to one is next, however long that takes.
pub(super) async fn link(fleet: &Fleet, key: &HostKey) -> Result<Arc<Link>, HostError> {
    link_until(fleet, key, std::future::pending()).await.unwrap_or_else(|| Err(not_in_group(key)))
}

/// The same; `None`: the right to one did not come so soon.
pub async fn link_soon(fleet: &Fleet, key: &HostKey, patience: Duration) -> Option<Result<Arc<Link>, HostError>> {
    link_until(fleet, key, tokio::time::sleep(patience)).await
}

fn not_in_group(key: &HostKey) -> HostError {
    SshError::Unreachable { address: key.host.clone(), why: "it is not in a watched HostGroup".into() }.into()
}

/// `late` ends the wait for others and for the right to a connection, not the dial itself.
async fn link_until(
    fleet: &Fleet,
    key: &HostKey,
    late: impl Future<Output = ()>,
) -> Option<Result<Arc<Link>, HostError>> {
    let Some(dial) = fleet.hosts.dial(key) else { return Some(Err(not_in_group(key))) };
    let config = &dial.config;
    let is_current = |link: &&Arc<Link>| {
        link.access_hash == config.access_hash
            && link.address == dial.address
            && link.r#become == config.r#become
            && !link.host.is_closed()
    };
    let waiting = async {
        let mut slot = dial.slot.open().await;
        if let Some(link) = slot.as_ref().filter(is_current) {
            return Err(link.clone());
        }
        *slot = None;
        Ok((slot, permit(fleet, key, &dial, FIRST_CHECK_TIMEOUT).await))
    };
    let (mut slot, permit) = tokio::select! {
        biased;
        waited = waiting => match waited {
            Ok(free) => free,
            Err(link) => return Some(Ok(link)),
        },
        () = late => return None,
    };
    Some(connect(fleet, key, &dial, permit).await.inspect(|link| *slot = Some(link.clone())))
}

/// The right to one connection. After this time a host of which nothing is known is told as one that waits.
async fn permit(fleet: &Fleet, key: &HostKey, dial: &Dial, told_after: Duration) -> ConnectionPermit {
    let acts = fleet.hosts.acts(key);
    let waiting = fleet.budgets.connect(&dial.connections, dial.doubtful);
    tokio::pin!(waiting);
    if let Ok(permit) = tokio::time::timeout(told_after, &mut waiting).await {
        return permit;
    }
    let message = format!(
        "no connection to {} is free since {} s; its group has {} (ssh.maxConcurrentConnections); still waiting",
        key.host,
        told_after.as_secs(),
        dial.connections.most()
    );
    note_waiting(fleet, key, message, acts);
    waiting.await
}

async fn connect(fleet: &Fleet, key: &HostKey, dial: &Dial, permit: ConnectionPermit) -> Result<Arc<Link>, HostError> {
    let config = &dial.config;
    let health = permit.health();
    let target = config.target(&dial.address);
    let route = &dial.route;
    let via = route.open(config.access_hash, &config.jumps, &config.credentials, &dial.address).await?;
    let options = OpenOptions { via, permit: Some(Box::new(permit)) };
    let connecting = async { Ok(Connection::open_with(options, &target, &config.credentials).await?) };
    let connection = bounded(fleet, key, config.sign_in_limit(), "signing in", connecting).await?;
    let options =
        HostOptions { name: &key.host, namespace: &key.namespace, root: &config.root, r#become: &config.r#become };
    let beginning = Host::connect(&fleet.gate, connection, &options);
    let (host, pushes) = bounded(fleet, key, PROGRAM_TIMEOUT, "starting landfall-host", beginning).await?;
    tokio::spawn(check_on_push(fleet.hosts.clone(), key.clone(), dial.connections.clone(), pushes));
    Ok(Arc::new(Link {
        host,
        r#become: config.r#become.clone(),
        address: dial.address.clone(),
        access_hash: config.access_hash,
        health,
        began: clock::monotonic(),
        verified: AtomicBool::new(false),
    }))
}

/// Has the host checked whenever it says that something changed there, and at once where a good session is lost: it is dialled again.
async fn check_on_push(hosts: Registry, key: HostKey, connections: Connections, mut pushes: Pushes) {
    let began = clock::monotonic();
    while pushes.next().await.is_some() {
        hosts.request_check(&key.namespace, &key.group, [&key.host]);
    }
    // One that is closed after its use is not lost.
    if connections.keeps() && began.elapsed() >= GOOD_SESSION {
        hosts.request_check(&key.namespace, &key.group, [&key.host]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::FutureExt;

    use super::*;
    use crate::{
        api::{Reason, hostgroup::Become},
        controllers::{frame::Requeue, hosts::GroupConfig},
        effects::{gate::Gate, ssh::Credentials},
        fleet::{BudgetSettings, Budgets},
        plan::hostgroup::HostCheck,
    };

    fn key(host: &str) -> HostKey {
        HostKey::new("shop", "web", host)
    }

    /// Two hosts that share one connection.
    fn fleet() -> Fleet {
        let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
        let identity = russh::keys::PrivateKey::from(pair).to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
        let hosts = ["web-01", "web-02"].map(|host| (host.to_owned(), "192.0.2.1".to_owned()));
        let config = GroupConfig {
            config_hash: 1,
            access_hash: 1,
            user: "deploy".to_owned(),
            port: 22,
            connect_timeout: Duration::from_secs(1),
            max_connections: Some(1),
            root: "/srv".to_owned(),
            least_rate: None,
            period: Duration::from_secs(60),
            credentials: Credentials::new(&identity, "").unwrap(),
            jumps: vec![],
            r#become: Become::default(),
            hosts: BTreeMap::from(hosts),
        };
        let fleet = Fleet {
            hosts: Registry::default(),
            budgets: Budgets::new(BudgetSettings::default(), 10_000),
            gate: Gate::shut(),
            requeue: Requeue::default(),
            control_plane_id: "plane-1".to_owned(),
        };
        fleet.hosts.configure("shop", "web", config, &fleet.budgets);
        fleet
    }

    #[tokio::test]
    async fn whoever_acts_does_not_wait_for_a_connection_without_end() {
        let (fleet, soon) = (fleet(), Duration::from_millis(20));
        let taken = fleet.hosts.dial(&key("web-01")).unwrap();
        let taken = fleet.budgets.connect(&taken.connections, false).await;
        assert!(link_soon(&fleet, &key("web-02"), soon).await.is_none());
        // Its watcher waits for the same.
        let second = key("web-02");
        let waiting = link(&fleet, &second);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(link_soon(&fleet, &key("web-02"), soon).await.is_none());
        drop(taken);
        assert!(link_soon(&fleet, &key("web-01"), Duration::ZERO).await.is_none(), "the watcher was there first");
    }

    #[tokio::test]
    async fn a_host_that_waits_for_a_connection_is_told_and_counts_as_no_failure() {
        let fleet = fleet();
        let dial = fleet.hosts.dial(&key("web-02")).unwrap();
        let taken = fleet.budgets.connect(&dial.connections, false).await;
        let (key, soon) = (key("web-02"), Duration::from_millis(20));
        let waiting = permit(&fleet, &key, &dial, soon);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(soon * 5, waiting.as_mut()).await.is_err());
        let HostCheck::Failed(failure) = fleet.hosts.check(&key) else { panic!("nothing is told") };
        assert!(failure.reason == Reason::Unreachable && failure.message.contains("its group has 1"), "{failure:?}");
        assert!(!fleet.hosts.dial(&key).unwrap().doubtful);
        drop(taken);
        waiting.await;
    }
}
