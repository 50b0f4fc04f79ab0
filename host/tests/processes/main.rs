//! Processes, keeper, probes and runtimes on this very machine: real processes, real files, real `/proc`.

mod identity;
mod support;
