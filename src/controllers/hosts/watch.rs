//! One background task per host: it checks the host by schedule and on request, and wakes what depends on the result.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tracing::Instrument;

use super::{
    check::{bounded, keep},
    config::HostKey,
    fleet::Fleet,
    link::link,
    slot::Link,
};
use crate::{
    effects::host::HostError,
    model::{backoff::Backoff, facts::HostFacts},
    plan::hostgroup::unfit,
};

/// The longest time of a check, whatever the SSH library does.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest delay after checks that failed in a row, before jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(256));
/// Periods after which a host that can't be used is signed in to again.
const UNFIT_PERIODS: u32 = 5;
/// Shortest delay, after jitter.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// Checks a host until it leaves its group.
pub async fn watch(fleet: Arc<Fleet>, key: HostKey) {
    let (namespace, name, host) = (&key.namespace, &key.group, &key.host);
    let span = tracing::info_span!(parent: None, "host", kind = "HostGroup", namespace, name, host);
    check_by_schedule(fleet, key).instrument(span).await;
}

async fn check_by_schedule(fleet: Arc<Fleet>, key: HostKey) {
    loop {
        let Some((request_check, _, _)) = fleet.hosts.watching(&key) else { return };
        let _ = probe(&fleet, &key).await;
        let Some((_, period, failed)) = fleet.hosts.watching(&key) else { return };
        let _ = tokio::time::timeout(pause(period, failed), request_check.notified()).await;
    }
}

/// The period, some earlier and some later; after a failed check sooner, with full jitter, so that a thousand hosts behind one switch that
/// comes back are not dialled in one moment.
fn pause(period: Duration, failed: u32) -> Duration {
    let mut rng = rand::rng();
    if failed == 0 {
        return period.mul_f64(rng.random_range(0.9..1.1));
    }
    let longest = BACKOFF.after(failed).min(period);
    longest.mul_f64(rng.random_range(0.0..1.0)).max(RETRY_MIN)
}

/// Checks a host now, keeps the result, and wakes its group and the Deployments of the namespace if it differs.
pub async fn probe(fleet: &Fleet, key: &HostKey) -> Result<HostFacts, HostError> {
    let acts = fleet.hosts.acts(key);
    let used = link(fleet, key).await;
    let observed = match &used {
        Ok(link) => ask(fleet, key, link).await,
        Err(error) => Err(error.clone()),
    };
    if let Some(dial) = fleet.hosts.dial(key) {
        let lost = observed.as_ref().is_err_and(HostError::ends_session);
        // The host tells when it was mended; what a new sign-in alone shows, as a group of the user, is looked at now and then.
        let oldest = dial.config.period * UNFIT_PERIODS;
        let stays_unfit = |link: &Arc<Link>| link.began.elapsed() >= oldest;
        let unfit = observed.as_ref().is_ok_and(|facts| unfit(facts).is_some());
        let closes = lost || (unfit && used.as_ref().is_ok_and(stays_unfit)) || !dial.connections.keeps();
        // Its right to a connection may be what whoever has the slot waits for.
        drop(used);
        if closes {
            dial.slot.close().await;
        }
    }
    keep(fleet, key, &observed, acts);
    observed
}

/// The same over an open connection.
pub async fn probe_over(fleet: &Fleet, key: &HostKey, link: &Link) -> Result<HostFacts, HostError> {
    let acts = fleet.hosts.acts(key);
    let observed = ask(fleet, key, link).await;
    keep(fleet, key, &observed, acts);
    observed
}

async fn ask(fleet: &Fleet, key: &HostKey, link: &Link) -> Result<HostFacts, HostError> {
    let observed = bounded(fleet, key, CHECK_TIMEOUT, "telling its facts", link.host.facts()).await;
    if observed.is_ok() {
        link.mark_healthy();
    }
    observed
}
