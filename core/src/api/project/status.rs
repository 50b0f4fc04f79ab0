//! `Project.status`: what was observed of the repository, and which build may run.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{common::RetryAt, lenient, verbs::LastHandled};

/// Last observed state of the project. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// Generation of the spec that this status is about; -1 until the operator first observes the object.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub observed_generation: i64,
    /// Conditions, as kstatus reads them: `Ready`, and `Reconciling` (the operator works on it) or `Stalled` (a person must act) while True;
    /// `Triggered` where there is a trigger; `RetentionFailed` while something that is not kept can't be removed.
    #[serde(default, deserialize_with = "lenient::list")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Verbs (annotations such as `landfall.dev/retry`) that were acted on, each with the value it had.
    #[serde(default, deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    /// Retries for errors expected to be transient; absent while there is none.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub backoff: Option<RetryAt>,
    /// Newest 20 branches at most, with the newest 20 commits of each.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchView>,
    /// Newest 50 published versions at most, newest first. Older ones that `retention` keeps can be deployed as well.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionView>,
    /// Build that may run now; absent while none may.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub active_build: Option<ActiveBuild>,
    /// Number of Builds that wait in the queue.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub queued_builds: i32,
    /// Highest number that a build of this project was given.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub last_number: i64,
}

/// Branch of the repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BranchView {
    /// Name of the branch.
    pub name: String,
    /// Id of its newest commit, 40 hex digits.
    pub head: String,
    /// Newest 20 commits at most, newest first.
    #[serde(default)]
    pub commits: Vec<CommitView>,
}

/// Commit of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitView {
    /// Id of the commit, 40 hex digits.
    pub sha: String,
    /// First line of its message.
    pub subject: String,
    /// Name of its author.
    pub author: String,
    /// Time of the commit.
    pub time: Time,
    /// Newest version that was built from it; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Published version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// Name of the version, which is also its tag.
    pub version: String,
    /// Id of the commit it was built from.
    pub commit: String,
    /// Name of the Build that made it.
    pub build: String,
    /// SHA-256 of its release, as `sha256:…`.
    pub digest: String,
    /// Time at which its script ended.
    pub built_at: Time,
}

/// Build that may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveBuild {
    /// Name of the Build.
    pub name: String,
    /// Uid of the Build.
    pub uid: String,
    /// Number of the build in this project.
    pub number: i64,
    /// Time of the grant; `{date}` of the tag template is its UTC day.
    pub granted_at: Time,
}
