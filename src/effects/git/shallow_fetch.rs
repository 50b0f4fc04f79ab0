//! One commit without its history, for a checkout whose mirror was lost with the data folder: its build need not wait for a whole history.
//! It comes into a repository of its own, which goes right after; in the mirror it would cut the history off.

use git2::{AutotagOption, Direction, FetchOptions, RemoteUpdateFlags};

use super::{
    GitError,
    mirror::{self, Mirror},
};

/// A server gives the head of a branch to everybody, and any other commit where it says so (`allowReachableSHA1InWant`; the great forges
/// do). Over `file://` there is no such thing.
pub(super) fn fetch(mirror: &Mirror, sha: &str) -> Result<(), GitError> {
    let failed = mirror.unreachable();
    let mut remote = mirror.remote()?;
    let mut connection = remote.connect_auth(Direction::Fetch, Some(mirror.callbacks()), None).map_err(&failed)?;
    let heads = connection.list().map_err(&failed)?;
    let head = heads.iter().find(|head| head.oid().to_string() == sha && head.name().starts_with("refs/heads/"));
    let from = head.map_or(sha, |head| head.name()).to_owned();
    let mut options = FetchOptions::new();
    options.remote_callbacks(mirror.callbacks()).download_tags(AutotagOption::None).update_fetchhead(false).depth(1);
    let remote = connection.remote();
    remote.download(&[format!("+{from}:refs/landfall/one")], Some(&mut options)).map_err(&failed)?;
    remote
        .update_tips(None, RemoteUpdateFlags::empty(), AutotagOption::None, Some("fetch"))
        .map_err(mirror.failed("take over the fetched commit"))?;
    mirror::commit(mirror, sha).map(|_| ())
}
