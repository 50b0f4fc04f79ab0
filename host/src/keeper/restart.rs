//! Whether and when an application that ended is started again. No I/O, no clock.

use std::time::Duration;

use landfall_host_protocol::{Ended, RestartPolicy};

const FIRST_DELAY: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(300);
/// An application that ran this long ended for a new cause.
const RESET_AFTER: Duration = Duration::from_secs(600);

/// Growing pauses between starts, without end: an outside cause may pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    pub fn next(&mut self, ran: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if ran < RESET_AFTER => (last * 2).min(DELAY_MAX),
            _ => FIRST_DELAY,
        };
        self.last = Some(delay);
        delay
    }
}

/// What follows an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Its work is done.
    Completed,
    /// It stays ended.
    Ended,
    Restart,
}

pub fn after_end(policy: RestartPolicy, was_ready: bool, ended: &Ended) -> Next {
    match policy {
        RestartPolicy::OnFailure if ended.status == Some(0) => Next::Completed,
        // The first end of a version that was never ready ends its update.
        _ if !was_ready => Next::Ended,
        RestartPolicy::OnFailure | RestartPolicy::Always => Next::Restart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_five_minutes_and_begin_again_after_ten() {
        let mut backoff = Backoff::default();
        let moment = Duration::from_secs(2);
        let delays: Vec<u64> = (0..11).map(|_| backoff.next(moment).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.next(Duration::from_secs(600)).as_secs(), 1);
        assert_eq!(backoff.next(moment).as_secs(), 2);
    }

    #[test]
    fn what_was_never_ready_is_not_started_again() {
        let ended = |status| Ended { status, signal: None, at: 0, out_of_memory: false, lines: Vec::new() };
        assert_eq!(after_end(RestartPolicy::Always, false, &ended(Some(1))), Next::Ended);
        assert_eq!(after_end(RestartPolicy::Always, false, &ended(Some(0))), Next::Ended);
        assert_eq!(after_end(RestartPolicy::OnFailure, false, &ended(Some(0))), Next::Completed);
        assert_eq!(after_end(RestartPolicy::OnFailure, true, &ended(Some(0))), Next::Completed);
        assert_eq!(after_end(RestartPolicy::OnFailure, true, &ended(Some(3))), Next::Restart);
        assert_eq!(after_end(RestartPolicy::OnFailure, true, &ended(None)), Next::Restart);
        assert_eq!(after_end(RestartPolicy::Always, true, &ended(Some(0))), Next::Restart);
    }
}
