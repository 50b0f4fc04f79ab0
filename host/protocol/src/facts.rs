//! What a host shows of itself: true now, and the input of the planner. No order and no intent is in here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Author, ConfigHash, Digest, FenceToken, FolderName, Later, Outcome, Owner, ReleaseName, TaskId};

/// One host at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    pub machine: MachineFacts,
    pub root: RootFacts,
    /// Of the namespace that was asked for.
    #[serde(default)]
    pub folders: BTreeMap<FolderName, FolderFacts>,
    /// Users that were asked for and can't be become, with what was said there.
    #[serde(default)]
    pub cannot_become: BTreeMap<String, String>,
    /// sudo lets the SSH user become root, which nothing of ours needs.
    #[serde(default)]
    pub sudo_too_wide: bool,
    /// sudo or su is still being asked: `cannot_become` and `sudo_too_wide` come with a push.
    #[serde(default)]
    pub users_pending: bool,
}

impl HostFacts {
    /// Takes what a host told of itself, and keeps its folders.
    pub fn replace_host(&mut self, told: Self) {
        let folders = std::mem::take(&mut self.folders);
        *self = Self { folders, ..told };
    }
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineFacts {
    pub boot_id: String,
    /// Seconds since boot.
    pub uptime_seconds: u64,
    /// The same in milliseconds: the clock of `ready_since`, `at` and `until_millis`.
    #[serde(default)]
    pub uptime_millis: u64,
    /// The host's clock, milliseconds since 1970. It decides nothing.
    pub clock_millis: i64,
    /// As `uname -m` says it.
    pub machine: String,
    pub kernel: String,
    /// Numeric id of the SSH user.
    pub uid: u32,
    /// pidfd calls work.
    pub pidfd: bool,
    /// logind ends what SSH started (`session-*.scope` and KillUserProcesses): the `process` runtime can't be used.
    pub session_scoped: bool,
    /// A systemd that landfall may use: of the system, or of the user.
    #[serde(default)]
    pub systemd: bool,
}

/// The group's root folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootFacts {
    pub free_bytes: u64,
    /// `None` where the file system does not count them.
    pub free_inodes: Option<u64>,
    /// Why nothing can be deployed here (`noexec`, `nfs`, not writable, writable by others), for a person, with the path.
    pub unfit: Option<String>,
}

/// One project's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderFacts {
    /// Counts the reads of this session: of two facts of one folder those with the higher number are newer.
    #[serde(default)]
    pub seen: u64,
    pub owner: Option<Owner>,
    pub fence: Option<FenceToken>,
    /// Number of the last line of the journal; 0 where there is none.
    pub journal: u64,
    /// A task that was begun and has no end in the journal.
    pub task: Option<OpenTask>,
    /// The task that ended last.
    #[serde(default)]
    pub last_task: Option<LastTask>,
    /// What `current` points at.
    pub current: Option<ReleaseName>,
    /// Whole releases whose digest was verified.
    #[serde(default)]
    pub releases: Vec<ReleaseFacts>,
    pub process: Option<ProcessFacts>,
    /// The application was taken out of service and not brought back: a task that drained is under way, or ended and left no application
    /// that is ready.
    #[serde(default)]
    pub drained: bool,
    pub keeper: Option<KeeperFacts>,
    /// Processes that belong to an ended application of ours and still live.
    #[serde(default)]
    pub survivors: Vec<StrangerFacts>,
    /// Processes that run from below our releases and that we can't prove to be ours (`LeftoverSuspected`).
    #[serde(default)]
    pub suspected: Vec<StrangerFacts>,
    /// The last act was a person's on the host.
    pub by_hand: Option<ByHand>,
    /// Files of the shell helper's time are there and not taken over yet.
    #[serde(default)]
    pub shell_helper: bool,
    /// Secret values are needed to start, and nobody on the host has them.
    #[serde(default)]
    pub awaiting_secrets: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenTask {
    pub id: TaskId,
    /// Name of the step under way.
    pub step: String,
    /// Its runner lives.
    pub running: bool,
}

/// How the task that ended last did, as the journal keeps it: without output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTask {
    pub id: TaskId,
    pub author: Author,
    /// `None`: an act of the shell helper, which kept none.
    pub outcome: Option<Outcome>,
    /// Number of the journal's line that says so.
    pub journal: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFacts {
    pub name: ReleaseName,
    pub digest: Digest,
    /// Files differ from what was staged; the first few paths.
    #[serde(default)]
    pub tampered: Vec<String>,
}

/// The application that was started last: its identity, and what is true of it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessFacts {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start: u64,
    pub boot_id: String,
    pub release: ReleaseName,
    pub digest: Digest,
    /// `None` for a process of the shell helper's time.
    pub config: Option<ConfigHash>,
    /// Deployment uid, revision and redeploy serial that it was started for.
    pub uid: String,
    pub revision: i64,
    pub redeploys: i64,
    /// Attempt of that rollout; 0 where it is not known.
    #[serde(default)]
    pub attempt: i64,
    pub state: ProcessState,
    /// Its readiness probe passes, or it has none and runs.
    pub ready: bool,
    /// Milliseconds since boot at which it became ready; `None` while it is not.
    pub ready_since: Option<u64>,
    /// Milliseconds since boot at which its readiness probe began to fail, after this very process had been ready; `None` while it passes,
    /// and before it did.
    #[serde(default)]
    pub unready_since: Option<u64>,
    /// It was ready at least once since it was first started.
    pub was_ready: bool,
    /// Starts after the first one, by the keeper.
    pub restarts: u32,
    /// How the run before ended.
    pub last_end: Option<Ended>,
    /// What the readiness probe said last when it failed.
    pub probe_failure: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ProcessState {
    Running,
    /// It ended and is started again at that time, in milliseconds since boot (`CrashLoopBackOff`); 0: in a moment.
    Waiting {
        until_millis: u64,
        #[serde(default)]
        reason: WaitingReason,
    },
    /// It ended with exit status 0, and its restart policy is `OnFailure`.
    Completed,
    /// It ended and nobody starts it again by himself.
    Ended,
    /// It was stopped by an act.
    Stopped,
    /// What a later version says.
    #[serde(untagged)]
    Unknown(Later),
}

/// Why an application waits to be started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitingReason {
    /// It ended by itself.
    #[default]
    Crash,
    /// Its liveness probe failed.
    Liveness,
    /// It could not be started.
    StartFailed,
    /// Files of its release were changed.
    Tampered,
    /// What the run before left still lives.
    Survivors,
    /// One of a later version.
    #[serde(other)]
    Unknown,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// `None`: ended by a signal, or nobody saw it.
    pub status: Option<i32>,
    /// `KILL`, `SEGV`, …, without `SIG`.
    pub signal: Option<String>,
    /// Milliseconds since boot.
    pub at: u64,
    /// The kernel killed it, or one of its processes, for lack of memory. False as well where that is not known: runtime `systemd` knows.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Last lines of its output, cleaned and cut.
    #[serde(default)]
    pub lines: Vec<String>,
}

impl Ended {
    /// `ended with exit status 3`, `was killed by SIGKILL`, …
    pub fn in_words(&self) -> String {
        if self.out_of_memory {
            return "was killed by the kernel for lack of memory (OOM)".to_owned();
        }
        match (self.status, self.signal.as_deref()) {
            (Some(0), _) => "ended with exit status 0".to_owned(),
            (Some(126), _) => "ended with exit status 126 (a command could not be executed)".to_owned(),
            (Some(127), _) => "ended with exit status 127 (a command was not found)".to_owned(),
            (Some(status), _) => format!("ended with exit status {status}"),
            (None, Some("KILL")) => {
                "was killed by SIGKILL (by the kernel where memory ran out, or by somebody)".to_owned()
            }
            (None, Some("SEGV")) => "was killed by SIGSEGV (it accessed memory that is not its own)".to_owned(),
            (None, Some("ABRT")) => "was killed by SIGABRT (it gave up by itself)".to_owned(),
            (None, Some(signal)) => format!("was killed by SIG{signal}"),
            (None, None) => "ended, and nobody saw how".to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeeperFacts {
    pub pid: i32,
    pub start: u64,
    /// Digest of the program that it runs.
    pub program: Option<Digest>,
    /// It is the application's parent; else it only watches.
    pub parent: bool,
}

/// A process that is named to a person. Of many the first few are, and one with the pid 0 says how many more there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangerFacts {
    pub pid: i32,
    pub start: u64,
    /// Its command line or executable, cleaned and cut.
    pub what: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ByHand {
    /// What was done: `stop`, `start`, `use v1.4.1`.
    pub act: String,
    pub reason: String,
    /// Who, where sudo tells.
    pub user: Option<String>,
    /// The host's clock, milliseconds since 1970.
    pub at_millis: i64,
    /// Number of the journal's line that begins it: which act it is. 0: none of ours, so the journal does not have it; `at_millis` tells.
    #[serde(default)]
    pub journal: u64,
}
