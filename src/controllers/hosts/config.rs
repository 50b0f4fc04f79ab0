//! Names of hosts, and how the hosts of a group are reached.

use std::{collections::BTreeMap, time::Duration};

use landfall_host_protocol::{Hello, RunAsMethod, VERSIONS};

use crate::{
    api::hostgroup::{Become, BecomeMethod},
    effects::ssh::{Credentials, SshTarget},
    fleet::{GroupAccess, HostAccess},
};

/// One host of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostKey {
    pub namespace: String,
    pub group: String,
    pub host: String,
}

impl HostKey {
    pub fn new(namespace: &str, group: &str, host: &str) -> Self {
        Self { namespace: namespace.to_owned(), group: group.to_owned(), host: host.to_owned() }
    }
}

/// How the hosts of a group are reached, as spec and Secrets say at the moment.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group's uid.
    pub uid: String,
    /// Hash of everything below.
    pub config_hash: u64,
    /// Hash of what decides whether and as which user we sign in on a host: facts from before a change of it are out of date.
    pub access_hash: u64,
    pub user: String,
    pub port: u16,
    pub connect_timeout: Duration,
    /// Connections at once; `None`: one for each host.
    pub max_connections: Option<usize>,
    pub root: String,
    /// Bytes a second that an upload has to reach.
    pub least_rate: Option<u64>,
    pub period: Duration,
    pub credentials: Credentials,
    /// Jump hosts, in connection order.
    pub jumps: Vec<SshTarget>,
    /// Users that applications may run as.
    pub r#become: Become,
    /// Name → address.
    pub hosts: BTreeMap<String, String>,
}

impl GroupConfig {
    fn target(&self, address: &str) -> SshTarget {
        SshTarget {
            address: address.to_owned(),
            port: self.port,
            user: self.user.clone(),
            connect_timeout: self.connect_timeout,
        }
    }

    /// The same as the fleet takes it.
    pub(super) fn access(&self, namespace: &str) -> GroupAccess {
        let become_method = match self.r#become.method {
            BecomeMethod::None => None,
            BecomeMethod::Sudo => Some(RunAsMethod::Sudo),
            BecomeMethod::Su => Some(RunAsMethod::Su),
        };
        let become_users = if become_method.is_some() { self.r#become.users.clone() } else { Vec::new() };
        let hello = Hello { versions: VERSIONS, namespace: namespace.to_owned(), become_method, become_users };
        let access = |(name, address): (&String, &String)| {
            let access = HostAccess {
                target: self.target(address),
                credentials: self.credentials.clone(),
                jumps: self.jumps.clone(),
                root: self.root.clone(),
                hello: hello.clone(),
                hash: self.access_hash,
            };
            (name.clone(), access)
        };
        let hosts = self.hosts.iter().map(access).collect();
        GroupAccess { hosts, connections: self.max_connections, period: self.period, least_rate: self.least_rate }
    }
}
