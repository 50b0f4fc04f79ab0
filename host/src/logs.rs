//! An application's log, read from its last lines on and followed. The keeper cuts off what it has copied to `output.log.1` while the
//! application goes on writing, others rename the file or empty it: the reader finds its place again by what it read last, in whichever file
//! that lies now. It holds a few hundred bytes and one file, never follows a link, and never waits in a pipe that somebody laid in the log's
//! place.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use crate::{clock, files, folder::Folder};

/// Bytes by which the place is known again.
const ANCHOR: usize = 256;
/// Bytes that are searched at a time for the beginning of the last lines.
const BLOCK: usize = 64 << 10;
/// Bytes that are searched at most: a file of nothing but a hole may have any length.
const MAX_SEARCHED: u64 = 16 << 20;
/// Older files that are looked at, whatever number lies there.
const MAX_OLDER: u32 = 100;
/// In place of what was rotated away for good before it was read.
const LOST: &[u8] = b"... (landfall: the log was rotated faster than it was read; lines are missing here)\n";

/// One log of a folder, and the place up to which it was read.
#[derive(Debug)]
pub struct LogReader {
    folder: Folder,
    /// Of this older file alone, which does not grow; `None`: up to the current one, and on.
    alone: Option<u32>,
    file: Option<File>,
    /// The file is the current one, or was when it was looked at last.
    is_current: bool,
    position: u64,
    /// What stands right before the position.
    anchor: Vec<u8>,
    /// What is to be said before the next bytes.
    notice: &'static [u8],
}

impl LogReader {
    /// `number`: 0 for the current file, 1 for the one before it. `last_lines`: so many from the end; `None`: all. A file that is not there
    /// is waited for by [`Self::read`].
    pub fn open(folder: &Folder, number: u32, last_lines: Option<u32>) -> io::Result<Self> {
        let mut reader = Self::new(folder);
        reader.alone = (number > 0).then_some(number);
        let files: Vec<File> = open(&folder.log(number))?.into_iter().collect();
        reader.begin(files, last_lines, 0)
    }

    /// All files as one text, the oldest first. `last_lines` as in [`Self::open`]; `since_seconds`: without files in which nothing was
    /// written in the last so many seconds.
    pub fn whole(folder: &Folder, last_lines: Option<u32>, since_seconds: Option<u64>) -> io::Result<Self> {
        let reader = Self::new(folder);
        let mut files: Vec<File> = open(&folder.log(0))?.into_iter().collect();
        files.extend(older(folder));
        let after = since_seconds.map_or(i64::MIN, |seconds| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            (clock::wall_millis() / 1000).saturating_sub(seconds)
        });
        reader.begin(files, last_lines, after)
    }

    fn new(folder: &Folder) -> Self {
        Self {
            folder: folder.clone(),
            alone: None,
            file: None,
            is_current: false,
            position: 0,
            anchor: Vec::new(),
            notice: &[],
        }
    }

    /// The file is there.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Goes to where the wanted part begins. `files`: the newest first. `after`: seconds since 1970.
    fn begin(mut self, files: Vec<File>, last_lines: Option<u32>, after: i64) -> io::Result<Self> {
        let mut search = last_lines.map(LastLines::new);
        let mut newest = true;
        for file in files {
            let metadata = file.metadata()?;
            // What is older begins before what is wanted.
            if metadata.mtime() < after {
                if newest {
                    self.position = metadata.len();
                    self.anchor = before(&file, self.position)?;
                    self.file = Some(file);
                }
                break;
            }
            newest = false;
            let found = search.as_mut().map(|search| search.look(&file, metadata.len())).transpose()?.flatten();
            self.position = found.unwrap_or(0);
            self.anchor = before(&file, self.position)?;
            self.file = Some(file);
            if found.is_some() {
                break;
            }
        }
        Ok(self)
    }

    /// The next bytes; 0: none yet.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.alone.is_some() {
            return self.read_on(buffer);
        }
        loop {
            if self.file.is_none() {
                self.file = open(&self.folder.log(0))?;
            }
            self.find_place()?;
            if !self.notice.is_empty() {
                let count = self.notice.len().min(buffer.len());
                let (said, rest) = self.notice.split_at(count);
                buffer.get_mut(..count).unwrap_or_default().copy_from_slice(said);
                self.notice = rest;
                return Ok(count);
            }
            let count = self.read_on(buffer)?;
            if count > 0 || !self.go_on()? {
                return Ok(count);
            }
        }
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.file = open(&self.folder.log(self.alone.unwrap_or(0)))?;
        }
        let Some(file) = &self.file else { return Ok(0) };
        let count = file.read_at(buffer, self.position)?;
        self.position += count as u64;
        self.anchor.extend(buffer.iter().take(count).skip(count.saturating_sub(ANCHOR)));
        let surplus = self.anchor.len().saturating_sub(ANCHOR);
        self.anchor.drain(..surplus);
        Ok(count)
    }

    /// This file was read to its end: goes to the one after it. False: there is none.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let held = identity(file)?;
        loop {
            let number = self.number_of(held);
            let next = match number {
                Some(0) => {
                    self.is_current = true;
                    return Ok(false);
                }
                Some(number) => number - 1,
                // The current one was removed, not rotated.
                None if self.is_current => 0,
                None => u32::try_from(older(&self.folder).len()).unwrap_or(0),
            };
            // Renamed, and no new one is there yet.
            let Some(newer) = open(&self.folder.log(next))? else { return Ok(false) };
            // Files were moved on in between.
            if self.number_of(held) != number {
                continue;
            }
            // A copy is still being made, or was not cut off yet: what it holds is the beginning of the current one.
            let is_copy = next == 0 && self.position > 0 && stands_before(&newer, self.position, &self.anchor)?;
            if !is_copy {
                self.position = 0;
                self.anchor.clear();
            }
            if number.is_none() && !self.is_current {
                self.notice = LOST;
            }
            self.is_current = next == 0;
            self.file = Some(newer);
            return Ok(true);
        }
    }

    /// Which file that is now.
    fn number_of(&self, held: (u64, u64)) -> Option<u32> {
        for number in 0..=MAX_OLDER {
            match fs::symlink_metadata(self.folder.log(number)) {
                Ok(found) if (found.dev(), found.ino()) == held => return Some(number),
                Ok(_) => {}
                // A log that was renamed by others may have none of its name yet.
                Err(_) if number == 0 => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// The place among these files, the newest first: in which, and where in it.
    fn place_in(&self, files: &[File], lengths: &[u64]) -> io::Result<Option<(usize, u64)>> {
        for rotations in 1..files.len() {
            if let Some((number, position)) = moved(lengths, rotations, self.position)
                && stands_across(files, lengths, number, position, &self.anchor)?
            {
                return Ok(Some((number, position)));
            }
        }
        // Where a file system can't cut off a beginning, the last bytes were copied and the file emptied: how many went before is not known.
        let mut budget = MAX_SEARCHED;
        for (number, (file, length)) in files.iter().zip(lengths).enumerate().skip(1) {
            if let Some(position) = last_place_of(&self.anchor, file, *length, &mut budget)? {
                return Ok(Some((number, position)));
            }
        }
        Ok(None)
    }

    /// Goes to where reading stopped, wherever that lies now: the beginning of the current file was cut off, perhaps more than once.
    fn find_place(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if stands_before(file, self.position, &self.anchor)? {
            return Ok(());
        }
        let mut files = vec![file.try_clone()?];
        files.extend(older(&self.folder));
        let lengths: Vec<u64> = files.iter().map(|file| Ok(file.metadata()?.len())).collect::<io::Result<_>>()?;
        if let Some((number, position)) = self.place_in(&files, &lengths)? {
            self.position = position;
            // What of it lies in the file before was seen there just now.
            let within = self.anchor.len().min(usize::try_from(position).unwrap_or(usize::MAX));
            self.anchor.drain(..self.anchor.len() - within);
            self.is_current = number == 0;
            self.file = Some(files.swap_remove(number));
            return Ok(());
        }
        if files.len() > 1 {
            self.notice = LOST;
        }
        self.position = 0;
        self.anchor.clear();
        Ok(())
    }
}

/// Offset right behind the last occurrence of these bytes.
fn last_place_of(bytes: &[u8], file: &File, length: u64, budget: &mut u64) -> io::Result<Option<u64>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut buffer = vec![0; BLOCK + ANCHOR];
    let mut end = length;
    while end >= bytes.len() as u64 && *budget > 0 {
        let start = end.saturating_sub((BLOCK + bytes.len()) as u64);
        let block = buffer.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
        file.read_exact_at(block, start)?;
        if let Some(at) = block.windows(bytes.len()).rposition(|window| window == bytes) {
            return Ok(Some(start + (at + bytes.len()) as u64));
        }
        if start == 0 {
            break;
        }
        // One that lies across the blocks is in the next one.
        end = start + bytes.len() as u64 - 1;
        *budget = budget.saturating_sub(BLOCK as u64);
    }
    Ok(None)
}

/// Where a place of the current file lies after so many rotations: in which file, and where in it.
fn moved(lengths: &[u64], rotations: usize, position: u64) -> Option<(usize, u64)> {
    let mut left = position;
    for number in (1..=rotations).rev() {
        let length = *lengths.get(number)?;
        if left <= length {
            return Some((number, left));
        }
        left -= length;
    }
    Some((0, left))
}

/// These bytes stand right before a place, where its file begins in the middle of them in the one before it.
fn stands_across(files: &[File], lengths: &[u64], number: usize, position: u64, bytes: &[u8]) -> io::Result<bool> {
    let within = bytes.len().min(usize::try_from(position).unwrap_or(usize::MAX));
    let (first, rest) = bytes.split_at(bytes.len() - within);
    let Some(file) = files.get(number) else { return Ok(false) };
    if !stands_before(file, position, rest)? {
        return Ok(false);
    }
    match (first.is_empty(), files.get(number + 1), lengths.get(number + 1)) {
        (true, ..) => Ok(true),
        (false, Some(before), Some(length)) => stands_before(before, *length, first),
        (false, ..) => Ok(false),
    }
}

/// The older files, the newest first.
fn older(folder: &Folder) -> Vec<File> {
    (1..=MAX_OLDER).map_while(|number| open(&folder.log(number)).ok().flatten()).collect()
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Opens a plain file; `None`: there is none.
fn open(path: &Path) -> io::Result<Option<File>> {
    match files::open_to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
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

/// The beginning of the last lines, looked for from the end, file by file. A last line without its end counts as one.
struct LastLines {
    left: u32,
    /// Bytes that may still be searched.
    budget: u64,
    /// Nothing was searched yet: the end of the last line begins no line.
    at_end: bool,
}

impl LastLines {
    fn new(lines: u32) -> Self {
        Self { left: lines, budget: MAX_SEARCHED, at_end: true }
    }

    /// Offset in this file at which they begin; `None`: in an older one.
    fn look(&mut self, file: &File, length: u64) -> io::Result<Option<u64>> {
        if self.left == 0 {
            return Ok(Some(length));
        }
        let mut buffer = vec![0; BLOCK];
        let mut at = length;
        while at > 0 {
            if self.budget == 0 {
                return Ok(Some(at));
            }
            let count = at.min(BLOCK as u64).min(self.budget);
            at -= count;
            self.budget -= count;
            let block = buffer.get_mut(..usize::try_from(count).unwrap_or(BLOCK)).unwrap_or_default();
            file.read_exact_at(block, at)?;
            for (index, byte) in block.iter().enumerate().rev() {
                let is_last = std::mem::replace(&mut self.at_end, false);
                if *byte != b'\n' || is_last {
                    continue;
                }
                self.left -= 1;
                if self.left == 0 {
                    return Ok(Some(at + index as u64 + 1));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write, os::unix::fs::symlink};

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
    fn all_files_are_one_text_from_the_oldest_on() {
        let fixture = Fixture::new();
        assert!(!LogReader::whole(&fixture.folder, None, None).unwrap().is_open());
        fs::write(fixture.folder.log(2), "a\nb\nc").unwrap();
        fs::write(fixture.folder.log(1), "c\nd\n").unwrap();
        fixture.write("e\nf\n");
        let whole = |lines| all(&mut LogReader::whole(&fixture.folder, lines, None).unwrap());
        assert_eq!(whole(None), "a\nb\ncc\nd\ne\nf\n");
        assert_eq!(whole(Some(1)), "f\n");
        assert_eq!(whole(Some(2)), "e\nf\n");
        assert_eq!(whole(Some(3)), "d\ne\nf\n");
        assert_eq!(whole(Some(4)), "cc\nd\ne\nf\n", "a line lies across two files");
        assert_eq!(whole(Some(5)), "b\ncc\nd\ne\nf\n");
        assert_eq!(whole(Some(6)), whole(None));
        assert_eq!(whole(Some(7)), whole(None));
        assert_eq!(whole(Some(0)), "");
        // A log of which only older files are left is waited for after them.
        fs::remove_file(fixture.folder.log(0)).unwrap();
        let mut reader = LogReader::whole(&fixture.folder, Some(1), None).unwrap();
        assert_eq!(all(&mut reader), "d\n");
        fixture.write("g\n");
        assert_eq!(all(&mut reader), "g\n");
    }

    #[test]
    fn files_without_a_line_in_the_last_time_are_left_out() {
        let fixture = Fixture::new();
        let hours_ago = |number, hours: u64| {
            let time = std::time::SystemTime::UNIX_EPOCH
                + std::time::Duration::from_secs(clock::wall_millis() as u64 / 1000 - hours * 3600);
            File::options().write(true).open(fixture.folder.log(number)).unwrap().set_modified(time).unwrap();
        };
        fs::write(fixture.folder.log(2), "a\n").unwrap();
        fs::write(fixture.folder.log(1), "b\n").unwrap();
        fixture.write("c\n");
        hours_ago(2, 5);
        hours_ago(1, 3);
        hours_ago(0, 1);
        let since = |hours: u64| all(&mut LogReader::whole(&fixture.folder, None, Some(hours * 3600)).unwrap());
        assert_eq!([since(6), since(4), since(2)], ["a\nb\nc\n", "b\nc\n", "c\n"]);
        let mut reader = LogReader::whole(&fixture.folder, None, Some(60)).unwrap();
        assert_eq!(all(&mut reader), "");
        fixture.write("d\n");
        assert_eq!(all(&mut reader), "d\n");
        assert_eq!(all(&mut LogReader::whole(&fixture.folder, Some(1), Some(7 * 3600)).unwrap()), "d\n");
        assert_eq!(since(u64::MAX / 3600), "a\nb\nc\nd\n");
    }

    /// The file is rotated as the keeper does it where the file system can cut off a beginning.
    fn rotate(folder: &Folder, keep: u32, cut: usize) {
        for number in (1..keep).rev() {
            let _ = fs::rename(folder.log(number), folder.log(number + 1));
        }
        let text = fs::read(folder.log(0)).unwrap();
        fs::write(folder.log(1), &text[..cut]).unwrap();
        fs::write(folder.log(0), &text[cut..]).unwrap();
    }

    #[test]
    fn a_reader_finds_its_place_after_several_rotations() {
        // Where it stands: in what was cut off first, at its end, right after it, later.
        for read in [100, 4095, 4096, 4097, 5000, 8192, 9000] {
            for rotations in 1..=3 {
                let fixture = Fixture::new();
                let text = lines(0..2000);
                fixture.write(&text);
                let mut reader = fixture.reader(None);
                let mut buffer = vec![0; read];
                assert_eq!(reader.read(&mut buffer).unwrap(), read);
                for _ in 0..rotations {
                    rotate(&fixture.folder, 5, 4096);
                }
                fixture.write("end\n");
                assert_eq!(all(&mut reader), format!("{}end\n", &text[read..]), "{read} {rotations}");
            }
        }
    }

    #[test]
    fn a_reader_finds_its_place_where_the_last_bytes_were_copied_and_the_file_was_emptied() {
        let text = lines(0..20_000);
        for read in [1000, text.len() - 100_000, text.len() - 70_000, text.len() - 10, text.len()] {
            let fixture = Fixture::new();
            fixture.write(&text);
            let mut reader = fixture.reader(None);
            let mut buffer = vec![0; read];
            assert_eq!(reader.read(&mut buffer).unwrap(), read);
            fs::write(fixture.folder.log(1), &text[text.len() - 150_000..]).unwrap();
            fs::write(fixture.folder.log(0), "end\n").unwrap();
            let rest = all(&mut reader);
            if read == 1000 {
                assert_eq!(rest, format!("{}end\n", std::str::from_utf8(LOST).unwrap()), "it is not kept any more");
            } else {
                assert_eq!(rest, format!("{}end\n", &text[read..]), "{read}");
            }
        }
    }

    #[test]
    fn a_whole_log_is_read_without_a_gap_while_it_is_rotated() {
        let fixture = Fixture::new();
        let text = lines(0..9000);
        fixture.write(&text);
        rotate(&fixture.folder, 9, 8192);
        rotate(&fixture.folder, 9, 8192);
        let mut reader = LogReader::whole(&fixture.folder, None, None).unwrap();
        let mut read = Vec::new();
        let mut buffer = [0; 3000];
        for turn in 0.. {
            let count = reader.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            read.extend(&buffer[..count]);
            if turn % 5 == 1 && turn < 17 {
                rotate(&fixture.folder, 9, 8192);
            }
        }
        assert_eq!(String::from_utf8(read).unwrap(), text);
    }

    #[test]
    fn a_copy_that_is_not_cut_off_yet_is_not_read_twice() {
        let fixture = Fixture::new();
        let text = lines(0..1000);
        fixture.write(&text);
        // Half of it was copied by now.
        fs::write(fixture.folder.log(1), &text[..2000]).unwrap();
        let mut reader = LogReader::whole(&fixture.folder, None, None).unwrap();
        let mut buffer = [0; 3000];
        assert_eq!(reader.read(&mut buffer).unwrap(), 2000);
        assert_eq!(reader.read(&mut buffer).unwrap(), 3000);
        assert_eq!(&buffer[..], &text.as_bytes()[2000..5000]);
        fs::write(fixture.folder.log(1), &text[..4096]).unwrap();
        fs::write(fixture.folder.log(0), &text[4096..]).unwrap();
        assert_eq!(all(&mut reader), text[5000..]);
    }

    #[test]
    fn what_was_rotated_away_before_it_was_read_is_said_to_be_missing() {
        let fixture = Fixture::new();
        let text = lines(0..9000);
        fixture.write(&text);
        rotate(&fixture.folder, 2, 4096);
        for begins_in_the_older in [true, false] {
            let mut reader = match begins_in_the_older {
                true => LogReader::whole(&fixture.folder, None, None).unwrap(),
                false => fixture.reader(None),
            };
            let mut buffer = [0; 10];
            reader.read(&mut buffer).unwrap();
            for _ in 0..3 {
                rotate(&fixture.folder, 2, 4096);
            }
            let rest = all(&mut reader);
            let (before, after) = rest.split_once("... (landfall: the log was rotated").unwrap();
            assert!(after.ends_with(&text[text.len() - 1000..]), "{begins_in_the_older}");
            assert_eq!(before.is_empty(), !begins_in_the_older, "a file that is held is read to its end");
        }
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
