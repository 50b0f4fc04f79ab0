//! One step on one host, done: the planner's word for it becomes one call of the helper.

use std::time::Duration;

use super::{
    diary::Diary,
    failure::Failure,
    records,
    turn::Place,
    verify::{self, Process, Verified},
};
use crate::{
    api::{Reason, deployment::Phase},
    controllers::{hosts::Dial, world::World},
    effects::{
        host::{ActCall, Acted, Host, HostError, MarkSpec, RunAs, StageSpec, StartSpec, StopSpec, TurnSpec},
        store::StoreError,
    },
    plan::{
        deployment::{Done, Drive, Goal, Seen, Step, Target, not_allowed},
        facts::{FolderFacts, ProcessFacts},
        ids::{ActId, Owner, ReleaseName},
    },
};

/// How long an act that another call left open is waited for at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// A port may linger for a moment after its process is gone.
const PORT_TRIES: u32 = 30;

/// Why a step is not done.
pub enum Undone {
    Host(HostError),
    Failed(Failure),
    /// The host has another goal by now.
    Dropped,
}

impl From<HostError> for Undone {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// Everything that a step needs to know of its turn.
pub struct Turn<'a> {
    pub world: &'a World,
    pub place: &'a Place,
    pub drive: &'a Drive,
    pub seen: &'a Seen,
    /// On the host's disk, as it said last.
    pub free_bytes: u64,
    pub host: &'a Host,
    pub diary: &'a Diary<'a>,
}

/// Does one step; `done` takes what the host does not record. Answers the folder as it is after an act.
pub async fn perform(
    turn: &Turn<'_>,
    step: &Step,
    done: &mut Done,
    wanted: impl Fn() -> bool,
) -> Result<Option<FolderFacts>, Undone> {
    let (host, gate) = (turn.host, &turn.world.gate);
    let acted = match step {
        Step::Attach(open) => host.attach(&turn.place.folder(), open, PATIENCE).await?,
        Step::Stage => stage(turn).await?,
        Step::Turn if port_is_taken(turn).await? => {
            done.port_taken = true;
            return Ok(None);
        }
        Step::Turn => {
            let turned = host.turn(gate, &turn.call()?, &turn_spec(turn).await?).await?;
            (done.started, done.port_taken) = (!turned.port_taken, turned.port_taken);
            turned.acted
        }
        Step::Switch => host.switch(gate, &turn.call()?, &turn.target()?.release).await?,
        Step::Start => start(turn).await?,
        Step::Verify { pid, start } => {
            verify(turn, *pid, *start, wanted).await?;
            done.verified = Some((*pid, *start));
            return Ok(None);
        }
        Step::Mark { keep } => mark(turn, keep).await?,
        Step::Prune { keep } => host.prune(gate, &turn.call()?, keep, turn.target()?.releases_kept).await?,
        Step::Release => host.release(gate, &turn.call()?).await?,
        Step::Remove => host.remove(gate, &turn.call()?, &turn.stop_spec().await).await?,
        Step::Adopt => host.adopt(gate, &turn.call()?).await?,
        Step::Died => return Err(Undone::Failed(verify::died_in(host, &turn.place.folder()).await)),
        Step::Reached => return Ok(None),
    };
    match step {
        Step::Start => done.started = true,
        Step::Prune { .. } => done.pruned = true,
        Step::Release | Step::Remove | Step::Adopt => done.left = true,
        _ => {}
    }
    // An attached act says how it ended; what it left is looked at.
    Ok(acted.folder.filter(|_| !matches!(step, Step::Attach(_))))
}

/// Reason and phase of a verdict where this step failed in this way.
pub fn verdict_on(step: &Step, error: &HostError) -> (Reason, Phase) {
    let part = match error {
        HostError::StepFailed { step, .. } => step.as_str(),
        _ => "",
    };
    match (step, part) {
        (Step::Turn | Step::Attach(_), "switch") => (Reason::SwitchFailed, Phase::Switching),
        (Step::Turn | Step::Attach(_), "start") => (Reason::StartFailed, Phase::Starting),
        (Step::Attach(_), "turn" | "stop" | "remove") | (Step::Turn | Step::Remove, _) => {
            (Reason::StopFailed, step.phase())
        }
        (Step::Switch, _) => (Reason::SwitchFailed, step.phase()),
        (Step::Start, _) => (Reason::StartFailed, step.phase()),
        (Step::Verify { .. } | Step::Mark { .. } | Step::Died, _) => (Reason::ProcessDied, step.phase()),
        _ => (Reason::HelperFailed, step.phase()),
    }
}

impl Turn<'_> {
    fn target(&self) -> Result<&Target, Undone> {
        match &self.drive.goal {
            Goal::Stage(target) | Goal::Run { target, .. } | Goal::Prune(target) => Ok(target),
            Goal::Release | Goal::Remove | Goal::Adopt => {
                let message = "a step that needs a release was asked for without one; this is a fault of landfall";
                Err(Undone::Failed(Failure::new(Reason::InternalError, message, &[])))
            }
        }
    }

    /// Who acts, with which token, on which view.
    fn call(&self) -> Result<ActCall, Undone> {
        let fence = self.world.gate.token().map_err(HostError::from)?;
        let place = self.place;
        Ok(ActCall {
            folder: place.folder(),
            owner: Owner {
                plane: self.world.plane.clone(),
                namespace: place.namespace.clone(),
                deployment: place.deployment.clone(),
                uid: place.uid.clone(),
                host: place.host.clone(),
            },
            replaces: self.drive.replaces.clone(),
            fence,
            act: ActId {
                uid: place.uid.clone(),
                rollout: self.drive.key.rollout.clone(),
                attempt: self.drive.key.attempt,
                n: self.seen.folder.journal,
            },
        })
    }

    /// Stop logic belongs to the release that runs, not to the one that comes.
    async fn stop_spec(&self) -> StopSpec {
        let running: Option<&ProcessFacts> = self.seen.folder.process.as_ref();
        let record = match running {
            Some(process) => records::revision(self.world, &process.uid, process.revision).await,
            None => None,
        };
        let run = record.map(|record| record.run);
        let grace = run.as_ref().map_or(10, |run| run.termination_grace_period_seconds);
        StopSpec {
            signal: run.map_or("TERM", |run| run.stop_signal.as_str()).to_owned(),
            grace: Duration::from_secs(u64::try_from(grace).unwrap_or(10)),
        }
    }
}

async fn stage(turn: &Turn<'_>) -> Result<Acted, Undone> {
    let target = turn.target()?;
    let release = turn.world.store.release(&target.digest).await.map_err(|error| unreadable(&error))?;
    let absent = !turn.seen.folder.releases.contains(&target.release);
    // What was free a while ago may be less than what is now: where it would not do, the host is asked.
    let free = Some(turn.free_bytes).filter(|free| absent && *free >= StageSpec::room_for(release.size));
    let spec = StageSpec {
        release: target.release.clone(),
        digest: release.digest,
        size: release.size,
        tar: release.path,
        absent_with_free: free,
    };
    Ok(turn.host.stage(&turn.world.gate, &turn.call()?, &spec).await?)
}

fn unreadable(error: &StoreError) -> Undone {
    Undone::Failed(Failure::new(Reason::StoreUnavailable, &error.to_string(), &[]))
}

/// The host itself looks whether the port is free when the old process is gone.
async fn turn_spec(turn: &Turn<'_>) -> Result<TurnSpec, Undone> {
    let (start, run_as) = start_spec(turn)?;
    Ok(TurnSpec { stop: turn.stop_spec().await, start, run_as, port: turn.target()?.port() })
}

/// Where nothing of ours runs whoever answers is somebody else, also one that only a redirection leads to (such as a cluster's NodePort),
/// of whom the host itself sees no socket.
async fn port_is_taken(turn: &Turn<'_>) -> Result<bool, Undone> {
    let idle = !turn.seen.folder.process.as_ref().is_some_and(|process| process.alive);
    match turn.target()?.port().filter(|_| idle) {
        Some(port) => Ok(!turn.host.port_refuses(port).await?),
        None => Ok(false),
    }
}

/// Whose socket answered is looked at on the host, in the same call.
async fn mark(turn: &Turn<'_>, keep: &[ReleaseName]) -> Result<Acted, Undone> {
    let target = turn.target()?;
    let spec = MarkSpec {
        rollout: target.rollout.clone(),
        port: target.port(),
        keep: keep.to_vec(),
        at_most: target.releases_kept,
    };
    match turn.host.mark(&turn.world.gate, &turn.call()?, &spec).await {
        Err(HostError::StepFailed { .. }) => {
            Err(Undone::Failed(verify::died_in(turn.host, &turn.place.folder()).await))
        }
        done => Ok(done?),
    }
}

/// A start by itself, where a turn found somebody on the port: who still listens after a moment is a stranger, who would answer the probe.
async fn start(turn: &Turn<'_>) -> Result<Acted, Undone> {
    if let Some(port) = turn.target()?.port() {
        let mut tries = 0;
        while !turn.host.port_refuses(port).await? {
            tries += 1;
            if tries >= PORT_TRIES {
                return Err(Undone::Failed(verify::port_in_use(port)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let (spec, run_as) = start_spec(turn)?;
    Ok(turn.host.start_as(&turn.world.gate, &turn.call()?, &spec, run_as.as_ref()).await?)
}

fn start_spec(turn: &Turn<'_>) -> Result<(StartSpec, Option<RunAs>), Undone> {
    let (target, place) = (turn.target()?, turn.place);
    let dial = turn.world.hosts.dial(&place.host_key());
    let run_as = run_as(target, dial.as_ref())?;
    let address = dial.map(|dial| dial.address).unwrap_or_default();
    let spec = StartSpec {
        release: target.release.clone(),
        digest: target.digest.clone(),
        revision: target.revision,
        rollout: target.rollout.clone(),
        heal: matches!(turn.drive.goal, Goal::Run { heal: true, .. }),
        command: target.run.process.command.clone(),
        env: target.env_on(&place.project, &place.group, &place.host, &address),
    };
    Ok((spec, run_as))
}

/// Only whom the group lets it be, also where an older version is started again; never somebody else instead.
fn run_as(target: &Target, dial: Option<&Dial>) -> Result<Option<RunAs>, Undone> {
    let Some(user) = &target.run.user else { return Ok(None) };
    let by = dial.map(|dial| dial.config.r#become.clone()).unwrap_or_default();
    match not_allowed(user, &by) {
        Some(why) => {
            let message = format!("version {}: {why}", target.version);
            Err(Undone::Failed(Failure::new(Reason::UserNotAllowed, &message, &[])))
        }
        None => Ok(Some(RunAs { method: by.method, user: user.clone() })),
    }
}

async fn verify(turn: &Turn<'_>, pid: i64, start: u64, wanted: impl Fn() -> bool) -> Result<(), Undone> {
    let folder = turn.place.folder();
    let process = Process { folder: &folder, pid, start };
    match verify::verify(turn.host, &process, turn.target()?, wanted, |why| turn.diary.not_yet(why)).await? {
        Verified::Ready => Ok(()),
        Verified::Failed(failure) => Err(Undone::Failed(failure)),
        Verified::Dropped => Err(Undone::Dropped),
    }
}
