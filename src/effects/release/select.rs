//! Which paths of a checkout belong to a release. It must not follow a link.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{ArtifactRule, ReleaseError};

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

pub(super) fn select(_checkout: &Path, _rules: &[ArtifactRule]) -> Result<BTreeMap<String, Entry>, ReleaseError> {
    unimplemented!()
}
