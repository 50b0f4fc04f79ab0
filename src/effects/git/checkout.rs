//! One commit's files in a fresh folder, written by ourselves: no filter, no hook, no `.git`, no submodule, and no way out of the tree.
//! Whether content that lies elsewhere (submodules, Git LFS) may be missing is for the caller to say.
//!
//! The whole tree is judged before anything is written, so that a hostile one leaves nothing and costs no disk. Folders are made by us in
//! a fresh place and names in a tree are unique, so no write goes through a link. Links are checked by their text: `..` only at its
//! beginning and not above the root. Each link then ends within the tree, and so does every chain of them.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use git2::{ObjectType, Tree};

use super::{CheckoutRequest, GitError, mirror, mirror::Mirror, types::clean};
use crate::effects::remove;

/// Deeper than any path that a system takes.
const MAX_DEPTH: usize = 200;
/// What Linux takes.
const MAX_LINK: usize = 4095;

/// A pointer of Git LFS begins so, and is smaller than that.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
const LFS_POINTER_BYTES: u64 = 1024;
/// Entries that a message names.
const NAMES_SHOWN: usize = 10;

pub(super) fn checkout(mirror: &Mirror, request: &CheckoutRequest, dest: &Path) -> Result<(), GitError> {
    let commit = mirror::commit(mirror, &request.sha)?;
    let tree = commit.tree().map_err(mirror.failed("read a commit's tree"))?;
    let partial = dest.with_extension("partial");
    let io = |error: io::Error| io_failed(mirror, &error);
    let mut judged = walk(mirror, request, None);
    judged.folder(&tree, Path::new(""), 0)?;
    judged.complete()?;
    fresh(&partial).map_err(io)?;
    if let Err(error) = walk(mirror, request, Some(&partial)).folder(&tree, Path::new(""), 0) {
        // The next try begins afresh; where there is none, nothing is left behind.
        let _ = remove::tree(&partial);
        return Err(error);
    }
    // A script may have run there.
    remove::tree(dest).map_err(io)?;
    fs::rename(&partial, dest).map_err(io)
}

fn fresh(folder: &Path) -> io::Result<()> {
    remove::tree(folder)?;
    folder.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::DirBuilder::new().mode(0o755).create(folder)
}

fn io_failed(mirror: &Mirror, error: &io::Error) -> GitError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => GitError::DiskFull,
        _ => GitError::Failed { url: mirror.url.clone(), what: "be checked out", why: error.to_string() },
    }
}

fn walk<'a>(mirror: &'a Mirror, request: &'a CheckoutRequest, root: Option<&'a Path>) -> Walk<'a> {
    let parts = request.path.split('/').filter(|part| !matches!(*part, "" | "."));
    Walk {
        mirror,
        request,
        below: parts.collect(),
        root,
        entries: 0,
        bytes: 0,
        submodules: External::default(),
        lfs: External::default(),
    }
}

/// Entries whose content lies elsewhere.
#[derive(Default)]
struct External {
    count: usize,
    /// The first of them.
    names: Vec<String>,
}

impl External {
    fn note(&mut self, path: &Path) {
        self.count += 1;
        if self.names.len() < NAMES_SHOWN {
            self.names.push(clean(path.as_os_str().as_bytes(), 200));
        }
    }

    /// `None`: there is none.
    fn list(&self) -> Option<String> {
        let names = self.names.join(", ");
        match self.count.saturating_sub(self.names.len()) {
            _ if self.count == 0 => None,
            0 => Some(names),
            more => Some(format!("{names} and {more} more")),
        }
    }
}

struct Walk<'a> {
    mirror: &'a Mirror,
    request: &'a CheckoutRequest,
    /// The folder whose content has to be complete: the script runs there.
    below: PathBuf,
    /// Where it is written; `None`: it is only judged.
    root: Option<&'a Path>,
    entries: u64,
    bytes: u64,
    submodules: External,
    lfs: External,
}

impl Walk<'_> {
    /// Whether all that the script may count on is in the tree.
    fn complete(&self) -> Result<(), GitError> {
        let sha = || self.request.sha.clone();
        match (self.submodules.list(), self.lfs.list()) {
            (Some(names), _) => Err(GitError::SubmodulesRefused { sha: sha(), names }),
            (None, Some(names)) => Err(GitError::LfsRefused { sha: sha(), names }),
            (None, None) => Ok(()),
        }
    }

    fn folder(&mut self, tree: &Tree<'_>, at: &Path, depth: usize) -> Result<(), GitError> {
        for entry in tree {
            let name = entry.name_bytes();
            let path = at.join(OsStr::from_bytes(name));
            if let Some(why) = bad_name(name) {
                return Err(self.unsafe_entry(&path, why));
            }
            self.entries += 1;
            if self.entries > self.mirror.limits.entries {
                return Err(self.too_large(format!("it has more than {} entries", self.mirror.limits.entries)));
            }
            if self.mirror.stopped() {
                return Err(GitError::TimedOut { url: self.mirror.url.clone(), seconds: 0 });
            }
            self.entry(&entry, &path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &git2::TreeEntry<'_>, path: &Path, depth: usize) -> Result<(), GitError> {
        match (entry.kind(), entry.filemode()) {
            (Some(ObjectType::Tree), _) if depth >= MAX_DEPTH => Err(self.unsafe_entry(path, "it lies too deep")),
            (Some(ObjectType::Tree), _) => {
                self.write(path, |target| fs::DirBuilder::new().mode(0o755).create(target))?;
                let tree = self.mirror.repo.find_tree(entry.id()).map_err(self.mirror.failed("read a tree"))?;
                self.folder(&tree, path, depth + 1)
            }
            // A submodule: its folder is there and empty, as git leaves it without `submodule update`.
            (Some(ObjectType::Commit), _) => {
                if !self.request.ignore_submodules && path.starts_with(&self.below) {
                    self.submodules.note(path);
                }
                self.write(path, |target| fs::DirBuilder::new().mode(0o755).create(target))
            }
            (Some(ObjectType::Blob), 0o120000) => self.link(entry, path),
            (Some(ObjectType::Blob), mode) => self.file(entry, path, mode & 0o111 != 0),
            _ => Err(self.unsafe_entry(path, "it is neither file, folder nor link")),
        }
    }

    fn link(&self, entry: &git2::TreeEntry<'_>, path: &Path) -> Result<(), GitError> {
        let odb = self.mirror.repo.odb().map_err(self.mirror.failed("read a link"))?;
        let (size, _) = odb.read_header(entry.id()).map_err(self.mirror.failed("read a link"))?;
        if size > MAX_LINK {
            return Err(self.unsafe_entry(path, "a link that is too long"));
        }
        let blob = self.mirror.repo.find_blob(entry.id()).map_err(self.mirror.failed("read a link"))?;
        let text = blob.content();
        let depth = path.components().count().saturating_sub(1);
        if !stays_within(text, depth) {
            return Err(self.unsafe_entry(path, "a link that may lead out of the tree"));
        }
        self.write(path, |target| symlink(OsStr::from_bytes(text), target))
    }

    fn file(&mut self, entry: &git2::TreeEntry<'_>, path: &Path, executable: bool) -> Result<(), GitError> {
        let failed = self.mirror.failed("read a file");
        let odb = self.mirror.repo.odb().map_err(&failed)?;
        let (size, _) = odb.read_header(entry.id()).map_err(&failed)?;
        let (size, limits) = (size as u64, self.mirror.limits);
        self.bytes = self.bytes.saturating_add(size);
        if size > limits.file_bytes {
            let shown = clean(path.as_os_str().as_bytes(), 200);
            let why = format!("{shown:?} has {} MiB; a file may have {}", size >> 20, limits.file_bytes >> 20);
            return Err(self.too_large(why));
        }
        if self.bytes > limits.checkout_bytes {
            return Err(self.too_large(format!("all its files have more than {} MiB", limits.checkout_bytes >> 20)));
        }
        if self.root.is_none() {
            let matters = !self.request.ignore_lfs && size < LFS_POINTER_BYTES && path.starts_with(&self.below);
            if matters && odb.read(entry.id()).map_err(&failed)?.data().starts_with(LFS_POINTER) {
                self.lfs.note(path);
            }
            return Ok(());
        }
        let blob = odb.read(entry.id()).map_err(&failed)?;
        let mode = if executable { 0o755 } else { 0o644 };
        self.write(path, |target| {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(target);
            file.and_then(|mut file| file.write_all(blob.data()))
        })
    }

    fn write(&self, path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), GitError> {
        let Some(root) = self.root else { return Ok(()) };
        write(&root.join(path)).map_err(|error| self.written(&error, path))
    }

    fn too_large(&self, why: String) -> GitError {
        GitError::TooLarge { url: format!("commit {} of {}", self.request.sha, self.mirror.url), why }
    }

    fn unsafe_entry(&self, path: &Path, why: &'static str) -> GitError {
        GitError::UnsafeTree { sha: self.request.sha.clone(), path: clean(path.as_os_str().as_bytes(), 200), why }
    }

    /// Two entries of one name are a crafted tree.
    fn written(&self, error: &io::Error, path: &Path) -> GitError {
        match error.kind() {
            io::ErrorKind::AlreadyExists => self.unsafe_entry(path, "two entries have this name"),
            io::ErrorKind::InvalidFilename => self.unsafe_entry(path, "its name is too long"),
            _ => io_failed(self.mirror, error),
        }
    }
}

/// What no entry may be called.
fn bad_name(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" | b"." | b".." => Some("a name that leads elsewhere"),
        name if name.contains(&b'/') || name.contains(&0) => Some("a name with a slash"),
        name if name.iter().any(|b| *b < b' ' || *b == 127) => Some("a name with control characters"),
        name if name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1") => Some("a .git of its own"),
        _ => None,
    }
}

/// `..` only at the beginning, and at most `depth` times (the folders above the link).
fn stays_within(target: &[u8], depth: usize) -> bool {
    if target.is_empty() || target.contains(&0) || target.starts_with(b"/") {
        return false;
    }
    let parts: Vec<&[u8]> = target.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    let up = parts.iter().take_while(|part| **part == b"..").count();
    up <= depth && !parts.iter().skip(up).any(|part| *part == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_the_tree() {
        for (target, depth) in [("x", 0), ("../x", 1), ("../../a/b", 2), ("./a", 0), ("..", 1), ("a//b", 0)] {
            assert!(stays_within(target.as_bytes(), depth), "{target}");
        }
        for (target, depth) in [
            ("/etc/passwd", 5),
            ("..", 0),
            ("../x", 0),
            ("a/../b", 3),
            ("../../x", 1),
            ("", 1),
            ("a/..", 4),
            ("a\0b", 1),
        ] {
            assert!(!stays_within(target.as_bytes(), depth), "{target}");
        }
    }

    #[test]
    fn a_dot_git_by_any_case_is_no_entry() {
        for name in [".git", ".GIT", ".Git", "git~1", "..", ".", "", "a/b"] {
            assert!(bad_name(name.as_bytes()).is_some(), "{name}");
        }
        assert!(bad_name(b".gitignore").is_none() && bad_name(b".gitmodules").is_none());
    }
}
