//! An object that is read until it is ready or failed, or until the time is over. A verb or a version that was just written is not mistaken for
//! the state before it: the verdict counts once the operator has observed the spec and acted on the verb.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    cluster::Cluster,
    error::CliError,
    object::Kind,
    stamp::Stamp,
    state::{State, Verdict, verdict},
};
use crate::effects::clock;

/// Interval at which the object is read.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which an API server that does not answer is waited for.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// Time for which a failed object is waited for that has an unhandled verb: a verb that can't be acted on (a Deployment whose spec can't be met
/// keeps a `redeploy` for later) leaves it failed.
const UNHANDLED_MAX: Duration = Duration::from_secs(30);

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Until {
    /// The object is ready or failed.
    Decided,
    /// The same, once the operator has acted on this verb.
    DecidedAfter(Stamp),
    /// The operator has acted on this verb.
    Handled(Stamp),
}

/// One object that is followed.
pub(super) struct Follower<'a> {
    cluster: &'a Cluster,
    kind: Kind,
    name: &'a str,
    until: Until,
    deadline: Option<Instant>,
    /// Time at which the API server answered last.
    answered: Instant,
    begun: Instant,
    has_read: bool,
}

/// One read of it.
pub(super) struct Seen {
    pub object: Value,
    pub verdict: Verdict,
    /// Whether it is the last one: what is waited for came true, or the time is over (then the verdict is `InProgress`).
    pub is_last: bool,
}

impl<'a> Follower<'a> {
    pub fn new(cluster: &'a Cluster, kind: Kind, name: &'a str, until: Until, deadline: Option<Instant>) -> Self {
        let now = clock::monotonic();
        Self { cluster, kind, name, until, deadline, answered: now, begun: now, has_read: false }
    }

    /// The next read; the first one at once.
    pub async fn next(&mut self) -> Result<Seen, CliError> {
        loop {
            if std::mem::replace(&mut self.has_read, true) {
                tokio::time::sleep(READ_INTERVAL).await;
            }
            let timed_out = self.deadline.is_some_and(|deadline| clock::monotonic() >= deadline);
            match self.cluster.get(self.kind, self.name).await {
                Ok(object) => {
                    self.answered = clock::monotonic();
                    let verdict = judge(&self.until, &object, self.begun.elapsed());
                    let is_last = timed_out || verdict.state != State::InProgress;
                    return Ok(Seen { object, verdict, is_last });
                }
                Err(CliError::Unreachable { .. }) if !timed_out && self.answered.elapsed() < OUTAGE_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The verdict as far as it counts. `waited` is how long it was waited for.
fn judge(until: &Until, object: &Value, waited: Duration) -> Verdict {
    let verdict = verdict(object);
    let (stamp, decides) = match until {
        Until::Decided => return verdict,
        Until::DecidedAfter(stamp) => (stamp, true),
        Until::Handled(stamp) => (stamp, false),
    };
    match (stamp.is_handled(object), verdict.state) {
        (true, _) if decides => verdict,
        (true, _) => Verdict {
            state: State::Ready,
            reason: "Handled".to_owned(),
            message: format!("the operator has acted on {}", stamp.verb),
            ..verdict
        },
        (false, State::Failed) if decides && waited >= UNHANDLED_MAX => {
            let message = format!("{} ({} is kept until that is mended)", verdict.message, stamp.verb);
            Verdict { message, ..verdict }
        }
        (false, _) => Verdict {
            state: State::InProgress,
            reason: "Asked".to_owned(),
            message: format!("the operator has not acted on {} yet; if this lasts, check that it runs", stamp.verb),
            observed: verdict.observed,
        },
    }
}

/// The end of `--timeout`, from now on.
pub(super) fn deadline(timeout: Option<&str>) -> Result<Option<Instant>, CliError> {
    let Some(value) = timeout else { return Ok(None) };
    let bad = || CliError::BadTimeout { value: value.to_owned() };
    let duration: jiff::SignedDuration = value.parse().map_err(|_| bad())?;
    let duration = Duration::try_from(duration).map_err(|_| bad())?;
    Ok(Some(clock::monotonic() + duration))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::verbs::RETRY;

    fn object(condition: &str, handled: &str) -> Value {
        json!({
            "metadata": { "generation": 1 },
            "status": {
                "observedGeneration": 1, "lastHandled": { RETRY: handled },
                "conditions": [{ "type": condition, "status": "True", "reason": "Why", "message": "text" }],
            },
        })
    }

    fn after(handled: &str, condition: &str, waited: Duration) -> State {
        let until = Until::DecidedAfter(Stamp { verb: RETRY, value: "2".into() });
        judge(&until, &object(condition, handled), waited).state
    }

    #[test]
    fn a_state_from_before_the_verb_is_not_its_result() {
        for condition in ["Ready", "Stalled"] {
            assert_eq!(after("1", condition, Duration::ZERO), State::InProgress, "{condition}");
        }
        assert_eq!(after("2", "Ready", Duration::ZERO), State::Ready);
        assert_eq!(after("2", "Stalled", Duration::ZERO), State::Failed);
    }

    #[test]
    fn an_object_that_stays_failed_beside_a_verb_that_it_can_not_act_on_is_failed() {
        assert_eq!(after("1", "Stalled", UNHANDLED_MAX), State::Failed);
        assert_eq!(after("1", "Ready", UNHANDLED_MAX * 100), State::InProgress);
    }

    #[test]
    fn a_verb_of_hosts_is_over_once_it_was_acted_on_whatever_the_state_of_their_group() {
        let until = Until::Handled(Stamp { verb: RETRY, value: "2".into() });
        assert_eq!(judge(&until, &object("Stalled", "2"), Duration::ZERO).state, State::Ready);
        assert_eq!(judge(&until, &object("Stalled", "1"), UNHANDLED_MAX * 2).state, State::InProgress);
    }

    #[test]
    fn a_timeout_is_a_duration_or_a_usage_error() {
        assert!(deadline(None).unwrap().is_none());
        for good in ["90s", "10m", "1h"] {
            assert!(deadline(Some(good)).unwrap().is_some(), "{good}");
        }
        for bad in ["soon", "-5s", ""] {
            assert!(deadline(Some(bad)).is_err(), "{bad}");
        }
    }
}
