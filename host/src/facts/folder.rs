//! One project's folder: what the records say, and what is true of its application now.

use std::{
    fs,
    path::Component,
    sync::{Mutex, PoisonError},
};

use landfall_host_protocol::{FolderFacts, LastTask, ReleaseName};

use super::is_real_folder;
use crate::{
    folder::Folder,
    records::{Journal, fence, owner, shell},
    runtime,
    steps::staged,
    task,
};

/// Reads of this process. One at a time, so that their numbers are in the order of what they saw.
static READS: Mutex<u64> = Mutex::new(0);

/// Facts of a folder; `None` where nothing of ours is. A record that can't be read counts as none here: whoever acts reads it again under
/// the lock, and refuses there.
pub fn folder(folder: &Folder) -> Option<FolderFacts> {
    if !is_real_folder(&folder.dot()) {
        return None;
    }
    let mut reads = READS.lock().unwrap_or_else(PoisonError::into_inner);
    *reads += 1;
    let current = current(folder);
    let journal = Journal::read(folder).unwrap_or_default();
    let last = journal.last_end().map(|line| LastTask {
        id: line.task.clone(),
        author: line.by.clone(),
        outcome: line.outcome.clone(),
        journal: line.n,
    });
    let mut facts = FolderFacts {
        seen: *reads,
        owner: owner::read(folder).unwrap_or_default(),
        fence: fence::read(folder).unwrap_or_default(),
        journal: journal.number(),
        task: task::open(folder),
        drained: task::is_drained(folder),
        last_task: last,
        releases: staged::facts(folder, current.as_ref()),
        current,
        by_hand: journal.by_hand(),
        shell_helper: has_shell_helper(folder),
        ..FolderFacts::default()
    };
    runtime::recorded(folder).observe(folder, &mut facts);
    Some(facts)
}

/// What the shell helper left is not taken over yet, or a step of its is under way.
pub fn has_shell_helper(folder: &Folder) -> bool {
    shell::process(folder).is_some() || shell::is_acting(folder)
}

/// The release that `current` points at; a link of somebody else's making names none.
pub(crate) fn current(folder: &Folder) -> Option<ReleaseName> {
    let target = fs::read_link(folder.current()).ok()?;
    let mut components = target.components();
    match (components.next()?, components.next()?, components.next()) {
        (Component::Normal(releases), Component::Normal(name), None) if releases == "releases" => {
            ReleaseName::parse(name.to_str()?)
        }
        _ => None,
    }
}
