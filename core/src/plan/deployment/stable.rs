//! The stable revision: what was last ready on all hosts of the Deployment that answered.

use super::target::{Configured, is_hash_but_for_pins, is_hash_with_pins};
use crate::{
    api::deployment::{DeploymentStatus, StableRevision},
    model::rollout::RolloutRecord,
};

pub(super) fn on_record(before: &DeploymentStatus) -> Option<&StableRevision> {
    before.intent()?.stable.as_ref()
}

/// Whether a revision has the release, the environment and the pins of the stable one.
pub(super) fn is_of(before: &DeploymentStatus, record: &RolloutRecord) -> bool {
    on_record(before).is_some_and(|stable| is_hash_with_pins(&stable.hash, &configured(record), &record.pinned))
}

/// The same, whatever the pins.
pub(super) fn is_of_but_for_pins(before: &DeploymentStatus, record: &RolloutRecord) -> bool {
    on_record(before).is_some_and(|stable| is_hash_but_for_pins(&stable.hash, &configured(record)))
}

fn configured(record: &RolloutRecord) -> Configured<'_> {
    Configured { digest: &record.digest, env: &record.env, values: &record.values }
}
