//! Builds of one project that meet: what `build.concurrencyPolicy` says of each.

use super::{Candidate, Denied, Seen};
use crate::{
    api::{lifecycle::ConcurrencyPolicy, project::ActiveBuild},
    plan::build::standing::Standing,
};

/// The youngest of those that wait.
pub(super) fn newest(seen: &Seen) -> Option<&Candidate> {
    seen.builds.iter().filter(|build| build.standing == Standing::Queued).max_by_key(|build| age(build))
}

fn age(build: &Candidate) -> (jiff::Timestamp, &str) {
    (build.created.0, &build.uid)
}

/// Why this Build, which waits or has the turn, gets or keeps none; `None`: it may.
pub(super) fn denied(seen: &Seen, active: Option<&ActiveBuild>, build: &Candidate) -> Option<Denied> {
    let active = active?;
    match seen.spec.build.concurrency_policy {
        ConcurrencyPolicy::Queue => None,
        ConcurrencyPolicy::Forbid => (build.uid != active.uid).then(|| Denied::ForbiddenBy(active.name.clone())),
        ConcurrencyPolicy::Replace => {
            // The active one may be the youngest itself: an older one that is retried has to give way.
            let holder = seen.builds.iter().find(|build| build.uid == active.uid);
            let youngest = newest(seen).into_iter().chain(holder).max_by_key(|build| age(build))?;
            (build.uid != youngest.uid).then(|| Denied::SupersededBy(youngest.name.clone()))
        }
    }
}
