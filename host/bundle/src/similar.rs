//! Which file of an earlier release a new one was probably made from: the one at its path, else one of a like name, else of a like size.
//!
//! Names only; no I/O. The answer is the same for the same manifests.

use std::collections::BTreeMap;

use landfall_host_protocol::{Digest, Entry, EntryKind, Manifest};

/// Bytes below which nothing is gained.
const LEAST: u64 = 64;

/// Files of the base, by what they may be found by. The lists are sorted by size.
pub(crate) struct Candidates<'a> {
    paths: BTreeMap<&'a str, Candidate<'a>>,
    like_paths: BTreeMap<String, Vec<Candidate<'a>>>,
    like_names: BTreeMap<String, Vec<Candidate<'a>>>,
    endings: BTreeMap<&'a str, Vec<Candidate<'a>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate<'a> {
    pub size: u64,
    pub sha256: &'a Digest,
}

impl<'a> Candidates<'a> {
    pub(crate) fn new(base: &'a Manifest) -> Self {
        let mut all = Self {
            paths: BTreeMap::new(),
            like_paths: BTreeMap::new(),
            like_names: BTreeMap::new(),
            endings: BTreeMap::new(),
        };
        for Entry { path, kind } in &base.entries {
            let EntryKind::File { size, sha256, .. } = kind else { continue };
            if *size < LEAST {
                continue;
            }
            let candidate = Candidate { size: *size, sha256 };
            all.paths.insert(path, candidate);
            all.like_paths.entry(without_version(path)).or_default().push(candidate);
            all.like_names.entry(without_version(name(path))).or_default().push(candidate);
            all.endings.entry(ending(path)).or_default().push(candidate);
        }
        for list in all.like_paths.values_mut().chain(all.like_names.values_mut()).chain(all.endings.values_mut()) {
            list.sort_unstable();
        }
        all
    }

    /// The best one for a file at this path.
    pub(crate) fn best(&self, path: &str, size: u64) -> Option<Candidate<'a>> {
        if size < LEAST {
            return None;
        }
        let like_path = || nearest(self.like_paths.get(&without_version(path))?, size);
        let like_name = || nearest(self.like_names.get(&without_version(name(path)))?, size);
        let like_size = || {
            let found = nearest(self.endings.get(ending(path))?, size)?;
            (found.size.abs_diff(size) <= size / 8).then_some(found)
        };
        self.paths.get(path).copied().or_else(like_path).or_else(like_name).or_else(like_size)
    }
}

fn nearest<'a>(sorted: &[Candidate<'a>], size: u64) -> Option<Candidate<'a>> {
    let place = sorted.partition_point(|candidate| candidate.size < size);
    let beside = [place.checked_sub(1), Some(place)];
    let beside = beside.into_iter().flatten().filter_map(|place| sorted.get(place));
    beside.min_by_key(|candidate| candidate.size.abs_diff(size)).copied()
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn ending(path: &str) -> &str {
    name(path).rsplit_once('.').map_or("", |(_, ending)| ending)
}

/// A path without what changes with a version: numbers (`core-6.1.2.jar`) and hashes (`main.3f2a9c.js`).
fn without_version(path: &str) -> String {
    let changes = |word: &str| {
        let hex =
            word.len() >= 6 && word.bytes().all(|b| b.is_ascii_hexdigit()) && word.bytes().any(|b| b.is_ascii_digit());
        hex || word.bytes().next().is_some_and(|b| b.is_ascii_digit())
    };
    let words = path.split_inclusive(|c: char| !c.is_alphanumeric());
    words.filter(|word| !changes(word.trim_end_matches(|c: char| !c.is_alphanumeric()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::digest;

    fn manifest(files: &[(&str, u64)]) -> Manifest {
        let entry = |(path, size): &(&str, u64)| {
            let sha256 = digest(path.as_bytes());
            Entry { path: (*path).to_owned(), kind: EntryKind::File { mode: 0o644, size: *size, sha256 } }
        };
        Manifest { release: digest(b""), entries: files.iter().map(entry).collect() }
    }

    #[test]
    fn the_file_it_was_made_from_is_found_by_path_name_and_size() {
        let base = manifest(&[
            ("app.jar", 37_000_000),
            ("lib/core-6.1.2.jar", 200_000),
            ("lib/core-test-6.1.2.jar", 190_000),
            ("old/web.war", 1_000_000),
            ("static/main.3f2a9c.js", 90_000),
            ("static/vendor.77aa01.js", 400_000),
            ("tiny.txt", 10),
        ]);
        let candidates = Candidates::new(&base);
        let best = |path: &str, size| {
            let found = candidates.best(path, size).map(|found| found.sha256.clone());
            base.entries
                .iter()
                .find(|entry| matches!(&entry.kind, EntryKind::File { sha256, .. } if Some(sha256) == found.as_ref()))
                .map(|entry| entry.path.as_str())
        };
        assert_eq!(best("app.jar", 1000), Some("app.jar"));
        assert_eq!(best("lib/core-6.2.0.jar", 195_000), Some("lib/core-6.1.2.jar"));
        assert_eq!(best("static/main.00ffee11.js", 91_000), Some("static/main.3f2a9c.js"));
        assert_eq!(best("new/web-2.war", 900_000), Some("old/web.war"));
        assert_eq!(best("lib/entirely.jar", 36_000_000), Some("app.jar"));
        assert_eq!(best("lib/entirely.jar", 3_000), None);
        assert_eq!(best("tiny.txt", 1_000), None);
        assert_eq!(best("app.jar", 10), None);
    }
}
