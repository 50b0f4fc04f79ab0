//! Machines that the Deployments of a project select. A caller gets a list that was begun after its call, never an older one; calls
//! during a list share the next one. So a thousand Deployments of one project that wake together list each other a few times, not a
//! thousand times. Nothing is kept. It must not decide which Deployment a machine belongs to.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::DeserializeGuard,
};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    api::{Deployment, HostGroup, deployment::HostSelection},
    controllers::frame::{self, ReconcileError},
    effects::clock,
    model::ids::ProjectKey,
    plan::deployment::{SiblingDeployment, select},
};

/// How long a reconcile waits for the list of another one; then it lists by itself.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct SiblingSelections(Mutex<HashMap<ProjectKey, Arc<SharedList<Vec<SiblingDeployment>>>>>);

impl SiblingSelections {
    /// Of all Deployments of this project, the caller's included.
    pub async fn of(
        &self,
        frame: &frame::Shared,
        namespace: &str,
        project: &str,
    ) -> Result<Arc<Vec<SiblingDeployment>>, ReconcileError> {
        let shared = {
            let mut all = self.0.lock();
            all.retain(|_, shared| Arc::strong_count(shared) > 1 || shared.is_held());
            all.entry(ProjectKey::new(namespace, project)).or_default().clone()
        };
        shared.newer(LIST_TIMEOUT, list(frame, namespace, project)).await
    }
}

/// Start of the newest list, and the list while a caller still holds it.
struct SharedList<T>(tokio::sync::Mutex<Option<(Instant, Weak<T>)>>);

impl<T> Default for SharedList<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T> SharedList<T> {
    /// A list that was begun after this call: of another caller, or of `list`.
    async fn newer<E>(&self, timeout: Duration, list: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let requested_at = clock::monotonic();
        let Ok(mut newest) = tokio::time::timeout(timeout, self.0.lock()).await else {
            return Ok(Arc::new(list.await?));
        };
        let other =
            newest.as_ref().filter(|(began, _)| *began >= requested_at).and_then(|(_, listed)| listed.upgrade());
        if let Some(listed) = other {
            return Ok(listed);
        }
        let began = clock::monotonic();
        let listed = Arc::new(list.await?);
        *newest = Some((began, Arc::downgrade(&listed)));
        Ok(listed)
    }

    /// A caller holds the list, or waits for it.
    fn is_held(&self) -> bool {
        let Ok(newest) = self.0.try_lock() else { return true };
        newest.as_ref().is_some_and(|(_, listed)| listed.strong_count() > 0)
    }
}

async fn list(frame: &frame::Shared, namespace: &str, project: &str) -> Result<Vec<SiblingDeployment>, ReconcileError> {
    let resource = ApiResource::erase::<Deployment>(&());
    let api = Api::<DynamicObject>::namespaced_with(frame.client.clone(), namespace, &resource);
    let of = ListParams::default().fields(&format!("spec.projectRef.name={project}"));
    let mut all = Vec::new();
    // Many Deployments of one project share few groups.
    let mut groups = HashMap::<String, Option<DeserializeGuard<HostGroup>>>::new();
    for one in api.list(&of).await? {
        let name = one.data["spec"]["hostGroupRef"]["name"].as_str().unwrap_or_default().to_owned();
        // A Deployment without a group name is unreadable.
        if !name.is_empty() && !groups.contains_key(&name) {
            let group = frame.api::<DeserializeGuard<HostGroup>>(namespace).get_opt(&name).await?;
            groups.insert(name.clone(), group);
        }
        all.push(claim(&one, groups.get(&name).and_then(Option::as_ref)));
    }
    Ok(all)
}

/// Claim of a Deployment, from the fields that a claim needs: a status or strategy of a later version does not matter.
fn claim(one: &DynamicObject, group: Option<&DeserializeGuard<HostGroup>>) -> SiblingDeployment {
    let selection = Option::<HostSelection>::deserialize(&one.data["spec"]["hosts"]);
    let unreadable = selection.is_err()
        || !one.data["spec"]["hostGroupRef"]["name"].is_string()
        || group.is_some_and(|group| group.0.is_err());
    let group = group.and_then(|group| group.0.as_ref().ok());
    let all = group.map(|group| group.spec.hosts.as_slice()).unwrap_or_default();
    let port = group.map_or(22, |group| group.spec.ssh.port);
    // A deleted Deployment claims no further machine; the hosts that it owns name it in their owner files.
    let is_deleted = one.metadata.deletion_timestamp.is_some();
    let selected = match selection {
        Ok(selection) if !is_deleted => select(selection.as_ref(), all).unwrap_or_default(),
        _ => Vec::new(),
    };
    SiblingDeployment {
        name: one.name_any(),
        uid: one.uid().unwrap_or_default(),
        created: one.metadata.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
        hosts: all.iter().map(|host| host.name.clone()).collect(),
        machines: selected.iter().map(|host| format!("{}:{port}", host.machine())).collect(),
        unreadable,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::oneshot;

    use super::*;

    fn sibling(spec: Value, status: Value) -> SiblingDeployment {
        let group = json!({
            "metadata": { "name": "web" },
            "spec": { "ssh": { "user": "a", "credentialsRef": { "name": "b" }, "hostKeys": { "policy": "TrustOnFirstUse" } },
                      "hosts": [{ "name": "web-01", "address": "10.0.0.1" }, { "name": "web-02", "address": "10.0.0.2" }] },
        });
        let group = serde_json::from_value(group).unwrap();
        let object = json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment",
            "metadata": { "name": "old", "uid": "uid-0" }, "spec": spec, "status": status,
        });
        claim(&serde_json::from_value(object).unwrap(), Some(&group))
    }

    #[test]
    fn a_deployment_with_a_newer_status_still_claims_its_hosts() {
        let spec = json!({ "hostGroupRef": { "name": "web" }, "hosts": { "names": ["web-02"] }, "follow": { "branch": "main" } });
        let status = json!({ "exceptions": [{ "phase": "Draining" }], "rollout": 7 });
        let claimed = sibling(spec, status);
        assert_eq!(claimed.machines, ["10.0.0.2:22"]);
        assert_eq!(claimed.hosts, ["web-01", "web-02"]);
        assert!(!claimed.unreadable);
    }

    #[test]
    fn a_deployment_whose_selection_is_unreadable_may_have_any_host() {
        let spec = json!({ "hostGroupRef": { "name": "web" }, "hosts": { "names": { "prefix": "web-" } } });
        let claimed = sibling(spec, Value::Null);
        assert!(claimed.unreadable);
        assert_eq!(claimed.uid, "uid-0");
    }

    #[tokio::test]
    async fn calls_during_a_list_share_the_next_one() {
        let shared = SharedList::default();
        let (finish, finished) = oneshot::channel();
        let first = shared.newer(LIST_TIMEOUT, async { finished.await.map(|()| 1) });
        let others = async {
            let next = || shared.newer(LIST_TIMEOUT, async { Ok::<_, ()>(2) });
            let never = || shared.newer(LIST_TIMEOUT, async { Err(()) });
            let release = async { finish.send(()) };
            // The first of them makes it; the second would fail.
            tokio::join!(next(), never(), release)
        };
        let (first, (next, shares, _)) = tokio::join!(first, others);
        let (next, shares) = (next.unwrap(), shares.unwrap());
        assert_eq!((*first.unwrap(), *next, *shares), (1, 2, 2));
        assert!(shared.is_held(), "while a caller has it");
        drop((next, shares));
        assert!(!shared.is_held());
        assert_eq!(*shared.newer(LIST_TIMEOUT, async { Ok::<_, ()>(3) }).await.unwrap(), 3, "nothing is kept");
    }

    #[tokio::test]
    async fn a_list_that_hangs_or_fails_blocks_no_other() {
        let (shared, soon) = (SharedList::<i32>::default(), Duration::from_millis(10));
        let hangs = shared.newer(soon, std::future::pending::<Result<i32, ()>>());
        let other = shared.newer(soon, async { Ok::<_, ()>(7) });
        tokio::select! {
            biased;
            _ = hangs => unreachable!("it hangs"),
            other = other => assert_eq!(*other.unwrap(), 7),
        }
        assert_eq!(shared.newer(soon, async { Err(1) }).await, Err(1));
        assert_eq!(*shared.newer(soon, async { Ok::<_, ()>(8) }).await.unwrap(), 8);
    }
}
