//! `start`: the application of the release that `current` points at, unless somebody changed one of the two.

use landfall_host_protocol::{Reason, Start};

use super::{Cancelled, Context, Done, running_target, staged, switch};
use crate::{
    failure::{StepFailure, StepResult},
    runtime,
};

pub(super) fn start(context: &Context<'_>, start: &Start) -> StepResult<Done> {
    let folder = context.folder;
    if switch::current(folder).as_ref() != Some(&start.release) {
        let why = format!("current points at {} instead of {}", switch::shown(folder), start.release);
        return Err(StepFailure::new(Reason::StartFailed, why));
    }
    staged::check(folder, &start.release, Some(&start.digest))?;
    match running_target(context, start) {
        Err(Cancelled) => Ok(Done::Cancelled),
        Ok(Some(process)) => {
            // It is not touched; a keeper that it lost it gets again.
            let as_it_runs = Start { revision: process.revision, ..start.clone() };
            runtime::of(&start.config).start(folder, &as_it_runs, context.secrets, context.patience)?;
            Ok(Done::Skipped)
        }
        Ok(None) => {
            runtime::of(&start.config).start(folder, start, context.secrets, context.patience)?;
            Ok(Done::Ended)
        }
    }
}
