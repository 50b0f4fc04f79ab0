//! What can be done about a HostGroup. Each action may be done twice.

use std::{collections::BTreeSet, fmt};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask every host by schedule from now on, with this spec; stop asking those that left. Where the group has no key, ask none, and close
    /// every connection.
    Watch,
    /// Ask these now.
    Probe(BTreeSet<String>),
    /// Forget the key that was seen first on this host or jump host.
    ForgetHostKey { name: String, stamp: String },
    /// The group goes: close every connection.
    Forget,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Watch => f.write_str("watch"),
            Self::Probe(hosts) => write!(f, "probe {}", hosts.iter().cloned().collect::<Vec<_>>().join(" ")),
            Self::ForgetHostKey { name, .. } => write!(f, "forget-host-key {name}"),
            Self::Forget => f.write_str("forget"),
        }
    }
}
