//! A task: the whole work on one folder as data, run by a detached runner that survives the connection and the operator.

use serde::{Deserialize, Serialize};

use crate::{
    Bundle, ConfigHash, Configuration, Digest, Ended, FenceToken, FolderName, Full, HttpGet, Later, Owner, Reason,
    ReleaseName, StrangerFacts,
};

/// One task: done once, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskId {
    /// The Deployment's uid.
    pub uid: String,
    /// `<revision>.<redeploys>`.
    pub rollout: String,
    /// Attempt of that rollout, from 1.
    pub attempt: i64,
    /// The last journal number that the operator saw in this folder; another one now is `JournalMoved`.
    pub n: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub id: TaskId,
    pub folder: FolderName,
    pub owner: Owner,
    /// The owner that is replaced where it is the recorded one; any other is answered `Claimed`.
    #[serde(default)]
    pub replaces: Option<Owner>,
    pub fence: FenceToken,
    pub author: Author,
    pub steps: Vec<Step>,
}

/// By whom a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Author {
    Operator,
    /// A person on the host.
    Hand {
        reason: String,
        user: Option<String>,
    },
}

/// One step. Each is done again without harm, and looks at what is there before it acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// The release is unpacked below `releases/`, verified and synced. A release that is there and whole is not touched; one that somebody
    /// changed is replaced.
    Stage {
        release: ReleaseName,
        digest: Digest,
        /// SHA-256 of the manifest (JSON) in `incoming/`.
        manifest: Digest,
        /// `None`: every byte is there already.
        bundle: Option<Bundle>,
    },
    /// A command of the release, run in its folder as the user of the configuration.
    Hook {
        name: String,
        release: ReleaseName,
        config: Box<Configuration>,
        command: Vec<String>,
        timeout_seconds: u32,
    },
    /// Takes the application out of service. Its undo runs whenever the task ends before the new application is ready.
    Drain(Drain),
    /// Waits; can be cancelled.
    Settle {
        seconds: u32,
    },
    /// Ends the application and whatever it left, as its own configuration says.
    Stop,
    /// Points `current` at a release.
    Switch {
        release: ReleaseName,
    },
    Start(Box<Start>),
    /// Waits until the readiness probe passes, or where there is none until the application has lived for a second; can be cancelled.
    WaitReady {
        timeout_seconds: u32,
    },
    /// Waits until the application has been ready for so long; can be cancelled.
    MinReady {
        seconds: u32,
    },
    /// Removes the oldest releases but those of `keep`, what `current` points at and what runs, until `at_most` are left. What can't be
    /// removed stays.
    Prune {
        keep: Vec<ReleaseName>,
        at_most: usize,
    },
    /// The claim is given up; the application keeps running.
    GiveUp,
    /// Stopped, and the folder removed.
    Remove,
    /// The folder is taken over from another control plane.
    Adopt,
}

/// Names of steps, in kill points, events, journal and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StepName {
    Stage,
    Hook,
    Drain,
    Settle,
    Stop,
    Switch,
    Start,
    WaitReady,
    Register,
    MinReady,
    Prune,
    GiveUp,
    Remove,
    Adopt,
    /// What an earlier step of an ended task needs.
    Undo,
    /// One of a later version.
    #[serde(other)]
    Unknown,
}

impl Step {
    pub fn name(&self) -> StepName {
        match self {
            Self::Stage { .. } => StepName::Stage,
            Self::Hook { .. } => StepName::Hook,
            Self::Drain(_) => StepName::Drain,
            Self::Settle { .. } => StepName::Settle,
            Self::Stop => StepName::Stop,
            Self::Switch { .. } => StepName::Switch,
            Self::Start(_) => StepName::Start,
            Self::WaitReady { .. } => StepName::WaitReady,
            Self::MinReady { .. } => StepName::MinReady,
            Self::Prune { .. } => StepName::Prune,
            Self::GiveUp => StepName::GiveUp,
            Self::Remove => StepName::Remove,
            Self::Adopt => StepName::Adopt,
        }
    }
}

impl StepName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Hook => "hook",
            Self::Drain => "drain",
            Self::Settle => "settle",
            Self::Stop => "stop",
            Self::Switch => "switch",
            Self::Start => "start",
            Self::WaitReady => "waitReady",
            Self::Register => "register",
            Self::MinReady => "minReady",
            Self::Prune => "prune",
            Self::GiveUp => "giveUp",
            Self::Remove => "remove",
            Self::Adopt => "adopt",
            Self::Undo => "undo",
            Self::Unknown => "unknown",
        }
    }
}

/// How an application is taken out of service, and back in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Drain {
    Exec { command: Vec<String>, undo: Vec<String>, timeout_seconds: u32 },
    Http { request: HttpGet, undo: Option<HttpGet>, method: String, timeout_seconds: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    pub release: ReleaseName,
    pub digest: Digest,
    pub config: Configuration,
    pub revision: i64,
    pub redeploys: i64,
    /// Attempt of that rollout, from 1.
    #[serde(default)]
    pub attempt: i64,
}

/// Something that happened in a task. Each has the number of its line in `events`, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Milliseconds since the task's begin.
    pub after_millis: u64,
    pub step: StepName,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EventKind {
    Begun,
    /// Nothing had to be done.
    Skipped,
    /// A line of output of a hook or command; `stream`: 1 or 2. Cleaned of control characters, cut at 8 KiB.
    Line {
        stream: u8,
        text: String,
    },
    /// Output that was left out, in bytes.
    Cut {
        bytes: u64,
    },
    Progress {
        text: String,
    },
    Ended,
    Failed {
        reason: Reason,
        why: String,
    },
    /// What a later version says.
    #[serde(untagged)]
    Unknown(Later),
}

/// How a task ended; in `result` once it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    pub outcome: Outcome,
    /// Number of the journal's line that says so; 0 where the folder is gone.
    pub journal: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    Succeeded,
    Cancelled,
    Failed(Box<Failure>),
    /// What a later version says.
    #[serde(untagged)]
    Unknown(Later),
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub step: StepName,
    pub reason: Reason,
    /// For a person; no secret value.
    pub why: String,
    /// Last lines of output, cleaned and cut.
    #[serde(default)]
    pub lines: Vec<String>,
    /// How the application ended, where it did.
    #[serde(default)]
    pub ended: Option<Ended>,
    #[serde(default)]
    pub full: Option<Full>,
    /// Processes that stand in the way.
    #[serde(default)]
    pub strangers: Vec<StrangerFacts>,
}

/// Where a configuration lies: `config/<name>`.
pub fn configuration_file(hash: &ConfigHash) -> String {
    hash.as_str().replace(':', "-")
}
