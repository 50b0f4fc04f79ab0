//! Pins: the refs that keep a Build's commit in a mirror. It must not decide which are needed.

use std::path::{Path, PathBuf};

use git2::Repository;
use tokio_util::sync::CancellationToken;

use super::{error::GitError, mirror, mirrors};

const PINS: &str = "refs/landfall/";

/// Name of a pin: the Build's namespace and uid. Neither has a dot.
pub fn name(namespace: &str, uid: &str) -> String {
    format!("{namespace}.{uid}")
}

/// The names of all pins of a mirror, sorted.
pub(super) fn of(repo: &Repository) -> Result<Vec<String>, git2::Error> {
    let mut names = Vec::new();
    for reference in repo.references_glob(&format!("{PINS}*"))? {
        names.extend(reference?.name().ok().and_then(|name| name.strip_prefix(PINS)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The mirrors that have this pin. One that can't be opened has none that could be taken out.
pub(super) fn having(folder: &Path, name: &str) -> Vec<PathBuf> {
    let has = |path: &PathBuf| {
        Repository::open_bare(path).is_ok_and(|repo| repo.find_reference(&format!("{PINS}{name}")).is_ok())
    };
    mirrors::paths(folder).into_iter().filter(has).collect()
}

/// Takes a pin out of a mirror.
pub(super) fn remove(mirror: &Path, name: &str, stop: &CancellationToken) -> Result<(), GitError> {
    let _lock = mirror::lock(mirror, stop).map_err(|error| GitError::Failed {
        url: mirror.display().to_string(),
        what: "take its lock",
        why: error.to_string(),
    })?;
    let repo = Repository::open_bare(mirror).map_err(failed(mirror, "be opened"))?;
    // Another writer may have been faster.
    if let Ok(mut reference) = repo.find_reference(&format!("{PINS}{name}")) {
        reference.delete().map_err(failed(mirror, "remove a pin"))?;
    }
    Ok(())
}

fn failed(path: &Path, what: &'static str) -> impl Fn(git2::Error) -> GitError {
    let url = path.display().to_string();
    move |error| GitError::Failed { url: url.clone(), what, why: mirror::why(&error) }
}
