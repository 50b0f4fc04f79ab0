//! What a Deployment's planner asks for.

use std::collections::BTreeSet;

use super::{
    observed::{AssignmentId, GoalKind},
    steps::Goal,
};
use crate::model::ids::Owner;
use crate::model::rollout::{HostFailure, RolloutRecord};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Check these hosts of the group now.
    Probe(BTreeSet<String>),
    /// Have the HostGroup get its finalizer: it is in use.
    HoldGroup,
    /// Record the revision in the store, before any act on a host.
    Record(Box<RolloutRecord>),
    /// Record that a host failed.
    RecordFailure(HostFailure),
    /// Bring a host to a goal, in the background. A task under way there takes the new goal after its step.
    Assign(Assignment),
    /// Forget these hosts: the group no longer lists them.
    Forget(Vec<String>),
    /// A rollout begins: keep the logs of this many rollouts, this one included.
    KeepLogs(usize),
    /// Delete the logs: the Deployment is gone.
    RemoveLogs,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub host: String,
    pub goal: Goal,
    /// Identity of the act: rollout and attempt.
    pub key: AssignmentId,
    /// Owner that is known to be gone, or that an `adopt` names.
    pub replaces: Option<Owner>,
}

impl Assignment {
    pub fn new(host: &str, goal: Goal, rollout: &str, attempt: i64, replaces: Option<Owner>) -> Self {
        let kind = match &goal {
            Goal::Stage(_) => GoalKind::Stage,
            Goal::Run { heal: false, .. } => GoalKind::Run,
            Goal::Run { heal: true, .. } => GoalKind::Heal,
            Goal::Release => GoalKind::Release,
            Goal::Remove { .. } => GoalKind::Remove,
            Goal::Adopt => GoalKind::Adopt,
            Goal::Prune(_) => GoalKind::Prune,
            Goal::Claim(_) => GoalKind::Claim,
        };
        let key = AssignmentId { kind, rollout: rollout.to_owned(), attempt };
        Self { host: host.to_owned(), goal, key, replaces }
    }
}
