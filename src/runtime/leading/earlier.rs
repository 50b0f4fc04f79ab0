//! The Leases `landfall` in namespaces of their own, by which operators from before the shared object lead. For one release they are taken
//! beside a term, so that none of those leads as well. Where the right to them is missing, an operator from before had none either. It must
//! not decide who leads among operators of the shared object: their Leases name that object, and follow it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

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

/// An operator from before leads.
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

    /// Reads all of them; the first one that an operator from before may still hold.
    pub async fn holder(&mut self) -> Result<Option<Holder>, kube::Error> {
        for place in &mut self.places {
            place.found = unless_refused(place.api.get_opt(NAME).await, &place.namespace)?.flatten();
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
            if now < since + Duration::from_secs(u64::try_from(seconds).unwrap_or(15)) {
                return Ok(Some(Holder { namespace: place.namespace.clone(), holder: holder.to_owned() }));
            }
        }
        Ok(None)
    }

    /// Takes those that were read. A conflict: somebody was faster.
    pub async fn take(&mut self) -> Result<(), kube::Error> {
        for n in 0..self.places.len() {
            self.write(n).await?;
        }
        Ok(())
    }

    /// Renews those that it is time for. Whoever took one from us is named.
    pub async fn renew(&mut self) -> Result<Option<Holder>, kube::Error> {
        let (now, age) = (clock::monotonic(), self.duration / 2);
        for n in 0..self.places.len() {
            let Some(place) = self.places.get(n) else { continue };
            if place.held.is_none_or(|held| now.duration_since(held) < age) {
                continue;
            }
            match self.write(n).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                done => {
                    done?;
                    continue;
                }
            }
            if let Some(holder) = self.holder().await? {
                return Ok(Some(holder));
            }
            self.write(n).await?;
        }
        Ok(None)
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

    async fn write(&mut self, n: usize) -> Result<(), kube::Error> {
        let Some(place) = self.places.get(n) else { return Ok(()) };
        let next = self.lease(place.found.as_ref());
        let written = match place.found {
            Some(_) => place.api.replace(NAME, &post_params(), &next).await,
            None => place.api.create(&post_params(), &next).await,
        };
        // There was one to replace: where it went, another write makes it again.
        let missing = matches!(&written, Err(kube::Error::Api(status)) if status.code == 404) && place.found.is_some();
        let written = if missing { written.map(Some) } else { unless_refused(written, &place.namespace) };
        if let Some(place) = self.places.get_mut(n) {
            match written {
                Ok(lease) => {
                    place.held = lease.is_some().then(clock::monotonic);
                    place.found = lease;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
                "no lease of operators from before can be taken there"
            );
            Ok(None)
        }
        answer => answer.map(Some),
    }
}
