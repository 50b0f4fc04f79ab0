//! Whether a commit has a folder. It must not follow a link.

use std::path::{Component, Path};

use git2::ObjectType;

use super::{GitError, mirror, mirror::Mirror, types::clean};

pub(super) fn check(mirror: &Mirror, sha: &str, path: &str) -> Result<(), GitError> {
    let no = |why| GitError::NoFolder { sha: sha.to_owned(), path: clean(path.as_bytes(), 100), why };
    let failed = mirror.failed("read a commit's tree");
    let mut tree = mirror::commit(mirror, sha)?.tree().map_err(&failed)?;
    for part in Path::new(path).components() {
        let name = match part {
            Component::CurDir => continue,
            Component::Normal(name) => name.to_str().ok_or_else(|| no("its name is no text"))?,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(no("it leaves the repository"));
            }
        };
        let entry = tree.get_name(name).ok_or_else(|| no("nothing of that name is there"))?;
        if entry.kind() != Some(ObjectType::Tree) {
            return Err(no("it is a file, a link or a submodule"));
        }
        let id = entry.id();
        drop(entry);
        tree = mirror.repo.find_tree(id).map_err(&failed)?;
    }
    Ok(())
}
