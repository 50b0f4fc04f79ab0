//! From a name to addresses, by the machine's own resolver (so `/etc/hosts`, search domains and whatever else nsswitch.conf says count).
//! A lookup blocks a thread until the name server has answered or the resolver has given up (10 s and more), also when its caller has gone.
//! So the number of lookups at a time is limited: a name server that never answers must not take the threads that the store's files and git
//! need. Names of git servers are chosen by everybody who may edit a Project, so hosts and git servers have separate limits. Addresses need
//! no lookup. Nothing is cached.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Twice this is half of the threads that tokio has for what blocks.
const LOOKUPS_MAX: usize = 128;

static OF_HOSTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LOOKUPS_MAX)));
static OF_GIT_SERVERS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LOOKUPS_MAX)));

/// Whose names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LookupPool {
    Hosts,
    GitServers,
}

/// The addresses of `host` (a name or an address), at least one. The error is a text for a person.
pub(crate) async fn look_up(
    whose: LookupPool,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (seconds, deadline) = (limit.as_secs(), Instant::now() + limit);
    let not = |why: String| format!("the name {host} could not be looked up: {why}");
    let permit = match timeout_at(deadline, lookup_permits(whose).acquire_owned()).await {
        Ok(permit) => permit.map_err(|error| not(error.to_string()))?,
        Err(_) => {
            return Err(not(format!(
                "{LOOKUPS_MAX} others wait for a name server, and none of them ended in {seconds} s"
            )));
        }
    };
    match timeout_at(deadline, ask(permit, host.to_owned(), port)).await {
        Ok(Ok(found)) if found.is_empty() => Err(format!("the name {host} has no address")),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(not(error.to_string())),
        Err(_) => Err(not(format!("no name server answered within {seconds} s"))),
    }
}

fn lookup_permits(whose: LookupPool) -> Arc<Semaphore> {
    match whose {
        LookupPool::Hosts => OF_HOSTS.clone(),
        LookupPool::GitServers => OF_GIT_SERVERS.clone(),
    }
}

/// The turn goes with the thread, not with who waits for it.
async fn ask(permit: OwnedSemaphorePermit, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(permit);
        found
    });
    found.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_itself_even_when_every_turn_is_taken_and_git_servers_take_none_of_hosts() {
        let _all = OF_GIT_SERVERS.acquire_many(u32::try_from(LOOKUPS_MAX).unwrap()).await.unwrap();
        let soon = Duration::from_millis(10);
        for address in ["192.0.2.7", "2001:db8::7"] {
            let found = look_up(LookupPool::GitServers, address, 22, soon).await.unwrap();
            assert_eq!(found, [SocketAddr::new(address.parse().unwrap(), 22)]);
        }
        let said = look_up(LookupPool::GitServers, "localhost", 22, soon).await.unwrap_err();
        assert!(said.contains("localhost could not be looked up: 128 others wait"), "{said}");
        assert!(!look_up(LookupPool::Hosts, "localhost", 22, Duration::from_secs(60)).await.unwrap().is_empty());
    }
}
