//! `start`: the application of the release that `current` points at, unless somebody changed one of the two.

use landfall_host_protocol::{Reason, Start};

use super::{Context, Done, is_target_running, staged, switch};
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
    let ran = is_target_running(context);
    runtime::of(&start.config).start(folder, start, context.secrets)?;
    Ok(if ran { Done::Skipped } else { Done::Ended })
}
