//! No core dump of a process that holds secret values; what it starts has the limit that it was started with itself.
//!
//! Of a process with a limit of one byte the kernel writes no file, and starts no program that is given one by a pipe.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// From now on there is none of this process.
pub fn refuse() {
    let before = BEFORE.get_or_init(|| getrlimit(Resource::Core));
    let none = Rlimit { current: Some(before.maximum.unwrap_or(1).min(1)), maximum: before.maximum };
    let _ = setrlimit(Resource::Core, none);
}

/// Starts something with the limit that this process was started with.
pub fn as_before<T>(start: impl FnOnce() -> T) -> T {
    let Some(before) = BEFORE.get() else { return start() };
    let _ = setrlimit(Resource::Core, *before);
    let started = start();
    refuse();
    started
}
