//! The hosts of all groups as reconciles and their background tasks see them: what the fleet knows, in the planners' words, and what is being
//! done there. Nothing here dials a host or waits for one. It must not decide what is done on a host.
//!
//! | file | job |
//! |---|---|
//! | `config.rs` | names of hosts, and how a group is reached |
//! | `registry.rs` | groups as they are watched, and what is known of their hosts |
//! | `check.rs` | what is known of a host as a planner reads it, and what differs between two such |
//! | `users.rs`, `forward.rs` | which Deployments read which folders, and their wakes when something there changed |
//! | `workers.rs` | what is being done on hosts |
//! | `ledger.rs` | which hosts of a group are in an update, by which Deployment, for `minAvailable` |
//! | `failure.rs`, `host_keys.rs` | errors as planners read them; keys that were trusted on first use |

mod check;
mod config;
mod failure;
mod forward;
mod host_keys;
mod ledger;
mod registry;
mod users;
mod workers;

pub use self::{
    config::{GroupConfig, GroupKey, HostKey},
    failure::{credentials_failure, reason_of_ssh},
    forward::forward_changes,
    host_keys::HostKeyStore,
    ledger::{Answer, GroupName, Request},
    registry::{Hosts, Reach},
    workers::{HostWorkerKey, HostWorkers},
};
