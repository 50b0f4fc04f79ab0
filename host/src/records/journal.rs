//! `journal`: a numbered line before and after every act, by whom, what and how it ended: the host's own memory. Its numbers tell an
//! operator whether it has seen everything. A last line that broke off is none, one of a later format is in the way; of a hundred lines the
//! last fifty are kept.

use std::io::{self, Write as _};

use landfall_host_protocol::{Author, ByHand, Outcome, TaskId};
use serde::{Deserialize, Serialize};

use super::{lock::Lock, shell};
use crate::{clock, files, folder::Folder, gate};

const MAX_LINES: usize = 100;
const KEPT_LINES: usize = 50;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub n: u64,
    pub kind: LineKind,
    pub by: Author,
    pub task: TaskId,
    /// The act in short: `use v1.4.1`, `stop`.
    pub what: String,
    /// It leaves the application as it is: neither stops, switches nor starts.
    #[serde(default)]
    pub prepares: bool,
    /// How the task ended; of an `End`.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// The host's clock, milliseconds since 1970; shown to people.
    pub at_millis: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LineKind {
    Begin,
    /// What a step needed once its task ended early was done; `what` says how.
    Undo,
    End,
}

/// What a line is written about.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    pub by: &'a Author,
    pub task: &'a TaskId,
    pub what: &'a str,
    pub prepares: bool,
}

/// The lines that are kept.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    lines: Vec<Line>,
    /// Something stands behind the last line.
    torn: bool,
}

impl Journal {
    pub fn read(folder: &Folder) -> io::Result<Self> {
        let text = files::read_whole(&folder.journal())?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let (lines, rest) = text.split_at(whole);
        let read: Vec<Option<Line>> = lines.lines().map(read_line).collect::<io::Result<_>>()?;
        let torn = !rest.is_empty() || read.last().is_some_and(Option::is_none);
        Ok(Self { lines: read.into_iter().flatten().collect(), torn })
    }

    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Number of the last line; 0 where there is none.
    pub fn number(&self) -> u64 {
        self.lines.last().map_or(0, |line| line.n)
    }

    /// The begin of a task that has no end.
    pub fn open(&self) -> Option<&Line> {
        let begun = self.lines.iter().rposition(|line| line.kind == LineKind::Begin)?;
        let (before, after) = self.lines.split_at(begun + 1);
        after.iter().all(|line| line.kind != LineKind::End).then(|| before.last())?
    }

    /// The end of a task, where it is still kept.
    pub fn end_of(&self, task: &TaskId) -> Option<&Line> {
        self.lines.iter().rev().find(|line| line.kind == LineKind::End && &line.task == task)
    }

    /// The end of the task that ended last.
    pub fn last_end(&self) -> Option<&Line> {
        self.lines.iter().rev().find(|line| line.kind == LineKind::End)
    }

    /// The last act on the application, where it was a person's on the host. Tasks that only prepare one change nothing of it.
    pub fn by_hand(&self) -> Option<ByHand> {
        let begun = self.lines.iter().rev().find(|line| line.kind == LineKind::Begin && !line.prepares)?;
        let Author::Hand { reason, user } = &begun.by else { return None };
        Some(ByHand {
            act: begun.what.clone(),
            reason: reason.clone(),
            user: user.clone(),
            at_millis: begun.at_millis,
            journal: begun.n,
        })
    }

    /// Adds a line, which is on the disk when this returns; answers its number.
    pub fn append(
        &mut self,
        folder: &Folder,
        _lock: &Lock,
        kind: LineKind,
        act: Act<'_>,
        outcome: Option<Outcome>,
    ) -> io::Result<u64> {
        let line = Line {
            n: self.number() + 1,
            kind,
            by: act.by.clone(),
            task: act.task.clone(),
            what: act.what.to_owned(),
            prepares: act.prepares,
            outcome,
            at_millis: clock::wall_millis(),
        };
        let path = folder.journal();
        gate::pass("journal.append", || {
            if self.torn || self.lines.len() >= MAX_LINES {
                let first = self.lines.len().saturating_sub(KEPT_LINES);
                // What a person did stays known, however much was prepared since.
                let last = self.lines.iter().rposition(|line| line.kind == LineKind::Begin && !line.prepares);
                let acted = last.filter(|acted| *acted < first).and_then(|acted| self.lines.get(acted).cloned());
                self.lines.drain(..first);
                self.lines.splice(..0, acted);
                let mut text = Vec::new();
                for kept in self.lines.iter().chain([&line]) {
                    text.extend(files::record_line(kept)?);
                }
                return files::write_whole(&path, &text, 0o600);
            }
            // One that was made by who died then may not have come to the disk.
            let is_new = self.lines.is_empty();
            let mut file = files::open_append(&path, 0o600)?;
            let length = file.metadata()?.len();
            let written = file.write_all(&files::record_line(&line)?).and_then(|()| files::sync_file(&file));
            if written.is_err() {
                // No half line is left before the next one.
                let _ = file.set_len(length);
            }
            written?;
            if is_new { files::sync_parent(&path) } else { Ok(()) }
        })?;
        self.torn = false;
        let number = line.n;
        self.lines.push(line);
        Ok(number)
    }
}

/// `None`: it broke off. A whole one that can't be read is of a later program: what it says is not to be passed over, for the numbers go on
/// from it and its task may run.
fn read_line(text: &str) -> io::Result<Option<Line>> {
    let why = match files::parse_record(text.as_bytes()) {
        Ok(line) => return Ok(Some(line)),
        Err(why) => why,
    };
    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of the journal can't be read: {why}")));
    }
    let Some(shell::Line { n, state, step, task }) = shell::journal_line(text) else { return Ok(None) };
    let kind = if state == "begin" { LineKind::Begin } else { LineKind::End };
    Ok(Some(Line { n, kind, by: Author::Operator, task, what: step, prepares: false, outcome: None, at_millis: 0 }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use landfall_host_protocol::FolderName;

    use super::*;

    fn folder(root: &Path) -> Folder {
        let folder = Folder::new(root, FolderName::new("shop", "web"));
        std::fs::create_dir_all(folder.dot()).unwrap();
        folder
    }

    fn task(n: u64) -> TaskId {
        TaskId { uid: "uid".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n }
    }

    fn note(folder: &Folder, kind: LineKind, by: &Author, n: u64) -> u64 {
        let lock = Lock::take(folder, "test").unwrap();
        let mut journal = Journal::read(folder).unwrap();
        let act = Act { by, task: &task(n), what: "use v1.4.1", prepares: false };
        let outcome = (kind == LineKind::End).then_some(Outcome::Succeeded);
        journal.append(folder, &lock, kind, act, outcome).unwrap()
    }

    #[test]
    fn a_begun_task_is_open_until_its_end() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        assert_eq!(Journal::read(&folder).unwrap().number(), 0);
        assert_eq!(note(&folder, LineKind::Begin, &Author::Operator, 0), 1);
        assert_eq!(Journal::read(&folder).unwrap().open().map(|line| line.task.n), Some(0));
        assert_eq!(note(&folder, LineKind::Undo, &Author::Operator, 0), 2);
        assert!(Journal::read(&folder).unwrap().open().is_some());
        assert_eq!(note(&folder, LineKind::End, &Author::Operator, 0), 3);
        let journal = Journal::read(&folder).unwrap();
        assert!(journal.open().is_none());
        assert_eq!(journal.end_of(&task(0)).and_then(|line| line.outcome.clone()), Some(Outcome::Succeeded));
    }

    #[test]
    fn a_last_line_that_broke_off_is_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        note(&folder, LineKind::Begin, &Author::Operator, 0);
        let whole = std::fs::read(folder.journal()).unwrap();
        for torn in [&b"{\"format\":1,\"n\":2"[..], b"{\"format\":1,\"n\":2\n", b"\0\0\0\0", &whole[..whole.len() - 1]]
        {
            std::fs::write(folder.journal(), [&whole[..], torn].concat()).unwrap();
            assert_eq!(Journal::read(&folder).unwrap().number(), 1);
            assert_eq!(note(&folder, LineKind::End, &Author::Operator, 0), 2);
            let journal = Journal::read(&folder).unwrap();
            assert_eq!((journal.number(), journal.lines().len()), (2, 2));
        }
    }

    #[test]
    fn a_line_of_a_later_format_is_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        note(&folder, LineKind::Begin, &Author::Operator, 0);
        let text = std::fs::read_to_string(folder.journal()).unwrap();
        let later = [text.replace("\"format\":1", "\"format\":2"), text.replace("\"begin\"", "\"pause\"")];
        for line in later {
            assert_ne!(line, text);
            std::fs::write(folder.journal(), format!("{text}{line}")).unwrap();
            assert_eq!(Journal::read(&folder).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn of_a_hundred_lines_the_last_fifty_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        for n in 0..130 {
            note(&folder, LineKind::Begin, &Author::Operator, n);
            let journal = Journal::read(&folder).unwrap();
            assert_eq!(journal.number(), n + 1);
            assert!(journal.lines().len() <= MAX_LINES);
            assert!(journal.lines().len() as u64 >= (n + 1).min(KEPT_LINES as u64));
        }
    }

    #[test]
    fn the_journal_of_the_shell_helper_is_carried_on() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let text = "41 begin turn uid-1 3.1 1 40\n42 end turn uid-1 3.1 1 40\n43 begin stage uid-1 4.1 1 42\n";
        std::fs::write(folder.journal(), text).unwrap();
        let journal = Journal::read(&folder).unwrap();
        assert_eq!(journal.number(), 43);
        let open = journal.open().unwrap();
        assert_eq!((open.what.as_str(), open.task.rollout.as_str(), open.task.n), ("stage", "4.1", 42));
        assert_eq!(note(&folder, LineKind::Begin, &Author::Operator, 43), 44);
        assert_eq!(Journal::read(&folder).unwrap().lines().len(), 4);
    }

    #[test]
    fn what_was_prepared_since_hides_no_act_of_a_person() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let by = Author::Hand { reason: "heat".to_owned(), user: None };
        note(&folder, LineKind::Begin, &by, 0);
        note(&folder, LineKind::End, &by, 0);
        for n in 2..200 {
            let lock = Lock::take(&folder, "test").unwrap();
            let mut journal = Journal::read(&folder).unwrap();
            let act = Act { by: &Author::Operator, task: &task(n), what: "stage v2", prepares: true };
            journal.append(&folder, &lock, LineKind::Begin, act, None).unwrap();
            let journal = Journal::read(&folder).unwrap();
            assert_eq!(journal.number(), n + 1);
            assert_eq!(journal.by_hand().unwrap().reason, "heat");
            assert!(journal.lines().len() <= MAX_LINES + 1);
        }
    }

    #[test]
    fn the_last_act_of_a_person_is_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let by = Author::Hand { reason: "all else is down".to_owned(), user: Some("ada".to_owned()) };
        note(&folder, LineKind::Begin, &by, 0);
        note(&folder, LineKind::End, &by, 0);
        let by_hand = Journal::read(&folder).unwrap().by_hand().unwrap();
        assert_eq!((by_hand.act.as_str(), by_hand.user.as_deref()), ("use v1.4.1", Some("ada")));
        assert_eq!(by_hand.journal, 1, "it has the number of its begin");
        note(&folder, LineKind::Begin, &Author::Operator, 2);
        assert_eq!(Journal::read(&folder).unwrap().by_hand(), None);
    }
}
