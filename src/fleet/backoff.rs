//! When a host that was lost is dialled again: at once, then after times with full jitter, so that a thousand hosts that come back together
//! are not dialled together.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Tries that failed in a row, and the wait that follows. `random`: from 0 to 1.
pub(super) fn wait(failed: u32, random: f64) -> Duration {
    match failed {
        0 => Duration::ZERO,
        n => FIRST.saturating_mul(1 << (n - 1).min(16)).min(LONGEST).mul_f64(random.clamp(0.0, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_host_is_dialled_at_once_and_then_ever_more_rarely() {
        assert_eq!(wait(0, 1.0), Duration::ZERO);
        let longest: Vec<u64> = (1..9).map(|failed| wait(failed, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait(u32::MAX, 0.5), Duration::from_secs(30));
        assert_eq!(wait(3, 0.0), Duration::ZERO);
    }
}
