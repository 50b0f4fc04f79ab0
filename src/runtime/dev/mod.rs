//! The development control plane: the upstream API server, controllers and etcd on this machine, with landfall on them.
//!
//! `landfall dev` is two processes: the supervisor that the user started ([`dev`]), which finds the programs and holds the data folder,
//! and its half in a process namespace of its own ([`inside`]), which runs everything. Nothing here knows what landfall deploys.

mod args;
mod binaries;
mod commands;
mod error;
mod files;
mod folder;
mod gobuild;
mod inside;
mod install;
mod kubeconfig;
mod namespace;
mod pki;
mod plane;
mod ports;
mod reaper;
mod service;
mod supervisor;
mod view;

pub use args::DevArgs;
pub use binaries::Binaries;
pub use error::DevError;
pub use supervisor::dev;

/// A line for people, on stderr: stdout has only the one line that scripts wait for.
pub(crate) fn say(line: &str) {
    eprintln!("landfall dev: {line}");
}
