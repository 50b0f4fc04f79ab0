//! What builds leave behind, and how it is removed. It must not decide whose folder is needed: the caller knows the Builds.
//!
//! An attempt that has ended keeps its log and its records for as long as its Build exists; the checkout goes as soon as nothing more
//! is packed from it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::super::{error::ExecutorError, types::StepState};
use super::{attempt, files};
use crate::effects::remove;

/// What is kept of an attempt that has ended.
const KEPT: [&str; 7] =
    [files::STEP, files::PID, files::LOCK, files::LOG, files::TIMES, files::EXIT, files::RUNNER_LOG];
const CHECK_PREFIX: &str = "trial-";
/// An isolation check takes seconds.
const STALE: Duration = Duration::from_secs(3600);

/// Uids of the builds that have a folder. Leftovers of killed isolation checks are deleted as well.
pub(super) fn builds(folder: &Path) -> Vec<String> {
    let mut uids = Vec::new();
    for (name, path) in folders(folder) {
        if name.starts_with(CHECK_PREFIX) {
            if stale(&path) {
                let _ = remove::tree(&path);
            }
        } else if is_uid(&name) {
            uids.push(name);
        }
    }
    uids.sort();
    uids
}

/// Numbers of the attempts that have a folder, in order.
pub(super) fn attempts(build: &Path) -> Vec<i64> {
    let mut numbers: Vec<i64> = folders(build).into_iter().filter_map(|(name, _)| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Whether one of the attempts up to this one has more than its log and its records.
pub(super) fn has_leftovers(build: &Path, upto: i64) -> bool {
    attempts(build).into_iter().filter(|number| *number <= upto).any(|number| {
        let entries = fs::read_dir(build.join(number.to_string())).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| !KEPT.iter().any(|kept| name == *kept))
    })
}

/// Deletes all but logs and records of the attempts up to this one; one that runs is left alone.
pub(super) fn delete_checkouts(build: &Path, upto: i64) -> Result<(), ExecutorError> {
    for number in attempts(build).into_iter().filter(|number| *number <= upto) {
        let dir = build.join(number.to_string());
        if matches!(attempt::state(&dir)?, StepState::Running { .. }) {
            continue;
        }
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if KEPT.iter().any(|kept| entry.file_name() == *kept) {
                continue;
            }
            remove::tree(&entry.path()).map_err(|error| ExecutorError::io("delete a checkout", &error))?;
        }
    }
    Ok(())
}

/// Deletes the log of an attempt, which is in the store or was kept long enough; one that runs is left alone.
pub(super) fn remove_log(dir: &Path) -> Result<(), ExecutorError> {
    if matches!(attempt::state(dir)?, StepState::Running { .. }) {
        return Ok(());
    }
    // The log at the end: while it is there, this is done again.
    for name in [files::TIMES, files::LOG] {
        remove::tree(&dir.join(name)).map_err(|error| ExecutorError::io("remove a build's log", &error))?;
    }
    Ok(())
}

/// Ends what still runs, and removes the build's folder.
pub(super) fn delete_build(build: &Path) -> Result<(), ExecutorError> {
    for number in attempts(build) {
        attempt::cancel(&build.join(number.to_string()))?;
    }
    remove::tree(build).map_err(|error| ExecutorError::io("remove a build's folder", &error))
}

/// Uids are UUIDs; other folders here are somebody else's.
fn is_uid(name: &str) -> bool {
    name.len() == 36 && name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn stale(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age >= STALE)
}

fn folders(of: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}
