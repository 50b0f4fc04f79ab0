//! When the repository is looked at, and what the last look says.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Seen;
use crate::api::{
    Reason, Verdict,
    common::seconds,
    conditions::{READY, status_of},
    project::{BranchView, ProjectStatus, VersionView},
};

/// How many versions a status shows.
const VERSIONS: usize = 50;

pub(super) struct Look {
    pub(super) verdict: Verdict,
    /// List now.
    pub(super) list: bool,
    pub(super) next: Duration,
}

pub(super) fn decide(seen: &Seen, status: &mut ProjectStatus, asked: bool, now: Timestamp) -> Look {
    status.backoff = None;
    status.versions = seen.versions.iter().take(VERSIONS).cloned().collect();
    if let Some(listing) = &seen.listing {
        status.branches.clone_from(&listing.branches);
    }
    mark(&mut status.branches, &seen.versions);
    let Some(interval) = seconds(&seen.spec.source.interval).filter(|seconds| (1..=31_536_000).contains(seconds))
    else {
        let message = format!(
            "source.interval {:?} is none: write for example 30s, 1m or 1h30m, at least 1s and at most a year",
            seen.spec.source.interval
        );
        return Look { verdict: Verdict::failed(Reason::InvalidSpec, message), list: false, next: hour() };
    };
    let interval = SignedDuration::from_secs(interval);
    let due_at = match (&seen.fault, &seen.listing) {
        (Some(fault), _) if fault.terminal => fault.at.checked_add(interval).unwrap_or(now),
        (Some(fault), _) => fault.backoff().retry_at.0,
        (None, Some(_)) if seen.ticked => now.checked_add(SignedDuration::from_hours(1)).unwrap_or(now),
        (None, Some(listing)) => listing.at.checked_add(interval).unwrap_or(now),
        (None, None) => now,
    };
    let due = asked || now >= due_at;
    let verdict = verdict(seen, status);
    let next = if due { Duration::from_secs(30) } else { until(due_at, now) };
    Look { verdict, list: asked || (due && !seen.listing_now), next }
}

fn verdict(seen: &Seen, status: &mut ProjectStatus) -> Verdict {
    match (&seen.fault, &seen.listing) {
        (Some(fault), _) if fault.terminal => Verdict::failed(fault.reason, fault.message.clone()),
        (Some(fault), _) => {
            status.backoff = Some(fault.backoff());
            Verdict::waiting(fault.reason, fault.message.clone())
        }
        (None, Some(listing)) => listed(listing.branches.len()),
        // A new operator has not looked yet, and nothing else changed: what was true stays so until it has.
        (None, None) if was_ready(seen) => listed(status.branches.len()),
        (None, None) => Verdict::working(Reason::Pending, "looks at the repository"),
    }
}

fn was_ready(seen: &Seen) -> bool {
    seen.status.as_ref().is_some_and(|status| {
        status.observed_generation == seen.generation && status_of(&status.conditions, READY) == Some(true)
    })
}

fn listed(branches: usize) -> Verdict {
    let message = match branches {
        0 => "the repository has no branch that source.branches allows".to_owned(),
        1 => "1 branch is listed".to_owned(),
        n => format!("{n} branches are listed"),
    };
    Verdict::done(Reason::SourceListed, message)
}

/// Names the newest version of every commit.
fn mark(branches: &mut [BranchView], versions: &[VersionView]) {
    for commit in branches.iter_mut().flat_map(|branch| &mut branch.commits) {
        let newest = versions.iter().find(|version| version.commit == commit.sha);
        commit.version = newest.map(|version| version.version.clone());
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

fn hour() -> Duration {
    Duration::from_secs(3600)
}
