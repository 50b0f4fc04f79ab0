//! One operator that claims its scope, keeps it, and gives it back; it opens and shuts the gate. It must not decide what may be claimed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kube::Client;
use rand::Rng;

use super::{
    LeaseError,
    earlier::EarlierLeases,
    fences,
    namespace_state::{NamespaceState, namespace_state},
    object::{Found, Object, ObjectError},
};
use crate::{
    effects::{
        api_server::api_message,
        clock,
        gate::{Gate, LeaseTerm},
        store::{Store, StoreError},
    },
    model::{
        ids::FenceToken,
        leading::{Scope, Term, Unreadable},
    },
    plan::leading::{self, Candidate, Claim, Floor, Watched},
};

/// Time for one try to claim, which is several requests.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
/// Writes of one renewal, where operators of other scopes write at the same time.
const WRITES_MAX: u32 = 10;
/// Longest wait before such a write is tried again.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// What an elector is made of.
pub(crate) struct ElectorConfig {
    pub client: Client,
    /// Namespace of the shared object.
    pub namespace: String,
    pub scope: Scope,
    /// How long a term lasts without being renewed.
    pub duration: Duration,
    /// Uid of `kube-system`.
    pub control_plane_id: String,
    pub view_address: Option<String>,
    /// The namespace in which an operator of this command line led before there was the shared object, and which the kubeconfig names.
    pub context_namespace: String,
    pub gate: Gate,
    pub store: Store,
}

/// One operator's view of the shared object.
pub(crate) struct Elector {
    client: Client,
    object: Object,
    earlier: EarlierLeases,
    namespace: String,
    candidate: Candidate,
    duration: Duration,
    control_plane_id: String,
    gate: Gate,
    store: Store,
    watched: Watched,
    /// What a wait was last told of.
    told: String,
}

/// A term of this operator.
pub(crate) struct Held {
    found: Found,
    fence: i64,
    /// When the write that won it was begun.
    asked: Instant,
}

impl Held {
    /// As it was won.
    pub(crate) fn term(&self) -> Option<&Term> {
        self.found.leadership.terms.iter().find(|term| term.fence == self.fence)
    }
}

/// What comes of waiting for the lead.
pub(crate) enum Acquired {
    Held(Box<Held>),
    /// No operator can lead, as the object's namespace is being deleted, which is all that this one works for.
    NamespaceDeleting,
    Stopped,
}

/// What comes of one try.
enum Attempt {
    Won(Box<Held>),
    Waits,
    /// Something changed under the decision.
    Again,
}

enum NotClaimed {
    Refused(Box<Term>),
    Object(ObjectError),
    Store(StoreError),
}

impl From<ObjectError> for NotClaimed {
    fn from(error: ObjectError) -> Self {
        Self::Object(error)
    }
}

impl From<kube::Error> for NotClaimed {
    fn from(error: kube::Error) -> Self {
        Self::Object(ObjectError::Api(error))
    }
}

enum NotRenewed {
    /// To this holder.
    Lost(String),
    Deleted,
    Unreadable(Unreadable),
    Api(kube::Error),
    /// Others were always faster.
    Busy,
}

impl From<ObjectError> for NotRenewed {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Api(error) => Self::Api(error),
            ObjectError::Unreadable(unreadable) => Self::Unreadable(unreadable),
        }
    }
}

impl Elector {
    pub fn new(config: ElectorConfig) -> Self {
        let ElectorConfig { client, namespace, scope, duration, control_plane_id, .. } = config;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let holder = format!("{}_{}_{:08x}", host.trim(), std::process::id(), rand::random::<u32>());
        let before = match &scope {
            Scope::ControlPlane => BTreeSet::from([namespace.clone(), config.context_namespace]),
            Scope::Namespaces(names) => names.clone(),
        };
        let earlier = EarlierLeases::new(&client, before.into_iter().collect(), &namespace, &holder, duration);
        let lease_seconds = duration.as_secs();
        Self {
            object: Object::new(client.clone(), &namespace),
            earlier,
            client,
            namespace,
            candidate: Candidate { scope, holder, lease_seconds, view_address: config.view_address },
            duration,
            control_plane_id,
            gate: config.gate,
            store: config.store,
            watched: Watched::default(),
            told: String::new(),
        }
    }

    /// Waits until the scope is led by this operator; opens the gate. A try that was begun is ended before it stops: it may have won.
    pub(crate) async fn acquire(&mut self, stopped: impl Future<Output = ()>) -> Result<Acquired, LeaseError> {
        tokio::pin!(stopped);
        loop {
            let mut pause = self.duration / 8;
            let attempt = tokio::time::timeout(CLAIM_TIMEOUT, self.try_once()).await;
            match attempt {
                Ok(Ok(Attempt::Won(held))) => {
                    if self.take_earlier().await {
                        self.open(held.fence, &held.found, held.asked);
                        return Ok(Acquired::Held(held));
                    }
                    self.give_back().await;
                }
                Ok(Ok(Attempt::Again)) => pause = conflict_pause(),
                Ok(Ok(Attempt::Waits)) => {}
                Ok(Err(NotClaimed::Refused(term))) => {
                    let (namespace, scope) = (self.namespace.clone(), self.candidate.scope.clone());
                    return Err(LeaseError::Refused { namespace, scope, term });
                }
                Ok(Err(NotClaimed::Object(ObjectError::Unreadable(source)))) => return Err(self.unreadable(source)),
                // Somebody else made it.
                Ok(Err(NotClaimed::Object(error))) if error.is_conflict() => {}
                Ok(Err(NotClaimed::Object(ObjectError::Api(error)))) => {
                    if self.is_refused_for_good(error).await? {
                        return Ok(Acquired::NamespaceDeleting);
                    }
                }
                Ok(Err(NotClaimed::Store(error))) => {
                    tracing::warn!(%error, "fences on record can't be read, so nothing is led; trying again");
                }
                Err(_) => tracing::warn!("the API server does not answer about the lease; asking again"),
            }
            tokio::select! {
                () = &mut stopped => return Ok(Acquired::Stopped),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What the API server's refusal comes to: an error, that no operator can lead, or (false) another try.
    async fn is_refused_for_good(&self, error: kube::Error) -> Result<bool, LeaseError> {
        let code = match &error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        match code {
            401 | 403 | 404 if self.namespace_state().await == Some(NamespaceState::Terminating) => Ok(true),
            // A Lease that is not there is made: it is the namespace that is missing.
            404 => Err(LeaseError::NoNamespace { namespace: self.namespace.clone() }),
            401 | 403 => Err(LeaseError::Api { namespace: self.namespace.clone(), source: error }),
            _ => {
                tracing::warn!(error = api_message(&error), "the lease can't be read; asking again");
                Ok(false)
            }
        }
    }

    async fn try_once(&mut self) -> Result<Attempt, NotClaimed> {
        let Some(found) = self.object.read().await? else {
            self.object.create().await?;
            return Ok(Attempt::Again);
        };
        let at = clock::monotonic();
        self.watched.observe(found.uid(), &found.leadership, at);
        let recorded = fences::highest(&self.store).await.map_err(NotClaimed::Store)?;
        let floor = Floor { recorded, object_made: found.made() };
        let claim = leading::claim(&found.leadership, &self.watched, &self.candidate, floor, clock::now(), at);
        let (next, fence) = match claim {
            Claim::Write { next, fence } => (next, fence),
            Claim::StandBy(term) => {
                self.tell(format!(
                    "{} leads {} since {}; this operator stands by",
                    term.holder, term.scope, term.since
                ));
                return Ok(Attempt::Waits);
            }
            Claim::Wait(term) => {
                self.tell(format!(
                    "{} led {}, which overlaps with {}; waiting whether it still does",
                    term.holder, term.scope, self.candidate.scope
                ));
                return Ok(Attempt::Waits);
            }
            Claim::Refuse(term) => return Err(NotClaimed::Refused(Box::new(term))),
        };
        if let Some(earlier) = self.earlier.holder().await? {
            self.tell(format!(
                "{} leads by the Lease {}/landfall: an operator of an earlier version, or one with another --lease-namespace; waiting until it ends",
                earlier.holder, earlier.namespace
            ));
            return Ok(Attempt::Waits);
        }
        let asked = clock::monotonic();
        let found = match self.object.write(&found, &next).await {
            Err(error) if matches!(error.code(), Some(404 | 409)) => return Ok(Attempt::Again),
            written => written?,
        };
        Ok(Attempt::Won(Box::new(Held { found, fence, asked })))
    }

    fn tell(&mut self, wait: String) {
        if self.told != wait {
            tracing::info!("{wait}");
            self.told = wait;
        }
    }

    /// False: somebody was faster, or the API server does not answer.
    async fn take_earlier(&mut self) -> bool {
        match tokio::time::timeout(CLAIM_TIMEOUT, self.earlier.take()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(error = api_message(&error), "a lease of operators of earlier versions can't be taken");
                false
            }
            Err(_) => {
                tracing::warn!("the API server does not answer about leases of operators of earlier versions");
                false
            }
        }
    }

    /// Keeps it as long as possible. Returns when another operator has it, or with `Ok` when the namespace is gone: until then what is ours
    /// in it is released. One request at a time, at half of the term: an answer that never comes leaves time for a second try.
    pub async fn keep(&mut self, held: Option<Box<Held>>) -> Result<(), LeaseError> {
        if let Some(held) = held {
            self.keep_renewing(*held).await?;
        }
        self.release_namespace().await;
        Ok(())
    }

    /// `Ok`: it can't be renewed any longer, as its namespace is being deleted or gone.
    async fn keep_renewing(&mut self, mut held: Held) -> Result<(), LeaseError> {
        let timeout = (self.duration / 4).max(Duration::from_secs(1));
        let mut pause = self.usual_pause().saturating_sub(clock::monotonic().saturating_duration_since(held.asked));
        loop {
            tokio::time::sleep(pause).await;
            let asked = clock::monotonic();
            pause = self.duration / 8;
            match tokio::time::timeout(timeout, self.renew(&held)).await {
                Ok(Ok(found)) => {
                    self.open(held.fence, &found, asked);
                    held.found = found;
                    pause = self.usual_pause();
                    if let Some(other) = self.renew_earlier(timeout).await {
                        self.gate.close();
                        return Err(LeaseError::Lost(other));
                    }
                }
                Ok(Err(NotRenewed::Lost(holder))) => {
                    self.gate.close();
                    return Err(LeaseError::Lost(holder));
                }
                Ok(Err(NotRenewed::Unreadable(source))) => {
                    self.gate.close();
                    return Err(self.unreadable(source));
                }
                Ok(Err(NotRenewed::Deleted)) => match self.is_terminating().await {
                    true => return Ok(()),
                    false => {
                        self.gate.close();
                        return Err(LeaseError::Deleted { namespace: self.namespace.clone() });
                    }
                },
                // Not this time; the gate shuts by itself when the term is over.
                Ok(Err(NotRenewed::Api(error))) => {
                    let refused = matches!(&error, kube::Error::Api(status) if matches!(status.code, 403 | 404));
                    if refused && self.is_terminating().await {
                        return Ok(());
                    }
                    tracing::warn!(error = api_message(&error), "the lease can't be renewed; trying again");
                }
                Ok(Err(NotRenewed::Busy)) => {
                    tracing::warn!("the lease was not renewed: other operators write it all the time; trying again");
                }
                Err(_) => tracing::warn!("the API server does not answer about the lease; trying again"),
            }
        }
    }

    /// Operators that started together do not stay together.
    fn usual_pause(&self) -> Duration {
        self.duration.mul_f64(rand::rng().random_range(0.45..0.5))
    }

    async fn renew(&mut self, held: &Held) -> Result<Found, NotRenewed> {
        let mut before = held.found.clone();
        for _ in 0..WRITES_MAX {
            let at = clock::monotonic();
            self.watched.observe(before.uid(), &before.leadership, at);
            let own = (held.fence, self.candidate.holder.as_str());
            let next = leading::renew(&before.leadership, &self.watched, own, clock::now(), at);
            let Some(next) = next else {
                let successor = leading::successor(&before.leadership, &self.candidate.scope);
                let holder = successor.map_or("nobody: its term was removed", |term| term.holder.as_str());
                return Err(NotRenewed::Lost(holder.to_owned()));
            };
            match self.object.write(&before, &next).await {
                Ok(found) => return Ok(found),
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                Err(error) => return Err(error.into()),
            }
            // Another writes it, or a write of ours succeeded and only its answer was lost.
            tokio::time::sleep(conflict_pause()).await;
            before = self.object.read().await?.ok_or(NotRenewed::Deleted)?;
        }
        Err(NotRenewed::Busy)
    }

    /// Whoever took one of them. They last long enough for another try.
    async fn renew_earlier(&mut self, timeout: Duration) -> Option<String> {
        match tokio::time::timeout(timeout, self.earlier.renew()).await {
            Ok(Ok(other)) => other.map(|other| format!("{}, by the Lease {}/landfall", other.holder, other.namespace)),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = api_message(&error),
                    "a lease of operators of earlier versions can't be renewed"
                );
                None
            }
            Err(_) => None,
        }
    }

    async fn is_terminating(&self) -> bool {
        matches!(self.namespace_state().await, Some(NamespaceState::Terminating | NamespaceState::Gone))
    }

    /// State of the object's namespace, where that is known and is all that this operator works for.
    async fn namespace_state(&self) -> Option<NamespaceState> {
        if self.candidate.scope != Scope::of(std::slice::from_ref(&self.namespace)) {
            return None;
        }
        tokio::time::timeout(self.duration, namespace_state(&self.client, &self.namespace)).await.ok()?.ok()
    }

    /// Opens the gate for acts that release objects, until the namespace is gone. No operator has a term then, and none can.
    async fn release_namespace(&self) {
        tracing::warn!(
            namespace = self.namespace,
            "the namespace is being deleted, and the lease with it: what is ours there is released"
        );
        let token = FenceToken::new(&self.control_plane_id, 0);
        self.gate.open(LeaseTerm { until: None, token, adopt_all: None, namespace_deleting: true });
        while !matches!(self.namespace_state().await, Some(NamespaceState::Gone | NamespaceState::Active)) {
            tokio::time::sleep(self.duration / 4).await;
        }
        self.gate.close();
        tracing::info!(namespace = self.namespace, "the namespace is gone");
    }

    /// Gives it back, so that the next operator need not wait.
    pub async fn release(&mut self) {
        self.gate.close();
        self.give_back().await;
        self.earlier.release().await;
    }

    async fn give_back(&self) {
        for _ in 0..WRITES_MAX {
            let Ok(Some(found)) = self.object.read().await else { break };
            let Some(next) = leading::release(&found.leadership, &self.candidate.holder) else { return };
            match self.object.write(&found, &next).await {
                Ok(_) => return,
                Err(error) if error.is_conflict() => tokio::time::sleep(conflict_pause()).await,
                Err(_) => break,
            }
        }
        tracing::info!("the lease was not given back; it expires");
    }

    fn open(&self, fence: i64, found: &Found, asked: Instant) {
        self.gate.open(LeaseTerm {
            until: Some(asked + self.duration),
            token: FenceToken::new(&self.control_plane_id, fence),
            adopt_all: found.adopt_all().cloned(),
            namespace_deleting: false,
        });
    }

    fn unreadable(&self, source: Unreadable) -> LeaseError {
        LeaseError::Unreadable { namespace: self.namespace.clone(), source }
    }
}

/// Before a write is tried again that another operator was faster with.
fn conflict_pause() -> Duration {
    CONFLICT_PAUSE.mul_f64(rand::rng().random_range(0.1..1.0))
}
