//! What a HostGroup's status says, and which hosts are to be asked. It must not know how a host is asked.
//!
//! `plan.rs` is the list of calls; `observed.rs` is their input, `action.rs` and `status.rs` their output.

mod action;
mod check;
mod events;
mod forget;
mod observed;
mod plan;
mod records;
mod schedule;
mod status;
mod suspend;
mod verdict;
mod view;

pub use self::{
    action::Action,
    check::{HostCheck, dialled, invalid_hosts, unfit},
    forget::machine_of,
    observed::Observed,
    plan::plan,
    records::HostKeyRecord,
    suspend::suspended,
};
