//! What is known of one host, and what that means. Pure: hosts are checked elsewhere.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{
    api::{
        Reason,
        hostgroup::{Host, HostGroupSpec, Jump},
    },
    model::{Failure, facts::HostFacts},
};

/// The newest that is known of one host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum HostCheck {
    /// Not asked since this operator began, or since the last act on it.
    #[default]
    Unknown,
    Facts(Box<HostFacts>),
    /// Asked, and this is why there was no answer.
    Failed(Failure),
}

impl HostCheck {
    /// What is wrong with a host as such, whatever shall run there.
    pub fn problem(&self) -> Option<Failure> {
        match self {
            Self::Unknown => None,
            Self::Facts(facts) => unfit(facts).or_else(|| remark(facts)),
            Self::Failed(problem) => Some(problem.clone()),
        }
    }

    /// Why nothing can be run on a host that was asked.
    pub fn unusable(&self) -> Option<Failure> {
        match self {
            Self::Unknown => None,
            Self::Facts(facts) => unfit(facts),
            Self::Failed(problem) => Some(problem.clone()),
        }
    }
}

/// Why a host that answers can't be used.
pub fn unfit(facts: &HostFacts) -> Option<Failure> {
    if let Some(why) = &facts.unfit {
        return Some(Failure::terminal(Reason::HostUnsupported, format!("the group's root can't be used: {why}")));
    }
    if let Some((user, answer)) = facts.cannot_become.iter().next() {
        return Some(Failure::terminal(
            Reason::BecomeRefused,
            format!(
                "the SSH user can't become {user} there ({answer}); sudo takes this line: SSHUSER ALL=({user}) NOPASSWD: /bin/sh"
            ),
        ));
    }
    if facts.session_scoped {
        return Some(Failure::terminal(
            Reason::SessionScoped,
            "what is started over SSH ends with the connection there (logind's KillUserProcesses=yes); in /etc/systemd/logind.conf add the SSH \
             user to KillExcludeUsers, and restart systemd-logind",
        ));
    }
    None
}

/// What should be put right on a host that can be used all the same.
fn remark(facts: &HostFacts) -> Option<Failure> {
    facts.sudo_too_wide.then(|| {
        let text = "sudo there lets the SSH user become root, and landfall needs less; the line that is enough: \
                    SSHUSER ALL=(USERS) NOPASSWD: /bin/sh";
        Failure::waiting(Reason::SudoTooWide, text)
    })
}

/// What makes a spec one that can't work, where the schema could not refuse it.
pub(crate) fn invalid_spec(spec: &HostGroupSpec) -> Option<Failure> {
    invalid_hosts(&spec.ssh.jump, &spec.hosts)
}

/// Hosts that can be dialled, whatever else is wrong with the spec; none where a jump host is wrong. Two names of one machine are both
/// dialled: the owner file there tells which one counts.
pub fn dialled<'a>(jump: &[Jump], hosts: &'a [Host]) -> Vec<&'a Host> {
    let is_wrong = |address: &str| invalid_address("", address, "").is_some();
    if jump.iter().any(|jump| is_wrong(&jump.address)) {
        return Vec::new();
    }
    hosts.iter().filter(|host| !is_wrong(&host.address)).collect()
}

/// The same of its jump hosts and hosts alone.
pub fn invalid_hosts(jump: &[Jump], hosts: &[Host]) -> Option<Failure> {
    let failure = jump.iter().find_map(|jump| invalid_address("spec.ssh.jump", &jump.address, "port"));
    if failure.is_some() {
        return failure;
    }
    for host in hosts {
        let field = format!("spec.hosts[{}]", host.name);
        let failure = invalid_address(&field, &host.address, "spec.ssh.port").or_else(|| invalid_label(&field, host));
        if failure.is_some() {
            return failure;
        }
    }
    let (first, second, address) = duplicate_address(hosts)?;
    let text = format!("hosts {first} and {second} both have the address {address}; list each machine once");
    Some(Failure::terminal(Reason::DuplicateAddress, text))
}

/// A name that no name server can know, or an address that is no machine's. `port`: the field that a port belongs to.
fn invalid_address(field: &str, address: &str, port: &str) -> Option<Failure> {
    let why = match address.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            "is the address of no single machine".to_owned()
        }
        Ok(_) => return None,
        Err(_) if is_dns_name(address) => return None,
        Err(_) if address.parse::<SocketAddr>().is_ok() || has_port(address) => {
            format!("has a port; write the address alone, the port goes to {port}")
        }
        Err(_) => "is neither an IPv4 or IPv6 address nor a DNS name".to_owned(),
    };
    Some(Failure::terminal(Reason::InvalidSpec, format!("{field}.address {address:?} {why}")))
}

fn has_port(address: &str) -> bool {
    let parts = address.split_once(':');
    parts.is_some_and(|(name, port)| is_dns_name(name) && port.parse::<u16>().is_ok())
}

/// Names of at most 253 characters, whose last part is no number: those are read as an IPv4 address by some and as a name by others.
fn is_dns_name(name: &str) -> bool {
    let part_fits = |part: &str| {
        let ends = part.starts_with('-') || part.ends_with('-');
        let fits = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !part.is_empty() && part.len() <= 63 && fits && !ends
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(part_fits) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

fn invalid_label(field: &str, host: &Host) -> Option<Failure> {
    let (key, value) = host.labels.iter().find(|(key, value)| !is_label_key(key) || !is_label_value(value))?;
    let text = format!(
        "{field}.labels has {key:?}: {value:?}, which no selector can name; keys and values of labels are at most 63 of A-Z a-z 0-9 - _ . \
         and begin and end with a letter or digit; a key may have a DNS name and / before it"
    );
    Some(Failure::terminal(Reason::InvalidSpec, text))
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_name(prefix) && !name.is_empty() && is_label_value(name),
        None => !key.is_empty() && is_label_value(key),
    }
}

fn is_label_value(value: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let fits = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    value.len() <= 63 && fits && ends(value.chars().next()) && ends(value.chars().last())
}

/// Two hosts under one address; the port is the group's, so the address alone identifies a machine. CEL would be quadratic.
fn duplicate_address(hosts: &[Host]) -> Option<(&str, &str, &str)> {
    let mut observed: BTreeMap<String, &str> = BTreeMap::new();
    for host in hosts {
        if let Some(first) = observed.insert(host.machine(), &host.name) {
            return Some((first, &host.name, &host.address));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_machine_has_are_refused() {
        let reason =
            |address: &str| invalid_address("spec.hosts[web-01]", address, "spec.ssh.port").map(|no| no.message);
        for fine in
            ["10.0.0.1", "fe80::1", "web-01", "web-01.example.com", "WEB.example", "1a.2b", "xn--bcher-kva.example"]
        {
            assert_eq!(reason(fine), None, "{fine}");
        }
        for (bad, why) in [
            ("10.0.0.1:22", "has a port"),
            ("web-01:2222", "has a port"),
            ("0.0.0.0", "no single machine"),
            ("::", "no single machine"),
            ("224.0.0.1", "no single machine"),
            ("255.255.255.255", "no single machine"),
            ("10.0.0.256", "neither"),
            ("10.1", "neither"),
            ("2130706433", "neither"),
            ("web..example", "neither"),
            ("web-.example", "neither"),
            ("fe80:::1", "neither"),
        ] {
            assert!(reason(bad).unwrap_or_default().contains(why), "{bad}: {:?}", reason(bad));
        }
    }

    #[test]
    fn labels_are_those_that_a_selector_can_name() {
        for fine in ["zone", "example.com/zone", "a_b.c-d", "A"] {
            assert!(is_label_key(fine), "{fine}");
        }
        for bad in ["b ad", "", "/zone", "example.com/", "-zone", "zone-", "a/b/c", "ex_ample/zone"] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(is_label_value("") && is_label_value("a") && !is_label_value("a b") && !is_label_value("-"));
    }
}
