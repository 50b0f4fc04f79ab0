//! Whose socket listens: the kernel names the inode (by `sock_diag`, else in `/proc/net/tcp{,6}`), `/proc/PID/fd` its owner.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use landfall_host_protocol::StrangerFacts;
use serde::{Deserialize, Serialize};

use super::{
    belonging::describe_all,
    identity::Identity,
    socket_diag,
    stat::{Stat, table},
};

/// A socket that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    pub address: IpAddr,
    pub port: u16,
    pub inode: u64,
}

/// The sockets that answer on this address and port: those bound to it, else those bound to every address. `None`: it can't be seen.
pub fn listening(asked: IpAddr, port: u16) -> Option<Vec<Listening>> {
    let all = socket_diag::listening(port).or_else(|| by_proc(port))?;
    Some(answering(&all, asked, port))
}

/// The sockets that listen on this port, by the files that every kernel has.
pub(super) fn by_proc(port: u16) -> Option<Vec<Listening>> {
    let ipv4 = fs::read_to_string("/proc/net/tcp").ok()?;
    // A kernel without IPv6 has no such file.
    let ipv6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let all = ipv4.lines().chain(ipv6.lines()).filter_map(parse);
    Some(all.filter(|socket| socket.port == port).collect())
}

fn answering(all: &[Listening], asked: IpAddr, port: u16) -> Vec<Listening> {
    let asked = asked.to_canonical();
    let pick = |fits: &dyn Fn(&IpAddr) -> bool| -> Vec<Listening> {
        all.iter().filter(|socket| socket.port == port && fits(&socket.address)).cloned().collect()
    };
    let exact = pick(&|address| address.to_canonical() == asked);
    if !exact.is_empty() {
        return exact;
    }
    pick(&|address| match address {
        IpAddr::V4(address) => address.is_unspecified() && asked.is_ipv4(),
        IpAddr::V6(address) => {
            address.is_unspecified() || *address == Ipv4Addr::UNSPECIFIED.to_ipv6_mapped() && asked.is_ipv4()
        }
    })
}

/// A line of `/proc/net/tcp` or `tcp6`; `None` for the head and for sockets that don't listen.
fn parse(line: &str) -> Option<Listening> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Listening { address: parse_address(address)?, port: u16::from_str_radix(port, 16).ok()?, inode })
}

/// Words of 32 bits in the machine's byte order, as the kernel prints them.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |n: usize| Some(u32::from_str_radix(text.get(n * 8..n * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0u8; 16];
            for n in 0..4 {
                bytes.get_mut(n * 4..n * 4 + 4)?.copy_from_slice(&word(n)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// Does one of these processes hold one of these sockets? `None`: none is seen to, and some of them may not be looked into.
pub fn owns(processes: &[Identity], sockets: &[Listening]) -> Option<bool> {
    // None of them at all is seen.
    let mut hidden = processes.is_empty();
    for process in processes {
        match holds(process.pid, sockets) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => hidden = true,
        }
    }
    if hidden { None } else { Some(false) }
}

fn holds(pid: i32, sockets: &[Listening]) -> Option<bool> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let names: Vec<String> = sockets.iter().map(|socket| format!("socket:[{}]", socket.inode)).collect();
    let held = |link: std::path::PathBuf| names.iter().any(|name| link.as_os_str() == name.as_str());
    Some(entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(held)))
}

/// The processes that hold one of these sockets, as far as they may be seen.
pub fn whose(sockets: &[Listening]) -> Vec<StrangerFacts> {
    let held = |(pid, _): &&(i32, Stat)| holds(*pid, sockets) == Some(true);
    let holders: Vec<Identity> = table().iter().filter(held).map(|(pid, stat)| Identity::with(*pid, stat)).collect();
    describe_all(&holders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(address: &str, port: u16, inode: u64) -> Listening {
        Listening { address: address.parse().unwrap(), port, inode }
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        assert_eq!(parse(line), Some(socket("127.0.0.1", 8080, 4242)));
        let line = "   1: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0";
        assert_eq!(parse(line), Some(socket("::", 22, 99)));
        let established = line.replace(" 0A ", " 01 ");
        assert_eq!(parse(&established), None);
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue rx_queue"), None);
    }

    #[test]
    fn a_socket_of_that_very_address_goes_before_one_of_all() {
        let all =
            [socket("0.0.0.0", 80, 1), socket("127.0.0.1", 80, 2), socket("::", 81, 3), socket("10.0.0.1", 82, 4)];
        let inodes = |address: &str, port| -> Vec<u64> {
            answering(&all, address.parse().unwrap(), port).iter().map(|socket| socket.inode).collect()
        };
        assert_eq!(inodes("127.0.0.1", 80), [2]);
        assert_eq!(inodes("10.0.0.1", 80), [1]);
        assert_eq!(inodes("127.0.0.1", 81), [3]);
        assert_eq!(inodes("::1", 80), [0u64; 0]);
        assert_eq!(inodes("127.0.0.1", 82), [0u64; 0]);
    }

    #[test]
    fn our_own_socket_is_found_to_be_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sockets = listening("127.0.0.1".parse().unwrap(), port).unwrap();
        assert_eq!(sockets.len(), 1);
        assert_eq!(owns(&[Identity::own().unwrap()], &sockets), Some(true));
        assert!(whose(&sockets).iter().any(|owner| owner.pid == Identity::own().unwrap().pid));
    }
}
