//! Which machines the Deployments of a project select, all of them. Who asks gets a list that was begun after he asked, never an older one;
//! but those who ask while one is under way share the next. So a thousand Deployments of one project that wake together list each other a
//! few times, and not a thousand times. Nothing is kept for later. It must not decide who may have a machine.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use kube::{ResourceExt, api::ListParams, core::DeserializeGuard};
use parking_lot::Mutex;

use crate::{
    api::{Deployment, HostGroup},
    controllers::frame::{self, ReconcileError},
    effects::clock,
    plan::deployment::{SiblingDeployment, select},
};

/// So long somebody waits for the list of somebody else; then he lists himself, beside him.
const PATIENCE: Duration = Duration::from_secs(5);

/// Namespace and name.
type ProjectKey = (String, String);

#[derive(Default)]
pub struct SiblingSelections(Mutex<HashMap<ProjectKey, Arc<Shared<Vec<SiblingDeployment>>>>>);

impl SiblingSelections {
    /// Of all Deployments of this project, his who asks among them.
    pub async fn of(
        &self,
        frame: &frame::Shared,
        namespace: &str,
        project: &str,
    ) -> Result<Arc<Vec<SiblingDeployment>>, ReconcileError> {
        let shared = {
            let mut all = self.0.lock();
            all.retain(|_, shared| Arc::strong_count(shared) > 1 || shared.is_held());
            all.entry((namespace.to_owned(), project.to_owned())).or_default().clone()
        };
        shared.newer(PATIENCE, list(frame, namespace, project)).await
    }
}

/// When the newest one was begun, and what it is, if somebody still has it.
struct Shared<T>(tokio::sync::Mutex<Option<(Instant, Weak<T>)>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T> Shared<T> {
    /// One that was begun after this call: that of another caller, or what `make` makes.
    async fn newer<E>(&self, patience: Duration, make: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let asked = clock::monotonic();
        let Ok(mut newest) = tokio::time::timeout(patience, self.0.lock()).await else {
            return Ok(Arc::new(make.await?));
        };
        let other = newest.as_ref().filter(|(began, _)| *began >= asked).and_then(|(_, made)| made.upgrade());
        if let Some(made) = other {
            return Ok(made);
        }
        let began = clock::monotonic();
        let made = Arc::new(make.await?);
        *newest = Some((began, Arc::downgrade(&made)));
        Ok(made)
    }

    /// Somebody has it, or is about to.
    fn is_held(&self) -> bool {
        let Ok(newest) = self.0.try_lock() else { return true };
        newest.as_ref().is_some_and(|(_, made)| made.strong_count() > 0)
    }
}

async fn list(frame: &frame::Shared, namespace: &str, project: &str) -> Result<Vec<SiblingDeployment>, ReconcileError> {
    let api = frame.api::<DeserializeGuard<Deployment>>(namespace);
    let of = ListParams::default().fields(&format!("spec.projectRef.name={project}"));
    let mut all = Vec::new();
    // Many Deployments of one project share few groups.
    let mut groups = HashMap::<String, Option<HostGroup>>::new();
    for one in frame::readable(api, &of).await? {
        let name = &one.spec.host_group_ref.name;
        if !groups.contains_key(name) {
            groups.insert(name.clone(), frame.api::<HostGroup>(namespace).get_opt(name).await?);
        }
        all.push(claim(&one, groups.get(name).and_then(Option::as_ref)));
    }
    Ok(all)
}

fn claim(one: &Deployment, group: Option<&HostGroup>) -> SiblingDeployment {
    let all = group.map(|group| group.spec.hosts.as_slice()).unwrap_or_default();
    let port = group.map_or(22, |group| group.spec.ssh.port);
    // Who goes claims nothing new; what it owns is in the owner files.
    let going = one.metadata.deletion_timestamp.is_some();
    let selected = if going { Vec::new() } else { select(one.spec.hosts.as_ref(), all).unwrap_or_default() };
    SiblingDeployment {
        name: one.name_any(),
        uid: one.uid().unwrap_or_default(),
        created: one.metadata.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
        hosts: all.iter().map(|host| host.name.clone()).collect(),
        machines: selected.iter().map(|host| format!("{}:{port}", host.machine())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_asks_while_one_is_under_way_gets_the_next_and_shares_it() {
        let shared = Shared::default();
        let (finish, finished) = oneshot::channel();
        let first = shared.newer(PATIENCE, async { finished.await.map(|()| 1) });
        let others = async {
            let next = || shared.newer(PATIENCE, async { Ok::<_, ()>(2) });
            let never = || shared.newer(PATIENCE, async { Err(()) });
            let release = async { finish.send(()) };
            // The first of them makes it; the second would fail.
            tokio::join!(next(), never(), release)
        };
        let (first, (next, shares, _)) = tokio::join!(first, others);
        let (next, shares) = (next.unwrap(), shares.unwrap());
        assert_eq!((*first.unwrap(), *next, *shares), (1, 2, 2));
        assert!(shared.is_held(), "as long as somebody has it");
        drop((next, shares));
        assert!(!shared.is_held());
        assert_eq!(*shared.newer(PATIENCE, async { Ok::<_, ()>(3) }).await.unwrap(), 3, "nothing is kept");
    }

    #[tokio::test]
    async fn one_that_hangs_or_fails_holds_nobody_up() {
        let (shared, soon) = (Shared::<i32>::default(), Duration::from_millis(10));
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
