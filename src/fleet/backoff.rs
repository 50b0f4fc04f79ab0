//! When a host that was lost is dialled again: at once, then after times with full jitter, so that a thousand hosts that come back together
//! are not dialled together.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// So that no two tries follow each other without any wait.
const LEAST: Duration = Duration::from_millis(200);

/// Tries that failed in a row, and the wait that follows: never longer than the group's `period`. `random`: from 0 to 1.
pub(super) fn wait(failed: u32, period: Duration, random: f64) -> Duration {
    match failed {
        0 => Duration::ZERO,
        n => {
            let longest = FIRST.saturating_mul(1 << (n - 1).min(16)).min(LONGEST).min(period);
            longest.mul_f64(random.clamp(0.0, 1.0)).max(LEAST)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_host_is_dialled_at_once_and_then_ever_more_rarely() {
        let hour = Duration::from_secs(3600);
        assert_eq!(wait(0, hour, 1.0), Duration::ZERO);
        let longest = |period| (1..9).map(|failed| wait(failed, period, 1.0).as_secs()).collect::<Vec<u64>>();
        assert_eq!(longest(hour), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(longest(Duration::from_secs(5)), [1, 2, 4, 5, 5, 5, 5, 5], "no less often than a host that answers");
        assert_eq!(wait(u32::MAX, hour, 0.5), Duration::from_secs(30));
        assert_eq!(wait(3, hour, 0.0), LEAST);
    }
}
