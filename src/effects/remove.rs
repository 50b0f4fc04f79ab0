//! Removing a tree in which a stranger may have written: whatever its shape, with a constant stack, a constant number of open folders and
//! constant memory. It must not follow a link, nor decide what goes.
//!
//! `std::fs::remove_dir_all` recurses with a descriptor for every level, so 20,000 nested folders, which are one line of a script, end
//! the whole process. Here a folder that lies too deep is moved up to the top of the tree, and goes from there.

use std::{ffi::CString, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, chmodat, fchmod, openat, renameat, unlinkat},
    io::Errno,
};

/// Folders of the tree that are open at once.
const OPEN_FOLDERS_MAX: usize = 16;

/// A folder that is being emptied.
struct Level {
    dir: Dir,
    name: CString,
    /// Whether anything was taken out of it, or put into it, since its first entry was read.
    changed: bool,
}

/// Removes whatever is at a path. What is not there is fine. Nothing may write below it meanwhile. A crash on the way leaves a part of
/// the tree, not in its old shape.
pub fn tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name"));
    };
    let name = CString::new(name.as_encoded_bytes())?;
    let parent = match openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    match strip(&parent, name)? {
        Some(top) => empty(&parent, top),
        None => Ok(()),
    }
}

/// Empties a folder and removes it, depth first.
fn empty(parent: &OwnedFd, top: Level) -> io::Result<()> {
    let mut open = vec![top];
    while let Some(mut level) = open.pop() {
        match level.dir.read() {
            Some(entry) => {
                let name = entry?.file_name().to_owned();
                if matches!(name.as_bytes(), b"." | b"..") {
                    open.push(level);
                    continue;
                }
                level.changed = true;
                let below = strip(level.dir.fd()?, name)?;
                let deep = open.len() + 1 >= OPEN_FOLDERS_MAX;
                match (below, open.first_mut().filter(|_| deep)) {
                    (Some(below), Some(top)) => {
                        move_up(&level, &below, top)?;
                        open.push(level);
                    }
                    (below, _) => {
                        open.push(level);
                        open.extend(below);
                    }
                }
            }
            None => {
                let gone = match open.last() {
                    Some(above) => unlinkat(above.dir.fd()?, &level.name, AtFlags::REMOVEDIR),
                    None => unlinkat(parent, &level.name, AtFlags::REMOVEDIR),
                };
                match gone {
                    Ok(()) | Err(Errno::NOENT) => {}
                    // What was moved there behind its reader, or what the reader passed over while others went.
                    Err(Errno::NOTEMPTY | Errno::EXIST) if level.changed => {
                        level.changed = false;
                        level.dir.rewind();
                        open.push(level);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

/// Removes an entry that is no folder, or an empty one; opens one that is not empty.
fn strip(at: impl std::os::fd::AsFd, name: CString) -> io::Result<Option<Level>> {
    match unlinkat(&at, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(&at, &name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match openat(&at, &name, flags, Mode::empty()) {
        // Not every operator is root, and a script's umask is its own.
        Err(Errno::ACCESS) => {
            chmodat(&at, &name, Mode::RWXU, AtFlags::empty())?;
            openat(&at, &name, flags, Mode::empty())
        }
        opened => opened,
    }?;
    // The same for folders that can be read and not written, as tools make their caches; where it is refused, so is what follows.
    let _ = fchmod(&opened, Mode::RWXU);
    Ok(Some(Level { dir: Dir::new(opened)?, name, changed: false }))
}

/// Puts a folder at the top of the tree, under a name that nobody could foresee.
fn move_up(from: &Level, folder: &Level, top: &mut Level) -> io::Result<()> {
    let name = format!("moved-{:032x}", rand::random::<u128>());
    renameat(from.dir.fd()?, &folder.name, top.dir.fd()?, name)?;
    top.changed = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn whatever_is_there_goes_and_what_links_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let top = dir.path().join("top");
        for wide in 0..40 {
            // Deeper than folders are held open, in more than one place.
            let mut at = top.join(format!("w{wide}"));
            for _ in 0..40 {
                at.push("d");
                fs::create_dir_all(at.join("beside")).unwrap();
                fs::write(at.join("file"), "x").unwrap();
                symlink(&outside, at.join("link")).unwrap();
            }
        }
        fs::create_dir_all(top.join("shut/in")).unwrap();
        fs::set_permissions(top.join("shut"), fs::Permissions::from_mode(0o0)).unwrap();
        tree(&top).unwrap();
        assert!(!top.exists() && outside.join("kept").exists());
        tree(&top).unwrap();
        tree(&top.join("not/there")).unwrap();
        symlink(&outside, &top).unwrap();
        tree(&top).unwrap();
        assert!(fs::symlink_metadata(&top).is_err() && outside.join("kept").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing lies elsewhere");
    }
}
