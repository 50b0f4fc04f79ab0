//! Pins: the refs that keep a Build's commit in a mirror. It must not decide which are needed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use git2::Repository;
use tokio_util::sync::CancellationToken;

use super::{error::GitError, mirror};

const PINS: &str = "refs/landfall/";

/// Name of a pin: the Build's namespace and uid. Neither has a dot.
pub fn name(namespace: &str, uid: &str) -> String {
    format!("{namespace}.{uid}")
}

/// All pins of all mirrors, by name; each once.
pub(super) fn all(folder: &Path) -> Result<Vec<String>, GitError> {
    let mut names = Vec::new();
    for path in mirrors(folder) {
        let repo = Repository::open_bare(&path).map_err(failed(&path, "be opened"))?;
        let refs = repo.references_glob(&format!("{PINS}*")).map_err(failed(&path, "list its pins"))?;
        for reference in refs {
            let reference = reference.map_err(failed(&path, "list its pins"))?;
            names.extend(reference.name().ok().and_then(|name| name.strip_prefix(PINS)).map(str::to_owned));
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The mirrors that have this pin.
pub(super) fn having(folder: &Path, name: &str) -> Result<Vec<PathBuf>, GitError> {
    let mut found = Vec::new();
    for path in mirrors(folder) {
        let repo = Repository::open_bare(&path).map_err(failed(&path, "be opened"))?;
        if repo.find_reference(&format!("{PINS}{name}")).is_ok() {
            found.push(path);
        }
    }
    Ok(found)
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

fn mirrors(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.join("HEAD").is_file() && path.extension().is_none_or(|end| end != "making")).collect()
}

fn failed(path: &Path, what: &'static str) -> impl Fn(git2::Error) -> GitError {
    let url = path.display().to_string();
    move |error| GitError::Failed { url: url.clone(), what, why: mirror::why(&error) }
}
