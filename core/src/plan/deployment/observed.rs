//! Input of a Deployment's planner. Plain data; `controllers/deployment/observe.rs` fills it.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

pub use super::goal_kind::GoalKind;
use super::{
    folder::{is_marked, unready},
    healing::Healing,
    slow::SlowUpload,
    tries::FailedTries,
    value::ValueSeen,
};
use crate::model::rollout::{HostFailure, RolloutRecord};
use crate::{
    api::{
        EnvVar,
        deployment::{DeploymentSpec, DeploymentStatus, Phase},
        hostgroup::{Become, Host, Jump, SuspendedHost},
    },
    model::{
        Failure,
        facts::{FolderFacts, ProcessFacts},
        ids::FenceToken,
        version::VersionRecord,
    },
    plan::{hostgroup::suspended, min_available::HostsInUpdate, verb_command},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub created: Timestamp,
    /// Its deletionTimestamp.
    #[serde(default)]
    pub deleted: Option<Timestamp>,
    /// With `adopt-all` of those who lead, which is for each of their Deployments.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    pub spec: DeploymentSpec,
    #[serde(default)]
    pub status: Option<DeploymentStatus>,
    /// This control plane: uid of its namespace `kube-system`.
    pub control_plane_id: String,
    /// Fence token of this operator; `None` where it may not act now.
    #[serde(default)]
    pub token: Option<FenceToken>,
    /// The namespace is being deleted, and the lease with it: no act on hosts is possible.
    #[serde(default)]
    pub namespace_terminating: bool,
    /// The Project exists.
    pub project: bool,
    #[serde(default)]
    pub group: Option<Group>,
    /// The version's record in the store.
    #[serde(default)]
    pub version: Option<VersionRecord>,
    /// `retention.releasesPerHost` of the Project.
    #[serde(default = "five")]
    pub releases_kept: usize,
    /// The version is recorded as deleted: its release is no longer kept.
    #[serde(default)]
    pub version_removed: bool,
    /// Versions that `spec.pins` names.
    #[serde(default)]
    pub pinned: BTreeMap<String, VersionObserved>,
    /// What was seen of each value that an effective environment takes from a Secret, by its place `<Secret>/<key>`.
    #[serde(default)]
    pub values: BTreeMap<String, ValueSeen>,
    /// Hosts in an update of others, with who these are: other Deployments of the group, and Projects whose task is under way there. Known
    /// where the group has a `minAvailable`.
    #[serde(default)]
    pub updates_elsewhere: HostsInUpdate,
    /// Hosts of the group, by name; a host that is missing here was never checked.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostObserved>,
    /// The other Deployments of this project in this namespace.
    #[serde(default)]
    pub siblings: Vec<SiblingDeployment>,
    /// Revisions in the store.
    #[serde(default)]
    pub records: Vec<RolloutRecord>,
    /// Failures of hosts in the store.
    #[serde(default)]
    pub failures: Vec<HostFailure>,
    /// Hosts of the group on which this Deployment acted, as far as this operator has seen.
    #[serde(default)]
    pub acted: Vec<String>,
    /// The same of hosts that the group no longer lists.
    #[serde(default)]
    pub unlisted: Vec<String>,
}

impl Observed {
    /// The status as it was read.
    pub fn before(&self) -> &DeploymentStatus {
        static NONE: LazyLock<DeploymentStatus> = LazyLock::new(DeploymentStatus::default);
        self.status.as_ref().unwrap_or(&NONE)
    }

    /// No decision was ever made about this object: verbs that are set count as handled.
    pub(crate) fn is_first_decision(&self) -> bool {
        self.status.as_ref().is_none_or(|status| status.observed_generation < 0)
    }

    /// The command that sets a verb on this Deployment.
    pub(crate) fn verb_command(&self, verb: &str, value: &str) -> String {
        verb_command("deployments", &self.namespace, &self.name, verb, value)
    }

    pub fn host(&self, host: &str) -> &HostObserved {
        static UNKNOWN: HostObserved = HostObserved {
            check: FolderCheck::Unknown,
            task: None,
            healing: None,
            heal_failure: None,
            slow: None,
            tries: None,
        };
        self.hosts.get(host).unwrap_or(&UNKNOWN)
    }
}

/// A version, as the store has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VersionObserved {
    /// Its record; `None` where it was not published.
    #[serde(default)]
    pub record: Option<VersionRecord>,
    /// It is recorded as deleted: its release is no longer kept.
    #[serde(default)]
    pub removed: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Annotations of the HostGroup: the stamps of who changed it last.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub env: Vec<EnvVar>,
    #[serde(default)]
    pub keep_secrets_on_host: bool,
    #[serde(default = "twenty_two")]
    pub port: i32,
    /// Jump hosts, in connection order.
    #[serde(default)]
    pub jump: Vec<Jump>,
    pub hosts: Vec<Host>,
    /// The group's `status.suspended`: hosts that a verb took out of service. The spec's own stand in `hosts`.
    #[serde(default)]
    pub suspended: Vec<SuspendedHost>,
    /// Number or part of its hosts that stays available, over all Deployments.
    #[serde(default)]
    pub min_available: Option<IntOrString>,
    /// Users that applications may run as.
    #[serde(default)]
    pub r#become: Become,
    /// Failure of the group's Secrets: no sign-in is possible.
    #[serde(default)]
    pub secret: Option<Failure>,
    /// It has its finalizer, so it can't go while this Deployment acts on its hosts; or it is being deleted already.
    #[serde(default = "yes")]
    pub held: bool,
    /// The group is being deleted.
    #[serde(default)]
    pub deleting: bool,
}

impl Group {
    /// Why a host of this group is out of service now, for messages; `None` in service. The group's planner runs when a suspension ends,
    /// and wakes its Deployments.
    pub fn suspended(&self, host: &Host, now: Timestamp) -> Option<String> {
        suspended(host, &self.suspended, now)
    }
}

fn yes() -> bool {
    true
}

fn five() -> usize {
    5
}

fn twenty_two() -> i32 {
    22
}

/// One host, from the view of this project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostObserved {
    #[serde(default)]
    pub check: FolderCheck,
    /// The background task that acts on it.
    #[serde(default)]
    pub task: Option<Task>,
    /// Starts of a process that had been ready before, in this attempt.
    #[serde(default)]
    pub healing: Option<Healing>,
    /// Failure of the last start for healing.
    #[serde(default)]
    pub heal_failure: Option<Failure>,
    /// Uploads that were given up because of its line, where the last one was.
    #[serde(default)]
    pub slow: Option<SlowUpload>,
    /// Tries of a goal that failed in a row, where the last one did.
    #[serde(default)]
    pub tries: Option<FailedTries>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum FolderCheck {
    /// Not checked since this operator began, or since the last act on it.
    #[default]
    Unknown,
    Facts(Box<FolderView>),
    /// Checked, without an answer.
    Failed(Failure),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderView {
    /// The project's folder; empty where there is none.
    pub folder: FolderFacts,
    #[serde(default)]
    pub boot_id: String,
    /// Why the host can't be used for any release.
    #[serde(default)]
    pub unfit: Option<Failure>,
}

/// Background task on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    pub goal: AssignmentId,
    pub phase: Phase,
}

/// Identity of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssignmentId {
    pub kind: GoalKind,
    #[serde(default)]
    pub rollout: String,
    #[serde(default)]
    pub attempt: i64,
}

impl HostObserved {
    /// The application serves: its process lives, this very process was seen ready, and its readiness probe does not fail now.
    pub(crate) fn is_serving(&self) -> bool {
        let serves = |folder: &FolderFacts, process| is_marked(folder, process) && unready(folder).is_none();
        self.view().zip(self.running()).is_some_and(|(view, process)| serves(&view.folder, process))
    }

    /// Nothing is known of it, and no task acts there, which checks it at its end.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.task.is_none() && self.check == FolderCheck::Unknown
    }

    /// The time until a goal of this kind, which failed there, is tried again; `None`: now.
    pub(crate) fn pause(&self, kind: GoalKind, now: Timestamp) -> Option<Duration> {
        self.tries.as_ref().filter(|tries| tries.kind == kind)?.pause(now)
    }

    /// Facts of the host, where it answered.
    pub fn view(&self) -> Option<&FolderView> {
        match &self.check {
            FolderCheck::Facts(view) => Some(view),
            FolderCheck::Unknown | FolderCheck::Failed(_) => None,
        }
    }

    /// The process that runs there now.
    pub fn running(&self) -> Option<&ProcessFacts> {
        self.view()?.folder.process.as_ref().filter(|process| process.alive)
    }
}

/// Another Deployment of the same project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiblingDeployment {
    pub name: String,
    pub uid: String,
    pub created: Timestamp,
    /// Names of all hosts of its group; empty where the group is gone.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// `address:port` of every machine that it selects.
    #[serde(default)]
    pub machines: Vec<String>,
    /// Its selection can't be read: a later version of landfall wrote it. It may select any host, so it keeps those that name it as their
    /// owner, and, where it is the older Deployment, those without owner.
    #[serde(default)]
    pub unreadable: bool,
}
