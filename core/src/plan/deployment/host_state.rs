//! State of each host: from its facts, the task that acts on it, and the recorded intent.

use super::{
    by_hand,
    folder::{is_down, is_kept, is_marked, unready, was_ready},
    intent::IntentOnRecord,
    observed::{FolderCheck, FolderView, GoalKind, HostObserved, Observed},
    steps::{earlier_failure, has_changed_release, is_cut_off, is_reached, is_staged, is_target, unheard_failure},
    target::Target,
};
use crate::model::rollout::RolloutId;
use crate::{
    api::{
        Reason,
        deployment::{Phase, RolloutException},
    },
    model::{
        Failure,
        facts::{FolderFacts, OpenAct, ProcessFacts},
        rollout::{HostFailure, RolloutRecord},
    },
};

#[derive(Clone, Debug, PartialEq)]
pub enum HostState {
    /// Not checked yet.
    Unknown,
    /// Selected, and not available to this Deployment.
    Refused(Failure),
    /// It does not answer, and no update is under way.
    Unreachable(Failure),
    /// It failed in this attempt, or can't be used at all.
    Failed(Failure),
    /// Its update has begun and is not over. `lost`: it does not answer.
    Updating {
        phase: Phase,
        lost: Option<Failure>,
    },
    /// Its process, which had been ready, is being started again.
    Healing {
        phase: Phase,
    },
    Staging,
    /// It answers, and the version that it is pinned to can't be deployed: nothing begins there.
    UnmetPin(Failure),
    /// It answers, and lacks the release.
    Unstaged,
    /// It lacks the release, and its line was too slow for it: it is tried again after a pause, and no other host waits for it.
    Slow(Failure),
    /// It has the release and waits for its update.
    Pending,
    /// Its process, which had been ready, ended; the record of its revision says how to start it.
    Down,
    /// A person stopped the application there, or has it run another release. `serves`: it is available all the same.
    ByHand {
        serves: bool,
    },
    /// It runs the target and was ready, and its readiness probe fails now: what the probe said. It is left alone.
    NotReady(String),
    Ready,
}

impl HostState {
    /// Phase of the host. One that does not answer is Unreachable, also in its update.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Updating { lost: Some(_), .. } | Self::Unreachable(_) => Phase::Unreachable,
            Self::Updating { phase, lost: None } | Self::Healing { phase } => *phase,
            Self::Failed(_) => Phase::Failed,
            Self::Unknown
            | Self::Refused(_)
            | Self::UnmetPin(_)
            | Self::Unstaged
            | Self::Down
            | Self::ByHand { .. } => Phase::Pending,
            // So that one more try is no progress.
            Self::Staging | Self::Slow(_) => Phase::Staging,
            Self::Pending => Phase::Staged,
            Self::NotReady(_) => Phase::Verifying,
            Self::Ready => Phase::Ready,
        }
    }
}

/// Input of the state of one host.
pub(crate) struct StateInput<'a> {
    pub observed: &'a Observed,
    pub name: &'a str,
    pub host: &'a HostObserved,
    pub target: Option<&'a Target>,
    /// Why the version that it is pinned to can't be deployed.
    pub unmet_pin: Option<&'a Failure>,
    pub intent: Option<&'a IntentOnRecord>,
    /// Why this Deployment may not act on it.
    pub refused: Option<&'a Failure>,
    /// Its failure in this attempt.
    pub failure: Option<&'a HostFailure>,
    /// Its entry in the status: display.
    pub exception: Option<&'a RolloutException>,
    /// Its last act was by hand, and stands.
    pub stands: bool,
}

impl StateInput<'_> {
    pub fn state(&self) -> HostState {
        if let Some(failure) = self.refused {
            return HostState::Refused(failure.clone());
        }
        if let Some(failure) = self.failure {
            return HostState::Failed(Failure::terminal(failure.reason, &failure.message));
        }
        if let Some(state) = by_task(self.host) {
            return state;
        }
        match &self.host.check {
            FolderCheck::Unknown => HostState::Unknown,
            FolderCheck::Failed(failure) if self.may_be_updating() => {
                HostState::Updating { phase: self.last_phase(), lost: Some(failure.clone()) }
            }
            FolderCheck::Failed(failure) => HostState::Unreachable(failure.clone()),
            FolderCheck::Facts(view) => self.by_facts(view),
        }
    }

    fn by_facts(&self, view: &FolderView) -> HostState {
        if let Some(failure) = &view.unfit {
            return HostState::Failed(failure.clone());
        }
        let folder = &view.folder;
        if self.is_left_by_hand(folder) {
            return HostState::ByHand { serves: self.host.is_serving() && !by_hand::is_ending(folder) };
        }
        if let Some(target) = self.target {
            // First: a process that serves may be in its stop already.
            if let Some(open) = update_step(folder, &target.uid) {
                return HostState::Updating { phase: phase_in_step(folder, target, open), lost: None };
            }
            let unfinished = (is_cut_off(folder, target) || self.has_failed_unheard_before(folder, target))
                && self.may_have_begun(folder, target);
            if unfinished || unheard_failure(folder, target).is_some() {
                return HostState::Updating { phase: phase_of(folder, target), lost: None };
            }
            if is_reached(folder, target) && !self.has_failed_hook() {
                return unready(folder).map_or(HostState::Ready, |why| HostState::NotReady(why.to_owned()));
            }
            if self.is_updating(folder, target) {
                return HostState::Updating { phase: phase_of(folder, target), lost: None };
            }
        }
        if is_kept(folder) && !is_down(folder) && last_good(self.observed, self.host, self.target).is_some() {
            return HostState::Healing { phase: Phase::Verifying };
        }
        if is_down(folder)
            && !by_hand::is_stopped(self.observed, self.name, folder)
            && last_good(self.observed, self.host, self.target).is_some()
        {
            return HostState::Down;
        }
        if let Some(failure) = self.unmet_pin.filter(|_| self.target.is_none()) {
            return HostState::UnmetPin(failure.clone());
        }
        match self.target {
            Some(target) if is_staged(folder, target) || has_changed_release(folder, target) => HostState::Pending,
            // Without a target nothing is staged.
            Some(_) | None => match self.host.slow.as_ref().filter(|_| self.target.is_some()) {
                Some(slow) => HostState::Slow(slow.failure.clone()),
                None => HostState::Unstaged,
            },
        }
    }

    /// It failed in an earlier attempt, and nobody recorded that before the next one began.
    fn has_failed_unheard_before(&self, folder: &FolderFacts, target: &Target) -> bool {
        earlier_failure(folder, target).is_some_and(|failed| {
            let is_it = |failure: &HostFailure| {
                failure.host == self.name && failure.rollout == failed.rollout && failure.attempt == failed.attempt
            };
            !self.observed.failures.iter().any(is_it)
        })
    }

    /// In an earlier attempt a hook failed after this process was ready: it is replaced.
    fn has_failed_hook(&self) -> bool {
        let Some(process) = self.host.running().map(|process| process.id()) else { return false };
        let is_it = |failure: &&HostFailure| failure.host == self.name && failure.process == Some(process);
        self.observed.failures.iter().filter(is_it).any(|failure| failure.reason == Reason::HookFailed)
    }

    /// It counts as failed, by a failure before its update touched anything or because a user can't be become there, and what had been
    /// ready has ended: it is healed as any other. Whether that user is needed for it the start itself tells.
    pub fn is_down_and_failed(&self) -> bool {
        let FolderCheck::Facts(view) = &self.host.check else { return false };
        let unfit = view.unfit.as_ref().map(|failure| failure.reason);
        let failed = match self.failure {
            Some(failure) => {
                failure.phase == Phase::Staging && unfit.is_none_or(|reason| reason == Reason::BecomeRefused)
            }
            None => unfit == Some(Reason::BecomeRefused),
        };
        let down = || {
            is_down(&view.folder)
                && !is_kept(&view.folder)
                && !by_hand::is_stopped(self.observed, self.name, &view.folder)
                && last_good(self.observed, self.host, self.target).is_some()
        };
        self.refused.is_none() && failed && self.host.task.is_none() && down()
    }

    fn is_left_by_hand(&self, folder: &FolderFacts) -> bool {
        self.stands && by_hand::is_left(self.observed, self.name, folder, self.target)
    }

    /// An update that was begun is under way until the host is seen not to be in it: it reached the target, failed, or was not touched.
    fn is_updating(&self, folder: &FolderFacts, target: &Target) -> bool {
        !is_at_rest(folder) && self.may_have_begun(folder, target)
    }

    fn may_have_begun(&self, folder: &FolderFacts, target: &Target) -> bool {
        match self.intent {
            Some(IntentOnRecord::Recorded { updating, .. }) => updating.contains(self.name),
            Some(IntentOnRecord::Exceptions { updating, .. }) => {
                updating.contains(self.name) || is_unfinished(folder, target)
            }
            Some(IntentOnRecord::Missing) => is_unfinished(folder, target),
            None => false,
        }
    }

    /// Of a host that does not answer.
    fn may_be_updating(&self) -> bool {
        match self.intent {
            Some(IntentOnRecord::Recorded { updating, .. }) => updating.contains(self.name),
            // The list was cut: the state of the other hosts is not known.
            Some(IntentOnRecord::Exceptions { updating, cut, .. }) => {
                updating.contains(self.name) || *cut && self.exception.is_none()
            }
            Some(IntentOnRecord::Missing) | None => false,
        }
    }

    /// Phase last displayed, of a host that does not answer; display only.
    fn last_phase(&self) -> Phase {
        let phase = self.exception.map(|exception| exception.phase);
        let updating = [Phase::Stopping, Phase::Switching, Phase::Starting, Phase::Verifying];
        phase.filter(|phase| updating.contains(phase)).unwrap_or(Phase::Verifying)
    }
}

/// Phase of an update under way, by the facts of the host.
fn phase_of(folder: &FolderFacts, target: &Target) -> Phase {
    let process = folder.process.as_ref().filter(|process| process.alive);
    match process {
        Some(process) if is_target(process, target) => Phase::Verifying,
        Some(_) => Phase::Stopping,
        None if folder.current.as_ref() == Some(&target.release) => Phase::Starting,
        None => Phase::Switching,
    }
}

/// No act is under way there, and the running process was seen ready, or was until it ended, and its keeper sees to it: no update is
/// unfinished.
fn is_at_rest(folder: &FolderFacts) -> bool {
    let acting = folder.open.as_ref().is_some_and(|open| open.running);
    let rests = |process: &&ProcessFacts| match process.alive {
        true => is_marked(folder, process),
        false => process.kept && was_ready(folder, process),
    };
    let process = folder.process.as_ref().filter(rests);
    !acting && process.is_some_and(|process| folder.current == process.release)
}

/// A step of an update by this Deployment is under way there, whatever the status says. A start for healing is no such step.
fn update_step<'a>(folder: &'a FolderFacts, uid: &str) -> Option<&'a OpenAct> {
    open_update(folder).filter(|open| open.uid == uid)
}

/// A step of an update is under way in this folder, by whichever Deployment.
pub fn is_in_update(folder: &FolderFacts) -> bool {
    open_update(folder).is_some()
}

fn open_update(folder: &FolderFacts) -> Option<&OpenAct> {
    let open = folder.open.as_ref().filter(|open| open.running && !open.is_by_hand())?;
    let is_step = matches!(
        open.step.as_str(),
        "hook" | "drain" | "settle" | "stop" | "switch" | "start" | "waitReady" | "minReady"
    );
    (is_step && !is_down(folder) && !is_healing(folder, open)).then_some(open)
}

/// What still runs and was started by another rollout than the open act's is being stopped, also where it runs the target.
fn phase_in_step(folder: &FolderFacts, target: &Target, open: &OpenAct) -> Phase {
    let process = folder.process.as_ref().filter(|process| process.alive);
    match process.is_some_and(|process| process.rollout != open.rollout) {
        true => Phase::Stopping,
        false => phase_of(folder, target),
    }
}

/// The open task starts again what had been ready; an update waits for the first time that its rollout is, and it alone has hooks.
fn is_healing(folder: &FolderFacts, open: &OpenAct) -> bool {
    let had_been = folder.ready.as_ref().is_some_and(|mark| mark.uid == open.uid && mark.rollout == open.rollout);
    had_been && !matches!(open.step.as_str(), "minReady" | "hook")
}

/// An update of this rollout is unfinished: a process that was never seen ready.
fn is_unfinished(folder: &FolderFacts, target: &Target) -> bool {
    let started = folder.process.as_ref().is_some_and(|process| {
        process.uid == target.uid && process.rollout == target.rollout && !is_marked(folder, process)
    });
    started && !is_down(folder)
}

fn by_task(host: &HostObserved) -> Option<HostState> {
    let task = host.task.as_ref()?;
    match task.goal.kind {
        GoalKind::Stage => Some(HostState::Staging),
        GoalKind::Run => Some(HostState::Updating { phase: updating_phase(task.phase), lost: None }),
        GoalKind::Heal => Some(HostState::Healing { phase: updating_phase(task.phase) }),
        GoalKind::Release | GoalKind::Remove | GoalKind::Adopt | GoalKind::Prune | GoalKind::Claim => None,
    }
}

/// An update that is about to end still shows as an update.
fn updating_phase(phase: Phase) -> Phase {
    match phase {
        Phase::Ready | Phase::Failed | Phase::Unreachable | Phase::Pending => Phase::Verifying,
        Phase::Staging | Phase::Staged => Phase::Stopping,
        other => other,
    }
}

/// The target that was last ready on a host, from the records.
pub(crate) fn last_good(observed: &Observed, host: &HostObserved, target: Option<&Target>) -> Option<Target> {
    let process = host.view()?.folder.process.as_ref()?;
    if let Some(target) = target.filter(|target| is_target(process, target)) {
        return Some(target.clone());
    }
    let revision = RolloutId::read(&process.rollout)?.revision;
    let fits = |record: &&RolloutRecord| process.uid == observed.uid && record.revision == revision;
    let record = observed.records.iter().find(fits)?.of_digest(&process.digest)?;
    let attempt = target.map_or(1, |target| target.attempt);
    Some(Target::new(observed, &record, &process.rollout, attempt, 0))
}
