//! What a checkout and a release may be made of, so that no script fills the operator's memory or keeps it busy for ever.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use walkdir::{DirEntry, WalkDir};

use super::ReleaseError;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Files and folders of a checkout, whether they are selected or not.
    pub(super) visited: u64,
    /// Folders in one another.
    pub(super) depth: usize,
    /// Bytes of all files of a release.
    pub(super) bytes: u64,
    /// Bytes of all names in a release; they are what is held in memory.
    pub(super) names: usize,
}

impl Bounds {
    pub(super) const USUAL: Self = Self { visited: 1_000_000, depth: 256, bytes: 20 << 30, names: 64 << 20 };

    /// All that is at and below a path, links not followed, in no order: one open folder and one name for each level, and no more.
    pub(super) fn walk(self, root: &Path) -> impl Iterator<Item = Result<DirEntry, ReleaseError>> {
        let root = root.to_owned();
        // Where a folder had to be closed, the names of all its entries would be read first, to be kept.
        let walk = WalkDir::new(&root).follow_root_links(false).max_open(self.depth + 2).into_iter();
        walk.zip(0..).map(move |(entry, n)| {
            let entry = entry.map_err(|error| self.unreadable(&root, error))?;
            if n > self.visited {
                return Err(self.exceeded(Bound::Visited));
            }
            if entry.depth() > self.depth {
                return Err(self.exceeded(Bound::Depth(start(&root, entry.path()))));
            }
            Ok(entry)
        })
    }

    fn unreadable(&self, root: &Path, error: walkdir::Error) -> ReleaseError {
        let path = error.path().map(|path| start(root, path)).unwrap_or_default();
        // Without its path, which may be long.
        match error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into()) {
            // Long before so many levels where names are long.
            error if error.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()) => {
                self.exceeded(Bound::Depth(path))
            }
            error => ReleaseError::io("read the checkout", &error),
        }
    }

    pub(super) fn exceeded(&self, bound: Bound) -> ReleaseError {
        let Self { visited, depth, bytes, names } = self;
        ReleaseError::ArtifactTooLarge {
            what: match &bound {
                Bound::Visited => format!("more than {visited} files and folders are in the checkout after the script"),
                Bound::Depth(path) => format!("the checkout has folders nested more than {depth} deep ({path}…)"),
                Bound::Bytes => format!("the artifacts have more than {} GiB in all", bytes >> 30),
                Bound::Names => format!("the names of the artifacts have more than {} MiB in all", names >> 20),
            },
            help: match bound {
                Bound::Visited | Bound::Depth(_) => "let the script remove what the release does not need",
                Bound::Bytes => "let build.artifacts select less",
                Bound::Names => "let build.artifacts select less, or let the script make one archive of them",
            },
        }
    }
}

/// What was exceeded.
pub(super) enum Bound {
    Visited,
    /// The beginning of a path that leads there.
    Depth(String),
    Bytes,
    Names,
}

/// The beginning of a path, as a message shows it.
fn start(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).components().take(3).collect();
    path.to_string_lossy().chars().filter(|c| !c.is_control()).take(60).collect()
}
