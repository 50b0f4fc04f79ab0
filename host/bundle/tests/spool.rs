//! The operator's spool: each bundle is made once, two at once at most, and a failure reaches all who wait.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use landfall_host_bundle::{Spool, SpoolError, decode, digest};
use landfall_host_protocol::Digest;

struct Store {
    folder: tempfile::TempDir,
    releases: Vec<Digest>,
    opened: AtomicUsize,
    open_now: AtomicUsize,
    most_open: AtomicUsize,
}

impl Store {
    fn new(releases: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let releases = (0..releases).map(|n| {
            let mut builder = tar::Builder::new(Vec::new());
            let bytes = format!("release {n}, ").repeat(5000 + n);
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, "app", bytes.as_bytes()).unwrap();
            let tar = builder.into_inner().unwrap();
            fs::write(folder.path().join(digest(&tar).as_str()), &tar).unwrap();
            digest(&tar)
        });
        let releases = releases.collect();
        Self { folder, releases, opened: 0.into(), open_now: 0.into(), most_open: 0.into() }
    }

    fn open(&self, digest: &Digest) -> io::Result<File> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        File::open(self.folder.path().join(digest.as_str()))
    }

    /// As `open`, and sees how many are made at once: each call holds its place until the others had time to come.
    fn open_slowly(&self, digest: &Digest) -> io::Result<File> {
        let now = self.open_now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(now, Ordering::SeqCst);
        for _ in 0..200 {
            thread::yield_now();
        }
        self.open_now.fetch_sub(1, Ordering::SeqCst);
        self.open(digest)
    }

    fn spool(&self, kept: usize) -> Spool {
        Spool::new(&self.folder.path().join("spool"), 2, kept).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path().join("spool")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn a_bundle_is_made_once_however_many_hosts_ask() {
    let store = Store::new(2);
    let spool = store.spool(4);
    let (base, release) = (&store.releases[0], &store.releases[1]);
    let begin = Barrier::new(20);
    let made: Vec<_> = thread::scope(|scope| {
        let ask = || {
            begin.wait();
            spool.get(release, Some(base), |digest| store.open_slowly(digest)).unwrap()
        };
        let hosts: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    assert!(made.iter().all(|bundle| Arc::ptr_eq(bundle, &made[0])));
    assert_eq!(store.opened.load(Ordering::SeqCst), 2, "the release and its base, once each");
    let bytes = fs::read(&made[0].path).unwrap();
    assert_eq!((digest(&bytes), bytes.len() as u64), (made[0].written.sha256.clone(), made[0].written.size));
    assert_eq!(&decode(&made[0].manifest).unwrap().release, release);
}

#[test]
fn no_more_than_two_are_made_at_once() {
    let store = Store::new(10);
    let spool = store.spool(20);
    thread::scope(|scope| {
        for release in &store.releases {
            scope.spawn(|| spool.get(release, None, |digest| store.open_slowly(digest)).unwrap());
        }
    });
    assert!(store.most_open.load(Ordering::SeqCst) <= 2);
    assert_eq!(store.files().len(), 10);
}

#[test]
fn a_failure_is_told_and_the_next_who_asks_gets_another_try() {
    let store = Store::new(1);
    let spool = store.spool(4);
    let release = &store.releases[0];
    let path = store.folder.path().join(release.as_str());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let error = spool.get(release, None, |digest| store.open(digest)).unwrap_err();
    assert!(matches!(&*error, SpoolError::Release(digest, _) if digest == release), "{error}");
    let missing = spool.get(&digest(b"none"), None, |digest| store.open(digest)).unwrap_err();
    assert!(missing.to_string().contains("can't be read"), "{missing}");
    assert!(store.files().is_empty());
    fs::write(&path, whole).unwrap();
    assert!(spool.get(release, None, |digest| store.open(digest)).is_ok());
}

#[test]
fn a_panic_while_a_bundle_is_made_leaves_nobody_waiting() {
    let store = Store::new(1);
    let spool = store.spool(4);
    let release = &store.releases[0];
    let panicked = thread::scope(|scope| scope.spawn(|| spool.get(release, None, |_| panic!("on purpose"))).join());
    assert!(panicked.is_err());
    assert!(spool.get(release, None, |digest| store.open(digest)).is_ok());
}

#[test]
fn what_is_held_stays_and_what_was_not_used_for_longest_goes() {
    let store = Store::new(5);
    let spool = store.spool(2);
    let get = |n: usize| spool.get(&store.releases[n], None, |digest| store.open(digest)).unwrap();
    let held = get(0);
    for n in [1, 2, 1, 3, 4] {
        drop(get(n));
    }
    assert!(held.path.exists());
    // The one held, the two that are kept, and the one that was made last, which was held while the others were looked at.
    assert!(store.files().len() <= 4, "{:?}", store.files());
    let opened = store.opened.load(Ordering::SeqCst);
    drop(get(4));
    drop(get(0));
    assert_eq!(store.opened.load(Ordering::SeqCst), opened);
    drop(get(2));
    assert_eq!(store.opened.load(Ordering::SeqCst), opened + 1, "it went");
}

#[test]
fn what_an_earlier_process_left_is_removed() {
    let store = Store::new(1);
    fs::create_dir(store.folder.path().join("spool")).unwrap();
    fs::write(store.folder.path().join("spool/1"), "left").unwrap();
    let spool = store.spool(4);
    assert!(store.files().is_empty());
    drop(spool);
}
