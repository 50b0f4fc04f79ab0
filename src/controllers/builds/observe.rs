//! Everything that a decision about a Build needs, read freshly. It must not decide, nor ask git.

use crate::model::Failure;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    context::BuildContext,
    records,
    registry::{self, Slot},
};
use crate::{
    api::{Build, Project, build::QueuePlace},
    controllers::{error::ReconcileError, object::observed_object, records::read_json},
    effects::{
        executor::{self, AttemptId, StepState},
        store::keys,
    },
    model::{names::Version, version::VersionRecord},
    plan::builds::{
        FormerVersion, Observed, ProjectObserved, ScriptEnd, Step, VersionOwner,
        stage::{self, BuildStage},
    },
};

/// How many lines of a failed script are shown.
const LAST_LINES: usize = 20;

pub(super) async fn observe(build: &Build, context: &BuildContext) -> Result<Observed, ReconcileError> {
    let (namespace, uid) = (build.namespace().unwrap_or_default(), build.uid().unwrap_or_default());
    let project_name = &build.spec.project_ref.name;
    let project = context.shared.api::<Project>(&namespace).get_opt(project_name).await?;
    let status = build.status.clone().filter(|status| status.observed_generation > 0);
    let open = stage::of(build) != BuildStage::Ended && build.metadata.deletion_timestamp.is_none();
    if !open {
        context.builds.leave_queue(&namespace, project_name, &uid);
    }
    let place = context.builds.place(&namespace, project_name, &uid);
    let mut observed = Observed {
        object: observed_object(build, build.spec.clone(), status),
        operator: context.shared.user.clone(),
        project: project.map(needed),
        denied: place.as_ref().and_then(|place| place.denied.clone()),
        place: place
            .filter(|place| place.position > 0)
            .map(|place| QueuePlace { position: place.position, waiting_for: place.waiting_for }),
        resolved: None,
        plan: None,
        ends: vec![],
        release: None,
        version_owner: None,
        former_versions: vec![],
        step: Step::Absent,
        working: false,
        watched: false,
        cancelling: false,
        prepared: None,
        tagged: false,
        retry_state: None,
        leftovers: false,
    };
    stored(&mut observed, &namespace, context).await?;
    observed.step = step(&observed, context).await?;
    remembered(&mut observed, context);
    if stage::of(build) == BuildStage::Early && observed.plan.is_none() {
        observed.former_versions = former_versions(&observed, context).await?;
    }
    let last =
        observed.object.status.iter().flat_map(|status| &status.attempts).rfind(|attempt| attempt.outcome.is_some());
    // A deletion that is running is not started a second time.
    if let Some(number) = last.map(|last| last.number).filter(|_| !context.tasks.running(&registry::cleanup_key(&uid)))
    {
        observed.leftovers = context.executor.has_leftovers(&uid, number).await.map_err(Failure::from)?;
    }
    context.builds.set_open(&namespace, project_name, &build.name_any(), open);
    if !open {
        context.builds.drop_build(&uid);
    }
    Ok(observed)
}

fn needed(project: Project) -> ProjectObserved {
    ProjectObserved {
        parameters: project.spec.build.parameters,
        tag: project.spec.build.tag,
        resources: project.spec.build.resources,
        active: project.status.and_then(|status| status.active_build).map(|active| active.uid),
    }
}

async fn stored(observed: &mut Observed, namespace: &str, context: &BuildContext) -> Result<(), Failure> {
    observed.plan = records::plan(&context.store, &observed.object.uid).await?;
    let version = match &observed.plan {
        Some(plan) => {
            observed.ends = records::ends(&context.store, &observed.object.uid).await?;
            observed.release = records::release(&context.store, &observed.object.uid).await?;
            Some(plan.version.clone())
        }
        None => observed.object.spec.tag.clone(),
    };
    let Some(version) = version.filter(|version| version.parse::<Version>().is_ok()) else { return Ok(()) };
    let key = keys::version(namespace, &observed.object.spec.project_ref.name, &version)?;
    let record: Option<VersionRecord> = read_json(&context.store, &key).await?;
    observed.version_owner =
        record.map(|record| VersionOwner { uid: record.build_uid, build: record.build, commit: record.commit });
    Ok(())
}

/// Versions of this project that a Build of this name published. Before the commit is known nobody asks.
async fn former_versions(observed: &Observed, context: &BuildContext) -> Result<Vec<FormerVersion>, Failure> {
    let commit =
        observed.resolved.as_ref().or(observed.object.status.as_ref().and_then(|status| status.commit.as_ref()));
    if commit.is_none() {
        return Ok(vec![]);
    }
    let (namespace, project) = (&observed.object.namespace, &observed.object.spec.project_ref.name);
    let mut former = Vec::new();
    for key in context.store.list(&keys::versions(namespace, project)?).await? {
        let Some(record) = read_json::<VersionRecord>(&context.store, &key).await? else { continue };
        if record.build != observed.object.name || record.build_uid == observed.object.uid {
            continue;
        }
        let expired = context.store.get(&keys::removed(namespace, project, &record.version)?).await?.is_some();
        former.push(FormerVersion {
            version: record.version,
            commit: record.commit,
            uid: record.build_uid,
            digest: record.digest,
            built_at: record.built_at,
            expired,
            parameters: record.parameters,
        });
    }
    Ok(former)
}

/// What the executor knows of the attempt that is named and not ended.
async fn step(observed: &Observed, context: &BuildContext) -> Result<Step, Failure> {
    let last = observed.object.status.iter().flat_map(|status| &status.attempts).next_back();
    let Some(last) = last.filter(|last| last.outcome.is_none()) else { return Ok(Step::Absent) };
    let attempt = AttemptId::new(observed.object.uid.clone(), last.number);
    Ok(match context.executor.state(&attempt).await? {
        StepState::Absent => Step::Absent,
        StepState::Running { log_bytes, .. } => Step::Running { log_bytes: signed(log_bytes) },
        StepState::Lost { .. } => Step::Lost,
        StepState::Exited(exit) => {
            let failed = !exit.succeeded();
            let lines = if failed { context.executor.last_lines(&attempt, LAST_LINES).await? } else { vec![] };
            Step::Exited(ended(exit, lines))
        }
    })
}

fn ended(exit: executor::Exit, lines: Vec<String>) -> ScriptEnd {
    ScriptEnd {
        reason: exit.reason,
        code: exit.code,
        message: exit.message,
        at: whole_seconds(exit.at),
        log_bytes: signed(exit.log_bytes),
        last_lines: lines.into_iter().map(|line| crate::api::conditions::clip(&line, 256)).collect(),
    }
}

/// What stands in a status must read the same after a round trip through the API server.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn remembered(observed: &mut Observed, context: &BuildContext) {
    let known = context.builds.known(&observed.object.uid);
    observed.working = known.runs(Slot::Work).is_some();
    observed.watched = known.runs(Slot::Watch).is_some();
    observed.cancelling = known.runs(Slot::Cancel).is_some();
    observed.resolved = known.resolved;
    observed.prepared = known.prepared;
    observed.tagged = known.tagged;
    observed.retry_state = known.retry_state;
}
