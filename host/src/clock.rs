//! The one place that reads the time. Host time decides nothing; durations are monotonic.

use std::time::{Duration, Instant};

/// A point in time for durations.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Seconds since boot, as `/proc/uptime` counts them.
pub fn uptime_seconds() -> u64 {
    u64::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec).unwrap_or(0)
}

/// Milliseconds since boot.
pub fn uptime_millis() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)).unwrap_or(0)
}

/// A clock that is wrong, for tests: seconds that are added, in a debug build.
const WRONG_BY: &str = "LANDFALL_HOST_CLOCK_WRONG_BY";

/// The host's clock, milliseconds since 1970; shown to people.
pub fn wall_millis() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let wrong_by = cfg!(debug_assertions).then(|| std::env::var(WRONG_BY).ok()?.parse::<i64>().ok()).flatten();
    let seconds = now.tv_sec.saturating_add(wrong_by.unwrap_or(0));
    seconds.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// This time, unless a test does not wait as long: a variable with milliseconds, in a debug build.
pub fn unless_told(variable: &str, time: Duration) -> Duration {
    let told = cfg!(debug_assertions).then(|| std::env::var(variable).ok()?.parse().ok()).flatten();
    told.map_or(time, Duration::from_millis)
}
