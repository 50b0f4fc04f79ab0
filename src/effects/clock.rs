//! The one place that reads the time. Everybody else takes `now` as a parameter.

use jiff::Timestamp;

/// The wall clock, to the second: what stands in a status must read the same after a round trip through the API server.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Time that never jumps, for deadlines and leases.
#[allow(clippy::disallowed_methods)]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}
