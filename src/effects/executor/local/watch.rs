//! What a script was started with, and what ends it from outside: a cancel, a timeout, silence, a limit, a full disk. It must not start
//! anything.

use std::{
    io::{self, Write},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::super::{
    secrets::Secrets,
    types::{BuildStep, ExitReason, Isolation},
};
use super::{capture::LastOutput, disk, files, limits::ActiveLimits, script};
use crate::effects::clock;

/// How often a cancel, the timeouts and the limits are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// `step.json`: what the operator asked for.
#[derive(Serialize, Deserialize)]
pub(super) struct StepFile {
    pub(super) step: BuildStep,
    pub(super) isolation: Isolation,
    pub(super) hidden: Vec<std::path::PathBuf>,
    pub(super) max_log_bytes: u64,
    /// Where caches are kept.
    #[serde(default)]
    pub(super) caches: std::path::PathBuf,
}

/// What ends a script from outside.
pub(super) struct Watch<'a> {
    pub(super) dir: &'a Path,
    pub(super) asked: &'a StepFile,
    pub(super) secrets: &'a Secrets,
    pub(super) limits: &'a ActiveLimits,
    pub(super) last: LastOutput,
}

impl Watch<'_> {
    /// Says a word to the child, and the script's secrets after it; then its stdin is closed. In a thread, so that a child that does
    /// not read is ended in time all the same.
    pub(super) fn send(&self, child: &mut Child, word: &[u8]) {
        let Some(mut pipe) = child.stdin.take() else { return };
        let words = [word, &script::secret_exports(self.secrets)].concat();
        std::thread::spawn(move || pipe.write_all(&words));
    }

    /// Waits until the child ends, or there is a reason to end it (`Err`).
    pub(super) fn until_end(
        &self,
        child: &mut Child,
        begun: Instant,
    ) -> io::Result<Result<std::process::ExitStatus, ExitReason>> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Ok(status));
            }
            if let Some(reason) = self.reason(begun) {
                return Ok(Err(reason));
            }
            std::thread::sleep(CHECK_INTERVAL);
        }
    }

    fn reason(&self, begun: Instant) -> Option<ExitReason> {
        let now = clock::monotonic();
        let step = &self.asked.step;
        // Whoever took the folder away wants no result: the script must not run on to its timeout.
        let wanted = self.dir.join(files::PID).exists();
        if self.dir.join(files::CANCEL).exists() || !wanted {
            Some(ExitReason::Cancelled)
        } else if now.duration_since(begun) >= step.timeout {
            Some(ExitReason::TimedOut)
        } else if now.saturating_duration_since(self.last.at().max(begun)) >= step.idle_timeout {
            Some(ExitReason::IdleTimedOut)
        } else {
            let full = disk::nearly_full(self.dir).then_some(ExitReason::DiskFull);
            self.limits.exceeded().map(ExitReason::from).or(full)
        }
    }
}
