//! `owner`: whom the folder belongs to.

use std::io;

use landfall_host_protocol::{Owner, Refusal};

use super::shell;
use crate::{files, folder::Folder, gate};

/// The owner on record, also one of the shell helper's time.
pub fn read(folder: &Folder) -> io::Result<Option<Owner>> {
    let path = folder.owner();
    let Some(text) = files::read_whole(&path)? else { return Ok(None) };
    match shell::owner(&text) {
        Some(owner) => Ok(Some(owner)),
        None => files::read_record(&path),
    }
}

/// Whether `owner` may act: the folder has no owner, or this one, or the one that it replaces.
pub fn check(recorded: Option<&Owner>, owner: &Owner, replaces: Option<&Owner>) -> Result<(), Refusal> {
    match recorded {
        Some(other) if other != owner && Some(other) != replaces => Err(Refusal::Claimed { owner: other.clone() }),
        _ => Ok(()),
    }
}

pub fn write(folder: &Folder, owner: &Owner) -> io::Result<()> {
    gate::pass("owner.write", || files::write_record(&folder.owner(), owner))
}

/// The claim is given up.
pub fn remove(folder: &Folder) -> io::Result<()> {
    gate::pass("owner.remove", || {
        files::remove_file(&folder.owner())?;
        files::sync_dir(&folder.dot())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(deployment: &str) -> Owner {
        Owner {
            control_plane_id: "plane".to_owned(),
            namespace: "shop".to_owned(),
            deployment: deployment.to_owned(),
            uid: format!("uid-of-{deployment}"),
            host: "h1".to_owned(),
        }
    }

    #[test]
    fn only_the_owner_that_is_named_is_replaced() {
        let (web, gone, other) = (owner("web"), owner("gone"), owner("other"));
        assert_eq!(check(None, &web, None), Ok(()));
        assert_eq!(check(Some(&web), &web, None), Ok(()));
        assert_eq!(check(Some(&gone), &web, Some(&gone)), Ok(()));
        assert_eq!(check(Some(&other), &web, Some(&gone)), Err(Refusal::Claimed { owner: other.clone() }));
        assert_eq!(check(Some(&gone), &web, None), Err(Refusal::Claimed { owner: gone }));
    }
}
