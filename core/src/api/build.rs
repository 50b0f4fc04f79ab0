//! Build: one commit built with parameters. A record, immutable but for `cancelled`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{LocalRef, RetryAt, VARIABLE_NAME, VERSION, VERSION_RULE},
    lenient,
    verbs::LastHandled,
};

pub(crate) const SUCCEEDED: &str = "Succeeded";
pub(crate) const TAGGED: &str = "Tagged";

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
    doc = "Build of one commit with parameters. A record: nothing but spec.cancelled can be changed.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.projectRef.name"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.commit.sha", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".spec.revision"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("the name of a Build takes at most 63 of a-z 0-9 -, and begins and ends with a letter or digit").field_path(".metadata.name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.projectRef == oldSelf.projectRef && self.revision == oldSelf.revision").message("a Build is a record: projectRef and revision can't be changed; create another Build"))]
#[x_kube(validation = Rule::new("has(self.parameters) == has(oldSelf.parameters) && (!has(self.parameters) || self.parameters == oldSelf.parameters)").message("a Build is a record: parameters can't be changed; create another Build"))]
#[x_kube(validation = Rule::new("has(self.tag) == has(oldSelf.tag) && (!has(self.tag) || self.tag == oldSelf.tag)").message("a Build is a record: tag can't be changed; create another Build"))]
#[x_kube(validation = Rule::new("!oldSelf.cancelled || self.cancelled").message("cancelled may only become true; create another Build, or annotate this one with landfall.dev/retry"))]
/// Desired state of the build.
pub struct BuildSpec {
    /// Project that is built.
    pub project_ref: LocalRef,
    /// Branch, tag or commit id to build; a commit id has at least 7 digits and is unique among the commits of allowed branches. It is
    /// resolved once; a later force-push changes nothing. Examples: `main`, `v1.4.2`, `4fc3cf2a91b0`.
    #[schemars(length(min = 1, max = 250))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^[A-Za-z0-9_][^\x00-\x20\x7f\\:?*~^\[]*$')").message("revision is a branch, a tag or a commit id: it begins with a letter, a digit or _, and has no blanks and none of \\ : ? * ~ ^ ["))]
    pub revision: String,
    /// Values of parameters that the Project declares, by name, each at most 4096 characters. Default: the defaults of the Project.
    /// Example: `{ PROFILE: test }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50, "additionalProperties" = serde_json::json!({ "type": "string", "maxLength": 4096 })))]
    #[x_kube(validation = Rule::new(r"!self.exists(key, self[key].contains('\x00'))").message("a value has no NUL character, which no environment variable can hold"))]
    #[x_kube(validation = Rule::new("self.all(key, key.matches('^[A-Za-z_][A-Za-z0-9_]*$'))").message(VARIABLE_NAME))]
    pub parameters: BTreeMap<String, String>,
    /// Version of this build, which is also its tag. Default: what `build.tag.template` of the Project makes. Example: `v1.4.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(VERSION_RULE).message(VERSION))]
    pub tag: Option<String>,
    /// Whether the build is cancelled: a running script is stopped, a waiting build never starts. It may only become true. Default:
    /// false.
    #[serde(default)]
    pub cancelled: bool,
}

/// Last observed state of the build. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildStatus {
    /// Generation of the spec that this status is about; -1 until the operator first observes the object.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub observed_generation: i64,
    /// Conditions, as kstatus reads them: `Ready` (tagged and published), `Succeeded` (script and artifacts), `Tagged`, and `Reconciling`
    /// (the operator works on it) or `Stalled` (a person must act) while True.
    #[serde(default, deserialize_with = "lenient::list")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Verbs (annotations such as `landfall.dev/retry`) that were acted on, each with the value it had.
    #[serde(default, deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    /// Retries for errors expected to be transient; absent while there is none.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub backoff: Option<RetryAt>,
    /// User who created the Build, or `trigger (push to BRANCH)` for one that the Project's trigger made. Absent where that is unknown: nothing
    /// stamped the object, as without `manifests/policies`.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Commit that `revision` was resolved to.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub commit: Option<BuiltCommit>,
    /// Number of the build in its project, given with the grant and kept over all attempts.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Name of the tag, given with the grant and kept over all attempts. A version of this name exists once `version` says so.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Published version, the same as `tag`; unique in the project. Absent until a Deployment can take it.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Place in the queue; absent unless the build waits for its turn.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePlace>,
    /// Newer Build that took the place of this one, where `build.concurrencyPolicy` is `Replace`.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// Newest 20 attempts at most, newest first.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// First 100 files of the release by name, fewer where their names are very long.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Number of files in the release, including those that `artifacts` does not list.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub artifact_count: Option<i64>,
    /// SHA-256 of the release, as `sha256:…`.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Commit that `revision` was resolved to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuiltCommit {
    /// Id of the commit, 40 hex digits.
    pub sha: String,
    /// First line of its message.
    pub subject: String,
    /// Name of its author.
    pub author: String,
    /// Time of the commit.
    pub time: Time,
    /// Allowed branch that reaches it.
    pub branch: String,
}

/// Place in the queue of the project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuePlace {
    /// Position, from 1; 1 is next.
    pub position: i32,
    /// Name of the Build that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// One run of the script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Number of the attempt, from 1; each `retry` is one more.
    pub number: i64,
    /// User who asked for the attempt: who created the Build, or for a later one who set `landfall.dev/retry`. Absent where that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Time at which the attempt began.
    pub started_at: Time,
    /// Time at which the script ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// How the script ended: `Succeeded`, `Failed`, `Cancelled`, or `Lost` where the executor is gone with the result. Absent while it
    /// runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub outcome: Option<Outcome>,
    /// Exit code of the script; absent where it ended otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Reason of the failure in one word, as in conditions. Example: `ScriptFailed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Last lines of the output of a failed attempt, without control characters; `landfall logs` shows all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    /// Size of the whole output in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<i64>,
}

/// How the script of an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    /// The executor was lost with its result: nothing is known, and it is not guessed.
    Lost,
    /// Written by a later version of landfall.
    #[serde(other)]
    Unknown,
}

/// File of the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Path of the file in the release.
    pub name: String,
    /// SHA-256 of the file, as `sha256:…`.
    pub digest: String,
    /// Size of the file in bytes.
    pub size: i64,
}
