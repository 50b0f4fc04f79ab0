//! Hosts: the script that runs there, calls over SSH, identities, networks, HostGroups, and who may act on a host.

mod calls;
mod claims;
mod faults;
mod fleet;
mod groups;
mod helper;
mod identities;
mod network;
mod program;
mod run_as;
mod testhosts;
