//! What a Deployment would do, if every host did as it is told: the planner itself, walked from what was observed to where it would rest. It
//! touches nothing; where a host fails or other Deployments take the room meanwhile, the way differs.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    action::{Action, Assignment},
    observed::{FolderCheck, HostObserved, Observed},
    plan::plan,
    steps::{Goal, is_target},
    target::Target,
};
use crate::{
    api::{
        Reason,
        conditions::{READY, status_of},
        deployment::{DeploymentStatus, Phase, RolloutException},
    },
    model::{
        Failure,
        facts::{FolderFacts, ProcessFacts, ReadyMark},
        ids::Owner,
    },
};

/// Batches that are walked. What a larger rollout does after them is more of the same.
const BATCHES: usize = 200;
/// Decisions that may follow each other without an update, such as staging of a large group: then the rollout rests.
const IDLE: usize = 200;

/// The way of a rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreseen {
    /// Id of the rollout at its end; `None`: there is none.
    pub rollout: Option<String>,
    pub batches: Vec<Vec<ForeseenUpdate>>,
    /// Hosts that left the selection, and what becomes of what runs there.
    pub given_up: Vec<(String, GivenUpAs)>,
    /// The status where it rests.
    pub status: DeploymentStatus,
    /// It was not walked to where it rests: there may be further batches.
    pub is_cut: bool,
}

/// Update of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeseenUpdate {
    pub host: String,
    /// Version that runs there now.
    pub from: Option<String>,
    pub to: String,
    pub cause: UpdateCause,
}

/// Why a host is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateCause {
    /// Nothing of this Deployment runs there.
    Nothing,
    /// Its process ended.
    Down,
    /// It runs another release.
    Version,
    /// It runs the release with another environment, or from before a `redeploy`.
    Configuration,
    /// It is in this update, or in one that is cut off.
    Unfinished,
}

/// What becomes of the application on a host that left the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUpAs {
    Released,
    Removed,
}

impl Foreseen {
    /// Every selected host is where it shall be.
    pub fn is_ready(&self) -> bool {
        status_of(&self.status.conditions, READY) == Some(true)
    }

    /// Selected hosts that are not, as the status where it rests lists them.
    pub fn left_out(&self) -> impl Iterator<Item = &RolloutException> {
        self.status.exceptions.iter().filter(|exception| exception.phase != Phase::Ready)
    }
}

/// Walks the planner.
pub fn foresee(observed: &Observed, now: Timestamp) -> Foreseen {
    let mut walk = Walk { observed: observed.clone(), now, goals: BTreeMap::new(), foreseen: Foreseen::default() };
    walk.begin();
    let (mut idle, mut rests) = (0, false);
    while idle < IDLE && walk.foreseen.batches.len() < BATCHES {
        match walk.pass(observed) {
            Pass::Updated => idle = 0,
            Pass::Changed => idle += 1,
            Pass::Rested if walk.let_time_pass(observed) => {}
            Pass::Rested => {
                rests = true;
                break;
            }
        }
    }
    let Walk { observed, mut foreseen, .. } = walk;
    foreseen.is_cut = !rests;
    foreseen.status = observed.status.unwrap_or_default();
    foreseen.rollout = foreseen.status.rollout.as_ref().map(|rollout| rollout.id.clone());
    foreseen
}

enum Pass {
    Updated,
    Changed,
    Rested,
}

#[derive(Clone)]
struct Walk {
    observed: Observed,
    now: Timestamp,
    /// What each host is told.
    goals: BTreeMap<String, Goal>,
    foreseen: Foreseen,
}

impl Walk {
    /// Tasks under way are told once more by the planner, which knows what for.
    fn begin(&mut self) {
        for host in self.observed.hosts.values_mut().filter(|host| host.task.is_some()) {
            host.task = None;
            if host.check == FolderCheck::Unknown {
                host.check = FolderCheck::Facts(Box::default());
            }
        }
    }

    /// One decision, and all that comes of it.
    fn pass(&mut self, first: &Observed) -> Pass {
        let decided = plan(&self.observed, self.now);
        let before = self.observed.status.replace(decided.status);
        let (mut batch, mut acted) = (Vec::new(), false);
        for action in decided.actions {
            acted |= self.take(action, first, &mut batch);
        }
        for (host, goal) in std::mem::take(&mut self.goals) {
            self.reach(&host, &goal);
        }
        let updated = !batch.is_empty();
        self.foreseen.batches.extend(updated.then_some(batch));
        match (updated, acted || before != self.observed.status) {
            (true, _) => Pass::Updated,
            (false, true) => Pass::Changed,
            (false, false) => Pass::Rested,
        }
    }

    /// Whether an update begins once the pauses of the strategy are over. Else time stands where it was, for more than a pause may end with it.
    fn let_time_pass(&mut self, first: &Observed) -> bool {
        let strategy = &self.observed.spec.strategy;
        let of_canary = strategy.canary.as_ref().and_then(|canary| canary.pause.seconds).unwrap_or(0);
        let pause = of_canary.max(strategy.rolling_update.pause_seconds);
        let Some(later) = self.now.checked_add(SignedDuration::from_secs(pause)).ok().filter(|_| pause > 0) else {
            return false;
        };
        let mut walk = Self { now: later, ..self.clone() };
        let begins = matches!(walk.pass(first), Pass::Updated);
        if begins {
            *self = walk;
        }
        begins
    }

    /// Whether the action changes what the next decision sees.
    fn take(&mut self, action: Action, first: &Observed, batch: &mut Vec<ForeseenUpdate>) -> bool {
        match action {
            Action::Probe(hosts) => hosts.into_iter().for_each(|host| self.not_checked(host)),
            Action::Record(record) => self.observed.records.push(*record),
            Action::RecordFailure(failure) => self.observed.failures.push(failure),
            Action::Assign(Assignment { host, goal, .. }) => {
                if let Goal::Run { target, heal: false, .. } = &goal {
                    batch.push(update(first.host(&host), &host, target));
                }
                self.goals.insert(host, goal);
            }
            Action::Forget(hosts) => self.observed.unlisted.retain(|host| !hosts.contains(host)),
            Action::HoldGroup | Action::KeepLogs(_) | Action::RemoveLogs => return false,
        }
        true
    }

    fn not_checked(&mut self, host: String) {
        let failure = Failure::waiting(Reason::Probing, "not checked yet");
        self.observed.hosts.entry(host).or_default().check = FolderCheck::Failed(failure);
    }

    /// The host does as it is told.
    fn reach(&mut self, host: &str, goal: &Goal) {
        match goal {
            Goal::Release => self.foreseen.given_up.push((host.to_owned(), GivenUpAs::Released)),
            Goal::Remove { .. } => self.foreseen.given_up.push((host.to_owned(), GivenUpAs::Removed)),
            _ => {}
        }
        let owner = Owner {
            control_plane_id: self.observed.control_plane_id.clone(),
            namespace: self.observed.namespace.clone(),
            deployment: self.observed.name.clone(),
            uid: self.observed.uid.clone(),
            host: host.to_owned(),
        };
        let token = self.observed.token.clone();
        let Some(one) = self.observed.hosts.get_mut(host) else { return };
        (one.tries, one.slow, one.heal_failure) = (None, None, None);
        let FolderCheck::Facts(view) = &mut one.check else { return };
        let folder = &mut view.folder;
        match goal {
            Goal::Stage(target) => stage(folder, target),
            Goal::Run { target, .. } => {
                stage(folder, target);
                run(folder, target, &view.boot_id);
                folder.owner = Some(owner);
            }
            Goal::Claim(_) | Goal::Adopt => folder.owner = Some(owner),
            Goal::Prune(target) => folder.releases.retain(|release| *release == target.release),
            Goal::Release => folder.owner = None,
            Goal::Remove { .. } => *folder = FolderFacts::default(),
        }
        folder.fence = token.or_else(|| folder.fence.take());
    }
}

fn stage(folder: &mut FolderFacts, target: &Target) {
    folder.tampered.retain(|release| *release != target.release);
    if !folder.releases.contains(&target.release) {
        folder.releases.push(target.release.clone());
    }
}

/// The target runs and was seen ready. A number of processes that no kernel gives tells it from the one before.
fn run(folder: &mut FolderFacts, target: &Target, boot_id: &str) {
    let pid = folder.process.as_ref().map_or(0, |process| process.pid.min(0)) - 1;
    folder.process = Some(ProcessFacts {
        pid,
        start: 0,
        boot_id: boot_id.to_owned(),
        digest: target.digest.clone(),
        release: Some(target.release.clone()),
        uid: target.uid.clone(),
        revision: target.revision,
        rollout: target.rollout.clone(),
        values: target.all_values.clone(),
        alive: true,
        unready: None,
        kept: false,
        restarts: 0,
        survivors: String::new(),
        end: None,
    });
    folder.ready = Some(ReadyMark { uid: target.uid.clone(), rollout: target.rollout.clone(), pid, start: 0 });
    folder.current = Some(target.release.clone());
    (folder.open, folder.failed, folder.by_hand) = (None, None, None);
}

fn update(host: &HostObserved, name: &str, target: &Target) -> ForeseenUpdate {
    let folder = host.view().map(|view| &view.folder);
    let process = folder.and_then(|folder| folder.process.as_ref()).filter(|process| process.uid == target.uid);
    let from = folder.and_then(|folder| folder.current.as_ref()).map(|release| release.version().to_owned());
    let cause = match process {
        _ if host.task.is_some() || folder.is_some_and(|folder| folder.open.is_some()) => UpdateCause::Unfinished,
        None => UpdateCause::Nothing,
        Some(process) if process.digest != target.digest => UpdateCause::Version,
        Some(process) if !process.alive => UpdateCause::Down,
        Some(process) if is_target(process, target) => UpdateCause::Unfinished,
        Some(_) => UpdateCause::Configuration,
    };
    ForeseenUpdate { host: name.to_owned(), from, to: target.version.clone(), cause }
}
