//! How a host is shown in `status.exceptions`. Display only; no decision rests on it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::Observed;
use crate::api::{
    Reason,
    conditions::clip,
    deployment::{Phase, RolloutException},
};

/// Entries in `exceptions`.
pub const EXCEPTIONS: usize = 100;
const MESSAGE_BYTES: usize = 500;

/// What is told of a process that was ready, with the words of its probe.
pub(crate) fn not_ready_message(why: &str) -> String {
    format!("{PROBE_FAILS}{why}")
}

/// Before the words of the probe.
pub(crate) const PROBE_FAILS: &str = "the process runs, and its readiness probe fails: ";

/// In what is told of a process that ended, as long as its keeper has not said how.
pub(crate) const END_AWAITED: &str = "; how it ended is not known yet";

pub fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Display of one host.
pub(crate) struct HostDisplay<'a> {
    pub phase: Phase,
    pub reason: Reason,
    pub message: &'a str,
}

/// `before`: entry in the status as it was read; `since` is kept while phase and reason are the same. So is what a failing probe said first:
/// many say the time of day, and a status that names it would be written every second.
pub fn exception(
    observed: &Observed,
    before: Option<&RolloutException>,
    host: &str,
    display: &HostDisplay<'_>,
    now: Timestamp,
) -> RolloutException {
    let HostDisplay { phase, reason, message } = display;
    let before = before.filter(|before| before.phase == *phase && before.reason == reason.as_str());
    let is_probe = (*phase, *reason) == (Phase::Verifying, Reason::NotReady);
    let message = match before.filter(|_| is_probe) {
        Some(before) => before.message.clone(),
        None => clip(message, MESSAGE_BYTES),
    };
    let release = observed.host(host).running().and_then(|process| process.release.as_ref());
    RolloutException {
        host: host.to_owned(),
        phase: *phase,
        version: release.map(|release| release.version().to_owned()),
        reason: reason.to_string(),
        message,
        since: before.map_or(Time(now), |before| before.since.clone()),
    }
}
