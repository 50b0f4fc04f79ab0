//! What names an act, its author and its place on a host. Plain values: who makes them up is decided elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What proves that a controller is not an old one: compared by a host within one control plane, by format, then in the order of the fields.
///
/// Source: `epoch` is `2:<uid of the namespace kube-system>` and `created` the counter of the object of leaders. Before that format `epoch` was
/// the uid alone, `created` the time a Lease was made in seconds since 1970, and `transitions` its `leaseTransitions`: an operator of that
/// time takes the new epoch for another control plane's, so it never acts where a later one has acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceToken {
    pub epoch: String,
    pub created: i64,
    pub transitions: i64,
}

/// What a token of the counter's format begins with.
const COUNTER_FORMAT: &str = "2:";

impl FenceToken {
    pub fn new(control_plane_id: &str, counter: i64) -> Self {
        Self { epoch: format!("{COUNTER_FORMAT}{control_plane_id}"), created: counter, transitions: 0 }
    }

    /// Uid of its namespace `kube-system`.
    pub fn control_plane_id(&self) -> &str {
        self.epoch.strip_prefix(COUNTER_FORMAT).unwrap_or(&self.epoch)
    }

    /// Whether this is the token of a later operator of the same control plane.
    pub fn is_later_than(&self, other: &Self) -> bool {
        let order = |token: &Self| (token.epoch.starts_with(COUNTER_FORMAT), token.created, token.transitions);
        self.control_plane_id() == other.control_plane_id() && order(self) > order(other)
    }
}

/// One act on one host: done once, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ActId {
    /// The Deployment's uid.
    pub uid: String,
    /// `<revision>.<redeploys>`.
    pub rollout: String,
    /// Attempt of that rollout, from 1.
    pub attempt: i64,
    /// The last journal number that the controller saw on this host; the host refuses another (`JournalMoved`).
    pub n: u64,
}

/// Whom a project's folder on a host belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The control plane: uid of its namespace `kube-system`.
    pub control_plane_id: String,
    pub namespace: String,
    pub deployment: String,
    /// The Deployment's uid.
    pub uid: String,
    /// The host's name in its group.
    pub host: String,
}

/// A Project in memory: its namespace and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectKey {
    pub namespace: String,
    pub name: String,
}

impl ProjectKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// `<namespace>.<project>`: a project's folder below the group's root. Neither part has a dot, both are DNS labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FolderName(String);

impl FolderName {
    pub fn new(namespace: &str, project: &str) -> Self {
        Self(format!("{namespace}.{project}"))
    }

    /// Reads a name that a host reported; `None` where it can't be one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, project) = text.split_once('.')?;
        let fits = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        (fits(namespace) && fits(project)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `<version>-<digest12>`: the folder of one unpacked release below `releases/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReleaseName(String);

impl ReleaseName {
    /// `digest` is the SHA-256 of the release in hex, 64 digits, without a prefix.
    pub fn new(version: &str, digest: &str) -> Self {
        Self(format!("{version}-{}", digest.get(..12).unwrap_or(digest)))
    }

    /// Reads a name that a host reported; `None` where it can't be one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, digest) = text.rsplit_once('-')?;
        let fits = digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        (fits && !version.is_empty() && !text.contains('/')).then(|| Self(text.to_owned()))
    }

    pub fn version(&self) -> &str {
        self.0.rsplit_once('-').map_or(self.0.as_str(), |(version, _)| version)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(epoch: &str, created: i64, transitions: i64) -> FenceToken {
        FenceToken { epoch: epoch.to_owned(), created, transitions }
    }

    #[test]
    fn a_token_of_the_counter_is_later_than_every_one_of_a_lease() {
        let counter = FenceToken::new("plane", 10);
        assert_eq!((counter.control_plane_id(), counter.epoch.as_str()), ("plane", "2:plane"));
        assert!(counter.is_later_than(&token("plane", 9_000, 9)) && !token("plane", 9_000, 9).is_later_than(&counter));
        assert!(FenceToken::new("plane", 11).is_later_than(&counter) && !counter.is_later_than(&counter.clone()));
        assert!(token("plane", 1, 2).is_later_than(&token("plane", 1, 1)));
        assert!(!FenceToken::new("other", 99).is_later_than(&counter));
    }
}
