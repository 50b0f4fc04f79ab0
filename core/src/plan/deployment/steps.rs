//! One host's way to its goal, task by task. Each is chosen from what the host shows, so an update goes on wherever an earlier one, of this
//! operator or of one before it, was cut off.

use super::{
    folder::{is_marked, was_ready},
    observed::FolderView,
    target::Target,
};
use crate::model::rollout::RolloutId;
use crate::{
    api::{deployment::Phase, project::Drain},
    model::{
        facts::{FailedAct, FolderFacts, OpenAct, ProcessFacts},
        rollout::ProcessId,
    },
};

/// Where a host is to be brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// The release is there, verified.
    Stage(Box<Target>),
    /// The release runs and is ready. `heal`: it had been before. `failed_process`: a process that failed in an earlier attempt; it
    /// is replaced, also where it lives and runs the release. `by_hand`: the last act by hand, as the decision knew it. `drain`: how what
    /// serves there is taken out of service first. `skipped_drain`: why it is not, though it has a drain.
    Run {
        target: Box<Target>,
        heal: bool,
        failed_process: Option<ProcessId>,
        by_hand: Option<u64>,
        drain: Option<Box<Drain>>,
        skipped_drain: Option<String>,
    },
    /// The claim is given up; the application keeps running.
    Release,
    /// Stopped, and the folder removed. `drain` and `skipped_drain` as of `Run`.
    Remove { drain: Option<Box<Drain>>, skipped_drain: Option<String> },
    /// Adopted from another control plane.
    Adopt,
    /// The host is ready; surplus releases are removed.
    Prune(Box<Target>),
    /// The host is ready; its owner file, which it lacks, is written.
    Claim(Box<Target>),
}

impl Goal {
    /// The release that is brought or kept there; `None`: the host is given up, removed or adopted.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Stage(target) | Self::Run { target, .. } | Self::Prune(target) | Self::Claim(target) => Some(target),
            Self::Release | Self::Remove { .. } | Self::Adopt => None,
        }
    }
}

/// Progress of this worker that the host does not record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepProgress {
    /// The host reached the release: it was started and was ready.
    pub updated: bool,
    /// The host pruned what it could.
    pub pruned: bool,
    /// The claim was released, removed or adopted.
    pub ownership_done: bool,
    /// A delta was of no use on this host: the whole release is sent.
    pub delta_failed: bool,
}

/// The next step on a host: a task of its own there, but for those that only look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An earlier task is under way there: wait for it.
    Attach(OpenAct),
    Stage,
    /// The release was changed on the host, and its application has it: stop that, then stage.
    StageAgain,
    /// Stop the recorded process, which failed in an earlier attempt: an update does not stop what runs its target.
    Stop,
    /// Stop, switch, start, wait until it is ready, prune.
    Update,
    /// The target runs: what is left of an update from the switch on.
    Switch,
    /// The target runs and `current` leads to it: wait until it is ready, prune.
    Verify,
    Prune,
    /// Write the owner file; nothing else is changed.
    Claim,
    Release,
    Remove,
    Adopt,
    /// The process ended before it was ready.
    Died,
    /// The update failed in this attempt, and nobody heard of it.
    Failed(FailedAct),
    /// A person has acted on the host since the decision, which is taken again.
    Overtaken,
    Reached,
}

impl Step {
    /// Phase of the host when this step begins; the events of its task tell how it goes on.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Stage => Phase::Staging,
            Self::Stop
            | Self::StageAgain
            | Self::Update
            | Self::Remove
            | Self::Release
            | Self::Adopt
            | Self::Attach(_) => Phase::Stopping,
            Self::Switch => Phase::Switching,
            Self::Verify | Self::Died | Self::Failed(_) => Phase::Verifying,
            Self::Overtaken => Phase::Pending,
            Self::Prune | Self::Claim | Self::Reached => Phase::Ready,
        }
    }
}

/// The next step to the goal; the same view gives the same step.
pub fn next_step(observed: &FolderView, goal: &Goal, done: StepProgress) -> Step {
    if let Some(open) = observed.folder.open.as_ref().filter(|open| open.running) {
        return Step::Attach(open.clone());
    }
    match goal {
        Goal::Stage(target) if !is_staged(&observed.folder, target) => Step::Stage,
        Goal::Stage(_) => Step::Reached,
        Goal::Run { by_hand, .. } if is_overtaken(&observed.folder, *by_hand) => Step::Overtaken,
        Goal::Run { target, heal, failed_process, .. } => {
            let unheard = unheard_failure(&observed.folder, target).filter(|_| !*heal);
            match unheard {
                Some(failed) => Step::Failed(failed.clone()),
                None => run_step(observed, target, *heal, *failed_process, done),
            }
        }
        Goal::Release | Goal::Remove { .. } | Goal::Adopt if done.ownership_done => Step::Reached,
        Goal::Release => Step::Release,
        Goal::Remove { .. } => Step::Remove,
        Goal::Adopt => Step::Adopt,
        Goal::Prune(target) if has_too_many(&observed.folder, target) && !done.pruned => Step::Prune,
        Goal::Prune(_) => Step::Reached,
        Goal::Claim(target) if is_unowned(&observed.folder, target) => Step::Claim,
        Goal::Claim(_) => Step::Reached,
    }
}

fn is_overtaken(folder: &FolderFacts, known: Option<u64>) -> bool {
    folder.by_hand.as_ref().is_some_and(|act| known != Some(act.journal))
}

fn run_step(
    observed: &FolderView,
    target: &Target,
    heal: bool,
    failed_process: Option<ProcessId>,
    done: StepProgress,
) -> Step {
    let folder = &observed.folder;
    // What is healed is started with the values of now, which may not be those of the target.
    let is_it = |process: &ProcessFacts| match heal {
        true => is_target_but_for_values(process, target),
        false => is_target(process, target),
    };
    let runs_it = folder.process.as_ref().is_some_and(|process| process.alive && is_it(process));
    if !(is_staged(folder, target) || runs_it && folder.tampered.contains(&target.release)) {
        return if has_changed_release(folder, target) { Step::StageAgain } else { Step::Stage };
    }
    if folder.process.as_ref().is_some_and(|process| process.alive && failed_process == Some(process.id())) {
        return Step::Stop;
    }
    // It was ready, and has ended since: its keeper sees to it, and whether it was its work's end is for the next decision to see.
    let is_kept = |process: &ProcessFacts| process.kept && is_it(process) && was_ready(folder, process);
    if done.updated && folder.process.as_ref().is_some_and(is_kept) {
        return Step::Reached;
    }
    let is_wanted = |process: &&ProcessFacts| process.alive && is_it(process);
    let Some(process) = folder.process.as_ref().filter(is_wanted) else {
        return match is_dead_before_ready(observed, target, heal)
            || done.updated && has_ended_since_its_update(observed, target, heal)
        {
            true => Step::Died,
            false => Step::Update,
        };
    };
    if folder.current.as_ref() != Some(&target.release) {
        return Step::Switch;
    }
    let unfinished = is_cut_off(folder, target) || earlier_failure(folder, target).is_some();
    if !is_marked(folder, process) || !heal && unfinished {
        return Step::Verify;
    }
    match has_too_many(folder, target) && !done.pruned {
        true => Step::Prune,
        false => Step::Reached,
    }
}

/// This attempt's update failed there, as the host tells it.
pub(crate) fn unheard_failure<'a>(folder: &'a FolderFacts, target: &Target) -> Option<&'a FailedAct> {
    failure_of_rollout(folder, target).filter(|failed| failed.attempt == target.attempt)
}

/// An earlier attempt of this rollout failed there, as the host tells it.
pub(crate) fn earlier_failure<'a>(folder: &'a FolderFacts, target: &Target) -> Option<&'a FailedAct> {
    failure_of_rollout(folder, target).filter(|failed| failed.attempt < target.attempt)
}

fn failure_of_rollout<'a>(folder: &'a FolderFacts, target: &Target) -> Option<&'a FailedAct> {
    folder.failed.as_ref().filter(|failed| failed.uid == target.uid && failed.rollout == target.rollout)
}

/// A task of this rollout died before its end: what follows readiness may not be done.
pub(crate) fn is_cut_off(folder: &FolderFacts, target: &Target) -> bool {
    let of_rollout = |open: &OpenAct| open.uid == target.uid && open.rollout == target.rollout;
    folder.open.as_ref().is_some_and(|open| !open.running && of_rollout(open))
}

/// The one start of the first attempt is over: what is started again without a word would hide that it fails. After a reboot the outcome is
/// not known.
fn is_dead_before_ready(observed: &FolderView, target: &Target, heal: bool) -> bool {
    let folder = &observed.folder;
    folder.process.as_ref().is_some_and(|process| {
        let own = process.uid == target.uid && process.rollout == target.rollout;
        let ended = !process.alive && !process.kept && !was_ready(folder, process);
        target.attempt == 1 && !heal && own && ended && process.boot_id == observed.boot_id
    })
}

/// It was ready, and has ended with nobody to start it again: another update would do so for ever, without a pause and without a word.
fn has_ended_since_its_update(observed: &FolderView, target: &Target, heal: bool) -> bool {
    observed.folder.process.as_ref().is_some_and(|process| {
        !heal && !process.alive && process.boot_id == observed.boot_id && is_target(process, target)
    })
}

/// More releases than `releasesPerHost`.
pub(crate) fn has_too_many(folder: &FolderFacts, target: &Target) -> bool {
    folder.releases.len() > target.releases_kept
}

pub(crate) fn is_staged(folder: &FolderFacts, target: &Target) -> bool {
    folder.releases.contains(&target.release)
}

/// The host's application is of the target's release, whose files somebody changed: it is staged again once the application is stopped.
pub(crate) fn has_changed_release(folder: &FolderFacts, target: &Target) -> bool {
    let has_it = folder.process.as_ref().is_some_and(|process| process.release.as_ref() == Some(&target.release));
    has_it && folder.tampered.contains(&target.release)
}

/// The process runs this digest and this environment, and no `redeploy` of them was asked for since it started. Which revision started it
/// does not matter. The shell helper records no environment: it is that of the revision's record. Values of Secrets are compared themselves:
/// what was healed has those of its last start, which may be others than its revision's.
pub fn is_target(process: &ProcessFacts, target: &Target) -> bool {
    let values = process.values.as_ref().zip(target.all_values.as_ref());
    is_target_but_for_values(process, target) && !values.is_some_and(|(found, wanted)| found.is_other(wanted))
}

fn is_target_but_for_values(process: &ProcessFacts, target: &Target) -> bool {
    let serial = RolloutId::read(&process.rollout).map_or(0, |id| id.serial);
    process.uid == target.uid
        && process.digest == target.digest
        && target.same_revisions.contains(&process.revision)
        && serial >= target.redeploy_serial
}

/// The host runs the target and it is ready.
pub(crate) fn is_reached(folder: &FolderFacts, target: &Target) -> bool {
    let process = folder.process.as_ref().filter(|process| process.alive && is_target(process, target));
    process.is_some_and(|process| is_marked(folder, process)) && folder.current.as_ref() == Some(&target.release)
}

/// The host runs the target and is ready, and nobody owns it: it was released when it left the selection, and has come back.
pub(crate) fn is_unowned(folder: &FolderFacts, target: &Target) -> bool {
    folder.owner.is_none() && is_reached(folder, target)
}
