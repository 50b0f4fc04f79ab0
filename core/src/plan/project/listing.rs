//! When the repository is listed, and what the last listing shows.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Observed, spec::interval};
use crate::api::{
    Reason, Verdict,
    conditions::{READY, status_of},
    project::{BranchView, ProjectStatus, VersionView},
};

/// How many versions a status shows.
const VERSIONS: usize = 50;

pub(super) struct ListingDecision {
    pub(super) verdict: Verdict,
    /// List now.
    pub(super) list: bool,
    pub(super) next: Duration,
}

pub(super) fn decide(observed: &Observed, status: &mut ProjectStatus, asked: bool, now: Timestamp) -> ListingDecision {
    status.backoff = None;
    status.versions = observed.versions.iter().take(VERSIONS).cloned().collect();
    if let Some(listing) = &observed.listing {
        status.branches.clone_from(&listing.branches);
    }
    mark(&mut status.branches, &observed.versions);
    // An invalid interval is reported by the spec's own check.
    let Some(interval) = interval(&observed.object.spec) else {
        return ListingDecision { verdict: verdict(observed, status), list: false, next: hour() };
    };
    let due_at = match (&observed.retry_state, &observed.listing) {
        (Some(retry_state), _) if retry_state.terminal => retry_state.at.checked_add(interval).unwrap_or(now),
        (Some(retry_state), _) => retry_state.backoff().retry_at.0,
        (None, Some(_)) if observed.ticked => now.checked_add(SignedDuration::from_hours(1)).unwrap_or(now),
        (None, Some(listing)) => listing.at.checked_add(interval).unwrap_or(now),
        (None, None) => now,
    };
    let due = asked || now >= due_at;
    let verdict = verdict(observed, status);
    let next = if due { Duration::from_secs(30) } else { until(due_at, now) };
    ListingDecision { verdict, list: asked || (due && !observed.listing_now), next }
}

fn verdict(observed: &Observed, status: &mut ProjectStatus) -> Verdict {
    match (&observed.retry_state, &observed.listing) {
        (Some(retry_state), _) if retry_state.terminal => {
            Verdict::failed(retry_state.reason, retry_state.message.clone())
        }
        (Some(retry_state), _) => {
            status.backoff = Some(retry_state.backoff());
            Verdict::waiting(retry_state.reason, retry_state.message.clone())
        }
        (None, Some(listing)) => listed(listing.branches.len()),
        // A new operator has not listed yet, and nothing else changed: the status stays until it has.
        (None, None) if was_ready(observed) => listed(status.branches.len()),
        (None, None) => Verdict::working(Reason::Pending, "listing the repository"),
    }
}

fn was_ready(observed: &Observed) -> bool {
    observed.object.status.as_ref().is_some_and(|status| {
        status.observed_generation == observed.object.generation && status_of(&status.conditions, READY) == Some(true)
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
