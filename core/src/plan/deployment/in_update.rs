//! The hosts that a Deployment has in an update once its plan is on record: what is asked of the group's grants.

use std::collections::BTreeSet;

use super::{
    action::Action,
    observed::{GoalKind, Observed},
};
use crate::{
    api::{Reason, conditions::READY, deployment::DeploymentStatus},
    plan::Plan,
};

/// On record, under way in a task, or begun by this plan.
pub fn in_update(observed: &Observed, plan: &Plan<DeploymentStatus, Action>) -> BTreeSet<String> {
    let intent = plan.status.intent();
    let recorded = intent.into_iter().flat_map(|intent| &intent.updating);
    let has_task = observed
        .hosts
        .iter()
        .filter(|(_, host)| host.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Run));
    let begun = plan.actions.iter().filter_map(|action| match action {
        Action::Assign(assignment) if assignment.key.kind == GoalKind::Run => Some(&assignment.host),
        _ => None,
    });
    recorded.chain(has_task.map(|(host, _)| host)).chain(begun).cloned().collect()
}

/// Whether hosts of this plan's rollout wait for their update, so that it is to be taken again when one of another Deployment is over.
pub fn waits_for_others(plan: &Plan<DeploymentStatus, Action>) -> bool {
    let ready = plan.status.conditions.iter().find(|condition| condition.type_ == READY);
    plan.status.hosts.pending > 0 || ready.is_some_and(|ready| ready.reason == Reason::TooFewAvailable.as_str())
}
