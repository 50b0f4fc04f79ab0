//! Names of hosts, and how the hosts of a group are reached.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::hostgroup::Become,
    effects::ssh::{Credentials, SshTarget},
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
    pub fn target(&self, address: &str) -> SshTarget {
        SshTarget {
            address: address.to_owned(),
            port: self.port,
            user: self.user.clone(),
            connect_timeout: self.connect_timeout,
        }
    }

    /// The longest time from the first packet to the program found.
    pub(crate) fn sign_in_limit(&self) -> Duration {
        (self.connect_timeout * 2 + Duration::from_secs(10)).max(Duration::from_secs(30))
    }
}
