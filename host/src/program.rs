//! Where our own program lies, which runs again as runner, keeper or hand of another user.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

static INSTEAD: OnceLock<PathBuf> = OnceLock::new();

/// The program that children are started from: the file of this process, even where it was removed since.
pub fn path() -> PathBuf {
    if let Some(instead) = INSTEAD.get() {
        return instead.clone();
    }
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}

/// Tests run this library in a program of their own: their children are started from this one.
pub fn use_for_children(path: &Path) {
    let _ = INSTEAD.set(path.to_owned());
}

/// The digest in the program's own name (`.landfall/bin/<digest>`).
pub fn digest() -> Option<landfall_host_protocol::Digest> {
    path().file_name().and_then(|name| name.to_str()).and_then(landfall_host_protocol::Digest::parse)
}
