//! Globs over branch names, as `source.branches` and `build.trigger.onPush` have them: `*` does not match a slash, `**` does.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern that no branch can match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern of branch names: {why}")]
pub struct BadPattern {
    pub pattern: String,
    pub why: String,
}

/// Patterns that were read; none means every branch.
#[derive(Clone, Debug)]
pub struct BranchPatterns {
    set: Option<GlobSet>,
}

impl BranchPatterns {
    pub fn parse(patterns: &[String]) -> Result<Self, BadPattern> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            if let Some(why) = never_matches(pattern) {
                return Err(bad(pattern, why));
            }
            let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(false).build();
            set.add(glob.map_err(|error| bad(pattern, &error.kind().to_string()))?);
        }
        let set = set.build().map_err(|error| bad(&patterns.join(", "), &error.kind().to_string()))?;
        Ok(Self { set: (!patterns.is_empty()).then_some(set) })
    }

    pub fn allow(&self, branch: &str) -> bool {
        self.set.as_ref().is_none_or(|set| set.is_match(branch))
    }
}

fn bad(pattern: &str, why: &str) -> BadPattern {
    let shown = pattern.chars().filter(|c| !c.is_control()).take(100).collect();
    BadPattern { pattern: shown, why: why.to_owned() }
}

/// What git allows in no branch name, and no glob gives a meaning to.
fn never_matches(pattern: &str) -> Option<&'static str> {
    let has = |part: &str| pattern.contains(part);
    if pattern.is_empty() {
        return Some("it is empty");
    }
    if pattern.starts_with("refs/") {
        return Some("branches are named without refs/heads/");
    }
    if pattern.starts_with('/') || pattern.ends_with('/') || has("//") {
        return Some("no branch name begins or ends with a slash, or has two in a row");
    }
    let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | ':' | '\\');
    if has("..") || has("@{") || pattern.chars().any(forbidden) {
        return Some("no branch name has a blank, '~', ':', '\\', '..' or '@{'");
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn patterns(texts: &[&str]) -> Result<BranchPatterns, BadPattern> {
        BranchPatterns::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_star_does_not_match_a_slash_and_no_pattern_means_every_branch() {
        let some = patterns(&["main", "release/*", "{hot,bug}fix/**"]).unwrap();
        for name in ["main", "release/1", "hotfix/a/b"] {
            assert!(some.allow(name), "{name}");
        }
        for name in ["mainline", "release/1/2", "fix/a"] {
            assert!(!some.allow(name), "{name}");
        }
        assert!(patterns(&[]).unwrap().allow("anything/at/all"));
    }

    #[test]
    fn a_pattern_that_no_branch_can_match_is_refused() {
        for bad in ["[bad", "", "refs/heads/main", "/main", "main/", "a//b", "a b", "a..b", "x@{1}", "a\\b", "{a", "\n"]
        {
            assert!(patterns(&["main", bad]).is_err(), "{bad:?}");
        }
    }
}
