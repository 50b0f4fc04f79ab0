//! `.landfall/command`: the command of a hook or a drain that runs, for the case that its runner dies: it lives on then, and the next runner
//! waits for it, so that no migration ever runs twice at once. Nothing is signalled that is not proved to be that command.

use std::{io::Write as _, path::PathBuf, time::Duration};

use landfall_host_protocol::Reason;
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    process::{self, Found, Identity},
    runtime::Waited,
};

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// After KILL.
const KILL_TIME: Duration = Duration::from_secs(10);

/// A command under way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Running {
    /// This command's value of [`process::MARK`].
    pub(super) mark: String,
    /// `None`: it is about to be started.
    process: Option<Identity>,
    /// Milliseconds that it may take in all.
    timeout_millis: u64,
}

impl Running {
    /// Puts it on record before it is started. It is for a process that dies, not for a host: nothing is synced. Where it can't be written
    /// the command runs all the same, for it may be what brings an application back into service.
    pub(super) fn begin(folder: &Folder, timeout: Duration) -> Self {
        let timeout_millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let running = Self { mark: process::instance_value().unwrap_or_default(), process: None, timeout_millis };
        running.write(folder);
        running
    }

    pub(super) fn is(&mut self, folder: &Folder, process: Option<Identity>) {
        self.process = process;
        self.write(folder);
    }

    fn write(&self, folder: &Folder) {
        let (path, new) = (path(folder), folder.dot().join("command.new"));
        let _ = gate::pass("command.write", || {
            files::create(&new, 0o600)?.write_all(&files::record_line(self)?)?;
            files::rename(&new, &path)
        });
    }

    /// The command itself, where it lives. What it left behind is as free as after any other command.
    fn living(&self) -> Vec<Identity> {
        match &self.process {
            Some(process) => vec![process.clone()],
            None => process::marked(&self.mark),
        }
        .into_iter()
        .filter(|process| matches!(process::find(process), Found::Alive(_)))
        .collect()
    }
}

fn path(folder: &Folder) -> PathBuf {
    folder.dot().join("command")
}

/// It has ended.
pub(super) fn forget(folder: &Folder) {
    let _ = files::remove_file(&path(folder));
}

/// Waits for the command of a runner that died, as long as it might have taken at all; then it is ended.
pub fn wait(folder: &Folder, say: impl Fn(String), cancelled: impl Fn() -> bool) -> StepResult<Waited> {
    let Some(running) = files::read_record::<Running>(&path(folder)).ok().flatten() else { return Ok(Waited::Reached) };
    let since = clock::monotonic();
    let timeout = Duration::from_millis(running.timeout_millis);
    let mut is_said = false;
    loop {
        let living = running.living();
        let Some(first) = living.first() else { break };
        if cancelled() {
            return Ok(Waited::Cancelled);
        }
        if since.elapsed() >= timeout {
            end(&running)?;
            break;
        }
        if !is_said {
            say(format!("waits for a command whose runner died (pid {})", first.pid));
            is_said = true;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    forget(folder);
    Ok(Waited::Reached)
}

/// With all that is below it.
fn end(running: &Running) -> StepResult<()> {
    let living = || {
        let mut all = running.living();
        let below: Vec<Identity> = all.iter().flat_map(|process| process::descendants(process.pid)).collect();
        all.extend(below);
        all
    };
    if process::end_all(living, KILL_TIME) {
        return Ok(());
    }
    let strangers = process::describe_all(&running.living());
    let mut failure = StepFailure::new(Reason::StopFailed, "a command whose runner died can't be ended");
    failure.strangers = strangers;
    Err(failure)
}
