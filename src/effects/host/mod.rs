//! One host: its facts, and the acts of a rollout on it. Every act is one call of the helper script, which checks owner, fence and
//! journal on the host itself. It must not decide what is to be done.

mod error;
mod types;

pub use error::HostError;
pub use types::{ActCall, Listener, StageSpec, StartSpec, StopSpec};

use std::{sync::Arc, time::Duration};

use super::{
    gate::Gate,
    ssh::{Credentials, SshTarget},
};
use crate::plan::{
    facts::{HostFacts, OpenAct},
    ids::{FolderName, ReleaseName},
};

/// One connection to one host; cheap to clone, all clones share the connection. Calls may run at the same time; the host itself
/// serialises acts. When the connection is lost every call answers an unreachable `HostError::Ssh`; connecting again is the caller's.
#[derive(Clone)]
pub struct Host {
    #[allow(dead_code)]
    inner: Arc<()>,
}

#[allow(unused_variables, clippy::unused_async)]
impl Host {
    /// Connects, authenticates, and uploads the helper script if the host lacks it (effect `host.helper`).
    /// `name` is the host's name in its group, for the effects ledger; `root` the group's root, absolute.
    pub async fn connect(
        gate: &Gate,
        name: &str,
        target: &SshTarget,
        credentials: &Credentials,
        root: &str,
    ) -> Result<Self, HostError> {
        Err(not_yet())
    }

    /// Whether the connection is gone; a closed one never comes back.
    pub fn is_closed(&self) -> bool {
        true
    }

    /// What the host says about itself and every project folder, in one call. Missing tools are facts, no error.
    pub async fn facts(&self) -> Result<HostFacts, HostError> {
        Err(not_yet())
    }

    /// Puts a release on the host, verified by digest, under `releases/<name>`; one that is there and whole is kept.
    /// Answers the journal's number after the act, as all acts do.
    pub async fn stage(&self, gate: &Gate, call: &ActCall, spec: &StageSpec) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Stops the recorded process, if there is one and it is the one that we started: signal, grace, KILL, confirmed.
    pub async fn stop(&self, gate: &Gate, call: &ActCall, spec: &StopSpec) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Points `current` at a staged release.
    pub async fn switch(&self, gate: &Gate, call: &ActCall, release: &ReleaseName) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Starts the release's process and waits until its identity is recorded. Whether it is ready is for the caller to ask.
    pub async fn start(&self, gate: &Gate, call: &ActCall, spec: &StartSpec) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Records that the living process of this rollout was seen ready. `StepFailed` where it does not live (any more).
    pub async fn mark(&self, gate: &Gate, call: &ActCall, rollout: &str) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Removes the oldest releases until `at_most` are left, never one of `keep`, the current one, or the running one.
    pub async fn prune(
        &self,
        gate: &Gate,
        call: &ActCall,
        keep: &[ReleaseName],
        at_most: usize,
    ) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Stops the process and removes the whole project folder, `shared/` too. Answers 0: the journal is gone.
    pub async fn remove(&self, gate: &Gate, call: &ActCall, spec: &StopSpec) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Gives up the claim and leaves everything as it is (`deletionPolicy: Retain`).
    pub async fn release(&self, gate: &Gate, call: &ActCall) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Takes over a folder whose fence is another control plane's; `call.replaces` names the owner that is taken over.
    pub async fn adopt(&self, gate: &Gate, call: &ActCall) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Waits until an open act that `facts` reported as running has ended, and answers how: `Ok` with the journal's number, or why it
    /// failed. It starts nothing, so it takes no gate. `Busy` where it still runs after `patience`.
    pub async fn attach(&self, folder: &FolderName, open: &OpenAct, patience: Duration) -> Result<u64, HostError> {
        Err(not_yet())
    }

    /// Whether something accepts TCP connections on 127.0.0.1:`port` of the host.
    pub async fn tcp_ready(&self, port: u16, timeout: Duration) -> Result<bool, HostError> {
        Err(not_yet())
    }

    /// The status code that `GET path` on 127.0.0.1:`port` of the host is answered with; no redirect is followed.
    /// `Err` inside: refused, timed out, or no HTTP; the text says why, for a person.
    pub async fn http_ready(
        &self,
        port: u16,
        path: &str,
        host_header: Option<&str>,
        timeout: Duration,
    ) -> Result<Result<u16, String>, HostError> {
        Err(not_yet())
    }

    /// Whether nobody accepts connections on 127.0.0.1:`port`: to be true before a start, or a stranger would answer the probe.
    pub async fn port_refuses(&self, port: u16) -> Result<bool, HostError> {
        Err(not_yet())
    }

    /// Whose socket listens on 127.0.0.1:`port`: one of the recorded process' session, or a stranger's.
    pub async fn listener(&self, folder: &FolderName, port: u16) -> Result<Listener, HostError> {
        Err(not_yet())
    }

    /// The last lines of the application's output, for messages: cleaned, at most 8 KiB a line.
    pub async fn tail(&self, folder: &FolderName, lines: usize) -> Result<Vec<String>, HostError> {
        Err(not_yet())
    }
}

fn not_yet() -> HostError {
    HostError::Protocol { why: "not built yet".to_owned() }
}
