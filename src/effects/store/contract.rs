//! What every place for objects must do, run against each of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tokio::io::AsyncReadExt;

use super::{memory::Memory, *};
use crate::model::ids::FenceToken;

fn gate() -> Gate {
    Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 })
}

/// Each place once, empty, with its name. A new one is added here.
fn each() -> Vec<(&'static str, Store, tempfile::TempDir)> {
    let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = Store::folder(dir.path().join("store")).unwrap();
    vec![("folder", folder, dir), ("memory", Memory::default().store(), scratch)]
}

#[tokio::test]
async fn of_many_who_create_one_key_exactly_one_wins_and_all_learn_what_is_there() {
    for (place, store, _dir) in each() {
        let key = keys::version("shop", "petclinic", "v1").unwrap();
        let tries = (0..20_u8).map(|n| {
            let (store, key) = (store.clone(), key.clone());
            async move { store.create(&gate(), &key, vec![n; 10]).await.unwrap() }
        });
        let results = futures::future::join_all(tries).await;
        assert_eq!(results.iter().filter(|r| **r == Create::Created).count(), 1, "{place}");
        let stored = store.get(&key).await.unwrap().unwrap();
        for (n, result) in results.iter().enumerate() {
            match result {
                Create::Created => assert_eq!(stored, vec![n as u8; 10], "{place}"),
                Create::Exists(found) => assert_eq!(*found, stored, "{place}"),
            }
        }
    }
}

#[tokio::test]
async fn listing_names_every_key_below_a_folder_and_no_other() {
    for (place, store, _dir) in each() {
        for n in [1, 2, 10] {
            store.create(&gate(), &keys::number("shop", "pet", n).unwrap(), b"u".to_vec()).await.unwrap();
        }
        store.create(&gate(), &keys::number("shop", "pet-other", 7).unwrap(), b"u".to_vec()).await.unwrap();
        let numbers = keys::numbers("shop", "pet").unwrap();
        let listed = store.list(&numbers).await.unwrap();
        assert_eq!(listed.iter().map(Key::name).collect::<Vec<_>>(), ["1", "10", "2"], "{place}");
        assert_eq!(store.entries(&numbers).await.unwrap().iter().map(|entry| entry.bytes).sum::<u64>(), 3, "{place}");
        assert_eq!(store.list(&keys::numbers("shop", "none").unwrap()).await.unwrap(), [], "{place}");
        assert_eq!(store.get(&keys::number("shop", "pet", 3).unwrap()).await.unwrap(), None, "{place}");
    }
}

#[tokio::test]
async fn a_part_of_an_object_is_read_and_nothing_behind_its_end() {
    for (place, store, _dir) in each() {
        let key = keys::number("shop", "pet", 1).unwrap();
        store.create(&gate(), &key, b"0123456789".to_vec()).await.unwrap();
        assert_eq!(store.size(&key).await.unwrap(), Some(10), "{place}");
        assert_eq!(store.read(&key, 7, 100).await.unwrap(), b"789", "{place}");
        assert_eq!(store.read(&key, 10, 1).await.unwrap(), b"", "{place}");
        let absent = keys::number("shop", "pet", 2).unwrap();
        assert_eq!(store.size(&absent).await.unwrap(), None, "{place}");
        assert_eq!(store.read(&absent, 0, 1).await.unwrap(), b"", "{place}");
    }
}

#[tokio::test]
async fn what_is_removed_is_gone_with_all_below_it_and_may_be_removed_again() {
    for (place, store, _dir) in each() {
        let (kept, folder) = (keys::number("shop", "other", 1).unwrap(), keys::numbers("shop", "pet").unwrap());
        store.create(&gate(), &kept, b"k".to_vec()).await.unwrap();
        for n in 1..=3 {
            store.create(&gate(), &keys::number("shop", "pet", n).unwrap(), b"u".to_vec()).await.unwrap();
        }
        for _ in 0..2 {
            store.remove(&gate(), &keys::number("shop", "pet", 1).unwrap()).await.unwrap();
            store.remove_below(&gate(), &folder, None).await.unwrap();
            assert_eq!(store.list(&folder).await.unwrap(), [], "{place}");
        }
        assert_eq!(store.get(&kept).await.unwrap().as_deref(), Some(&b"k"[..]), "{place}");
        assert_eq!(store.sweep(&gate()).await.unwrap(), 0, "{place}");
    }
}

#[tokio::test]
async fn a_release_is_named_by_its_bytes_and_comes_out_as_a_stream_as_often_as_it_is_opened() {
    for (place, store, dir) in each() {
        let tar = dir.path().join("a.tar");
        let bytes: Vec<u8> = (0..3 * 1024 * 1024 + 5).map(|n| (n % 251) as u8).collect();
        std::fs::write(&tar, &bytes).unwrap();
        let first = store.put_release(&gate(), &tar).await.unwrap();
        let again = store.put_release(&gate(), &tar).await.unwrap();
        let found = store.release(&first.digest).await.unwrap();
        for release in [&first, &again, &found] {
            assert_eq!((&release.digest, release.size), (&first.digest, bytes.len() as u64), "{place}");
            for _ in 0..2 {
                let mut read = Vec::new();
                release.tar.open().await.unwrap().read_to_end(&mut read).await.unwrap();
                assert!(read == bytes, "{place}");
            }
        }
        assert!(store.has_release(&first.digest).await.unwrap(), "{place}");
        store.remove_release(&gate(), &first.digest).await.unwrap();
        assert!(!store.has_release(&first.digest).await.unwrap(), "{place}");
        assert!(matches!(store.release(&first.digest).await, Err(StoreError::NotFound { .. })), "{place}");
    }
}

#[tokio::test]
async fn a_shut_gate_writes_nothing() {
    for (place, store, _dir) in each() {
        let key = keys::version("shop", "petclinic", "v1").unwrap();
        let refused = store.create(&Gate::shut(), &key, b"x".to_vec()).await;
        assert!(matches!(refused, Err(StoreError::Shut(_))), "{place}");
        assert_eq!(store.get(&key).await.unwrap(), None, "{place}");
    }
}
