//! An application's log, read from its last lines on and followed. The keeper cuts off what it has copied to `output.log.1` while the
//! application goes on writing, others rename the file or empty it: the reader finds its place again by what it read last. It holds a few
//! hundred bytes, never follows a link, and never waits in a pipe that somebody laid in the log's place.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::folder::Folder;

/// Bytes by which the place is known again.
const ANCHOR: usize = 256;
/// Bytes that are searched at a time for the beginning of the last lines.
const BLOCK: usize = 64 << 10;
/// Bytes that are searched at most: a file of nothing but a hole may have any length.
const MAX_SEARCHED: u64 = 16 << 20;

/// One log file of a folder, and the place up to which it was read.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// Where the beginning of the current file goes when it is cut off; `None` for the older files, which do not grow.
    older: Option<PathBuf>,
    file: Option<File>,
    position: u64,
    /// What stands right before the position.
    anchor: Vec<u8>,
    /// What was cut off before it was read, and from where on.
    rest: Option<(File, u64)>,
}

impl LogReader {
    /// `number`: 0 for the current file, 1 for the one before it. `last_lines`: so many from the end; `None`: all. A file that is not there
    /// is waited for by [`Self::read`].
    pub fn open(folder: &Folder, number: u32, last_lines: Option<u32>) -> io::Result<Self> {
        let mut reader = Self {
            path: folder.log(number),
            older: (number == 0).then(|| folder.log(1)),
            file: None,
            position: 0,
            anchor: Vec::new(),
            rest: None,
        };
        reader.file = open(&reader.path)?;
        if let (Some(file), Some(lines)) = (&reader.file, last_lines) {
            reader.position = start_of(file, lines)?;
            reader.anchor = before(file, reader.position)?;
        }
        Ok(reader)
    }

    /// The file is there.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// The next bytes; 0: none yet.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_none() {
            self.find_place()?;
        }
        if let Some((file, position)) = &mut self.rest {
            let count = file.read_at(buffer, *position)?;
            *position += count as u64;
            if count > 0 {
                return Ok(count);
            }
            self.rest = None;
        }
        let count = self.read_on(buffer)?;
        if count > 0 || !self.was_replaced()? {
            return Ok(count);
        }
        self.file = open(&self.path)?;
        self.start_again();
        self.read_on(buffer)
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.file = open(&self.path)?;
        }
        let Some(file) = &self.file else { return Ok(0) };
        let count = file.read_at(buffer, self.position)?;
        self.position += count as u64;
        self.anchor.extend(buffer.iter().take(count).skip(count.saturating_sub(ANCHOR)));
        let surplus = self.anchor.len().saturating_sub(ANCHOR);
        self.anchor.drain(..surplus);
        Ok(count)
    }

    /// Another file has the name now, and what this one holds was read.
    fn was_replaced(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let Ok(there) = fs::symlink_metadata(&self.path) else { return Ok(false) };
        let ours = file.metadata()?;
        Ok((ours.dev(), ours.ino()) != (there.dev(), there.ino()))
    }

    /// Goes to where reading stopped, wherever that lies now.
    fn find_place(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if stands_before(file, self.position, &self.anchor)? {
            return Ok(());
        }
        let older = self.older.as_ref().map(|path| open(path)).transpose()?.flatten();
        let cut = older.as_ref().map(File::metadata).transpose()?.map_or(0, |metadata| metadata.len());
        if let Some(moved) = self.position.checked_sub(cut).filter(|moved| *moved > 0)
            && stands_before(file, moved, &self.anchor)?
        {
            self.position = moved;
            return Ok(());
        }
        if let Some(older) = older
            && stands_before(&older, self.position, &self.anchor)?
        {
            self.rest = Some((older, self.position));
        }
        self.start_again();
        Ok(())
    }

    fn start_again(&mut self) {
        self.position = 0;
        self.anchor.clear();
    }
}

/// Opens a plain file; `None`: there is none.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no plain file", path.display())));
    }
    Ok(Some(file))
}

/// These bytes stand right before the position.
fn stands_before(file: &File, position: u64, bytes: &[u8]) -> io::Result<bool> {
    let Some(start) = position.checked_sub(bytes.len() as u64) else { return Ok(false) };
    let mut found = vec![0; bytes.len()];
    match file.read_exact_at(&mut found, start) {
        Ok(()) => Ok(found == bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn before(file: &File, position: u64) -> io::Result<Vec<u8>> {
    let length = position.min(ANCHOR as u64);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, position - length)?;
    Ok(bytes)
}

/// Offset at which the last lines begin. A last line without its end counts as one.
fn start_of(file: &File, lines: u32) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut buffer = vec![0; BLOCK];
    let mut at = length;
    let mut left = lines;
    let first = length.saturating_sub(MAX_SEARCHED);
    while at > first {
        let count = (at - first).min(BLOCK as u64);
        at -= count;
        let block = buffer.get_mut(..usize::try_from(count).unwrap_or(BLOCK)).unwrap_or_default();
        file.read_exact_at(block, at)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let here = at + index as u64;
            // The end of the last line begins no line.
            if *byte != b'\n' || here + 1 == length {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(here + 1);
            }
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink};

    use landfall_host_protocol::FolderName;

    use super::*;

    struct Fixture {
        _root: tempfile::TempDir,
        folder: Folder,
    }

    impl Fixture {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
            fs::create_dir_all(folder.log(0).parent().unwrap()).unwrap();
            Self { _root: root, folder }
        }

        fn write(&self, text: &str) {
            let mut file = OpenOptions::new().append(true).create(true).open(self.folder.log(0)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn reader(&self, last_lines: Option<u32>) -> LogReader {
            LogReader::open(&self.folder, 0, last_lines).unwrap()
        }
    }

    fn all(reader: &mut LogReader) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 7];
        loop {
            let count = reader.read(&mut buffer).unwrap();
            if count == 0 {
                return String::from_utf8(text).unwrap();
            }
            text.extend(&buffer[..count]);
        }
    }

    fn lines(numbers: std::ops::Range<u32>) -> String {
        numbers.map(|n| format!("line {n}\n")).collect()
    }

    #[test]
    fn the_last_lines_are_found_in_any_file() {
        let fixture = Fixture::new();
        assert_eq!(all(&mut fixture.reader(Some(3))), "");
        fixture.write("a\nb\nc\n");
        assert_eq!(all(&mut fixture.reader(Some(0))), "");
        assert_eq!(all(&mut fixture.reader(Some(1))), "c\n");
        assert_eq!(all(&mut fixture.reader(Some(2))), "b\nc\n");
        assert_eq!(all(&mut fixture.reader(Some(9))), "a\nb\nc\n");
        assert_eq!(all(&mut fixture.reader(None)), "a\nb\nc\n");
        fixture.write("d");
        assert_eq!(all(&mut fixture.reader(Some(2))), "c\nd");
        fixture.write(&"x".repeat(3 * BLOCK));
        assert_eq!(all(&mut fixture.reader(Some(2))).len(), 2 + 1 + 3 * BLOCK);
    }

    #[test]
    fn a_log_that_comes_later_is_followed_from_its_beginning() {
        let fixture = Fixture::new();
        let mut reader = fixture.reader(Some(1));
        assert_eq!(all(&mut reader), "");
        fixture.write("a\nb\n");
        assert_eq!(all(&mut reader), "a\nb\n");
    }

    #[test]
    fn a_log_whose_beginning_was_cut_off_is_followed_without_a_gap() {
        let fixture = Fixture::new();
        fixture.write(&lines(0..1000));
        let mut reader = fixture.reader(Some(2));
        assert_eq!(all(&mut reader), lines(998..1000));
        fixture.write(&lines(1000..1010));
        let text = fs::read(fixture.folder.log(0)).unwrap();
        for read_in_between in [true, false] {
            let cut = 4096;
            fs::write(fixture.folder.log(1), &text[..cut]).unwrap();
            if read_in_between {
                assert_eq!(all(&mut reader), lines(1000..1010), "the copy is there, the file is not cut yet");
            }
        }
        fs::write(fixture.folder.log(0), &text[4096..]).unwrap();
        fixture.write(&lines(1010..1020));
        assert_eq!(all(&mut reader), lines(1010..1020));
    }

    #[test]
    fn what_was_cut_off_before_it_was_read_is_read_beside() {
        let fixture = Fixture::new();
        fixture.write(&lines(0..10));
        let mut reader = fixture.reader(Some(1));
        assert_eq!(all(&mut reader), lines(9..10));
        fixture.write(&lines(10..20));
        fs::copy(fixture.folder.log(0), fixture.folder.log(1)).unwrap();
        fs::write(fixture.folder.log(0), "").unwrap();
        fixture.write(&lines(20..30));
        assert_eq!(all(&mut reader), lines(10..30));
        fixture.write(&lines(30..31));
        assert_eq!(all(&mut reader), lines(30..31));
    }

    #[test]
    fn an_emptied_log_is_followed_from_its_beginning() {
        let fixture = Fixture::new();
        fixture.write(&lines(0..10));
        let mut reader = fixture.reader(None);
        all(&mut reader);
        fs::write(fixture.folder.log(0), "new\n").unwrap();
        assert_eq!(all(&mut reader), "new\n");
    }

    #[test]
    fn a_renamed_log_is_read_to_its_end_first() {
        let fixture = Fixture::new();
        fixture.write("a\n");
        let mut reader = fixture.reader(None);
        assert_eq!(all(&mut reader), "a\n");
        fixture.write("b\n");
        fs::rename(fixture.folder.log(0), fixture.folder.log(1)).unwrap();
        fixture.write("c\n");
        assert_eq!(all(&mut reader), "b\nc\n");
    }

    #[test]
    fn the_last_lines_of_a_hole_are_found_in_no_time() {
        let fixture = Fixture::new();
        fixture.write("a\n");
        let file = OpenOptions::new().write(true).open(fixture.folder.log(0)).unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(fixture.reader(Some(3)).position, (1 << 40) - MAX_SEARCHED);
    }

    #[test]
    fn links_and_pipes_in_place_of_a_log_are_refused() {
        let fixture = Fixture::new();
        symlink("/etc/passwd", fixture.folder.log(0)).unwrap();
        assert!(LogReader::open(&fixture.folder, 0, None).is_err());
        fs::remove_file(fixture.folder.log(0)).unwrap();
        let made = std::process::Command::new("mkfifo").arg(fixture.folder.log(0)).status().unwrap();
        assert!(made.success());
        assert!(LogReader::open(&fixture.folder, 0, None).is_err());
    }
}
