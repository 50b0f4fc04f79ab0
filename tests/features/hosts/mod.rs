//! Hosts: the program that runs there, connections over SSH, identities, networks, HostGroups, and who may act on a host.

mod claims;
mod fleet;
mod groups;
mod identities;
mod network;
mod program;
mod reach;
mod run_as;
mod testhosts;
