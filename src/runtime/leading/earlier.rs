//! The Leases `landfall` in namespaces of their own, by which operators of versions before the shared object lead. For one release they are taken
//! beside a term, so that none of those leads as well. Where the right to them is missing, an operator of an earlier version had none either. It must
//! not decide who leads among operators of the shared object: their Leases name that object, and follow it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client};

use crate::{
    effects::{
        api_server::{api_message, post_params},
        clock,
    },
    model::leading::OBJECT,
};

const NAME: &str = "landfall";
/// Annotation: `<namespace>/<name>` of the object that the holder leads by.
const LED_BY: &str = "landfall.dev/led-by";
/// They last that many times longer than a term, and so are renewed less often.
const TIMES_LONGER: u32 = 4;

/// The longest that one lasts: whoever may write a Lease of one namespace holds up nobody for longer by its duration.
const LONGEST: Duration = Duration::from_secs(1200);

pub(super) struct EarlierLeases {
    places: Vec<Place>,
    identity: String,
    led_by: String,
    duration: Duration,
}

/// One namespace.
struct Place {
    api: Api<Lease>,
    namespace: String,
    /// As it was read or written last.
    found: Option<Lease>,
    /// Its version, and when that was first seen.
    since: Option<(String, Instant)>,
    /// When it was last written as ours.
    held: Option<Instant>,
}

impl Place {
    /// It was written as ours, or can't be had.
    fn note(&mut self, written: Option<Lease>) {
        self.held = written.is_some().then(clock::monotonic);
        self.found = written;
    }
}

/// An operator of an earlier version leads.
pub(super) struct Holder {
    pub namespace: String,
    pub holder: String,
}

impl EarlierLeases {
    /// `lease_namespace`: where the shared object is. `duration`: of a term.
    pub fn new(
        client: &Client,
        namespaces: Vec<String>,
        lease_namespace: &str,
        identity: &str,
        duration: Duration,
    ) -> Self {
        let place = |namespace: String| Place {
            api: Api::namespaced(client.clone(), &namespace),
            namespace,
            found: None,
            since: None,
            held: None,
        };
        Self {
            places: namespaces.into_iter().map(place).collect(),
            identity: identity.to_owned(),
            led_by: format!("{lease_namespace}/{OBJECT}"),
            duration: duration * TIMES_LONGER,
        }
    }

    /// Reads all of them; the first one that an operator of an earlier version may still hold.
    pub async fn holder(&mut self) -> Result<Option<Holder>, kube::Error> {
        let answers = join_all(self.places.iter().map(|place| place.api.get_opt(NAME))).await;
        for (place, answer) in self.places.iter_mut().zip(answers) {
            place.found = unless_refused(answer, &place.namespace)?.flatten();
            let Some(lease) = &place.found else { continue };
            let holder = holder_of(lease);
            if holder.is_empty() || holder == self.identity || led_by(lease) == Some(&self.led_by) {
                continue;
            }
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let now = clock::monotonic();
            let since = match &place.since {
                Some((known, since)) if *known == version => *since,
                _ => now,
            };
            place.since = Some((version, since));
            let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(15);
            let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or(15)).min(LONGEST);
            if now < since + lasts {
                return Ok(Some(Holder { namespace: place.namespace.clone(), holder: holder.to_owned() }));
            }
        }
        Ok(None)
    }

    /// Takes those that were read. A conflict: somebody was faster.
    pub async fn take(&mut self) -> Result<(), kube::Error> {
        let written = join_all(self.places.iter().map(|place| self.write(place))).await;
        for (place, written) in self.places.iter_mut().zip(written) {
            place.note(written?);
        }
        Ok(())
    }

    /// Renews those that it is time for. Whoever took one from us is named.
    pub async fn renew(&mut self) -> Result<Option<Holder>, kube::Error> {
        let (now, age) = (clock::monotonic(), self.duration / 2);
        if !self.places.iter().any(|place| place.held.is_some_and(|held| now.duration_since(held) >= age)) {
            return Ok(None);
        }
        if let Some(holder) = self.holder().await? {
            return Ok(Some(holder));
        }
        match self.take().await {
            // Changed meanwhile: seen at the next try.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            done => done.map(|()| None),
        }
    }

    /// Gives back those that are ours.
    pub async fn release(&mut self) {
        for place in self.places.iter().filter(|place| place.held.is_some()) {
            let Ok(Some(found)) = place.api.get_opt(NAME).await else { continue };
            if holder_of(&found) != self.identity {
                continue;
            }
            let mut next = self.lease(Some(&found));
            if let Some(spec) = &mut next.spec {
                spec.holder_identity = Some(String::new());
            }
            if let Err(error) = place.api.replace(NAME, &post_params(), &next).await {
                tracing::info!(
                    namespace = place.namespace,
                    error = api_message(&error),
                    "the earlier lease was not given back; it expires"
                );
            }
        }
    }

    /// `None`: it can't be had there.
    async fn write(&self, place: &Place) -> Result<Option<Lease>, kube::Error> {
        let next = self.lease(place.found.as_ref());
        match place.found {
            // Where it went meanwhile, another write makes it again.
            Some(_) => match place.api.replace(NAME, &post_params(), &next).await {
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
                written => written.map(Some),
            },
            None => unless_refused(place.api.create(&post_params(), &next).await, &place.namespace),
        }
    }

    fn lease(&self, found: Option<&Lease>) -> Lease {
        let before = found.and_then(|lease| lease.spec.as_ref());
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let changes = found.is_some_and(|lease| holder_of(lease) != self.identity);
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            resource_version: found.and_then(|lease| lease.metadata.resource_version.clone()),
            annotations: Some(BTreeMap::from([(LED_BY.to_owned(), self.led_by.clone())])),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            lease_transitions: Some(transitions.saturating_add(i32::from(changes))),
            renew_time: Some(MicroTime(clock::now())),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

fn holder_of(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn led_by(lease: &Lease) -> Option<&String> {
    lease.metadata.annotations.as_ref()?.get(LED_BY)
}

/// `None`: the right is missing, or the namespace.
fn unless_refused<T>(answer: Result<T, kube::Error>, namespace: &str) -> Result<Option<T>, kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            tracing::debug!(
                namespace,
                message = status.message,
                "no lease of operators of earlier versions can be taken there"
            );
            Ok(None)
        }
        answer => answer.map(Some),
    }
}
