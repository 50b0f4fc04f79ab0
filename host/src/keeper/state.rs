//! The record `state`: who keeps, what runs, how it ended. Its one writer is the living keeper; where none lives, who holds the folder's lock.

use std::io;

use landfall_host_protocol::{ConfigHash, Digest, Ended, ReleaseName, Start, StrangerFacts, WaitingReason};
use serde::{Deserialize, Serialize};

use crate::{
    files,
    folder::Folder,
    gate,
    process::{Found, Identity, Stat, find, start_time_now},
    records::shell,
};

/// Processes on record that could not be ended.
const UNENDED_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Counts the writes.
    pub counter: u64,
    #[serde(default)]
    pub keeper: Option<KeeperRecord>,
    /// The process that was started last: first of its session.
    #[serde(default)]
    pub application: Option<Identity>,
    /// This start's value of [`crate::process::MARK`]; restarts keep it.
    #[serde(default)]
    pub instance: String,
    /// uid of the Deployment.
    #[serde(default)]
    pub uid: String,
    pub release: ReleaseName,
    pub digest: Digest,
    /// `None`: started by the shell helper.
    #[serde(default)]
    pub config: Option<ConfigHash>,
    #[serde(default)]
    pub revision: i64,
    #[serde(default)]
    pub redeploys: i64,
    #[serde(default)]
    pub attempt: i64,
    pub phase: Phase,
    /// Why it waits, where it does.
    #[serde(default)]
    pub waiting: WaitingReason,
    /// Milliseconds since boot.
    #[serde(default)]
    pub ready_since: Option<u64>,
    /// Milliseconds since boot; since when this very process, which had been ready, is not.
    #[serde(default)]
    pub unready_since: Option<u64>,
    #[serde(default)]
    pub was_ready: bool,
    #[serde(default)]
    pub restarts: u32,
    #[serde(default)]
    pub last_end: Option<Ended>,
    /// Processes that the run before left behind, and that were ended then.
    #[serde(default)]
    pub left: u32,
    /// Processes of this application that could not be ended. Nothing is started as long as one of them lives.
    #[serde(default)]
    pub unended: Vec<Identity>,
    /// When they were seen, as a start time: what may not be seen had begun by then.
    #[serde(default)]
    pub unended_seen: u64,
    /// Children of the keeper that are none of the application's, with all that is below them: they undo what a dead runner left.
    #[serde(default)]
    pub apart: Vec<Identity>,
    #[serde(default)]
    pub probe_failure: Option<String>,
    /// Others that answer on the application's port.
    #[serde(default)]
    pub strangers: Vec<StrangerFacts>,
    /// Boot in which it was started, where no process stands for it.
    #[serde(default)]
    pub booted: Option<String>,
    /// Milliseconds since boot at which it was started, where no process stands for it: which start it is.
    #[serde(default)]
    pub began: u64,
    /// It is to be started, and nobody on the host has its secret values.
    #[serde(default)]
    pub awaiting_secrets: bool,
    /// Unit of systemd that it runs as; no keeper stands above it then.
    #[serde(default)]
    pub unit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeeperRecord {
    pub identity: Identity,
    /// Digest of its program.
    pub program: Option<Digest>,
    /// It started the application; else it only watches.
    pub parent: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    Running,
    /// It is started again at this time, in milliseconds since boot.
    Waiting {
        at: u64,
    },
    /// It ended with exit status 0 under `OnFailure`.
    Completed,
    /// It ended, and the keeper does not start it again.
    Ended,
    /// It was stopped by an act.
    Stopped,
}

impl State {
    /// `None`: nothing was ever started here. Where this program never wrote one it is what the shell helper left.
    pub fn read(folder: &Folder) -> io::Result<Option<Self>> {
        Ok(files::read_record(&folder.state())?.or_else(|| Self::of_shell_helper(folder)))
    }

    /// The process that the shell helper started: whether it lives is for who reads this.
    fn of_shell_helper(folder: &Folder) -> Option<Self> {
        let shell::Process { pid, start, boot_id, digest, uid, revision, rollout, release } = shell::process(folder)?;
        let was_ready = shell::ready(folder).is_some_and(|mark| {
            (mark.uid.as_str(), mark.rollout.as_str()) == (&uid, &rollout) && mark.pid == pid && mark.start == start
        });
        Some(Self {
            counter: 0,
            keeper: None,
            application: Some(Identity { pid, start, boot_id }),
            instance: String::new(),
            uid,
            release,
            digest,
            config: None,
            revision,
            redeploys: rollout.rsplit('.').next().and_then(|serial| serial.parse().ok()).unwrap_or(0),
            attempt: 0,
            phase: Phase::Running,
            waiting: WaitingReason::Crash,
            // When it became ready is not on record; it is no later than it was looked at last.
            ready_since: was_ready.then_some(0),
            unready_since: None,
            was_ready,
            restarts: 0,
            last_end: None,
            left: 0,
            unended: Vec::new(),
            unended_seen: 0,
            apart: Vec::new(),
            probe_failure: None,
            strangers: Vec::new(),
            booted: None,
            began: 0,
            awaiting_secrets: false,
            unit: None,
        })
    }

    /// Of a start that is about to be made. The counter goes on.
    pub fn new(start: &Start, uid: String, instance: String, counter: u64) -> Self {
        let Start { release, digest, config, revision, redeploys, attempt } = start;
        Self {
            counter,
            keeper: None,
            application: None,
            instance,
            uid,
            release: release.clone(),
            digest: digest.clone(),
            config: Some(config.hash.clone()),
            revision: *revision,
            redeploys: *redeploys,
            attempt: *attempt,
            phase: Phase::Ended,
            waiting: WaitingReason::Crash,
            ready_since: None,
            unready_since: None,
            was_ready: false,
            restarts: 0,
            last_end: None,
            left: 0,
            unended: Vec::new(),
            unended_seen: 0,
            apart: Vec::new(),
            probe_failure: None,
            strangers: Vec::new(),
            booted: None,
            began: 0,
            awaiting_secrets: false,
            unit: None,
        }
    }

    /// Writes it, counted.
    pub fn write(&mut self, folder: &Folder) -> io::Result<()> {
        self.counter = self.counter.saturating_add(1);
        gate::pass("state.write", || files::write_record(&folder.state(), self))
    }

    /// Takes what could not be ended on record. Of very many the first suffice.
    pub fn set_unended(&mut self, mut unended: Vec<Identity>) {
        unended.truncate(UNENDED_MAX);
        self.unended = unended;
        self.unended_seen = start_time_now();
    }

    /// What could not be ended and lives still. Of one whose start time is not known its pid may be another one's, which then began later.
    pub fn living_unended(&self) -> Vec<Identity> {
        let began_later = |pid: i32| Stat::read(pid).is_some_and(|stat| stat.start > self.unended_seen);
        let is_another = |process: &Identity| process.start == 0 && began_later(process.pid);
        let lives = |process: &&Identity| !matches!(find(process), Found::Dead) && !is_another(process);
        self.unended.iter().filter(lives).cloned().collect()
    }

    pub fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }
}
