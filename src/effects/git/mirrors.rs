//! All mirrors, as they lie there, and how one goes. It must not decide which is needed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use git2::Repository;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{error::GitError, kept_refs, metadata, mirror};
use crate::model::mirror::Mirror;

/// What is on its way out, or in. Nobody reads by these names.
const GOING: &str = "going";
const MAKING: &str = "making";
/// A checkout without a mirror has a folder of this name for as long as it takes.
pub(super) const ONE: &str = "one-";

/// The mirrors that can be opened.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = entries.filter(|path| is_mirror(path)).collect();
    paths.sort();
    paths
}

/// The mirrors that have this pin. One that can't be opened has none that could be taken out.
pub(super) fn with_pin(folder: &Path, name: &str) -> Vec<PathBuf> {
    let has = |path: &PathBuf| Repository::open_bare(path).is_ok_and(|repo| kept_refs::has(&repo, name));
    paths(folder).into_iter().filter(has).collect()
}

fn is_mirror(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "git") && path.join("HEAD").is_file()
}

/// Each mirror and what a crash left of one. One that can't be read is left out, and stays.
pub(super) fn all(folder: &Path) -> Vec<Mirror> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter_map(|path| inspect(&path)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn inspect(path: &Path) -> Option<Mirror> {
    let name = path.file_name()?.to_str()?.to_owned();
    let end = path.extension().and_then(|end| end.to_str());
    let touched = || Timestamp::try_from(metadata::touched(path).ok()?).ok();
    let leftover = |touched| Mirror { name: name.clone(), namespace: None, pins: vec![], touched, leftover: true };
    match end {
        Some(GOING) => Some(leftover(Timestamp::UNIX_EPOCH)),
        Some(MAKING) => touched().map(leftover),
        None if name.starts_with(ONE) => touched().map(leftover),
        _ if is_mirror(path) => {
            let known = Repository::open_bare(path).and_then(|repo| kept_refs::of(&repo));
            let kept_refs = known.inspect_err(|error| {
                tracing::warn!(mirror = %path.display(), error = mirror::why(error), "a mirror can't be read and stays");
            });
            let (kept_refs, touched) = (kept_refs.ok()?, touched()?);
            Some(Mirror { name, namespace: metadata::namespace(path), pins: kept_refs, touched, leftover: false })
        }
        _ => None,
    }
}

/// Removes it, if it is still as it was seen. It goes under another name first, so that a crash leaves no half mirror. Its lock's file, which
/// is empty, stays: whoever waits for it must not have another one than who comes next.
pub(super) fn remove(path: &Path, seen: &Mirror, stop: &CancellationToken) -> Result<bool, GitError> {
    let failed = |error: io::Error| GitError::Failed {
        url: path.display().to_string(),
        what: "be removed",
        why: error.to_string(),
    };
    let _lock = match seen.name.starts_with(ONE) {
        true => None,
        false => Some(mirror::lock(&path.with_extension("git"), stop).map_err(failed)?),
    };
    if inspect(path).as_ref() != Some(seen) {
        return Ok(false);
    }
    let going = path.with_extension(GOING);
    if going != path {
        if going.exists() {
            fs::remove_dir_all(&going).map_err(failed)?;
        }
        fs::rename(path, &going).map_err(failed)?;
    }
    fs::remove_dir_all(&going).map_err(failed)?;
    Ok(true)
}
