//! What a look finds undone and mends: an application whose keeper was killed gets another, and a task whose runner died is undone where it
//! has something to undo. Nothing is started and nothing is stopped that a task did not ask for.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use landfall_host_protocol::{FolderFacts, FolderName, ProcessState};

use crate::{folder::Folder, program, records::Lock, runtime, task};

/// What was tried last for each folder, so that what can't be mended is not tried again and again.
#[derive(Debug, Default)]
pub(super) struct Mending {
    attended: BTreeMap<FolderName, (i32, u64)>,
    undone: BTreeMap<FolderName, u64>,
}

impl Mending {
    /// The work that is due in this folder, to be done in a thread.
    pub(super) fn due(&mut self, folder: &Folder, facts: &FolderFacts) -> Option<impl FnOnce() + Send + use<>> {
        let attends = self.needs_keeper(folder.name(), facts);
        let undoes = self.needs_undo(folder, facts);
        let folder = folder.clone();
        (attends || undoes).then_some(move || {
            if attends {
                attend(&folder);
            }
            if undoes {
                undo(&folder);
            }
        })
    }

    /// An application that runs without a keeper, and no task that is about to change that.
    fn needs_keeper(&mut self, name: &FolderName, facts: &FolderFacts) -> bool {
        let process = facts.process.as_ref().filter(|process| {
            process.state == ProcessState::Running && process.config.is_some() && facts.keeper.is_none()
        });
        let is_acted_on = facts.task.as_ref().is_some_and(|task| task.running);
        let Some(process) = process.filter(|_| !is_acted_on) else {
            self.attended.remove(name);
            return false;
        };
        let identity = (process.pid, process.start);
        self.attended.insert(name.clone(), identity) != Some(identity)
    }

    fn needs_undo(&mut self, folder: &Folder, facts: &FolderFacts) -> bool {
        let is_lost = facts.task.as_ref().is_some_and(|task| !task.running) && task::is_undo_due(folder);
        is_lost && self.undone.insert(folder.name().clone(), facts.journal) != Some(facts.journal)
    }
}

/// Under the lock, so that no task begins meanwhile; what was true a moment ago is looked at again.
fn attend(folder: &Folder) {
    let Ok(_lock) = Lock::take(folder, "puts a keeper beside the application") else { return };
    if task::open(folder).is_none_or(|task| !task.running) {
        // What fails here is seen: the facts name no keeper.
        let _ = runtime::attend(folder, None);
    }
}

/// By a process of its own, for a drain's undo may outlive the session.
fn undo(folder: &Folder) {
    let mut command = Command::new(program::path());
    command.arg("undo-task").arg(folder.root()).arg(folder.name().as_str());
    // It is reaped by the loop.
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
