//! Project: a git repository, how it is built and how it runs. One file a topic; everything is named as `project::…`. It must not decide.

pub mod lifecycle;
mod parameter;
mod recipe;
mod resources;
mod run;
mod source;
mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use self::lifecycle::Retention;
pub use self::{
    parameter::{BuildEnvVar, EnvSource, Parameter, ParameterType},
    recipe::{ArtifactRule, BuildRecipe, Executor, LocalExecutor, TagRule},
    resources::{Cpu, Limits, Resources},
    run::{
        Drain, DrainMethod, DrainRequest, FileSource, Hook, HookPoint, HttpGet, HttpHeader, LivenessProbe, Process,
        ReadinessProbe, RestartPolicy, Run, RunFile, Scheme, Stop, StopSignal, StopTo, TcpSocket,
    },
    source::{ExternalContent, Source},
    status::{ActiveBuild, BranchView, CommitView, ProjectStatus, VersionView},
};

/// Whether what `build.trigger` asks for can be done; only where there is one.
pub(crate) const TRIGGERED: &str = "Triggered";
/// True while something that `retention` does not keep can't be removed.
pub(crate) const RETENTION_FAILED: &str = "RetentionFailed";

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfall.dev",
    version = "v1alpha1",
    kind = "Project",
    namespaced,
    status = "ProjectStatus",
    shortname = "lfp",
    category = "landfall",
    derive = "PartialEq",
    doc = "Git repository, how it is built, and how its versions run.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Newest", type_ = "string", json_path = ".status.versions[0].version"),
    printcolumn(name = "Building", type_ = "string", json_path = ".status.activeBuild.name"),
    printcolumn(name = "Queued", type_ = "integer", json_path = ".status.queuedBuilds"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.source.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("the name of a Project takes at most 63 of a-z 0-9 -, begins and ends with a letter or digit, and has no dot: it is a part of folder names on hosts").field_path(".metadata.name")
)]
#[serde(rename_all = "camelCase")]
/// Desired state of the project.
pub struct ProjectSpec {
    /// Git repository that the project is built from.
    pub source: Source,
    /// How a commit becomes a release. It is copied when a Build is granted: a change affects later Builds only.
    pub build: BuildRecipe,
    /// How a version runs on a host. It is a part of the version: a change affects versions that are built later, none that exist.
    pub run: Run,
    /// How many builds, versions and logs are kept. Beside these, everything is kept that runs or waits, and that a Deployment wants, runs
    /// or has in its history.
    #[serde(default)]
    pub retention: Retention,
}
