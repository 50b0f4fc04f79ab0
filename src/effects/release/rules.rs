//! Lines of `build.artifacts`: which paths each selects.

use std::path::{Component, Path};

use globset::{Candidate, GlobBuilder, GlobMatcher};

use super::ReleaseError;
use crate::api::project::ArtifactRule;

/// A line, and what was found for it so far.
pub(super) struct Wanted<'a> {
    rule: &'a ArtifactRule,
    glob: GlobMatcher,
    found: usize,
    /// With `as`: the first two by name.
    two: Vec<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(rule: &'a ArtifactRule) -> Result<Self, ReleaseError> {
        let pattern = rule.path.strip_prefix("./").unwrap_or(&rule.path).trim_end_matches('/');
        if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
            let why = "write the glob relative to the checkout and without '..'".to_owned();
            return Err(ReleaseError::ArtifactOutside { path: rule.path.clone(), why });
        }
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .map_err(|error| ReleaseError::BadGlob { glob: rule.path.clone(), why: error.kind().to_string() })?
            .compile_matcher();
        Ok(Self { rule, glob, found: 0, two: Vec::new() })
    }

    /// Whether it selects this path, and under its own name.
    pub(super) fn takes(&mut self, path: &str, candidate: &Candidate<'_>) -> bool {
        if !self.glob.is_match_candidate(candidate) {
            return false;
        }
        self.found += 1;
        if self.rule.rename.is_some() {
            self.two.push(path.to_owned());
            self.two.sort();
            self.two.truncate(2);
        }
        self.rule.rename.is_none()
    }

    /// When all paths were shown: the name and the path of the one that `as` gives another name to.
    pub(super) fn renamed(self) -> Result<Option<(String, String)>, ReleaseError> {
        let mut two = self.two.into_iter();
        match (&self.rule.rename, self.found, two.next()) {
            (_, 0, _) => Err(ReleaseError::ArtifactMissing { glob: self.rule.path.clone() }),
            (None, ..) | (_, _, None) => Ok(None),
            (Some(name), 1, Some(path)) => Ok(Some((checked_name(name)?, path))),
            (Some(name), found, Some(first)) => Err(ReleaseError::ArtifactAmbiguous {
                glob: self.rule.path.clone(),
                name: name.clone(),
                found,
                first,
                second: two.next().unwrap_or_default(),
            }),
        }
    }
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
