//! Who asked for a rollout: who changed the object that caused it. It must not decide whether he may.

use super::{observed::Observed, target::Configured};
use crate::{
    api::{deployment::HistoryChange, verbs},
    model::rollout::{RolloutId, RolloutRecord},
    plan::requester::{of_spec, of_verb},
};

/// Of a rollout that begins; `None` where that is unknown.
pub(super) fn of_start(observed: &Observed, change: HistoryChange, of: &Configured<'_>) -> Option<String> {
    match change {
        HistoryChange::Redeploy => of_verb(verbs::REDEPLOY, &observed.annotations),
        HistoryChange::Adopt => of_verb(verbs::ADOPT, &observed.annotations),
        HistoryChange::Version | HistoryChange::VersionAndEnvironment | HistoryChange::Pins => {
            of_spec(&observed.annotations)
        }
        // Nobody asked for it.
        HistoryChange::RollBack => None,
        HistoryChange::Environment => of_environment(observed, of),
    }
}

/// The revision on record before the one that the spec wants now.
pub(super) fn record_before(observed: &Observed) -> Option<&RolloutRecord> {
    let id = observed.before().rollout.as_ref().and_then(|rollout| RolloutId::read(&rollout.id))?;
    observed.records.iter().find(|record| record.revision == id.revision)
}

/// The environment is laid together from three objects. Where the Deployment changed, it is taken for the cause; nobody knows who changed
/// a Secret.
fn of_environment(observed: &Observed, of: &Configured<'_>) -> Option<String> {
    if observed.before().observed_generation != observed.generation {
        return of_spec(&observed.annotations);
    }
    let before = record_before(observed)?;
    if before.env == of.env {
        return None;
    }
    let own_are_unchanged = observed.spec.env.iter().all(|own| before.env.contains(own));
    match own_are_unchanged {
        true => of_spec(&observed.group.as_ref()?.annotations),
        false => of_spec(&observed.annotations),
    }
}
