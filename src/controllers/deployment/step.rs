//! One step on one host: the planner's step becomes one call of the helper.

use std::time::Duration;

use super::{
    context::DeploymentContext,
    failure::{StepError, host_failed},
    host_ref::HostRef,
    records,
    rollout_log::RolloutLog,
    verify::{self, Process, Verified},
};
use crate::{
    api::{Reason, deployment::Phase},
    controllers::hosts::Dial,
    effects::{
        host::{ActCall, Acted, Host, HostError, MarkSpec, RunAs, StageSpec, StartSpec, StopSpec, UpdateSpec},
        store::StoreError,
    },
    model::{
        facts::{FolderFacts, ProcessFacts},
        ids::{ActId, Owner, ReleaseName},
    },
    plan::deployment::{Assignment, FolderView, Goal, Step, StepProgress, Target, not_allowed},
};

/// How long one call waits for an act of an earlier call.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);
/// A port may linger for a moment after its process is gone.
const PORT_TRIES: u32 = 30;

/// Input of a step, from its task.
pub(crate) struct StepContext<'a> {
    pub controller: &'a DeploymentContext,
    pub host_ref: &'a HostRef,
    pub assignment: &'a Assignment,
    pub observed: &'a FolderView,
    /// Free bytes on the host's disk at its last check.
    pub free_bytes: u64,
    pub host: &'a Host,
    pub log: &'a RolloutLog<'a>,
}

/// Performs one step; `done` takes what the host does not record. Returns the folder after an act.
pub(crate) async fn perform(
    context: &StepContext<'_>,
    step: &Step,
    done: &mut StepProgress,
    wanted: impl Fn() -> bool,
) -> Result<Option<FolderFacts>, StepError> {
    let (host, gate) = (context.host, &context.controller.shared.gate);
    let acted = match step {
        Step::Attach(open) => host.attach(&context.host_ref.folder(), open, ATTACH_TIMEOUT).await?,
        Step::Stage => stage(context).await?,
        Step::Update if port_is_taken(context).await? => {
            done.port_taken = true;
            return Ok(None);
        }
        Step::Update => {
            let updated = host.update(gate, &context.call()?, &update_spec(context).await?).await?;
            (done.started, done.port_taken) = (!updated.port_taken, updated.port_taken);
            updated.acted
        }
        Step::Stop => host.stop(gate, &context.call()?, &context.stop_spec().await).await?,
        Step::Switch => host.switch(gate, &context.call()?, &context.target()?.release).await?,
        Step::Start => start(context).await?,
        Step::Verify { pid, start } => {
            verify(context, *pid, *start, wanted).await?;
            done.verified = Some((*pid, *start));
            return Ok(None);
        }
        Step::Mark { keep } => mark(context, keep).await?,
        Step::Prune { keep } => host.prune(gate, &context.call()?, keep, context.target()?.releases_kept).await?,
        Step::Release => host.release(gate, &context.call()?).await?,
        Step::Remove => host.remove(gate, &context.call()?, &context.stop_spec().await).await?,
        Step::Adopt => host.adopt(gate, &context.call()?).await?,
        Step::Died => return Err(StepError::Failed(verify::died_in(host, &context.host_ref.folder()).await)),
        Step::Reached => return Ok(None),
    };
    match step {
        Step::Start => done.started = true,
        Step::Prune { .. } => done.pruned = true,
        Step::Release | Step::Remove | Step::Adopt => done.ownership_done = true,
        _ => {}
    }
    // An attached act reports its end; the folder is checked.
    Ok(acted.folder.filter(|_| !matches!(step, Step::Attach(_))))
}

/// Reason and phase of a failure of this step.
pub(crate) fn reason_and_phase(step: &Step, error: &HostError) -> (Reason, Phase) {
    let part = match error {
        HostError::StepFailed { step, .. } => step.as_str(),
        _ => "",
    };
    match (step, part) {
        (Step::Update | Step::Attach(_), "switch") => (Reason::SwitchFailed, Phase::Switching),
        (Step::Update | Step::Attach(_), "start") => (Reason::StartFailed, Phase::Starting),
        (Step::Attach(_), "turn" | "stop" | "remove") | (Step::Stop | Step::Update | Step::Remove, _) => {
            (Reason::StopFailed, step.phase())
        }
        (Step::Switch, _) => (Reason::SwitchFailed, step.phase()),
        (Step::Start, _) => (Reason::StartFailed, step.phase()),
        (Step::Verify { .. } | Step::Mark { .. } | Step::Died, _) => (Reason::ProcessDied, step.phase()),
        _ => (Reason::HelperFailed, step.phase()),
    }
}

impl StepContext<'_> {
    fn target(&self) -> Result<&Target, StepError> {
        match &self.assignment.goal {
            Goal::Stage(target) | Goal::Run { target, .. } | Goal::Prune(target) | Goal::Claim(target) => Ok(target),
            Goal::Release | Goal::Remove | Goal::Adopt => {
                let message = "a step that needs a release was planned without one; this is a bug of landfall";
                Err(StepError::Failed(host_failed(Reason::InternalError, message, &[])))
            }
        }
    }

    /// Owner, fence token and view of an act.
    fn call(&self) -> Result<ActCall, StepError> {
        let fence = self.controller.shared.gate.token().map_err(HostError::from)?;
        let host_ref = self.host_ref;
        Ok(ActCall {
            folder: host_ref.folder(),
            owner: Owner {
                control_plane_id: self.controller.fleet.control_plane_id.clone(),
                namespace: host_ref.namespace.clone(),
                deployment: host_ref.deployment.clone(),
                uid: host_ref.uid.clone(),
                host: host_ref.host.clone(),
            },
            replaces: self.assignment.replaces.clone(),
            fence,
            act: ActId {
                uid: host_ref.uid.clone(),
                rollout: self.assignment.key.rollout.clone(),
                attempt: self.assignment.key.attempt,
                n: self.observed.folder.journal,
            },
        })
    }

    /// Stop logic belongs to the release that runs, not to the one that comes.
    async fn stop_spec(&self) -> StopSpec {
        let running: Option<&ProcessFacts> = self.observed.folder.process.as_ref();
        let record = match running {
            Some(process) => records::revision(self.controller, &process.uid, process.revision).await,
            None => None,
        };
        let run = record.map(|record| record.run);
        let grace = run.as_ref().map_or(10, |run| run.termination_grace_period_seconds);
        StopSpec {
            signal: run.map_or("TERM", |run| run.stop.signal.as_str()).to_owned(),
            grace: Duration::from_secs(u64::try_from(grace).unwrap_or(10)),
        }
    }
}

async fn stage(context: &StepContext<'_>) -> Result<Acted, StepError> {
    let target = context.target()?;
    let release = context.controller.store.release(&target.digest).await.map_err(|error| store_failure(&error))?;
    let absent = !context.observed.folder.releases.contains(&target.release);
    // The last check may be old: where it shows too little room, the host itself decides.
    let free = Some(context.free_bytes).filter(|free| absent && *free >= StageSpec::room_for(release.size));
    let spec = StageSpec {
        release: target.release.clone(),
        digest: release.digest,
        size: release.size,
        tar: release.tar,
        absent_with_free: free,
    };
    Ok(context.host.stage(&context.controller.shared.gate, &context.call()?, &spec).await?)
}

fn store_failure(error: &StoreError) -> StepError {
    StepError::Failed(host_failed(Reason::StoreUnavailable, &error.to_string(), &[]))
}

/// The host checks that the port is free when the old process is gone.
async fn update_spec(context: &StepContext<'_>) -> Result<UpdateSpec, StepError> {
    let (start, run_as) = start_spec(context)?;
    Ok(UpdateSpec { stop: context.stop_spec().await, start, run_as, port: context.target()?.port() })
}

/// Without a running process of this Deployment any answer on the port is foreign, also through a redirection (such as a cluster's
/// NodePort), where the host itself sees no socket.
async fn port_is_taken(context: &StepContext<'_>) -> Result<bool, StepError> {
    let idle = !context.observed.folder.process.as_ref().is_some_and(|process| process.alive);
    match context.target()?.port().filter(|_| idle) {
        Some(port) => Ok(!context.host.port_refuses(port).await?),
        None => Ok(false),
    }
}

/// The host checks in the same call that the socket which answered belongs to the process.
async fn mark(context: &StepContext<'_>, keep: &[ReleaseName]) -> Result<Acted, StepError> {
    let target = context.target()?;
    // Of the rollout that started the process: after a return to an earlier target the process is older than the rollout.
    let process = context.observed.folder.process.as_ref();
    let spec = MarkSpec {
        rollout: process.map_or_else(|| target.rollout.clone(), |process| process.rollout.clone()),
        port: target.port(),
        keep: keep.to_vec(),
        at_most: target.releases_kept,
    };
    match context.host.mark(&context.controller.shared.gate, &context.call()?, &spec).await {
        Err(HostError::StepFailed { .. }) => {
            Err(StepError::Failed(verify::died_in(context.host, &context.host_ref.folder()).await))
        }
        done => Ok(done?),
    }
}

/// A start alone, after an update found the port taken: a listener that stays is foreign and would answer the probe.
async fn start(context: &StepContext<'_>) -> Result<Acted, StepError> {
    if let Some(port) = context.target()?.port() {
        let mut tries = 0;
        while !context.host.port_refuses(port).await? {
            tries += 1;
            if tries >= PORT_TRIES {
                return Err(StepError::Failed(verify::port_in_use(port)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let (spec, run_as) = start_spec(context)?;
    Ok(context.host.start_as(&context.controller.shared.gate, &context.call()?, &spec, run_as.as_ref()).await?)
}

fn start_spec(context: &StepContext<'_>) -> Result<(StartSpec, Option<RunAs>), StepError> {
    let (target, host_ref) = (context.target()?, context.host_ref);
    let dial = context.controller.fleet.hosts.dial(&host_ref.host_key());
    let run_as = run_as(target, dial.as_ref())?;
    let address = dial.map(|dial| dial.address).unwrap_or_default();
    let spec = StartSpec {
        release: target.release.clone(),
        digest: target.digest.clone(),
        revision: target.revision,
        rollout: target.rollout.clone(),
        heal: matches!(context.assignment.goal, Goal::Run { heal: true, .. }),
        command: target.run.command().to_vec(),
        env: target.env_on(&host_ref.project, &host_ref.group, &host_ref.host, &address),
    };
    Ok((spec, run_as))
}

/// Only a user that the group allows, also for an older version; never another user instead.
fn run_as(target: &Target, dial: Option<&Dial>) -> Result<Option<RunAs>, StepError> {
    let Some(user) = &target.run.user else { return Ok(None) };
    let by = dial.map(|dial| dial.config.r#become.clone()).unwrap_or_default();
    match not_allowed(user, &by) {
        Some(why) => {
            let message = format!("version {}: {why}", target.version);
            Err(StepError::Failed(host_failed(Reason::UserNotAllowed, &message, &[])))
        }
        None => Ok(Some(RunAs { method: by.method, user: user.clone() })),
    }
}

async fn verify(context: &StepContext<'_>, pid: i64, start: u64, wanted: impl Fn() -> bool) -> Result<(), StepError> {
    let folder = context.host_ref.folder();
    let process = Process { folder: &folder, pid, start };
    match verify::verify(context.host, &process, context.target()?, wanted, |why| context.log.not_yet(why)).await? {
        Verified::Ready => Ok(()),
        Verified::Failed(failure) => Err(StepError::Failed(failure)),
        Verified::Superseded => Err(StepError::Superseded),
    }
}
