//! Builds of one project that meet: what `build.concurrencyPolicy` says of each.

use super::{Candidate, Denied, Observed};
use crate::{
    api::{lifecycle::ConcurrencyPolicy, project::ActiveBuild},
    plan::builds::stage::BuildStage,
};

/// The youngest of those that wait.
pub(super) fn newest(observed: &Observed) -> Option<&Candidate> {
    observed.builds.iter().filter(|build| build.stage == BuildStage::Queued).max_by_key(|build| age(build))
}

fn age(build: &Candidate) -> (jiff::Timestamp, &str) {
    (build.created.0, &build.name)
}

/// Why this Build, which waits or has the turn, gets or keeps none; `None`: it may.
pub(super) fn denied(observed: &Observed, active: Option<&ActiveBuild>, build: &Candidate) -> Option<Denied> {
    let active = active?;
    match observed.object.spec.build.concurrency_policy {
        ConcurrencyPolicy::Queue => None,
        ConcurrencyPolicy::Forbid => (build.uid != active.uid).then(|| Denied::ForbiddenBy(active.name.clone())),
        ConcurrencyPolicy::Replace => {
            // The active one may be the youngest itself: an older one that is retried has to give way.
            let holder = observed.builds.iter().find(|build| build.uid == active.uid);
            let youngest = newest(observed).into_iter().chain(holder).max_by_key(|build| age(build))?;
            (build.uid != youngest.uid).then(|| Denied::SupersededBy(youngest.name.clone()))
        }
    }
}
