//! Which paths of a checkout belong to a release, and under which names. It must not follow a link.

use std::{
    collections::BTreeMap,
    fs::{self, FileType},
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};

use super::{ArtifactRule, ReleaseError};

/// The file that landfall adds.
pub(super) const RUN: &str = "run.json";

/// What an entry of the tar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File {
        source: PathBuf,
        executable: bool,
    },
    /// A link and its target, relative and within the release.
    Link {
        target: String,
    },
}

/// The entries by name, parents included, for the rules as a whole.
pub(super) fn select(checkout: &Path, rules: &[ArtifactRule]) -> Result<BTreeMap<String, Entry>, ReleaseError> {
    let mut selection = Selection { checkout, taken: BTreeMap::new(), sources: BTreeMap::new() };
    let paths = walk(checkout)?;
    for rule in rules {
        let found: Vec<&str> = matches(rule, &paths)?;
        let [first, ..] = found.as_slice() else {
            return Err(ReleaseError::ArtifactMissing { glob: rule.path.clone() });
        };
        match &rule.rename {
            None => found.iter().try_for_each(|path| selection.take(path, path))?,
            Some(name) if found.len() == 1 => selection.take(&checked_name(name)?, first)?,
            Some(name) => {
                return Err(ReleaseError::ArtifactAmbiguous {
                    glob: rule.path.clone(),
                    name: name.clone(),
                    found: found.len(),
                    first: (*first).to_owned(),
                    second: found.get(1).map(|path| (*path).to_owned()).unwrap_or_default(),
                });
            }
        }
    }
    links_lead_somewhere(&selection.taken)?;
    Ok(selection.taken)
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

/// Every path below the checkout, relative, sorted; `None` as a name where one is no text.
fn walk(checkout: &Path) -> Result<Vec<String>, ReleaseError> {
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(checkout).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| ReleaseError::io("read the checkout", &io::Error::from(error)))?;
        // A name that is no UTF-8 can't be matched by a glob; inside a matched folder it is an error, see `Selection::take`.
        if let Some(path) = entry.path().strip_prefix(checkout).ok().and_then(Path::to_str) {
            paths.push(path.to_owned());
        }
    }
    Ok(paths)
}

fn matches<'a>(rule: &ArtifactRule, paths: &'a [String]) -> Result<Vec<&'a str>, ReleaseError> {
    let pattern = rule.path.strip_prefix("./").unwrap_or(&rule.path).trim_end_matches('/');
    if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        let why = "write the glob relative to the checkout and without '..'".to_owned();
        return Err(ReleaseError::ArtifactOutside { path: rule.path.clone(), why });
    }
    let matcher: GlobMatcher = GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| ReleaseError::BadGlob { glob: rule.path.clone(), why: error.kind().to_string() })?
        .compile_matcher();
    Ok(paths.iter().map(String::as_str).filter(|path| matcher.is_match(path)).collect())
}

/// A name within the release, as `as` gives it.
fn checked_name(name: &str) -> Result<String, ReleaseError> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain || name.ends_with('/') || name.contains("//") || name.contains("/./") {
        let why = "`as` is a relative path without '.' and '..'".to_owned();
        return Err(ReleaseError::ArtifactOutside { path: name.to_owned(), why });
    }
    Ok(name.to_owned())
}

struct Selection<'a> {
    checkout: &'a Path,
    taken: BTreeMap<String, Entry>,
    /// Which path each name came from, to say both in a clash.
    sources: BTreeMap<String, String>,
}

impl Selection<'_> {
    /// Takes one path under a name, a folder with all that is in it.
    fn take(&mut self, name: &str, path: &str) -> Result<(), ReleaseError> {
        if name.chars().any(char::is_control) {
            return Err(unsupported(path, "its name has control characters"));
        }
        let source = self.checkout.join(path);
        let about = fs::symlink_metadata(&source).map_err(|error| read_failed(path, &error))?;
        let kind = about.file_type();
        if kind.is_dir() {
            return self.take_folder(name, path);
        }
        let entry = if kind.is_file() {
            Entry::File { source, executable: about.permissions().mode() & 0o111 != 0 }
        } else if kind.is_symlink() {
            Entry::Link { target: link_target(&source, name, path)? }
        } else {
            return Err(unsupported(path, special(kind)));
        };
        self.put(name, path, entry)
    }

    fn take_folder(&mut self, name: &str, path: &str) -> Result<(), ReleaseError> {
        let entries = fs::read_dir(self.checkout.join(path)).map_err(|error| read_failed(path, &error))?;
        let mut empty = true;
        for entry in entries {
            let file_name = entry.map_err(|error| read_failed(path, &error))?.file_name();
            let Some(child) = file_name.to_str() else {
                return Err(unsupported(&format!("{path}/{}", file_name.to_string_lossy()), "its name is no UTF-8"));
            };
            self.take(&format!("{name}/{child}"), &format!("{path}/{child}"))?;
            empty = false;
        }
        if empty {
            return Err(ReleaseError::ArtifactEmpty { path: path.to_owned() });
        }
        Ok(())
    }

    /// The same path under the same name twice is no clash: two globs may overlap.
    fn put(&mut self, name: &str, path: &str, entry: Entry) -> Result<(), ReleaseError> {
        let clash = |first: &str| ReleaseError::ArtifactClash {
            name: name.to_owned(),
            first: first.to_owned(),
            second: path.to_owned(),
        };
        if name == RUN {
            return Err(clash("the run.json that landfall adds"));
        }
        for (at, _) in name.match_indices('/') {
            let parent = name.get(..at).unwrap_or_default();
            match self.taken.get(parent) {
                Some(Entry::Folder) => {}
                None if parent != RUN => {
                    self.taken.insert(parent.to_owned(), Entry::Folder);
                    self.sources.insert(parent.to_owned(), path.to_owned());
                }
                _ => return Err(clash(self.sources.get(parent).map_or(RUN, String::as_str))),
            }
        }
        match self.taken.get(name) {
            Some(there) if *there == entry => return Ok(()),
            Some(_) => return Err(clash(self.sources.get(name).map_or("", String::as_str))),
            None => {}
        }
        self.taken.insert(name.to_owned(), entry);
        self.sources.insert(name.to_owned(), path.to_owned());
        Ok(())
    }
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
