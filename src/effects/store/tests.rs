#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::model::ids::FenceToken;

fn gate() -> Gate {
    Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 })
}

#[tokio::test]
async fn of_many_who_create_one_key_exactly_one_wins_and_all_learn_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::folder(dir.path()).unwrap();
    let key = keys::version("shop", "petclinic", "v1").unwrap();
    let tries = (0..20_u8).map(|n| {
        let (store, key) = (store.clone(), key.clone());
        async move { store.create(&gate(), &key, vec![n; 10]).await.unwrap() }
    });
    let results = futures::future::join_all(tries).await;
    assert_eq!(results.iter().filter(|r| **r == Create::Created).count(), 1);
    let stored = store.get(&key).await.unwrap().unwrap();
    for (n, result) in results.iter().enumerate() {
        match result {
            Create::Created => assert_eq!(stored, vec![n as u8; 10]),
            Create::Exists(found) => assert_eq!(*found, stored),
        }
    }
}

#[tokio::test]
async fn listing_names_every_key_below_a_folder_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::folder(dir.path()).unwrap();
    for n in [1, 2, 10] {
        store.create(&gate(), &keys::number("shop", "pet", n).unwrap(), b"u".to_vec()).await.unwrap();
    }
    store.create(&gate(), &keys::number("shop", "pet-other", 7).unwrap(), b"u".to_vec()).await.unwrap();
    let listed = store.list(&keys::numbers("shop", "pet").unwrap()).await.unwrap();
    assert_eq!(listed.iter().map(Key::name).collect::<Vec<_>>(), ["1", "10", "2"]);
    assert_eq!(store.list(&keys::numbers("shop", "none").unwrap()).await.unwrap(), []);
    assert_eq!(store.get(&keys::number("shop", "pet", 3).unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn a_release_is_named_by_its_bytes_and_damage_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::folder(dir.path().join("store")).unwrap();
    let tar = dir.path().join("a.tar");
    std::fs::write(&tar, vec![7; 3 * 1024 * 1024 + 5]).unwrap();
    let first = store.put_release(&gate(), &tar).await.unwrap();
    assert_eq!(first, store.put_release(&gate(), &tar).await.unwrap());
    assert_eq!(first, store.release(&first.digest).await.unwrap());
    assert_eq!(std::fs::read_dir(dir.path().join("store/incoming")).unwrap().count(), 0);
    std::fs::write(&first.path, b"other").unwrap();
    assert!(matches!(store.release(&first.digest).await, Err(StoreError::Damaged { .. })));
    assert!(matches!(store.put_release(&gate(), &tar).await, Err(StoreError::Damaged { .. })));
    assert!(matches!(store.release(&"0".repeat(64)).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_shut_gate_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::folder(dir.path()).unwrap();
    let key = keys::version("shop", "petclinic", "v1").unwrap();
    let refused = store.create(&Gate::shut(), &key, b"x".to_vec()).await;
    assert!(matches!(refused, Err(StoreError::Shut(_))));
    assert_eq!(store.get(&key).await.unwrap(), None);
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
