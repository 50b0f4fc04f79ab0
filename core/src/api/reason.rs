//! The closed list of reasons: every condition, exception and event of landfall carries one of these and no other. A new one gets a line
//! here that says what it means, and a row in `docs/api/`.

use strum::{Display, EnumIter, EnumString, IntoEnumIterator, IntoStaticStr};

/// Why a condition is what it is. The variant's name is the reason's text.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
    serde::Serialize,
    serde::Deserialize,
)]
#[non_exhaustive]
pub enum Reason {
    // Of every kind
    /// Observed, not decided yet.
    Pending,
    /// The spec has a value that the schema could not refuse; the message names the field.
    InvalidSpec,
    /// The object has a field that this version of landfall can't read, and is left alone; the event names the field.
    ObjectUnreadable,
    /// A fault of landfall itself.
    InternalError,
    /// Everything is as declared.
    Ready,

    // Secrets
    /// The Secret does not exist.
    SecretNotFound,
    /// The Secret lacks a key that is needed.
    SecretKeyMissing,
    /// A key of the Secret has a value that can't be used.
    SecretInvalid,
    /// The ConfigMap does not exist.
    ConfigMapNotFound,
    /// The ConfigMap lacks a key that is needed.
    ConfigMapKeyMissing,
    /// The operator may not read Secrets in this namespace.
    SecretForbidden,
    /// The Secret is not labelled or annotated for this use.
    SecretNotForThis,

    // Project
    /// The operator does not read URLs of this scheme.
    SchemeNotAllowed,
    /// The address is the operator's own machine or link-local.
    AddressNotAllowed,
    /// The URL is none that git takes.
    UrlInvalid,
    /// The repository does not answer.
    SourceUnreachable,
    /// The repository is larger than the operator takes.
    SourceTooLarge,
    /// The server answers with a redirect, which is not followed.
    RedirectRefused,
    /// The certificate of the server is signed by no trusted authority.
    CertificateUntrusted,
    /// The branches of the repository were read.
    SourceListed,
    /// A check or fetch at once was asked for.
    RefreshRequested,
    /// New heads of the trigger's branches are built.
    Watching,
    /// The Build of a new head can't be created.
    TriggerFailed,
    /// Builds, versions and logs beyond the retention were collected.
    Collected,
    /// Something beyond the retention can't be removed.
    RetentionFailed,

    // Build
    /// The Project does not exist (yet).
    ProjectNotFound,
    /// The revision is looked up.
    Resolving,
    /// The repository has no such revision.
    RevisionNotFound,
    /// Several commits of allowed branches begin with this short commit id.
    RevisionAmbiguous,
    /// No allowed branch reaches the commit.
    CommitNotOnBranch,
    /// The repository has the commit no longer.
    CommitGone,
    /// The commit has no folder `source.path`.
    PathNotFound,
    /// The Project declares no such parameter.
    ParameterUnknown,
    /// The value does not fit the parameter.
    ParameterInvalid,
    /// A parameter without default has no value.
    ParameterMissing,
    /// The tag template can make no version.
    TagTemplateInvalid,
    /// The version is not written as one.
    VersionInvalid,
    /// Another Build has this version.
    VersionExists,
    /// The repository has the tag on another commit.
    TagConflict,
    /// The build waits for its turn.
    Queued,
    /// Another build was under way, and the Project forbids a second.
    ConcurrencyForbidden,
    /// A newer build or version took its place.
    Superseded,
    /// The build may run.
    Granted,
    /// The checkout is made and the script is started.
    Starting,
    /// The script runs.
    Building,
    /// The artifacts are collected into a release.
    Collecting,
    /// The tag is pushed.
    Tagging,
    /// The version is published.
    Publishing,
    /// The version is published.
    Succeeded,
    /// An earlier Build of this name published a version from this commit; nothing is run again.
    AlreadyPublished,
    /// The script ended with an error.
    ScriptFailed,
    /// The script ran longer than `timeoutSeconds`.
    TimedOut,
    /// The script wrote nothing for `idleTimeoutSeconds`.
    IdleTimedOut,
    /// The script needed more memory than its limit.
    OutOfMemory,
    /// The script needed more processes than its limit.
    ProcessLimit,
    /// The build was cancelled by its spec.
    Cancelled,
    /// The runner of the script is gone, with its result.
    ExecutorLost,
    /// This machine can't isolate builds.
    ExecutorUnsafe,
    /// A glob of the artifacts matches nothing.
    ArtifactMissing,
    /// Two files would have one name in the release.
    ArtifactClash,
    /// A file or link leads out of the checkout.
    ArtifactOutside,
    /// Something is neither file, folder nor link.
    ArtifactInvalid,
    /// The artifacts are larger than a release may be.
    ArtifactTooLarge,
    /// The commit has something that is not checked out.
    CheckoutRefused,
    /// The commit has submodules, which are not fetched.
    SubmodulesRefused,
    /// The commit has Git LFS pointers, whose files are not fetched.
    LfsRefused,
    /// The commit has something where a cache is to be.
    CacheRefused,
    /// The repository refused the tag.
    PushRefused,
    /// The tag is at the repository.
    Tagged,
    /// The Project pushes no tags.
    NotTagged,
    /// The store has no room.
    StoreFull,
    /// The store can't be read or written.
    StoreUnavailable,

    // HostGroup
    /// The hosts are being checked.
    Probing,
    /// Every host was checked, and at least one can be used.
    Probed,
    /// Every host was checked, and none answers.
    NoHostReachable,
    /// Hosts answer, and none of them can be used.
    NoHostUsable,
    /// The HostGroup is deleted, and Deployments that acted on its hosts are not.
    InUse,
    /// A host that could not be used can be used again.
    HostRecovered,
    /// Two hosts have one address.
    DuplicateAddress,
    /// The host does not answer.
    Unreachable,
    /// known_hosts has no key for the address.
    HostKeyUnknown,
    /// The host shows another key than the known one.
    HostKeyMismatch,
    /// The certificate of the host is not valid for its address.
    HostCertificateInvalid,
    /// The key that was seen first on the host is forgotten.
    HostKeyForgotten,
    /// The annotation names no host whose key was kept.
    HostKeyNotForgotten,
    /// `suspend-host` took the host out of service.
    HostSuspended,
    /// `resume-host` put the host back into service.
    HostResumed,
    /// `resume-host` names a host that stays as it is; the message says why.
    HostNotResumed,
    /// The credentials were refused.
    AuthenticationFailed,
    /// The private key is of a type that is not read.
    UnsupportedKeyType,
    /// The host, or this operator, lacks something that is needed.
    HostUnsupported,
    /// The host ends processes with the session that started them.
    SessionScoped,
    /// The SSH user may not become the run user.
    BecomeRefused,
    /// sudo allows more than becoming the run users.
    SudoTooWide,

    // Deployment
    /// The record of the rollout can't be read, so nothing new begins.
    StatusUnreadable,
    /// The HostGroup does not exist (yet).
    HostGroupNotFound,
    /// The Project has published no such version (yet).
    VersionNotFound,
    /// The version was removed by the retention.
    VersionRemoved,
    /// The group has no host of this name.
    HostsNotFound,
    /// The selection matches no host.
    NoHosts,
    /// Two pins have one host.
    HostPinnedTwice,
    /// Another Deployment of the project has the host.
    HostClaimed,
    /// The group does not allow the run user of the version.
    UserNotAllowed,
    /// Another control plane acted on the host.
    FencedByOtherControlPlane,
    /// A newer operator acted on the host.
    Fenced,
    /// Hosts have seen a newer state of this control plane.
    HostsAhead,
    /// The version is rolled out to the hosts.
    RollingOut,
    /// A process that ended is started again.
    Healing,
    /// A person stopped, started or changed the application on the host; it is left so until a new version or a redeploy is asked for.
    ChangedByHand,
    /// The readiness probe fails on some hosts; all others are ready.
    HostsNotReady,
    /// A process whose readiness probe failed is ready again.
    ReadyAgain,
    /// The update failed on some hosts.
    HostsFailed,
    /// Some hosts do not answer; all others are ready.
    HostsUnreachable,
    /// A host was removed from the group.
    HostLeft,
    /// The Deployment is paused.
    Paused,
    /// The next batch waits until `rollingUpdate.pauseSeconds` have passed since the last one.
    BatchPause,
    /// All canary hosts are ready, and the other hosts wait for a person, or for the seconds of `strategy.canary.pause`.
    AwaitingPromotion,
    /// The other hosts follow the canary: a person asked for it, or the seconds are over.
    Promoted,
    /// A person ended the rollout where it was. It goes on with a retry; a new version starts over.
    Aborted,
    /// Too many hosts failed, and the rollout is or was taken back to what was last ready on all hosts.
    RolledBack,
    /// The value of a verb does not fit the current rollout; the message says which value would.
    VerbRefused,
    /// A further update waits: it would leave fewer hosts available than `minAvailable` of the HostGroup.
    TooFewAvailable,
    /// `minAvailable` of the HostGroup keeps all of its hosts available, so that none that serves can ever be updated.
    MinAvailableTooHigh,
    /// Every selected host runs the version and is ready.
    Deployed,
    /// The hosts are released or cleaned up before the deletion.
    Removing,
    /// The rollout made no progress for `progressDeadlineSeconds`.
    ProgressDeadlineExceeded,
    /// A rollout began.
    RolloutStarted,
    /// A rollout reached every selected host.
    RolloutFinished,
    /// A rollout failed.
    RolloutFailed,
    /// A retry was asked for, and no host had failed.
    NothingToRetry,
    /// The update of one host failed.
    HostFailed,

    // One host of a Deployment
    /// The disk is full.
    DiskFull,
    /// The line to the host is slower than the HostGroup's `upload.minBytesPerSecond`.
    UploadTooSlow,
    /// What arrived is not what was sent.
    TransferCorrupt,
    /// Another process has the port.
    PortInUse,
    /// The process could not be started.
    StartFailed,
    /// A hook of the version failed.
    HookFailed,
    /// The drain of the version that ran failed; the verb `skip-drain` with a `retry` goes on without it.
    DrainFailed,
    /// What ran is stopped without its drain, which had failed: a person asked for that.
    DrainSkipped,
    /// The process could not be stopped.
    StopFailed,
    /// The release could not be made the current one.
    SwitchFailed,
    /// The process ended.
    ProcessDied,
    /// The process did not become ready in time, or its readiness probe fails now.
    NotReady,
    /// The process ended too often in a row. Only on record: earlier versions of landfall gave up then.
    RestartedTooOften,
    /// Files of the release were changed on the host.
    ReleaseTampered,
    /// A process that may be an earlier one of this application runs, and can't be proved to be.
    LeftoverSuspected,
    /// The program is built for another kind of machine.
    ExecFormat,
    /// The application needs secret values that the host does not have.
    AwaitingSecrets,
    /// `landfall-host` failed on the host.
    HelperFailed,
    /// The Deployment is deleted, and its process may still run on these hosts.
    LeftBehind,

    /// A reason of a later version of landfall, on record.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The whole list, in its order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
