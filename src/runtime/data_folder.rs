//! The operator's data folder, which holds releases, logs and trusted keys of all namespaces: no other user may read it.
//!
//! A folder that this user owns gets mode 0700. One that belongs to another user (the root of a mounted volume) stays as it is, and the
//! folders in it are made private instead; where strangers may write there, they could put others in their place, so it is refused.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

const PRIVATE: u32 = 0o700;
/// Whatever group and others may do.
const SHARED_BITS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o002;
/// Subfolders that hold all data of the operator.
const PARTS: [&str; 5] = ["caches", "executor", "git", "rollouts", "store"];

#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    #[error("the data folder {}: {source}; name another with --data-dir", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "the data folder {} belongs to uid {owner} and everybody may write to it (mode {mode:o}); name a folder below it, as in --data-dir {}/landfall, or take the right from others with chmod o-w",
        path.display(), path.display()
    )]
    Shared { path: PathBuf, owner: u32, mode: u32 },
}

/// Makes the folder with its parts where they are missing, and takes what group and others may do there from those that exist.
pub(crate) fn make_private(path: &Path) -> Result<(), DataFolderError> {
    if !private(path)? {
        let found = fs::metadata(path).map_err(unusable(path))?;
        if found.mode() & OTHERS_WRITE != 0 {
            let (owner, mode) = (found.uid(), found.mode() & 0o7777);
            return Err(DataFolderError::Shared { path: path.to_owned(), owner, mode });
        }
    }
    for part in PARTS {
        let part = path.join(part);
        if !private(&part)? {
            tracing::warn!(path = %part.display(), "belongs to another user, so its mode stays as it is");
        }
    }
    Ok(())
}

/// `false` where the folder belongs to another user.
fn private(path: &Path) -> Result<bool, DataFolderError> {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(path).map_err(unusable(path))?;
    let found = fs::metadata(path).map_err(unusable(path))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    if found.mode() & SHARED_BITS != 0 {
        tracing::info!(path = %path.display(), mode = format!("{:o}", found.mode() & 0o7777), "made private");
        fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE)).map_err(unusable(path))?;
    }
    Ok(true)
}

fn unusable(path: &Path) -> impl Fn(io::Error) -> DataFolderError {
    let path = path.to_owned();
    move |source| DataFolderError::Unusable { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_data_folder_and_a_wider_one_are_private_with_all_their_parts() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        make_private(&new).unwrap();
        let wide = dir.path().join("wide");
        fs::create_dir_all(wide.join("store")).unwrap();
        for path in [&wide, &wide.join("store")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        make_private(&wide).unwrap();
        for path in [&new, &wide] {
            assert_eq!(mode(path), 0o700);
            assert!(PARTS.iter().all(|part| mode(&path.join(part)) == 0o700));
        }
    }

    #[test]
    fn a_volume_of_another_owner_is_used_with_private_parts_unless_everybody_may_write_there() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::chown(&volume, Some(12_345), None).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2775)).unwrap();
        make_private(&volume).unwrap();
        assert_eq!(mode(&volume), 0o2775);
        assert_eq!(mode(&volume.join("store")) & SHARED_BITS, 0);
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = make_private(&volume).unwrap_err().to_string();
        assert!(refused.contains("uid 12345") && refused.contains("volume/landfall"), "{refused}");
    }
}
