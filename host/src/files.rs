//! Files of ours on the host's disk: records that are whole or not there, synced folders, links switched at once, removing that never
//! leaves the root. No decision is made here; every caller passes the gate.
//!
//! A change is on the disk once its file and then its folder are synced. Records and links are, when these functions return.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        },
    },
    path::{Component, Path, PathBuf},
    time::Duration,
};

use landfall_host_protocol::{Full, Reason, Refusal};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{clock, failure::StepFailure, unsynced};

/// Format of the records that this program writes. A record without a number has format 1.
pub const FORMAT: u64 = 1;
/// Largest record that is read, in bytes.
const MAX_RECORD: u64 = 64 << 20;
/// Depth at which a tree that is removed is folded up, so that open folders stay few.
const MAX_DEPTH: usize = 64;
/// Between two tries to lock a file.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Writes a record: one JSON line with `format`, whole or not at all, mode 0600, on the disk when this returns. `record` must be a struct.
pub fn write_record<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    write_whole(path, &record_line(record)?, 0o600)
}

/// A record as one line, with its format.
pub fn record_line<T: Serialize>(record: &T) -> io::Result<Vec<u8>> {
    let fields = serde_json::to_vec(record)?;
    let Some(rest) = fields.strip_prefix(b"{") else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record must have fields"));
    };
    let separator = if rest == b"}" { "" } else { "," };
    let mut line = format!("{{\"format\":{FORMAT}{separator}").into_bytes();
    line.extend_from_slice(rest);
    line.push(b'\n');
    Ok(line)
}

/// Reads a record; `None`: there is none. Fields that this program does not know are ignored; one of a later format, or one that
/// can't be read, is `InvalidData`.
pub fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(text) = read_whole(path)? else { return Ok(None) };
    parse_record(&text).map(Some).map_err(|why| unreadable(path, &why))
}

/// A record from its line.
pub fn parse_record<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Format {
        format: Option<Value>,
    }

    let Format { format } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let format = format.map_or(Some(1), |format| format.as_u64());
    if format.is_none_or(|format| format > FORMAT) {
        return Err("a later version of landfall-host wrote it".to_owned());
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// The bytes of a file of ours, bounded; `None`: there is none. No link is followed.
pub fn read_whole(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let (file, length) = match open_checked(path, OpenOptions::new().read(true)) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // Room for the last read, which finds nothing more: two calls for a file that is as long as it says.
    let mut text = Vec::with_capacity(usize::try_from(length.min(MAX_RECORD)).unwrap_or(0) + 1);
    file.take(MAX_RECORD + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_RECORD {
        return Err(unreadable(path, "it is too large"));
    }
    Ok(Some(text))
}

/// Whether a plain file of the user who runs this lies there, with these bytes and this mode. Any other is not read.
pub fn is_own(path: &Path, size: usize, sha256: &str, mode: u32) -> bool {
    let is = || -> io::Result<bool> {
        let file = open_to_read(path)?;
        let found = file.metadata()?;
        let own = rustix::process::getuid().as_raw();
        if found.uid() != own || found.mode() & 0o7777 != mode || found.len() != size as u64 {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        file.take(size as u64 + 1).read_to_end(&mut bytes)?;
        Ok(landfall_host_bundle::digest(&bytes).as_str() == sha256)
    };
    is().unwrap_or(false)
}

/// Opens a file that an application could have put something else in the place of: no link is followed, and a FIFO or a device holds
/// nobody and is refused.
pub fn open_plain(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let (file, _) = open_checked(path, options)?;
    // Its description may become an application's.
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

/// The same for who reads it himself: no read of a plain file waits, whatever its description says.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open_checked(path, OpenOptions::new().read(true)).map(|(file, _)| file)
}

/// With its length, as it was opened.
fn open_checked(path: &Path, options: &mut OpenOptions) -> io::Result<(File, u64)> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let file = options.custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok((file, found.len())),
        false => Err(unreadable(path, "it is no plain file")),
    }
}

/// A file of ours that is only locked, or says who locks it; made where there is none, and nobody else can open it.
pub fn open_to_lock(path: &Path) -> io::Result<File> {
    open_plain(path, OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600))
}

/// Locks an open file or folder for this process alone. What another one does not let go of is told by its name.
pub fn lock_within(file: &File, path: &Path, limit: Duration) -> io::Result<()> {
    let end = clock::monotonic() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) if clock::monotonic() < end => std::thread::sleep(LOCK_INTERVAL),
            Err(_) => {
                let why = format!("another process holds {} for more than {} s", path.display(), limit.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }
}

fn unreadable(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} can't be read: {why}", path.display()))
}

fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or(0)
}

/// Replaces a file by one with these bytes, whole or not at all, on the disk when this returns.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path)?;
    let written = create(&new, mode).and_then(|mut file| {
        file.write_all(bytes)?;
        sync_file(&file)
    });
    if let Err(error) = written {
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    rename(&new, path)?;
    sync_parent(path)
}

/// The name under which a file is written before it gets its own; `is_left_over` knows it again.
pub fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{}.new", std::process::id()));
    Ok(path.with_file_name(new))
}

/// Whether a file of this name was left by a process that died while it wrote.
pub fn is_left_over(name: &OsStr) -> bool {
    let Some(pid) = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(".new")?.rsplit('.').next())
    else {
        return false;
    };
    pid.parse::<u32>().is_ok_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// Removes what processes left in this folder that died while they wrote.
pub fn collect_left_over(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_left_over(&entry.file_name()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A new file to be written and read; what had its name is gone.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    unsynced::entry(path);
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(mode).custom_flags(no_follow()).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    unsynced::content(path, 0);
    Ok(file)
}

/// A new link.
pub fn create_link(path: &Path, target: &Path) -> io::Result<()> {
    unsynced::entry(path);
    std::os::unix::fs::symlink(target, path)
}

/// A file to append to; made where there is none.
pub fn open_append(path: &Path, mode: u32) -> io::Result<File> {
    let open = || open_plain(path, OpenOptions::new().append(true).read(true));
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path, mode)?;
            open()?
        }
        opened => opened?,
    };
    unsynced::content(path, file.metadata()?.len());
    Ok(file)
}

/// Brings a file's bytes to the disk.
pub fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all()?;
    if unsynced::is_on() {
        unsynced::synced_file(file.metadata()?.ino());
    }
    Ok(())
}

/// Brings a folder's entries to the disk.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    unsynced::synced_folder(path);
    Ok(())
}

/// Brings the entry of `path` in its folder to the disk.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Brings a whole tree to the disk: every file, then every folder once.
pub fn sync_tree(path: &Path) -> io::Result<()> {
    if unsynced::is_on() {
        walk(path, &mut |below, is_folder| {
            if below != path {
                unsynced::made(below);
            }
            if !is_folder {
                unsynced::content(below, 0);
            }
            Ok(())
        })?;
    }
    let mut plain = OpenOptions::new();
    plain.read(true);
    walk(path, &mut |path, is_folder| {
        if is_folder { sync_dir(path) } else { sync_file(&open_plain(path, &mut plain)?) }
    })
}

/// Calls `visit` for every file (no links) and, after its contents, every folder of a tree of ours.
fn walk(path: &Path, visit: &mut impl FnMut(&Path, bool) -> io::Result<()>) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&entry.path(), false)?;
        }
    }
    visit(path, true)
}

/// Makes a folder of exactly this mode where there is none, and those above it with 0755. True: it is new.
pub fn create_folder(path: &Path, mode: u32) -> io::Result<bool> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        return if found.is_dir() { Ok(false) } else { Err(io::ErrorKind::NotADirectory.into()) };
    }
    if let Some(parent) = path.parent() {
        create_folder(parent, 0o755)?;
    }
    unsynced::entry(path);
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made?,
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(true)
}

/// Renames a file or folder; the entry is on the disk when `to`'s folder is synced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    unsynced::rename(from, to);
    std::fs::rename(from, to)
}

/// Puts a folder in the place of another one, at once where the file system can; the other one is at `new` or `old` then. The entries
/// are on the disk when their folders are synced.
pub fn replace_folder(new: &Path, place: &Path, old: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(place).is_err() {
        return rename(new, place);
    }
    // The notes of what is not synced know plain renames only.
    if !unsynced::is_on() {
        let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        match rustix::fs::renameat_with(cwd, new, cwd, place, flags) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            exchanged => return Ok(exchanged?),
        }
    }
    rename(place, old)?;
    rename(new, place)
}

/// Removes a file or link; one that is not there is removed already. On the disk when its folder is synced.
pub fn remove_file(path: &Path) -> io::Result<()> {
    unsynced::entry(path);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Points a link at `target`, at once: whoever looks sees the old one or the new one. On the disk when this returns.
pub fn switch_link(link: &Path, target: &Path) -> io::Result<()> {
    let new = beside(link)?;
    remove_file(&new)?;
    create_link(&new, target)?;
    if let Err(error) = rename(&new, link) {
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    sync_parent(link)
}

/// Removes what lies at `path`, whatever it is, and never anything outside `root`: no link is followed, in the way to it or below it,
/// and no other mount is entered, not even one of the same file system. What is not there is removed already.
pub fn remove_below(root: &Path, path: &Path) -> io::Result<()> {
    let inside = path.strip_prefix(root).map_err(|_| refused(path, "it lies outside the root"))?;
    let mut names = Vec::new();
    for component in inside.components() {
        match component {
            Component::Normal(name) => names.push(name),
            _ => return Err(refused(path, "it is no plain path")),
        }
    }
    let Some((name, way)) = names.split_last() else { return Err(refused(path, "it is the root itself")) };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(root, flags, Mode::empty())?;
    let device = rustix::fs::fstat(&folder)?.st_dev;
    let mount = mount_of(folder.as_fd());
    for name in way {
        match rustix::fs::openat(&folder, *name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(next) => folder = next,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if mount_of(folder.as_fd()) != mount {
            return Err(refused(path, "something is mounted in the way to it"));
        }
    }
    if unsynced::is_on() && unsynced::set_aside(path) {
        return Ok(());
    }
    let mut removal = Removal { device, mount, top: folder.as_fd(), folded: Vec::new() };
    removal.entry(folder.as_fd(), name, 0)?;
    while let Some(name) = removal.folded.pop() {
        removal.entry(folder.as_fd(), &name, 0)?;
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not removed: {why}", path.display()))
}

/// Number of the mount that an open file lies in; `None` where /proc does not tell. A bind mount has the device of its source, and another
/// number.
fn mount_of(file: BorrowedFd<'_>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// Where something is mounted at or below `path`, as this process sees it.
pub fn mounted_below(path: &Path) -> Option<PathBuf> {
    let real = std::fs::canonicalize(path).ok()?;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let places = mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    places.map(|place| PathBuf::from(OsStr::from_bytes(&unescaped(place)))).find(|place| place.starts_with(&real))
}

/// The kernel writes blanks and the like as `\` and three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

struct Removal<'a> {
    device: u64,
    mount: Option<u64>,
    /// Folder of what is removed. Folders too deep are moved to it.
    top: BorrowedFd<'a>,
    folded: Vec<OsString>,
}

impl Removal<'_> {
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
        let found = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return gone(rustix::fs::unlinkat(parent, name, AtFlags::empty()));
        }
        if found.st_dev != self.device {
            return Err(io::Error::other(format!("{} is another file system", Path::new(name).display())));
        }
        if depth >= MAX_DEPTH {
            let folded = OsString::from(format!(".removed.{}.{}", std::process::id(), found.st_ino));
            rustix::fs::renameat(parent, name, self.top, &folded)?;
            self.folded.push(folded);
            return Ok(());
        }
        let folder = open_to_empty(parent, name)?;
        if mount_of(folder.as_fd()) != self.mount {
            return Err(io::Error::other(format!("{} is mounted there", Path::new(name).display())));
        }
        let mut tries = 0;
        loop {
            for name in names_in(&folder)? {
                self.entry(folder.as_fd(), &name, depth + 1)?;
            }
            tries += 1;
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                // Somebody still writes there.
                Err(Errno::NOTEMPTY | Errno::EXIST) if tries < 5 => {}
                removed => return gone(removed),
            }
        }
    }
}

fn open_to_empty(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        // A folder that its owner may not read.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
        }
        opened => {
            let folder = opened?;
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode);
            if !mode.contains(Mode::RWXU) {
                let _ = rustix::fs::fchmod(&folder, mode | Mode::RWXU);
            }
            Ok(folder)
        }
    }
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn gone(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// What is free where `path` lies.
pub fn space(path: &Path) -> io::Result<Full> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Full {
        path: path.display().to_string(),
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        free_inodes: (found.f_files > 0).then_some(found.f_favail),
        needed: 0,
        quota: false,
    })
}

/// The disk, its inodes or a quota as the cause of an error.
pub fn full(error: &io::Error, path: &Path, needed: u64) -> Option<Full> {
    let quota = match Errno::from_io_error(error)? {
        Errno::NOSPC => false,
        Errno::DQUOT => true,
        _ => return None,
    };
    let nothing = Full { path: path.display().to_string(), free_bytes: 0, free_inodes: None, needed, quota };
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    Some(space(existing).map_or(nothing.clone(), |found| Full { path: nothing.path, needed, quota, ..found }))
}

/// What the host has to say about a write of `path` that failed.
pub fn refusal(error: &io::Error, path: &Path, needed: u64) -> Refusal {
    if let Some(full) = full(error, path, needed) {
        return Refusal::Full(full);
    }
    let why = said(error, path);
    if is_unwritable(error) { Refusal::Unsupported { why } } else { Refusal::Failed { why } }
}

/// The same for a step, whose own reason `reason` is.
pub fn failure(reason: Reason, error: &io::Error, path: &Path) -> Box<StepFailure> {
    let mut failure = StepFailure::new(reason, said(error, path));
    if let Some(full) = full(error, path, 0) {
        failure.reason = Reason::DiskFull;
        failure.full = Some(full);
    } else if is_unwritable(error) {
        failure.reason = Reason::HostUnsupported;
    }
    failure
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ROFS | Errno::ACCESS | Errno::PERM))
}

fn said(error: &io::Error, path: &Path) -> String {
    match Errno::from_io_error(error) {
        // Ours has the path in it.
        None => error.to_string(),
        Some(_) => format!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Mark {
        text: String,
        number: u64,
    }

    fn mark() -> Mark {
        Mark { text: "two\nlines".to_owned(), number: 7 }
    }

    #[test]
    fn what_another_one_locks_is_waited_for_a_while_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (first, second) = (open_to_lock(&path).unwrap(), open_to_lock(&path).unwrap());
        lock_within(&first, &path, Duration::ZERO).unwrap();
        let error = lock_within(&second, &path, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        drop(first);
        lock_within(&second, &path, Duration::ZERO).unwrap();
        assert_eq!(second.metadata().unwrap().mode() & 0o777, 0o600, "nobody else can open it");
    }

    #[test]
    fn a_record_is_one_line_with_its_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        write_record(&path, &mark()).unwrap();
        write_record(&path, &mark()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("{\"format\":1,"), "{text}");
        assert_eq!(read_record::<Mark>(&path).unwrap(), Some(mark()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_record_of_a_later_format_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        std::fs::write(&path, "{\"format\":99,\"text\":\"\",\"number\":1}\n").unwrap();
        let error = read_record::<Mark>(&path).unwrap_err();
        assert!(error.to_string().contains("later version"), "{error}");
        std::fs::write(&path, "{\"text\":\"\",\"number\":1,\"more\":{}}\n").unwrap();
        assert_eq!(read_record::<Mark>(&path).unwrap().map(|mark| mark.number), Some(1));
        assert_eq!(read_record::<Mark>(&folder.path().join("none")).unwrap(), None);
    }

    #[test]
    fn no_record_is_read_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("mark"), folder.path().join("link"));
        write_record(&path, &mark()).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_record::<Mark>(&link).is_err());
        write_record(&link, &mark()).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_file(), "the link is replaced, not followed");
    }

    #[test]
    fn removing_follows_no_link_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("way")).unwrap();

        assert!(remove_below(&root, &root.join("way/kept")).is_err());
        assert!(remove_below(&root, &outside.join("kept")).is_err());
        assert!(remove_below(&root, &root.join("../outside/kept")).is_err());
        assert!(remove_below(&root, &root).is_err());
        remove_below(&root, &root.join("a")).unwrap();
        remove_below(&root, &root.join("way")).unwrap();
        remove_below(&root, &root.join("never/there")).unwrap();

        assert!(outside.join("kept").exists());
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn places_of_mounts_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescaped(br"/srv/a\040b\134\x"), br"/srv/a b\\x");
        assert!(mounted_below(Path::new("/")).is_some());
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mounted_below(folder.path()), None);
    }

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("deep")).unwrap();
        let mut deepest = File::open(root.join("deep")).map(OwnedFd::from).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&deepest, "d", Mode::RWXU).unwrap();
            deepest = rustix::fs::openat(&deepest, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        remove_below(root, &root.join("deep")).unwrap();
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_switched_without_being_absent() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("current");
        switch_link(&link, Path::new("releases/a")).unwrap();
        switch_link(&link, Path::new("releases/b")).unwrap();
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("releases/b"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_dead_writers_left_is_collected() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(".owner.4194999.new");
        let ours = beside(&folder.path().join("owner")).unwrap();
        for path in [&left, &ours] {
            std::fs::write(path, "").unwrap();
        }
        collect_left_over(folder.path());
        assert!(!left.exists());
        assert!(ours.exists());
    }

    #[test]
    fn a_full_disk_and_a_quota_are_told_apart_from_the_rest() {
        let error = |errno: Errno| io::Error::from(errno);
        let path = Path::new("/proc/no/such");
        assert!(matches!(refusal(&error(Errno::NOSPC), path, 5), Refusal::Full(Full { quota: false, needed: 5, .. })));
        assert!(matches!(refusal(&error(Errno::DQUOT), path, 0), Refusal::Full(Full { quota: true, .. })));
        assert!(matches!(refusal(&error(Errno::ROFS), path, 0), Refusal::Unsupported { .. }));
        assert!(matches!(refusal(&error(Errno::ACCESS), path, 0), Refusal::Unsupported { .. }));
        assert!(matches!(refusal(&error(Errno::IO), path, 0), Refusal::Failed { .. }));
        assert_eq!(failure(Reason::StageFailed, &error(Errno::NOSPC), path).reason, Reason::DiskFull);
        assert_eq!(failure(Reason::StageFailed, &error(Errno::IO), path).reason, Reason::StageFailed);
    }
}
