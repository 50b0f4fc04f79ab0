//! Build: a record of one commit built with parameters. Immutable but for `cancelled`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{Backoff, LocalRef},
    verbs::LastHandled,
};

pub const SUCCEEDED: &str = "Succeeded";
pub const TAGGED: &str = "Tagged";

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfall.dev",
    version = "v1alpha1",
    kind = "Build",
    namespaced,
    status = "BuildStatus",
    shortname = "lfb",
    category = "landfall",
    derive = "PartialEq",
    selectable = ".spec.projectRef.name",
    doc = "One commit built with parameters: a record, immutable but for spec.cancelled.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.projectRef.name"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.commit.sha", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".spec.revision"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("metadata.name of a Build takes at most 63 of a-z 0-9 -")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.projectRef == oldSelf.projectRef && self.revision == oldSelf.revision").message("a Build is a record: projectRef and revision can't be changed; create another Build"))]
#[x_kube(validation = Rule::new("has(self.parameters) == has(oldSelf.parameters) && (!has(self.parameters) || self.parameters == oldSelf.parameters)").message("a Build is a record: parameters can't be changed; create another Build"))]
#[x_kube(validation = Rule::new("has(self.tag) == has(oldSelf.tag) && (!has(self.tag) || self.tag == oldSelf.tag)").message("a Build is a record: tag can't be changed; create another Build"))]
#[x_kube(validation = Rule::new("!oldSelf.cancelled || self.cancelled").message("cancelled may only become true; create another Build, or annotate this one with landfall.dev/retry"))]
pub struct BuildSpec {
    pub project_ref: LocalRef,
    /// Branch, tag or full commit id. Resolved once; a later force-push changes nothing.
    #[schemars(length(min = 1, max = 250), regex(pattern = r"^[A-Za-z0-9_][^\s\\:?*~^\[]*$"))]
    pub revision: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50), inner(length(max = 4096)))]
    pub parameters: BTreeMap<String, String>,
    /// The version and tag; else the project's template makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$"))]
    #[x_kube(validation = Rule::new("!self.contains('..') && !self.endsWith('.') && !self.endsWith('.lock')").message("tag has no '..' and does not end in '.' or '.lock'"))]
    pub tag: Option<String>,
    /// May only become true.
    #[serde(default)]
    pub cancelled: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildStatus {
    #[serde(default)]
    pub observed_generation: i64,
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<BuiltCommit>,
    /// The number that the grant gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The tag; unique in the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePlace>,
    /// The newer Build that took its place, where `build.concurrencyPolicy` is Replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// The newest 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// The first 100 files of the release by name, fewer where their names are very long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// How many files the release has, those included that `artifacts` does not list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_count: Option<i64>,
    /// `sha256:…` of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuiltCommit {
    pub sha: String,
    pub subject: String,
    pub author: String,
    pub time: Time,
    /// The allowed branch that reaches it.
    pub branch: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuePlace {
    /// 1 is next.
    pub position: i32,
    /// Name of the Build that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// From 1.
    pub number: i64,
    pub started_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last lines of output of a failed attempt, control characters removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    /// The executor was lost with its result: nothing is known, and it is not guessed.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    pub name: String,
    /// `sha256:…`
    pub digest: String,
    /// Bytes.
    pub size: i64,
}
