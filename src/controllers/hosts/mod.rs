//! What is known of every host, how old that is, and the one connection to each. Reconciles read here and never ask a host;
//! background tasks ask and write here. It must not decide what is done on a host.
//!
//! | file | job |
//! |---|---|
//! | `config.rs` | names of hosts, and how a group is reached |
//! | `registry.rs` | what is known of groups and hosts; `workers.rs`: what is being done on hosts |
//! | `slot.rs` | where a connection is kept; `link.rs`: how it is made; `open_link.rs`: as it is; how many there may be, and through which jump hosts: `fleet` |
//! | `watch.rs` | the task that checks one host; `check.rs`: what a check leaves known |
//! | `fleet.rs` | what such tasks share |
//! | `failure.rs`, `host_keys.rs` | errors as planners read them; keys that were trusted on first use |

mod check;
mod config;
mod failure;
mod fleet;
mod host_keys;
mod link;
mod open_link;
mod registry;
mod slot;
mod watch;
mod workers;

pub use self::{
    check::after,
    config::{GroupConfig, HostKey},
    failure::{credentials_failure, reason_of_ssh},
    fleet::Fleet,
    host_keys::HostKeyStore,
    link::link_soon,
    open_link::open_link,
    registry::{Dial, Registry},
    slot::Link,
    watch::{probe, probe_over, watch},
    workers::{HostWorkerKey, HostWorkers},
};
