//! Which host, and how it is reached.

use std::{collections::BTreeMap, time::Duration};

use landfall_host_protocol::Hello;

use crate::effects::ssh::{Credentials, SshTarget};

/// One host of one group. A group that was deleted and made again is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId {
    pub namespace: String,
    pub group_uid: String,
    /// The host's name in its group.
    pub host: String,
}

impl HostId {
    pub fn new(namespace: &str, group_uid: &str, host: &str) -> Self {
        Self { namespace: namespace.to_owned(), group_uid: group_uid.to_owned(), host: host.to_owned() }
    }
}

/// How one host is reached, as spec and Secrets say at the moment.
#[derive(Clone, Debug)]
pub struct HostAccess {
    pub target: SshTarget,
    pub credentials: Credentials,
    /// Jump hosts, in connection order.
    pub jumps: Vec<SshTarget>,
    /// The group's root, absolute.
    pub root: String,
    pub hello: Hello,
    /// Hash of all the above, Secrets' contents included: a connection of another hash is closed.
    pub hash: u64,
}

impl HostAccess {
    /// The longest time from the first packet to the first facts: the program may have to be brought there over a slow line.
    pub(super) fn sign_in_limit(&self) -> Duration {
        (self.target.connect_timeout * 2 + Duration::from_secs(30)).max(Duration::from_secs(120))
    }
}

/// One group's hosts.
#[derive(Clone, Debug)]
pub struct GroupAccess {
    /// By name.
    pub hosts: BTreeMap<String, HostAccess>,
    /// Connections at once; `None`: one for each host. Where there are fewer than hosts, each is closed after its use.
    pub connections: Option<usize>,
    /// Time between two looks at a host that tells nothing.
    pub period: Duration,
}
