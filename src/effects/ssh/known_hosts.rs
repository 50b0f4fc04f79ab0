//! The lines of known_hosts that are about one address, matched as OpenSSH does: patterns with `*`, `?` and `!`, hashed names,
//! `[address]:port`, and the marks `@cert-authority` and `@revoked`. A name is never looked up anywhere else.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{
    PublicKey,
    ssh_key::known_hosts::{Entry, HostPatterns, Marker},
};

use super::{
    SshError,
    identity::{named, supported},
};

/// What the file says about one address.
#[derive(Default)]
pub(super) struct Lines {
    pub keys: Vec<PublicKey>,
    pub authorities: Vec<PublicKey>,
    pub revoked: Vec<PublicKey>,
    /// Key types of its lines that can't be checked, as people call them.
    pub unsupported: Vec<String>,
    pub unsupported_authorities: Vec<String>,
}

/// How known_hosts writes an address: `[address]:port` unless the port is 22.
pub(super) fn name_of(address: &str, port: u16) -> String {
    if port == 22 { address.to_owned() } else { format!("[{address}]:{port}") }
}

/// Reads the lines about `address`. A line that names it and can't be read is an error; any other such line is somebody else's.
pub(super) fn lines_about(text: &str, address: &str, port: u16) -> Result<Lines, SshError> {
    let name = name_of(address, port);
    let canonical = address.parse::<IpAddr>().map(|ip| name_of(&ip.to_string(), port)).unwrap_or_else(|_| name.clone());
    let mut found = Lines::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Ok(entry) = line.parse::<Entry>() else {
            let mut words = line.split(' ').skip_while(|word| word.starts_with('@'));
            let patterns = words.next().map(|words| words.split(',').map(str::to_owned).collect::<Vec<_>>());
            if patterns.is_some_and(|patterns| fits(&patterns, &[&name, &canonical])) {
                return Err(SshError::KnownHosts { line: index + 1 });
            }
            continue;
        };
        let plain = matches(entry.host_patterns(), &[&name, &canonical]);
        let (key, known) = (entry.public_key(), supported(&entry.public_key().algorithm()));
        match entry.marker() {
            Some(Marker::Revoked) if plain => found.revoked.push(key.clone()),
            // An authority that stands for the name stands for it on every port, as with OpenSSH.
            Some(Marker::CertAuthority) if plain || matches(entry.host_patterns(), &[address]) => match known {
                true => found.authorities.push(key.clone()),
                false => found.unsupported_authorities.push(named(&key.algorithm())),
            },
            None if plain && known => found.keys.push(key.clone()),
            None if plain => found.unsupported.push(named(&key.algorithm())),
            _ => {}
        }
    }
    Ok(found)
}

fn matches(patterns: &HostPatterns, names: &[&str]) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => fits(patterns, names),
        HostPatterns::HashedName { salt, hash } => names.iter().any(|name| {
            Hmac::<sha1::Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name.to_ascii_lowercase()).verify_slice(hash).is_ok())
        }),
    }
}

/// One pattern must fit, and none with `!` may.
fn fits(patterns: &[String], names: &[&str]) -> bool {
    let fits = |pattern: &str| names.iter().any(|name| glob(pattern.as_bytes(), name.as_bytes()));
    !patterns.iter().any(|one| one.strip_prefix('!').is_some_and(fits)) && patterns.iter().any(|one| fits(one))
}

/// `*` is any number of characters, `?` one. Linear: it goes back to the last `*` only.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(one) if *one == b'?' || one.eq_ignore_ascii_case(byte) => {
                p += 1;
                n += 1;
            }
            _ => match star.as_mut() {
                Some((at, from)) => {
                    *from += 1;
                    (p, n) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS";

    fn found(names: &str, address: &str, port: u16) -> bool {
        lines_about(&format!("{names} {KEY} somebody\n"), address, port).is_ok_and(|lines| !lines.keys.is_empty())
    }

    #[test]
    fn patterns_fit_as_in_openssh() {
        assert!(found("web-01.example.com", "WEB-01.example.com", 22));
        assert!(found("*.example.com,10.0.0.?", "web.example.com", 22));
        assert!(found("*.example.com,10.0.0.?", "10.0.0.7", 22));
        assert!(!found("*.example.com,10.0.0.?", "10.0.0.17", 22));
        assert!(!found("*.example.com,!db.example.com", "db.example.com", 22));
        assert!(!found("!db.example.com", "web.example.com", 22));
        assert!(found("[10.0.0.1]:2222", "10.0.0.1", 2222));
        assert!(!found("10.0.0.1", "10.0.0.1", 2222));
        assert!(!found("[10.0.0.1]:2222", "10.0.0.1", 22));
        assert!(found("a*b*c", "aXXbYYbZc", 22) && !found("a*b*c", "aXXbYYbZ", 22));
    }

    #[test]
    fn an_ipv6_address_fits_however_it_is_written() {
        assert!(found("2001:db8::1", "2001:0DB8:0:0:0:0:0:1", 22));
        assert!(found("[2001:db8::1]:2222", "2001:db8:0::1", 2222));
        assert!(!found("2001:db8::2", "2001:db8::1", 22));
    }

    #[test]
    fn an_authority_stands_for_a_name_on_every_port_and_only_for_its_patterns() {
        let text = format!("@cert-authority *.example.com,!db.example.com {KEY}\n");
        let known =
            |address: &str, port| lines_about(&text, address, port).is_ok_and(|found| !found.authorities.is_empty());
        assert!(known("web.example.com", 22) && known("web.example.com", 2222));
        assert!(!known("db.example.com", 22) && !known("db.example.com", 2222) && !known("example.org", 22));
    }

    #[test]
    fn a_line_that_cannot_be_read_counts_only_where_it_names_the_address() {
        let text = "other ssh-ed25519 rubbish\n@cert-authority web-* ssh-ed25519 rubbish\n";
        assert!(lines_about(text, "db-01", 22).is_ok());
        assert!(matches!(lines_about(text, "web-01", 22), Err(SshError::KnownHosts { line: 2 })));
    }
}
