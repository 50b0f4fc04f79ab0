//! Attempts of a granted build: prepared, named in the status, started, watched, ended.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Action, ScriptEnd, Step,
    admission::{queued, replaced},
    publish,
    status::StatusBuilder,
    version_exists::version_exists,
};
use crate::{
    api::{
        Reason, Verdict,
        build::{Attempt, BuildStatus, Outcome},
    },
    model::{build::BuildPlan, exit::ExitReason, names::Version},
    plan::{Plan, requester},
};

/// How often the size of a running script's log is brought up to date.
const PROGRESS: Duration = Duration::from_secs(5);

type Decision = Plan<BuildStatus, Action>;

pub(super) fn plan(mut draft: StatusBuilder<'_>, plan: &BuildPlan) -> Decision {
    draft.status.number = Some(plan.number);
    draft.status.tag = Some(plan.version.clone());
    draft.status.commit = Some(plan.commit.clone());
    if let Some(release) = &draft.observed.release {
        return publish::plan(draft, plan, release);
    }
    let Some(last) = draft.status.attempts.last().cloned() else { return begin(draft, plan, 1) };
    match last.outcome {
        None => named(draft, plan, &last),
        Some(_) if is_new_end(&draft, &last) && last.outcome != Some(Outcome::Succeeded) => verdict(draft, plan, &last),
        Some(outcome) => {
            if !draft.recorded(&last) {
                draft.add(Action::Record(Box::new(last.clone())));
            }
            match outcome {
                Outcome::Succeeded => publish::collect(draft, &last),
                // Not stalled, and its end is known: a retry, or the one that follows a lost attempt by itself.
                Outcome::Failed | Outcome::Cancelled | Outcome::Lost | Outcome::Unknown => {
                    begin(draft, plan, last.number + 1)
                }
            }
        }
    }
}

/// Whether the store tells of an end that the status did not know: the status was lost, and its verdict with it.
fn is_new_end(draft: &StatusBuilder<'_>, last: &Attempt) -> bool {
    let known = draft.observed.object.status.iter().flat_map(|status| &status.attempts);
    !known.into_iter().any(|attempt| attempt.number == last.number && attempt.outcome.is_some())
}

/// A new attempt: granted, checked, prepared; then named.
fn begin(mut draft: StatusBuilder<'_>, plan: &BuildPlan, number: i64) -> Decision {
    let observed = draft.observed;
    if draft.cancelled() {
        return draft.fail(Reason::Cancelled, "cancelled before its script started");
    }
    if draft.superseded() {
        return replaced(draft, "its script was not started");
    }
    if observed.project.as_ref().and_then(|project| project.active.as_ref()) != Some(&observed.object.uid) {
        return queued(draft);
    }
    if let Err(bad) = plan.version.parse::<Version>() {
        return draft.fail(
            Reason::VersionInvalid,
            format!("{bad}; correct build.tag.template of the project, or give a Build a spec.tag"),
        );
    }
    if let Some(message) = version_exists(observed, &plan.version) {
        return draft.fail(Reason::VersionExists, message);
    }
    if observed.prepared == Some(number) && draft.retry_state().is_none() {
        let requested_by = draft.requester();
        draft.status.attempts.push(intent(number, requested_by, Time(draft.now)));
        return draft.working(
            Reason::Starting,
            format!("starting attempt {number}"),
            vec![Action::Start { attempt: number }],
        );
    }
    prepare(
        draft,
        number,
        Reason::Granted,
        format!("number {number_of} granted; preparing attempt {number}", number_of = plan.number),
    )
}

fn prepare(mut draft: StatusBuilder<'_>, attempt: i64, reason: Reason, message: String) -> Decision {
    if let Some(held_up) = draft.held_up(true) {
        return held_up;
    }
    if !draft.observed.working {
        draft.add(Action::Prepare { attempt });
    }
    draft.trying(true, Verdict::working(reason, message))
}

fn intent(number: i64, requested_by: Option<String>, started_at: Time) -> Attempt {
    Attempt {
        number,
        requested_by,
        started_at,
        completed_at: None,
        outcome: None,
        exit_code: None,
        reason: None,
        last_lines: vec![],
        log_bytes: None,
    }
}

/// An attempt that is named and not ended: how far did it come?
fn named(mut draft: StatusBuilder<'_>, plan: &BuildPlan, last: &Attempt) -> Decision {
    let (observed, attempt) = (draft.observed, last.number);
    match &observed.step {
        Step::Absent if draft.unwanted() => {
            let now = draft.now;
            record_end(draft, plan, last, &ScriptEnd::of(ExitReason::Cancelled, now))
        }
        Step::Absent => absent(draft, plan, last),
        Step::Running { log_bytes } => {
            if let Some(last) = draft.status.attempts.last_mut() {
                last.log_bytes = Some(*log_bytes);
            }
            running(draft, attempt)
        }
        Step::Exited(exit) => record_end(draft, plan, last, exit),
        Step::Lost => lost(draft, plan, last),
    }
}

/// Intent without a runner and without a result: the crash came in between. Starting is safe, it happens at most once.
fn absent(draft: StatusBuilder<'_>, plan: &BuildPlan, last: &Attempt) -> Decision {
    let attempt = last.number;
    if let Some(retry_state) = draft.retry_state().filter(|retry_state| retry_state.terminal) {
        let mut exit = ScriptEnd::of(ExitReason::NotStarted, draft.now);
        exit.message = Some(retry_state.message.clone());
        return ended(draft, plan, last, &exit, (Outcome::Failed, Some(retry_state.reason)));
    }
    let message = format!("starting attempt {attempt}");
    if draft.observed.prepared == Some(attempt) && draft.retry_state().is_none() {
        return draft.working(Reason::Starting, message, vec![Action::Start { attempt }]);
    }
    prepare(draft, attempt, Reason::Starting, message)
}

fn running(mut draft: StatusBuilder<'_>, attempt: i64) -> Decision {
    let observed = draft.observed;
    if !observed.watched {
        draft.add(Action::Watch { attempt });
    }
    if draft.unwanted() {
        if !observed.cancelling {
            draft.add(Action::Cancel { attempt });
        }
        return match draft.status.superseded_by.clone() {
            Some(newer) => draft.working(
                Reason::Superseded,
                format!("ending attempt {attempt}: build {newer} is newer and replaces this one"),
                vec![],
            ),
            None => {
                draft.working(Reason::Cancelled, format!("ending attempt {attempt}, as spec.cancelled asks"), vec![])
            }
        };
    }
    let last = draft.status.attempts.last().and_then(|last| last.requested_by.as_deref());
    let by = requester::clause(last);
    let verdict = Verdict::working(Reason::Building, format!("running the script, attempt {attempt}{by}"));
    draft.held(verdict, vec![], Some(PROGRESS))
}

/// Nothing is known of a lost attempt, and it is not guessed. One more follows by itself.
fn lost(mut draft: StatusBuilder<'_>, plan: &BuildPlan, last: &Attempt) -> Decision {
    let mut exit = ScriptEnd::of(ExitReason::NotStarted, draft.now);
    if draft.unwanted() {
        exit.reason = ExitReason::Cancelled;
        return record_end(draft, plan, last, &exit);
    }
    let twice = draft.status.attempts.iter().any(|a| a.number == last.number - 1 && a.outcome == Some(Outcome::Lost));
    let end = (Outcome::Lost, Some(Reason::ExecutorLost));
    if twice {
        return ended(draft, plan, last, &exit, end);
    }
    let record = close(&mut draft, last, &exit, end);
    let message =
        format!("attempt {} was lost with its runner, for example in a reboot; another attempt follows", last.number);
    draft.working(Reason::Granted, message, vec![Action::Record(Box::new(record))])
}

fn record_end(mut draft: StatusBuilder<'_>, plan: &BuildPlan, last: &Attempt, exit: &ScriptEnd) -> Decision {
    let end = match (exit.reason, exit.code) {
        (ExitReason::Completed, Some(0)) => (Outcome::Succeeded, None),
        (ExitReason::Completed, _) => (Outcome::Failed, Some(Reason::ScriptFailed)),
        (ExitReason::TimedOut, _) => (Outcome::Failed, Some(Reason::TimedOut)),
        (ExitReason::IdleTimedOut, _) => (Outcome::Failed, Some(Reason::IdleTimedOut)),
        (ExitReason::Cancelled, _) if draft.superseded() => (Outcome::Cancelled, Some(Reason::Superseded)),
        (ExitReason::OutOfMemory, _) => (Outcome::Failed, Some(Reason::OutOfMemory)),
        (ExitReason::ProcessLimit, _) => (Outcome::Failed, Some(Reason::ProcessLimit)),
        (ExitReason::DiskFull, _) => (Outcome::Failed, Some(Reason::DiskFull)),
        (ExitReason::Cancelled, _) => (Outcome::Cancelled, Some(Reason::Cancelled)),
        (ExitReason::NotStarted, _) => (Outcome::Failed, Some(Reason::ExecutorUnsafe)),
    };
    if end.0 != Outcome::Succeeded {
        return ended(draft, plan, last, exit, end);
    }
    // It was over before a newer build could end it.
    draft.status.superseded_by = None;
    let record = close(&mut draft, last, exit, end);
    draft.add(Action::Record(Box::new(record.clone())));
    publish::collect(draft, &record)
}

fn ended(
    mut draft: StatusBuilder<'_>,
    plan: &BuildPlan,
    last: &Attempt,
    exit: &ScriptEnd,
    end: (Outcome, Option<Reason>),
) -> Decision {
    let mut record = close(&mut draft, last, exit, end);
    draft.add(Action::Record(Box::new(record.clone())));
    if let Some(message) = exit.message.clone().filter(|_| record.last_lines.is_empty()) {
        record.last_lines = vec![message];
    }
    verdict(draft, plan, &record)
}

/// Writes an end into the status and returns it as it goes on record.
fn close(draft: &mut StatusBuilder<'_>, last: &Attempt, exit: &ScriptEnd, end: (Outcome, Option<Reason>)) -> Attempt {
    let mut lines = exit.last_lines.clone();
    if lines.is_empty() {
        lines.extend(exit.message.clone());
    }
    let record = Attempt {
        number: last.number,
        requested_by: last.requested_by.clone(),
        started_at: last.started_at.clone(),
        completed_at: Some(Time(exit.at)),
        outcome: Some(end.0),
        exit_code: exit.code,
        reason: end.1.map(|reason| reason.to_string()),
        last_lines: lines,
        log_bytes: Some(exit.log_bytes),
    };
    if let Some(named) = draft.status.attempts.iter_mut().find(|attempt| attempt.number == last.number) {
        *named = record.clone();
    }
    record
}

/// The verdict on an attempt that did not succeed.
fn verdict(draft: StatusBuilder<'_>, plan: &BuildPlan, end: &Attempt) -> Decision {
    let retry = format!("for another attempt: {}", draft.retry_command());
    let tail = end.last_lines.iter().rev().take(5).rev().map(String::as_str).collect::<Vec<_>>().join("\n");
    let output = if tail.is_empty() { String::new() } else { format!("; last output:\n{tail}") };
    let is = |reason: Reason| end.reason.as_deref() == Some(reason.as_str());
    let n = end.number;
    if end.outcome == Some(Outcome::Cancelled) && is(Reason::Superseded) {
        return replaced(draft, &format!("attempt {n} was ended"));
    }
    let raise = format!("raise it in the project for a new Build, or {retry}");
    let (reason, message) = match end.outcome {
        Some(Outcome::Cancelled) => (Reason::Cancelled, format!("attempt {n} was cancelled; {retry}")),
        Some(Outcome::Lost) => {
            (Reason::ExecutorLost, format!("attempt {n} was lost with its runner, like the one before; {retry}"))
        }
        _ if is(Reason::TimedOut) => {
            let limit = plan.timeout_seconds;
            (
                Reason::TimedOut,
                format!(
                    "attempt {n} ran longer than build.timeoutSeconds ({limit}) and was ended; raise it in the project for a new Build, or {retry}{output}"
                ),
            )
        }
        _ if is(Reason::IdleTimedOut) => {
            let limit = plan.idle_timeout_seconds;
            (
                Reason::IdleTimedOut,
                format!(
                    "attempt {n} had no output for build.idleTimeoutSeconds ({limit}) and was ended; {retry}{output}"
                ),
            )
        }
        _ if is(Reason::OutOfMemory) => (
            Reason::OutOfMemory,
            format!("attempt {n} needed more than {} and was ended; {raise}{output}", limit(plan, "memory")),
        ),
        _ if is(Reason::ProcessLimit) => (
            Reason::ProcessLimit,
            format!(
                "attempt {n} tried to have more processes than {} and failed; {raise}{output}",
                limit(plan, "pids")
            ),
        ),
        _ if is(Reason::DiskFull) => (
            Reason::DiskFull,
            format!(
                "attempt {n} was ended because the operator's data folder is nearly full, by this script or others; let the script write less, or have the disk enlarged, and {retry}{output}"
            ),
        ),
        _ if is(Reason::ExecutorUnsafe) => {
            (Reason::ExecutorUnsafe, format!("the script of attempt {n} was not started{output}"))
        }
        _ if is(Reason::InvalidSpec) => {
            (Reason::InvalidSpec, format!("the script of attempt {n} was not started{output}"))
        }
        _ if is(Reason::CacheRefused) => {
            (Reason::CacheRefused, format!("the script of attempt {n} was not started{output}"))
        }
        _ => {
            let code = end
                .exit_code
                .map_or_else(|| "without an exit code".to_owned(), |code| format!("with exit code {code}"));
            (
                Reason::ScriptFailed,
                format!("the script ended {code} in attempt {n}; fix it and create a new Build, or {retry}{output}"),
            )
        }
    };
    draft.fail(reason, message)
}

/// A limit of resources by its field, with its value.
fn limit(plan: &BuildPlan, name: &str) -> String {
    let limits = plan.resources.as_ref().map(|resources| &resources.limits);
    let value = match name {
        "memory" => limits.and_then(|limits| limits.memory.clone()),
        _ => limits.and_then(|limits| limits.pids).map(|pids| pids.to_string()),
    };
    format!("build.resources.limits.{name} ({})", value.unwrap_or_default())
}

impl ScriptEnd {
    /// An end that the executor has no record of.
    fn of(reason: ExitReason, at: jiff::Timestamp) -> Self {
        Self { reason, code: None, message: None, at, log_bytes: 0, last_lines: vec![] }
    }
}
