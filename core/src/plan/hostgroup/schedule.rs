//! When a group is reconciled again without being woken: for its Secrets, which are not watched (landfall may only `get` them).

use std::time::Duration;

use jiff::Timestamp;

use super::{observed::Observed, suspend};
use crate::api::{
    Reason,
    conditions::READY,
    hostgroup::{HostException, HostGroupStatus},
};

/// While all is well.
const SECRET_INTERVAL: Duration = Duration::from_secs(600);
/// While something is wrong that another value may mend: at first, and at last.
const SECRET_RETRY_MIN: Duration = Duration::from_secs(1);
const SECRET_RETRY_MAX: Duration = Duration::from_secs(300);
/// A Secret that is missing is probably on its way.
const SECRET_MISSING_MAX: Duration = Duration::from_secs(60);

/// What a host refuses or shows that a Secret decides about.
const OF_SECRETS: [Reason; 5] = [
    Reason::AuthenticationFailed,
    Reason::HostKeyMismatch,
    Reason::HostKeyUnknown,
    Reason::HostCertificateInvalid,
    Reason::UnsupportedKeyType,
];

/// Time until the next reconcile.
pub fn next(observed: &Observed, status: &HostGroupStatus, now: Timestamp) -> Duration {
    let secrets = secrets_again(observed, status, now);
    suspend::next_end(&observed.spec.hosts, now).map_or(secrets, |end| end.min(secrets))
}

/// When the Secrets are read again: after half of the time that something is wrong already, up to minutes. A `refresh` reads at once.
fn secrets_again(observed: &Observed, status: &HostGroupStatus, now: Timestamp) -> Duration {
    if observed.secret.is_some() {
        let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
        let since = ready.map_or(now, |condition| condition.last_transition_time.0);
        return half_of(since, now, SECRET_MISSING_MAX);
    }
    let of_secrets = |exception: &&HostException| OF_SECRETS.iter().any(|one| one.as_str() == exception.reason);
    let refused = status.exceptions.iter().filter(of_secrets).map(|exception| exception.since.0).max();
    refused.map_or(SECRET_INTERVAL, |since| half_of(since, now, SECRET_RETRY_MAX))
}

fn half_of(since: Timestamp, now: Timestamp, longest: Duration) -> Duration {
    let half = now.duration_since(since).as_secs() / 2;
    Duration::from_secs(u64::try_from(half).unwrap_or(0)).clamp(SECRET_RETRY_MIN, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_host_that_refuses_are_read_ever_more_seldom() {
        let began = Timestamp::UNIX_EPOCH;
        let mut now = began;
        let mut reads = 0;
        while now.duration_since(began).as_secs() < 86_400 {
            let pause = half_of(began, now, SECRET_RETRY_MAX);
            assert!(pause >= SECRET_RETRY_MIN && pause <= SECRET_RETRY_MAX, "{pause:?}");
            now = now.checked_add(pause).unwrap();
            reads += 1;
        }
        // One in ten seconds were 8,640 a day.
        assert!((280..=310).contains(&reads), "{reads} reads a day");
        assert_eq!(half_of(began, began, SECRET_RETRY_MAX), SECRET_RETRY_MIN);
    }
}
