//! The runtime of a folder in which nothing was ever started: nothing runs, and stopping is done already.

use std::time::Duration;

use landfall_host_protocol::{FolderFacts, Reason, Secrets, Start};

use super::{IsCancelled, Runtime, Waited};
use crate::{
    failure::{StepFailure, StepResult},
    folder::Folder,
};

pub(super) struct NoRuntime;

impl NoRuntime {
    fn nothing(reason: Reason) -> Box<StepFailure> {
        StepFailure::new(reason, "nothing was started in this folder")
    }
}

impl Runtime for NoRuntime {
    fn observe(&self, _folder: &Folder, _facts: &mut FolderFacts) {}

    fn check(&self, _folder: &Folder, _start: &Start) -> StepResult<()> {
        Ok(())
    }

    fn stop(&self, _folder: &Folder) -> StepResult<()> {
        Ok(())
    }

    fn start(&self, _folder: &Folder, _start: &Start, _secrets: &Secrets) -> StepResult<()> {
        Err(Self::nothing(Reason::HostUnsupported))
    }

    fn wait_ready(&self, _: &Folder, _: Duration, _: IsCancelled<'_>) -> StepResult<Waited> {
        Err(Self::nothing(Reason::NotReady))
    }

    fn min_ready(&self, _: &Folder, _: Duration, _: IsCancelled<'_>) -> StepResult<Waited> {
        Err(Self::nothing(Reason::NotReady))
    }
}
