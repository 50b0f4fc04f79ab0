//! `drain`: takes the application out of service, and its undo, which brings it back. The undo is on record before the drain acts.

use std::time::Duration;

use landfall_host_protocol::{Drain, FolderFacts, HttpGet, ProcessState, Reason, RunAs};

use super::{
    Cancelled, Context, Done,
    command::{self, Spec},
    hook, is_target_running,
};
use crate::{
    failure::{StepFailure, StepResult},
    files, gate, probe, runtime, task,
};

pub(super) fn drain(context: &Context<'_>, drain: &Drain) -> StepResult<Done> {
    match is_target_running(context) {
        Ok(true) => return Ok(Done::Skipped),
        Ok(false) => {}
        Err(Cancelled) => return Ok(Done::Cancelled),
    }
    // What has done its work serves nobody, and can't answer.
    if has_done_its_work(context) {
        return Ok(Done::Skipped);
    }
    if let Some(why) = unsupported(drain) {
        return Err(StepFailure::new(Reason::DrainFailed, why));
    }
    // Its own user, whoever the next version runs as.
    let run_as = runtime::recorded_user(context.folder).map_err(|why| StepFailure::new(Reason::DrainFailed, why))?;
    let run_as = run_as.as_ref();
    task::expect_undo(context.folder, &context.task.id, drain, run_as)
        .map_err(|error| files::failure(Reason::DrainFailed, &error, &context.folder.dot()))?;
    gate::pass("drain.run", || {
        Ok(match drain {
            Drain::Exec { command, timeout_seconds, .. } => exec(context, command, run_as, *timeout_seconds),
            Drain::Http { request, method, timeout_seconds, .. } => ask(method, request, *timeout_seconds),
        })
    })
    .unwrap_or_else(|error| Err(files::failure(Reason::DrainFailed, &error, &context.folder.path())))?;
    Ok(Done::Ended)
}

fn has_done_its_work(context: &Context<'_>) -> bool {
    let mut facts = FolderFacts::default();
    runtime::recorded(context.folder).observe(context.folder, &mut facts);
    facts.process.is_some_and(|process| process.state == ProcessState::Completed)
}

/// Brings the application back into service.
pub(crate) fn undrain(drain: &Drain, run_as: Option<&RunAs>, context: &Context<'_>) -> StepResult<()> {
    gate::pass("drain.undo", || {
        Ok(match drain {
            Drain::Exec { undo, .. } if undo.is_empty() => Ok(()),
            Drain::Exec { undo, timeout_seconds, .. } => exec(context, undo, run_as, *timeout_seconds),
            Drain::Http { undo: None, .. } => Ok(()),
            Drain::Http { undo: Some(request), method, timeout_seconds, .. } => ask(method, request, *timeout_seconds),
        })
    })
    .unwrap_or_else(|error| Err(files::failure(Reason::DrainFailed, &error, &context.folder.path())))
}

fn exec(context: &Context<'_>, command: &[String], run_as: Option<&RunAs>, seconds: u32) -> StepResult<()> {
    let folder = context.folder;
    let current = folder.current();
    let place = if current.is_dir() { current } else { folder.path() };
    let timeout = Duration::from_secs(u64::from(seconds));
    let spec = Spec { command, folder: &place, environment: hook::base(), run_as, timeout };
    command::run(context, &spec).map_err(|failed| {
        let mut failure = StepFailure::new(Reason::DrainFailed, failed.why);
        failure.lines = failed.lines;
        failure
    })
}

/// Asks once; a status from 200 to 299 is a yes.
fn ask(method: &str, request: &HttpGet, seconds: u32) -> StepResult<()> {
    let fail = |why: String| StepFailure::new(Reason::DrainFailed, why);
    let asked = format!("{method} {} on port {}", request.path, request.port);
    let answer = probe::request(method, request, Duration::from_secs(u64::from(seconds.max(1))))
        .map_err(|why| fail(format!("{asked}: {why}")))?;
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    Err(fail(format!("{asked} was answered with {}{}", answer.status, answer.said())))
}

/// Why this drain or its undo can't be done at all; a drain that can't be undone is not begun.
fn unsupported(drain: &Drain) -> Option<String> {
    match drain {
        Drain::Exec { command, .. } if command.is_empty() => Some("the drain's command is empty".to_owned()),
        Drain::Exec { .. } => None,
        Drain::Http { request, undo, method, .. } => {
            std::iter::once(request).chain(undo).find_map(|request| probe::unsupported_request(method, request))
        }
    }
}
