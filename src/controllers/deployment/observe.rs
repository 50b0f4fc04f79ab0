//! Everything that the planner of a Deployment is told, read into one struct. Failures that matter to it are data.

use std::collections::BTreeMap;

use kube::{ResourceExt, core::DeserializeGuard};

use super::records;
use crate::{
    api::{Deployment, HostGroup, Project},
    controllers::{
        frame::ReconcileError,
        hosts::{HostKey, HostWorkerKey},
        world::World,
    },
    model::{facts::HostFacts, ids::FolderName},
    plan::{
        deployment::{FolderCheck, FolderView, Group, HostObserved, Observed},
        hostgroup::{HostCheck, unfit},
    },
};

pub async fn observe(object: &Deployment, world: &World) -> Result<Observed, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let spec = object.spec.clone();
    let project = world.api::<DeserializeGuard<Project>>(&namespace).get_opt(&spec.project_ref.name).await?;
    // Where it can't be read nothing is removed.
    let kept = project.as_ref().map(|project| project.0.as_ref().map(|one| one.spec.retention.releases_per_host));
    let releases_kept = kept.and_then(Result::ok).and_then(|kept| usize::try_from(kept).ok()).unwrap_or(usize::MAX);
    let group_name = spec.host_group_ref.name.clone();
    let group = world.api::<HostGroup>(&namespace).get_opt(&group_name).await?;
    let group = group.map(|group| Group {
        env: group.spec.env.clone(),
        port: group.spec.ssh.port,
        hosts: group.spec.hosts.clone(),
        suspended: group.status.as_ref().map(|status| status.suspended.clone()).unwrap_or_default(),
        r#become: group.spec.r#become.clone(),
        secret: world.hosts.secret_failure(&namespace, &group_name),
    });
    let folder = FolderName::new(&namespace, &spec.project_ref.name);
    let mut hosts = BTreeMap::new();
    for host in group.iter().flat_map(|group| &group.hosts) {
        let key = HostKey::new(&namespace, &group_name, &host.name);
        hosts.insert(host.name.clone(), observe_host(world, &key, &uid, &folder));
    }
    let all = world.siblings.of(world, &namespace, &spec.project_ref.name).await?;
    let others = all.iter().filter(|other| other.uid != uid).cloned().collect();
    let known = world.hosts.workers.hosts_of(&uid);
    let left = known.into_iter().filter(|host| group.is_some() && !hosts.contains_key(host)).collect();
    Ok(Observed {
        name: object.name_any(),
        generation: object.metadata.generation.unwrap_or_default(),
        created: object.metadata.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
        deleted: object.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        annotations: object.annotations().clone(),
        status: object.status.clone(),
        control_plane_id: world.control_plane_id.clone(),
        token: world.gate.token().ok(),
        project: project.is_some(),
        releases_kept,
        group,
        version: records::version(world, &namespace, &spec.project_ref.name, &spec.version).await?,
        removed: records::removed(world, &namespace, &spec.project_ref.name, &spec.version).await?,
        hosts,
        others,
        records: records::revisions(world, &uid).await?,
        verdicts: records::verdicts(world, &uid).await?,
        left,
        spec,
        namespace,
        uid,
    })
}

fn observe_host(world: &World, key: &HostKey, uid: &str, folder: &FolderName) -> HostObserved {
    let turn = HostWorkerKey { uid: uid.to_owned(), host: key.host.clone() };
    let task = world.hosts.workers.task(&turn);
    // While our own task acts there, its last look is the newest there can be.
    let look = if task.is_some() { world.hosts.last_check(key) } else { world.hosts.check(key) };
    let look = match look {
        HostCheck::Unknown => FolderCheck::Unknown,
        HostCheck::Facts(facts) => FolderCheck::Facts(Box::new(folder_view(&facts, folder))),
        HostCheck::Failed(problem) => FolderCheck::Failed(problem),
    };
    HostObserved { look, task, healing: world.hosts.workers.healing(&turn) }
}

/// The part of a host's facts that is one project's.
pub fn folder_view(facts: &HostFacts, folder: &FolderName) -> FolderView {
    FolderView {
        folder: facts.folders.get(folder).cloned().unwrap_or_default(),
        boot_id: facts.boot_id.clone(),
        unfit: unfit(facts),
    }
}
