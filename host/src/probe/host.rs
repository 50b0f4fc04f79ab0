//! Addresses of hosts: numbers, and names of `/etc/hosts`. There is no name service in here: no DNS is asked.

use std::net::{IpAddr, Ipv4Addr};

/// The address of a host; `None`: this machine.
pub(super) fn address(host: Option<&str>) -> Result<IpAddr, String> {
    let Some(host) = host.filter(|host| !host.is_empty()) else { return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) };
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(address);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    if let Some(address) = listed(&hosts, host) {
        return Ok(address);
    }
    match host {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => Err(format!(
            "host {host} of the probe is neither an address nor in /etc/hosts; a Host header is a header of the probe"
        )),
    }
}

/// The first address of a name; IPv4 goes before IPv6.
fn listed(hosts: &str, name: &str) -> Option<IpAddr> {
    let found = || {
        hosts.lines().filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
    };
    found().find(IpAddr::is_ipv4).or_else(|| found().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hosts_file_have_addresses() {
        let hosts = "# 9.9.9.9 app\n::1 localhost app # own\n10.0.0.7\tapp  app.example.com\nrubbish app\n";
        assert_eq!(listed(hosts, "APP.example.com"), "10.0.0.7".parse().ok());
        assert_eq!(listed(hosts, "app"), "10.0.0.7".parse().ok());
        assert_eq!(listed(hosts, "localhost"), "::1".parse().ok());
        assert_eq!(listed(hosts, "other"), None);
        assert_eq!(address(None).unwrap(), Ipv4Addr::LOCALHOST);
        assert_eq!(address(Some("[::1]")).unwrap(), "::1".parse::<IpAddr>().unwrap());
        assert!(address(Some("no.such.host.example")).is_err());
    }
}
