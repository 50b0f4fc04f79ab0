//! Hosts without Kubernetes: one worker for each machine of each group owns its connection, its session with `landfall-host`, what is known
//! of it, and a queue of orders. Reconciles read here and never wait for a host. It must not decide what is to be done on one.
//!
//! A worker is never shared across namespaces, users, credentials, roots or host-key policies. One that is slow, silent or hostile holds
//! up itself alone: connections, sign-ins, descriptors and bytes have budgets. Namespaces have fair parts of connections and sign-ins
//! (`effects/fair.rs`), and hosts that never answered, or not last time, share a quarter of the connections.
//!
//! | file | job |
//! |---|---|
//! | `access.rs` | which host, and how it is reached |
//! | `session.rs` | what a worker asks of a host, as an interface; `ssh.rs`: over SSH; `jump_route.rs`: through other hosts |
//! | `settings.rs`, `budget.rs`, `limit.rs` | what all workers share; `backoff.rs`: when one dials again |
//! | `order.rs`, `queue.rs` | what is to be done, and in which order |
//! | `known.rs` | what is known of a host; `changes.rs`: which hosts changed |
//! | `worker.rs` | dialling, and dialling again; `serve.rs`: one session from its welcome to its end; `shared.rs`: what both know |
//! | `registry.rs` | all workers |

mod access;
mod backoff;
mod budget;
mod changes;
mod jump_route;
mod known;
mod limit;
mod order;
mod queue;
mod registry;
mod serve;
mod session;
mod settings;
mod shared;
mod ssh;
#[cfg(test)]
mod tests;
mod worker;

pub use self::{
    access::{GroupAccess, HostAccess, HostId},
    budget::{BudgetSettings, Budgets, Short, raise_descriptors},
    changes::{Changed, Changes},
    jump_route::JumpRoute,
    known::{Known, Link, Waiting},
    order::{FleetError, Object, Order, Outcome, Priority, Ticket, Work},
    registry::Fleet,
    session::{Dialer, Dialled, PushSource, Session, TaskEvents},
    settings::FleetSettings,
    ssh::SshDialer,
    worker::{Hold, NoSession},
};
