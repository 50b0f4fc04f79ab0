//! Git remotes of every kind: real repositories, real servers over https and ssh, and Projects that use them.

mod https;
mod projects;
mod repositories;
mod ssh;
