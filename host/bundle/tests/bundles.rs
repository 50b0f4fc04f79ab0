//! Bundles from one end to the other: real tars, real files, and what a broken or hostile bundle comes to.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use landfall_host_bundle::{
    Applied, ApplyError, Files, Release, ReleaseError, apply, check, decode, digest, encode, write,
};
use landfall_host_protocol::{Digest, Entry, EntryKind, Manifest};
use proptest::prelude::*;
use tempfile::TempDir;

/// Path, mode and bytes.
type Content<'a> = (&'a str, u32, &'a [u8]);

fn tar_of(files: &[Content<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Hundreds of small files are made: in memory where there is such a place, for a disk that others sync would make them wait.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if tempfile::tempfile_in(&memory).is_ok() { memory } else { std::env::temp_dir() }
}

fn opened(tar: &[u8]) -> Result<Release, ReleaseError> {
    let mut file = tempfile::tempfile_in(scratch()).unwrap();
    io::copy(&mut Cursor::new(tar), &mut file).unwrap();
    Release::read(file, &digest(tar))
}

fn release(files: &[Content<'_>]) -> Release {
    opened(&tar_of(files)).unwrap()
}

fn bundle(release: &Release, base: Option<&Release>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write(release, base, &mut bytes).unwrap();
    assert_eq!((written.size, &written.sha256), (bytes.len() as u64, &digest(&bytes)));
    bytes
}

/// A host: what it holds, and the folder into which a release is assembled.
struct Host {
    folder: TempDir,
    bases: BTreeMap<Digest, PathBuf>,
    finished: Vec<String>,
}

impl Host {
    fn new(base: &[Content<'_>]) -> Self {
        let mut host =
            Self { folder: tempfile::tempdir_in(scratch()).unwrap(), bases: BTreeMap::new(), finished: Vec::new() };
        for (n, (_, _, bytes)) in base.iter().enumerate() {
            let path = host.folder.path().join(format!("base-{n}"));
            fs::write(&path, bytes).unwrap();
            host.bases.insert(digest(bytes), path);
        }
        host
    }

    fn path(&self, entry: &str) -> PathBuf {
        self.folder.path().join("new").join(entry)
    }

    fn read(&self, entry: &str) -> Vec<u8> {
        fs::read(self.path(entry)).unwrap()
    }
}

impl Files for Host {
    fn base(&mut self, sha256: &Digest) -> io::Result<Option<File>> {
        self.bases.get(sha256).map(File::open).transpose()
    }

    fn create(&mut self, entry: &Entry) -> io::Result<File> {
        let path = self.path(&entry.path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        File::options().read(true).write(true).create_new(true).open(path)
    }

    fn finish(&mut self, entry: &Entry, _: File) -> io::Result<()> {
        self.finished.push(entry.path.clone());
        Ok(())
    }
}

/// Bytes that don't compress, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Assembles a release on a host that holds `base`, and compares every file.
fn carried(base: &[Content<'_>], new: &[Content<'_>]) -> (usize, Applied) {
    let (old, release) = (release(base), release(new));
    let bytes = bundle(&release, (!base.is_empty()).then_some(&old));
    let mut host = Host::new(base);
    let applied = apply(release.manifest(), bytes.as_slice(), &mut host).unwrap();
    for (path, _, content) in new {
        assert!(host.read(path) == *content, "{path}");
    }
    host.finished.sort();
    let mut paths: Vec<_> = new.iter().map(|(path, ..)| (*path).to_owned()).collect();
    paths.sort();
    assert_eq!(host.finished, paths);
    (bytes.len(), applied)
}

#[test]
fn a_host_that_holds_nothing_gets_every_file() {
    let text = b"the same words again and again, ".repeat(4000);
    let (raw, empty): (Vec<u8>, &[u8]) = (noise(1, 300_000), b"");
    let files = [("app.jar", 0o644, raw.as_slice()), ("bin/run", 0o755, &text), ("empty", 0o600, empty)];
    let (size, applied) = carried(&[], &files);
    assert_eq!(applied.sent, (raw.len() + text.len()) as u64);
    assert!(size < raw.len() + 2000, "{size}: text is compressed, noise costs next to nothing");
}

#[test]
fn files_that_the_base_has_are_not_sent_whatever_they_are_called() {
    let (lib, app) = (noise(2, 500_000), noise(3, 100_000));
    let base = [("lib/a.jar", 0o644, lib.as_slice()), ("app", 0o755, &app)];
    let new = [("app", 0o755, app.as_slice()), ("copy.jar", 0o600, &lib), ("lib/b.jar", 0o644, &lib)];
    let (size, applied) = carried(&base, &new);
    assert!(size < 200, "{size}");
    assert_eq!(applied, Applied { copied: (2 * lib.len() + app.len()) as u64, sent: 0 });
}

#[test]
fn what_moved_within_a_file_and_what_was_put_in_is_found() {
    let parts: Vec<Vec<u8>> = (0..40).map(|n| noise(n, 20_000 + n as usize * 311)).collect();
    let base = parts.concat();
    let mut moved = parts.clone();
    moved.reverse();
    moved.insert(7, noise(99, 5_000));
    moved[20].splice(100..100, b"a few bytes more".iter().copied());
    let new = moved.concat();
    let (size, _) = carried(&[("app-1.jar", 0o644, &base)], &[("app-2.jar", 0o644, &new)]);
    assert!(size < 7_000, "{size} bytes for 5016 new ones and 40 moves");
}

#[test]
fn times_that_changed_all_over_a_file_cost_a_few_bytes_each() {
    let base = noise(4, 1_000_000);
    let mut new = base.clone();
    for (n, byte) in new.iter_mut().enumerate() {
        if n % 200 < 4 {
            *byte = byte.wrapping_add(1);
        }
    }
    let (size, applied) = carried(&[("a.zip", 0o644, &base)], &[("a.zip", 0o644, &new)]);
    assert_eq!(applied.sent, 20_000, "blocks of 196 bytes are found beside one another");
    assert!(size < 35_000, "{size}");
}

/// A line into the table, as where a class was added: every number behind it is new, and none of 256 bytes in a row are as they were.
#[test]
fn a_table_that_moved_and_has_new_numbers_is_found_by_a_closer_look() {
    let content = noise(20, 400_000);
    let file = |added: bool| {
        let mut bytes = content.clone();
        for n in 0..3000u32 {
            if added && n == 700 {
                bytes.extend(b"PK-new-entry-in-between-of-another-length");
            }
            let number = n * 1237 + if added { 4242 } else { 0 };
            bytes.extend(
                format!("{:064x}", u128::from_le_bytes(noise(u64::from(n) + 99, 16).try_into().unwrap())).as_bytes(),
            );
            bytes.extend(number.to_le_bytes());
        }
        bytes
    };
    let (old, new) = (file(false), file(true));
    let (size, applied) = carried(&[("a.jar", 0o644, &old)], &[("a.jar", 0o644, &new)]);
    assert!(applied.sent < 3000 * 4 + 100, "{}", applied.sent);
    assert!(size < 14_000, "{size} bytes for 3000 numbers and a line");
}

#[test]
fn a_file_that_has_nothing_of_its_base_costs_no_more_than_the_whole() {
    let (base, new) = (noise(5, 700_000), noise(6, 650_000));
    let (size, _) = carried(&[("a", 0o644, &base)], &[("a", 0o644, &new)]);
    assert!(size < 650_000 + 700, "{size}");
}

#[test]
fn long_runs_of_one_byte_are_a_delta_like_any_other() {
    let base = [noise(7, 1000), vec![0; 3_000_000], noise(8, 1000)].concat();
    let new = [vec![0; 100_001], noise(8, 1000), vec![0; 4_000_000], vec![1; 70_000]].concat();
    let (size, _) = carried(&[("disk.img", 0o644, &base)], &[("disk.img", 0o644, &new)]);
    assert!(size < 3_000, "{size}");
}

#[test]
fn the_same_two_releases_always_make_the_same_bundle() {
    let (old, new) = (noise(9, 400_000), [noise(10, 9_000), noise(9, 400_000)].concat());
    let make = || {
        let (base, release) =
            (release(&[("a/b.jar", 0o644, &old)]), release(&[("a/b.jar", 0o644, &new), ("c", 0o600, b"c")]));
        bundle(&release, Some(&base))
    };
    assert!(make() == make());
}

#[test]
fn a_manifest_has_folders_modes_links_and_digests_of_the_tar() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o755);
    builder.append_data(&mut header, "bin/deep/run", b"run".as_slice()).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "bin/start", "deep/run").unwrap();
    let tar = builder.into_inner().unwrap();
    let release = opened(&tar).unwrap();
    let manifest = release.manifest();
    let kind = |path: &str| manifest.entries.iter().find(|entry| entry.path == path).map(|entry| entry.kind.clone());
    assert_eq!(manifest.release, digest(&tar));
    assert_eq!(kind("bin"), Some(EntryKind::Folder));
    assert_eq!(kind("bin/deep"), Some(EntryKind::Folder));
    assert_eq!(kind("bin/deep/run"), Some(EntryKind::File { mode: 0o755, size: 3, sha256: digest(b"run") }));
    assert_eq!(kind("bin/start"), Some(EntryKind::Link { target: "deep/run".to_owned() }));
    assert_eq!(decode(&encode(manifest)).as_ref(), Ok(manifest));
}

#[test]
fn a_tar_that_is_damaged_or_holds_what_no_release_holds_is_refused() {
    let tar = tar_of(&[("a", 0o644, b"bytes")]);
    let mut damaged = tempfile::tempfile_in(scratch()).unwrap();
    io::copy(&mut Cursor::new(&tar), &mut damaged).unwrap();
    let other = digest(b"another");
    assert!(matches!(Release::read(damaged, &other), Err(ReleaseError::Digest { .. })));

    let mut pipe = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Fifo);
    header.set_size(0);
    pipe.append_data(&mut header, "pipe", io::empty()).unwrap();
    for bad in [
        pipe.into_inner().unwrap(),
        tar_of(&[("a", 0o4755, b"setuid")]),
        tar_of(&[("a", 0o644, b"1"), ("a", 0o644, b"2")]),
        tar_of(&[("a", 0o644, b"1"), ("a/b", 0o644, b"2")]),
    ] {
        let error = opened(&bad).unwrap_err();
        assert!(matches!(error, ReleaseError::Content(_)), "{error}");
    }
}

#[test]
fn a_base_that_was_changed_or_is_gone_is_named_and_no_file_counts() {
    let old = noise(11, 300_000);
    let new = [old.as_slice(), b"more"].concat();
    let files = [("app.jar", 0o644, new.as_slice())];
    let (base, release) = (release(&[("app.jar", 0o644, &old)]), release(&files));
    let bytes = bundle(&release, Some(&base));

    let assembled = |change: &dyn Fn(&Path)| {
        let mut host = Host::new(&[("app.jar", 0o644, &old)]);
        let path = host.bases[&digest(&old)].clone();
        change(&path);
        if !path.exists() {
            host.bases.clear();
        }
        let error = apply(release.manifest(), bytes.as_slice(), &mut host).unwrap_err();
        assert_eq!(host.finished, Vec::<String>::new());
        assert!(error.to_string().contains("app.jar"), "{error}");
        error
    };
    let edited = assembled(&|path| {
        let mut bytes = old.clone();
        bytes[150_000] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    assert!(matches!(edited, ApplyError::Mismatch { .. }), "{edited}");
    let shorter = assembled(&|path| fs::write(path, &old[..1000]).unwrap());
    assert!(matches!(shorter, ApplyError::Base { .. }), "{shorter}");
    let gone = assembled(&|path| fs::remove_file(path).unwrap());
    assert!(matches!(gone, ApplyError::BaseMissing { .. }), "{gone}");
}

#[test]
fn a_copy_of_a_base_file_that_was_changed_is_found_too() {
    let lib = noise(12, 200_000);
    let files = [("lib.jar", 0o644, lib.as_slice())];
    let release = release(&files);
    let bytes = bundle(&release, Some(&release));
    for change in [[&lib[..100_000], b"X", &lib[100_001..]].concat(), lib[..1].to_vec(), [&lib[..], b"1"].concat()] {
        let mut host = Host::new(&files);
        fs::write(&host.bases[&digest(&lib)], change).unwrap();
        let error = apply(release.manifest(), bytes.as_slice(), &mut host).unwrap_err();
        assert!(matches!(error, ApplyError::Mismatch { .. }), "{error}");
    }
}

#[test]
fn a_disk_that_is_full_is_told_apart_from_a_bundle_that_is_wrong() {
    struct Full;
    impl Files for Full {
        fn base(&mut self, _: &Digest) -> io::Result<Option<File>> {
            Ok(None)
        }
        fn create(&mut self, _: &Entry) -> io::Result<File> {
            File::options().write(true).open("/dev/full")
        }
        fn finish(&mut self, _: &Entry, _: File) -> io::Result<()> {
            Ok(())
        }
    }
    let big = noise(13, 200_000);
    let release = release(&[("big", 0o644, &big)]);
    let error = apply(release.manifest(), bundle(&release, None).as_slice(), &mut Full).unwrap_err();
    let ApplyError::Write { entry, error } = error else { panic!("{error}") };
    assert_eq!((entry.as_str(), error.kind()), ("big", io::ErrorKind::StorageFull));
}

#[test]
fn a_bundle_that_ends_early_goes_on_or_is_another_releases_is_refused() {
    let (a, b) = (noise(14, 90_000), noise(15, 90_000));
    let one = release(&[("a", 0o644, &a), ("b", 0o644, &b)]);
    let refused = |manifest: &Manifest, bytes: &[u8]| {
        let error = apply(manifest, bytes, &mut Host::new(&[])).unwrap_err();
        assert!(matches!(error, ApplyError::Malformed { .. }), "{error}");
        error.to_string()
    };
    let bytes = bundle(&one, None);
    for length in [0, 5, 18, 19, 30, 70_000, 120_000, bytes.len() - 1] {
        refused(one.manifest(), &bytes[..length]);
    }
    refused(one.manifest(), &[bytes.as_slice(), b"more"].concat());
    assert!(refused(release(&[("a", 0o644, &a)]).manifest(), &bytes).contains("more than"));
    assert!(refused(release(&[("a", 0o644, &b)]).manifest(), &bytes).contains("wrong at a"));
    let three = release(&[("a", 0o644, &a), ("b", 0o644, &b), ("c", 0o644, b"c")]);
    assert!(refused(three.manifest(), &bytes).contains("wrong at c"));
}

#[test]
fn a_bundle_that_cannot_be_read_is_no_wrong_bundle() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            self.0.read(buffer)
        }
    }
    let a = noise(16, 300_000);
    let release = release(&[("a", 0o644, &a)]);
    let bytes = bundle(&release, None);
    for length in [3, 100, 200_000] {
        let error = apply(release.manifest(), Broken(&bytes[..length]), &mut Host::new(&[])).unwrap_err();
        assert!(matches!(error, ApplyError::Read(_)), "{error}");
    }
}

/// A bundle with these records.
fn forged(records: &[&[u8]]) -> Vec<u8> {
    let body = zstd::bulk::compress(&records.concat(), 1).unwrap();
    [b"landfall bundle 1\n".as_slice(), &body].concat()
}

#[test]
fn forged_ops_reach_neither_beyond_the_base_nor_beyond_the_file() {
    let old = noise(17, 1000);
    let files = [("app", 0o644, [7u8; 100].as_slice())];
    let release = release(&files);
    let (result, base) = (digest(&[7; 100]).to_bytes(), digest(&old).to_bytes());
    let size = [0xe8, 0x07];
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let ops: [&[u8]; 9] = [
        &[0, 0],
        &[101],
        &[0, 101, 0],
        &[0, 50, 0xff, 0xff, 0x03],
        &[0, 50, 0x01],
        &most,
        &[&[0], most.as_slice(), &[0]].concat(),
        &[&[0, 50], most.as_slice()].concat(),
        &[&[0, 1], &most[..9], &[0x7f]].concat(),
    ];
    for ops in ops {
        let bytes = forged(&[b"D", &result, &base, &size, ops, b"E"]);
        let mut host = Host::new(&[("app", 0o644, &old)]);
        let error = apply(release.manifest(), bytes.as_slice(), &mut host).unwrap_err();
        assert!(matches!(error, ApplyError::Malformed { .. }), "{ops:?}: {error}");
        assert!(host.path("app").metadata().unwrap().len() <= 100);
    }
    let unknown = forged(&[b"X", &result, b"E"]);
    assert!(apply(release.manifest(), unknown.as_slice(), &mut Host::new(&[])).is_err());
}

#[test]
fn a_bundle_that_wants_much_memory_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(b"landfall bundle 1\n".to_vec(), 1).unwrap();
    encoder.window_log(27).unwrap();
    io::copy(&mut io::repeat(0).take(1 << 20), &mut encoder).unwrap();
    let bytes = encoder.finish().unwrap();
    let release = release(&[("a", 0o644, b"a")]);
    let error = apply(release.manifest(), bytes.as_slice(), &mut Host::new(&[])).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn a_manifest_that_leads_out_is_refused_before_any_file_is_made() {
    let release = release(&[("a", 0o644, b"a")]);
    let mut manifest = release.manifest().clone();
    manifest.entries[0].path = "../a".to_owned();
    assert!(check(&manifest).is_err());
    let mut host = Host::new(&[]);
    let error = apply(&manifest, bundle(&release, None).as_slice(), &mut host).unwrap_err();
    assert!(error.to_string().contains("../a"), "{error}");
    assert!(!host.folder.path().join("new").exists());
}

/// Edits that a new version may consist of.
#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Move(usize, usize, usize),
    Flip(usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (any::<usize>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<usize>(), 0usize..900).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<usize>(), 0usize..900, any::<usize>()).prop_map(|(at, length, to)| Edit::Move(at, length, to)),
        any::<usize>().prop_map(Edit::Flip),
    ];
    prop::collection::vec(edit, 0..12)
}

fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for edit in edits {
        let within = |at: usize, bytes: &Vec<u8>| at % (bytes.len() + 1);
        match edit {
            Edit::Insert(at, new) => {
                let at = within(*at, &bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Remove(at, length) => {
                let at = within(*at, &bytes);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Edit::Move(at, length, to) => {
                let at = within(*at, &bytes);
                let piece: Vec<u8> = bytes.drain(at..bytes.len().min(at + length)).collect();
                let to = within(*to, &bytes);
                bytes.splice(to..to, piece);
            }
            Edit::Flip(at) => {
                let at = within(*at, &bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x55;
                }
            }
        }
    }
    bytes
}

proptest! {
    #[test]
    fn whatever_was_edited_arrives(
        seed: u64, length in 0usize..20_000, dense: bool, first in edits(), second in edits(),
    ) {
        let old = if dense { noise(seed, length) } else { noise(seed, length).iter().map(|b| b & 1).collect() };
        let (one, two) = (edited(&old, &first), edited(&old, &second));
        let base = [("app.jar", 0o644, old.as_slice()), ("lib/x.jar", 0o644, &one)];
        carried(&base, &[("app.jar", 0o755, one.as_slice()), ("lib/x-2.jar", 0o644, &two), ("z", 0o600, &one)]);
    }

    #[test]
    fn any_change_of_a_bundle_is_an_error_or_the_right_release(
        seed: u64, at: usize, with in prop::collection::vec(any::<u8>(), 1..5), inside: bool,
    ) {
        let old = noise(seed, 5_000);
        let new = edited(&old, &[Edit::Insert(700, b"new".to_vec()), Edit::Move(1000, 900, 4000)]);
        let (base, release) = (release(&[("a", 0o644, &old)]), release(&[("a", 0o644, &new), ("b", 0o644, b"b")]));
        let mut bytes = bundle(&release, Some(&base));
        // Either the compressed bytes are changed, or the records in them.
        let mut body = if inside { zstd::stream::decode_all(&bytes[18..]).unwrap() } else { bytes.split_off(18) };
        bytes.truncate(18);
        let at = at % body.len();
        let end = body.len().min(at + with.len());
        body.splice(at..end, with);
        bytes.extend(if inside { zstd::bulk::compress(&body, 1).unwrap() } else { body });
        let mut host = Host::new(&[("a", 0o644, &old)]);
        if apply(release.manifest(), bytes.as_slice(), &mut host).is_ok() {
            prop_assert!(host.read("a") == new);
            prop_assert_eq!(host.read("b"), b"b");
        }
        prop_assert!(!host.path("a").exists() || host.read("a").len() <= new.len());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), inside: bool) {
        let release = release(&[("a", 0o644, b"some bytes"), ("b", 0o644, b"others")]);
        let bytes = if inside { forged(&[&bytes]) } else { bytes };
        prop_assert!(apply(release.manifest(), bytes.as_slice(), &mut Host::new(&[])).is_err());
    }

    #[test]
    fn any_text_is_a_manifest_or_refused(text in ".{0,200}") {
        let _ = decode(text.as_bytes());
    }
}

#[test]
fn the_base_need_not_be_read_where_the_same_content_is_there() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    struct Counting(Host);
    impl Files for Counting {
        fn base(&mut self, sha256: &Digest) -> io::Result<Option<File>> {
            ASKED.fetch_add(1, Ordering::Relaxed);
            self.0.base(sha256)
        }
        fn create(&mut self, entry: &Entry) -> io::Result<File> {
            self.0.create(entry)
        }
        fn finish(&mut self, entry: &Entry, file: File) -> io::Result<()> {
            self.0.finish(entry, file)
        }
    }
    let lib = noise(18, 50_000);
    let files = [("a", 0o644, lib.as_slice()), ("b", 0o644, &lib), ("c", 0o644, &lib)];
    let release = release(&files);
    let mut host = Counting(Host::new(&files));
    apply(release.manifest(), bundle(&release, Some(&release)).as_slice(), &mut host).unwrap();
    assert_eq!(ASKED.load(Ordering::Relaxed), 1);
}

/// A file of pieces: noise, tables with numbers, runs of one byte.
fn pieces() -> impl Strategy<Value = Vec<(u8, u64, usize)>> {
    prop::collection::vec((0u8..4, 0u64..6, 0usize..120_000), 3..14)
}

fn made(pieces: &[(u8, u64, usize)], number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, seed, length) in pieces {
        match kind {
            0 | 1 => bytes.extend(noise(*seed, *length)),
            2 => bytes.resize(bytes.len() + length, *seed as u8),
            _ => {
                for n in 0..length / 100 {
                    bytes.extend(noise(seed * 10_000 + n as u64, 50 + n % 40));
                    bytes.extend((n as u32 * 991 + number).to_le_bytes());
                }
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(16), ..ProptestConfig::default() })]

    #[test]
    fn large_files_arrive_whatever_moved_in_them(
        old in pieces(), edits in edits(), moved in prop::collection::vec(any::<prop::sample::Index>(), 0..6), number in 0u32..3,
    ) {
        let mut new = old.clone();
        for index in &moved {
            let piece = new.remove(index.index(new.len()));
            new.insert(index.index(new.len() + 1), piece);
        }
        let (old, new) = (made(&old, 0), edited(&made(&new, number), &edits));
        carried(&[("app.jar", 0o644, &old)], &[("app.jar", 0o644, &new)]);
    }
}
