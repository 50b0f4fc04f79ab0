#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::plan::ids::FenceToken;

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

/// `/dev/full` answers every write with "no space left", as a full disk does.
#[tokio::test]
async fn a_full_disk_has_an_error_of_its_own() {
    let full = std::io::Error::from_raw_os_error(28);
    assert!(matches!(StoreError::from_io("x", &full), StoreError::DiskFull { .. }));
    let wrapped = object_store::Error::Generic { store: "f", source: Box::new(std::io::Error::from_raw_os_error(28)) };
    let key = keys::version("a", "b", "c").unwrap();
    assert!(matches!(StoreError::from_backend(&key, "write", wrapped), StoreError::DiskFull { .. }));
}
