//! Errors of effects as [`Failure`]s: a reason of the closed list, and whether trying again may help. It decides nothing.

use crate::{
    api::Reason,
    controllers::secrets::NoSecret,
    effects::{
        executor::ExecutorError,
        git::GitError,
        release::ReleaseError,
        ssh::SshError,
        store::{StoreError, keys::BadPart},
    },
    model::{Class, Failure},
};

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        let reason = match &error {
            GitError::BadUrl { .. } => Reason::UrlInvalid,
            GitError::SchemeNotAllowed { .. } => Reason::SchemeNotAllowed,
            GitError::AddressNotAllowed { .. } => Reason::AddressNotAllowed,
            GitError::BadPattern(_) => Reason::InvalidSpec,
            GitError::RevisionNotFound { .. } => Reason::RevisionNotFound,
            GitError::RevisionAmbiguous { .. } => Reason::RevisionAmbiguous,
            GitError::CommitNotOnBranch { .. } => Reason::CommitNotOnBranch,
            GitError::CommitGone { .. } => Reason::CommitGone,
            GitError::UnsafeTree { .. } => Reason::CheckoutRefused,
            GitError::SubmodulesRefused { .. } => Reason::SubmodulesRefused,
            GitError::LfsRefused { .. } => Reason::LfsRefused,
            GitError::NoFolder { .. } => Reason::PathNotFound,
            GitError::TooLarge { .. } => Reason::SourceTooLarge,
            GitError::AuthenticationFailed { .. } => Reason::AuthenticationFailed,
            GitError::RedirectRefused { .. } => Reason::RedirectRefused,
            GitError::CertificateUntrusted { .. } => Reason::CertificateUntrusted,
            GitError::SecretKeyMissing { .. } => Reason::SecretKeyMissing,
            GitError::BadSecret { .. } => Reason::SecretInvalid,
            GitError::NoSecret { .. } => Reason::InvalidSpec,
            GitError::Ssh(error) => of_git_ssh(error),
            GitError::BadTagName { .. } => Reason::VersionInvalid,
            GitError::TagConflict { .. } => Reason::TagConflict,
            GitError::PushRefused { .. } => Reason::PushRefused,
            GitError::DiskFull => Reason::StoreFull,
            GitError::TimedOut { .. } | GitError::Silent { .. } | GitError::Unreachable { .. } => {
                Reason::SourceUnreachable
            }
            GitError::Failed { .. } | GitError::Shut(_) => Reason::InternalError,
        };
        Self::of(reason, error.class(), &error)
    }
}

fn of_git_ssh(error: &SshError) -> Reason {
    match crate::controllers::hosts::reason_of_ssh(error) {
        Reason::Unreachable => Reason::SourceUnreachable,
        reason => reason,
    }
}

/// A Secret is waited for: it may come, or be labelled, at any time.
impl From<NoSecret> for Failure {
    fn from(error: NoSecret) -> Self {
        let reason = match &error {
            NoSecret::NotFound { .. } => Reason::SecretNotFound,
            NoSecret::KeyMissing { .. } => Reason::SecretKeyMissing,
            NoSecret::Invalid { .. } => Reason::SecretInvalid,
            NoSecret::Forbidden { .. } => Reason::SecretForbidden,
            NoSecret::NotForThis { .. } => Reason::SecretNotForThis,
            NoSecret::Api(_) => Reason::InternalError,
        };
        Self::of(reason, Class::Transient, &error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let reason = match &error {
            StoreError::DiskFull { .. } => Reason::StoreFull,
            _ => Reason::StoreUnavailable,
        };
        Self::of(reason, error.class(), &error)
    }
}

impl From<ExecutorError> for Failure {
    fn from(error: ExecutorError) -> Self {
        let class = error.class();
        let reason = match error {
            ExecutorError::Store(error) => return error.into(),
            ExecutorError::ExecutorUnsafe { .. } => Reason::ExecutorUnsafe,
            ExecutorError::BadEnv { .. } => Reason::InvalidSpec,
            ExecutorError::CacheRefused { .. } => Reason::CacheRefused,
            ExecutorError::DiskFull => Reason::StoreFull,
            _ => Reason::InternalError,
        };
        Self::of(reason, class, &error)
    }
}

/// A part of a key that can't be one was let through by whoever checked it first.
impl From<BadPart> for Failure {
    fn from(error: BadPart) -> Self {
        Self::of(Reason::InternalError, Class::Terminal, &error)
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        let reason = match &error {
            ReleaseError::ArtifactMissing { .. } => Reason::ArtifactMissing,
            ReleaseError::ArtifactAmbiguous { .. } | ReleaseError::ArtifactClash { .. } => Reason::ArtifactClash,
            ReleaseError::ArtifactOutside { .. } => Reason::ArtifactOutside,
            ReleaseError::ArtifactTooLarge { .. } => Reason::ArtifactTooLarge,
            ReleaseError::DiskFull => Reason::StoreFull,
            ReleaseError::Failed { .. } => Reason::InternalError,
            _ => Reason::ArtifactInvalid,
        };
        Self::of(reason, error.class(), &error)
    }
}
