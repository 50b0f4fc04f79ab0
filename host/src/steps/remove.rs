//! `remove`: the application is stopped and the folder is gone: at once for whoever looks, by a rename; its files then go one by one.

use std::{io, path::PathBuf};

use landfall_host_protocol::{Outcome, Reason, TaskResult};

use super::{Context, Done, internal};
use crate::{clock, failure::StepResult, files, folder::Folder, gate, records::Lock, runtime, task};

pub(super) fn remove(context: &Context<'_>) -> StepResult<Done> {
    let folder = context.folder;
    runtime::recorded(folder).stop(folder)?;
    runtime::clear_data(folder)?;
    // The task's own files go with the folder.
    let result = TaskResult { outcome: Outcome::Succeeded, journal: 0 };
    task::keep_result(folder, &context.task.id, &result)
        .map_err(|error| files::failure(Reason::Internal, &error, folder.root()))?;
    let lock = Lock::take(folder, "removes the folder").map_err(|refusal| internal(format!("{refusal:?}")))?;
    let trash = trash(folder);
    set_aside(folder, &trash).map_err(|error| files::failure(Reason::Internal, &error, &folder.path()))?;
    drop(lock);
    if let Err(error) = gate::pass("trash.remove", || files::remove_below(folder.root(), &trash)) {
        context.progress(format!("{} can't be removed as a whole: {error}", trash.display()));
    }
    Ok(Done::Ended)
}

fn trash(folder: &Folder) -> PathBuf {
    let unique = format!("{}.{}.{}", folder.name(), std::process::id(), clock::wall_millis());
    folder.root().join(".landfall/trash").join(unique)
}

fn set_aside(folder: &Folder, trash: &std::path::Path) -> io::Result<()> {
    gate::pass("folder.setAside", || {
        if let Some(parent) = trash.parent() {
            files::create_folder(parent, 0o700)?;
        }
        files::rename(&folder.path(), trash)?;
        files::sync_parent(trash)?;
        files::sync_dir(folder.root())
    })
}
