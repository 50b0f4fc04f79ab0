//! The gate that every durable effect passes, and the kill points of the tests: in a debug build the process ends just before or just
//! after the effect that the environment names.
//!
//! `LANDFALL_HOST_GATE_LOG`: a file to which each effect's name is appended before it is done. `LANDFALL_HOST_KILL`: `NAME:N:before` or
//! `NAME:N:after`, the N-th (from 1) effect of that name in this process.

use std::io;

/// Does one durable effect. `name`: of a closed list, `<thing>.<act>`.
pub fn pass<T>(name: &'static str, effect: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _ = name;
    effect()
}
