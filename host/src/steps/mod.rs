//! The steps of a task. Each looks at what is there before it acts, and may be done again after a death anywhere. What can refuse is
//! checked before anything is disturbed. No step writes the journal; no step reads a connection.

mod command;
mod drain;
mod hook;
mod left;
mod lines;
mod prune;
mod remove;
mod stage;
pub mod staged;
mod start;
mod switch;

use std::time::Duration;

use landfall_host_protocol::{
    Digest, EventKind, FolderFacts, ProcessFacts, ProcessState, Reason, ReleaseName, Secrets, Start, Step, StepName,
    Task,
};

pub(crate) use drain::undrain;
pub(crate) use left::wait as wait_for_left_command;

use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    records,
    runtime::{self, Patience, Waited},
    task::{self, Events},
};

const CANCEL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What a step has at hand.
pub struct Context<'a> {
    pub folder: &'a Folder,
    pub task: &'a Task,
    pub secrets: &'a Secrets,
    pub events: &'a Events,
    pub step: StepName,
    /// The step's place in the task.
    pub index: usize,
    /// Of all of its steps together.
    pub patience: &'a Patience,
}

/// The task is to end early.
struct Cancelled;

/// How a step came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Ended,
    /// Nothing had to be done.
    Skipped,
    Cancelled,
}

impl From<Waited> for Done {
    fn from(waited: Waited) -> Self {
        match waited {
            Waited::Reached => Self::Ended,
            Waited::Cancelled => Self::Cancelled,
        }
    }
}

impl Context<'_> {
    /// Whether the task is to end early.
    pub fn is_cancelled(&self) -> bool {
        !self.is_between_stop_and_start() && self.folder.task(&self.task.id).join("cancel").exists()
    }

    /// The application was stopped and is not started yet: a task that ended here would leave the host down.
    fn is_between_stop_and_start(&self) -> bool {
        self.task.steps.iter().take(self.index).any(|step| matches!(step, Step::Stop)) && self.later_start().is_some()
    }

    pub fn say(&self, kind: EventKind) {
        self.events.say(self.step, kind);
    }

    pub fn progress(&self, text: impl Into<String>) {
        self.say(EventKind::Progress { text: text.into() });
    }

    fn later_steps(&self) -> impl Iterator<Item = &Step> {
        self.task.steps.iter().skip(self.index)
    }

    /// The start that this step or a later one of the task does.
    fn later_start(&self) -> Option<&Start> {
        self.later_steps().find_map(|step| if let Step::Start(start) = step { Some(&**start) } else { None })
    }
}

/// Does one step.
pub fn run(step: &Step, context: &Context<'_>) -> StepResult<Done> {
    let folder = context.folder;
    match step {
        Step::Stage { release, digest, manifest, bundle } => {
            stage::stage(context, &stage::Wanted { release, digest, manifest, bundle: bundle.as_ref() })
        }
        Step::Hook { name, release, config, command, timeout_seconds } => {
            let hook = hook::Hook { name, release, config, command, timeout: seconds(*timeout_seconds) };
            hook::run(context, &hook)
        }
        Step::Drain(drain) => drain::drain(context, drain),
        Step::Settle { seconds: time } => Ok(settle(context, seconds(*time))),
        Step::Stop => stop(context),
        Step::Switch { release } => switch::switch(folder, release),
        Step::Start(start) => start::start(context, start),
        Step::WaitReady { timeout_seconds } => {
            let waited = runtime::wait_ready(folder, seconds(*timeout_seconds), &|| context.is_cancelled())?;
            if waited == Waited::Reached {
                // Where that can't be written now, the end of the task writes it.
                let _ = task::undo_at_ready(folder, context.task, context.events);
            }
            Ok(waited.into())
        }
        Step::MinReady { seconds: time } => {
            let waited = runtime::recorded(folder).min_ready(folder, seconds(*time), &|| context.is_cancelled())?;
            Ok(waited.into())
        }
        Step::Prune { keep, at_most } => prune::prune(context, keep, *at_most),
        Step::GiveUp => match folder.owner().exists() {
            true => {
                let removed = records::owner::remove(folder);
                removed.map_err(|error| files::failure(Reason::Internal, &error, &folder.owner()))?;
                Ok(Done::Ended)
            }
            false => Ok(Done::Skipped),
        },
        Step::Remove => remove::remove(context),
        // Owner and fence were written when the task began.
        Step::Adopt => Ok(Done::Ended),
    }
}

fn seconds(time: u32) -> Duration {
    Duration::from_secs(u64::from(time))
}

fn settle(context: &Context<'_>, time: Duration) -> Done {
    match is_target_running(context) {
        Ok(true) => return Done::Skipped,
        Ok(false) => {}
        Err(Cancelled) => return Done::Cancelled,
    }
    let since = clock::monotonic();
    while since.elapsed() < time {
        if context.is_cancelled() {
            return Done::Cancelled;
        }
        std::thread::sleep(CANCEL_POLL_INTERVAL.min(time.saturating_sub(since.elapsed())));
    }
    Done::Ended
}

/// An application that the task would start again as it runs is not stopped.
fn stop(context: &Context<'_>) -> StepResult<Done> {
    match is_target_running(context) {
        Ok(true) => return Ok(Done::Skipped),
        Ok(false) => {}
        Err(Cancelled) => return Ok(Done::Cancelled),
    }
    task::expect_down(context.folder, &context.task.id)
        .map_err(|error| files::failure(Reason::StopFailed, &error, &context.folder.dot()))?;
    if let Some(remark) = runtime::recorded(context.folder).stop(context.folder)? {
        context.progress(remark);
    }
    Ok(Done::Ended)
}

/// Whether what this task starts runs already.
fn is_target_running(context: &Context<'_>) -> Result<bool, Cancelled> {
    context.later_start().map_or(Ok(false), |start| Ok(running_target(context, start)?.is_some()))
}

/// The application, where it is what `start` wants: Deployment, release, configuration and redeploys are its target's, whichever revision brought it.
fn running_target(context: &Context<'_>, start: &Start) -> Result<Option<ProcessFacts>, Cancelled> {
    let mut facts = FolderFacts::default();
    let runtime = runtime::recorded(context.folder);
    if runtime.settle(context.folder, context.patience, &|| context.is_cancelled()) == Waited::Cancelled {
        return Err(Cancelled);
    }
    runtime.observe(context.folder, &mut facts);
    Ok(facts.process.filter(|process| {
        process.uid == context.task.owner.uid
            && process.digest == start.digest
            && process.config.as_ref() == Some(&start.config.hash)
            && process.redeploys == start.redeploys
            && matches!(process.state, ProcessState::Running | ProcessState::Completed)
    }))
}

/// Before the first step that disturbs something: whether the rest of the task can be done here at all.
pub fn preflight(step: &Step, context: &Context<'_>) -> StepResult<()> {
    let disturbs = |step: &Step| {
        matches!(step, Step::Hook { .. } | Step::Drain(_) | Step::Stop | Step::Switch { .. } | Step::Start(_))
    };
    let before = context.task.steps.iter().take(context.index);
    if !disturbs(step) || before.into_iter().any(disturbs) {
        return Ok(());
    }
    let mut staged_later: Vec<&ReleaseName> = Vec::new();
    for step in context.later_steps() {
        match step {
            Step::Stage { release, .. } => staged_later.push(release),
            Step::Switch { release } | Step::Hook { release, .. } if !staged_later.contains(&release) => {
                staged::check(context.folder, release, None)?;
            }
            Step::Start(start) => {
                if !staged_later.contains(&&start.release) {
                    staged::check(context.folder, &start.release, Some(&start.digest))?;
                }
                runtime::of(&start.config).check(context.folder, start)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Bytes that a task's stages need and that are not in `incoming/`, where their release is not staged either.
pub fn missing(folder: &Folder, task: &Task) -> Vec<Digest> {
    let mut missing = Vec::new();
    for step in &task.steps {
        let Step::Stage { release, digest, manifest, bundle } = step else { continue };
        if staged::digest(folder, release).as_ref() == Some(digest) {
            continue;
        }
        let needed = [Some(manifest), bundle.as_ref().map(|bundle| &bundle.sha256)];
        missing.extend(needed.into_iter().flatten().filter(|digest| !folder.incoming(digest).exists()).cloned());
    }
    missing
}

/// Steps that leave the application as it is: they bring, drain or tidy up, or change whose the folder is.
pub fn prepare(steps: &[Step]) -> bool {
    !steps.iter().any(|step| match step {
        Step::Stop | Step::Switch { .. } | Step::Start(_) | Step::Remove => true,
        Step::GiveUp
        | Step::Adopt
        | Step::Stage { .. }
        | Step::Hook { .. }
        | Step::Drain(_)
        | Step::Settle { .. }
        | Step::WaitReady { .. }
        | Step::MinReady { .. }
        | Step::Prune { .. } => false,
    })
}

/// A task in short, for the journal: `use v1.4.1`, `stop`.
pub fn describe(steps: &[Step]) -> String {
    let switch = steps.iter().find_map(|step| if let Step::Switch { release } = step { Some(release) } else { None });
    let start = steps.iter().find_map(|step| if let Step::Start(start) = step { Some(&start.release) } else { None });
    match (switch, start) {
        (Some(release), _) => format!("use {}", release.version()),
        (None, Some(release)) => format!("start {}", release.version()),
        (None, None) => {
            let mut names: Vec<String> = steps.iter().map(named).collect();
            names.dedup();
            names.join(", ")
        }
    }
}

fn named(step: &Step) -> String {
    match step {
        Step::Stage { release, .. } => format!("stage {}", release.version()),
        Step::Hook { name, .. } => format!("hook {name}"),
        other => other.name().as_str().to_owned(),
    }
}

/// Removes what dead acts left: half a release, removed folders that are still there. No task may run in the folder.
pub fn collect_garbage(folder: &Folder) {
    let half = folder.dot().join("tmp");
    let trash = folder.root().join(".landfall/trash");
    for parent in [half, trash] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let _ = files::remove_below(folder.root(), &entry.path());
        }
    }
}

fn internal(why: impl Into<String>) -> Box<StepFailure> {
    StepFailure::new(Reason::Internal, why)
}
