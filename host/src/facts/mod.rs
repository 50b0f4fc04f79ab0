//! What is true of this host and of its folders, read from the kernel and from the records. It changes nothing and signals nothing.

mod folder;
mod machine;
mod root;
mod users;

use std::{fs, path::Path};

use landfall_host_protocol::FolderName;

pub use self::{
    folder::{folder, has_shell_helper},
    machine::{machine, session_scoped},
    root::{Condition, condition, root, space},
    users::{PrivilegeCheck, check_users},
};
pub(crate) use folder::current as current_release;
pub(crate) use users::own_name;

use crate::folder::Folder;

/// Folders of a namespace that are looked at, at most; a host carries a handful.
const MAX_FOLDERS: usize = 256;

/// Folders of a namespace that have records, or had an application of the shell helper's time.
pub fn names(root_path: &Path, namespace: &str) -> Vec<FolderName> {
    let mut names = candidates(root_path, namespace);
    names.retain(|name| is_real_folder(&Folder::new(root_path, name.clone()).dot()));
    names
}

/// Folders that have a name of the namespace, and may get records.
pub fn candidates(root_path: &Path, namespace: &str) -> Vec<FolderName> {
    let mut names: Vec<FolderName> = fs::read_dir(root_path)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| FolderName::parse(entry.file_name().to_str()?))
        .filter(|name| name.namespace() == namespace)
        .filter(|name| is_real_folder(&Folder::new(root_path, name.clone()).path()))
        .collect();
    names.sort();
    names.truncate(MAX_FOLDERS);
    names
}

/// A folder, and no link to one.
fn is_real_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}
