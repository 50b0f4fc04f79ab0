//! The four kinds, their status and conditions, and the names that they share. No I/O, no clock, no client.

pub mod build;
pub mod common;
pub mod conditions;
pub mod crds;
pub mod deployment;
pub mod hostgroup;
pub mod lenient;
pub mod project;
pub mod reason;
pub mod stamps;
pub mod verbs;
pub mod view;

pub use build::Build;
pub use common::{ConfigMapKeyRef, EnvVar, LocalRef, RunEnvSource, SecretKeyRef};
pub use conditions::Verdict;
pub use deployment::Deployment;
pub use hostgroup::HostGroup;
pub use project::{Project, lifecycle};
pub use reason::Reason;

/// The API group of the four kinds.
pub const GROUP: &str = "landfall.dev";
/// Field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "landfall";
/// The one finalizer.
pub const FINALIZER: &str = "landfall.dev/running";
/// On Builds that landfall created by itself: what for.
pub const TRIGGER_LABEL: &str = "landfall.dev/trigger";
/// On those: the branch that was pushed.
pub const BRANCH_ANNOTATION: &str = "landfall.dev/branch";
/// A Secret is used for a purpose (`git`, `ssh`, `build`) only if it has the label of this prefix and the purpose, with the Project or
/// HostGroup that may use it as its value; empty for all of the namespace.
pub(crate) const USE_LABEL_PREFIX: &str = "use.landfall.dev/";
/// The label of earlier versions, whose value was the purpose. It no longer counts; messages show what replaces it.
pub(crate) const FORMER_USE_LABEL: &str = "landfall.dev/use";
