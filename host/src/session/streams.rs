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

struct Log {
    folder: Folder,
    reader: LogReader,
    follows: bool,
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
    logs: BTreeMap<u32, Log>,
    tasks: BTreeMap<u32, Following>,
}

impl Streams {
    pub(super) fn is_full(&self) -> bool {
        self.opening.len() + self.logs.len() + self.tasks.len() >= MAX_STREAMS
    }

    pub(super) fn has(&self, id: u32) -> bool {
        self.opening.contains(&id) || self.logs.contains_key(&id) || self.tasks.contains_key(&id)
    }

    /// A thread is at work for what is to go on under this id.
    pub(super) fn open(&mut self, id: u32) {
        self.opening.insert(id);
    }

    /// That thread is done; false: it was closed meanwhile.
    pub(super) fn opened(&mut self, id: u32) -> bool {
        self.opening.remove(&id)
    }

    pub(super) fn log(&mut self, id: u32, folder: Folder, reader: LogReader, follows: bool, watch: &mut Watch) {
        if follows {
            watch_log(&folder, watch);
        }
        self.logs.insert(id, Log { folder, reader, follows, is_due: true });
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

    /// Says a piece of each. Answers the tasks that ended.
    pub(super) fn advance(&mut self, out: &mut Outgoing, watch: &mut Watch) -> Vec<TaskEnd> {
        self.logs.retain(|id, log| {
            let goes_on = !log.is_due || !out.is_idle() || log.advance(*id, out);
            if !goes_on {
                out.bytes(*id, Kind::LastBytes, &[]);
            }
            goes_on
        });
        let mut ended = Vec::new();
        self.tasks.retain(|id, following| {
            if !following.is_due || !out.is_idle() {
                return true;
            }
            let Some(result) = following.advance(*id, out) else { return true };
            ended.push(TaskEnd { id: *id, folder: following.folder.clone(), result });
            false
        });
        self.forget_watches(watch);
        ended
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
    /// False: this was all.
    fn advance(&mut self, id: u32, out: &mut Outgoing) -> bool {
        let mut buffer = [0; PIECE];
        // What can't be read has ended, as for `tail`.
        let count = self.reader.read(&mut buffer).unwrap_or(0);
        out.bytes(id, Kind::Bytes, buffer.get(..count).unwrap_or_default());
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
