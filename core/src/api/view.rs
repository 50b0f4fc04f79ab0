//! The aggregated API `view.landfall.dev`: names, paths and the shapes of what it answers. It has subresources only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub const VIEW_GROUP: &str = "view.landfall.dev";
pub const VIEW_VERSION: &str = "v1alpha1";
/// `apiVersion` of what it answers.
pub const VIEW_API: &str = "view.landfall.dev/v1alpha1";
/// The APIService, the Service that it names and the Secret with the certificate authority.
pub const API_SERVICE: &str = "v1alpha1.view.landfall.dev";
pub const VIEW_SERVICE: &str = "landfall-view";
pub const VIEW_SECRET: &str = "landfall-view";

/// Response header of a log: the offset of its first byte. Every byte that follows is one more, so offset plus count is where to go on.
pub const OFFSET_HEADER: &str = "landfall-offset";
/// Response header of a log: which attempt it is of.
pub const ATTEMPT_HEADER: &str = "landfall-attempt";

/// With `timestamps=true` an answer, and each line after its first, begins with this number of bytes: a time in UTC to the second and a space, or
/// [`NO_STAMP`]. They are no bytes of the log.
pub const STAMP_BYTES: usize = 21;
/// Before a line whose time is not known.
pub const NO_STAMP: &str = "-                    ";

/// The path of a subresource, without query.
pub fn path(namespace: &str, resource: &str, name: &str, sub: &str) -> String {
    format!("/apis/{VIEW_API}/namespaces/{namespace}/{resource}/{name}/{sub}")
}

/// `projects/commits`: one page of a branch, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitPage {
    pub api_version: String,
    pub kind: String,
    pub branch: String,
    /// From 1.
    pub page: u32,
    pub commits: Vec<CommitView>,
    /// Whether there is a next page.
    pub more: bool,
    /// The branches that may be asked for.
    pub branches: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitView {
    pub sha: String,
    pub subject: String,
    pub author: String,
    pub time: Timestamp,
    /// The newest version that was built of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// `deployments/plan`, asked: the spec that is to be tried; without it that of the object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Not looked at: a whole Deployment can be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<serde_json::Value>,
}

/// `deployments/plan`, answered: what the Deployment would do, if every host did as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentPlan {
    pub api_version: String,
    pub kind: String,
    pub project: String,
    pub host_group: String,
    /// The version that the spec asks for.
    pub version: String,
    /// Id of the rollout; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// Updates in their order. Those of one batch are made at the same time.
    pub batches: Vec<PlannedBatch>,
    /// Whether further batches follow.
    pub more: bool,
    /// Number of selected hosts that are ready and not touched.
    pub unchanged: usize,
    /// Selected hosts that would not be ready in the end.
    pub left_out: Vec<HostLeftOut>,
    /// Hosts that left the selection.
    pub given_up: Vec<PlannedGivenUp>,
    /// Whether every selected host would be ready in the end.
    pub ready: bool,
    /// Reason and message of the condition `Ready` where the rollout ends, or where it is held.
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedBatch {
    pub hosts: Vec<PlannedUpdate>,
}

/// Update of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedUpdate {
    pub host: String,
    /// Version that runs there now; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub to: String,
    pub cause: PlannedCause,
}

/// Why a host is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedCause {
    /// Nothing of this Deployment runs there.
    New,
    /// Another release.
    Version,
    /// The same release with another environment, or once more because of a `redeploy`.
    Configuration,
    /// Its process ended.
    Down,
    /// Its update has begun already.
    Unfinished,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostLeftOut {
    pub host: String,
    /// Version that runs there; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedGivenUp {
    pub host: String,
    /// Whether what runs there is stopped and removed; else it keeps running, and the claim is released.
    pub removed: bool,
}

/// `hostgroups/hosts`: every host, and what of this namespace runs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostMatrix {
    pub api_version: String,
    pub kind: String,
    pub hosts: Vec<HostRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRow {
    pub host: String,
    pub address: String,
    pub state: HostState,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    pub projects: Vec<ProjectRow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostState {
    /// Not asked yet.
    Unknown,
    Reachable,
    Unreachable,
}

/// One project on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectRow {
    pub project: String,
    /// What `current` points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub state: ProcessState,
    /// What is being done there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<super::deployment::Phase>,
    /// The Deployment that owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessState {
    /// It runs and was seen ready.
    Ready,
    /// It runs.
    Running,
    /// It was started and has ended.
    Down,
    /// Nothing was started.
    Absent,
}
