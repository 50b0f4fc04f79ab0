//! The operator as a process: its leases, and the frame that all kinds share.

mod frame;
mod leases;
mod milestones;
