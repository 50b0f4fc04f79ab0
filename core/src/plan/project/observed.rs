//! What a Project's planner is given: plain values, read once by the controller.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::{
    api::project::{BranchView, ProjectSpec, ProjectStatus, VersionView},
    model::retry_state::RetryState,
    plan::{ObservedObject, builds::stage::BuildStage},
};

/// Everything that a decision about a Project needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    #[serde(flatten)]
    pub object: ObservedObject<ProjectSpec, ProjectStatus>,
    /// The last good listing of this very source in this operator's life.
    #[serde(default)]
    pub listing: Option<Listing>,
    /// Set where the last try failed.
    #[serde(default)]
    pub retry_state: Option<RetryState>,
    /// A listing runs now.
    #[serde(default)]
    pub listing_now: bool,
    /// A background task looks again at every interval, and wakes the project if there is news.
    #[serde(default)]
    pub ticked: bool,
    /// Every version of the store, newest first.
    #[serde(default)]
    pub versions: Vec<VersionView>,
    /// The highest number that the store knows to be claimed.
    #[serde(default)]
    pub highest: i64,
    /// The project's builds that have not ended, and the active one.
    #[serde(default)]
    pub builds: Vec<Candidate>,
    /// What the store knows of the grant that the status names.
    #[serde(default)]
    pub grant: Option<GrantObserved>,
    /// What was announced last.
    #[serde(default)]
    pub announced: Vec<QueuePosition>,
    #[serde(default)]
    pub pushes: PushesObserved,
    #[serde(default)]
    pub retention: RetentionObserved,
}

/// State of the runs that collect what retention no longer keeps.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionObserved {
    /// End of this operator's last run.
    #[serde(default)]
    pub last: Option<Timestamp>,
    /// A build ended or went, or the rules changed since.
    #[serde(default)]
    pub stale: bool,
    #[serde(default)]
    pub running: bool,
    /// Set where the last run failed.
    #[serde(default)]
    pub retry_state: Option<RetryState>,
}

/// What the store knows of heads that `build.trigger` is about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushesObserved {
    /// Names of the records of heads that were there when a trigger was declared (see `trigger::baseline`).
    #[serde(default)]
    pub baselines: BTreeSet<String>,
    /// Commits that need no Build: heads of the baselines, and those that got one.
    #[serde(default)]
    pub known: BTreeSet<String>,
    /// Set where the last Build could not be created.
    #[serde(default)]
    pub retry_state: Option<RetryState>,
}

/// The newest commit of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub branch: String,
    pub sha: String,
}

/// Branches as they were listed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    pub at: Timestamp,
    pub branches: Vec<BranchView>,
    /// Of all branches that `build.trigger` names; the oldest first.
    #[serde(default)]
    pub heads: Vec<Head>,
    /// The highest number of a tag that `build.tag.template` could have made; 0: there is none.
    #[serde(default)]
    pub highest_tag: i64,
}

/// A Build that may be granted, or is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub name: String,
    pub uid: String,
    pub created: Time,
    pub stage: BuildStage,
    /// The highest number of a tag of the template when its commit was resolved, where that happened in this operator's life.
    #[serde(default)]
    pub highest_tag: Option<i64>,
    /// Its frozen plan, where it was granted before.
    #[serde(default)]
    pub planned: Option<Planned>,
}

/// What counts of a frozen plan.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    pub number: i64,
    pub granted_at: Time,
}

/// The store's view of the active build.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantObserved {
    pub claim: Claim,
    #[serde(default)]
    pub planned: Option<Planned>,
}

/// Who has claimed the active build's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Claim {
    Unclaimed,
    Own,
    Foreign,
}

/// A Build's position in the queue; the active one has 0, and so has one that is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueuePosition {
    pub name: String,
    pub uid: String,
    pub position: i32,
    #[serde(default)]
    pub waiting_for: Option<String>,
    /// Why it is not granted, or loses its grant.
    #[serde(default)]
    pub denied: Option<Denied>,
}

/// Why `build.concurrencyPolicy` does not grant a Build; with the name of the Build that is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denied {
    ForbiddenBy(String),
    SupersededBy(String),
}
