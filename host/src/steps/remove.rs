//! `remove`: the application is stopped and the folder is gone: at once for whoever looks, by a rename; its files then go one by one.

use std::{io, path::PathBuf};

use landfall_host_protocol::{FolderFacts, Outcome, Reason, TaskResult};

use super::{Context, Done, internal};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    process::suspected,
    records::Lock,
    runtime, task,
};

pub(super) fn remove(context: &Context<'_>) -> StepResult<Done> {
    let folder = context.folder;
    if let Some(place) = files::mounted_below(&folder.path()) {
        let why = format!("{} is a mount; unmount it, and the folder can be removed", place.display());
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    task::expect_down(folder, &context.task.id)
        .map_err(|error| files::failure(Reason::StopFailed, &error, &folder.dot()))?;
    if let Some(remark) = runtime::recorded(folder).stop(folder)? {
        context.progress(remark);
    }
    check_nothing_runs(folder)?;
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

/// Where the record of an application is lost nothing was stopped, and what runs is known by its folder alone.
fn check_nothing_runs(folder: &Folder) -> StepResult<()> {
    let mut facts = FolderFacts::default();
    runtime::recorded(folder).observe(folder, &mut facts);
    facts.suspected.extend(suspected(&folder.releases(), &[]));
    let (reason, strangers, what) = match (facts.survivors.is_empty(), facts.suspected.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => (Reason::StopFailed, facts.survivors, "of the application"),
        (true, false) => (Reason::LeftoverSuspected, facts.suspected, "from below its releases"),
    };
    let first = strangers.first().map(|stranger| format!("{} ({})", stranger.pid, stranger.what)).unwrap_or_default();
    let why = format!("processes {what} still run, so the folder is not removed; end them by hand: {first} …");
    let mut failure = StepFailure::new(reason, why);
    failure.strangers = strangers;
    Err(failure)
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
