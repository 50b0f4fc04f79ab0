//! Bytes on their way to a host: `incoming/<sha256>` is whole and verified, `incoming/<sha256>.part` has begun. What came before a cut is
//! not sent again. It knows no release and no task; nothing is held in memory but the piece at hand.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use landfall_host_protocol::{Digest, Refusal};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::{facts, files, folder::Folder, gate};

/// Objects that a folder holds at most, whole ones and parts; beyond it the oldest go.
const MAX_OBJECTS: usize = 16;
/// Bytes that are left free for the records of tasks and keepers.
const RESERVE: u64 = 256 << 10;
/// The folder is locked for moments.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that are read at a time.
const BLOCK: usize = 64 << 10;
/// Names that were there when the last task ended.
const SEEN: &str = "seen";
/// Names in the order in which their bytes began to come last.
const ORDER: &str = "order";

/// One object as it was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub sha256: Digest,
    pub size: u64,
}

/// Bytes of an object as they come.
#[derive(Debug)]
pub enum Piece {
    Some(Vec<u8>),
    Last(Vec<u8>),
}

/// Bytes that are here already; the object's size where it is whole.
pub fn have(folder: &Folder, object: &Object) -> Result<u64, Refusal> {
    if let Ok(metadata) = fs::symlink_metadata(folder.incoming(&object.sha256)) {
        return if metadata.len() == object.size { Ok(object.size) } else { Err(wrong_size(metadata.len(), object)) };
    }
    match fs::symlink_metadata(part(folder, &object.sha256)) {
        // As many bytes as it shall have, and yet not renamed: what is missing is the verification, which the last byte brings.
        Ok(metadata) => Ok(metadata.len().min(object.size.saturating_sub(1))),
        Err(_) => Ok(0),
    }
}

/// Takes the pieces from `from` on, until the last one; the object is whole, verified and synced then. Where the pieces end before that, what
/// came stays for the next time.
pub fn receive(
    folder: &Folder,
    object: &Object,
    from: u64,
    pieces: impl Iterator<Item = Piece>,
) -> Result<(), Refusal> {
    if have(folder, object)? == object.size && folder.incoming(&object.sha256).exists() {
        return Ok(());
    }
    make_folder(folder).map_err(|error| failed(&error, folder, object.size))?;
    let path = part(folder, &object.sha256);
    let (file, offered) = open_part(folder, &path, from).map_err(|error| failed(&error, folder, object.size))?;
    if from > offered.min(object.size) {
        return Err(Refusal::BadInput {
            field: "from".to_owned(),
            why: format!("{offered} bytes are here, the bytes that follow begin at {from}"),
        });
    }
    let missing = object.size.saturating_sub(from);
    let (free, inodes) = facts::space(&folder.dot());
    if missing.saturating_add(RESERVE) > free {
        let _ = fs::remove_file(&path);
        return Err(Refusal::Full(landfall_host_protocol::Full {
            path: folder.dot().display().to_string(),
            free_bytes: free,
            free_inodes: inodes,
            needed: missing,
            quota: false,
        }));
    }
    let mut part = Part { file, hash: Sha256::new(), length: 0 };
    let written = part.resume(from).and_then(|()| part.take(object, pieces));
    match written {
        Ok(Ok(())) => {}
        Ok(Err(Cut::Early)) => {
            return Err(Refusal::BadInput {
                field: "bytes".to_owned(),
                why: format!("the bytes ended at {} of {}; they stay for the next time", part.length, object.size),
            });
        }
        Ok(Err(Cut::TooMany)) => {
            let _ = fs::remove_file(&path);
            return Err(Refusal::BadInput {
                field: "size".to_owned(),
                why: format!("more bytes came than the {} that were announced", object.size),
            });
        }
        Err(error) => {
            // An application that shares the disk needs the room more than the next try does.
            if matches!(files::refusal(&error, &path, 0), Refusal::Full(_)) {
                let _ = fs::remove_file(&path);
            }
            return Err(failed(&error, folder, missing));
        }
    }
    part.finish(folder, object, &path)
}

/// The old go when a task has ended: what was there when the one before ended and is no longer needed. No clock decides that.
pub fn collect(folder: &Folder) -> io::Result<()> {
    let Some(incoming) = incoming(folder) else { return Ok(()) };
    let seen = note(&incoming, SEEN);
    let mut left = Vec::new();
    for (name, path) in objects(&incoming) {
        if seen.lines().any(|line| line == name) && is_free(&path) {
            gate::pass("incoming.collect", || fs::remove_file(&path))?;
        } else {
            left.push(name);
        }
    }
    // Not synced: without it an object stays for one task more.
    write_note(&incoming, SEEN, &left.join("\n"))
}

/// What is on record of the names here; nothing, where it can't be read.
fn note(incoming: &Path, name: &str) -> String {
    let text = files::read_whole(&incoming.join(name)).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// Whatever lay there is gone; it is not written to.
fn write_note(incoming: &Path, name: &str, text: &str) -> io::Result<()> {
    files::create(&incoming.join(name), 0o600)?.write_all(text.as_bytes())
}

/// Why the pieces ended before the object was whole.
enum Cut {
    Early,
    TooMany,
}

/// A part that is being written.
struct Part {
    file: File,
    hash: Sha256,
    length: u64,
}

impl Part {
    /// Reads again what is kept, and cuts off what is not.
    fn resume(&mut self, from: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; BLOCK];
        while self.length < from {
            let wanted = usize::try_from(from - self.length).unwrap_or(BLOCK).min(BLOCK);
            let count = self.file.read(buffer.get_mut(..wanted).unwrap_or_default())?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the part became shorter"));
            }
            self.hash.update(buffer.get(..count).unwrap_or_default());
            self.length += count as u64;
        }
        self.file.set_len(from)
    }

    /// Writes pieces until the last one.
    fn take(&mut self, object: &Object, pieces: impl Iterator<Item = Piece>) -> io::Result<Result<(), Cut>> {
        for piece in pieces {
            let (bytes, last) = match piece {
                Piece::Some(bytes) => (bytes, false),
                Piece::Last(bytes) => (bytes, true),
            };
            if bytes.len() as u64 > object.size.saturating_sub(self.length) {
                return Ok(Err(Cut::TooMany));
            }
            self.file.write_all(&bytes)?;
            self.hash.update(&bytes);
            self.length += bytes.len() as u64;
            if last {
                return Ok(if self.length == object.size { Ok(()) } else { Err(Cut::Early) });
            }
        }
        Ok(Err(Cut::Early))
    }

    /// Verified, synced, renamed.
    fn finish(self, folder: &Folder, object: &Object, path: &Path) -> Result<(), Refusal> {
        let got = hex(&self.hash.finalize());
        if got != object.sha256.as_str() {
            let _ = gate::pass("incoming.refuse", || fs::remove_file(path));
            let got = Digest::parse(&got).unwrap_or_else(|| object.sha256.clone());
            return Err(Refusal::DigestMismatch { expected: object.sha256.clone(), got });
        }
        let stored = || -> io::Result<()> {
            gate::pass("incoming.sync", || files::sync_file(&self.file))?;
            let _place = lock_folder(folder)?;
            let (ours, there) = (self.file.metadata()?, fs::symlink_metadata(path)?);
            if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
                return Err(io::Error::other("another session brings these bytes"));
            }
            gate::pass("incoming.rename", || fs::rename(path, folder.incoming(&object.sha256)))?;
            gate::pass("incoming.syncFolder", || files::sync_dir(&folder.dot().join("incoming")))
        };
        stored().map_err(|error| failed(&error, folder, 0))
    }
}

/// Opens the part for this session alone, with the bytes that it holds. One that another session holds, perhaps over a connection that is
/// dead, is left to it, and this session goes on with a copy of what came: as much of it as is wanted.
fn open_part(folder: &Folder, path: &Path, wanted: u64) -> io::Result<(File, u64)> {
    let _place = lock_folder(folder)?;
    limit(folder, path)?;
    let open = || files::open_to_lock(path);
    let file = open()?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            fs::remove_file(path)?;
            let mut fresh = open()?;
            fresh.try_lock().map_err(io::Error::from)?;
            let copied = io::copy(&mut file.take(wanted), &mut fresh)?;
            return Ok((fresh, copied));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Removes the oldest beyond the bound, so that nobody fills a disk by beginning again and again. Which are the oldest is on record: the
/// host's clock may be wrong by years.
fn limit(folder: &Folder, but: &Path) -> io::Result<()> {
    let Some(incoming) = incoming(folder) else { return Ok(()) };
    let order = note(&incoming, ORDER);
    let mut objects = objects(&incoming);
    objects.retain(|(_, path)| path != but);
    // What is not on record came before what is.
    objects.sort_by_key(|(name, _)| order.lines().position(|known| Some(known) == name.get(..known.len())));
    let surplus = (objects.len() + 1).saturating_sub(MAX_OBJECTS);
    let (mut removed, mut left) = (0, Vec::new());
    for (name, path) in &objects {
        if removed < surplus && is_free(path) {
            gate::pass("incoming.limit", || fs::remove_file(path))?;
            removed += 1;
        } else {
            left.push(name.strip_suffix(PART).unwrap_or(name));
        }
    }
    let begun = but.file_stem().unwrap_or_default().to_string_lossy();
    left.push(&begun);
    // Not synced, and no harm where the disk is full: what is not on record goes first.
    let _ = write_note(&incoming, ORDER, &left.join("\n"));
    Ok(())
}

/// No session writes it.
fn is_free(path: &Path) -> bool {
    match files::open_to_read(path) {
        Ok(file) => file.try_lock().is_ok(),
        // What is no file is no session's.
        Err(_) => fs::symlink_metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()),
    }
}

/// Held for a moment, between looking at a name and changing it.
fn lock_folder(folder: &Folder) -> io::Result<File> {
    let path = folder.dot().join("incoming");
    let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits().cast_signed();
    let place = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
    files::lock_within(&place, &path, LOCK_TIMEOUT)?;
    Ok(place)
}

fn make_folder(folder: &Folder) -> io::Result<()> {
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700);
    match fs::create_dir(folder.path()) {
        // Others enter the folder itself, whatever the umask is: another user may run the releases.
        Ok(()) => fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    private.create(folder.dot())?;
    private.create(folder.dot().join("incoming"))
}

fn incoming(folder: &Folder) -> Option<PathBuf> {
    let path = folder.dot().join("incoming");
    fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()).then_some(path)
}

/// Name and path of everything that is an object or a part of one.
fn objects(incoming: &Path) -> Vec<(String, PathBuf)> {
    fs::read_dir(incoming)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Digest::parse(name.strip_suffix(PART).unwrap_or(&name))?;
            Some((name, entry.path()))
        })
        .collect()
}

/// What the name of a part ends with.
const PART: &str = ".part";

fn part(folder: &Folder, sha256: &Digest) -> PathBuf {
    folder.incoming(sha256).with_extension("part")
}

fn wrong_size(is: u64, object: &Object) -> Refusal {
    Refusal::BadInput { field: "size".to_owned(), why: format!("that object has {is} bytes, not {}", object.size) }
}

fn failed(error: &io::Error, folder: &Folder, needed: u64) -> Refusal {
    files::refusal(error, &folder.dot().join("incoming"), needed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::FolderName;

    use super::*;

    struct Fixture {
        _root: tempfile::TempDir,
        folder: Folder,
    }

    fn fixture() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        Fixture { _root: root, folder }
    }

    fn object(bytes: &[u8]) -> Object {
        Object { sha256: Digest::parse(&hex(&Sha256::digest(bytes))).unwrap(), size: bytes.len() as u64 }
    }

    fn whole(bytes: &[u8]) -> Vec<Piece> {
        vec![Piece::Some(bytes[..bytes.len() / 2].to_vec()), Piece::Last(bytes[bytes.len() / 2..].to_vec())]
    }

    fn names(folder: &Folder) -> Vec<String> {
        let mut names: Vec<String> =
            objects(&folder.dot().join("incoming")).into_iter().map(|(name, ..)| name).collect();
        names.sort();
        names
    }

    #[test]
    fn bytes_that_came_before_a_cut_are_not_sent_again() {
        let Fixture { _root, folder } = fixture();
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let object = object(&bytes);
        assert_eq!(have(&folder, &object), Ok(0));
        let cut = receive(&folder, &object, 0, vec![Piece::Some(bytes[..70_000].to_vec())].into_iter());
        assert!(matches!(cut, Err(Refusal::BadInput { .. })), "{cut:?}");
        assert_eq!(have(&folder, &object), Ok(70_000));
        receive(&folder, &object, 70_000, whole(&bytes[70_000..]).into_iter()).unwrap();
        assert_eq!(have(&folder, &object), Ok(object.size));
        assert_eq!(fs::read(folder.incoming(&object.sha256)).unwrap(), bytes);
        assert_eq!(names(&folder), [object.sha256.as_str()]);
    }

    #[test]
    fn an_earlier_offset_than_what_is_here_cuts_the_rest_off() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        let _ = receive(&folder, &object, 0, vec![Piece::Some(b"01234xxx".to_vec())].into_iter());
        receive(&folder, &object, 5, whole(b"56789").into_iter()).unwrap();
        assert_eq!(fs::read(folder.incoming(&object.sha256)).unwrap(), b"0123456789");
    }

    #[test]
    fn wrong_bytes_are_refused_and_removed() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        let refused = receive(&folder, &object, 0, whole(b"012345678x").into_iter());
        assert!(matches!(refused, Err(Refusal::DigestMismatch { .. })), "{refused:?}");
        assert_eq!(names(&folder), Vec::<String>::new());
        assert_eq!(have(&folder, &object), Ok(0));
    }

    #[test]
    fn more_bytes_than_announced_are_refused_and_removed() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        let refused = receive(&folder, &object, 0, std::iter::repeat_with(|| Piece::Some(vec![0; 7])));
        assert!(matches!(&refused, Err(Refusal::BadInput { field, .. }) if field == "size"), "{refused:?}");
        assert_eq!(names(&folder), Vec::<String>::new());
    }

    #[test]
    fn an_offset_beyond_what_is_here_is_refused_and_harms_nothing() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        let _ = receive(&folder, &object, 0, vec![Piece::Some(b"0123".to_vec())].into_iter());
        for from in [5, 10, 11, u64::MAX] {
            let refused = receive(&folder, &object, from, std::iter::empty());
            assert!(matches!(&refused, Err(Refusal::BadInput { field, .. }) if field == "from"), "{from}: {refused:?}");
        }
        assert_eq!(have(&folder, &object), Ok(4));
    }

    #[test]
    fn a_size_beyond_the_disk_is_answered_with_numbers() {
        let Fixture { _root, folder } = fixture();
        let object = Object { size: u64::MAX, ..object(b"") };
        let refused = receive(&folder, &object, 0, std::iter::empty());
        let Err(Refusal::Full(full)) = refused else { panic!("{refused:?}") };
        assert_eq!(full.needed, u64::MAX);
        assert!(full.free_bytes > 0);
        assert_eq!(names(&folder), Vec::<String>::new());
    }

    #[test]
    fn an_empty_object_is_stored() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"");
        assert_eq!(have(&folder, &object), Ok(0));
        receive(&folder, &object, 0, vec![Piece::Last(Vec::new())].into_iter()).unwrap();
        assert!(folder.incoming(&object.sha256).exists());
    }

    #[test]
    fn a_session_that_hangs_keeps_no_other_from_bringing_the_bytes() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        let mut first = whole(b"0123456789").into_iter();
        let during = std::iter::from_fn(|| {
            if first.len() == 1 {
                receive(&folder, &object, 0, whole(b"0123456789").into_iter()).unwrap();
            }
            first.next()
        });
        let superseded = receive(&folder, &object, 0, during);
        assert!(matches!(superseded, Err(Refusal::Failed { .. })), "{superseded:?}");
        assert_eq!(fs::read(folder.incoming(&object.sha256)).unwrap(), b"0123456789");
        assert_eq!(names(&folder), [object.sha256.as_str()]);
    }

    #[test]
    fn what_a_session_that_hangs_brought_is_gone_on_from() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        let mut first = whole(b"0123456789").into_iter();
        let during = std::iter::from_fn(|| {
            if first.len() == 1 {
                assert_eq!(have(&folder, &object), Ok(5));
                receive(&folder, &object, 5, vec![Piece::Last(b"56789".to_vec())].into_iter()).unwrap();
            }
            first.next()
        });
        assert!(receive(&folder, &object, 0, during).is_err());
        assert_eq!(fs::read(folder.incoming(&object.sha256)).unwrap(), b"0123456789");
    }

    #[test]
    fn an_object_goes_when_the_second_task_after_it_has_ended() {
        let Fixture { _root, folder } = fixture();
        collect(&folder).unwrap();
        let (old, new) = (object(b"old"), object(b"new"));
        receive(&folder, &old, 0, whole(b"old").into_iter()).unwrap();
        collect(&folder).unwrap();
        receive(&folder, &new, 0, whole(b"new").into_iter()).unwrap();
        assert_eq!(names(&folder).len(), 2);
        collect(&folder).unwrap();
        assert_eq!(names(&folder), [new.sha256.as_str()]);
        collect(&folder).unwrap();
        assert_eq!(names(&folder), Vec::<String>::new());
    }

    #[test]
    fn parts_that_nobody_ends_are_bounded() {
        let Fixture { _root, folder } = fixture();
        for n in 0..MAX_OBJECTS + 9 {
            let object = object(format!("object {n}").as_bytes());
            let _ = receive(&folder, &object, 0, vec![Piece::Some(b"obj".to_vec())].into_iter());
        }
        assert_eq!(names(&folder).len(), MAX_OBJECTS);
    }

    // R14
    #[test]
    fn what_came_first_goes_first_whatever_the_clock_says() {
        let Fixture { _root, folder } = fixture();
        let objects: Vec<Object> = (0..MAX_OBJECTS + 2).map(|n| object(format!("object {n}").as_bytes())).collect();
        for (n, object) in objects.iter().enumerate() {
            let _ = receive(&folder, object, 0, vec![Piece::Some(b"obj".to_vec())].into_iter());
            // The clock was years ahead, and was put right in the middle.
            let years = std::time::Duration::from_secs(if n < 5 { 20 << 25 } else { 20 << 20 });
            let file = OpenOptions::new().write(true).open(part(&folder, &object.sha256)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + years).unwrap();
            // The first one is gone on with all the time.
            let _ = receive(&folder, &objects[0], 3, vec![Piece::Some(Vec::new())].into_iter());
        }
        let left: Vec<usize> = (0..objects.len()).filter(|n| part(&folder, &objects[*n].sha256).exists()).collect();
        let expected: Vec<usize> = (0..objects.len()).filter(|n| ![1, 2].contains(n)).collect();
        assert_eq!(left, expected);
    }

    #[test]
    fn what_lies_in_the_place_of_a_note_holds_nobody_and_is_not_written_to() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        make_folder(&folder).unwrap();
        let incoming = folder.dot().join("incoming");
        let others = folder.path().join("others");
        for nth in 0..2 {
            for name in [SEEN, ORDER] {
                fs::write(&others, "theirs").unwrap();
                let _ = fs::remove_file(incoming.join(name));
                match nth {
                    0 => mknodat(CWD, incoming.join(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
                    _ => std::os::unix::fs::symlink(&others, incoming.join(name)).unwrap(),
                }
            }
            // A part of another object that is none.
            let other = part(&folder, &object_of(nth));
            mknodat(CWD, &other, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            receive(&folder, &object, 0, whole(b"0123456789").into_iter()).unwrap();
            collect(&folder).unwrap();
            assert_eq!(fs::read_to_string(incoming.join(SEEN)).unwrap().lines().count(), 2, "{nth}");
            fs::remove_file(folder.incoming(&object.sha256)).unwrap();
            fs::remove_file(other).unwrap();
            assert_eq!(fs::read_to_string(&others).unwrap(), "theirs");
        }
    }

    fn object_of(nth: usize) -> Digest {
        object(format!("other {nth}").as_bytes()).sha256
    }

    #[test]
    fn a_link_in_place_of_a_part_is_not_followed() {
        let Fixture { _root, folder } = fixture();
        let object = object(b"0123456789");
        make_folder(&folder).unwrap();
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, part(&folder, &object.sha256)).unwrap();
        assert!(receive(&folder, &object, 0, whole(b"0123456789").into_iter()).is_err());
        assert!(!target.exists());
    }
}
