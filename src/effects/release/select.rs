//! Which paths of a checkout belong to a release, and under which names. It must not follow a link, nor keep in memory what is not
//! selected.

use std::{
    collections::BTreeMap,
    fs::{self, FileType},
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use globset::Candidate;
use walkdir::DirEntry;

use super::{
    ReleaseError,
    bounds::{Bound, Bounds},
    rules::Wanted,
};
use crate::api::project::ArtifactRule;

/// The file that landfall adds.
pub(super) const RUN: &str = "run.json";

/// What an entry of the tar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File {
        /// Its path below the checkout, where that is not its name.
        from: Option<Box<str>>,
        executable: bool,
    },
    /// A link and its target, relative and within the release.
    Link {
        target: String,
    },
}

/// The entries by name, parents included, for the rules as a whole.
pub(super) fn select(
    checkout: &Path,
    rules: &[ArtifactRule],
    bounds: Bounds,
) -> Result<BTreeMap<String, Entry>, ReleaseError> {
    let mut selection = Selection { bounds, taken: BTreeMap::new(), sources: BTreeMap::new(), bytes: 0, names: 0 };
    let mut wanted = rules.iter().map(Wanted::new).collect::<Result<Vec<_>, _>>()?;
    // Depth of the selected folder that the walk is in: all below it belongs to it.
    let mut within: Option<usize> = None;
    for entry in bounds.walk(checkout) {
        let entry = entry?;
        within = within.filter(|depth| entry.depth() > *depth);
        let Some(path) = relative(checkout, &entry) else {
            // A name that is no UTF-8 can't be matched by a glob.
            match within {
                Some(_) => return Err(unsupported(&entry.path().to_string_lossy(), "its name is no UTF-8")),
                None => continue,
            }
        };
        if path.is_empty() {
            continue;
        }
        let candidate = Candidate::new(path);
        // Each of them counts.
        let taken = wanted.iter_mut().map(|rule| rule.takes(path, &candidate)).filter(|takes| *takes).count() > 0;
        if taken || within.is_some() {
            selection.take(path, path, &entry)?;
            within = within.or(entry.file_type().is_dir().then(|| entry.depth()));
        }
    }
    for rule in wanted {
        if let Some((name, path)) = rule.renamed()? {
            selection.take_all(checkout, &name, &path)?;
        }
    }
    links_lead_somewhere(&selection.taken)?;
    Ok(selection.taken)
}

fn relative<'a>(root: &Path, entry: &'a DirEntry) -> Option<&'a str> {
    entry.path().strip_prefix(root).ok()?.to_str()
}

/// A folder of the checkout that the script left a folder: no link in its place leads us elsewhere.
pub(super) fn within(checkout: &Path, folder: &str) -> Result<PathBuf, ReleaseError> {
    let outside = |why: &str| ReleaseError::ArtifactOutside { path: folder.to_owned(), why: why.to_owned() };
    let mut at = checkout.to_owned();
    for part in Path::new(folder).components() {
        match part {
            Component::CurDir => continue,
            Component::Normal(name) => at.push(name),
            _ => return Err(outside("source.path leaves it")),
        }
        let found = fs::symlink_metadata(&at);
        if !found.is_ok_and(|found| found.is_dir()) {
            return Err(outside("the script put something else in place of source.path"));
        }
    }
    Ok(at)
}

struct Selection {
    bounds: Bounds,
    taken: BTreeMap<String, Entry>,
    /// Which path each name came from where that is another, to say both in a clash.
    sources: BTreeMap<String, String>,
    /// Of all files.
    bytes: u64,
    /// Bytes of all names.
    names: usize,
}

impl Selection {
    /// Takes what is at and below a path under another name.
    fn take_all(&mut self, checkout: &Path, name: &str, path: &str) -> Result<(), ReleaseError> {
        let root = checkout.join(path);
        for entry in self.bounds.walk(&root) {
            let entry = entry?;
            match relative(&root, &entry) {
                Some("") => self.take(name, path, &entry)?,
                Some(below) => self.take(&format!("{name}/{below}"), &format!("{path}/{below}"), &entry)?,
                None => return Err(unsupported(&entry.path().to_string_lossy(), "its name is no UTF-8")),
            }
        }
        Ok(())
    }

    /// Takes one path under a name. A folder comes with what is in it, and so has to have something.
    fn take(&mut self, name: &str, path: &str, entry: &DirEntry) -> Result<(), ReleaseError> {
        if name.chars().any(char::is_control) {
            return Err(unsupported(path, "its name has control characters"));
        }
        let kind = entry.file_type();
        if kind.is_dir() {
            let first = fs::read_dir(entry.path()).map_err(|error| read_failed(path, &error))?.next();
            return match first {
                Some(_) => Ok(()),
                None => Err(ReleaseError::ArtifactEmpty { path: path.to_owned() }),
            };
        }
        let taken = if kind.is_file() {
            let about = entry.metadata().map_err(|error| read_failed(path, &error.into()))?;
            self.bytes = self.bytes.saturating_add(about.len());
            let from = (name != path).then(|| path.into());
            Entry::File { from, executable: about.permissions().mode() & 0o111 != 0 }
        } else if kind.is_symlink() {
            Entry::Link { target: link_target(entry.path(), name, path)? }
        } else {
            return Err(unsupported(path, special(kind)));
        };
        if self.bytes > self.bounds.bytes {
            return Err(self.bounds.exceeded(Bound::Bytes));
        }
        self.put(name, path, taken)
    }

    /// The same path under the same name twice is no clash: two globs may overlap.
    fn put(&mut self, name: &str, path: &str, entry: Entry) -> Result<(), ReleaseError> {
        if name == RUN {
            return Err(clash(name, "the run.json that landfall adds", path));
        }
        for (at, _) in name.match_indices('/') {
            let parent = name.get(..at).unwrap_or_default();
            match self.taken.get(parent) {
                Some(Entry::Folder) => {}
                None if parent != RUN => {
                    let source = (name != path).then_some(path);
                    self.insert(parent, source, Entry::Folder)?;
                }
                None => return Err(clash(name, RUN, path)),
                Some(_) => return Err(clash(name, self.source(parent), path)),
            }
        }
        match self.taken.get(name) {
            Some(there) if *there == entry => Ok(()),
            Some(_) => Err(clash(name, self.source(name), path)),
            None => self.insert(name, (name != path).then_some(path), entry),
        }
    }

    fn insert(&mut self, name: &str, source: Option<&str>, entry: Entry) -> Result<(), ReleaseError> {
        let target = if let Entry::Link { target } = &entry { target.len() } else { 0 };
        self.names += name.len() + source.map_or(0, str::len) + target;
        if self.names > self.bounds.names {
            return Err(self.bounds.exceeded(Bound::Names));
        }
        self.taken.insert(name.to_owned(), entry);
        if let Some(source) = source {
            self.sources.insert(name.to_owned(), source.to_owned());
        }
        Ok(())
    }

    /// The path that a name came from.
    fn source<'a>(&'a self, name: &'a str) -> &'a str {
        self.sources.get(name).map_or(name, String::as_str)
    }
}

fn clash(name: &str, first: &str, second: &str) -> ReleaseError {
    ReleaseError::ArtifactClash { name: name.to_owned(), first: first.to_owned(), second: second.to_owned() }
}

/// A link's text, checked at its place in the release: `..` only at the beginning and not above the release.
fn link_target(source: &Path, name: &str, path: &str) -> Result<String, ReleaseError> {
    let target = fs::read_link(source).map_err(|error| read_failed(path, &error))?;
    let outside = |why: &str| ReleaseError::ArtifactOutside {
        path: path.to_owned(),
        why: format!("a link to {:?}: {why}", target.to_string_lossy()),
    };
    let text = target.to_str().ok_or_else(|| outside("its target is no UTF-8"))?;
    if text.is_empty() || text.starts_with('/') || text.chars().any(char::is_control) {
        return Err(outside("only relative links are packed"));
    }
    let parts = parts(text);
    let up = parts.iter().take_while(|part| **part == "..").count();
    if up > name.matches('/').count() || parts.iter().skip(up).any(|part| *part == "..") {
        return Err(outside("it leads up and out of the release"));
    }
    Ok(text.to_owned())
}

fn parts(text: &str) -> Vec<&str> {
    text.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}

/// A link to something that was not selected would dangle on every host.
fn links_lead_somewhere(taken: &BTreeMap<String, Entry>) -> Result<(), ReleaseError> {
    for (name, entry) in taken {
        let Entry::Link { target } = entry else { continue };
        let mut at: Vec<&str> = name.split('/').collect();
        at.pop();
        let mut found = true;
        for part in parts(target) {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(part);
            match taken.get(&at.join("/")) {
                // What lies behind another link is that link's business.
                Some(Entry::Link { .. }) => break,
                there => found = there.is_some(),
            }
        }
        if !found {
            let why = format!("a link to {target:?}, which is not in the release");
            return Err(ReleaseError::ArtifactOutside { path: name.clone(), why });
        }
    }
    Ok(())
}

fn read_failed(path: &str, error: &io::Error) -> ReleaseError {
    match error.kind() {
        io::ErrorKind::NotFound => ReleaseError::ArtifactChanged { path: path.to_owned() },
        _ => ReleaseError::io(format!("read {path}"), error),
    }
}

fn unsupported(path: &str, kind: &'static str) -> ReleaseError {
    ReleaseError::ArtifactUnsupported { path: path.to_owned(), kind }
}

fn special(kind: FileType) -> &'static str {
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}
