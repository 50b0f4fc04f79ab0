//! A uid for one script, that no other process of the machine has while it runs.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// 60706 to 61105: neither Debian nor systemd hands these out.
const FIRST: u32 = 60_706;
const COUNT: u32 = 400;
/// Shared by all operators of a machine; where it can't be had, the executor's folder serves.
const SHARED: &str = "/run/landfall/uids";

/// Held for as long as the value lives, and no longer than the process.
pub(super) struct Slot {
    pub(super) uid: u32,
    _lock: File,
}

/// Takes a free uid.
pub(super) fn take(fallback: &Path) -> io::Result<Slot> {
    let folder = match fs::create_dir_all(SHARED) {
        Ok(()) => PathBuf::from(SHARED),
        Err(_) => fallback.join("uids"),
    };
    fs::create_dir_all(&folder)?;
    let begin = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    for n in 0..COUNT {
        let uid = FIRST + (begin + n) % COUNT;
        let lock = File::options().create(true).append(true).open(folder.join(uid.to_string()))?;
        if lock.try_lock().is_ok() && !in_use(uid) {
            return Ok(Slot { uid, _lock: lock });
        }
    }
    Err(io::Error::other(format!("all {COUNT} user ids for builds ({FIRST} and up) are in use")))
}

fn in_use(uid: u32) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    pids.any(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == uid))
}
