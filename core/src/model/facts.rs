//! What a host said about itself. Truth for the planners; it decides nothing and is never written to a resource whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    ids::{FenceToken, FolderName, Owner, ReleaseName},
    keyed::KeyedHash,
    rollout::ProcessId,
};
use crate::api::Reason;

/// What stands in the id of a person's task in place of a rollout.
const BY_HAND: &str = "hand";

/// One host at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    pub boot_id: String,
    /// Seconds since boot; a clock for what ended there and for nothing else.
    #[serde(default)]
    pub uptime: u64,
    /// Why nothing can be deployed below the group's root, for a person, with the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
    /// Free bytes on the file system of the group's root.
    pub free_bytes: u64,
    /// Free inodes there; `None` where the file system does not count them.
    pub free_inodes: Option<u64>,
    /// The server's version banner, control characters removed.
    pub server: String,
    /// Our sessions end with the connection (`session-*.scope` and KillUserProcesses): the `process` runtime can't be used.
    pub session_scoped: bool,
    /// Users that the group may become and this host does not let it, with what was said there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cannot_become: BTreeMap<String, String>,
    /// sudo there lets the SSH user become root, which nothing of ours needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sudo_too_wide: bool,
    /// Every project folder below the root.
    pub folders: BTreeMap<FolderName, FolderFacts>,
}

/// One project's folder on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FolderFacts {
    pub owner: Option<Owner>,
    pub fence: Option<FenceToken>,
    /// Number of the last line of the journal; 0 where there is none.
    pub journal: u64,
    /// An act that was begun and not ended, as the journal names it.
    pub open: Option<OpenAct>,
    /// What `current` points at.
    pub current: Option<ReleaseName>,
    /// Every whole, verified release below `releases/`.
    pub releases: Vec<ReleaseName>,
    /// Releases whose files somebody changed: nothing starts from them, and they are staged again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tampered: Vec<ReleaseName>,
    /// The process that we started last, if its identity is recorded.
    pub process: Option<ProcessFacts>,
    /// The last rollout that was seen ready here (written by the act `mark`), and with which process.
    pub ready: Option<ReadyMark>,
    /// The last act on the application was a person's on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
    /// The task that ended last failed in a step that only an update has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedAct>,
}

/// An update that failed, as the host tells whoever asks later: its operator may not have heard of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAct {
    pub uid: String,
    pub rollout: String,
    pub attempt: i64,
    /// `hook`, `drain` or `minReady`.
    pub step: String,
    pub reason: Reason,
    pub why: String,
}

/// What a person did with `landfall-host` on the host. Who and why are his words, not known to be true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// Number of the journal's line that begins it: which act it is.
    pub journal: u64,
    /// `stop`, `start v1.4.1`, `use v1.4.1`.
    pub act: String,
    #[serde(default)]
    pub reason: String,
    /// Who, where sudo tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// An act whose end the journal does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAct {
    pub uid: String,
    pub rollout: String,
    pub attempt: i64,
    pub n: u64,
    pub step: String,
    /// Whether a detached step still holds `steps/lock`.
    pub running: bool,
}

/// The recorded identity of a process, and what `/proc` says of it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    pub pid: i64,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start: u64,
    pub boot_id: String,
    /// SHA-256 of the release in hex, and the release's folder.
    pub digest: String,
    pub release: Option<ReleaseName>,
    /// Deployment uid, revision and rollout that started it.
    pub uid: String,
    pub revision: i64,
    pub rollout: String,
    /// The keyed hash of all values of Secrets and ConfigMaps that it was started with; `None`: it takes none, or none is on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<KeyedHash>,
    /// pid, start time and boot id all match a process that is no zombie. A stranger under a reused pid is not alive; a process that has done
    /// its work (`OnFailure` and exit status 0) is, for nothing is left to start.
    pub alive: bool,
    /// It was ready, and its readiness probe fails now: what the probe said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready: Option<String>,
    /// It ended, and its keeper starts it again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Starts by its keeper after the first one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// It is not started again before a person ends what it left there: who that is, with pids. Empty: nothing is in the way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub survivors: String,
    /// How its last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndFacts>,
}

/// How a run of a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndFacts {
    /// With the last lines of output, for a person: "ended with exit status 1".
    pub text: String,
    /// Seconds since boot.
    pub at: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl OpenAct {
    /// A person's act on the host, and none of an operator.
    pub fn is_by_hand(&self) -> bool {
        self.rollout == BY_HAND
    }
}

impl ProcessFacts {
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start: self.start }
    }
}

/// Readiness as it was recorded on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyMark {
    pub uid: String,
    pub rollout: String,
    pub pid: i64,
    pub start: u64,
}
