//! Why a request was not done. The host says what it saw; the sentence for a person is made by the operator.

use serde::{Deserialize, Serialize};

use crate::{Digest, Later, Owner, TaskId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Refusal {
    /// The request can't be read or is none that this program knows. `field` names what is wrong.
    BadInput {
        field: String,
        why: String,
    },
    /// A later operator of this control plane has acted here.
    Fenced,
    /// Another control plane has acted here.
    OtherControlPlane {
        epoch: String,
    },
    /// The folder belongs to another Deployment or host name.
    Claimed {
        owner: Owner,
    },
    /// The request rests on an old view.
    JournalMoved {
        now: u64,
    },
    /// Another task is open in the folder.
    Busy {
        task: TaskId,
        step: String,
    },
    /// There is no such task, file or release.
    NotFound {
        what: String,
    },
    /// Bytes that the task needs are not in `incoming/`.
    Missing {
        digests: Vec<Digest>,
    },
    /// What came is not what was announced.
    DigestMismatch {
        expected: Digest,
        got: Digest,
    },
    Full(Full),
    /// This host can't do it; the path or tool is named.
    Unsupported {
        why: String,
    },
    /// It was tried and failed.
    Failed {
        why: String,
    },
    /// What a later version says.
    #[serde(untagged)]
    Unknown(Later),
}

/// The disk, its inodes or the user's quota are used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Full {
    pub path: String,
    pub free_bytes: u64,
    pub free_inodes: Option<u64>,
    /// Bytes that were needed, 0 where not known.
    pub needed: u64,
    pub quota: bool,
}

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    StageFailed,
    /// Files of the release were changed on the host.
    ReleaseTampered,
    HookFailed,
    DrainFailed,
    StopFailed,
    SwitchFailed,
    StartFailed,
    /// The application ended before it was ready.
    ProcessDied,
    NotReady,
    /// A process that is not ours has the port.
    PortInUse,
    /// A process runs from below our releases and can't be proved to be ours.
    LeftoverSuspected,
    /// Another architecture's program.
    ExecFormat,
    AwaitingSecrets,
    DiskFull,
    HostUnsupported,
    /// The runner is gone without a word, or the host was started again meanwhile.
    Lost,
    Internal,
    /// One of a later version.
    #[serde(other)]
    Unknown,
}
