//! Which host, and how it is reached.

use std::{collections::BTreeMap, time::Duration};

use landfall_host_protocol::Hello;

use crate::effects::ssh::{Credentials, SshTarget};

/// The longest time until the program runs, which may have to be brought over a slow line first. It has shorter limits of its own for
/// what stands still.
pub(super) const PROGRAM_LIMIT: Duration = Duration::from_secs(600);

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
    /// Hash of all the above but the address, Secrets' contents included, the same for all hosts of a group: a
    /// connection of another hash or address is closed.
    pub hash: u64,
}

impl HostAccess {
    /// The longest time from the first packet to the program found, of one machine.
    pub(super) fn sign_in_limit(&self) -> Duration {
        (self.target.connect_timeout * 2 + Duration::from_secs(10)).max(Duration::from_secs(30))
    }

    /// Whether a session that was made with `self` is out of date.
    pub(super) fn is_other(&self, now: &Self) -> bool {
        let at = |access: &Self| (access.target.address.clone(), access.target.port);
        self.hash != now.hash || at(self) != at(now)
    }

    /// The same from the first jump host to the first facts.
    pub(super) fn dial_limit(&self) -> Duration {
        let machines = u32::try_from(self.jumps.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.sign_in_limit().saturating_mul(machines).saturating_add(PROGRAM_LIMIT)
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
    /// Bytes a second that an upload to a host has to reach; `None`: it may be however slow.
    pub least_rate: Option<u64>,
}
