//! Deployment: the version that a project shall have on a host group, and how to get there.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, Time},
    util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{
        EnvVar, LABEL, LABEL_KEY, LABEL_KEYS_RULE, LABEL_VALUE, LABEL_VALUES_RULE, LocalRef, TIME_RULE, UNTIL, VERSION,
        VERSION_RULE, label_value,
    },
    hostgroup::VersionCount,
    lenient::{self, Lenient},
    verbs::LastHandled,
};

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
    doc = "Version of a project to run on a host group, and how it is rolled out.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.projectRef.name"),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.hostGroupRef.name"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts.total"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.hosts.updated"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.hosts.failed", priority = 1),
    printcolumn(name = "Unreachable", type_ = "integer", json_path = ".status.hosts.unreachable", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("the name of a Deployment takes at most 63 of a-z 0-9 -, and begins and ends with a letter or digit").field_path(".metadata.name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.progressDeadlineSeconds > self.minReadySeconds").message("spec.progressDeadlineSeconds must be greater than spec.minReadySeconds: the wait of a host that is ready already would count as no progress"))]
#[x_kube(validation = Rule::new("self.projectRef == oldSelf.projectRef && self.hostGroupRef == oldSelf.hostGroupRef").message("projectRef and hostGroupRef can't be changed: a Deployment is of one project on one host group; delete it and create another"))]
/// Desired state of the deployment.
pub struct DeploymentSpec {
    /// Project whose version is deployed. It can't be changed.
    pub project_ref: LocalRef,
    /// Host group that the version is deployed to. It can't be changed.
    pub host_group_ref: LocalRef,
    /// Hosts of the group that get the version; a selection that matches no host is an error. Default: every host of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostSelection>,
    /// Version to deploy, as a successful Build published it. To go back, set an earlier one. Example: `v1.4.2`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(VERSION_RULE).message(VERSION))]
    pub version: String,
    /// Hosts that have another version than `version`, each with its reason. They are updated within the same `strategy`, and what ends there
    /// is started again with their version. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub pins: Vec<Pin>,
    /// Environment variables of the process, over those of the HostGroup and those of the version. A change rolls out: processes
    /// restart within `strategy`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// How many hosts are updated at once, and how many may fail.
    #[serde(default)]
    pub strategy: Strategy,
    /// Seconds a host must stay ready before it counts as updated. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: i64,
    /// Seconds without progress after which the Deployment is `Stalled`; the rollout continues all the same. The clock stops while
    /// paused, and while `minAvailable` of the HostGroup holds the rollout for other Deployments' updates. Default: 600.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86400))]
    pub progress_deadline_seconds: i64,
    /// Whether the rollout is paused: updates under way are finished, no further host is updated. The annotation `landfall.dev/pause` (value:
    /// the reason) pauses it as well while it is there, for whoever does not own the spec. Default: false.
    #[serde(default)]
    pub paused: bool,
    /// Number of rollouts in `status.history` and of rollouts whose logs are kept. A redeploy is a rollout. Default: 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 50))]
    pub revision_history_limit: i32,
    /// Treatment of the hosts when the Deployment is deleted, and of a host that leaves the selection. `Retain`: the process keeps running
    /// and the claim on the host is released. `Remove`: the process is drained and stopped, and the folder of the project is removed. Default: `Retain`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn ten_minutes() -> i64 {
    600
}

fn ten() -> i32 {
    10
}

/// Hosts of the group, by name or by label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.names) != has(self.selector)").message("hosts has either names or selector"))]
pub struct HostSelection {
    /// Names of the hosts. One that the group lacks is an error. Example: `[web-01, web-02]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = Rule::new("self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))").message(LABEL))]
    pub names: Option<Vec<String>>,
    /// Selector over the labels of the hosts. A host joins or leaves the selection when its labels change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<HostSelector>,
}

/// Version of some of the hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Version that these hosts have. It is kept by the retention of the Project. Example: `v1.4.1`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(VERSION_RULE).message(VERSION))]
    pub version: String,
    /// Hosts that are pinned, of those that the Deployment selects. A pin that selects none is an error, unless its hosts have left since it
    /// took effect. A host has at most one pin.
    pub hosts: HostSelection,
    /// Cause, shown wherever the pin is. Example: `memory leak under study`.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// Time at which the pin ends: its hosts are updated to `version` of the Deployment then, by themselves. Default: never. Example:
    /// `2026-12-01T08:00:00Z`.
    // No `format: date-time`: with it an API server takes `until: []`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 20, max = 35))]
    #[x_kube(validation = Rule::new(TIME_RULE).message(UNTIL))]
    pub until: Option<Time>,
}

/// Selector over the labels of hosts, as Kubernetes has it: a host has to meet every requirement. An empty one selects every host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSelector {
    /// Labels that a host has to have, each with this value. Example: `{ zone: a }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = label_value()))]
    #[x_kube(validation = Rule::new(LABEL_KEYS_RULE).message(LABEL_KEY))]
    #[x_kube(validation = Rule::new(LABEL_VALUES_RULE).message(LABEL_VALUE))]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that a host has to meet, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<Requirement>,
}

/// Requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0").message("operator In and NotIn need values, Exists and DoesNotExist take none").field_path(".values"))]
pub struct Requirement {
    /// Key of the label. Example: `zone`.
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9][-A-Za-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')").message(LABEL_KEY))]
    pub key: String,
    /// Relation of the label to the values. `In`: it is one of them. `NotIn`: it is none of them, or absent. `Exists`: the label is
    /// there. `DoesNotExist`: it is absent.
    pub operator: Operator,
    /// Values for `In` and `NotIn`, at most 100. Example: `[a, b]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 63)))]
    #[x_kube(validation = Rule::new("self.all(value, value.matches('^([A-Za-z0-9][-A-Za-z0-9_.]*)?$'))").message(LABEL_VALUE))]
    pub values: Vec<String>,
}

/// Relation of a label to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// How many hosts are updated at once, and how many may fail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Update of the hosts in batches, one after the other.
    #[serde(default)]
    pub rolling_update: RollingUpdate,
    /// Hosts that get a new version or environment before all others, which follow when the canary is promoted. Not for the first version,
    /// a redeploy, or the return to what was last ready on all hosts. A canary that fails stops the rollout, whatever `maxFailures` says.
    /// A change counts from the next rollout on, but for `pause` and for the removal of the canary. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Number of hosts that may fail while the rollout still continues; with one more, no further host is updated. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_failures: i32,
    /// What follows when more hosts failed than `maxFailures`, or a host of the canary. `Stop`: no further host is updated until a `retry` or
    /// another version. `RollBack`: what was last ready on all hosts is rolled out again, by a revision of its own; the Deployment stays
    /// `Stalled` (`RolledBack`) until a `retry` or another version. `Continue`: the rollout goes on over failed hosts, however many; it fails at
    /// its end all the same. A canary that fails stops it even so. Default: `Stop`.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What follows when too many hosts failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    #[default]
    Stop,
    RollBack,
    Continue,
}

/// Hosts that get a new version or environment before all others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Hosts to choose from, by name or label, of those that `spec.hosts` selects. Default: all of them. Example: `{ names: [web-01] }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostSelection>,
    /// Number of canary hosts at most: hosts that answer first, then in the order of the group. Default: all of `hosts`; 1 without `hosts`.
    /// Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_hosts: Option<i32>,
    /// What the other hosts wait for once all canary hosts are ready. Default: `{ manual: true }`.
    #[serde(default)]
    pub pause: CanaryPause,
}

/// What the other hosts wait for once all canary hosts are ready: a time, or a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.seconds) ? !has(self.manual) || !self.manual : !has(self.manual) || self.manual").message("pause has either seconds, or manual: true"))]
pub struct CanaryPause {
    /// Seconds for which all canary hosts have to be ready without a break. The verb `landfall.dev/promote` ends it sooner. Example: `300`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub seconds: Option<i64>,
    /// Whether a person has to let the others follow, with the verb `landfall.dev/promote`. Default: true, without `seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<bool>,
}

/// Update of the hosts in batches, one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.order) || self.order == 'Spread' || has(self.spreadBy)").message("order: ByZone needs spreadBy, the label that names the zone of a host"))]
pub struct RollingUpdate {
    /// Number of hosts that may be unavailable at one time, for whatever cause (in an update, down, not ready, unreachable): a count, or a
    /// percentage of the selected hosts, rounded down, at least one. Hosts that are away are updated first. Default: 1. Examples: `2`, `25%`.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 && self <= 1000 : self.matches('^([1-9][0-9]?|100)%$')").message("maxUnavailable takes a count of at least 1 or a percentage from 1% to 100%"))]
    pub max_unavailable: IntOrString,
    /// Seconds from the end of a batch to the next one, which are of `maxUnavailable` hosts then: none begins while an update is open.
    /// Default: 0, a further host begins as soon as there is room.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub pause_seconds: i64,
    /// Key of the label that names the zone of a host; hosts without it are a zone of their own. See `order`. Default: none. Example: `zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = Rule::new("self.matches('^([A-Za-z0-9][-A-Za-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')").message(LABEL_KEY))]
    pub spread_by: Option<String>,
    /// Order of the hosts with `spreadBy`. `Spread`: no two serving hosts of one zone are updated at once while another zone has hosts to go.
    /// `ByZone`: a zone is finished before the next one begins, zones with hosts where nothing serves first, then in the order of the
    /// group. Default: `Spread`.
    #[serde(default)]
    pub order: UpdateOrder,
}

impl Default for RollingUpdate {
    fn default() -> Self {
        Self { max_unavailable: one(), pause_seconds: 0, spread_by: None, order: UpdateOrder::default() }
    }
}

/// Order of the hosts of zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateOrder {
    #[default]
    Spread,
    ByZone,
}

fn one() -> IntOrString {
    IntOrString::Int(1)
}

/// Treatment of hosts that are given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Remove,
}

/// Last observed state of the deployment. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// Generation of the spec that this status is about; -1 until the operator first observes the object.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub observed_generation: i64,
    /// Conditions, as kstatus reads them: `Ready`, and `Reconciling` (the operator works on it) or `Stalled` (a person must act) while True.
    #[serde(default, deserialize_with = "lenient::list")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Verbs (annotations such as `landfall.dev/retry`) that were acted on, each with the value it had.
    #[serde(default, deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    /// Version of the current rollout.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Revision of the current rollout; one more with each change of version, environment or pinned hosts.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Number of selected hosts, by state.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub hosts: RolloutCounts,
    /// Hash of the release and the environment that the spec asks for, as last evaluated, with the name of its algorithm (`1:…`); behind it
    /// one for each pinned version and its hosts. A hash that differs from it begins another revision.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub wanted_hash: Option<String>,
    /// Versions that run now, as the hosts report them, each with its number of hosts.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionCount>,
    /// Current rollout; absent before the first.
    #[serde(default, skip_serializing_if = "Lenient::is_absent")]
    pub rollout: Lenient<Rollout>,
    /// Hosts that are not ready, and hosts that left and can't be released or removed, at most 100, those in an update first.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<RolloutException>,
    /// Rollouts, newest first, as many as `revisionHistoryLimit` says.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

impl DeploymentStatus {
    /// Facts that decisions rest on; `None` before the first rollout, and where they were lost.
    pub fn intent(&self) -> Option<&RolloutIntent> {
        self.rollout.as_ref()?.intent.as_ref()
    }
}

/// Number of selected hosts, by state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutCounts {
    /// Selected hosts that are in service.
    #[serde(default)]
    pub total: i32,
    /// Hosts that run the release and the environment that the current rollout has for them, ready or not.
    #[serde(default)]
    pub updated: i32,
    /// Updated hosts that are ready now.
    #[serde(default)]
    pub ready: i32,
    /// Hosts whose update failed.
    #[serde(default)]
    pub failed: i32,
    /// Hosts that can't be reached, or were lost in their update.
    #[serde(default)]
    pub unreachable: i32,
    /// Hosts whose update has not begun, without those that were changed by hand.
    #[serde(default)]
    pub pending: i32,
    /// Selected hosts that are suspended: in no other number, neither updated nor healed.
    #[serde(default)]
    pub skipped: i32,
    /// Selected hosts in service that a pin gives another version; they are in the other numbers as well. Absent where none is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pinned: i32,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Current rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Id of the rollout: its revision and serial, as `3.0`. Each redeploy takes the next serial, so ids never repeat.
    pub id: String,
    /// Hash of the release and the environment that the rollout deploys, with the name of its algorithm (`1:…`).
    pub hash: String,
    /// Number of the attempt, from 1; each `retry` is one more.
    pub attempt: i64,
    /// Version that the rollout deploys.
    pub version: String,
    /// SHA-256 of its release, as `sha256:…`.
    pub digest: String,
    /// User who changed what caused the rollout: the Deployment, or the `env` of the HostGroup; or who set `landfall.dev/redeploy`. Absent
    /// where that is unknown: nothing stamped the object (`manifests/policies`), or a Secret changed.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Time at which the rollout began.
    pub started_at: Time,
    /// Time at which a host last entered another phase.
    pub progressed_at: Time,
    /// Number of hosts in each phase, all selected ones in service, when `progressedAt` was set. A difference is progress. A host whose
    /// process ended counts as `Healing` until it has lived for ten minutes; one that `minAvailable` holds for updates of others counts as
    /// `TooFewAvailable`, one that waits for the promotion of the canary as `AwaitingPromotion`, for the next batch as `BatchPause`. Example: `{"Ready": 3, "Staged": 1}`.
    #[serde(default, deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, i32>,
    /// Number of the current batch, from 1.
    #[serde(default)]
    pub batch: i32,
    /// Number of batches.
    #[serde(default)]
    pub batches: i32,
    /// Facts that the operator decides by; complete, unlike `exceptions`, and not to be edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<RolloutIntent>,
}

/// Facts that the operator decides by: decisions rest on these, and on nothing that is shown to people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutIntent {
    /// Names of the hosts whose update has begun and is not known to have ended, sorted.
    #[serde(default)]
    pub updating: Vec<String>,
    /// Whether the rollout ended as Failed: no further host is updated until a `retry`.
    #[serde(default)]
    pub failed: bool,
    /// Whether a person ended the rollout where it was (verb `landfall.dev/abort`): no further host is updated until a `retry`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aborted: bool,
    /// Time at which the last open update ended; absent while one is open. `pauseSeconds` counts from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_ended_at: Option<Time>,
    /// Canary of the rollout; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryRecord>,
    /// What was last ready on all hosts that answered: a rollout that fails is taken back to it (`onFailure: RollBack`), and a return to it
    /// needs no canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<StableRevision>,
    /// What the rollout was taken back from, where it is such a return. `wantedHash` still names what the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_from: Option<ReturnedFrom>,
    /// Redeploys, newest first: a process of the same release and environment with a lower serial is restarted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redeploys: Vec<RedeploySerial>,
    /// Last acts by hand (`landfall-host` on the host), one for each host whose last act it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<ActByHand>,
    /// Reason of a person (verb `landfall.dev/skip-drain`) for which hosts whose drain failed in an earlier attempt are updated without it in
    /// this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_drain: Option<String>,
    /// Hosts that are set aside (`HostsAhead`): they run a revision that this Deployment did not give. They stay so until `landfall.dev/adopt`,
    /// also where its own revisions come to higher numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<HostAhead>,
}

/// Canary of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryRecord {
    /// Names of the canary hosts, sorted. They are chosen before the first update and kept while one of them is selected and in service.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Time since which all of them are ready; absent while one is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Time>,
    /// Whether the other hosts may follow.
    #[serde(default)]
    pub promoted: bool,
}

/// Revision that was ready on all hosts that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StableRevision {
    /// Number of the revision.
    pub revision: i64,
    /// Hash of its release and environment, with the name of its algorithm.
    pub hash: String,
    /// Its version, which is kept for it.
    pub version: String,
}

/// Revision that failed and was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReturnedFrom {
    /// Number of the revision.
    pub revision: i64,
    /// Hash of its release and environment, with the name of its algorithm.
    pub hash: String,
    /// Its version.
    pub version: String,
}

/// Host that runs a revision which its Deployment did not give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostAhead {
    /// Name of the host.
    pub host: String,
    /// Number of that revision.
    pub revision: i64,
}

/// Act by hand on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActByHand {
    /// Name of the host.
    pub host: String,
    /// Number of the act in the journal of the host.
    pub journal: i64,
    /// Whether it stands. A version, environment or `redeploy` that is asked for later ends that; so does a `retry` where the host failed.
    pub stands: bool,
}

/// Redeploy of one release with one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedeploySerial {
    /// Hash of the release and the environment.
    pub hash: String,
    /// Serial of the rollout that the redeploy began.
    pub serial: i64,
}

/// Host that is not ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutException {
    /// Name of the host.
    pub host: String,
    /// Phase of its update: `Pending`, `Staging`, `Staged`, `Stopping`, `Switching`, `Starting`, `Verifying`, `Ready`, `Failed`,
    /// `Unreachable` or `Skipped` (suspended).
    #[schemars(with = "String")]
    pub phase: Phase,
    /// Version that runs there; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Reason in one word, as in conditions. `ChangedByHand`: a person changed it on the host, where nothing is done until a new version or
    /// a `redeploy` is asked for. Example: `PortInUse`.
    pub reason: String,
    /// Cause in one sentence, and the remedy.
    pub message: String,
    /// Time since which the host has this reason.
    pub since: Time,
}

/// Phase of one host on its way to the target.
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
    /// Suspended: neither updated nor healed.
    Skipped,
    /// Written by a later version of landfall.
    #[serde(other)]
    Unknown,
}

/// Current or past rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Revision of the rollout.
    pub revision: i64,
    /// Version that it deployed.
    pub version: String,
    /// Id of the commit that the version was built from.
    pub commit: String,
    /// What differs from the rollout before: `Version`, `Environment`, `VersionAndEnvironment`, `Pins` (other hosts are pinned, or to other
    /// versions), `Redeploy` (nothing; the processes were restarted), `RollBack` (a failed one was taken back), or `Adopt` (hosts were taken
    /// over).
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub change: Option<HistoryChange>,
    /// User who asked for it, as in `rollout.requestedBy`.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Time at which it began.
    pub started_at: Time,
    /// Time at which it ended; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// How it ended: `Succeeded`, `Failed`, `Aborted` by a person, or `Superseded` where another rollout began before it was on every host.
    /// `Progressing` until it ends.
    #[schemars(with = "String")]
    pub outcome: RolloutOutcome,
    /// Number of hosts whose update failed.
    #[serde(default)]
    pub failed_hosts: i32,
}

/// What one rollout changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HistoryChange {
    /// Another version; also the first one.
    Version,
    /// The same version with another effective environment.
    Environment,
    VersionAndEnvironment,
    /// Other hosts are pinned, or to other versions; the version of all others is the same.
    Pins,
    /// Nothing: the hosts were started again because a person asked for it.
    Redeploy,
    /// A rollout failed, and what was ready on all hosts before is rolled out again.
    RollBack,
    /// Hosts of another control plane, or of a later state of this one, were taken over.
    Adopt,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutOutcome {
    Progressing,
    Succeeded,
    Failed,
    /// A person ended it where it was.
    Aborted,
    /// Another version was asked for before this one was everywhere.
    Superseded,
    /// Written by a later version of landfall.
    #[serde(other)]
    Unknown,
}

/// Every version that an object names, wherever in its spec or status: whoever deletes versions keeps these, also where the object is of a
/// later version of landfall and has fields that are unknown here.
pub fn versions_named_in(object: &serde_json::Value) -> BTreeSet<String> {
    use serde_json::Value;
    match object {
        Value::Object(fields) => {
            let own = fields.get("version").and_then(Value::as_str).map(str::to_owned);
            fields.values().flat_map(versions_named_in).chain(own).collect()
        }
        Value::Array(entries) => entries.iter().flat_map(versions_named_in).collect(),
        _ => BTreeSet::new(),
    }
}
