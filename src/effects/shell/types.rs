//! Parameters and results of acting calls on a host. Plain values.

use std::time::Duration;

use crate::{
    api::hostgroup::BecomeMethod,
    effects::payload::Payload,
    model::{
        facts::{FolderFacts, ProcessFacts},
        ids::{ActId, FenceToken, FolderName, Owner, ReleaseName},
    },
};

/// Result of an act that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Acted {
    /// Number of the journal's line that says so; 0 where the folder is gone.
    pub journal: u64,
    /// The folder as it was right after the act, from the same answer. `None` where it is gone.
    pub folder: Option<FolderFacts>,
}

/// What every acting call carries: where, for whom, and what proves that it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActCall {
    pub folder: FolderName,
    /// The owner that acts; written to the folder where it has none.
    pub owner: Owner,
    /// The owner that `facts` reported and that the planner knows to be gone (its Deployment or its host name does not exist any
    /// more), or that an `adopt` names. It is replaced, if it is still the recorded one; any other owner is answered `HostClaimed`.
    pub replaces: Option<Owner>,
    pub fence: FenceToken,
    pub act: ActId,
}

/// What is put on the host: one tar.
#[derive(Clone, Debug)]
pub struct StageSpec {
    pub release: ReleaseName,
    /// SHA-256 of the tar, 64 hex digits.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
    /// The tar itself.
    pub tar: Payload,
    /// Bytes free on the host, where its facts also show that the release is not there: then it is sent without asking first.
    pub absent_with_free: Option<u64>,
}

impl StageSpec {
    /// Bytes that a release of this size needs: the tar, and what comes out of it.
    pub(crate) fn room_for(size: u64) -> u64 {
        size.saturating_mul(2).saturating_add(1 << 20)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopSpec {
    /// `TERM`, `INT`, `QUIT`, …, without `SIG`.
    pub signal: String,
    /// How long the process may take before it is killed.
    pub grace: Duration,
}

/// Another user that an application runs as, and how the SSH user becomes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    pub method: BecomeMethod,
    pub user: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSpec {
    pub release: ReleaseName,
    /// SHA-256 of the release, 64 hex digits.
    pub digest: String,
    pub revision: i64,
    /// `<revision>.<serial>`.
    pub rollout: String,
    /// It had been ready and ended: the host counts this start among those in a row.
    pub heal: bool,
    /// Run in the release's folder; the first is looked up in PATH.
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
}

/// Stop what runs, switch, start, in one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateSpec {
    pub stop: StopSpec,
    pub start: StartSpec,
    pub run_as: Option<RunAs>,
    /// Must be free when the old process is gone, or nothing is started.
    pub port: Option<u16>,
}

/// Result of an update that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated {
    pub acted: Acted,
    /// Nothing was started, because another process listens on the port although ours is gone.
    pub port_taken: bool,
}

/// What is put on record once a process was ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkSpec {
    pub rollout: String,
    /// A socket of that very process must listen there, where that can be told.
    pub port: Option<u16>,
    /// Where not empty, the oldest releases but these are removed until `at_most` are left, as `prune` does; what can't be, stays.
    pub keep: Vec<ReleaseName>,
    pub at_most: usize,
}

/// The recorded process, and whose socket answers on a port, asked in one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answering {
    pub process: Option<ProcessFacts>,
    /// `None` where no port was asked about.
    pub listener: Option<Listener>,
}

/// Whose socket answers on a port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// A process of the session that we started.
    Ours,
    /// Another process.
    Foreign,
    /// No process listens.
    Nobody,
    /// `/proc/PID/fd` could not be read.
    Unknown,
}
