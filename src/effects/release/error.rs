//! What can be wrong with artifacts, and what to do about it.

use crate::model::Class;

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("the artifact glob {glob:?} is no glob: {why}")]
    BadGlob { glob: String, why: String },
    #[error(
        "nothing matches the artifact glob {glob:?} after the script; see that the script makes it, or correct build.artifacts"
    )]
    ArtifactMissing { glob: String },
    #[error(
        "the artifact glob {glob:?} has `as: {name}` and matches {found} paths ({first}, {second}, …); `as` needs exactly one match"
    )]
    ArtifactAmbiguous { glob: String, name: String, found: usize, first: String, second: String },
    #[error(
        "two artifacts have the name {name:?} in the release ({first} and {second}); give one another name with `as`"
    )]
    ArtifactClash { name: String, first: String, second: String },
    #[error("the artifact {path:?} leads out of the checkout ({why}); a release holds only what lies within")]
    ArtifactOutside { path: String, why: String },
    #[error("the artifact {path:?} is no file, folder or link ({kind}); a release can't hold it")]
    ArtifactUnsupported { path: String, kind: &'static str },
    #[error("the artifact folder {path:?} is empty; a release has no empty folders, see that the script fills it")]
    ArtifactEmpty { path: String },
    #[error("the artifact {path:?} changed while it was packed; nothing of the build may run on after the script")]
    ArtifactChanged { path: String },
    #[error("{what}; {help}")]
    ArtifactTooLarge { what: String, help: &'static str },
    #[error("the data folder's disk is full; free some space, it goes on by itself")]
    DiskFull,
    #[error("could not {what}: {why}")]
    Failed { what: String, why: String },
}

impl ReleaseError {
    pub fn class(&self) -> Class {
        match self {
            Self::DiskFull | Self::Failed { .. } => Class::Transient,
            _ => Class::Terminal,
        }
    }

    pub(super) fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Failed { what: what.into(), why: error.to_string() },
        }
    }
}
