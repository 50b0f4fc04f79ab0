//! Whether scripts have to end for want of disk. All of them share it with the store, and a script can't be held to a share of a folder.

use std::path::Path;

use rustix::fs::{StatVfs, statvfs};

/// So much is left to the operator, where 5 % of the disk are more: bytes, and files.
const FREE_BYTES_MIN: u64 = 1 << 30;
const FREE_INODES_MIN: u64 = 10_000;

/// What can't be told is not full.
pub(super) fn nearly_full(path: &Path) -> bool {
    statvfs(path).is_ok_and(|disk| low(&disk))
}

fn low(disk: &StatVfs) -> bool {
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    // Some file systems have no number of files.
    bytes(disk.f_bavail) < FREE_BYTES_MIN.min(bytes(disk.f_blocks) / 20)
        || (disk.f_files > 0 && disk.f_favail < FREE_INODES_MIN.min(disk.f_files / 20))
}
