//! The place of a runtime that this program does not have: it knows nothing of what runs, and refuses to start and to stop.

use std::time::Duration;

use landfall_host_protocol::{FolderFacts, Reason, Secrets, Start};

use super::{IsCancelled, Runtime, Waited};
use crate::{
    failure::{StepFailure, StepResult},
    folder::Folder,
};

pub(super) struct NoRuntime {
    why: &'static str,
}

impl NoRuntime {
    pub(super) fn unsupported(why: &'static str) -> Self {
        Self { why }
    }

    fn refuse<T>(&self) -> StepResult<T> {
        Err(StepFailure::new(Reason::HostUnsupported, self.why))
    }
}

impl Runtime for NoRuntime {
    fn observe(&self, _folder: &Folder, _facts: &mut FolderFacts) {}

    fn check(&self, _folder: &Folder, _start: &Start) -> StepResult<()> {
        self.refuse()
    }

    fn stop(&self, _folder: &Folder) -> StepResult<()> {
        self.refuse()
    }

    fn start(&self, _folder: &Folder, _start: &Start, _secrets: &Secrets) -> StepResult<()> {
        self.refuse()
    }

    fn wait_ready(&self, _: &Folder, _: Duration, _: IsCancelled<'_>) -> StepResult<Waited> {
        self.refuse()
    }

    fn min_ready(&self, _: &Folder, _: Duration, _: IsCancelled<'_>) -> StepResult<Waited> {
        self.refuse()
    }
}
