//! What a Deployment's planner asks for.

use std::{collections::BTreeSet, fmt};

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
            Goal::Remove => GoalKind::Remove,
            Goal::Adopt => GoalKind::Adopt,
            Goal::Prune(_) => GoalKind::Prune,
        };
        let key = AssignmentId { kind, rollout: rollout.to_owned(), attempt };
        Self { host: host.to_owned(), goal, key, replaces }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe(hosts) => write!(f, "probe {}", hosts.iter().cloned().collect::<Vec<_>>().join(" ")),
            Self::HoldGroup => f.write_str("hold the group"),
            Self::Record(record) => write!(f, "record revision {} of {}", record.revision, record.version),
            Self::RecordFailure(verdict) => write!(f, "record failure {} {}", verdict.host, verdict.reason),
            Self::Assign(assign) => write!(f, "{assign}"),
            Self::Forget(hosts) => write!(f, "forget {}", hosts.join(" ")),
            Self::KeepLogs(rollouts) => write!(f, "keep the logs of {rollouts} rollouts"),
            Self::RemoveLogs => f.write_str("remove the logs"),
        }
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AssignmentId { kind, rollout, attempt } = &self.key;
        write!(f, "{} {kind:?} {rollout}#{attempt}", self.host)?;
        if let Goal::Stage(target) | Goal::Run { target, .. } = &self.goal {
            write!(f, " {}", target.version)?;
        }
        match &self.replaces {
            Some(owner) => write!(f, " instead of {}", owner.deployment),
            None => Ok(()),
        }
    }
}
