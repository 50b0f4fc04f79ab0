//! Which events were published lately, so that a plan that repeats itself floods nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The same words about the same object, where nothing changed, come once in that time.
const REPEAT_AFTER: Duration = Duration::from_secs(3600);
const RECENT_MAX: usize = 4096;

/// How often the same words about one object are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RepeatPolicy {
    /// Each time: the status changed, so it happened again.
    EachChange,
    /// Once an hour: the plan says it at every reconcile.
    Hourly,
}

/// Events of the last hour, by object, reason and note. What is forgotten too early is published once more.
#[derive(Default)]
pub(super) struct RecentEvents(Mutex<HashMap<u64, Instant>>);

impl RecentEvents {
    /// Notes an event; answers whether it is one to publish.
    pub(super) fn admit(&self, event: u64, repeat: RepeatPolicy, now: Instant) -> bool {
        let mut recent = self.0.lock();
        if recent.len() >= RECENT_MAX {
            recent.retain(|_, at| now.duration_since(*at) < REPEAT_AFTER);
        }
        if recent.len() >= RECENT_MAX {
            recent.clear();
        }
        let before = recent.insert(event, now).filter(|at| now.duration_since(*at) < REPEAT_AFTER);
        if let (Some(at), RepeatPolicy::Hourly) = (before, repeat) {
            recent.insert(event, at);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_repeats_is_told_once_an_hour_and_what_happens_again_each_time() {
        let (recent, now) = (RecentEvents::default(), crate::effects::clock::monotonic());
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        assert!(recent.admit(1, RepeatPolicy::Hourly, now));
        assert!(!recent.admit(1, RepeatPolicy::Hourly, later(1)));
        assert!(recent.admit(2, RepeatPolicy::Hourly, later(1)), "other words");
        assert!(!recent.admit(1, RepeatPolicy::Hourly, later(3599)), "however often it was repeated");
        assert!(recent.admit(1, RepeatPolicy::Hourly, later(3600)));
        assert!(recent.admit(1, RepeatPolicy::EachChange, later(3601)));
        assert!(!recent.admit(1, RepeatPolicy::Hourly, later(3602)));
    }

    #[test]
    fn what_is_remembered_of_events_is_bounded() {
        let (recent, now) = (RecentEvents::default(), crate::effects::clock::monotonic());
        for event in 0..3 * RECENT_MAX as u64 {
            assert!(recent.admit(event, RepeatPolicy::Hourly, now));
        }
        assert!(recent.0.lock().len() <= RECENT_MAX);
    }
}
