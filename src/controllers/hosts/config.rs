//! Names of hosts, and how the hosts of a group are reached.

use std::{collections::BTreeMap, time::Duration};

use landfall_host_protocol::{Hello, RunAsMethod, VERSIONS};

use crate::{
    api::hostgroup::{Become, BecomeMethod, Ssh},
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

/// What a group's hosts are signed in to with.
#[derive(Clone, Debug)]
pub struct GroupKey {
    pub credentials: Credentials,
    /// Hash of what the Secrets hold.
    pub hash: u64,
    /// What it was read for: it names the Secrets, and who signs in where.
    pub ssh: Ssh,
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
    /// `None`: no host is signed in to.
    pub key: Option<GroupKey>,
    /// Somebody took the Secret from the group.
    pub is_withdrawn: bool,
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

    /// The same as the fleet takes it; `None`: no host is signed in to.
    pub(super) fn access(&self, namespace: &str) -> Option<GroupAccess> {
        let key = self.key.as_ref()?;
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
                credentials: key.credentials.clone(),
                jumps: self.jumps.clone(),
                root: self.root.clone(),
                hello: hello.clone(),
                hash: self.access_hash,
            };
            (name.clone(), access)
        };
        let hosts = self.hosts.iter().map(access).collect();
        let (connections, period, least_rate) = (self.max_connections, self.period, self.least_rate);
        Some(GroupAccess { hosts, connections, period, least_rate })
    }
}
