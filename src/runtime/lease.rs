//! The lease: the right to act, granted by one object. It is an implementation of our own: expiry is judged by monotonic time since the
//! last change that was *observed*, never by another machine's clock, and the fence token comes from the answer to the PUT that won.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client};

use super::namespace_state::{NamespaceState, namespace_state};
use crate::{
    controllers::error::api_message,
    effects::{
        api_server::post_params,
        clock,
        gate::{Gate, LeaseTerm},
    },
    model::ids::FenceToken,
};

const NAME: &str = "landfall";

/// The lease can't be acquired or kept; nothing was done without it.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "the lease {namespace}/{NAME}: {}; may this operator get, create and update leases there? (manifests/operator-rights.yaml, manifests/scoped)",
        api_message(source)
    )]
    Api { namespace: String, source: kube::Error },
    #[error("another operator ({0}) has taken the lease; this one ends and starts again as its successor")]
    Lost(String),
}

enum NotRenewed {
    /// To this holder.
    Lost(String),
    Deleted,
    Api(kube::Error),
}

/// One operator's view of one lease.
pub(crate) struct Elector {
    client: Client,
    api: Api<Lease>,
    namespace: String,
    identity: String,
    duration: Duration,
    epoch: String,
    gate: Gate,
    /// Annotations of the lease while it is ours, for its readers.
    annotations: BTreeMap<String, String>,
    /// Whether the lease lies in the one namespace that it is for.
    in_its_namespace: bool,
}

impl Elector {
    /// `duration` is how long the lease lasts without being renewed; `epoch` the uid of `kube-system`.
    pub fn new(client: Client, namespace: &str, duration: Duration, epoch: String, gate: Gate) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let identity = format!("{host}_{}_{:08x}", std::process::id(), rand::random::<u32>());
        Self {
            api: Api::namespaced(client.clone(), namespace),
            client,
            namespace: namespace.to_owned(),
            identity,
            duration,
            epoch,
            gate,
            annotations: BTreeMap::new(),
            in_its_namespace: false,
        }
    }

    /// With an annotation for readers of the lease.
    pub fn annotated(mut self, name: &str, value: Option<String>) -> Self {
        self.annotations.extend(value.map(|value| (name.to_owned(), value)));
        self
    }

    /// For the lease's own namespace alone: when that is deleted, what is ours in it is released without a lease.
    pub(crate) fn of_its_namespace(mut self, alone: bool) -> Self {
        self.in_its_namespace = alone;
        self
    }

    /// Waits until the lease is ours; opens the gate. Where it is refused, the only scope of an operator ends with that; one of several
    /// logs it and waits, since the others go on. `None`: no operator can have it, as its namespace is being deleted.
    pub(crate) async fn acquire(&self, alone: bool) -> Result<Option<Lease>, LeaseError> {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            let asked = clock::monotonic();
            match tokio::time::timeout(self.duration, self.try_once(&mut seen)).await {
                Ok(Ok(Some(lease))) => {
                    self.open(&lease, asked);
                    return Ok(Some(lease));
                }
                Ok(Ok(None)) => {}
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403 | 404) => {
                    if self.namespace_state().await == Some(NamespaceState::Terminating) {
                        return Ok(None);
                    }
                    let error = self.error(kube::Error::Api(status));
                    if alone {
                        return Err(error);
                    }
                    tracing::error!(%error, "nothing is done in this namespace until then");
                    tokio::time::sleep(self.duration).await;
                }
                Ok(Err(error)) => tracing::warn!(error = api_message(&error), "the lease can't be read; asking again"),
                Err(_) => tracing::warn!("the API server does not answer about the lease; asking again"),
            }
            tokio::time::sleep(self.duration / 8).await;
        }
    }

    /// One try: the lease if it was won, `None` if another holds it.
    async fn try_once(&self, seen: &mut Option<(String, Instant)>) -> Result<Option<Lease>, kube::Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            return self.api.create(&post_params(), &self.lease(None, 0)).await.map(Some);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        if holder == self.identity {
            // It was won, and only the answer was lost.
            return self.put(&lease, transitions).await.map(Some);
        }
        if !holder.is_empty() {
            let since = match seen {
                Some((known, since)) if *known == version => *since,
                _ => {
                    let now = clock::monotonic();
                    tracing::info!(%holder, "another operator holds the lease; waiting");
                    *seen = Some((version, now));
                    now
                }
            };
            let lasts = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15));
            if clock::monotonic() < since + lasts {
                return Ok(None);
            }
        }
        self.put(&lease, transitions.saturating_add(1)).await.map(Some)
    }

    /// Keeps it as long as possible. Returns when another operator has it, or with `Ok` when the namespace is gone: until then what is ours
    /// in it is released. One request at a time, at half of the lease's duration: an answer that never comes leaves time for a second try.
    pub async fn keep(&self, held: Option<Lease>) -> Result<(), LeaseError> {
        if let Some(held) = held {
            self.keep_renewing(held).await?;
        }
        self.release_namespace().await;
        Ok(())
    }

    /// `Ok`: it can't be renewed any longer, as its namespace is being deleted or gone.
    async fn keep_renewing(&self, mut held: Lease) -> Result<(), LeaseError> {
        let (usual, timeout) = (self.duration / 2, (self.duration / 4).max(Duration::from_secs(1)));
        let mut pause = usual;
        loop {
            tokio::time::sleep(pause).await;
            let asked = clock::monotonic();
            pause = self.duration / 8;
            match tokio::time::timeout(timeout, self.renew(&held)).await {
                Ok(Ok(lease)) => {
                    self.open(&lease, asked);
                    (held, pause) = (lease, usual);
                }
                Ok(Err(NotRenewed::Lost(holder))) => {
                    self.gate.close();
                    return Err(LeaseError::Lost(holder));
                }
                Ok(Err(NotRenewed::Deleted)) => match self.is_terminating().await {
                    true => return Ok(()),
                    false => {
                        self.gate.close();
                        return Err(LeaseError::Lost("unknown: the lease was deleted".to_owned()));
                    }
                },
                // Not this time; the gate shuts by itself when the lease expires.
                Ok(Err(NotRenewed::Api(error))) => {
                    let refused = matches!(&error, kube::Error::Api(status) if matches!(status.code, 403 | 404));
                    if refused && self.is_terminating().await {
                        return Ok(());
                    }
                    tracing::warn!(error = api_message(&error), "the lease can't be renewed; trying again");
                }
                Err(_) => tracing::warn!("the API server does not answer about the lease; trying again"),
            }
        }
    }

    async fn is_terminating(&self) -> bool {
        matches!(self.namespace_state().await, Some(NamespaceState::Terminating | NamespaceState::Gone))
    }

    /// State of the namespace, where that is known and is all that this operator works for.
    async fn namespace_state(&self) -> Option<NamespaceState> {
        if !self.in_its_namespace {
            return None;
        }
        tokio::time::timeout(self.duration, namespace_state(&self.client, &self.namespace)).await.ok()?.ok()
    }

    /// Opens the gate for acts that release objects, until the namespace is gone. No operator has the lease then, and none can.
    async fn release_namespace(&self) {
        tracing::warn!(
            namespace = self.namespace,
            "the namespace is being deleted, and the lease with it: what is ours there is released"
        );
        let token = FenceToken { epoch: self.epoch.clone(), created: 0, transitions: 0 };
        self.gate.open(LeaseTerm { until: None, token, namespace_deleting: true });
        while !matches!(self.namespace_state().await, Some(NamespaceState::Gone | NamespaceState::Active)) {
            tokio::time::sleep(self.duration / 4).await;
        }
        self.gate.close();
        tracing::info!(namespace = self.namespace, "the namespace is gone");
    }

    async fn renew(&self, held: &Lease) -> Result<Lease, NotRenewed> {
        let transitions = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        match self.put(held, transitions(held)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            done => return done.map_err(NotRenewed::Api),
        }
        // Another holds it, or a write of ours succeeded and only its answer was lost.
        let Some(lease) = self.api.get_opt(NAME).await.map_err(NotRenewed::Api)? else {
            return Err(NotRenewed::Deleted);
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        if holder != self.identity {
            return Err(NotRenewed::Lost(holder));
        }
        self.put(&lease, transitions(&lease)).await.map_err(NotRenewed::Api)
    }

    /// Writes it as ours, if it is still that version.
    async fn put(&self, lease: &Lease, transitions: i32) -> Result<Lease, kube::Error> {
        self.api.replace(NAME, &post_params(), &self.lease(Some(&lease.metadata), transitions)).await
    }

    /// Gives it back, so that the next operator need not wait.
    pub async fn release(&self) {
        self.gate.close();
        let Ok(Some(lease)) = self.api.get_opt(NAME).await else { return };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        let mut next = self.lease(Some(&lease.metadata), spec.lease_transitions.unwrap_or(0));
        if let Some(spec) = &mut next.spec {
            spec.holder_identity = Some(String::new());
        }
        if let Err(error) = self.api.replace(NAME, &post_params(), &next).await {
            tracing::info!(%error, "the lease was not given back; it expires");
        }
    }

    fn open(&self, lease: &Lease, asked: Instant) {
        let created = lease.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let token = FenceToken { epoch: self.epoch.clone(), created, transitions: i64::from(transitions) };
        self.gate.open(LeaseTerm { until: Some(asked + self.duration), token, namespace_deleting: false });
    }

    fn lease(&self, metadata: Option<&ObjectMeta>, transitions: i32) -> Lease {
        let now = MicroTime(clock::now());
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            resource_version: metadata.and_then(|metadata| metadata.resource_version.clone()),
            annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            lease_transitions: Some(transitions),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn error(&self, source: kube::Error) -> LeaseError {
        LeaseError::Api { namespace: self.namespace.clone(), source }
    }
}
