//! Verbs whose value names a rollout and its attempt, `<status.rollout.id>.<attempt>`; `/` and a text behind it make it a new value, to ask once
//! more. One that names another is not acted on: a stamp that comes late, or is applied again from a file, hits nothing else.

use super::observed::Observed;
use crate::api::{conditions::clip, deployment::Rollout, verbs};

/// Bytes of a value that messages show.
const VALUE_BYTES: usize = 63;

/// What a verb asks for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    Nothing,
    /// It names this attempt of this rollout.
    Fits,
    /// It has this value, which names another, or none.
    Other(String),
}

impl Stamp {
    pub fn of(observed: &Observed, verb: &str, rollout: &Rollout) -> Self {
        let handled = &observed.before().last_handled;
        match verbs::asked(verb, &observed.annotations, handled, observed.is_first_decision()) {
            None => Self::Nothing,
            Some(value) if value.split('/').next() == Some(wanted(rollout).as_str()) => Self::Fits,
            Some(value) => Self::Other(format!("{:?}", clip(value, VALUE_BYTES))),
        }
    }
}

/// The value that names this attempt of this rollout.
pub(super) fn wanted(rollout: &Rollout) -> String {
    format!("{}.{}", rollout.id, rollout.attempt)
}
