//! From a name to addresses, by the machine's own resolver (so `/etc/hosts`, search domains and whatever else nsswitch.conf says count).
//! Such a question holds a thread until the name server has answered or the resolver has given up (10 s and more), whether or not
//! somebody still waits for it. So there are only so many at a time, for hosts and git servers together: a name server that never answers
//! must not take the threads that the store's files and git need.
//! Addresses need no thread and no turn. Nothing is kept: who is dialled is asked for each time.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::sync::Semaphore;

/// Half of the threads that tokio has for what blocks.
const AT_ONCE: usize = 256;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));

/// The addresses of `host` (a name or an address), at least one. The error is a text for a person.
pub async fn look_up(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let seconds = limit.as_secs();
    match tokio::time::timeout(limit, ask(host.to_owned(), port)).await {
        Ok(Ok(found)) if found.is_empty() => Err(format!("the name {host} has no address")),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("the name {host} could not be looked up: {error}")),
        Err(_) => Err(format!("the name {host} could not be looked up: no name server answered within {seconds} s")),
    }
}

/// The turn goes with the thread, not with who waits for it.
async fn ask(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let turn = TURNS.clone().acquire_owned().await.map_err(io::Error::other)?;
    let found = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(turn);
        found
    });
    found.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_itself_even_when_every_turn_is_taken() {
        let _all = TURNS.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
        for address in ["192.0.2.7", "2001:db8::7"] {
            let found = look_up(address, 22, Duration::from_secs(5)).await.unwrap();
            assert_eq!(found, [SocketAddr::new(address.parse().unwrap(), 22)]);
        }
        let said = look_up("localhost", 22, Duration::from_millis(10)).await.unwrap_err();
        assert!(said.contains("localhost could not be looked up"), "{said}");
    }
}
