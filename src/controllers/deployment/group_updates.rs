//! Updates of the other Deployments of a group, where the group has a `minAvailable`: read from the ledger and from the hosts, and
//! granted there. It must not decide how many hosts may be away.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};

use super::context::DeploymentContext;
use crate::{
    api::{Deployment, HostGroup, deployment::DeploymentStatus},
    controllers::{
        frame::{ReconcileError, Shared},
        hosts::{Answer, GroupName, HostKey, Request},
    },
    model::ids::{FenceToken, FolderName},
    plan::{
        Plan,
        deployment::{Action, Observed, in_update, is_in_update, waits_for_others},
        min_available::{Grant, HostsInUpdate},
    },
};

/// Deployments that go while a list of them is made: it is made again so often, then by the next decision.
const LISTS_MAX: u32 = 5;

/// Hosts of a group that are in an update of others, seen from one Deployment.
pub(super) async fn elsewhere(
    object: &Deployment,
    group: &HostGroup,
    context: &DeploymentContext,
) -> Result<HostsInUpdate, ReconcileError> {
    if group.spec.min_available.is_none() || context.shared.gate.namespace_deleting() {
        return Ok(HostsInUpdate::new());
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let term = context.shared.gate.token()?;
    let page = (namespace.clone(), group.name_any());
    let uid = object.uid().unwrap_or_default();
    let granted = granted(&page, &term, (&uid, &name), context).await?;
    let named = |names: BTreeSet<String>| names.into_iter().map(|name| format!("Deployment {name}")).collect();
    let mut all: HostsInUpdate = granted.into_iter().map(|(host, names)| (host, named(names))).collect();
    // Tasks are the hosts' own word: also of a Deployment that is gone, or whose status was lost.
    let own = FolderName::new(&namespace, &object.spec.project_ref.name);
    for host in &group.spec.hosts {
        let projects = projects_in_update(context, &HostKey::new(&namespace, &page.1, &host.name), &own);
        if !projects.is_empty() && !all.contains_key(&host.name) {
            all.insert(host.name.clone(), projects);
        }
    }
    Ok(all)
}

/// What the others were granted, once that is known of all.
async fn granted(
    page: &GroupName,
    term: &FenceToken,
    (uid, name): (&str, &str),
    context: &DeploymentContext,
) -> Result<HostsInUpdate, ReconcileError> {
    let ledger = &context.hosts.ledger;
    for _ in 0..LISTS_MAX {
        if let Some(others) = ledger.others(page, term, uid, name) {
            return Ok(others);
        }
        let Some(begun) = ledger.begin_seed(page, term) else { break };
        let recorded = recorded(&context.shared, page).await?;
        ledger.seed(page, term, begun, recorded);
    }
    Err(ReconcileError::Outdated)
}

/// Updates on record of all Deployments of the group, from the fields that matter here: the rest may be of a later version.
async fn recorded(shared: &Shared, (namespace, group): &GroupName) -> Result<Vec<(String, Grant)>, ReconcileError> {
    let resource = ApiResource::erase::<Deployment>(&());
    let api = Api::<DynamicObject>::namespaced_with(shared.client.clone(), namespace, &resource);
    let of = ListParams::default().fields(&format!("spec.hostGroupRef.name={group}"));
    Ok(api.list(&of).await?.iter().map(|one| (one.uid().unwrap_or_default(), grant_on_record(one))).collect())
}

fn grant_on_record(one: &DynamicObject) -> Grant {
    let hosts = one.data.pointer("/status/rollout/intent/updating").and_then(|hosts| hosts.as_array());
    let names = hosts.into_iter().flatten().filter_map(|host| host.as_str());
    Grant { deployment: one.name_any(), hosts: names.map(str::to_owned).collect() }
}

/// Projects that have a step of an update under way on this host.
fn projects_in_update(context: &DeploymentContext, key: &HostKey, own: &FolderName) -> BTreeSet<String> {
    let folders = context.hosts.folders_that(key, is_in_update);
    let others = folders.iter().filter(|folder| *folder != own);
    let projects = others.filter_map(|folder| folder.as_str().split_once('.'));
    projects.map(|(_, project)| format!("Project {project}")).collect()
}

/// Before a plan is put on record. Refused where another Deployment was granted a host that the plan does not count.
pub(super) fn grant(
    observed: &Observed,
    plan: &Plan<DeploymentStatus, Action>,
    context: &DeploymentContext,
) -> Result<(), ReconcileError> {
    // Nothing is done on hosts then, and the term is that of no lease.
    if context.shared.gate.namespace_deleting() {
        return Ok(());
    }
    let term = context.shared.gate.token()?;
    let group = observed.spec.host_group_ref.name.clone();
    let has_limit = observed.group.as_ref().is_some_and(|group| group.min_available.is_some());
    let grant = Grant { deployment: observed.name.clone(), hosts: in_update(observed, plan) };
    let request = Request {
        uid: &observed.uid,
        grant,
        counted: has_limit.then_some(&observed.updates_elsewhere),
        waits: has_limit && waits_for_others(plan),
    };
    match context.hosts.ledger.request(&(observed.namespace.clone(), group), &term, request) {
        Answer::Refused => Err(ReconcileError::Outdated),
        Answer::Granted { wake } => {
            wake_all(context, &observed.namespace, &wake);
            Ok(())
        }
    }
}

/// The Deployment is gone.
pub(super) fn forget(object: &Deployment, context: &DeploymentContext) {
    let namespace = object.namespace().unwrap_or_default();
    let page = (namespace.clone(), object.spec.host_group_ref.name.clone());
    let wake = context.hosts.ledger.forget(&page, &object.uid().unwrap_or_default());
    wake_all(context, &namespace, &wake);
}

fn wake_all(context: &DeploymentContext, namespace: &str, deployments: &[String]) {
    for deployment in deployments {
        context.shared.requeue.deployment(namespace, deployment);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn on_record(status: &Value) -> Grant {
        let object = json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": { "name": "shop", "uid": "uid-0" }, "status": status,
        });
        grant_on_record(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn updates_on_record_are_read_whatever_else_a_status_says() {
        let intent = json!({ "rollout": { "id": 7, "intent": { "updating": ["web-01", 3, "web-02"], "later": {} } } });
        assert_eq!(on_record(&intent).hosts, ["web-01".to_owned(), "web-02".to_owned()].into());
        assert_eq!(on_record(&intent).deployment, "shop");
        assert!(on_record(&json!(null)).hosts.is_empty());
        assert!(on_record(&json!({ "rollout": "?" })).hosts.is_empty());
    }
}
