//! What can go wrong with a repository, and what to do about it.

use crate::{
    effects::{gate::GateShut, ssh::SshError},
    model::{Class, branch_patterns::BadPattern},
};

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("{url:?} is no URL for git that landfall takes: {why}")]
    BadUrl { url: String, why: String },
    #[error("the URL scheme {scheme} is not allowed here{hint}")]
    SchemeNotAllowed { scheme: String, hint: &'static str },
    #[error(
        "{host} is {address}, {what}: landfall dials no such address for a Project, for there are things that only this machine may ask; write \
         the URL of a git server, or start the operator with --allow-local-git where everybody who edits a Project may ask them too"
    )]
    AddressNotAllowed { host: String, address: std::net::IpAddr, what: &'static str },
    #[error(
        "source.branches and build.trigger.onPush take globs over branch names: {0}; write for example main or release/*"
    )]
    BadPattern(#[from] BadPattern),
    #[error(
        "there is no branch, tag or commit {revision:?}; name a branch, a tag, or a commit id (at least its first 7 digits)"
    )]
    RevisionNotFound { revision: String },
    #[error("several commits begin with {revision:?}: {candidates}; give more digits of the one that is meant")]
    RevisionAmbiguous { revision: String, candidates: String },
    #[error(
        "commit {sha} ({revision:?}) can't be reached from an allowed branch ({patterns}); merge it into one, or allow its branch in source.branches"
    )]
    CommitNotOnBranch { revision: String, sha: String, patterns: String },
    #[error(
        "commit {sha} is gone: the repository was rewritten before it was fetched and pinned; start a build of what is there now"
    )]
    CommitGone { sha: String },
    #[error(
        "commit {sha} has an entry that landfall does not check out: {path:?} ({why}); remove it from the repository"
    )]
    UnsafeTree { sha: String, path: String, why: &'static str },
    #[error(
        "commit {sha} has submodules, which landfall does not fetch: {names}. Put their content into the repository, or set source.submodules of \
         the Project to Ignore where the build needs none of them; then create a new Build"
    )]
    SubmodulesRefused { sha: String, names: String },
    #[error(
        "commit {sha} has Git LFS pointers, whose files landfall does not fetch: {names}. Put the files into git itself (git lfs migrate export), or \
         set source.lfs of the Project to Ignore where the build needs none of them; then create a new Build"
    )]
    LfsRefused { sha: String, names: String },
    #[error(
        "commit {sha} has no folder {path:?} ({why}); set source.path to a folder of the repository, or leave it out"
    )]
    NoFolder { sha: String, path: String, why: &'static str },
    #[error("{name:?} can't be a tag: {why}")]
    BadTagName { name: String, why: &'static str },
    #[error(
        "tag {name} exists on another commit ({existing}) and is never moved; choose another tag, or delete that one"
    )]
    TagConflict { name: String, existing: String },
    #[error("the repository refused the tag {name}: {words}; mend that there, then retry: nothing is built again")]
    PushRefused { name: String, words: String },
    #[error("the data folder's disk is full; free some space, it goes on by itself")]
    DiskFull,
    #[error("no answer from {url} within {seconds} s; it is tried again")]
    TimedOut { url: String, seconds: u64 },
    #[error("{url} could not be read: {why}; see that it is there and that the operator may read it")]
    Unreachable { url: String, why: String },
    #[error("the mirror of {url} could not {what}: {why}")]
    Failed { url: String, what: &'static str, why: String },
    #[error("{host} says nothing ({what}) for {seconds} s; it is tried again")]
    Silent { host: String, what: &'static str, seconds: u64 },
    #[error("{host} refused: {why}")]
    AuthenticationFailed { host: String, why: String },
    #[error(
        "{url} answers with a redirect to {to:?}, and landfall follows none, so that a login goes nowhere else; write the new URL into \
         source.url (and its host into the Secret's annotation landfall.dev/git-host) if it is the right one"
    )]
    RedirectRefused { url: String, to: String },
    #[error(
        "the certificate of {host} is not trusted ({why}); nothing was sent. Put the CA that signed it into the Secret as ca.crt, or mend \
         the server's certificate"
    )]
    CertificateUntrusted { host: String, why: String },
    #[error("the Secret {secret} lacks something: {why}")]
    SecretKeyMissing { secret: String, why: String },
    #[error("the Secret {secret} can't be used: {why}")]
    BadSecret { secret: String, why: String },
    #[error("{url}: {why}")]
    NoSecret { url: String, why: &'static str },
    #[error("{url} is larger than landfall takes: {why}")]
    TooLarge { url: String, why: String },
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Shut(#[from] GateShut),
}

impl GitError {
    pub fn class(&self) -> Class {
        match self {
            Self::TimedOut { .. }
            | Self::Silent { .. }
            | Self::Unreachable { .. }
            | Self::AuthenticationFailed { .. }
            | Self::CertificateUntrusted { .. }
            | Self::SecretKeyMissing { .. }
            | Self::Failed { .. }
            | Self::DiskFull => Class::Transient,
            Self::Ssh(error) => error.class(),
            Self::Shut(_) => Class::Waiting,
            Self::BadUrl { .. }
            | Self::SchemeNotAllowed { .. }
            | Self::AddressNotAllowed { .. }
            | Self::BadPattern(_)
            | Self::RevisionNotFound { .. }
            | Self::RevisionAmbiguous { .. }
            | Self::CommitNotOnBranch { .. }
            | Self::CommitGone { .. }
            | Self::UnsafeTree { .. }
            | Self::SubmodulesRefused { .. }
            | Self::LfsRefused { .. }
            | Self::NoFolder { .. }
            | Self::RedirectRefused { .. }
            | Self::BadSecret { .. }
            | Self::NoSecret { .. }
            | Self::TooLarge { .. }
            | Self::BadTagName { .. }
            | Self::TagConflict { .. }
            | Self::PushRefused { .. } => Class::Terminal,
        }
    }
}
