//! Bringing a mirror up to date.

use git2::{AutotagOption, FetchOptions, RemoteUpdateFlags};

use super::{error::GitError, metadata, mirror::Mirror};

const HEADS: &str = "+refs/heads/*:refs/heads/*";
const TAGS: &str = "+refs/tags/*:refs/tags/*";

/// All heads and tags, pruned before the new tips are written: a branch `a` that became `a/b` would stand in its own way.
pub(super) fn fetch(mirror: &Mirror) -> Result<(), GitError> {
    let failed = mirror.unreachable();
    let mut remote = mirror.remote()?;
    let mut options = FetchOptions::new();
    options.remote_callbacks(mirror.callbacks()).download_tags(AutotagOption::None).update_fetchhead(false);
    remote.download(&[HEADS, TAGS], Some(&mut options)).map_err(&failed)?;
    let head = remote.default_branch().ok().and_then(|head| head.as_str().ok().map(str::to_owned));
    remote.prune(None).map_err(&failed)?;
    remote
        .update_tips(None, RemoteUpdateFlags::empty(), AutotagOption::None, Some("fetch"))
        .map_err(mirror.failed("take over the fetched branches"))?;
    if let Some(head) = head {
        mirror.repo.set_head(&head).map_err(mirror.failed("note the default branch"))?;
    }
    metadata::fetched(mirror)?;
    remote.disconnect().map_err(&failed)
}
