//! What names an act, its author and its place on a host. Plain values: who makes them up is decided elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What proves that a controller is not an old one: compared by a host in the order of its fields, within one epoch.
///
/// Source: `epoch` is the uid of the namespace `kube-system`, `created` the Lease's creation time in seconds since 1970,
/// `transitions` the Lease's `leaseTransitions` in the answer to the PUT that won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceToken {
    pub epoch: String,
    pub created: i64,
    pub transitions: i64,
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
