//! What a Build's planner is given: plain values, read once by the controller.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    api::{
        build::{Attempt, BuildSpec, BuildStatus, BuiltCommit, QueuePlace},
        project::{Parameter, Resources, TagRule},
    },
    model::{
        build::{BuildPlan, ReleaseRecord},
        exit::ExitReason,
        retry_state::RetryState,
    },
    plan::{ObservedObject, project::Denied},
};

/// Everything that a decision about a Build needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    #[serde(flatten)]
    pub object: ObservedObject<BuildSpec, BuildStatus>,
    /// The operator's own user, who creates the Builds of a trigger.
    #[serde(default)]
    pub operator: Option<String>,
    #[serde(default)]
    pub project: Option<ProjectObserved>,
    /// Its position in the project's queue.
    #[serde(default)]
    pub place: Option<QueuePlace>,
    /// Why the project's `concurrencyPolicy` does not grant it.
    #[serde(default)]
    pub denied: Option<Denied>,
    /// What the revision meant when it was resolved and pinned, where that happened in this operator's life.
    #[serde(default)]
    pub resolved: Option<BuiltCommit>,
    /// What the grant froze.
    #[serde(default)]
    pub plan: Option<BuildPlan>,
    /// Ends of attempts that are on record in the store, oldest first.
    #[serde(default)]
    pub ends: Vec<Attempt>,
    #[serde(default)]
    pub release: Option<ReleaseRecord>,
    /// The Build that the version's record belongs to.
    #[serde(default)]
    pub version_owner: Option<VersionOwner>,
    /// Versions that other Builds of this very name published before; read until the Build is queued.
    #[serde(default)]
    pub former_versions: Vec<FormerVersion>,
    /// What the executor knows of the last attempt that status or store name.
    #[serde(default)]
    pub step: Step,
    /// The background step that runs now.
    #[serde(default)]
    pub working: bool,
    #[serde(default)]
    pub watched: bool,
    #[serde(default)]
    pub cancelling: bool,
    /// The attempt whose checkout lies ready, everything checked.
    #[serde(default)]
    pub prepared: Option<i64>,
    /// This operator has seen the tag at the remote.
    #[serde(default)]
    pub tagged: bool,
    /// How the last background step failed.
    #[serde(default)]
    pub retry_state: Option<RetryState>,
    /// Ended attempts still have files beside their logs and records.
    #[serde(default)]
    pub leftovers: bool,
}

/// The Build that a version belongs to.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionOwner {
    pub uid: String,
    /// Name of the Build.
    pub build: String,
    /// Commit that was built.
    #[serde(default)]
    pub commit: String,
}

/// A version that a Build published which had the name of this one and is gone.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FormerVersion {
    pub version: String,
    pub commit: String,
    /// Uid of the Build that published it.
    pub uid: String,
    /// SHA-256 of its release in hex.
    pub digest: String,
    pub built_at: Timestamp,
    /// Retention expired it: no Deployment can take it.
    #[serde(default)]
    pub expired: bool,
    /// Parameters that it was built with, where the record tells.
    #[serde(default)]
    pub parameters: Option<BTreeMap<String, String>>,
}

/// What a Build needs of its Project.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectObserved {
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    #[serde(default)]
    pub tag: TagRule,
    #[serde(default)]
    pub resources: Option<Resources>,
    /// Uid of the one Build that may run.
    #[serde(default)]
    pub active: Option<String>,
}

/// What the executor knows of an attempt.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Not started.
    #[default]
    Absent,
    #[serde(rename_all = "camelCase")]
    Running {
        log_bytes: i64,
    },
    Exited(ScriptEnd),
    /// Started; its runner is gone and left no record of the end.
    Lost,
}

/// The executor's record of an end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptEnd {
    pub reason: ExitReason,
    #[serde(default)]
    pub code: Option<i32>,
    #[serde(default)]
    pub message: Option<String>,
    pub at: Timestamp,
    #[serde(default)]
    pub log_bytes: i64,
    /// The last lines of its output, cleaned.
    #[serde(default)]
    pub last_lines: Vec<String>,
}
