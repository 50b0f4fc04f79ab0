//! Pins: the refs that keep a Build's commit in a mirror. It must not decide which are needed.

use std::path::Path;

use git2::Repository;
use tokio_util::sync::CancellationToken;

use super::{
    error::GitError,
    mirror::{self, Mirror},
};

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

/// Whether a mirror has this pin.
pub(super) fn has(repo: &Repository, name: &str) -> bool {
    repo.find_reference(&format!("{PINS}{name}")).is_ok()
}

/// The ref is forced: the same Build resolves once, so another commit under its uid can't be wanted any more.
pub(super) fn add(mirror: &Mirror, sha: &str, uid: &str) -> Result<(), GitError> {
    let name = format!("{PINS}{uid}");
    if uid.contains('/') || !git2::Reference::is_valid_name(&name) {
        return Err(GitError::BadTagName { name: uid.to_owned(), why: "it is no uid" });
    }
    let commit = mirror::commit(mirror, sha)?;
    mirror.repo.reference(&name, commit.id(), true, "pinned").map(|_| ()).map_err(mirror.failed("pin a commit"))
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
