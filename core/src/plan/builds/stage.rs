//! The stage of a Build, as its Project needs it: read from its status alone.

use serde::{Deserialize, Serialize};

use crate::api::{
    Build, FINALIZER, Reason,
    conditions::{READY, STALLED, status_of},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildStage {
    /// Not checked yet, or waiting for something else than its grant.
    Early,
    /// Checked, and held by the finalizer: it may be granted.
    Queued,
    /// It was granted and has not ended.
    Active,
    Ended,
}

/// The stage of this Build.
pub fn of(build: &Build) -> BuildStage {
    let held = build.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER);
    let deleting = build.metadata.deletion_timestamp.is_some();
    let Some(status) = &build.status else {
        return if deleting && !held { BuildStage::Ended } else { BuildStage::Early };
    };
    let is = |kind| status_of(&status.conditions, kind) == Some(true);
    if is(STALLED) || is(READY) || (deleting && !held) {
        return BuildStage::Ended;
    }
    let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
    let queued = ready.is_some_and(|condition| condition.reason == Reason::Queued.as_str());
    match (held, queued, status.number.is_some()) {
        (true, true, _) if deleting => BuildStage::Ended,
        (true, true, _) => BuildStage::Queued,
        (true, false, true) => BuildStage::Active,
        _ => BuildStage::Early,
    }
}
