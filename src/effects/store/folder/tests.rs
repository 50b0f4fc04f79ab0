//! What only a store in a folder meets: a damaged file, a full disk. What every store must do is in `contract`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::{Create, Store, StoreError, keys};
use crate::{effects::gate::Gate, model::ids::FenceToken};

fn gate() -> Gate {
    Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 })
}

#[tokio::test]
async fn a_damaged_release_is_seen_and_nothing_half_stored_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::folder(dir.path().join("store")).unwrap();
    let tar = dir.path().join("a.tar");
    std::fs::write(&tar, vec![7; 3 * 1024 * 1024 + 5]).unwrap();
    let first = store.put_release(&gate(), &tar).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("store/incoming")).unwrap().count(), 0);
    std::fs::write(first.tar.name(), b"other").unwrap();
    assert!(matches!(store.release(&first.digest).await, Err(StoreError::Damaged { .. })));
    assert!(matches!(store.put_release(&gate(), &tar).await, Err(StoreError::Damaged { .. })));
    assert!(matches!(store.release(&"0".repeat(64)).await, Err(StoreError::NotFound { .. })));
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        assert!(mount.args(["-t", "tmpfs", "-o", "size=512k", "small"]).arg(dir.path()).status().unwrap().success());
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing_half_written_and_passes() {
    let (disk, dir) = (SmallDisk::new(), tempfile::tempdir().unwrap());
    let store = Store::folder(disk.0.path()).unwrap();
    let tar = dir.path().join("a.tar");
    std::fs::write(&tar, vec![7; 1024 * 1024]).unwrap();
    let key = keys::version("shop", "petclinic", "v1").unwrap();
    let refused = store.put_release(&gate(), &tar).await.unwrap_err();
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    let refused = store.create(&gate(), &key, vec![1; 1024 * 1024]).await.unwrap_err();
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    assert_eq!(refused.class(), crate::model::Class::Transient);
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.list(&keys::versions("shop", "petclinic").unwrap()).await.unwrap(), []);
    assert_eq!(std::fs::read_dir(disk.0.path().join("incoming")).unwrap().count(), 0);
    // With room again, the same calls succeed.
    std::fs::write(&tar, b"small").unwrap();
    store.put_release(&gate(), &tar).await.unwrap();
    assert_eq!(store.create(&gate(), &key, b"x".to_vec()).await.unwrap(), Create::Created);
}
