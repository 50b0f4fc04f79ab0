//! One step on one host: the planner's step becomes a task of `landfall-host`, and its end a result.

use std::time::Duration;

use landfall_host_protocol as protocol;
use protocol::{Author, Event, EventKind, Outcome, RunAsMethod, Secrets, StepName, Task};

use super::{
    bytes::{self, Wanted},
    configuration::{bring, configuration, drain, number},
    context::DeploymentContext,
    failure::{StepError, TaskFailure, host_failed, task_failed},
    host_ref::HostRef,
    rollout_log::RolloutLog,
    values,
};
use crate::{
    api::{
        Reason,
        deployment::Phase,
        hostgroup::BecomeMethod,
        project::{Hook, HookPoint},
    },
    controllers::hosts::Reach,
    effects::host::{self, HostError},
    fleet::{FleetError, Object, Order, Outcome as Done, Priority, Ticket, Work},
    model::{
        facts::{FailedAct, FolderFacts, OpenAct, ProcessFacts},
        ids::{FenceToken, Owner, ReleaseName},
        rollout::{ProcessId, RolloutId},
    },
    plan::deployment::{Assignment, FolderView, Goal, Step, StepProgress, Target, is_target, not_allowed},
};

/// How often it is looked at whether the goal is still the goal.
const GOAL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a session that was lost under an act is waited for: the fleet dials at once, and the planner decides without it after that.
const SESSION_PATIENCE: Duration = Duration::from_secs(5);

/// Input of a step, from its worker.
pub(crate) struct StepContext<'a> {
    pub controller: &'a DeploymentContext,
    pub host_ref: &'a HostRef,
    pub assignment: &'a Assignment,
    pub observed: &'a FolderView,
    pub log: &'a RolloutLog<'a>,
}

/// Performs one step; `done` takes what the host does not record, `pass` each phase. What is true after a task is known to the fleet.
pub(crate) async fn perform(
    context: &StepContext<'_>,
    step: &Step,
    done: &mut StepProgress,
    wanted: impl Fn() -> bool + Sync,
    pass: impl Fn(Phase) + Sync,
) -> Result<(), StepError> {
    let follow = Follow { context, wanted: &wanted, pass: &pass };
    let steps = match step {
        Step::Attach(open) => return follow.attach(open).await,
        Step::Died => return Err(StepError::Failed(died(context))),
        Step::Failed(failed) => return Err(unheard(context, failed)),
        Step::Overtaken | Step::Reached => return Ok(()),
        Step::Stage => vec![stage(context, *done, &wanted).await?],
        Step::StageAgain => {
            let stage = stage(context, *done, &wanted).await?;
            // A command of the release that was changed is not run.
            let asks = |step: &protocol::Step| matches!(step, protocol::Step::Drain(protocol::Drain::Http { .. }));
            drain_of_running(context).filter(asks).into_iter().chain([protocol::Step::Stop, stage]).collect()
        }
        Step::Stop => vec![protocol::Step::Stop],
        Step::Update => update(context)?,
        Step::Switch => after_start(context, true)?,
        Step::Verify => after_start(context, false)?,
        Step::Prune => vec![prune(context.target()?)?],
        // It does nothing; each task writes the owner file at its begin.
        Step::Claim => vec![protocol::Step::Settle { seconds: 0 }],
        Step::Release => vec![protocol::Step::GiveUp],
        Step::Remove => drain_of_running(context).into_iter().chain([protocol::Step::Remove]).collect(),
        Step::Adopt => vec![protocol::Step::Adopt],
    };
    let mut task = context.task(steps)?;
    // Read right before the act.
    let secrets = if task.steps.iter().any(has_configuration) {
        let target = context.target()?;
        let brought = values::for_task(context.controller, context.host_ref, target, !is_update(context)).await?;
        bring(&mut task.steps, &brought).ok_or_else(|| bug("a configuration can't be written"))?;
        brought.secrets
    } else if task.steps.iter().any(waits) {
        // It needs none, and tells what the application said last: without the values, where they can be had.
        let brought = values::for_task(context.controller, context.host_ref, context.target()?, true).await;
        brought.unwrap_or_default().secrets
    } else {
        Secrets::default()
    };
    follow.begin(&task, secrets).await.map_err(|error| bytes::or_whole(error, &task.steps, done))?;
    match step {
        Step::Update | Step::Switch | Step::Verify => {
            done.updated = true;
            done.pruned = true;
        }
        Step::Prune => done.pruned = true,
        Step::Release | Step::Remove | Step::Adopt => done.ownership_done = true,
        _ => {}
    }
    Ok(())
}

impl StepContext<'_> {
    fn folder(&self) -> Result<protocol::FolderName, StepError> {
        Ok(host::folder_name(&self.host_ref.folder())?)
    }

    /// Hands the host's worker something to do.
    fn order(&self, priority: Priority, work: Work) -> Result<Ticket, FleetError> {
        let order = Order { priority, work, patience: SESSION_PATIENCE };
        self.controller.hosts.submit(&self.host_ref.host_key(), order)
    }

    fn priority(&self) -> Priority {
        match &self.assignment.goal {
            Goal::Remove { .. } => Priority::Stop,
            Goal::Run { heal: true, .. } => Priority::Heal,
            Goal::Run { heal: false, .. } | Goal::Release | Goal::Adopt | Goal::Claim(_) => Priority::Update,
            Goal::Stage(_) | Goal::Prune(_) => Priority::Stage,
        }
    }

    fn target(&self) -> Result<&Target, StepError> {
        self.assignment.goal.target().ok_or_else(|| bug("a step that needs a release was planned without one"))
    }

    /// A task with owner, fence token and view.
    fn task(&self, steps: Vec<protocol::Step>) -> Result<Task, StepError> {
        let FenceToken { epoch, created, transitions } =
            self.controller.shared.gate.token().map_err(HostError::from)?;
        let host_ref = self.host_ref;
        Ok(Task {
            id: protocol::TaskId {
                uid: host_ref.uid.clone(),
                rollout: self.assignment.key.rollout.clone(),
                attempt: self.assignment.key.attempt,
                n: self.observed.folder.journal,
            },
            folder: self.folder()?,
            owner: protocol::Owner {
                control_plane_id: self.controller.hosts.control_plane_id.clone(),
                namespace: host_ref.namespace.clone(),
                deployment: host_ref.deployment.clone(),
                uid: host_ref.uid.clone(),
                host: host_ref.host.clone(),
            },
            replaces: self.assignment.replaces.as_ref().map(|owner| {
                let Owner { control_plane_id, namespace, deployment, uid, host } = owner.clone();
                protocol::Owner { control_plane_id, namespace, deployment, uid, host }
            }),
            fence: protocol::FenceToken { epoch, created, transitions },
            author: Author::Operator,
            steps,
        })
    }
}

fn has_configuration(step: &protocol::Step) -> bool {
    matches!(step, protocol::Step::Start(_) | protocol::Step::Hook { .. })
}

fn waits(step: &protocol::Step) -> bool {
    matches!(step, protocol::Step::WaitReady { .. } | protocol::Step::MinReady { .. })
}

fn bug(what: &str) -> StepError {
    StepError::Failed(host_failed(Reason::InternalError, &format!("{what}; this is a bug of landfall"), &[]))
}

fn release(name: &ReleaseName) -> Result<protocol::ReleaseName, StepError> {
    protocol::ReleaseName::parse(name.as_str()).ok_or_else(|| bug("a release has a name that no host takes"))
}

fn digest(target: &Target) -> Result<protocol::Digest, StepError> {
    protocol::Digest::parse(&target.digest).ok_or_else(|| bug("a release has a digest that is none"))
}

/// The bytes first, then the step that unpacks them.
async fn stage(
    context: &StepContext<'_>,
    done: StepProgress,
    wanted: &(dyn Fn() -> bool + Sync),
) -> Result<protocol::Step, StepError> {
    let target = context.target()?;
    let StepContext { controller, host_ref, log, observed, .. } = context;
    let delta_failed = done.delta_failed;
    let sought = Wanted { controller, host_ref, log, folder: &observed.folder, target, delta_failed };
    let bundle = sought.bundle().await?;
    for (sha256, size, payload) in bundle.objects() {
        let object = Object { sha256: sha256.clone(), size, payload: payload.clone() };
        let put = Work::Put { folder: context.folder()?, object };
        let putting = context.order(context.priority(), put)?.done();
        tokio::pin!(putting);
        loop {
            tokio::select! {
                done = &mut putting => {
                    done?;
                    break;
                }
                // Bytes may take long: whoever wants something else is not kept waiting. What came stays there.
                () = tokio::time::sleep(GOAL_INTERVAL) => {
                    if !wanted() {
                        return Err(StepError::Superseded);
                    }
                }
            }
        }
    }
    Ok(protocol::Step::Stage {
        release: release(&target.release)?,
        digest: digest(target)?,
        manifest: bundle.manifest.clone(),
        bundle: Some(bundle.bundle.clone()),
    })
}

/// How the application of the target runs on this host.
fn config(context: &StepContext<'_>, target: &Target) -> Result<protocol::Configuration, StepError> {
    let host_ref = context.host_ref;
    let reach = context.controller.hosts.reach(&host_ref.host_key());
    let run_as = run_as(target, reach.as_ref())?;
    let address = reach.map(|reach| reach.address).unwrap_or_default();
    let env = target.env_on(&host_ref.project, &host_ref.group, &host_ref.host, &address);
    configuration(target, env, run_as).ok_or_else(|| bug("a configuration can't be written"))
}

fn update(context: &StepContext<'_>) -> Result<Vec<protocol::Step>, StepError> {
    let target = context.target()?;
    let config = config(context, target)?;
    let (revision, redeploys) = started_for(context, target);
    let start = protocol::Start {
        release: release(&target.release)?,
        digest: digest(target)?,
        config: config.clone(),
        revision,
        redeploys,
        attempt: context.assignment.key.attempt,
    };
    let hooks = |at| hooks(context, target, &config, at);
    let mut steps = hooks(HookPoint::BeforeStop)?;
    steps.extend(drain_of_running(context));
    steps.push(protocol::Step::Stop);
    steps.extend(hooks(HookPoint::AfterStop)?);
    steps.push(protocol::Step::Switch { release: release(&target.release)? });
    steps.extend(hooks(HookPoint::BeforeStart)?);
    steps.push(protocol::Step::Start(Box::new(start)));
    steps.extend(after_start(context, false)?);
    Ok(steps)
}

/// How what serves there is taken out of service before it is stopped.
fn drain_of_running(context: &StepContext<'_>) -> Option<protocol::Step> {
    // What has ended since the decision, or was stopped by a step before, would fail its drain.
    let serves = context.observed.folder.process.as_ref().is_some_and(|process| process.alive);
    match &context.assignment.goal {
        Goal::Run { heal: false, drain: Some(of_running), .. } | Goal::Remove { drain: Some(of_running), .. }
            if serves =>
        {
            drain(of_running).map(protocol::Step::Drain)
        }
        _ => None,
    }
}

/// The hooks of one place in an update; none where a process is only started again.
fn hooks(
    context: &StepContext<'_>,
    target: &Target,
    config: &protocol::Configuration,
    at: HookPoint,
) -> Result<Vec<protocol::Step>, StepError> {
    if !is_update(context) {
        return Ok(Vec::new());
    }
    let step = |(name, hook): (String, &Hook)| {
        Ok(protocol::Step::Hook {
            name,
            release: release(&target.release)?,
            config: Box::new(config.clone()),
            command: hook.exec.clone(),
            timeout_seconds: number(hook.timeout_seconds),
        })
    };
    target.run.hooks_at(at).map(step).collect()
}

fn is_update(context: &StepContext<'_>) -> bool {
    matches!(context.assignment.goal, Goal::Run { heal: false, .. })
}

/// Revision and redeploy serial of a start: those of the rollout that is brought to the host. What is healed keeps its own, where the target
/// is the same: it had been ready for them, and is so still where an outside cause keeps it from coming up at once.
fn started_for(context: &StepContext<'_>, target: &Target) -> (i64, i64) {
    let process = context.observed.folder.process.as_ref();
    let process = process.filter(|process| !is_update(context) && is_target(process, target));
    let own = process.and_then(|process| RolloutId::read(&process.rollout));
    match own.or_else(|| RolloutId::read(&target.rollout)) {
        Some(id) => (id.revision, id.serial),
        None => (target.revision, 0),
    }
}

fn after_start(context: &StepContext<'_>, switch: bool) -> Result<Vec<protocol::Step>, StepError> {
    let target = context.target()?;
    let config = if target.run.hooks.is_empty() { None } else { Some(config(context, target)?) };
    let hooks = |at| config.as_ref().map_or(Ok(Vec::new()), |config| hooks(context, target, config, at));
    let mut steps = Vec::new();
    if switch {
        steps.push(protocol::Step::Switch { release: release(&target.release)? });
    }
    steps.extend(hooks(HookPoint::AfterStart)?);
    steps.push(protocol::Step::WaitReady { timeout_seconds: number(target.run.healthy_deadline_seconds) });
    steps.extend(hooks(HookPoint::AfterReady)?);
    if is_update(context) && target.min_ready_seconds > 0 {
        steps.push(protocol::Step::MinReady { seconds: number(target.min_ready_seconds) });
    }
    if is_update(context) {
        steps.push(prune(target)?);
    }
    Ok(steps)
}

fn prune(target: &Target) -> Result<protocol::Step, StepError> {
    Ok(protocol::Step::Prune { keep: vec![release(&target.release)?], at_most: target.releases_kept })
}

/// Only a user that the group allows, also for an older version; never another user instead.
fn run_as(target: &Target, reach: Option<&Reach>) -> Result<Option<protocol::RunAs>, StepError> {
    let Some(user) = &target.run.user else { return Ok(None) };
    let by = reach.map(|reach| reach.config.r#become.clone()).unwrap_or_default();
    if let Some(why) = not_allowed(user, &by) {
        let message = format!("version {}: {why}", target.version);
        return Err(StepError::Failed(host_failed(Reason::UserNotAllowed, &message, &[])));
    }
    let method = match by.method {
        BecomeMethod::None => return Ok(None),
        BecomeMethod::Sudo => RunAsMethod::Sudo,
        BecomeMethod::Su => RunAsMethod::Su,
    };
    Ok(Some(protocol::RunAs { method, user: user.clone() }))
}

fn died(context: &StepContext<'_>) -> crate::model::Failure {
    let end = context.observed.folder.process.as_ref().and_then(|process| process.end.as_ref());
    let end = end.map_or("ended, and nobody saw how", |end| end.text.as_str());
    let was_ready = context.observed.folder.ready.is_some();
    let when = if was_ready { "right after it was ready" } else { "before it was ready" };
    let message = format!("the process ended {when}: it {end}; its output is in shared/log on the host");
    host_failed(Reason::ProcessDied, &message, &[])
}

/// What the host says of a task whose end nobody heard: it counts as if somebody had.
fn unheard(context: &StepContext<'_>, failed: &FailedAct) -> StepError {
    let step = match failed.step.as_str() {
        "hook" => StepName::Hook,
        "drain" => StepName::Drain,
        _ => StepName::MinReady,
    };
    let (phase, process) = failed_at(step, context.observed.folder.process.as_ref(), &failed.rollout);
    StepError::Task(Box::new(TaskFailure { failure: host_failed(failed.reason, &failed.why, &[]), phase, process }))
}

/// Phase of a host whose task failed in this step, and the process of its rollout that lives all the same.
fn failed_at(step: StepName, process: Option<&ProcessFacts>, rollout: &str) -> (Phase, Option<ProcessId>) {
    // A hook before the start leaves the process of before in peace.
    let phase = match process {
        Some(process) if step == StepName::Hook && process.rollout == rollout => Phase::Verifying,
        _ => phase(step),
    };
    let process = process.filter(|process| process.alive && phase == Phase::Verifying);
    (phase, process.map(ProcessFacts::id))
}

/// Phase of a host during a step of a task.
fn phase(step: StepName) -> Phase {
    match step {
        StepName::Stage => Phase::Staging,
        StepName::Switch => Phase::Switching,
        StepName::Start => Phase::Starting,
        StepName::WaitReady | StepName::MinReady | StepName::Register => Phase::Verifying,
        StepName::Prune => Phase::Ready,
        StepName::Hook
        | StepName::Drain
        | StepName::Settle
        | StepName::Stop
        | StepName::GiveUp
        | StepName::Remove
        | StepName::Adopt
        | StepName::Undo
        | StepName::Unknown => Phase::Stopping,
    }
}

/// A task that is followed to its end.
struct Follow<'a> {
    context: &'a StepContext<'a>,
    wanted: &'a (dyn Fn() -> bool + Sync),
    pass: &'a (dyn Fn(Phase) + Sync),
}

impl Follow<'_> {
    async fn begin(&self, task: &Task, secrets: Secrets) -> Result<(), StepError> {
        let work = Work::Task { task: Box::new(task.clone()), secrets };
        let ticket = self.context.order(self.context.priority(), work)?;
        self.to_its_end(ticket, &task.id, true).await
    }

    /// A task of an earlier rollout or attempt, which the host would do for nothing, ends at its next step. One of a person is waited for.
    async fn attach(&self, open: &OpenAct) -> Result<(), StepError> {
        let key = &self.context.assignment.key;
        let same = open.uid == self.context.host_ref.uid && open.rollout == key.rollout && open.attempt == key.attempt;
        // A host that is to be given up or removed waits for no update.
        let own = same && self.context.assignment.goal.target().is_some();
        let id = host::task_id(open);
        let work = Work::Attach { folder: self.context.folder()?, task: id.clone(), offset: 0 };
        let ticket = self.context.order(self.context.priority(), work)?;
        if !own && !open.is_by_hand() {
            self.cancel(&id).await?;
        }
        match self.to_its_end(ticket, &id, own).await {
            // What another act failed in is no failure of this one.
            Err(StepError::Task(_)) if !own => Ok(()),
            Err(StepError::Superseded) if !own => Ok(()),
            done => done,
        }
    }

    async fn cancel(&self, id: &protocol::TaskId) -> Result<(), StepError> {
        let work = Work::Cancel { folder: self.context.folder()?, task: id.clone() };
        let ticket = self.context.order(Priority::Stop, work)?;
        match ticket.done().await.map_err(StepError::from) {
            // It has ended.
            Ok(_) | Err(StepError::Host(HostError::Lost { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn to_its_end(&self, mut ticket: Ticket, id: &protocol::TaskId, own: bool) -> Result<(), StepError> {
        let (mut waits, mut cancelled) = (false, false);
        loop {
            let news = tokio::select! {
                news = ticket.events() => news,
                () = tokio::time::sleep(GOAL_INTERVAL) => {
                    if waits && own && !cancelled && !(self.wanted)() {
                        cancelled = true;
                        self.cancel(id).await?;
                    }
                    continue;
                }
            };
            let Some((_, events)) = news else { break };
            for event in &events {
                waits = matches!(event.step, StepName::Settle | StepName::WaitReady | StepName::MinReady);
                self.take(event);
            }
        }
        match ticket.done().await? {
            Done::Ended { result, folder } => {
                let rollout = &self.context.assignment.key.rollout;
                ended(&result.outcome, folder.as_deref().map(host::folder_facts), rollout)
            }
            Done::Done => Err(HostError::Lost { what: "the end of a task".to_owned() }.into()),
        }
    }

    fn take(&self, event: &Event) {
        if event.kind == EventKind::Begun {
            (self.pass)(phase(event.step));
        }
        self.context.log.event(event);
    }
}

/// `rollout`: that the task was for.
fn ended(outcome: &Outcome, folder: Option<FolderFacts>, rollout: &str) -> Result<(), StepError> {
    let failure = match outcome {
        Outcome::Succeeded => return Ok(()),
        Outcome::Cancelled => return Err(StepError::Superseded),
        Outcome::Failed(failure) => failure,
        Outcome::Unknown(later) => {
            let why = format!("its program says of a task `{later}`, which this version of landfall does not know");
            return Err(HostError::Failed { why }.into());
        }
    };
    match failure.reason {
        protocol::Reason::Lost => return Err(HostError::Lost { what: failure.why.clone() }.into()),
        // It counts as absent from now on, so the next step stages it again.
        protocol::Reason::ReleaseTampered => return Err(HostError::Tampered { why: failure.why.clone() }.into()),
        _ => {}
    }
    let process = folder.as_ref().and_then(|folder| folder.process.as_ref());
    let (phase, process) = failed_at(failure.step, process, rollout);
    Err(StepError::Task(Box::new(TaskFailure { failure: task_failed(failure), phase, process })))
}
