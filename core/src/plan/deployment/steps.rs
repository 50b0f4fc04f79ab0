//! One host's way to its goal, step by step: update (stop, switch, start) → verify → mark and prune. Each step is chosen from what the
//! host shows, so an update goes on wherever an earlier one, of this operator or of one before it, was cut off.

use super::{
    folder::{is_marked, was_ready},
    observed::FolderView,
    target::Target,
};
use crate::model::rollout::RolloutId;
use crate::{
    api::deployment::Phase,
    model::{
        facts::{FolderFacts, OpenAct, ProcessFacts},
        ids::ReleaseName,
        rollout::ProcessId,
    },
};

/// Where a host is to be brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// The release is there, verified.
    Stage(Box<Target>),
    /// The release runs and is ready. `heal`: it had been before. `failed_process`: a process that failed in an earlier attempt; it
    /// is replaced, also where it lives and runs the release.
    Run { target: Box<Target>, heal: bool, failed_process: Option<ProcessId> },
    /// The claim is given up; the application keeps running.
    Release,
    /// Stopped, and the folder removed.
    Remove,
    /// Adopted from another control plane.
    Adopt,
    /// The host is ready; surplus releases are removed.
    Prune(Box<Target>),
    /// The host is ready; its owner file, which it lacks, is written.
    Claim(Box<Target>),
}

/// Progress of this task that the host does not record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepProgress {
    /// Process that was ready for `minReadySeconds` and is not marked yet.
    pub verified: Option<(i64, u64)>,
    /// This task started a process.
    pub started: bool,
    /// An update ended without a start: the port is taken although the recorded process is gone.
    pub port_taken: bool,
    pub pruned: bool,
    /// The claim was released, removed or adopted.
    pub ownership_done: bool,
}

/// The next step on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An earlier act is under way there: wait for it.
    Attach(OpenAct),
    Stage,
    /// Stop the recorded process, which failed in an earlier attempt: an update does not stop a process of its own rollout.
    Stop,
    /// Stop the recorded process, switch and start.
    Update,
    /// The rest of an interrupted update.
    Switch,
    Start,
    /// Probe until this process is ready.
    Verify {
        pid: i64,
        start: u64,
    },
    /// Mark the process as ready, and prune where `keep` is not empty.
    Mark {
        keep: Vec<ReleaseName>,
    },
    Prune {
        keep: Vec<ReleaseName>,
    },
    Release,
    Remove,
    Adopt,
    /// The process ended before it was ready.
    Died,
    Reached,
}

impl Step {
    /// Phase of the host during this step.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Stage => Phase::Staging,
            Self::Stop | Self::Update | Self::Remove | Self::Release | Self::Adopt | Self::Attach(_) => Phase::Stopping,
            Self::Switch => Phase::Switching,
            Self::Start => Phase::Starting,
            Self::Verify { .. } | Self::Mark { .. } | Self::Died => Phase::Verifying,
            Self::Prune { .. } | Self::Reached => Phase::Ready,
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
        Goal::Run { target, heal, failed_process } => run_step(observed, target, *heal, *failed_process, done),
        Goal::Release | Goal::Remove | Goal::Adopt if done.ownership_done => Step::Reached,
        Goal::Release => Step::Release,
        Goal::Remove => Step::Remove,
        Goal::Adopt => Step::Adopt,
        Goal::Prune(target) if has_too_many(&observed.folder, target) && !done.pruned => {
            Step::Prune { keep: vec![target.release.clone()] }
        }
        Goal::Prune(_) => Step::Reached,
        // Each act writes the owner file at its begin; of a process that is marked already the mark changes nothing else.
        Goal::Claim(target) if is_unowned(&observed.folder, target) => Step::Mark { keep: vec![] },
        Goal::Claim(_) => Step::Reached,
    }
}

fn run_step(
    observed: &FolderView,
    target: &Target,
    heal: bool,
    failed_process: Option<ProcessId>,
    done: StepProgress,
) -> Step {
    let folder = &observed.folder;
    if !is_staged(folder, target) {
        return Step::Stage;
    }
    if folder.process.as_ref().is_some_and(|process| process.alive && failed_process == Some(process.id())) {
        return Step::Stop;
    }
    let is_wanted = |process: &&ProcessFacts| process.alive && is_target(process, target);
    let Some(process) = folder.process.as_ref().filter(is_wanted) else {
        return start_step(observed, target, heal, done);
    };
    if folder.current.as_ref() != Some(&target.release) {
        return Step::Switch;
    }
    if !is_marked(folder, process) {
        return match done.verified == Some((process.pid, process.start)) {
            true => {
                Step::Mark { keep: if has_too_many(folder, target) { vec![target.release.clone()] } else { vec![] } }
            }
            false => Step::Verify { pid: process.pid, start: process.start },
        };
    }
    if has_too_many(folder, target) && !done.pruned {
        return Step::Prune { keep: vec![target.release.clone()] };
    }
    Step::Reached
}

fn start_step(observed: &FolderView, target: &Target, heal: bool, done: StepProgress) -> Step {
    let folder = &observed.folder;
    if folder.process.as_ref().is_some_and(|process| process.alive) {
        return Step::Update;
    }
    let died = folder.process.as_ref().is_some_and(|process| {
        let own = process.uid == target.uid && process.rollout == target.rollout;
        let untried = target.attempt == 1 && !heal && own && !was_ready(folder, process);
        // After a reboot the outcome is not known: it is started again.
        process.boot_id == observed.boot_id && (done.started || untried)
    });
    if died {
        return Step::Died;
    }
    if !done.port_taken {
        return Step::Update;
    }
    if folder.current.as_ref() != Some(&target.release) {
        return Step::Switch;
    }
    Step::Start
}

/// More releases than `releasesPerHost`.
pub(crate) fn has_too_many(folder: &FolderFacts, target: &Target) -> bool {
    folder.releases.len() > target.releases_kept
}

pub(crate) fn is_staged(folder: &FolderFacts, target: &Target) -> bool {
    folder.releases.contains(&target.release)
}

/// The process runs this digest and this environment, and no `redeploy` of them was asked for since it started. Which revision started it
/// does not matter. The shell helper records no environment: it is that of the revision's record.
pub(crate) fn is_target(process: &ProcessFacts, target: &Target) -> bool {
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
