//! Planner of one Deployment: from its spec, the facts of hosts and the records to the whole next status, events and actions.
//! It does no I/O, does not wait, and keeps nothing.
//!
//! One decision is a pipeline: `Observed → Targets → View → Hold? → Schedule → (Status, Events)`; [`plan`] is the list of its calls.

mod abort;
mod action;
mod bases;
mod batch_end;
mod by_hand;
mod canary;
mod claim;
mod deletion;
mod deployable;
mod drain;
mod events;
mod exceptions;
mod folder;
mod foresee;
mod goal_kind;
mod healing;
mod history;
mod holds;
mod host_state;
mod host_targets;
mod in_update;
mod intent;
mod log_retention;
mod milestones;
mod observed;
mod pause;
mod pins;
mod plan;
mod records;
mod references;
mod requester;
mod rollback;
mod rollout;
mod schedule;
mod select;
mod skip_drain;
mod slow;
mod stable;
mod stamp;
mod status;
mod steps;
mod strategy;
mod target;
mod targets;
#[cfg(test)]
mod tests;
mod tries;
mod value;
mod verdict;
mod view;

pub use self::{
    action::{Action, Assignment},
    bases::{Holding, MOST as BASES_MOST, base, candidates},
    deployable::not_allowed,
    exceptions::EXCEPTIONS,
    foresee::{Foreseen, ForeseenUpdate, GivenUpAs, UpdateCause, foresee},
    healing::{HEALED_AFTER, Healing},
    host_state::is_in_update,
    in_update::{in_update, waits_for_others},
    log_retention::{RolloutAttempt, outdated_attempts},
    milestones::milestones,
    observed::{
        AssignmentId, FolderCheck, FolderView, GoalKind, Group, HostObserved, Observed, SiblingDeployment, Task,
        VersionObserved,
    },
    pins::pinned_versions,
    plan::plan,
    references::references,
    select::select,
    slow::SlowUpload,
    steps::{Goal, Step, StepProgress, is_target, next_step},
    target::{Target, Value},
    tries::FailedTries,
    value::{Reference, ValueAt, ValueSeen},
};
