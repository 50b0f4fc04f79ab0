//! What goes on under an id until its end: a log that is read, a task that is followed. A piece at a time, and only while little waits to be
//! written, so that an answer never stands behind a megabyte of log.

use std::collections::{BTreeMap, BTreeSet};

use landfall_host_protocol::{Answer, Event, Kind, TaskId, TaskResult};

use super::{outgoing::Outgoing, watch::Watch};
use crate::{folder::Folder, logs::LogReader, task};

/// Bytes of a log in one frame.
const PIECE: usize = 32 << 10;
/// Streams at once.
const MAX_STREAMS: usize = 64;
/// Logs among them: tasks are to find room whoever reads logs.
pub(super) const MAX_LOGS: usize = 32;

/// A log that is read.
pub(super) struct Log {
    folder: Folder,
    reader: LogReader,
    follows: bool,
    /// Bytes that may still be sent before the reader asks for more; `None`: no limit.
    window: Option<u64>,
    /// There may be more to read.
    is_due: bool,
}

struct Following {
    folder: Folder,
    task: TaskId,
    /// Number of the next event.
    offset: u64,
    is_due: bool,
}

/// A task that ended; the last thing to say of it takes a look at the folder.
pub(super) struct TaskEnd {
    pub(super) id: u32,
    pub(super) folder: Folder,
    pub(super) result: TaskResult,
}

#[derive(Default)]
pub(super) struct Streams {
    /// Ids whose request is under way in a thread, and was not closed since.
    opening: BTreeSet<u32>,
    /// Logs whose request is under way in a thread, also where it was closed since: the thread is there still.
    opening_logs: BTreeSet<u32>,
    logs: BTreeMap<u32, Log>,
    tasks: BTreeMap<u32, Following>,
    /// The log that said a piece last.
    last_log: u32,
}

impl Streams {
    pub(super) fn is_full(&self) -> bool {
        self.opening.len() + self.logs.len() + self.tasks.len() >= MAX_STREAMS
    }

    pub(super) fn has_most_logs(&self) -> bool {
        self.opening_logs.len() + self.logs.len() >= MAX_LOGS
    }

    pub(super) fn has(&self, id: u32) -> bool {
        self.opening.contains(&id) || self.logs.contains_key(&id) || self.tasks.contains_key(&id)
    }

    /// A thread is at work for what is to go on under this id.
    pub(super) fn open(&mut self, id: u32) {
        self.opening.insert(id);
    }

    /// The same for a log.
    pub(super) fn open_log(&mut self, id: u32) {
        self.open(id);
        self.opening_logs.insert(id);
    }

    /// That thread is done; false: it was closed meanwhile.
    pub(super) fn opened(&mut self, id: u32) -> bool {
        self.opening_logs.remove(&id);
        self.opening.remove(&id)
    }

    pub(super) fn log(&mut self, id: u32, log: Log, out: &mut Outgoing, watch: &mut Watch) {
        if log.follows {
            watch_log(&log.folder, watch);
        }
        // A reader with a window wants to know that it is open: there may be nothing to read for long.
        if log.window.is_some() {
            out.answer(id, &Answer::Done);
        }
        self.logs.insert(id, log);
    }

    /// The reader of a log takes so many bytes more. One that has ended meanwhile is no error.
    pub(super) fn more(&mut self, id: u32, bytes: u64) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.window = log.window.map(|window| window.saturating_add(bytes));
            log.is_due = true;
        }
    }

    pub(super) fn task(&mut self, id: u32, folder: Folder, task: TaskId, offset: u64, watch: &mut Watch) {
        watch.task(&folder.task(&task));
        self.tasks.insert(id, Following { folder, task, offset, is_due: true });
    }

    /// Something changed in a folder of logs.
    pub(super) fn logs_changed(&mut self) {
        self.logs.values_mut().for_each(|log| log.is_due = true);
    }

    /// Something changed in a task's folder.
    pub(super) fn tasks_changed(&mut self) {
        self.tasks.values_mut().for_each(|following| following.is_due = true);
    }

    /// The poll below inotify.
    pub(super) fn poll(&mut self, watch: &mut Watch) {
        self.logs_changed();
        self.tasks_changed();
        for log in self.logs.values().filter(|log| log.follows) {
            watch_log(&log.folder, watch);
        }
    }

    /// Ends what is under way under this id, and says so there. What is opening says so once it is open.
    pub(super) fn close(&mut self, id: u32, out: &mut Outgoing, watch: &mut Watch) {
        self.opening.remove(&id);
        if self.logs.remove(&id).is_some() {
            out.bytes(id, Kind::LastBytes, &[]);
        }
        if self.tasks.remove(&id).is_some() {
            out.answer(id, &Answer::Done);
        }
        self.forget_watches(watch);
    }

    /// There is something to be said, as far as is known.
    pub(super) fn is_due(&self) -> bool {
        self.logs.values().any(|log| log.is_due) || self.tasks.values().any(|following| following.is_due)
    }

    /// Says a piece of each, of tasks first. Answers the tasks that ended.
    pub(super) fn advance(&mut self, out: &mut Outgoing, watch: &mut Watch) -> Vec<TaskEnd> {
        let mut ended = Vec::new();
        self.tasks.retain(|id, following| {
            if !following.is_due || !out.is_idle() {
                return true;
            }
            let Some(result) = following.advance(*id, out) else { return true };
            ended.push(TaskEnd { id: *id, folder: following.folder.clone(), result });
            false
        });
        self.advance_logs(out);
        self.forget_watches(watch);
        ended
    }

    /// The one after that which was last comes first: a log without end leaves room to the others.
    fn advance_logs(&mut self, out: &mut Outgoing) {
        let after = self.logs.range(self.last_log.saturating_add(1)..);
        let due = after.chain(self.logs.range(..=self.last_log)).filter(|(_, log)| log.is_due);
        let due: Vec<u32> = due.map(|(id, _)| *id).collect();
        for id in due {
            if !out.is_idle() {
                return;
            }
            let Some(log) = self.logs.get_mut(&id) else { continue };
            self.last_log = id;
            if !log.advance(id, out) {
                self.logs.remove(&id);
                out.bytes(id, Kind::LastBytes, &[]);
            }
        }
    }

    fn forget_watches(&self, watch: &mut Watch) {
        if self.logs.is_empty() {
            watch.no_log();
        }
        if self.tasks.is_empty() {
            watch.no_task();
        }
    }
}

impl Log {
    pub(super) fn new(folder: Folder, reader: LogReader, follows: bool, window: Option<u64>) -> Self {
        Self { folder, reader, follows, window, is_due: true }
    }

    /// False: this was all.
    fn advance(&mut self, id: u32, out: &mut Outgoing) -> bool {
        let most =
            self.window.map_or(PIECE, |window| usize::try_from(window).map_or(PIECE, |window| window.min(PIECE)));
        if most == 0 {
            self.is_due = false;
            return true;
        }
        let mut buffer = [0; PIECE];
        // What can't be read has ended, as for `tail`.
        let count = self.reader.read(buffer.get_mut(..most).unwrap_or_default()).unwrap_or(0);
        out.bytes(id, Kind::Bytes, buffer.get(..count).unwrap_or_default());
        self.window = self.window.map(|window| window.saturating_sub(count as u64));
        self.is_due = count > 0;
        count > 0 || self.follows
    }
}

impl Following {
    /// The result once every event was told.
    fn advance(&mut self, id: u32, out: &mut Outgoing) -> Option<TaskResult> {
        // The result first: what is read after it are all events.
        let result = task::result(&self.folder, &self.task);
        let events: Vec<Event> = task::events(&self.folder, &self.task, self.offset).unwrap_or_default();
        self.is_due = !events.is_empty();
        if events.is_empty() {
            return result;
        }
        let offset = self.offset;
        self.offset += events.len() as u64;
        out.answer(id, &Answer::Events { offset, events });
        None
    }
}

fn watch_log(folder: &Folder, watch: &mut Watch) {
    watch.log(&folder.shared().join("log"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_opening_counts_as_one_that_is_read() {
        let mut streams = Streams::default();
        (1..=32).for_each(|id| streams.open_log(id));
        assert!(streams.has_most_logs() && !streams.is_full());
        assert!(streams.opened(1) && !streams.has_most_logs());
    }
}
