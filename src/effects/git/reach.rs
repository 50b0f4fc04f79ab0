//! Which addresses a repository's URL may lead to, and the way there. Whoever may edit a Project writes that URL, and the operator dials
//! it: not his own loopback, nor what answers on link-local addresses (169.254.169.254 tells a machine's credentials on most clouds).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::net::TcpStream;

use super::{error::GitError, url::Server};
use crate::effects::names::{self, LookupPool};

/// Resolves once, and connects to what was judged: no second answer of a name server comes in between.
pub(super) async fn dial(
    server: &Server,
    url: &str,
    limit: Duration,
    allow_local: bool,
) -> Result<TcpStream, GitError> {
    let unreachable = |error: std::io::Error| GitError::Unreachable { url: url.to_owned(), why: error.to_string() };
    let found = names::look_up(LookupPool::GitServers, &server.host, server.port, limit).await;
    let found = found.map_err(|why| unreachable(std::io::Error::other(why)))?;
    let (mut refused, mut failed) = (None, None);
    for address in found {
        if let Some(what) = off_limits(address.ip()).filter(|_| !allow_local) {
            refused.get_or_insert((address.ip(), what));
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(unreachable)?;
                return Ok(socket);
            }
            Err(error) => failed = Some(error),
        }
    }
    match (failed, refused) {
        (None, Some((address, what))) => Err(GitError::AddressNotAllowed { host: server.shown.clone(), address, what }),
        (failed, _) => Err(unreachable(failed.unwrap_or_else(|| std::io::Error::other("the name has no address")))),
    }
}

/// What an address is that no repository is behind. Private networks are fine: there companies have their servers.
fn off_limits(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => off_limits_v4(address),
        IpAddr::V6(address) => off_limits_v6(address),
    }
}

fn off_limits_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some("the operator's own machine");
    }
    if address.is_link_local() {
        return Some("a link-local address");
    }
    // All of 0.0.0.0/8 is "this host".
    if address.octets()[0] == 0 {
        return Some("no address of a machine");
    }
    (address.is_multicast() || address.is_broadcast()).then_some("no address of one machine")
}

fn off_limits_v6(address: Ipv6Addr) -> Option<&'static str> {
    /// Where Amazon's machines ask for their credentials by IPv6.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if address.is_loopback() {
        return Some("the operator's own machine");
    }
    if address.is_unspecified() {
        return Some("no address of a machine");
    }
    if address.is_unicast_link_local() || address == METADATA {
        return Some("a link-local address");
    }
    if address.is_multicast() {
        return Some("no address of one machine");
    }
    within(address).and_then(off_limits_v4)
}

/// The IPv4 address that an IPv6 one stands for: mapped or compatible, or behind a translator (NAT64, 6to4).
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => of(g, h),
        (0x2002, ..) => of(b, c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_are_off_limits_in_every_form_and_private_ones_are_not() {
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(off_limits(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "198.18.0.7",
            "100.64.0.1",
            "8.8.8.8",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(off_limits(text.parse().unwrap()), None, "{text}");
        }
    }
}
