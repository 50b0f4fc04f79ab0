//! What landfall and `landfall-host` say to each other over one SSH channel: frames, and the messages in them. One definition, two ends.
//!
//! No I/O, no clock and no decision here: both ends parse what comes from the other as a stranger's input, so every name, size and number
//! is checked while it is read. A message of a later version may carry fields that this one does not know; they are ignored.

mod configuration;
mod facts;
mod frame;
mod later;
mod message;
mod names;
mod refusal;
mod release;
mod secret;
mod task;

pub use configuration::{
    Configuration, EnvValue, EnvVar, File, FileValue, HttpGet, HttpHeader, HttpScheme, LogLimits, Probe, ProbeAction,
    ProcessRuntime, RestartPolicy, RunAs, RunAsMethod, Runtime, ScriptRuntime, StaticRuntime, Stop, StopTo,
    SystemdRuntime,
};
pub use facts::{
    ByHand, Ended, FolderFacts, HostFacts, KeeperFacts, LastTask, MachineFacts, OpenTask, ProcessFacts, ProcessState,
    ReleaseFacts, RootFacts, StrangerFacts, WaitingReason,
};
pub use frame::{Decoder, Frame, FrameError, Kind, MAGIC, MAX_FRAME, MAX_NOISE, encode};
pub use later::Later;
pub use message::{Answer, Hello, LogFile, LogRequest, Push, Request, VersionRange, Welcome};
pub use names::{ConfigHash, Digest, FenceToken, FolderName, NameError, Owner, ReleaseName};
pub use refusal::{Full, Reason, Refusal};
pub use release::{Bundle, Entry, EntryKind, Manifest};
pub use secret::{SecretValue, Secrets};
pub use task::{
    Author, Drain, Event, EventKind, Failure, Outcome, Start, Step, StepName, Task, TaskId, TaskResult,
    configuration_file,
};

/// Names in `welcome.supports`. An operator asks nothing of a host that its program does not name.
pub mod supports {
    pub const RUNTIME_PROCESS: &str = "runtime.process";
    pub const RUNTIME_SYSTEMD: &str = "runtime.systemd";
    pub const RUNTIME_SCRIPT: &str = "runtime.script";
    pub const RUNTIME_STATIC: &str = "runtime.static";
    /// Applications of the runtimes `script` and `static` are asked about for as long as they are started, and commands have limits of their own.
    pub const RUNTIME_WATCHED: &str = "runtime.watched";
    /// Another user by sudo or su.
    pub const RUN_AS: &str = "runAs";
    /// Probes and drains by https.
    pub const HTTPS: &str = "https";
    /// `successThreshold` of a readiness probe.
    pub const SUCCESS_THRESHOLD: &str = "successThreshold";
    /// The request `secrets`.
    pub const SECRETS: &str = "secrets";
    /// Secret values that are no text, for files.
    pub const SECRETS_BINARY: &str = "secrets.binary";
    /// A log with its older files, and with a window: `older`, `sinceSeconds` and `window` of `log`, and the request `more`.
    pub const LOG_WHOLE: &str = "log.whole";
}

/// Versions of the protocol that this package speaks: the one before as well, for an operator and a host program are never replaced at once.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };
