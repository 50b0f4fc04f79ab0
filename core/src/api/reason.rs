//! The closed list of reasons: every condition, exception and event of landfall carries one of these and no other.

use std::fmt;

/// Why a condition is what it is. The variant's name is the reason's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Reason {
    // Of every kind
    /// Seen, not decided yet.
    Pending,
    /// The spec has a value that the schema could not refuse; the message names the field.
    InvalidSpec,
    /// A fault of landfall itself.
    InternalError,
    /// Everything is as declared.
    Ready,

    // Secrets
    SecretNotFound,
    SecretKeyMissing,
    SecretInvalid,
    SecretForbidden,
    SecretNotForThis,

    // Project
    SchemeNotAllowed,
    AddressNotAllowed,
    UrlInvalid,
    SourceUnreachable,
    SourceTooLarge,
    RedirectRefused,
    CertificateUntrusted,
    SourceListed,
    RefreshRequested,
    Watching,
    TriggerFailed,
    Tidied,
    RetentionFailed,

    // Build
    ProjectNotFound,
    Resolving,
    RevisionNotFound,
    CommitNotOnBranch,
    CommitGone,
    PathNotFound,
    ParameterUnknown,
    ParameterInvalid,
    ParameterMissing,
    TagTemplateInvalid,
    VersionInvalid,
    VersionExists,
    TagConflict,
    Queued,
    ConcurrencyForbidden,
    Superseded,
    Granted,
    Starting,
    Building,
    Collecting,
    Tagging,
    Publishing,
    Succeeded,
    ScriptFailed,
    TimedOut,
    IdleTimedOut,
    OutOfMemory,
    ProcessLimit,
    Cancelled,
    ExecutorLost,
    ExecutorUnsafe,
    ArtifactMissing,
    ArtifactClash,
    ArtifactOutside,
    ArtifactInvalid,
    ArtifactTooLarge,
    CheckoutRefused,
    CacheRefused,
    PushRefused,
    Tagged,
    NotTagged,
    StoreFull,
    StoreUnavailable,

    // HostGroup
    /// Hosts are being tried.
    Probing,
    /// Every host was tried, and one of them answers at least.
    Probed,
    /// Every host was tried, and none answers.
    NoHostReachable,
    /// Hosts answer, and none of them can be used.
    NoHostUsable,
    /// A host with which something was wrong answers, and nothing is wrong any more.
    HostRecovered,
    DuplicateAddress,
    Unreachable,
    HostKeyUnknown,
    HostKeyMismatch,
    HostCertificateInvalid,
    HostKeyForgotten,
    HostKeyNotForgotten,
    /// `suspend-host` took the host out of service.
    HostSuspended,
    /// `resume-host` put the host back into service.
    HostResumed,
    /// `resume-host` names a host that stays as it is; the message says why.
    HostNotResumed,
    AuthenticationFailed,
    UnsupportedKeyType,
    HostUnsupported,
    SessionScoped,
    BecomeRefused,
    SudoTooWide,

    // Deployment
    /// The record of the rollout can't be read, so nothing new begins.
    StatusUnreadable,
    HostGroupNotFound,
    VersionNotFound,
    VersionRemoved,
    HostsNotFound,
    NoHosts,
    HostClaimed,
    UserNotAllowed,
    FencedByOtherControlPlane,
    Fenced,
    HostsAhead,
    RollingOut,
    Healing,
    HostsFailed,
    HostsUnreachable,
    HostLeft,
    Paused,
    Drifted,
    Deployed,
    Removing,
    ProgressDeadlineExceeded,
    RolloutStarted,
    RolloutFinished,
    RolloutFailed,
    HostUpdated,
    HostFailed,

    // One host of a Deployment
    DiskFull,
    TransferCorrupt,
    PortInUse,
    StartFailed,
    StopFailed,
    SwitchFailed,
    ProcessDied,
    NotReady,
    RestartedTooOften,
    HelperFailed,
    LeftBehind,
}

impl Reason {
    pub fn as_str(self) -> String {
        format!("{self:?}")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
