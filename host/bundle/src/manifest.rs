//! What a manifest may say, and its bytes. The host's end checks what the operator sent; the operator's end checks what a build packed.
//!
//! No I/O.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use landfall_host_protocol::{Digest, Entry, EntryKind, Manifest};
use sha2::{Digest as _, Sha256};

/// Longest path of an entry, in bytes: with the folder of the release before it the kernel takes it.
const LONGEST_PATH: usize = 3072;
/// Longest component of a path, in bytes.
const LONGEST_NAME: usize = 255;

/// What a manifest says that no release may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Path of the entry; empty where it is the manifest as a whole.
    pub entry: String,
    pub why: String,
}

impl ManifestError {
    pub(crate) fn new(entry: &str, why: impl Into<String>) -> Self {
        Self { entry: entry.to_owned(), why: why.into() }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.entry.is_empty() {
            for c in self.entry.chars().take(200) {
                f.write_char(if c.is_control() { '?' } else { c })?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for ManifestError {}

/// The bytes of a manifest, as they lie in `incoming/` under [`digest`] of them. The same for the same manifest.
pub fn encode(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).unwrap_or_default()
}

/// SHA-256 of any bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// Reads the bytes of a manifest and checks it.
pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let manifest =
        serde_json::from_slice(bytes).map_err(|error| ManifestError::new("", format!("no manifest: {error}")))?;
    check(&manifest)?;
    Ok(manifest)
}

/// Whether it can be unpacked below one folder and nowhere else: paths relative, plain, sorted and unique; each below a folder of the
/// manifest, never below a link; modes 0755, 0644 or 0600; links lead to within the release, `..` only at their beginning, as a build packs
/// them.
pub fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    let mut folders = BTreeMap::new();
    let mut sizes: BTreeMap<&Digest, u64> = BTreeMap::new();
    let mut before: Option<&str> = None;
    for Entry { path, kind } in &manifest.entries {
        let refused = |why: &str| Err(ManifestError::new(path, why));
        if before.is_some_and(|before| before >= path.as_str()) {
            return refused("entries are not sorted by path, or one is there twice");
        }
        before = Some(path);
        if let Some(why) = refuse_path(path) {
            return refused(why);
        }
        if let Some((parent, _)) = path.rsplit_once('/')
            && !folders.contains_key(parent)
        {
            return refused("it lies in no folder of the release");
        }
        match kind {
            EntryKind::Folder => {
                folders.insert(path.as_str(), ());
            }
            EntryKind::File { mode, .. } if !matches!(mode, 0o755 | 0o644 | 0o600) => {
                return refused("modes are 0755, 0644 and 0600");
            }
            EntryKind::File { size, sha256, .. } => {
                if *sizes.entry(sha256).or_insert(*size) != *size {
                    return refused("one SHA-256 has two sizes");
                }
            }
            EntryKind::Link { target } => {
                if let Some(why) = refuse_link(path, target) {
                    return refused(why);
                }
            }
        }
    }
    Ok(())
}

fn refuse_path(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.len() > LONGEST_PATH {
        return Some("its path is empty or too long");
    }
    if path.chars().any(char::is_control) {
        return Some("its path has control characters");
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= LONGEST_NAME;
    (!path.split('/').all(plain)).then_some("its path is not relative and plain")
}

fn refuse_link(path: &str, target: &str) -> Option<&'static str> {
    if target.is_empty() || target.starts_with('/') || target.chars().any(char::is_control) {
        return Some("links are relative");
    }
    if target.len() > LONGEST_PATH {
        return Some("its target is too long");
    }
    let mut parts = target.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
    let mut up = 0;
    while parts.next_if(|part| *part == "..").is_some() {
        up += 1;
    }
    // Behind another link `..` could mean anything; at the beginning it means real folders.
    let out = up > path.matches('/').count() || parts.any(|part| part == "..");
    out.then_some("the link leads out of the release")
}

/// Contents of a manifest, in the order of the first path that has each, with every entry that has it.
pub(crate) fn contents(manifest: &Manifest) -> Vec<Content<'_>> {
    let mut places: BTreeMap<&Digest, usize> = BTreeMap::new();
    let mut contents: Vec<Content<'_>> = Vec::new();
    for entry in &manifest.entries {
        let EntryKind::File { size, sha256, .. } = &entry.kind else { continue };
        let place = *places.entry(sha256).or_insert(contents.len());
        match contents.get_mut(place) {
            Some(content) => content.others.push(entry),
            None => contents.push(Content { sha256, size: *size, first: entry, others: Vec::new() }),
        }
    }
    contents
}

/// One content, and where it lies.
pub(crate) struct Content<'a> {
    pub sha256: &'a Digest,
    pub size: u64,
    pub first: &'a Entry,
    pub others: Vec<&'a Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(entries: &[(&str, EntryKind)]) -> Manifest {
        let entries =
            entries.iter().map(|(path, kind)| Entry { path: (*path).to_owned(), kind: kind.clone() }).collect();
        Manifest { release: digest(b"tar"), entries }
    }

    fn file(mode: u32) -> EntryKind {
        EntryKind::File { mode, size: 1, sha256: digest(b"x") }
    }

    fn link(target: &str) -> EntryKind {
        EntryKind::Link { target: target.to_owned() }
    }

    #[test]
    fn a_release_as_a_build_packs_it_is_accepted() {
        let good = manifest(&[
            ("bin", EntryKind::Folder),
            ("bin/run", file(0o755)),
            ("bin/start", link("../bin/run")),
            ("key", file(0o600)),
            ("latest", link("./bin")),
            ("run.json", file(0o644)),
        ]);
        assert_eq!(check(&good), Ok(()));
        assert_eq!(decode(&encode(&good)), Ok(good));
    }

    #[test]
    fn no_path_and_no_link_leads_out_of_the_release() {
        for path in ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\nb", "a/./b", &"a".repeat(256)]
        {
            let folders = [("a", EntryKind::Folder), (path, file(0o644))];
            let entries = if path < "a" { &folders[1..] } else { &folders[..] };
            assert!(check(&manifest(entries)).is_err(), "{path:?}");
        }
        for target in ["", "/etc", "..", "../..", "a/../..", "./../x", "x/..", "a\0b"] {
            assert!(check(&manifest(&[("l", link(target))])).is_err(), "{target:?}");
        }
        assert!(check(&manifest(&[("a", EntryKind::Folder), ("a/l", link("../../x"))])).is_err());
    }

    #[test]
    fn nothing_lies_below_a_link_or_a_file_or_nothing() {
        for below in [Some(link("x")), Some(file(0o644)), None] {
            let mut entries: Vec<_> = below.into_iter().map(|kind| ("a", kind)).collect();
            entries.push(("a/b", file(0o644)));
            assert_eq!(check(&manifest(&entries)).unwrap_err().entry, "a/b");
        }
    }

    #[test]
    fn modes_doubles_and_sizes_are_checked() {
        for mode in [0o4755, 0o777, 0o666, 0] {
            assert!(check(&manifest(&[("a", file(mode))])).is_err(), "{mode:o}");
        }
        assert!(check(&manifest(&[("a", file(0o644)), ("a", file(0o644))])).is_err());
        assert!(check(&manifest(&[("b", file(0o644)), ("a", file(0o644))])).is_err());
        let other = EntryKind::File { mode: 0o644, size: 2, sha256: digest(b"x") };
        assert!(check(&manifest(&[("a", file(0o644)), ("b", other)])).is_err());
    }

    #[test]
    fn an_error_prints_no_control_characters() {
        let error = check(&manifest(&[("a\x1b[31m", file(0o644))])).unwrap_err();
        assert!(!error.to_string().contains('\x1b'), "{error}");
    }
}
