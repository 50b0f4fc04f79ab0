//! Requests of the operator, answers and pushes of the host. Requests are pipelined; an answer carries its request's id.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Digest, Event, FolderFacts, FolderName, HostFacts, Later, RunAsMethod, Task, TaskId, TaskResult, refusal::Refusal,
    secret::Secrets,
};

/// Versions of the protocol that one end speaks; the highest common one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    pub min: u16,
    pub max: u16,
}

impl VersionRange {
    pub fn common(self, other: Self) -> Option<u16> {
        let version = self.max.min(other.max);
        (version >= self.min.max(other.min)).then_some(version)
    }
}

/// First request of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    pub versions: VersionRange,
    /// Only folders of this namespace are told of and acted on.
    pub namespace: String,
    /// Whether these users can be become is found out.
    #[serde(default)]
    pub become_method: Option<RunAsMethod>,
    #[serde(default)]
    pub become_users: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// Version of the protocol from here on.
    pub version: u16,
    /// Version of the program.
    pub program: String,
    /// Digest of the program, where its own name tells it.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// What this program does beyond what every one of the version does: see [`supports`](crate::supports).
    #[serde(default)]
    pub supports: BTreeSet<String>,
    /// Number of these facts, for `look`.
    pub seen: u64,
    pub facts: HostFacts,
}

/// A request. Bytes that belong to it follow under its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    Hello(Hello),
    /// Is something different from the facts of this number? Answered by `Unchanged` or `Facts`.
    Look {
        seen: u64,
    },
    /// Brings bytes to `incoming/`. `from`: the offset at which the bytes that follow begin, up to a `LastBytes` frame; `None`: none
    /// follow, and the answer `Have` tells how many are there already.
    Put {
        folder: FolderName,
        sha256: Digest,
        size: u64,
        from: Option<u64>,
    },
    /// Begins a task, or attaches to it where it was begun already. Answered by `Events` as they come, then `Ended`.
    Begin {
        task: Box<Task>,
        secrets: Secrets,
    },
    /// Events of a task from this line on, then `Ended`.
    Attach {
        folder: FolderName,
        task: TaskId,
        offset: u64,
    },
    /// Ends a task before its next step, or within one that waits.
    Cancel {
        folder: FolderName,
        task: TaskId,
    },
    /// Secret values for an application that waits for them.
    Secrets {
        folder: FolderName,
        secrets: Secrets,
    },
    /// The application's log: bytes, then `LastBytes`.
    Log(LogRequest),
    /// Under the id of a log with a window: so many bytes more may come. It has no answer.
    More {
        bytes: u64,
    },
    /// Ends what is under way under another id.
    Close {
        id: u32,
    },
}

/// Which part of an application's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    pub folder: FolderName,
    pub file: LogFile,
    /// The last lines; `None`: all.
    pub last_lines: Option<u32>,
    /// Until cancelled by `Close`, across rotations.
    pub follow: bool,
    /// Of file 0: older files are part of the log as well, the oldest first. See [`LOG_WHOLE`](crate::supports::LOG_WHOLE).
    #[serde(default, skip_serializing_if = "is_false")]
    pub older: bool,
    /// With `older`: what was written before the last so many seconds is left out, as far as it is known when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// Bytes that may come before the first `More`; `Done` says first that the log is open. `None`: no limit, and no `Done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

impl LogRequest {
    /// One file, from its beginning to its end.
    pub fn of(folder: FolderName, file: LogFile) -> Self {
        Self { folder, file, last_lines: None, follow: false, older: false, since_seconds: None, window: None }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Which log file: 0 is the current one, 1 the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile(pub u32);

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Answer {
    Welcome(Box<Welcome>),
    Unchanged,
    Facts {
        seen: u64,
        facts: Box<HostFacts>,
    },
    /// Bytes of an object that are there already; all of them: nothing need be sent.
    Have {
        bytes: u64,
    },
    /// The object is whole, verified and synced.
    Stored,
    Events {
        offset: u64,
        events: Vec<Event>,
    },
    /// `folder`: the folder right after the task; `None` where it is gone.
    Ended {
        result: TaskResult,
        folder: Option<Box<FolderFacts>>,
        /// Milliseconds since boot.
        #[serde(default)]
        uptime_millis: u64,
    },
    Done,
    Refused(Refusal),
}

/// What the host says unasked, with the id 0; of folders at most once a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Push {
    /// What is true of these folders now. `seen` as in `Welcome`.
    /// `uptime_millis`: milliseconds since boot.
    Folders {
        seen: u64,
        #[serde(default)]
        uptime_millis: u64,
        folders: BTreeMap<FolderName, Option<FolderFacts>>,
    },
    /// What is true of the host itself now. `folders` in it is empty, and says nothing of folders. `seen` as in `Welcome`.
    Host { seen: u64, facts: Box<HostFacts> },
    /// What a later version says.
    #[serde(untagged)]
    Unknown(Later),
}
