//! The application's log file: opened for it, rotated beside it, and its last lines read.
//!
//! The application writes to the file directly and holds it open, so the file can't be replaced. Its beginning is copied away and cut off:
//! at once and without losing a line where the file system can (`FALLOC_FL_COLLAPSE_RANGE`: ext4, xfs); elsewhere the file is emptied after
//! the copy, and what was written in between is lost.

use std::{
    fs::{File, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::Path,
};

use landfall_host_protocol::{Configuration, LogLimits, Secrets};
use rustix::fs::FallocateFlags;

use super::missing_secret;
use crate::{files, folder::Folder, gate, mask::mask_lines};

/// Of the log and of what was cut off it.
const MODE: u32 = 0o640;
/// Lines that are told of an end.
const TAIL_LINES: usize = 20;
/// Bytes at the file's end that they are looked for in.
const TAIL_BYTES: u64 = 16 << 10;
/// A longer line is cut.
const LINE_MAX: usize = 1024;
/// What is copied at once.
const PIECE: usize = 256 << 10;

/// Opens the log for an application: it appends.
pub fn open(folder: &Folder) -> io::Result<File> {
    let path = folder.log(0);
    if let Some(parent) = path.parent() {
        files::create_folder(parent, 0o755)?;
    }
    let file = files::open_append(&path, MODE)?;
    narrow(&file);
    // Written by an earlier program.
    let before = (1..FILES_MAX).map(|number| folder.log(number));
    for path in before.take_while(|path| path.exists()) {
        if let Ok(file) = files::open_to_read(&path) {
            narrow(&file);
        }
    }
    Ok(file)
}

/// What an application prints is not everybody's to read.
fn narrow(file: &File) {
    let Ok(found) = file.metadata() else { return };
    if found.mode() & 0o777 & !MODE != 0 {
        let _ = file.set_permissions(Permissions::from_mode(found.mode() & MODE));
    }
}

/// Writes the line that stands before what an application prints; answers where its output begins.
pub fn begin(log: &mut File, line: &str) -> io::Result<u64> {
    gate::pass("log.begin", || writeln!(log, "{line}"))?;
    log.metadata().map(|metadata| metadata.len())
}

/// The last lines of the log, cleaned and cut.
pub fn tail(folder: &Folder) -> Vec<String> {
    read_tail(&folder.log(0)).unwrap_or_default()
}

/// The same, as they are told: without secret values; none, where the configuration has values that nobody has here.
pub fn told_lines(folder: &Folder, config: &Configuration, secrets: Option<&Secrets>) -> Vec<String> {
    if missing_secret(config, secrets).is_some() {
        return Vec::new();
    }
    let mut lines = tail(folder);
    if let Some(secrets) = secrets {
        mask_lines(secrets, &mut lines);
    }
    lines
}

fn read_tail(path: &Path) -> io::Result<Vec<String>> {
    let mut file = files::open_to_read(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if length > TAIL_BYTES && lines.len() > 1 {
        lines.remove(0);
    }
    // Of this run alone.
    let begun = lines.iter().rposition(|line| line.starts_with("=== landfall starts ")).map_or(0, |line| line + 1);
    let skipped = begun.max(lines.len().saturating_sub(TAIL_LINES));
    Ok(lines.into_iter().skip(skipped).map(clean).collect())
}

/// Without control characters, and not too long.
pub fn clean(line: &str) -> String {
    line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).take(LINE_MAX).collect()
}

/// Rotates the log where it is longer than it may be. True: it was.
pub fn rotate(folder: &Folder, limits: &LogLimits) -> io::Result<bool> {
    let log = match files::open_plain(&folder.log(0), File::options().read(true).write(true)) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // It is emptied: one that has another name as well may be another one's file.
    let found = log.metadata()?;
    if found.nlink() != 1 || found.uid() != rustix::process::getuid().as_raw() {
        return Err(io::Error::other(format!("{} is not ours alone", folder.log(0).display())));
    }
    let limit = limits.max_bytes.max(1);
    let kept = limit.saturating_mul(u64::from(limits.files));
    let mut length = log.metadata()?.len();
    let rotated = length > limit;
    // What comes in meanwhile is cut at the next look.
    while length > limit {
        let over = length.saturating_sub(limit.saturating_add(kept));
        if let Some(cut) = cut_off(&log, over) {
            // More than is kept at all: a copy of it would be rotated away at once.
            length = length.saturating_sub(cut);
            continue;
        }
        make_room(folder, limits.files)?;
        let copied = copy(&log, folder, limits.files, 0, aligned(&log, limit));
        // A disk too full for the copy is no reason to fill it further.
        if let Some(cut) = cut_off(&log, limit) {
            length = length.saturating_sub(cut);
        } else {
            let from = log.metadata()?.len().saturating_sub(limit);
            // To the end, but never after a writer that is faster.
            let _ = copy(&log, folder, limits.files, from, limit.saturating_add(PIECE as u64));
            gate::pass("log.empty", || log.set_len(0))?;
            length = 0;
        }
        copied?;
    }
    Ok(rotated)
}

/// Older files that are looked for at most, whatever number was configured.
const FILES_MAX: u32 = 1000;

/// Renames `output.log.1` to `.2` and so on; the last one goes.
fn make_room(folder: &Folder, count: u32) -> io::Result<()> {
    for number in (1..count.min(FILES_MAX)).rev() {
        let from = folder.log(number);
        if from.exists() {
            gate::pass("log.rename", || files::rename(&from, &folder.log(number + 1)))?;
        }
    }
    Ok(())
}

/// Copies a part of the log to `output.log.1`, to its end at most.
fn copy(log: &File, folder: &Folder, count: u32, from: u64, bytes: u64) -> io::Result<()> {
    if count == 0 {
        return Ok(());
    }
    let mut copy = gate::pass("log.copy", || files::create(&folder.log(1), MODE))?;
    let mut piece = vec![0u8; PIECE];
    let mut done = 0;
    while done < bytes {
        let wanted = usize::try_from(bytes - done).unwrap_or(PIECE).min(PIECE);
        let got = log.read_at(piece.get_mut(..wanted).unwrap_or_default(), from + done)?;
        if got == 0 {
            break;
        }
        copy.write_all(piece.get(..got).unwrap_or_default())?;
        done += got as u64;
    }
    Ok(())
}

/// Cuts at most so many bytes off the file's beginning, in whole blocks; `None`: there is no whole block, or the file system can't.
fn cut_off(log: &File, bytes: u64) -> Option<u64> {
    let bytes = aligned(log, bytes);
    let cut = bytes > 0 && rustix::fs::fallocate(log, FallocateFlags::COLLAPSE_RANGE, 0, bytes).is_ok();
    cut.then_some(bytes)
}

fn aligned(log: &File, bytes: u64) -> u64 {
    let block = rustix::fs::fstatvfs(log).map_or(0, |found| found.f_bsize);
    if block == 0 { 0 } else { bytes - bytes % block }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::FolderName;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        (root, folder)
    }

    #[test]
    fn the_newest_bytes_are_kept_in_files_of_their_size() {
        let (_root, folder) = folder();
        let limits = LogLimits { max_bytes: 64 << 10, files: 2 };
        let mut log = open(&folder).unwrap();
        let lines: Vec<String> = (0..60_000).map(|n| format!("line {n}\n")).collect();
        for chunk in lines.chunks(3000) {
            log.write_all(chunk.concat().as_bytes()).unwrap();
            rotate(&folder, &limits).unwrap();
        }
        let all: String = (0..=3).rev().filter_map(|n| std::fs::read_to_string(folder.log(n)).ok()).collect();
        assert!(all.ends_with("line 59999\n"));
        assert!(all.len() >= 64 << 10, "{}", all.len());
        assert!(all.len() <= 3 * (64 << 10) + (8 << 10), "{}", all.len());
        // Without a gap: this writer never wrote during a copy.
        assert!(lines.concat().ends_with(&all));
        assert!(!folder.log(3).exists());
        assert!(std::fs::metadata(folder.log(0)).unwrap().len() <= 64 << 10);
    }

    #[test]
    fn what_is_not_our_own_plain_file_is_neither_read_nor_emptied() {
        let (root, folder) = folder();
        drop(open(&folder).unwrap());
        let others = root.path().join("others");
        std::fs::write(&others, "a line of another one's file\n").unwrap();
        let limits = LogLimits { max_bytes: 1, files: 1 };
        std::fs::remove_file(folder.log(0)).unwrap();
        std::os::unix::fs::symlink(&others, folder.log(0)).unwrap();
        assert!(tail(&folder).is_empty());
        assert!(rotate(&folder, &limits).is_err());
        std::fs::remove_file(folder.log(0)).unwrap();
        std::fs::hard_link(&others, folder.log(0)).unwrap();
        assert!(rotate(&folder, &limits).is_err());
        assert!(!folder.log(1).exists());
        assert_eq!(std::fs::read_to_string(&others).unwrap().len(), 29);
        // A FIFO that nobody writes to.
        std::fs::remove_file(folder.log(0)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.log(0), rustix::fs::Mode::RWXU).unwrap();
        assert!(tail(&folder).is_empty());
        assert!(rotate(&folder, &limits).is_err());
        assert!(open(&folder).is_err());
    }

    #[test]
    fn nobody_else_may_read_a_log() {
        let (_root, folder) = folder();
        let mode = |number| std::fs::metadata(folder.log(number)).unwrap().mode() & 0o777;
        let limits = LogLimits { max_bytes: 4 << 10, files: 2 };
        let mut log = open(&folder).unwrap();
        log.write_all(&[b'x'; 10 << 10]).unwrap();
        rotate(&folder, &limits).unwrap();
        assert_eq!((mode(0), mode(1)), (0o640, 0o640));
        // Those of an earlier program; what is narrower stays as it is.
        for (number, before) in [(0, 0o644), (1, 0o664)] {
            std::fs::set_permissions(folder.log(number), Permissions::from_mode(before)).unwrap();
        }
        drop(open(&folder).unwrap());
        assert_eq!((mode(0), mode(1)), (0o640, 0o640));
        std::fs::set_permissions(folder.log(0), Permissions::from_mode(0o600)).unwrap();
        drop(open(&folder).unwrap());
        assert_eq!(mode(0), 0o600);
    }

    #[test]
    fn the_tail_is_of_the_last_run_and_clean() {
        let (_root, folder) = folder();
        let mut log = open(&folder).unwrap();
        begin(&mut log, "=== landfall starts v1, revision 1").unwrap();
        writeln!(log, "of v1").unwrap();
        begin(&mut log, "=== landfall starts v2, revision 2").unwrap();
        write!(log, "\x1b[31mred\x1b[0m\ttab\nlast").unwrap();
        assert_eq!(tail(&folder), ["[31mred[0m tab", "last"]);
    }
}
