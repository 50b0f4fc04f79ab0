//! One project's folder: what the records say, and what is true of its application now.

use std::{fs, path::Component};

use landfall_host_protocol::{FolderFacts, ReleaseName};

use super::is_real_folder;
use crate::{
    folder::Folder,
    records::{Journal, fence, owner, shell},
    runtime,
    steps::staged,
    task,
};

/// Facts of a folder; `None` where nothing of ours is. A record that can't be read counts as none here: whoever acts reads it again under
/// the lock, and refuses there.
pub fn folder(folder: &Folder) -> Option<FolderFacts> {
    if !is_real_folder(&folder.dot()) {
        return None;
    }
    let current = current(folder);
    let journal = Journal::read(folder).unwrap_or_default();
    let mut facts = FolderFacts {
        owner: owner::read(folder).unwrap_or_default(),
        fence: fence::read(folder).unwrap_or_default(),
        journal: journal.number(),
        task: task::open(folder),
        releases: staged::facts(folder, current.as_ref()),
        current,
        by_hand: journal.by_hand(),
        shell_helper: shell::process(folder).is_some() || shell::is_acting(folder),
        ..FolderFacts::default()
    };
    runtime::recorded(folder).observe(folder, &mut facts);
    Some(facts)
}

/// The release that `current` points at; a link of somebody else's making names none.
fn current(folder: &Folder) -> Option<ReleaseName> {
    let target = fs::read_link(folder.current()).ok()?;
    let mut components = target.components();
    match (components.next()?, components.next()?, components.next()) {
        (Component::Normal(releases), Component::Normal(name), None) if releases == "releases" => {
            ReleaseName::parse(name.to_str()?)
        }
        _ => None,
    }
}
