//! Deployment: the version that a project shall have on a host group, and how to get there.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, LabelSelector, Time},
    util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{Backoff, EnvVar, LocalRef},
    hostgroup::VersionCount,
    verbs::LastHandled,
};

pub const DRIFTED: &str = "Drifted";

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfall.dev",
    version = "v1alpha1",
    kind = "Deployment",
    namespaced,
    status = "DeploymentStatus",
    shortname = "lfd",
    category = "landfall",
    derive = "PartialEq",
    selectable = ".spec.projectRef.name",
    selectable = ".spec.hostGroupRef.name",
    doc = "The version that a project shall have on a host group, and how to get there.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.projectRef.name"),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.hostGroupRef.name"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts.total"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.hosts.updated"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.hosts.failed", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("metadata.name of a Deployment takes at most 63 of a-z 0-9 -")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.projectRef == oldSelf.projectRef && self.hostGroupRef == oldSelf.hostGroupRef").message("projectRef and hostGroupRef can't be changed: a Deployment is of one project on one host group; delete it and create another"))]
pub struct DeploymentSpec {
    pub project_ref: LocalRef,
    pub host_group_ref: LocalRef,
    /// Which hosts of the group; default: all. A selection of none is an error, never "all".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostSelection>,
    /// A version that a successful Build published.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$"))]
    #[x_kube(validation = Rule::new("!self.contains('..') && !self.endsWith('.') && !self.endsWith('.lock')").message("version has no '..' and does not end in '.' or '.lock'"))]
    pub version: String,
    /// Over HostGroup.env, which is over the version's own run.env.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    #[serde(default)]
    pub strategy: Strategy,
    /// So long a host must stay ready before it counts.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: i64,
    /// Without progress for so long the Deployment is Stalled. It stands still while paused.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86400))]
    pub progress_deadline_seconds: i64,
    /// No new host is started; a batch under way is finished.
    #[serde(default)]
    pub paused: bool,
    /// So many rollouts stand in `status.history`, and the logs of so many are kept.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 50))]
    pub revision_history_limit: i32,
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn ten_minutes() -> i64 {
    600
}

fn ten() -> i32 {
    10
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.names) != has(self.selector)").message("hosts has either names or selector"))]
pub struct HostSelection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 63)))]
    pub names: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    #[serde(default)]
    pub rolling_update: RollingUpdate,
    /// With more failed hosts than this, no new host is started.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_failures: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// How many hosts may be away at once: a count, or a percentage of the selected hosts, rounded down, at least one.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 && self <= 1000 : self.matches('^([1-9][0-9]?|100)%$')").message("maxUnavailable takes a count of at least 1 or a percentage from 1% to 100%"))]
    pub max_unavailable: IntOrString,
}

impl Default for RollingUpdate {
    fn default() -> Self {
        Self { max_unavailable: one() }
    }
}

fn one() -> IntOrString {
    IntOrString::Int(1)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The hosts stay as they are; the claim is given up.
    #[default]
    Retain,
    /// What runs is stopped and the project's folder is removed.
    Remove,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    #[serde(default)]
    pub observed_generation: i64,
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The version that the rollout below brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    #[serde(default)]
    pub hosts: RolloutCounts,
    /// How many hosts run which version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionCount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Hosts with which something is wrong or under way; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<RolloutException>,
    /// Newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutCounts {
    /// Selected.
    #[serde(default)]
    pub total: i32,
    /// Run the target.
    #[serde(default)]
    pub updated: i32,
    /// Run the target and are ready.
    #[serde(default)]
    pub ready: i32,
    #[serde(default)]
    pub failed: i32,
    #[serde(default)]
    pub unreachable: i32,
    #[serde(default)]
    pub pending: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// `<revision>.<redeploys>`
    pub id: String,
    /// Of the release's digest and the effective environment.
    pub hash: String,
    /// From 1.
    pub attempt: i64,
    pub version: String,
    /// `sha256:…` of the release.
    pub digest: String,
    pub started_at: Time,
    /// When a host last passed a phase.
    pub progressed_at: Time,
    /// For display only.
    #[serde(default)]
    pub batch: i32,
    #[serde(default)]
    pub batches: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutException {
    pub host: String,
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub reason: String,
    pub message: String,
    pub since: Time,
}

/// Where one host is on its way to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    Pending,
    Staging,
    Staged,
    Stopping,
    Switching,
    Starting,
    Verifying,
    Ready,
    Failed,
    Unreachable,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    pub revision: i64,
    pub version: String,
    pub commit: String,
    pub started_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    pub outcome: RolloutOutcome,
    #[serde(default)]
    pub failed_hosts: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutOutcome {
    Progressing,
    Succeeded,
    Failed,
    /// Another version was asked for before this one was everywhere.
    Superseded,
}
