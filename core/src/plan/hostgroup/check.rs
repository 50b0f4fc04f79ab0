//! What is known of one host, and what that means. Pure; whoever asks hosts is elsewhere.

use crate::model::Failure;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    api::{Reason, hostgroup::Host},
    model::facts::HostFacts,
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
}

/// Why a host that answers can't be used.
pub fn unfit(facts: &HostFacts) -> Option<Failure> {
    if !facts.missing_tools.is_empty() {
        let tools = facts.missing_tools.join(", ");
        return Some(Failure::terminal(
            Reason::HostUnsupported,
            format!("the host lacks {tools}; install it there (util-linux and coreutils, or busybox, have it)"),
        ));
    }
    if let Some((user, said)) = facts.cannot_become.iter().next() {
        return Some(Failure::terminal(
            Reason::BecomeRefused,
            format!(
                "the SSH user can't become {user} there ({said}); sudo takes this line: SSHUSER ALL=({user}) NOPASSWD: /bin/sh"
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
    if !facts.forwards {
        return Some(Failure::terminal(
            Reason::HostUnsupported,
            "forwarding: sshd there does not forward connections, and readiness is asked through them; set `AllowTcpForwarding local`",
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

/// Two hosts under one address; the port is the group's, so the address alone tells. CEL would be quadratic.
pub fn duplicate_address(hosts: &[Host]) -> Option<(&str, &str, &str)> {
    let mut observed: BTreeMap<String, &str> = BTreeMap::new();
    for host in hosts {
        if let Some(first) = observed.insert(host.machine(), &host.name) {
            return Some((first, &host.name, &host.address));
        }
    }
    None
}
