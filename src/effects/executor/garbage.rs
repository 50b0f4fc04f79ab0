//! Folders of attempts that nobody needs any more.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    attempt,
    error::ExecutorError,
    types::{AttemptId, StepState},
};

pub(super) fn collect(folder: &Path, keep: &BTreeSet<AttemptId>) -> Result<Vec<AttemptId>, ExecutorError> {
    let mut removed = Vec::new();
    for (uid, build) in folders(folder) {
        for (number, dir) in folders(&build) {
            let Ok(number) = number.parse() else { continue };
            let id = AttemptId::new(&uid, number);
            if keep.contains(&id) || matches!(attempt::state(&dir)?, StepState::Running { .. }) {
                continue;
            }
            fs::remove_dir_all(&dir)
                .map_err(|error| ExecutorError::io(format!("remove the folder of {id}"), &error))?;
            removed.push(id);
        }
        // Fails where an attempt was kept.
        let _ = fs::remove_dir(&build);
    }
    removed.sort();
    Ok(removed)
}

fn folders(of: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}
