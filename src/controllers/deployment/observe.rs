//! Observation: the input of a Deployment's planner, in one struct. Failures that matter to it are data.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, core::DeserializeGuard};

use super::{
    context::DeploymentContext,
    group_updates,
    recent_reads::{Moment, Reads},
    records, values,
};
use crate::{
    api::{Deployment, FINALIZER, HostGroup, Project, Reason, conditions::clip, deployment::DeploymentSpec, verbs},
    controllers::{
        frame::ReconcileError,
        hosts::{HostKey, HostWorkerKey},
    },
    effects::clock,
    model::{Class, Failure, facts::HostFacts, ids::FolderName},
    plan::{
        deployment::{FolderCheck, FolderView, Group, Healing, HostObserved, Observed, VersionObserved, references},
        hostgroup::{HostCheck, unfit},
    },
};

/// Length of a failure's message.
const MESSAGE_BYTES: usize = 1500;

pub async fn observe(object: &Deployment, context: &DeploymentContext) -> Result<Observed, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let spec = object.spec.clone();
    let group_name = spec.host_group_ref.name.clone();
    let Reads { project, group, siblings: all } = reads(object, context).await?;
    // An unreadable Project removes no release.
    let releases_kept = project.flatten().and_then(|kept| usize::try_from(kept).ok()).unwrap_or(usize::MAX);
    let updates_elsewhere = match &group {
        Some(group) => group_updates::elsewhere(object, group, context).await?,
        None => BTreeMap::new(),
    };
    let group = group.map(|group| Group {
        annotations: group.annotations().clone(),
        deleting: group.metadata.deletion_timestamp.is_some(),
        held: group.finalizers().iter().any(|name| name == FINALIZER) || group.metadata.deletion_timestamp.is_some(),
        env: group.spec.env.clone(),
        keep_secrets_on_host: group.spec.keep_secrets_on_host,
        port: group.spec.ssh.port,
        jump: group.spec.ssh.jump.clone(),
        hosts: group.spec.hosts.clone(),
        suspended: group.status.as_ref().map(|status| status.suspended.clone()).unwrap_or_default(),
        min_available: group.spec.min_available.clone(),
        r#become: group.spec.r#become.clone(),
        secret: context.hosts.secret_failure(&namespace, &group_name),
    });
    let folder = FolderName::new(&namespace, &spec.project_ref.name);
    // Before anything is read of them: what changes from now on wakes it.
    context.hosts.note_user(&namespace, &object.name_any(), &group_name, &folder);
    let attempt =
        object.status.as_ref().and_then(|status| status.rollout.as_ref()).map_or(1, |rollout| rollout.attempt);
    let mut hosts = BTreeMap::new();
    for host in group.iter().flat_map(|group| &group.hosts) {
        let key = HostKey::new(&namespace, &group_name, &host.name);
        hosts.insert(host.name.clone(), observe_host(context, &key, &uid, &folder, attempt));
    }
    let version = records::version(context, &namespace, &spec.project_ref.name, &spec.version).await?;
    let pinned = pinned(context, &namespace, &spec).await?;
    let references = match &group {
        Some(group) if object.metadata.deletion_timestamp.is_none() => {
            let pinned = pinned.values().filter_map(|seen| seen.record.as_ref());
            version.iter().chain(pinned).flat_map(|version| references(&spec, group, version)).collect()
        }
        _ => Vec::new(),
    };
    let place = values::Place { namespace: &namespace, project: &spec.project_ref.name };
    let values = values::seen(context, &place, object, &references).await?;
    let siblings = all.iter().filter(|other| other.uid != uid).cloned().collect();
    let known = context.hosts.workers.hosts_of(&uid);
    // Without a group the latter are the only hosts known.
    let (acted, unlisted) = known.into_iter().partition(|host| hosts.contains_key(host));
    Ok(Observed {
        name: object.name_any(),
        generation: object.metadata.generation.unwrap_or_default(),
        created: object.metadata.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
        deleted: object.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        annotations: annotations(object, context),
        status: object.status.clone(),
        control_plane_id: context.hosts.control_plane_id.clone(),
        token: context.shared.gate.token().ok(),
        namespace_terminating: context.shared.gate.namespace_deleting(),
        project: project.is_some(),
        releases_kept,
        group,
        version,
        pinned,
        version_removed: records::version_removed(context, &namespace, &spec.project_ref.name, &spec.version).await?,
        values,
        updates_elsewhere,
        hosts,
        siblings,
        records: records::revisions(context, &uid).await?,
        failures: records::failures(context, &uid).await?,
        acted,
        unlisted,
        spec,
        namespace,
        uid,
    })
}

/// The versions that pins name.
async fn pinned(
    context: &DeploymentContext,
    namespace: &str,
    spec: &DeploymentSpec,
) -> Result<BTreeMap<String, VersionObserved>, ReconcileError> {
    let project = &spec.project_ref.name;
    let mut pinned = BTreeMap::new();
    for version in spec.pins.iter().map(|pin| &pin.version) {
        let record = records::version(context, namespace, project, version).await?;
        let removed = records::version_removed(context, namespace, project, version).await?;
        pinned.insert(version.clone(), VersionObserved { record, removed });
    }
    Ok(pinned)
}

/// Its own, and the verb that those who lead are given for all Deployments.
fn annotations(object: &Deployment, context: &DeploymentContext) -> BTreeMap<String, String> {
    let mut annotations = object.annotations().clone();
    annotations.remove(verbs::ADOPT_ALL);
    annotations.extend(context.shared.gate.adopt_all().map(|value| (verbs::ADOPT_ALL.to_owned(), value)));
    annotations
}

/// The objects that it depends on. While nothing but its hosts has changed, those of a moment ago.
async fn reads(object: &Deployment, context: &DeploymentContext) -> Result<Reads, ReconcileError> {
    let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid().unwrap_or_default());
    let shared = &context.shared;
    let moment = Moment {
        generation: object.metadata.generation.unwrap_or_default(),
        changes: shared.requeue.changes().of(&namespace),
    };
    let begun = clock::monotonic();
    let recent = context.recent_reads.get(&uid, moment, begun);
    if let Some(reads) = recent.filter(|_| object.metadata.deletion_timestamp.is_none()) {
        return Ok(reads);
    }
    let project = &object.spec.project_ref.name;
    let found = shared.api::<DeserializeGuard<Project>>(&namespace).get_opt(project).await?;
    let group = shared.api::<HostGroup>(&namespace).get_opt(&object.spec.host_group_ref.name).await?;
    let reads = Reads {
        project: found.map(|found| found.0.ok().map(|project| project.spec.retention.releases_per_host)),
        group: group.map(Arc::new),
        siblings: context.siblings.of(shared, &namespace, project).await?,
    };
    context.recent_reads.keep(&uid, moment, reads.clone(), begun);
    Ok(reads)
}

fn observe_host(
    context: &DeploymentContext,
    key: &HostKey,
    uid: &str,
    folder: &FolderName,
    attempt: i64,
) -> HostObserved {
    let worker = HostWorkerKey { uid: uid.to_owned(), host: key.host.clone() };
    let task = context.hosts.workers.task(&worker);
    let (healing, heal_failure) = context.hosts.workers.healing(&worker);
    let (check, told_at) = context.hosts.check_and_time(key);
    let by_keeper = match (&check, told_at) {
        (HostCheck::Facts(facts), Some(at)) => kept(facts, folder, attempt, at),
        _ => None,
    };
    let check = match check {
        HostCheck::Unknown => FolderCheck::Unknown,
        HostCheck::Facts(facts) => FolderCheck::Facts(Box::new(folder_view(&facts, folder))),
        HostCheck::Failed(problem) => FolderCheck::Failed(problem),
    };
    let slow = context.hosts.workers.slow_upload(&worker);
    let (healing, heal_failure) =
        by_keeper.map_or((healing, heal_failure), |(healing, failure)| (Some(healing), failure));
    HostObserved { check, task, healing, heal_failure, slow, tries: context.hosts.workers.tries(&worker) }
}

/// What the keeper did to heal: a process that it started again at least once, and how the last try ended while it waits for the next; or
/// that it can't start it, for what is left of it. `at`: when the uptime was so.
fn kept(facts: &HostFacts, folder: &FolderName, attempt: i64, at: Timestamp) -> Option<(Healing, Option<Failure>)> {
    let process = facts
        .folders
        .get(folder)?
        .process
        .as_ref()
        .filter(|process| process.restarts > 0 || !process.survivors.is_empty())?;
    let end = process.end.as_ref()?;
    // Told piece by piece, an end may be newer than the uptime.
    let ago = i64::try_from(facts.uptime).ok()? - i64::try_from(end.at).ok()?;
    let last = at.checked_sub(SignedDuration::from_secs(ago)).ok()?;
    let message = match process.survivors.as_str() {
        "" => format!("the process ended: it {}", end.text),
        survivors => format!(
            "it is not started beside what it left: {survivors}; the SSH user may not end that, so end it there as root"
        ),
    };
    let failure =
        process.kept.then(|| Failure::new(Reason::ProcessDied, Class::Transient, clip(&message, MESSAGE_BYTES)));
    Some((Healing { starts: process.restarts.max(1), last, attempt }, failure))
}

/// The facts of a host for one project.
pub(crate) fn folder_view(facts: &HostFacts, folder: &FolderName) -> FolderView {
    FolderView {
        folder: facts.folders.get(folder).cloned().unwrap_or_default(),
        boot_id: facts.boot_id.clone(),
        unfit: unfit(facts),
    }
}
