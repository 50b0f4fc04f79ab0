//! `events`: a line for everything that happens in a task. They are for who watches, so they are written at once and not synced; what
//! must not be lost is in the journal and in `result`.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    time::Instant,
};

use landfall_host_protocol::{Event, EventKind, StepName, TaskId};

use super::store;
use crate::{clock, files, folder::Folder};

/// Bytes of events of one task; output beyond that is cut.
const MAX_BYTES: u64 = 4 << 20;
/// Bytes and number of events in one answer.
const MAX_ANSWER: usize = 256 << 10;
const MAX_EVENTS: usize = 1000;
/// Longest line that can be an event: text of 8 KiB, escaped.
const MAX_LINE: u64 = 64 << 10;
const PIECE: usize = 64 << 10;

/// The runner's end.
#[derive(Debug)]
pub struct Events {
    file: RefCell<File>,
    began: Instant,
    written: Cell<u64>,
    cut: Cell<u64>,
}

impl Events {
    pub(super) fn create(folder: &Folder, task: &TaskId) -> io::Result<Self> {
        let path = store::events(folder, task);
        let file = files::open_append(&path, 0o600)?;
        // A runner that died may have left half a line.
        let whole = end_of_lines(&file)?;
        file.set_len(whole)?;
        let file = RefCell::new(file);
        Ok(Self { file, began: clock::monotonic(), written: Cell::new(whole), cut: Cell::new(0) })
    }

    /// Says what happened. A full disk loses events and nothing else.
    pub fn say(&self, step: StepName, kind: EventKind) {
        let is_output = matches!(kind, EventKind::Line { .. } | EventKind::Cut { .. } | EventKind::Progress { .. });
        if is_output && self.written.get() > MAX_BYTES {
            let cut = match &kind {
                EventKind::Line { text, .. } => text.len() as u64,
                EventKind::Cut { bytes } => *bytes,
                _ => 0,
            };
            self.cut.set(self.cut.get().saturating_add(cut));
            return;
        }
        if !is_output && self.cut.get() > 0 {
            let bytes = self.cut.replace(0);
            self.write(step, EventKind::Cut { bytes });
        }
        self.write(step, kind);
    }

    fn write(&self, step: StepName, kind: EventKind) {
        let after_millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Ok(mut line) = serde_json::to_vec(&Event { after_millis, step, kind }) else { return };
        line.push(b'\n');
        self.written.set(self.written.get() + line.len() as u64);
        let _ = self.file.borrow_mut().write_all(&line);
    }
}

/// Where the last whole line ends. It is looked for from the end on, whatever the length.
fn end_of_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut piece = vec![0; PIECE];
    while end > 0 {
        let start = end.saturating_sub(PIECE as u64);
        let wanted = usize::try_from(end - start).unwrap_or(PIECE);
        let piece = piece.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(piece, start)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Events from the line `offset` on, as many as fit one answer. A last line that is not whole yet is not there yet.
pub(super) fn read(folder: &Folder, task: &TaskId, offset: u64) -> io::Result<Vec<Event>> {
    let file = match files::open_to_read(&store::events(folder, task)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut file = BufReader::new(file);
    let mut found = Vec::new();
    let (mut number, mut bytes) = (0u64, 0);
    let mut line = Vec::new();
    while found.len() < MAX_EVENTS && bytes < MAX_ANSWER {
        line.clear();
        file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        if number >= offset {
            let Ok(event) = serde_json::from_slice(&line) else { break };
            bytes += line.len();
            found.push(event);
        }
        number += 1;
    }
    Ok(found)
}

/// The last event.
pub(super) fn last(folder: &Folder, task: &TaskId) -> Option<Event> {
    let mut file = files::open_to_read(&store::events(folder, task)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(2 * MAX_LINE))).ok()?;
    let mut text = Vec::new();
    file.take(2 * MAX_LINE).read_to_end(&mut text).ok()?;
    let whole = text.iter().rposition(|byte| *byte == b'\n')?;
    text.get(..whole)?.rsplit(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::FolderName;

    use super::*;

    /// Without `run.user` the application could put one there.
    #[test]
    fn a_fifo_in_the_place_of_a_record_holds_nobody() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let (_root, folder, id) = task();
        std::fs::create_dir_all(folder.task(&id)).unwrap();
        for path in [store::events(&folder, &id), store::lock(&folder, &id)] {
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }
        assert!(read(&folder, &id, 0).is_err());
        assert_eq!(last(&folder, &id), None);
        assert!(!crate::task::is_running(&folder, &id));
    }

    fn task() -> (tempfile::TempDir, Folder, TaskId) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        let id = TaskId { uid: "uid".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: 0 };
        std::fs::create_dir_all(folder.task(&id)).unwrap();
        (root, folder, id)
    }

    fn line(text: &str) -> EventKind {
        EventKind::Line { stream: 1, text: text.to_owned() }
    }

    #[test]
    fn events_are_read_from_any_line_on() {
        let (_root, folder, id) = task();
        assert_eq!(read(&folder, &id, 0).unwrap(), []);
        let events = Events::create(&folder, &id).unwrap();
        for text in ["a", "b\n\"c", "d"] {
            events.say(StepName::Hook, line(text));
        }
        let kinds = |offset| -> Vec<EventKind> {
            read(&folder, &id, offset).unwrap().into_iter().map(|event| event.kind).collect()
        };
        assert_eq!(kinds(0), [line("a"), line("b\n\"c"), line("d")]);
        assert_eq!(kinds(2), [line("d")]);
        assert_eq!(kinds(3), []);
        assert_eq!(last(&folder, &id).map(|event| event.kind), Some(line("d")));
    }

    #[test]
    fn a_line_that_is_not_whole_yet_is_not_told() {
        let (_root, folder, id) = task();
        let events = Events::create(&folder, &id).unwrap();
        events.say(StepName::Hook, line("a"));
        let path = store::events(&folder, &id);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], &whole[..10]].concat()).unwrap();
        assert_eq!(read(&folder, &id, 0).unwrap().len(), 1);
        assert_eq!(last(&folder, &id).map(|event| event.kind), Some(line("a")));
    }

    #[test]
    fn output_without_end_is_cut_and_counted() {
        let (_root, folder, id) = task();
        let events = Events::create(&folder, &id).unwrap();
        let text = "x".repeat(8 << 10);
        for _ in 0..1000 {
            events.say(StepName::Hook, line(&text));
        }
        events.say(StepName::Hook, EventKind::Ended);
        assert!(std::fs::metadata(store::events(&folder, &id)).unwrap().len() < MAX_BYTES + (64 << 10));
        let (mut offset, mut all) = (0, Vec::new());
        loop {
            let some = read(&folder, &id, offset).unwrap();
            if some.is_empty() {
                break;
            }
            offset += some.len() as u64;
            all.extend(some);
        }
        let lines = all.iter().filter(|event| matches!(event.kind, EventKind::Line { .. })).count() as u64;
        let cut: u64 = all.iter().map(|event| if let EventKind::Cut { bytes } = event.kind { bytes } else { 0 }).sum();
        assert_eq!(lines * (8 << 10) + cut, 1000 * (8 << 10));
        assert_eq!(all.last().map(|event| event.kind.clone()), Some(EventKind::Ended));
    }

    #[test]
    fn output_that_is_cut_already_is_no_event_beyond_the_bound() {
        let (_root, folder, id) = task();
        let mut told = 0;
        // The second runner goes on in what a dead one left.
        for _ in 0..2 {
            let events = Events::create(&folder, &id).unwrap();
            for _ in 0..1000 {
                events.say(StepName::Hook, line(&"x".repeat(8 << 10)));
                events.say(StepName::Hook, EventKind::Cut { bytes: 5 });
                told += (8 << 10) + 5;
            }
            events.say(StepName::Hook, EventKind::Ended);
        }
        let text = std::fs::read_to_string(store::events(&folder, &id)).unwrap();
        assert!((text.len() as u64) < MAX_BYTES + (64 << 10));
        let said = |line: &str| match serde_json::from_str::<Event>(line).unwrap().kind {
            EventKind::Line { text, .. } => text.len() as u64,
            EventKind::Cut { bytes } => bytes,
            _ => 0,
        };
        assert_eq!(text.lines().map(said).sum::<u64>(), told);
        let ends = text.lines().rev().take(4).filter(|line| line.contains("ended")).count();
        assert_eq!(ends, 2, "what is no output is always told");
    }

    #[test]
    fn a_file_of_any_length_is_gone_on_in() {
        let (_root, folder, id) = task();
        let path = store::events(&folder, &id);
        let line = format!("{}\n", "x".repeat(200 << 10));
        let file = File::create(&path).unwrap();
        file.set_len(65 << 20).unwrap();
        file.write_all_at(line.as_bytes(), 65 << 20).unwrap();
        file.write_all_at(&[b'y'; 100_000], (65 << 20) + line.len() as u64).unwrap();
        Events::create(&folder, &id).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (65 << 20) + line.len() as u64);
    }
}
