//! When a probe is asked again, and how many answers in a row make a yes or a no. No I/O.

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
pub(crate) struct Tries {
    pub(crate) probe: Probe,
    started: Instant,
    pub(crate) due: Instant,
    /// In a row.
    failures: u32,
    successes: u32,
    /// What was settled last; `None` before.
    pub(crate) answer: Option<bool>,
}

impl Tries {
    pub(crate) fn new(probe: &Probe, started: Instant) -> Self {
        let delay = Duration::from_secs(u64::from(probe.initial_delay_seconds)).max(FAST);
        Self { probe: probe.clone(), started, due: started + delay, failures: 0, successes: 0, answer: None }
    }

    /// Takes what a try came to. Until its first yes it is asked often, by the time gone: what starts in 100 ms is seen after 103. Successes
    /// that must follow each other are a period apart, as are all other tries, from begin to begin.
    pub(crate) fn take(&mut self, tried: &Tried, began: Instant, now: Instant, is_fast: bool) {
        match tried {
            Tried::Interrupted => {
                self.due = now + AGAIN;
                return;
            }
            Tried::Unasked(_) => {
                self.due = (began + self.period()).max(now + FAST);
                return;
            }
            Tried::Yes => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= self.probe.success_threshold {
                    self.answer = Some(true);
                }
            }
            Tried::No(_) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.probe.failure_threshold.max(1) {
                    self.answer = Some(false);
                }
            }
        }
        let period = self.period();
        self.due = if is_fast && self.answer != Some(true) && *tried != Tried::Yes {
            let gone = now.saturating_duration_since(self.started) / 32;
            let cost = match self.probe.action {
                ProbeAction::Exec { .. } => now.saturating_duration_since(began) * COMMAND_SHARE,
                ProbeAction::HttpGet(_) | ProbeAction::TcpSocket { .. } => Duration::ZERO,
            };
            now + gone.max(cost).clamp(FAST, period)
        } else {
            // A try may take longer than the period.
            (began + period).max(now + FAST)
        };
    }

    /// How far it is, for a person; `None`: it does not count successes now.
    pub(crate) fn progress(&self) -> Option<String> {
        let needed = self.probe.success_threshold;
        let counts = self.answer != Some(true) && self.successes > 0;
        counts.then(|| format!("it succeeded {} of {needed} times in a row", self.successes))
    }

    fn period(&self) -> Duration {
        Duration::from_secs(u64::from(self.probe.period_seconds.max(1)))
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
            success_threshold: 1,
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
    fn only_successes_in_a_row_make_a_yes_and_are_a_period_apart() {
        let mut now = crate::clock::monotonic();
        let mut tries = Tries::new(&Probe { success_threshold: 3, ..probe(2) }, now);
        let unasked = Tried::Unasked("the secret value db is not here".to_owned());
        for (tried, answer) in [
            (Tried::Yes, None),
            (Tried::Yes, None),
            (no(), None),
            (Tried::Yes, None),
            (Tried::Interrupted, None),
            (Tried::Yes, None),
            (unasked, None),
            (Tried::Yes, Some(true)),
            // One failure is no no, and of a no it takes as many successes again.
            (no(), Some(true)),
            (Tried::Yes, Some(true)),
            (no(), Some(true)),
            (no(), Some(false)),
            (Tried::Yes, Some(false)),
            (Tried::Yes, Some(false)),
            (Tried::Yes, Some(true)),
        ] {
            let took = Duration::from_secs(1);
            tries.take(&tried, now, now + took, true);
            assert_eq!(tries.answer, answer, "{tried:?}");
            assert_eq!(tries.progress().is_some(), tries.successes > 0 && answer != Some(true));
            if tried == Tried::Yes {
                assert_eq!(tries.due, now + Duration::from_secs(10));
            }
            now = tries.due;
        }
    }

    #[test]
    fn a_try_longer_than_its_period_is_followed_by_the_next_at_once() {
        let start = crate::clock::monotonic();
        let mut tries = Tries::new(&Probe { period_seconds: 1, timeout_seconds: 5, ..probe(3) }, start);
        tries.answer = Some(true);
        let now = start + Duration::from_secs(5);
        tries.take(&no(), start, now, true);
        assert_eq!(tries.due, now + FAST);
    }

    #[test]
    fn nothing_is_asked_before_the_initial_delay_is_over() {
        let start = crate::clock::monotonic();
        let tries = Tries::new(&Probe { initial_delay_seconds: 30, ..probe(3) }, start);
        assert_eq!(tries.due, start + Duration::from_secs(30));
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
