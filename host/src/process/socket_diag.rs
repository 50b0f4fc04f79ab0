//! Listening TCP sockets by the kernel's `sock_diag` (netlink). `/proc/net/tcp` walks the whole machine's table of connections at each read,
//! some milliseconds where memory is large; this asks for sockets that listen alone. It must not decide whose they are.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
    netlink::{SOCK_DIAG, SocketAddrNetlink},
    recv, send, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use super::listener::Listening;

// From linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
const ANSWER: usize = 72;
const IPPROTO_TCP: u8 = 6;
const LISTEN: u32 = 1 << 10;

/// The kernel answers at once; nobody waits for one that does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of one answer. The kernel sends no longer ones to who reads in such pieces.
const PIECE: usize = 32 << 10;

/// The sockets that listen on this port; `None`: the kernel can't be asked so.
pub(super) fn listening(port: u16) -> Option<Vec<Listening>> {
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).ok()?;
    set_socket_timeout(&kernel, Timeout::Recv, Some(PATIENCE)).ok()?;
    // Nobody but the kernel is heard.
    connect(&kernel, &SocketAddrNetlink::new(0, 0)).ok()?;
    let mut found = ask(&kernel, AddressFamily::INET, port)?;
    // A kernel without IPv6 has nothing to tell of it.
    found.extend(ask(&kernel, AddressFamily::INET6, port).unwrap_or_default());
    Some(found)
}

fn ask(kernel: &OwnedFd, family: AddressFamily, port: u16) -> Option<Vec<Listening>> {
    send(kernel, &request(family, port), SendFlags::empty()).ok()?;
    let mut found = Vec::new();
    let mut buffer = vec![0u8; PIECE];
    loop {
        let (length, _) = recv(kernel, buffer.as_mut_slice(), RecvFlags::empty()).ok()?;
        let piece = buffer.get(..length).filter(|piece| !piece.is_empty())?;
        if read(piece, &mut found)? {
            return Some(found);
        }
    }
}

/// A request for all sockets of a family that listen on a port.
fn request(family: AddressFamily, port: u16) -> Vec<u8> {
    let mut id = [0u8; 48];
    id[..2].copy_from_slice(&port.to_be_bytes());
    // Families fit a byte.
    let family = family.as_raw().to_le_bytes()[0];
    let body = [&[family, IPPROTO_TCP, 0, 0][..], &LISTEN.to_ne_bytes(), &id].concat();
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    [
        &length.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes(),
        // Number of the request and of who asks: the kernel has its own for the latter.
        &[0u8; 8],
        &body,
    ]
    .concat()
}

/// Messages of one answer; true: the last one is among them. `None`: the kernel refuses, or what it tells is not complete.
fn read(mut piece: &[u8], found: &mut Vec<Listening>) -> Option<bool> {
    while !piece.is_empty() {
        let length = usize::try_from(u32::from_ne_bytes(bytes(piece, 0)?)).ok()?;
        let kind = u16::from_ne_bytes(bytes(piece, 4)?);
        let flags = u16::from_ne_bytes(bytes(piece, 6)?);
        let body = piece.get(HEADER..length)?;
        if flags & NLM_F_DUMP_INTR != 0 {
            return None;
        }
        match kind {
            NLMSG_DONE => return Some(true),
            SOCK_DIAG_BY_FAMILY => found.push(socket(body)?),
            // An error, or what nobody asked for.
            _ => return None,
        }
        // Messages begin at multiples of four.
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

/// `struct inet_diag_msg`.
fn socket(body: &[u8]) -> Option<Listening> {
    let address = match AddressFamily::from_raw(u16::from(*body.first()?)) {
        AddressFamily::INET => IpAddr::V4(Ipv4Addr::from(bytes::<4>(body, 8)?)),
        AddressFamily::INET6 => IpAddr::V6(Ipv6Addr::from(bytes::<16>(body, 8)?)),
        _ => return None,
    };
    let port = u16::from_be_bytes(bytes(body, 4)?);
    let inode = u64::from(u32::from_ne_bytes(bytes(body, ANSWER - 4)?));
    Some(Listening { address, port, inode })
}

fn bytes<const N: usize>(of: &[u8], at: usize) -> Option<[u8; N]> {
    of.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_that_listen_are_told_with_address_and_inode() {
        let ipv4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = ipv4.local_addr().unwrap().port();
        let _connected = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let Some(found) = listening(port) else { panic!("this kernel has no sock_diag") };
        let at = |address: &str| found.iter().filter(|socket| socket.address.to_string() == address).count();
        assert_eq!((found.len(), at("127.0.0.1")), (1, 1), "{found:?}");
        assert_eq!(super::super::listener::by_proc(port).unwrap(), found);
        drop(ipv4);
        let ipv6 = TcpListener::bind("[::1]:0").unwrap();
        let port = ipv6.local_addr().unwrap().port();
        assert_eq!(super::super::listener::by_proc(port).unwrap(), listening(port).unwrap());
    }

    #[test]
    fn what_is_cut_or_refused_is_no_answer() {
        let mut found = Vec::new();
        let message = |kind: u16, flags: u16, body: &[u8]| {
            let length = u32::try_from(HEADER + body.len()).unwrap();
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat()
        };
        assert_eq!(read(&message(NLMSG_DONE, 0, &[0; 4]), &mut found), Some(true));
        assert_eq!(read(&message(2, 0, &[0; 20]), &mut found), None);
        assert_eq!(read(&message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4]), &mut found), None);
        let whole = message(SOCK_DIAG_BY_FAMILY, 0, &[2; ANSWER]);
        assert_eq!(read(&whole, &mut found), Some(false));
        assert_eq!(found.len(), 1);
        for length in 1..whole.len() {
            assert_eq!(read(&whole[..length], &mut found), None, "{length}");
        }
        let none = [&0u32.to_ne_bytes()[..], &[0; 12]].concat();
        assert_eq!(read(&none, &mut found), None, "a message without length would never end");
    }
}
