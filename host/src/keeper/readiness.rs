//! When a probe is asked again, and how many failures in a row make a no. No I/O.

use std::time::{Duration, Instant};

use landfall_host_protocol::{Probe, ProbeAction};

use crate::probe::Tried;

/// The first question after a start, and the shortest pause between two of them until the first yes.
const FAST: Duration = Duration::from_millis(2);
/// A command costs a process: its pause is this many times as long as it took.
const COMMAND_SHARE: u32 = 4;
/// After a try that was interrupted.
const AGAIN: Duration = Duration::from_millis(5);

/// The tries of one probe since the last start.
#[derive(Clone, Debug)]
pub(super) struct Tries {
    pub(super) probe: Probe,
    started: Instant,
    pub(super) due: Instant,
    failures: u32,
    /// What was settled last; `None` before.
    pub(super) answer: Option<bool>,
}

impl Tries {
    pub(super) fn new(probe: &Probe, started: Instant) -> Self {
        let delay = Duration::from_secs(u64::from(probe.initial_delay_seconds)).max(FAST);
        Self { probe: probe.clone(), started, due: started + delay, failures: 0, answer: None }
    }

    /// Takes what a try came to. Until its first yes it is asked often, by the time gone: what starts in 100 ms is seen after 103.
    pub(super) fn take(&mut self, tried: &Tried, began: Instant, now: Instant, is_fast: bool) {
        match tried {
            Tried::Interrupted => {
                self.due = now + AGAIN;
                return;
            }
            Tried::Unasked(_) => {
                self.due = now + Duration::from_secs(u64::from(self.probe.period_seconds.max(1)));
                return;
            }
            Tried::Yes => {
                self.failures = 0;
                self.answer = Some(true);
            }
            Tried::No(_) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.probe.failure_threshold.max(1) {
                    self.answer = Some(false);
                }
            }
        }
        let period = Duration::from_secs(u64::from(self.probe.period_seconds.max(1)));
        let pause = if is_fast && self.answer != Some(true) {
            let gone = now.saturating_duration_since(self.started) / 32;
            let cost = match self.probe.action {
                ProbeAction::Exec { .. } => now.saturating_duration_since(began) * COMMAND_SHARE,
                ProbeAction::HttpGet(_) | ProbeAction::TcpSocket { .. } => Duration::ZERO,
            };
            gone.max(cost).clamp(FAST, period)
        } else {
            period
        };
        self.due = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(threshold: u32) -> Probe {
        Probe {
            action: ProbeAction::TcpSocket { port: 1, host: None },
            initial_delay_seconds: 0,
            period_seconds: 10,
            timeout_seconds: 1,
            failure_threshold: threshold,
        }
    }

    fn no() -> Tried {
        Tried::No("no".to_owned())
    }

    #[test]
    fn the_first_yes_is_looked_for_often_then_once_a_period() {
        let start = crate::clock::monotonic();
        let mut tries = Tries::new(&probe(3), start);
        assert_eq!(tries.due, start + FAST);
        tries.take(&no(), start, start + Duration::from_millis(3), true);
        assert_eq!(tries.due, start + Duration::from_millis(5));
        let later = start + Duration::from_millis(3200);
        tries.take(&no(), later, later, true);
        assert_eq!(tries.due, later + Duration::from_millis(100));
        let late = start + Duration::from_secs(3600);
        tries.take(&no(), late, late, true);
        assert_eq!(tries.due, late + Duration::from_secs(10));
        tries.take(&Tried::Yes, late, late, true);
        assert_eq!(tries.due, late + Duration::from_secs(10));
        assert_eq!(tries.answer, Some(true));
    }

    #[test]
    fn only_failures_in_a_row_make_a_no() {
        let now = crate::clock::monotonic();
        let mut tries = Tries::new(&probe(3), now);
        tries.take(&Tried::Yes, now, now, false);
        let unasked = || Tried::Unasked("the secret value db is not here".to_owned());
        for tried in [no(), no(), Tried::Interrupted, unasked(), Tried::Yes, no(), unasked(), no()] {
            tries.take(&tried, now, now, false);
            assert_eq!(tries.answer, Some(true));
        }
        tries.take(&no(), now, now, false);
        assert_eq!(tries.answer, Some(false));
    }
}
