//! Everything that the planner of a Deployment knows. Plain data; `controllers/deployment/observe.rs` fills it.

use std::{collections::BTreeMap, sync::LazyLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{folder::is_marked, healing::Healing};
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
    plan::hostgroup::suspended,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub created: Timestamp,
    /// When its deletion was asked for.
    #[serde(default)]
    pub deleted: Option<Timestamp>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    pub spec: DeploymentSpec,
    #[serde(default)]
    pub status: Option<DeploymentStatus>,
    /// This control plane: uid of its namespace `kube-system`.
    pub control_plane_id: String,
    /// With which token this operator acts; `None` where it may not act now.
    #[serde(default)]
    pub token: Option<FenceToken>,
    /// The namespace is being deleted, and the lease with it: nothing can be done on hosts any more.
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
    /// It is on record as removed: its release is kept no longer.
    #[serde(default)]
    pub version_removed: bool,
    /// What is known of the group's hosts, by name; a host that is not here was never asked.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostObserved>,
    /// The other Deployments of this project in this namespace.
    #[serde(default)]
    pub siblings: Vec<SiblingDeployment>,
    /// Revisions in the store.
    #[serde(default)]
    pub records: Vec<RolloutRecord>,
    /// Verdicts in the store, of the rollouts that are still of interest.
    #[serde(default)]
    pub failures: Vec<HostFailure>,
    /// Hosts on which this Deployment acted and which the group does not list any more.
    #[serde(default)]
    pub unlisted: Vec<String>,
}

impl Observed {
    /// The status as it was read.
    pub fn before(&self) -> &DeploymentStatus {
        static NONE: LazyLock<DeploymentStatus> = LazyLock::new(DeploymentStatus::default);
        self.status.as_ref().unwrap_or(&NONE)
    }

    /// Nothing was ever decided about this object: stamps that are there count as handled.
    pub fn is_first_decision(&self) -> bool {
        self.status.as_ref().is_none_or(|status| status.observed_generation < 0)
    }

    pub fn host(&self, host: &str) -> &HostObserved {
        static UNKNOWN: HostObserved =
            HostObserved { check: FolderCheck::Unknown, task: None, healing: None, heal_failure: None };
        self.hosts.get(host).unwrap_or(&UNKNOWN)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    #[serde(default)]
    pub env: Vec<EnvVar>,
    #[serde(default = "twenty_two")]
    pub port: i32,
    /// Jump hosts, in connection order.
    #[serde(default)]
    pub jump: Vec<Jump>,
    pub hosts: Vec<Host>,
    /// The group's `status.suspended`: hosts that a verb took out of service. The spec's own stand in `hosts`.
    #[serde(default)]
    pub suspended: Vec<SuspendedHost>,
    /// Users that applications may run as there.
    #[serde(default)]
    pub r#become: Become,
    /// Why nobody can log in anywhere: the Secrets.
    #[serde(default)]
    pub secret: Option<Failure>,
    /// It can't go while this Deployment acts on its hosts: it has its finalizer, or is going already.
    #[serde(default = "yes")]
    pub held: bool,
}

impl Group {
    /// Why a host of this group is out of service now, as messages say it; `None` where it is in service. The group's own planner looks
    /// again when a suspension ends, and wakes its Deployments.
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

/// One host as far as this project is concerned.
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
    /// Why the last try to start it again did not succeed.
    #[serde(default)]
    pub heal_failure: Option<Failure>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum FolderCheck {
    /// Not asked since this operator began, or since the last act on it.
    #[default]
    Unknown,
    Facts(Box<FolderView>),
    /// Asked, and this is why there was no answer.
    Failed(Failure),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderView {
    /// The project's folder; empty where there is none.
    pub folder: FolderFacts,
    #[serde(default)]
    pub boot_id: String,
    /// Why the host can't be used, whatever shall run there.
    #[serde(default)]
    pub unfit: Option<Failure>,
}

/// What a background task is doing on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    pub goal: AssignmentId,
    pub phase: Phase,
}

/// What tells two goals apart. The same goal twice is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssignmentId {
    pub kind: GoalKind,
    #[serde(default)]
    pub rollout: String,
    #[serde(default)]
    pub attempt: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GoalKind {
    /// The release lies there, verified; nothing that runs is touched.
    Stage,
    /// This host is updated: the release runs and is ready.
    Run,
    /// What had been ready and died is started again.
    Heal,
    /// The claim is given up.
    Release,
    /// Stopped and removed.
    Remove,
    /// A folder that another control plane acted on is taken over.
    Adopt,
    /// More releases lie there than stay: an update ended before it had removed them.
    Prune,
}

impl HostObserved {
    /// The application serves: its process lives, and this very process was seen ready.
    pub fn is_serving(&self) -> bool {
        self.view().zip(self.running()).is_some_and(|(view, process)| is_marked(&view.folder, process))
    }

    /// What the host showed, where it answered.
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
    /// What it selects can't be read: a later version of landfall wrote it. It may have any host, so it keeps those that name it as their
    /// owner, and those that nobody owns where it is the older one.
    #[serde(default)]
    pub unreadable: bool,
}
